-- Conditions that run before the wall's: a cheap function that shouts, a cast that fails, an operator of one's own.
-- Attacker: mallory, with one schema to create functions and operators in.
-- To gain: values of rows that the wall hides, before it hides them.
\set SHOW_CONTEXT never
\set super :USER
\set acme '''aaaaaaaa-0000-4000-8000-00000000000a''::uuid'
\c - mallory_the_app_user
CREATE FUNCTION lair.shout(text) RETURNS bool LANGUAGE plpgsql COST 0.0000001 AS
    'BEGIN RAISE NOTICE ''saw %'', $1; RETURN true; END';
CREATE FUNCTION lair.shout(int) RETURNS bool LANGUAGE plpgsql COST 0.0000001 AS
    'BEGIN RAISE NOTICE ''saw account %'', $1; RETURN true; END';
CREATE FUNCTION lair.eq(uuid, uuid) RETURNS bool LANGUAGE plpgsql COST 0.0000001 AS
    'BEGIN RAISE NOTICE ''compared %'', $2; RETURN true; END';
CREATE OPERATOR lair.= (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = lair.eq);
CREATE FUNCTION lair.eq(text, text) RETURNS bool LANGUAGE plpgsql COST 0.0000001 AS
    'BEGIN RAISE NOTICE ''compared %'', $1; RETURN true; END';
CREATE OPERATOR lair.= (LEFTARG = text, RIGHTARG = text, FUNCTION = lair.eq);
CREATE FUNCTION lair.current_org() RETURNS uuid LANGUAGE sql AS $$SELECT 'bbbbbbbb-0000-4000-8000-00000000000b'::uuid$$;
-- SHOULD FAIL: saying that it does not leak
ALTER FUNCTION lair.shout(text) LEAKPROOF;
CREATE FUNCTION lair.sure(text) RETURNS bool LANGUAGE sql LEAKPROOF AS 'SELECT true';
-- SHOULD GAIN NOTHING
BEGIN;
SELECT crm_tree.bind_org(:acme);
SELECT count(*) FROM app.contact WHERE lair.shout(secret);
SELECT count(*) FROM app.deal WHERE lair.shout(secret);
SELECT count(*) FROM app.contact c JOIN app.account a ON lair.shout(c.secret) AND lair.shout(a.id) WHERE a.id = 3;
SELECT count(*) FROM app.contact WHERE CASE WHEN secret ~ '^acme' THEN true ELSE (1 / length(secret) = secret::int) END;
WITH u AS (UPDATE app.contact SET secret = secret WHERE lair.shout(secret) RETURNING 1) SELECT count(*) FROM u;
SELECT count(*) FROM (SELECT secret FROM app.contact ORDER BY lair.shout(secret)) s;
SELECT max(secret) FILTER (WHERE lair.shout(secret)) FROM app.contact;
ROLLBACK;
-- SHOULD GAIN NOTHING: the operators and functions of the policies are found by their full name
SET search_path = lair, pg_catalog;
BEGIN;
SELECT crm_tree.bind_org(:acme);
SELECT count(*) FROM app.contact;
SELECT count(*) FROM app.deal_late;
SELECT count(*) FROM crm_tree.subtree('app.account', '1');
SELECT count(*) FROM crm_tree.ancestors('app.account', '2');
SELECT count(*) FROM crm_tree.check_tree('app.account');
INSERT INTO app.contact (email, secret) VALUES ('m@m.test', 'x') ON CONFLICT (org_id, email) DO UPDATE SET secret = 'x';
ROLLBACK;
BEGIN;
SELECT crm_tree.bind_org('acme');
SELECT count(*) FROM app.ledger;
ROLLBACK;
SELECT count(*) FROM app.contact;
RESET search_path;
DROP OPERATOR lair.= (uuid, uuid);
DROP OPERATOR lair.= (text, text);
DROP FUNCTION lair.shout(text), lair.shout(int), lair.eq(uuid, uuid), lair.eq(text, text), lair.current_org();
\c - :super
SELECT referee.globex();
