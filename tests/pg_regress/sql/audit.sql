-- The audit of the walls: a clean database, then one hole for each line of what is known to be one.
SET client_min_messages = warning;
-- The guard off for every session of a role is a hole of its own: here it is off for this session.
ALTER ROLE CURRENT_USER RESET crm_tree.guard;
SET crm_tree.guard = off;
DROP ROLE IF EXISTS audit_app, audit_owner, audit_bypass, audit_super, audit_member, audit_files, audit_all, audit_repl, audit_creator, audit_gone, audit_renamed, audit_login, audit_monitor, audit_owner_too, audit_heir;
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
-- What is accepted is a grant to one, and of one severity.
GRANT REFERENCES ON audited.account TO audit_app;
SELECT crm_tree.accept_finding('grant_references', 'audited.account to audit_app', 'it makes the schema');
GRANT REFERENCES ON audited.account TO PUBLIC;
SELECT code, severity, object FROM crm_tree.audit_walls(include_accepted => true) WHERE code = 'grant_references';
REVOKE REFERENCES ON audited.account FROM PUBLIC, audit_app;
SELECT still_found FROM crm_tree.accepted_findings();
SELECT crm_tree.withdraw_finding('grant_references', 'audited.account to audit_app');
CREATE FUNCTION audited.anything(q text) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'BEGIN EXECUTE q; RETURN 0; END';
SELECT crm_tree.accept_finding('definer_function', 'audited.anything(text)', 'nobody may call it');
SELECT count(*) FROM crm_tree.audit_walls() WHERE code = 'definer_function';
SET client_min_messages = error;
CREATE OR REPLACE FUNCTION audited.anything(q text) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'BEGIN EXECUTE q; RETURN (SELECT count(*) FROM audited.account); END';
SET client_min_messages = warning;
SELECT code, severity, object FROM crm_tree.audit_walls() WHERE code = 'definer_function';
DROP FUNCTION audited.anything(text);
SELECT crm_tree.withdraw_finding('definer_function', 'audited.anything(text)');

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
-- 37: keys that hold the org beside what they compare, or compare it with another
SELECT holes.make('t37_keys', true);
ALTER TABLE holes.t37_keys ADD UNIQUE (other) INCLUDE (org_id);
CREATE TABLE holes.t37_points (org_id bigint NOT NULL, id int, far_org bigint, far int, PRIMARY KEY (org_id, id), FOREIGN KEY (far_org, far) REFERENCES holes.t37_keys ON DELETE CASCADE);
SELECT crm_tree.protect('holes.t37_points');
-- 38: policies that do not look at the org, for any command and any role
SELECT holes.make(name, false) FROM unnest('{t38_open,t38_roles,t38_made_up_for,t38_unforgiving}'::text[]) name;
CREATE POLICY by_org ON holes.t38_open USING (org_id = crm_tree.current_org_bigint());
CREATE POLICY deletes ON holes.t38_open FOR DELETE USING (1 = 1);
CREATE POLICY updates ON holes.t38_open FOR UPDATE USING (true OR org_id = crm_tree.current_org_bigint()) WITH CHECK (org_id = crm_tree.current_org_bigint());
CREATE POLICY reads ON holes.t38_open FOR SELECT USING (org_id IS NOT NULL AND id > 0);
CREATE POLICY by_org ON holes.t38_roles TO audit_app USING (org_id = crm_tree.current_org_bigint());
CREATE POLICY of_one ON holes.t38_roles TO audit_app, audit_owner USING (org_id = 1 AND other = 1);
-- ... and no hole: a restrictive one that does, and a fallback of another column
CREATE POLICY everything ON holes.t38_made_up_for USING (true);
CREATE POLICY by_org ON holes.t38_made_up_for AS RESTRICTIVE USING (org_id = crm_tree.current_org_bigint() AND coalesce(other, 0) = 0);
CREATE POLICY nothing ON holes.t38_unforgiving FOR SELECT TO audit_app;
CREATE POLICY by_org ON holes.t38_unforgiving USING ((other = 1 OR other IS NULL) AND org_id = crm_tree.current_org_bigint() AND 'org_id (' <> '');
-- 39: a partition without row security below a parent with some of another's making, and a policy of a partition's
CREATE TABLE holes.t39_parted (org_id bigint NOT NULL, id int) PARTITION BY LIST (org_id);
CREATE TABLE holes.t39_bare PARTITION OF holes.t39_parted FOR VALUES IN (1);
CREATE TABLE holes.t39_open PARTITION OF holes.t39_parted DEFAULT;
ALTER TABLE holes.t39_parted ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE holes.t39_open ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY by_org ON holes.t39_parted USING (org_id = crm_tree.current_org_bigint());
CREATE POLICY everything ON holes.t39_open USING (id > 0);
-- 40: a key of a table whose owner may neither make one in its schema nor see it
RESET ROLE;
CREATE SCHEMA holes_closed;
CREATE TABLE holes_closed.t40_company (org_id bigint NOT NULL, no int PRIMARY KEY);
CREATE TABLE holes_closed.t40_open (org_id bigint NOT NULL);
ALTER TABLE holes_closed.t40_company OWNER TO audit_owner;
ALTER TABLE holes_closed.t40_open OWNER TO audit_owner;
GRANT USAGE ON SCHEMA holes_closed TO audit_owner;
SELECT crm_tree.protect('holes_closed.t40_company');
REVOKE USAGE ON SCHEMA holes_closed FROM audit_owner;
SET ROLE audit_owner;
-- 41: a unique index of a partitioned table
CREATE TABLE holes.t41_parted (org_id bigint NOT NULL, id int, kind int) PARTITION BY LIST (kind);
CREATE TABLE holes.t41_part PARTITION OF holes.t41_parted FOR VALUES IN (1);
SELECT crm_tree.protect('holes.t41_parted');
CREATE UNIQUE INDEX t41_key ON holes.t41_parted (kind, id);
-- 42: foreign keys that match whole, point at one key twice, and belong to another
CREATE TABLE holes.t42_target (org_id bigint NOT NULL, id int PRIMARY KEY, a int, b int, UNIQUE (org_id, a, b), UNIQUE (a, b));
SELECT crm_tree.protect('holes.t42_target');
CREATE TABLE holes.t42_points (org_id bigint NOT NULL, id int, one int REFERENCES holes.t42_target MATCH FULL, two int REFERENCES holes.t42_target, a int, b int,
    PRIMARY KEY (org_id, id), CONSTRAINT both_or_none FOREIGN KEY (a, b) REFERENCES holes.t42_target (a, b) MATCH FULL);
