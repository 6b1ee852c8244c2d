-- The audit of the walls: a clean database, then one hole for each line of what is known to be one.
SET client_min_messages = warning;
-- The guard off for every session of a role is a hole of its own: here it is off for this session.
ALTER ROLE CURRENT_USER RESET crm_tree.guard;
SET crm_tree.guard = off;
DROP ROLE IF EXISTS audit_app, audit_owner, audit_bypass, audit_super, audit_member, audit_files, audit_all, audit_repl, audit_creator, audit_gone, audit_renamed, audit_login, audit_monitor;
CREATE ROLE audit_owner NOLOGIN;
CREATE ROLE audit_app LOGIN;

-- A clean install with the CRM and ordinary grants has nothing to fix.
SELECT crm_tree.create_crm('audited', 'audit_owner', org_partitions => 2);
SELECT audited.grant_app('audit_app');
SELECT crm_tree.create_org('Audited', '00000000-0000-0000-0000-00000000000a');
SELECT crm_tree.grant_org('audit_app', '00000000-0000-0000-0000-00000000000a'::uuid);
SELECT * FROM crm_tree.audit_walls() WHERE severity = 'fix';
SELECT code, severity, object, detail FROM crm_tree.audit_walls() WHERE severity <> 'fix' AND code <> 'server_version' AND object NOT LIKE 'postgres%' ORDER BY 1;
SELECT crm_tree.assert_walls();

-- Not for everybody.
SET ROLE audit_app;
SELECT * FROM crm_tree.audit_walls();
SELECT crm_tree.assert_walls();
SELECT crm_tree.accept_finding('temp_tables', 'x', 'y');
RESET ROLE;
CREATE ROLE audit_monitor NOLOGIN IN ROLE pg_monitor;
SET ROLE audit_monitor;
SELECT count(*) > 0 FROM crm_tree.audit_walls();
SELECT crm_tree.assert_walls();
RESET ROLE;

-- A choice is accepted by name, for a reason, and stays accepted.
SELECT object AS temp_object FROM crm_tree.audit_walls() WHERE code = 'temp_tables' \gset
SELECT crm_tree.accept_finding('temp_tables', 'nowhere', 'because');
SELECT crm_tree.accept_finding('temp_tables', :'temp_object', ' ');
SELECT crm_tree.accept_finding('listen_notify', current_database(), 'because');
SELECT crm_tree.accept_finding('temp_tables', :'temp_object', 'sessions are not pooled');
SELECT count(*) FROM crm_tree.audit_walls() WHERE code = 'temp_tables';
SELECT severity FROM crm_tree.audit_walls(include_accepted => true) WHERE code = 'temp_tables';
SELECT code, reason, still_found FROM crm_tree.accepted_findings();
SELECT kind, detail FROM crm_tree.wall_event WHERE kind ~ 'finding' ORDER BY id;
SELECT crm_tree.withdraw_finding('temp_tables', :'temp_object');
SELECT crm_tree.withdraw_finding('temp_tables', :'temp_object');
SELECT count(*) FROM crm_tree.audit_walls() WHERE code = 'temp_tables';

-- The holes. What would be refused is done as a restore does it.
CREATE SCHEMA holes;
GRANT USAGE, CREATE ON SCHEMA holes TO audit_owner;
SET session_replication_role = replica;
SET ROLE audit_owner;
CREATE FUNCTION holes.make(name text, protect boolean) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TABLE holes.%I (org_id bigint NOT NULL, id int, other int, PRIMARY KEY (org_id, id))', name);
    IF protect THEN
        PERFORM crm_tree.protect(format('holes.%I', name)::regclass);
    ELSE
        EXECUTE format('ALTER TABLE holes.%I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', name);
    END IF;
