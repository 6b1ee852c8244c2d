-- The wall: binding, grants, protected tables.

-- A schema that somebody else made could hold functions that are called instead of ours.
DO $$
DECLARE
    owner oid;
BEGIN
    SELECT nspowner INTO owner FROM pg_catalog.pg_namespace WHERE nspname = 'crm_tree';
    IF owner IS DISTINCT FROM current_user::pg_catalog.regrole::pg_catalog.oid
       OR EXISTS (SELECT FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'crm_tree')
       OR EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'crm_tree')
       OR EXISTS (SELECT FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace WHERE n.nspname = 'crm_tree')
       OR EXISTS (SELECT FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace WHERE n.nspname = 'crm_tree') THEN
        RAISE EXCEPTION 'schema "crm_tree" exists and is not an empty one of the installing role'
            USING ERRCODE = 'duplicate_schema', HINT = 'Drop it, or give it to the installing role empty: DROP SCHEMA crm_tree;';
    END IF;
    -- They would hand out the registries, whose triggers run as the installing role, or take from everybody what everybody calls.
    IF EXISTS (SELECT FROM pg_catalog.pg_default_acl d
                WHERE d.defaclrole = (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname = current_user)
                  AND d.defaclobjtype IN ('r', 'f') AND (d.defaclnamespace = 0 OR d.defaclnamespace = 'crm_tree'::pg_catalog.regnamespace)) THEN
        RAISE EXCEPTION 'the default privileges of role "%" would be those of the extension''s own tables and functions', current_user
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Let another superuser create it, or take them back while you do: psql shows them by ddp, ALTER DEFAULT PRIVILEGES changes them.';
    END IF;
END
$$;

GRANT USAGE ON SCHEMA crm_tree TO PUBLIC;

-- Registries have row security and no policy: pg_read_all_data and pg_write_all_data pass nobody.
CREATE TABLE crm_tree.org_grant (
    org         text COLLATE "C" NOT NULL,
    role        regrole NOT NULL,
    role_name   text NOT NULL,
    for_session boolean NOT NULL DEFAULT false,
    granted_by  text NOT NULL DEFAULT session_user,
    granted_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT org_grant_org PRIMARY KEY (org, role)
);
ALTER TABLE crm_tree.org_grant ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON crm_tree.org_grant FROM PUBLIC;
COMMENT ON TABLE crm_tree.org_grant IS 'Which role may bind which org. Written by grant_org() and revoke_org(). A row counts only while role still has the name role_name.';
SELECT pg_catalog.pg_extension_config_dump('crm_tree.org_grant', '');

