-- Binding by signed tokens.
\set VERBOSITY default
DROP ROLE IF EXISTS token_app, token_backup;
CREATE ROLE token_app LOGIN;
CREATE ROLE token_backup LOGIN BYPASSRLS;
GRANT pg_read_all_data TO token_backup;
CREATE SCHEMA token;
GRANT USAGE ON SCHEMA token TO PUBLIC;

-- What signs tokens in these tests: HMAC over SHA-256, by the book.
CREATE FUNCTION token.base64url(bytes bytea) RETURNS text LANGUAGE sql IMMUTABLE AS
    $$SELECT translate(encode(bytes, 'base64'), E'+/=\n', '-_')$$;
CREATE FUNCTION token.hmac(secret bytea, message bytea) RETURNS bytea LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    key bytea := secret || decode(repeat('00', 64 - length(secret)), 'hex');
    inner_pad bytea := '';
    outer_pad bytea := '';
BEGIN
    FOR i IN 0..63 LOOP
        inner_pad := inner_pad || set_byte('\x00', 0, get_byte(key, i) # 54);
        outer_pad := outer_pad || set_byte('\x00', 0, get_byte(key, i) # 92);
    END LOOP;
    RETURN sha256(outer_pad || sha256(inner_pad || message));
END
$$;
CREATE FUNCTION token.sign(claims json, kid text DEFAULT 'hs', secret bytea DEFAULT decode(repeat('ab', 32), 'hex'), alg text DEFAULT 'HS256')
    RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT m || '.' || token.base64url(token.hmac(secret, convert_to(m, 'UTF8')))
      FROM (SELECT token.base64url(convert_to(json_build_object('alg', alg, 'kid', kid)::text, 'UTF8')) || '.'
                || token.base64url(convert_to(claims::text, 'UTF8'))) AS _(m)
$$;
-- In so many seconds from now.
CREATE FUNCTION token.claims(org anyelement, seconds int DEFAULT 600, sub text DEFAULT 'ann') RETURNS json LANGUAGE sql VOLATILE AS $$
    SELECT json_build_object('org', org, 'sub', sub, 'exp', floor(extract(epoch FROM clock_timestamp())) + seconds)
$$;
SELECT token.sign('{"org":"acme","exp":4102444800}');

CREATE TABLE token.note (org_id uuid, id int, body text, PRIMARY KEY (org_id, id));
INSERT INTO token.note VALUES
    ('00000000-0000-0000-0000-00000000000a', 1, 'a one'), ('00000000-0000-0000-0000-00000000000b', 1, 'b one');
GRANT SELECT ON token.note TO token_app;
SELECT crm_tree.protect('token.note');

-- Keys.
SELECT crm_tree.add_signing_key('hs', 'HS256', decode(repeat('ab', 32), 'hex'));
SELECT crm_tree.add_signing_key('hs-us', 'HS256', decode(repeat('ab', 32), 'hex'), audience => 'crm');
SELECT crm_tree.add_signing_key('ed', 'EdDSA', '\xd75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a');
SELECT crm_tree.add_signing_key('ed-der', 'EdDSA', '\x302a300506032b6570032100d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a');
SELECT crm_tree.add_signing_key('hs', 'HS256', decode(repeat('cd', 32), 'hex'));  -- SHOULD FAIL: an id is taken once
SELECT crm_tree.add_signing_key('short', 'HS256', '\x00');
SELECT crm_tree.add_signing_key('weak', 'EdDSA', decode('01' || repeat('00', 31), 'hex'));
SELECT crm_tree.add_signing_key('rsa', 'RS256', '\x00');
SELECT crm_tree.add_signing_key('', 'HS256', decode(repeat('ab', 32), 'hex'));
SELECT crm_tree.add_signing_key('null', 'HS256', NULL);
SELECT crm_tree.retire_signing_key('nothing');
SELECT key_id, algorithm, secret, audience, retires_at FROM crm_tree.signing_key ORDER BY key_id;

SET SESSION AUTHORIZATION token_app;
-- A grant is not needed; a transaction is.
BEGIN;
SELECT crm_tree.bind_token(token.sign(token.claims('00000000-0000-0000-0000-00000000000a'::text)));
SELECT crm_tree.current_org(), crm_tree.current_user_id();
SELECT body FROM token.note;
-- Written once, and the same again is fine, by the other key too.
SAVEPOINT s;
SELECT crm_tree.bind_token(token.sign(token.claims('00000000-0000-0000-0000-00000000000a'::text, 900)));
SELECT crm_tree.bind_token('eyJhbGciOiJFZERTQSIsImtpZCI6ImVkIn0.eyJvcmciOiIwMDAwMDAwMC0wMDAwLTAwMDAtMDAwMC0wMDAwMDAwMDAwMGEiLCJzdWIiOiJhbm4iLCJleHAiOjQxMDI0NDQ4MDB9._nFrLu0ZkR0Q22TDX1T8RGcrpdfcFwP7S95ZqWy4aBEQA2crGmtWzcP4U4Y8QP1rf7XY5AXRC3TntIdeoVshCQ');
SELECT crm_tree.bind_token(token.sign(token.claims('00000000-0000-0000-0000-00000000000b'::text)));  -- SHOULD FAIL
ROLLBACK TO s;
SELECT crm_tree.bind_token(token.sign(token.claims('00000000-0000-0000-0000-00000000000a'::text, sub => 'bob')));  -- SHOULD FAIL
ROLLBACK TO s;
-- SHOULD FAIL: exp is checked at each bind
SELECT crm_tree.bind_token(token.sign(token.claims('00000000-0000-0000-0000-00000000000a'::text, -400)));
ROLLBACK;
SELECT crm_tree.bind_token(token.sign(token.claims('00000000-0000-0000-0000-00000000000a'::text)));  -- SHOULD FAIL: no transaction

-- A number and its text are one org.
BEGIN;
SELECT crm_tree.bind_token(token.sign(token.claims(7)));
SELECT crm_tree.bind_token(token.sign(token.claims('7'::text)));
SELECT crm_tree.current_org_bigint(), crm_tree.current_org_text();
ROLLBACK;
-- Without a user.
DO $$ BEGIN
    PERFORM crm_tree.bind_token(token.sign('{"org": "acme", "exp": 4102444800}'));
    RAISE NOTICE '% %', crm_tree.current_org_text(), crm_tree.current_user_id();
END $$;
-- Within the clocks' difference.
DO $$ BEGIN PERFORM crm_tree.bind_token(token.sign(token.claims(7, -15))); END $$;

-- SHOULD FAIL, each for its own reason.
\set VERBOSITY terse
DO $$ BEGIN PERFORM crm_tree.bind_token('not a token'); END $$;
DO $$ BEGIN PERFORM crm_tree.bind_token(token.sign(token.claims(7), kid => NULL)); END $$;
DO $$ BEGIN PERFORM crm_tree.bind_token(token.sign(token.claims(7), kid => 'nobody''s')); END $$;
DO $$ BEGIN PERFORM crm_tree.bind_token(token.sign(token.claims(7), alg => 'none')); END $$;
DO $$ BEGIN PERFORM crm_tree.bind_token(token.sign(token.claims(7), alg => 'HS512')); END $$;
DO $$ BEGIN PERFORM crm_tree.bind_token(token.sign(token.claims(7), secret => decode(repeat('ac', 32), 'hex'))); END $$;
DO $$ BEGIN PERFORM crm_tree.bind_token(token.sign('{"exp": 4102444800}')); END $$;
DO $$ BEGIN PERFORM crm_tree.bind_token(token.sign('{"org": "*", "exp": 4102444800}')); END $$;
DO $$ BEGIN PERFORM crm_tree.bind_token(token.sign('{"org": 7.5, "exp": 4102444800}')); END $$;
DO $$ BEGIN PERFORM crm_tree.bind_token(token.sign('{"org": 7, "sub": "", "exp": 4102444800}')); END $$;
DO $$ BEGIN PERFORM crm_tree.bind_token(token.sign('{"org": 7}')); END $$;
DO $$ BEGIN PERFORM crm_tree.bind_token(token.sign('{"org": 7, "exp": "4102444800"}')); END $$;
DO $$ BEGIN PERFORM crm_tree.bind_token(token.sign('{"org": 7, "exp": 4102444800, "nbf": 4102444000}')); END $$;
DO $$ BEGIN PERFORM crm_tree.bind_token(token.sign('{"org": 7, "exp": 1700000000}')); END $$;
DO $$ BEGIN PERFORM crm_tree.bind_token(token.sign('{"org": 7, "org": 8, "exp": 4102444800}')); END $$;
DO $$ BEGIN PERFORM crm_tree.bind_token(token.sign('{"org": 7, "exp": 4102444800, "aud": "crm"}')); END $$;
DO $$ BEGIN PERFORM crm_tree.bind_token(token.sign('{"org": 7, "exp": 4102444800}', kid => 'hs-us')); END $$;
DO $$ BEGIN PERFORM crm_tree.bind_token(token.sign('{"org": 7, "exp": 4102444800, "aud": ["x", "crm"]}', kid => 'hs-us')); END $$;
\set VERBOSITY default
SELECT crm_tree.is_bound();
SELECT crm_tree.bind_token(NULL);

-- What stands in pg_stat_activity is without the token, where it was a literal.
BEGIN;
SELECT crm_tree.bind_token('eyJhbGciOiJIUzI1NiIsImtpZCI6ImhzIn0.x.y');
ROLLBACK;
SET SESSION AUTHORIZATION DEFAULT;
SELECT token.sign('{"org": 7, "exp": 4102444800}') AS token \gset
BEGIN;
SELECT crm_tree.bind_token(:'token') AS "as a literal", pg_stat_clear_snapshot() \; SELECT query FROM pg_stat_activity WHERE pid = pg_backend_pid();
ROLLBACK;

-- Rotation: several live keys, and one that goes at a given time.
SELECT crm_tree.retire_signing_key('hs', now() + interval '1 day');
DO $$ BEGIN PERFORM crm_tree.bind_token(token.sign(token.claims(7))); END $$;
SELECT crm_tree.retire_signing_key('hs');
DO $$ BEGIN PERFORM crm_tree.bind_token(token.sign(token.claims(7))); END $$;  -- SHOULD FAIL
SELECT crm_tree.retire_signing_key('hs', 'infinity');  -- SHOULD FAIL: it stays retired
SELECT crm_tree.add_signing_key('hs', 'HS256', decode(repeat('ab', 32), 'hex'));  -- SHOULD FAIL

-- Keys are a superuser's: not the application's, not of a role that reads all data past row security.
SET SESSION AUTHORIZATION token_app;
SELECT * FROM crm_tree.signing_key;
SELECT crm_tree.add_signing_key('mine', 'HS256', decode(repeat('ab', 32), 'hex'));
SELECT crm_tree.retire_signing_key('ed');
SET SESSION AUTHORIZATION token_backup;
SELECT key_id, secret, secret::text = '' AS hidden FROM crm_tree.signing_key ORDER BY 1;
COPY (SELECT key_id, secret FROM crm_tree.signing_key ORDER BY 1) TO STDOUT;
SELECT to_json(k) -> 'secret' FROM crm_tree.signing_key k WHERE key_id = 'hs';
SELECT '\xab'::crm_tree._signing_secret;
SELECT secret::bytea FROM crm_tree.signing_key;
SELECT max(secret) FROM crm_tree.signing_key;
SELECT k *= ROW('hs', 'HS256', '\xab', NULL, NULL, 'postgres', now())::crm_tree.signing_key FROM crm_tree.signing_key k;
COPY (SELECT secret FROM crm_tree.signing_key) TO STDOUT (FORMAT binary);
SET SESSION AUTHORIZATION DEFAULT;
-- Not part of a dump.
SELECT count(*) FROM pg_extension WHERE extname = 'crm_tree' AND 'crm_tree.signing_key'::regclass = ANY (extconfig);
SELECT '\xzz'::crm_tree._signing_secret;

DELETE FROM crm_tree.signing_key;
SET client_min_messages = warning;
DROP SCHEMA token CASCADE;
DROP OWNED BY token_app, token_backup;
DROP ROLE token_app, token_backup;
