-- The CRM template: the registry of orgs, the registry of instances, create_crm.

CREATE TABLE crm_tree.org (
    org_id     uuid        NOT NULL DEFAULT gen_random_uuid(),
    name       text        NOT NULL CHECK (name <> ''),
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT org_pkey PRIMARY KEY (org_id),
    CONSTRAINT org_name UNIQUE (name)
);
ALTER TABLE crm_tree.org ENABLE ROW LEVEL SECURITY;
CREATE POLICY org_sees_itself ON crm_tree.org FOR SELECT TO PUBLIC
    USING (org_id OPERATOR(pg_catalog.=) crm_tree.current_org());
REVOKE ALL ON crm_tree.org FROM PUBLIC;
GRANT SELECT ON crm_tree.org TO PUBLIC;
COMMENT ON TABLE crm_tree.org IS 'The orgs (tenants). Written by create_org(); a bound org sees its own row.';
COMMENT ON COLUMN crm_tree.org.name IS 'Unique in the database.';
SELECT pg_catalog.pg_extension_config_dump('crm_tree.org', '');

CREATE TABLE crm_tree.crm_instance (
    schema           name        NOT NULL,
    owner            name        NOT NULL,
    template_version text        NOT NULL,
    created_at       timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT crm_instance_pkey PRIMARY KEY (schema)
);
ALTER TABLE crm_tree.crm_instance ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON crm_tree.crm_instance FROM PUBLIC;
COMMENT ON TABLE crm_tree.crm_instance IS 'The schemas made by create_crm(), and the version of the template they were made from.';
SELECT pg_catalog.pg_extension_config_dump('crm_tree.crm_instance', '');

-- Definer, so that registering a tenant can be granted (GRANT EXECUTE) without rights on the registry.
CREATE FUNCTION crm_tree.create_org(name text, org_id uuid DEFAULT gen_random_uuid()) RETURNS uuid
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    taken text;
BEGIN
    IF $1 IS NULL OR $1 = '' OR $2 IS NULL THEN
        RAISE EXCEPTION 'an org needs a name and an id'
            USING ERRCODE = 'invalid_parameter_value', HINT = 'SELECT crm_tree.create_org(''Acme'');';
    END IF;
    INSERT INTO crm_tree.org (org_id, name) VALUES ($2, $1);
    RETURN $2;
EXCEPTION WHEN unique_violation THEN
    GET STACKED DIAGNOSTICS taken = CONSTRAINT_NAME;
    RAISE EXCEPTION 'there is an org with the % already', CASE taken WHEN 'org_name' THEN format('name "%s"', $1) ELSE format('id %s', $2) END
        USING ERRCODE = 'unique_violation', SCHEMA = 'crm_tree', TABLE = 'org', CONSTRAINT = taken,
              HINT = 'Choose another: SELECT crm_tree.create_org(''Acme (2)'');';
END
$$;
COMMENT ON FUNCTION crm_tree.create_org(text, uuid) IS 'Registers an org and returns its id. Binding it still takes grant_org().';
REVOKE ALL ON FUNCTION crm_tree.create_org(text, uuid) FROM PUBLIC;

CREATE FUNCTION crm_tree.create_crm(schema name DEFAULT 'crm', owner name DEFAULT 'crm_tree_owner', org_partitions int DEFAULT 0)
    RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'create_crm_wrapper';
COMMENT ON FUNCTION crm_tree.create_crm(name, name, int) IS
'Makes a CRM in a new schema: tables, views and functions that belong to a NOLOGIN role (made when missing), behind the wall, with role and account as trees. org_partitions > 0 hash-partitions the mutable tables by org. Works with the caller''s rights.';
REVOKE ALL ON FUNCTION crm_tree.create_crm(name, name, int) FROM PUBLIC;

-- The registries forget what is dropped: a later table of the same oid must not inherit a wall or a
-- tree that it never had. Definer, because the registries are nobody's to write.
CREATE FUNCTION crm_tree._forget_dropped() RETURNS event_trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM crm_tree.wall w USING pg_event_trigger_dropped_objects() d
     WHERE d.classid = 'pg_class'::regclass AND d.objsubid = 0 AND w.relation = d.objid;
    DELETE FROM crm_tree.tree t USING pg_event_trigger_dropped_objects() d
     WHERE d.classid = 'pg_class'::regclass AND d.objsubid = 0 AND t.relation = d.objid;
    DELETE FROM crm_tree.tree_links l USING pg_event_trigger_dropped_objects() d
     WHERE d.classid = 'pg_class'::regclass AND d.objsubid = 0 AND d.objid IN (l.relation, l.tree);
    DELETE FROM crm_tree.stale_org s USING pg_event_trigger_dropped_objects() d
     WHERE d.classid = 'pg_class'::regclass AND d.objsubid = 0 AND s.relation = d.objid;
    DELETE FROM crm_tree.crm_instance i USING pg_event_trigger_dropped_objects() d
     WHERE d.classid = 'pg_namespace'::regclass AND i.schema = d.object_name;
END
$$;
COMMENT ON FUNCTION crm_tree._forget_dropped() IS 'Event trigger: takes dropped tables and schemas out of the registries.';
CREATE EVENT TRIGGER crm_tree_forget_dropped ON sql_drop EXECUTE FUNCTION crm_tree._forget_dropped();
ALTER EVENT TRIGGER crm_tree_forget_dropped ENABLE ALWAYS;