CREATE TABLE crm_tree.wall (
    relation     regclass PRIMARY KEY,
    org_column   name NOT NULL,
    protected_by text NOT NULL DEFAULT session_user,
    protected_at timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE crm_tree.wall ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON crm_tree.wall FROM PUBLIC;
COMMENT ON TABLE crm_tree.wall IS 'Tables behind the wall. Written by protect() and unprotect(); partitions and children follow their table.';
SELECT pg_catalog.pg_extension_config_dump('crm_tree.wall', 'WHERE relation IN (SELECT oid FROM pg_catalog.pg_class)');

CREATE FUNCTION crm_tree._walls(OUT relation oid, OUT org_column name) RETURNS SETOF record
    LANGUAGE sql STABLE SECURITY DEFINER PARALLEL SAFE SET search_path = pg_catalog, pg_temp
    AS 'SELECT w.relation::pg_catalog.oid, w.org_column FROM crm_tree.wall w';
COMMENT ON FUNCTION crm_tree._walls() IS 'The protected tables. Definer: table names are in the catalog for everybody anyway, and the registry has no policy.';

CREATE FUNCTION crm_tree._org_support(internal) RETURNS internal
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'crm_tree_org_support';
COMMENT ON FUNCTION crm_tree._org_support(internal) IS 'Private: planner support that has the library loaded before a statement with a wall runs.';

CREATE FUNCTION crm_tree.current_org() RETURNS uuid
    LANGUAGE c STABLE PARALLEL SAFE SUPPORT crm_tree._org_support AS 'MODULE_PATHNAME', 'crm_tree_current_org';
COMMENT ON FUNCTION crm_tree.current_org() IS 'The bound org as uuid. Raises 42501 when unbound, or bound to an org that is no uuid; where a stored condition (a policy''s, a view''s) asks it of rows it is null then.';

CREATE FUNCTION crm_tree.current_org_bigint() RETURNS bigint
    LANGUAGE c STABLE PARALLEL SAFE SUPPORT crm_tree._org_support AS 'MODULE_PATHNAME', 'crm_tree_current_org_bigint';
COMMENT ON FUNCTION crm_tree.current_org_bigint() IS 'The bound org as bigint. Raises 42501 when unbound, or bound to an org that is no integer; as current_org().';

CREATE FUNCTION crm_tree.current_org_text() RETURNS text
    LANGUAGE c STABLE PARALLEL SAFE SUPPORT crm_tree._org_support AS 'MODULE_PATHNAME', 'crm_tree_current_org_text';
COMMENT ON FUNCTION crm_tree.current_org_text() IS 'The bound org as text. Raises 42501 when unbound; as current_org().';

CREATE FUNCTION crm_tree.is_bound() RETURNS boolean
    LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'is_bound_wrapper';
COMMENT ON FUNCTION crm_tree.is_bound() IS 'Is an org bound? Never raises.';

CREATE FUNCTION crm_tree.current_user_id() RETURNS text
    LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'current_user_id_wrapper';
COMMENT ON FUNCTION crm_tree.current_user_id() IS 'The user bound with the org, null when none is. Never raises.';

CREATE FUNCTION crm_tree.bind_org(org uuid, user_id text DEFAULT NULL) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'bind_org_uuid_wrapper';
CREATE FUNCTION crm_tree.bind_org(org bigint, user_id text DEFAULT NULL) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'bind_org_bigint_wrapper';
CREATE FUNCTION crm_tree.bind_org(org text, user_id text DEFAULT NULL) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'bind_org_text_wrapper';
COMMENT ON FUNCTION crm_tree.bind_org(uuid, text) IS 'Binds the transaction to an org, and to one of its users if given. Written once: another org or user is refused until the transaction ends (42501). 25P01 as a statement of its own outside a transaction block; 42501 without a grant.';
COMMENT ON FUNCTION crm_tree.bind_org(bigint, text) IS 'As bind_org(uuid, text), for integer orgs.';
COMMENT ON FUNCTION crm_tree.bind_org(text, text) IS 'As bind_org(uuid, text); the canonical text of a uuid or a bigint names the same org as the typed call.';

CREATE FUNCTION crm_tree.bind_session(org uuid, user_id text DEFAULT NULL) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'bind_session_uuid_wrapper';
CREATE FUNCTION crm_tree.bind_session(org bigint, user_id text DEFAULT NULL) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'bind_session_bigint_wrapper';
CREATE FUNCTION crm_tree.bind_session(org text, user_id text DEFAULT NULL) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'bind_session_text_wrapper';
COMMENT ON FUNCTION crm_tree.bind_session(uuid, text) IS 'Binds the session, for connections that are not pooled, until unbind(), RESET ALL or DISCARD ALL. Needs a grant made with for_session => true.';
COMMENT ON FUNCTION crm_tree.bind_session(bigint, text) IS 'As bind_session(uuid, text), for integer orgs.';
COMMENT ON FUNCTION crm_tree.bind_session(text, text) IS 'As bind_session(uuid, text), for text orgs.';

CREATE FUNCTION crm_tree.unbind() RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'unbind_wrapper';
COMMENT ON FUNCTION crm_tree.unbind() IS 'Lifts the binding. What this transaction was bound to first still decides what it may bind again.';

CREATE FUNCTION crm_tree.grant_org(role text, org uuid, for_session boolean DEFAULT false) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'grant_org_uuid_wrapper';
CREATE FUNCTION crm_tree.grant_org(role text, org bigint, for_session boolean DEFAULT false) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'grant_org_bigint_wrapper';
CREATE FUNCTION crm_tree.grant_org(role text, org text, for_session boolean DEFAULT false) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'grant_org_text_wrapper';
COMMENT ON FUNCTION crm_tree.grant_org(text, uuid, boolean) IS 'Lets a role, and roles that have its privileges, bind an org for a transaction, and for a session where for_session. Whoever may execute this decides who sees which org: superusers, and roles granted EXECUTE.';
COMMENT ON FUNCTION crm_tree.grant_org(text, bigint, boolean) IS 'As grant_org(text, uuid, boolean), for integer orgs.';
COMMENT ON FUNCTION crm_tree.grant_org(text, text, boolean) IS 'As grant_org(text, uuid, boolean); ''*'' grants every org.';
CREATE FUNCTION crm_tree.revoke_org(role text, org uuid) RETURNS boolean
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'revoke_org_uuid_wrapper';
CREATE FUNCTION crm_tree.revoke_org(role text, org bigint) RETURNS boolean
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'revoke_org_bigint_wrapper';
CREATE FUNCTION crm_tree.revoke_org(role text, org text) RETURNS boolean
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'revoke_org_text_wrapper';
COMMENT ON FUNCTION crm_tree.revoke_org(text, uuid) IS 'Takes a grant back; false where there was none. A transaction already bound stays bound.';
COMMENT ON FUNCTION crm_tree.revoke_org(text, bigint) IS 'As revoke_org(text, uuid), for integer orgs.';
COMMENT ON FUNCTION crm_tree.revoke_org(text, text) IS 'As revoke_org(text, uuid), for text orgs and ''*''.';

CREATE FUNCTION crm_tree.refuse_truncate() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'TRUNCATE of %.% is refused: it ignores row security and empties every org', TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,
              HINT = 'DELETE the bound org''s rows instead.';
END
$$;
COMMENT ON FUNCTION crm_tree.refuse_truncate() IS 'Trigger of protected tables: refuses TRUNCATE for everyone, owner and superuser included.';

CREATE FUNCTION crm_tree.protect("table" regclass, org_column text DEFAULT 'org_id', strict boolean DEFAULT false) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'protect_wrapper';
COMMENT ON FUNCTION crm_tree.protect(regclass, text, boolean) IS 'Puts a table, its partitions and children behind the wall: row security enabled and forced, the restrictive policy, closed permissive policies, no TRUNCATE, default and NOT NULL on the org column. Keys that leave the org out are reported as WARNING, or refused where strict. The caller owns the table, or may do what its owner may; it works with the owner''s rights. May be run again.';
CREATE FUNCTION crm_tree.alter_table("table" regclass, action text) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'alter_table_wrapper';
COMMENT ON FUNCTION crm_tree.alter_table(regclass, text) IS 'Runs ALTER TABLE <table> <action> as the table''s owner, so that nothing he put into it (a CHECK, an index''s predicate) runs with the caller''s rights. Names in the action are looked up in pg_catalog: qualify them. The fixes of audit_walls() are written with it. For superusers.';
CREATE FUNCTION crm_tree.unprotect("table" regclass) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'unprotect_wrapper';
COMMENT ON FUNCTION crm_tree.unprotect(regclass) IS 'Takes the wall of a table down; policies that are not the wall''s stay. For superusers and for owners who were granted EXECUTE: owning the table is not enough.';

REVOKE ALL ON FUNCTION
    crm_tree.grant_org(text, uuid, boolean), crm_tree.grant_org(text, bigint, boolean), crm_tree.grant_org(text, text, boolean),
    crm_tree.revoke_org(text, uuid), crm_tree.revoke_org(text, bigint), crm_tree.revoke_org(text, text),
    crm_tree.unprotect(regclass), crm_tree.alter_table(regclass, text)
    FROM PUBLIC;

-- The guard ---------------------------------------------------------------------------------------

CREATE FUNCTION crm_tree._wall_changed() RETURNS trigger
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'crm_tree_wall_changed';
COMMENT ON FUNCTION crm_tree._wall_changed() IS 'Trigger of the registry of walls: the guard of every session looks at it again.';
REVOKE ALL ON FUNCTION crm_tree._wall_changed() FROM PUBLIC;
CREATE TRIGGER wall_changed AFTER INSERT OR UPDATE OR DELETE ON crm_tree.wall
    FOR EACH ROW EXECUTE FUNCTION crm_tree._wall_changed();
ALTER TABLE crm_tree.wall ENABLE ALWAYS TRIGGER wall_changed;

-- The wall's record, and the service door -----------------------------------------------------------

CREATE TABLE crm_tree.wall_event (
    id       bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT wall_event_pkey PRIMARY KEY,
    at       timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    kind     text NOT NULL,
    org      text COLLATE "C",
    relation regclass,
    who      text NOT NULL DEFAULT session_user,
    detail   text
);
ALTER TABLE crm_tree.wall_event ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON crm_tree.wall_event FROM PUBLIC;
COMMENT ON TABLE crm_tree.wall_event IS 'What was done to the walls, and past them by the service door, in transactions that committed. For superusers; not dumped.';

CREATE FUNCTION crm_tree._wall_event(kind text, relation regclass, detail text) RETURNS void
    LANGUAGE sql VOLATILE SECURITY DEFINER PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
    AS 'INSERT INTO crm_tree.wall_event (kind, org, relation, detail)
        VALUES ($1, CASE WHEN crm_tree.is_bound() THEN crm_tree.current_org_text() END, $2, $3)';
COMMENT ON FUNCTION crm_tree._wall_event(text, regclass, text) IS 'Writes a row of wall_event, as the session''s user and for the bound org.';
REVOKE ALL ON FUNCTION crm_tree._wall_event(text, regclass, text) FROM PUBLIC;

CREATE FUNCTION crm_tree._wall_event_logged(kind text, relation regclass, detail text) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- Loads the library, which is to see the next statement planned.
    PERFORM crm_tree.is_bound();
    PERFORM crm_tree._wall_event($1, $2, $3);
    RAISE LOG 'crm_tree: % %: %', $1, coalesce($2::text, ''), $3;
END
$$;
COMMENT ON FUNCTION crm_tree._wall_event_logged(text, regclass, text) IS 'A row of wall_event, and a line in the server log, which stays where the transaction rolls back.';
REVOKE ALL ON FUNCTION crm_tree._wall_event_logged(text, regclass, text) FROM PUBLIC;

-- Roles belong to the cluster: another database may have made it. One that somebody can act as would
-- be a door without a lock.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'crm_tree_service') THEN
        CREATE ROLE crm_tree_service NOLOGIN BYPASSRLS;
    ELSIF EXISTS (SELECT FROM pg_catalog.pg_roles
                   WHERE rolname = 'crm_tree_service' AND (rolcanlogin OR rolsuper OR rolcreaterole OR NOT rolbypassrls))
       OR EXISTS (SELECT FROM pg_catalog.pg_auth_members m WHERE m.roleid = 'crm_tree_service'::pg_catalog.regrole) THEN
        RAISE EXCEPTION 'role "crm_tree_service" exists and is not a NOLOGIN role with BYPASSRLS and no members'
            USING ERRCODE = 'duplicate_object', HINT = 'Rename it, or make it so: ALTER ROLE crm_tree_service NOLOGIN BYPASSRLS;';
    END IF;