END
$$;
SELECT holes.make(name, true) FROM unnest('{t03_rls_off,t04_no_wall,t05_base_open,t08_truncate_gone,t09_truncate_off,t10_grants,t11_inherits,t16_seen,t19_rule,t21_unique,t21_methods,t27_nullable}'::text[]) name;
SELECT holes.make(name, false) FROM unnest('{t02_not_forced,t06_ored,t07_check_open,t12_fallback,t13_or_null,t14_setting,t15_functions,t28_open}'::text[]) name;
-- 1: an org column and no row security
CREATE TABLE holes.t01_no_rls (tenant_id uuid NOT NULL, id int, PRIMARY KEY (tenant_id, id));
-- 2: row security not forced
CREATE POLICY by_org ON holes.t02_not_forced USING (org_id = crm_tree.current_org_bigint());
ALTER TABLE holes.t02_not_forced NO FORCE ROW LEVEL SECURITY;
-- 3: switched off behind the wall
ALTER TABLE holes.t03_rls_off DISABLE ROW LEVEL SECURITY;
-- 4, 5: the wall's policy dropped, and the closed base opened
DROP POLICY crm_tree_wall ON holes.t04_no_wall;
ALTER POLICY crm_tree_base ON holes.t05_base_open USING (true);
-- 6: a second permissive policy
CREATE POLICY by_org ON holes.t06_ored USING (org_id = crm_tree.current_org_bigint());
CREATE POLICY for_all ON holes.t06_ored FOR SELECT USING (other = 1);
-- 7: WITH CHECK (true)
CREATE POLICY by_org ON holes.t07_check_open USING (org_id = crm_tree.current_org_bigint()) WITH CHECK (true);
-- 8, 9: the trigger that refuses TRUNCATE
DROP TRIGGER crm_tree_refuse_truncate ON holes.t08_truncate_gone;
ALTER TABLE holes.t09_truncate_off DISABLE TRIGGER crm_tree_refuse_truncate;
-- 10: grants of TRUNCATE, REFERENCES, TRIGGER
GRANT TRUNCATE, TRIGGER ON holes.t10_grants TO audit_app WITH GRANT OPTION;
GRANT REFERENCES (id) ON holes.t10_grants TO PUBLIC;
-- 11: a child and a partition without a wall; a parent without one
CREATE TABLE holes.t11_child () INHERITS (holes.t11_inherits);
CREATE TABLE holes.t11_parted (org_id bigint NOT NULL, id int, PRIMARY KEY (org_id, id)) PARTITION BY LIST (org_id);
SELECT crm_tree.protect('holes.t11_parted');
CREATE TABLE holes.t11_part PARTITION OF holes.t11_parted DEFAULT;
CREATE INDEX t11_expression ON holes.t11_parted (org_id, abs(id));
CREATE TABLE holes.t11_outer (org_id bigint, id int);
SELECT holes.make('t11_walled_child', true);
ALTER TABLE holes.t11_walled_child INHERIT holes.t11_outer;
-- 12, 13: fallbacks
CREATE POLICY by_org ON holes.t12_fallback USING (org_id = coalesce(nullif(crm_tree.current_user_id(), '')::bigint, org_id));
CREATE POLICY by_org ON holes.t13_or_null USING (org_id = crm_tree.current_org_bigint() OR org_id IS NULL);
ALTER TABLE holes.t13_or_null DROP CONSTRAINT t13_or_null_pkey, ALTER org_id DROP NOT NULL;
-- 14: a policy on a setting
CREATE POLICY by_org ON holes.t14_setting USING (org_id = current_setting('app.org')::bigint);
-- 15: the functions that policies ask
CREATE FUNCTION holes.org_immutable() RETURNS bigint LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$ SELECT current_setting('app.org')::bigint $$;
CREATE FUNCTION holes.org_unpinned() RETURNS bigint LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN crm_tree.current_org_bigint(); END $$;
CREATE POLICY by_org ON holes.t15_functions AS RESTRICTIVE USING (org_id = holes.org_immutable() AND org_id = holes.org_unpinned());
-- 21: keys without the org
ALTER TABLE holes.t21_unique ADD UNIQUE (id), ADD EXCLUDE USING gist (int4range(id, id + 1) WITH &&), ADD UNIQUE (org_id, other);
CREATE UNIQUE INDEX t21_other ON holes.t21_unique (other) WHERE other > 0;
-- ... by methods of a single column, and on expressions, a partition's too
ALTER TABLE holes.t21_methods ADD EXCLUDE USING hash (other WITH =), ADD EXCLUDE USING spgist (int4range(id, id + 1) WITH &&);
CREATE UNIQUE INDEX t21_expression ON holes.t21_methods (abs(other));
ALTER TABLE holes.t21_unique ADD seq int GENERATED ALWAYS AS IDENTITY;
GRANT SELECT ON SEQUENCE holes.t21_unique_seq_seq TO audit_app;
CREATE TABLE holes.t22_points (org_id bigint NOT NULL, id int, target int REFERENCES holes.t21_unique (id) ON DELETE SET NULL, PRIMARY KEY (org_id, id));
SELECT crm_tree.protect('holes.t22_points');
-- 27: nullable behind the wall
ALTER TABLE holes.t27_nullable DROP CONSTRAINT t27_nullable_pkey, ALTER org_id DROP NOT NULL;
-- 28: USING (true)
CREATE POLICY everything ON holes.t28_open FOR SELECT USING (true);
ALTER DEFAULT PRIVILEGES FOR ROLE audit_owner IN SCHEMA holes GRANT SELECT ON TABLES TO audit_app;
-- A trigger that path maintenance sets off, and one that pins its path
CREATE TABLE holes.t31_tree (org_id bigint NOT NULL, id int, parent int, note text, PRIMARY KEY (org_id, id));
SELECT crm_tree.protect('holes.t31_tree'), crm_tree.attach_tree('holes.t31_tree', 'id', 'parent');
CREATE FUNCTION holes.f31_stamps() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.note := now(); RETURN NEW; END $$;
CREATE FUNCTION holes.f31_pinned() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$ BEGIN NEW.note := now(); RETURN NEW; END $$;
CREATE TRIGGER stamps BEFORE UPDATE ON holes.t31_tree FOR EACH ROW EXECUTE FUNCTION holes.f31_stamps();
CREATE TRIGGER pinned BEFORE UPDATE ON holes.t31_tree FOR EACH ROW EXECUTE FUNCTION holes.f31_pinned();
RESET ROLE;
-- 16 to 19: a superuser's view, materialized view, function, trigger function and rule
CREATE VIEW holes.v16 AS SELECT * FROM holes.t16_seen;
CREATE VIEW holes.v16_above AS SELECT * FROM holes.v16;
CREATE VIEW holes.v16_invoker WITH (security_invoker = true) AS SELECT * FROM holes.t16_seen;
CREATE MATERIALIZED VIEW holes.m17 AS SELECT count(*) FROM holes.t16_seen;
CREATE FUNCTION holes.f18() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'SELECT count(*) FROM holes.t16_seen';
CREATE FUNCTION holes.f18_parsed() RETURNS bigint LANGUAGE sql SECURITY DEFINER BEGIN ATOMIC SELECT count(*) FROM holes.t16_seen; END;
CREATE FUNCTION holes.f18_dynamic(q text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN EXECUTE q; END';
CREATE FUNCTION holes.f18_trigger() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'BEGIN DELETE FROM holes.t16_seen; RETURN NULL; END';
CREATE TABLE holes.log (id int);
CREATE RULE r19 AS ON INSERT TO holes.t19_rule DO ALSO INSERT INTO holes.log VALUES (1);
CREATE RULE r19_reads AS ON INSERT TO holes.log DO ALSO UPDATE holes.t16_seen SET other = 1;
CREATE FUNCTION holes.leak(text) RETURNS boolean LANGUAGE sql IMMUTABLE LEAKPROOF SET search_path = pg_catalog, pg_temp AS 'SELECT true';
-- 23 to 26: foreign table, publication, schema, settings
CREATE FOREIGN DATA WRAPPER audit_fdw;
CREATE SERVER audit_server FOREIGN DATA WRAPPER audit_fdw;
CREATE FOREIGN TABLE holes.far (org_id bigint, id int) SERVER audit_server;
GRANT SELECT ON holes.far TO audit_app;
SET client_min_messages = error;
CREATE PUBLICATION audit_some FOR TABLE holes.t16_seen, holes.t01_no_rls;
SET client_min_messages = warning;
CREATE SCHEMA holes_open;
GRANT CREATE ON SCHEMA holes_open TO PUBLIC;
ALTER ROLE audit_app SET app.org = '1';
ALTER ROLE audit_app IN DATABASE :DBNAME SET session_replication_role = replica;
GRANT SET ON PARAMETER session_replication_role TO audit_app;
-- 29 to 34: roles
CREATE ROLE audit_bypass NOLOGIN BYPASSRLS;
CREATE ROLE audit_super NOLOGIN SUPERUSER;
CREATE ROLE audit_member LOGIN IN ROLE audit_bypass;
CREATE ROLE audit_files LOGIN IN ROLE pg_read_server_files;
CREATE ROLE audit_all LOGIN IN ROLE pg_read_all_data;
CREATE ROLE audit_repl LOGIN REPLICATION;
CREATE ROLE audit_creator LOGIN CREATEROLE;
CREATE ROLE audit_login LOGIN;
ALTER TABLE holes.t16_seen OWNER TO audit_login;
-- 35, 36: the registries against the catalog
CREATE ROLE audit_gone NOLOGIN;
SELECT crm_tree.grant_org('audit_gone', '*');
SELECT crm_tree.grant_org('audit_gone', 7);
ALTER ROLE audit_gone RENAME TO audit_renamed;
SELECT crm_tree.grant_org('audit_app', '*');
INSERT INTO crm_tree.wall VALUES (99999999, 'org_id');
GRANT EXECUTE ON FUNCTION crm_tree.unprotect(regclass) TO audit_owner;
RESET session_replication_role;

\pset format unaligned
SELECT severity, code, object, detail, regexp_replace(fix, 'role = \d+', 'role = …') AS fix
  FROM crm_tree.audit_walls() WHERE severity <> 'info' AND code NOT IN ('temp_tables', 'server_version');
\set VERBOSITY terse
SELECT crm_tree.assert_walls();
-- Each fix as printed, from top to bottom. After them there is nothing left.
SELECT fix FROM crm_tree.audit_walls() WHERE severity <> 'info' AND fix IS NOT NULL
\set ECHO none
\o /dev/null
\gexec
\o
\set ECHO all
\set VERBOSITY default
SELECT severity, code, object, detail, fix FROM crm_tree.audit_walls() WHERE severity <> 'info' AND code NOT IN ('server_version');
SELECT crm_tree.assert_walls();
-- Statistics of expressions: of an index that a fix has made anew, and of a partition's.
SELECT code, object, fix IS NOT NULL AS has_fix FROM crm_tree.audit_walls() WHERE code = 'expression_statistics';
SELECT fix FROM crm_tree.audit_walls() WHERE code = 'expression_statistics'
\set ECHO none
\gexec
\set ECHO all
SELECT code, object FROM crm_tree.audit_walls() WHERE code = 'expression_statistics';
\pset format aligned

DROP EXTENSION IF EXISTS btree_gist CASCADE;
DROP SCHEMA holes, holes_open, audited CASCADE;
DROP FOREIGN DATA WRAPPER audit_fdw CASCADE;
DROP PUBLICATION audit_some;
GRANT TEMPORARY ON DATABASE :DBNAME TO PUBLIC;
DROP OWNED BY audit_app, audit_owner, audit_bypass, audit_super, audit_member, audit_files, audit_all, audit_repl, audit_creator, audit_renamed, audit_login, audit_monitor;
DROP ROLE audit_app, audit_owner, audit_bypass, audit_super, audit_member, audit_files, audit_all, audit_repl, audit_creator, audit_renamed, audit_login, audit_monitor;
TRUNCATE crm_tree.wall_event, crm_tree.org_grant;
DELETE FROM crm_tree.org WHERE name = 'Audited';
ALTER ROLE CURRENT_USER SET crm_tree.guard = off;