SELECT crm_tree.protect('holes.t42_points');
COMMENT ON CONSTRAINT both_or_none ON holes.t42_points IS 'both, or none';
RESET ROLE;
CREATE ROLE audit_owner_too NOLOGIN;
GRANT USAGE ON SCHEMA holes TO audit_owner_too;
CREATE TABLE holes.t42_others (org_id bigint NOT NULL, id int, target int REFERENCES holes.t42_target, PRIMARY KEY (org_id, id));
ALTER TABLE holes.t42_others OWNER TO audit_owner_too;
SELECT crm_tree.protect('holes.t42_others');
INSERT INTO holes.t42_points VALUES (1, 1);
SET ROLE audit_owner;
-- 43: what a key has beside its columns
CREATE TABLE holes.t43_key (org_id bigint NOT NULL, id int NOT NULL, other int, PRIMARY KEY (org_id, other), CONSTRAINT t43 UNIQUE (id) WITH (fillfactor = 70) DEFERRABLE);
SELECT crm_tree.protect('holes.t43_key');
CREATE UNIQUE INDEX t43_identity ON holes.t43_key (id);
ALTER TABLE holes.t43_key REPLICA IDENTITY USING INDEX t43_identity;
ALTER TABLE holes.t43_key CLUSTER ON t43;
COMMENT ON CONSTRAINT t43 ON holes.t43_key IS 'the number';
COMMENT ON INDEX holes.t43 IS 'its index';
-- 44: a rule on a table without a wall; a wall below a partitioned table without one
CREATE TABLE holes.t44_log (id int);
CREATE TABLE holes.t44_rule (org_id bigint NOT NULL);
CREATE RULE r44 AS ON INSERT TO holes.t44_rule DO ALSO INSERT INTO holes.t44_log VALUES (1);
CREATE TABLE holes.t44_outer (org_id bigint NOT NULL, id int) PARTITION BY LIST (org_id);
CREATE TABLE holes.t44_inner (org_id bigint NOT NULL, id int);
SELECT crm_tree.protect('holes.t44_inner');
ALTER TABLE holes.t44_outer ATTACH PARTITION holes.t44_inner DEFAULT;
-- 45: a sequence that a default draws from, and the keys of a table with row security of another's making
CREATE SEQUENCE holes.s45;
GRANT SELECT ON SEQUENCE holes.s45 TO audit_app;
CREATE TABLE holes.t45 (org_id bigint NOT NULL, id int DEFAULT nextval('holes.s45') UNIQUE);
ALTER TABLE holes.t45 ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY by_org ON holes.t45 USING (org_id = crm_tree.current_org_bigint());
-- A restrictive policy that is asked before the wall
SELECT holes.make('t68_before', true);
CREATE POLICY "asked first" ON holes.t68_before AS RESTRICTIVE FOR SELECT USING (other > 0);
-- A trigger that path maintenance sets off, and one that pins its path
CREATE TABLE holes.t31_tree (org_id bigint NOT NULL, id int, parent int, note text, PRIMARY KEY (org_id, id));
SELECT crm_tree.protect('holes.t31_tree'), crm_tree.attach_tree('holes.t31_tree', 'id', 'parent');
CREATE FUNCTION holes.f31_stamps() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.note := now(); RETURN NEW; END $$;
CREATE FUNCTION holes.f31_pinned() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$ BEGIN NEW.note := now(); RETURN NEW; END $$;
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
-- 46: through a helper, by a text that a function runs, and of a name in quotes
SET client_min_messages = error;
CREATE TABLE holes."t46 odd!" (org_id bigint NOT NULL);
ALTER TABLE holes."t46 odd!" OWNER TO audit_owner;
SELECT crm_tree.protect('holes."t46 odd!"');
CREATE FUNCTION holes.f46_helper() RETURNS bigint LANGUAGE sql SET search_path = pg_catalog AS 'SELECT count(*) FROM holes.t16_seen';
CREATE FUNCTION holes.f46_through() RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS 'BEGIN RETURN holes.f46_helper(); END';
CREATE FUNCTION holes.f46_xml(t regclass) RETURNS xml LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS $$ SELECT table_to_xml(t, true, true, '') $$;
CREATE FUNCTION holes.f46_odd() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS 'SELECT count(*) FROM holes."t46 odd!"';
-- ... and no hole: words that are tables' names too
CREATE FUNCTION holes.f46_words() RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$ DECLARE role text; BEGIN /* the account at this stage */ RETURN 't16_seen' || role; -- holes.t16_seen
END $$;
-- Views upon materialized ones, and a domain in a view
CREATE MATERIALIZED VIEW holes.m46 AS SELECT * FROM holes.t16_seen;
CREATE MATERIALIZED VIEW holes.m46_upon AS SELECT * FROM holes.m46;
CREATE VIEW holes.v46_upon WITH (security_invoker = true) AS SELECT * FROM holes.m46_upon;
SET client_min_messages = warning;
CREATE DOMAIN holes.d46 AS text DEFAULT 'x';
CREATE FUNCTION holes.f46_looks(text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
ALTER FUNCTION holes.f46_looks(text) OWNER TO audit_owner_too;
ALTER DOMAIN holes.d46 ADD CONSTRAINT looks CHECK (holes.f46_looks(VALUE));
ALTER DOMAIN holes.d46 OWNER TO audit_owner_too;
ALTER TABLE holes.t16_seen ADD label holes.d46;
CREATE VIEW holes.v46_label WITH (security_invoker = true) AS SELECT label FROM holes.t16_seen;
ALTER FUNCTION pg_catalog.textlike(text, text) LEAKPROOF;
-- 47: rights that were handed on
CREATE ROLE audit_heir NOLOGIN;
GRANT USAGE ON SCHEMA holes TO audit_app;
GRANT REFERENCES ON holes.t43_key TO audit_app WITH GRANT OPTION;
GRANT CREATE ON SCHEMA holes TO audit_app WITH GRANT OPTION;
SET ROLE audit_app;
GRANT REFERENCES (id) ON holes.t43_key TO audit_heir;
GRANT CREATE ON SCHEMA holes TO PUBLIC;
RESET ROLE;
-- 48: settings by any name, in a file, and instead of what a database loads
CREATE FUNCTION holes.f48() RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog AS $$ SELECT current_setting('App.Who') $$;
CREATE TABLE holes.t48 (org_id bigint NOT NULL, who text);
ALTER TABLE holes.t48 OWNER TO audit_owner;
ALTER TABLE holes.t48 ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY by_org ON holes.t48 USING (org_id = current_setting('app.user')::bigint AND who = holes.f48());
ALTER ROLE audit_app SET "app.user" = '1';
ALTER ROLE audit_app SET app.who = '1';
ALTER SYSTEM SET session_replication_role = replica;
-- 49: who says who may bind what
GRANT EXECUTE ON FUNCTION crm_tree.grant_org(text, uuid, boolean) TO audit_owner;
SELECT crm_tree.grant_service_door('audit_app');
-- 52: what the extension keeps to itself
GRANT SELECT, INSERT, TRUNCATE, REFERENCES, TRIGGER ON ALL TABLES IN SCHEMA crm_tree TO audit_app;
GRANT TRIGGER ON crm_tree.wall TO audit_heir WITH GRANT OPTION;
SET ROLE audit_heir;
GRANT TRIGGER ON crm_tree.wall TO audit_owner_too;
RESET ROLE;
GRANT SELECT (secret), UPDATE (key_id) ON crm_tree.signing_key TO audit_heir;
GRANT EXECUTE ON FUNCTION crm_tree._close_before_drop(), crm_tree._walls() TO audit_app;
GRANT CREATE ON SCHEMA crm_tree TO audit_app;
CREATE FUNCTION crm_tree.bind_org(int) RETURNS void LANGUAGE sql SET search_path = pg_catalog, pg_temp AS '';
CREATE TABLE crm_tree.planted (id int GENERATED ALWAYS AS IDENTITY);
CREATE SEQUENCE crm_tree.planted_sequence;
CREATE TYPE crm_tree.planted_type AS (id int);
CREATE OPERATOR crm_tree.@@ (LEFTARG = text, RIGHTARG = text, FUNCTION = pg_catalog.ts_match_tt);
ALTER TABLE crm_tree.wall DISABLE TRIGGER wall_changed;
ALTER TABLE crm_tree.wall_pending ENABLE TRIGGER refuse_unwalled;
ALTER TABLE crm_tree.wall DISABLE TRIGGER protect_history;
GRANT EXECUTE ON FUNCTION crm_tree.accept_finding(text, text, text), crm_tree.unwatch_schema(text) TO audit_owner;
ALTER TABLE crm_tree.wall_pending OWNER TO audit_owner;
ALTER FUNCTION crm_tree.path_depth(text) OWNER TO audit_owner;
-- 54: keys whose actions come from a table without a wall
SET ROLE audit_owner;
CREATE TABLE holes.t54_org (id bigint PRIMARY KEY, word text UNIQUE);
SELECT holes.make('t54_moved', false), holes.make('t54_acted', false);
ALTER TABLE holes.t54_acted ADD FOREIGN KEY (org_id) REFERENCES holes.t54_org ON DELETE CASCADE NOT VALID;
RESET ROLE;
SELECT crm_tree.protect('holes.t54_moved'), crm_tree.protect('holes.t54_acted');
SET session_replication_role = replica;
ALTER TABLE holes.t54_moved ADD CONSTRAINT moves FOREIGN KEY (org_id) REFERENCES holes.t54_org ON UPDATE CASCADE ON DELETE SET DEFAULT NOT VALID;
COMMENT ON CONSTRAINT moves ON holes.t54_moved IS 'it''s told';
RESET session_replication_role;
-- 55: keys with odd names; of tables without a wall, whose keys would hold the wall up; one that compares the org twice
SET ROLE audit_owner;
CREATE TABLE holes."t55 ON DELETE CASCADE" (id int PRIMARY KEY, other int, UNIQUE (id, other));
CREATE TABLE holes.t55 (org_id bigint NOT NULL, "x ON DELETE CASCADE" int, "y)z" int, CONSTRAINT deletes FOREIGN KEY ("x ON DELETE CASCADE") REFERENCES holes."t55 ON DELETE CASCADE" ON DELETE CASCADE DEFERRABLE,
    CONSTRAINT nulls FOREIGN KEY ("y)z", "x ON DELETE CASCADE") REFERENCES holes."t55 ON DELETE CASCADE" (id, other) MATCH FULL ON DELETE SET NULL);
SELECT crm_tree.protect('holes.t55');
CREATE TABLE holes.t55_bare (org_id bigint NOT NULL REFERENCES holes.t54_org ON UPDATE CASCADE, id int, PRIMARY KEY (org_id, id));
CREATE TABLE holes.t55_below (org_id bigint NOT NULL, id int, above int, PRIMARY KEY (org_id, id), FOREIGN KEY (org_id, above) REFERENCES holes.t55_bare ON UPDATE CASCADE);
RESET ROLE;
-- 53: policies that are open and asked first
SET ROLE audit_owner;
SELECT holes.make('t53_first', false);
CREATE POLICY aaa ON holes.t53_first AS RESTRICTIVE USING (true);
CREATE POLICY zz_aaa ON holes.t53_first AS RESTRICTIVE USING (true);
CREATE POLICY mine ON holes.t53_first USING (true) WITH CHECK (true);
RESET ROLE;
-- 23 to 26: foreign table, publication, schema, settings
CREATE FOREIGN DATA WRAPPER audit_fdw;
CREATE SERVER audit_server FOREIGN DATA WRAPPER audit_fdw;
CREATE FOREIGN TABLE holes.far (org_id bigint, id int) SERVER audit_server;
GRANT SELECT ON holes.far TO audit_app WITH GRANT OPTION;
SET ROLE audit_app;
GRANT SELECT ON holes.far TO audit_heir;
RESET ROLE;
CREATE FOREIGN TABLE holes.far_column (org_id bigint, id int) SERVER audit_server;
GRANT SELECT (org_id) ON holes.far_column TO audit_app;
SET client_min_messages = error;
CREATE PUBLICATION audit_some FOR TABLE holes.t16_seen, holes.t01_no_rls;
CREATE PUBLICATION audit_both FOR TABLES IN SCHEMA holes_closed, public, TABLE holes_closed.t40_company, holes.t16_seen;
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
-- One had to wait for another's wall.
SELECT fix FROM crm_tree.audit_walls() WHERE code = 'table_without_wall'
\gexec
SELECT crm_tree.assert_walls();
-- What the keys had beside their columns, they have.
SELECT c.relname, i.indisvalid, i.indisreplident, i.indisclustered, c.reloptions, obj_description(c.oid, 'pg_class') AS comment, obj_description(k.oid, 'pg_constraint') AS of_constraint
  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid LEFT JOIN pg_constraint k ON k.conindid = c.oid AND k.contype = 'u'
 WHERE i.indrelid IN ('holes.t41_parted'::regclass, 'holes.t41_part'::regclass, 'holes.t42_target'::regclass, 'holes.t43_key'::regclass) ORDER BY c.relname;
SELECT conname, pg_get_constraintdef(oid), obj_description(oid, 'pg_constraint') AS comment FROM pg_constraint WHERE conrelid = 'holes.t42_points'::regclass AND contype <> 'n' ORDER BY conname;
-- Nothing that was lent stays.
SELECT has_schema_privilege('audit_owner', 'holes_closed', 'USAGE') OR has_schema_privilege('audit_owner', 'holes_closed', 'CREATE') OR has_table_privilege('audit_owner_too', 'holes.t42_target', 'REFERENCES') AS lent;
-- 51: an exclusion that compares orgs by another operator, with the extension that a fix above has made
ALTER TABLE holes.t37_keys ADD CONSTRAINT one_org_a_number EXCLUDE USING gist (other WITH =, org_id WITH <>), ADD CONSTRAINT in_each_org EXCLUDE USING gist (org_id WITH =, other WITH =);
SELECT detail, fix FROM crm_tree.audit_walls() WHERE object ~ 'one_org_a_number|in_each_org';
SELECT fix FROM crm_tree.audit_walls() WHERE object ~ 'one_org_a_number|in_each_org'
\set ECHO none
\o /dev/null
\gexec
\o
\set ECHO all
SELECT code, object FROM crm_tree.audit_walls() WHERE object ~ 't37_keys';
-- What no SQL mends without harm has no fix, and says why.
SET session_replication_role = replica;
CREATE DOMAIN holes.d50 AS uuid;
CREATE TABLE holes.t50_domain (org_id holes.d50 NOT NULL);
CREATE TABLE holes.t50_parent (id int);
CREATE TABLE holes.t50_child (org_id bigint NOT NULL) INHERITS (holes.t50_parent);
CREATE TABLE holes.t50_far (org_id bigint NOT NULL) PARTITION BY LIST (org_id);
CREATE FOREIGN TABLE holes.t50_far_part PARTITION OF holes.t50_far DEFAULT SERVER audit_server;
CREATE TABLE holes.t50_two (org_id bigint NOT NULL) PARTITION BY LIST (org_id);
CREATE TABLE holes.t50_two_part PARTITION OF holes.t50_two DEFAULT;
ALTER TABLE holes.t50_two_part OWNER TO audit_owner;
SET ROLE audit_owner;
CREATE TABLE holes.t50_target (org_id bigint NOT NULL, id int PRIMARY KEY, other text);
SELECT crm_tree.protect('holes.t50_target');
CREATE TABLE holes.t50_null (org_id bigint NOT NULL, id int, target int REFERENCES holes.t50_target ON UPDATE SET NULL, PRIMARY KEY (org_id, id));
CREATE TABLE holes.t50_type (org_id text NOT NULL, id int, target int REFERENCES holes.t50_target, PRIMARY KEY (org_id, id));
CREATE TABLE holes.t50_once (org_id bigint NOT NULL, id int, CONSTRAINT once FOREIGN KEY (org_id) REFERENCES holes.t50_target, PRIMARY KEY (org_id, id));
SELECT crm_tree.protect('holes.t50_null'), crm_tree.protect('holes.t50_type'), crm_tree.protect('holes.t50_once');
CREATE TABLE holes.t50_computed (org_id bigint GENERATED ALWAYS AS (1) STORED);
CREATE TABLE holes.t50_counted (org_id bigint GENERATED ALWAYS AS IDENTITY);
CREATE TABLE holes.t50_grouped (org_id bigint NOT NULL, id int PRIMARY KEY, other text);
SELECT crm_tree.protect('holes.t50_grouped');
CREATE VIEW holes.v50 WITH (security_invoker = true) AS SELECT id, other FROM holes.t50_grouped GROUP BY id;
RESET ROLE;
RESET session_replication_role;
SELECT severity, code, object, detail, fix FROM crm_tree.audit_walls() WHERE severity = 'fix' AND object ~ '50';
DROP TABLE holes.t50_domain, holes.t50_parent, holes.t50_child, holes.t50_far, holes.t50_two, holes.t50_target, holes.t50_null, holes.t50_type, holes.t50_once, holes.t50_computed, holes.t50_counted, holes.t50_grouped CASCADE;
-- Statistics of expressions: of an index that a fix has made anew, and of a partition's.
SELECT code, object, fix IS NOT NULL AS has_fix FROM crm_tree.audit_walls() WHERE code = 'expression_statistics';
SELECT fix FROM crm_tree.audit_walls() WHERE code = 'expression_statistics'
\set ECHO none
\gexec
\set ECHO all
SELECT code, object FROM crm_tree.audit_walls() WHERE code = 'expression_statistics';
\pset format aligned

DROP EXTENSION IF EXISTS btree_gist CASCADE;
DROP FUNCTION public.bind_org(int);
DROP TABLE public.planted;
DROP SEQUENCE public.planted_sequence;
DROP TYPE public.planted_type;
DROP OPERATOR public.@@ (text, text);
DROP SCHEMA holes, holes_open, holes_closed, audited CASCADE;
DROP FOREIGN DATA WRAPPER audit_fdw CASCADE;
DROP PUBLICATION audit_some, audit_both;
GRANT TEMPORARY ON DATABASE :DBNAME TO PUBLIC;
DROP OWNED BY audit_app, audit_owner, audit_bypass, audit_super, audit_member, audit_files, audit_all, audit_repl, audit_creator, audit_renamed, audit_login, audit_monitor, audit_owner_too, audit_heir;
DROP ROLE audit_app, audit_owner, audit_bypass, audit_super, audit_member, audit_files, audit_all, audit_repl, audit_creator, audit_renamed, audit_login, audit_monitor, audit_owner_too, audit_heir;
TRUNCATE crm_tree.wall_event, crm_tree.org_grant;
DELETE FROM crm_tree.org WHERE name = 'Audited';
ALTER ROLE CURRENT_USER SET crm_tree.guard = off;