END
$$;

CREATE TABLE crm_tree.door_grant (
    role       regrole CONSTRAINT door_grant_pkey PRIMARY KEY,
    role_name  text NOT NULL,
    granted_by text NOT NULL DEFAULT session_user,
    granted_at timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE crm_tree.door_grant ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON crm_tree.door_grant FROM PUBLIC;
COMMENT ON TABLE crm_tree.door_grant IS 'Which role may open the service door. A row counts only while role still has the name role_name.';
SELECT pg_catalog.pg_extension_config_dump('crm_tree.door_grant', '');

CREATE FUNCTION crm_tree.open_service_door(reason text) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'open_service_door_wrapper';
COMMENT ON FUNCTION crm_tree.open_service_door(text) IS 'Works as role crm_tree_service until the transaction ends: read-only, across orgs, on the tables that this role was granted. Needs grant_service_door(); 42501 without. Logged always, and recorded in wall_event if the transaction commits.';

CREATE FUNCTION crm_tree.grant_service_door(role text) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'grant_service_door_wrapper';
COMMENT ON FUNCTION crm_tree.grant_service_door(text) IS 'Lets a role, and roles that have its privileges, open the service door. For superusers, and roles granted EXECUTE.';
CREATE FUNCTION crm_tree.revoke_service_door(role text) RETURNS boolean
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'revoke_service_door_wrapper';
COMMENT ON FUNCTION crm_tree.revoke_service_door(text) IS 'Takes the grant back; false where there was none.';
REVOKE ALL ON FUNCTION crm_tree.grant_service_door(text), crm_tree.revoke_service_door(text) FROM PUBLIC;
