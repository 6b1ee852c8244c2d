-- Views, functions and rules of an owner who is behind the wall himself open no way round it.
-- (Those of a superuser or of a BYPASSRLS role do: see `open`.)
-- Attacker: mallory, with rights on views, functions and rules of an owner behind the wall.
-- To gain: the owner's view of all orgs, if he had one.
\set SHOW_CONTEXT never
\set super :USER
\set acme '''aaaaaaaa-0000-4000-8000-00000000000a''::uuid'
\c - oscar_the_owner
CREATE VIEW app.all_contacts AS SELECT * FROM app.contact;
CREATE VIEW app.barrier WITH (security_barrier) AS SELECT * FROM app.contact;
CREATE VIEW app.invoker WITH (security_invoker) AS SELECT * FROM app.contact;
CREATE FUNCTION app.definer() RETURNS SETOF app.contact LANGUAGE sql SECURITY DEFINER AS 'SELECT * FROM app.contact';
CREATE FUNCTION app.definer_writes() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS
    'WITH u AS (UPDATE app.contact SET secret = ''x'' RETURNING 1) SELECT count(*) FROM u';
CREATE TABLE app.inbox (note text);
CREATE RULE answer AS ON INSERT TO app.inbox DO ALSO SELECT secret FROM app.contact;
GRANT SELECT, UPDATE ON app.all_contacts, app.barrier, app.invoker TO mallory_the_app_user;
GRANT INSERT ON app.inbox TO mallory_the_app_user;
-- SHOULD FAIL: a materialized view would keep rows past the binding; unbound there are none to keep
CREATE MATERIALIZED VIEW app.frozen AS SELECT * FROM app.contact;
\c - mallory_the_app_user
-- SHOULD FAIL: unbound
SELECT count(*) FROM app.all_contacts;
SELECT count(*) FROM app.barrier;
SELECT count(*) FROM app.invoker;
SELECT count(*) FROM app.definer();
SELECT app.definer_writes();
INSERT INTO app.inbox VALUES ('x');
-- SHOULD GAIN NOTHING
BEGIN;
SELECT crm_tree.bind_org(:acme);
SELECT secret FROM app.all_contacts;
SELECT secret FROM app.barrier;
SELECT secret FROM app.invoker;
SELECT secret FROM app.definer();
SELECT app.definer_writes();
INSERT INTO app.inbox VALUES ('x');
ROLLBACK;
BEGIN;
SELECT crm_tree.bind_org(:acme);
UPDATE app.all_contacts SET org_id = 'bbbbbbbb-0000-4000-8000-00000000000b';
ROLLBACK;
\c - :super
DROP VIEW app.all_contacts, app.barrier, app.invoker;
DROP FUNCTION app.definer(), app.definer_writes();
DROP TABLE app.inbox;
SELECT referee.globex();
