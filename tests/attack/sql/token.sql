-- Tokens: forging one, using it for more than it says, and getting at the keys or at another's token.
-- Attacker: mallory, the application's role, who has a token for acme and knows the public key; wanda, with
-- pg_read_all_data and pg_write_all_data, and past row security to read, as a role for backups is; trudy, whose
-- session runs beside mallory's.
-- To gain: a binding to globex; the secret that signs any.
\set SHOW_CONTEXT never
\set super :USER
-- The signer's secret is not in this file's expected output.
SELECT set_config('referee.secret', encode(sha256('of the attack suite'), 'hex'), false) IS NOT NULL AS ok;
SET client_min_messages = error;
DELETE FROM crm_tree.signing_key;
SELECT crm_tree.add_signing_key('h', 'HS256', decode(current_setting('referee.secret'), 'hex'));
SELECT crm_tree.add_signing_key('e', 'EdDSA', '\xd75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a');
SELECT crm_tree.add_signing_key('gone', 'HS256', decode(repeat('00', 32), 'hex'));
SELECT crm_tree.retire_signing_key('gone');
\set acme_token eyJhbGciOiJFZERTQSIsImtpZCI6ImUifQ.eyJvcmciOiJhYWFhYWFhYS0wMDAwLTQwMDAtODAwMC0wMDAwMDAwMDAwMGEiLCJzdWIiOiJhbm4iLCJleHAiOjQxMDI0NDQ4MDB9.ibwYoObt6E7gdbMDCBvp9Eih3bmyRvGDBcIOo9by7fCOE38G4cyCXPa8IwD-aQk9F9iS45piZufJWR9pN8YaDw
CREATE ROLE wanda_past_the_wall LOGIN BYPASSRLS;
GRANT pg_read_all_data TO wanda_past_the_wall;

\c - mallory_the_app_user
CREATE FUNCTION lair.b64(text) RETURNS text LANGUAGE sql AS $$SELECT translate(encode(convert_to($1, 'UTF8'), 'base64'), E'+/=\n', '-_')$$;
CREATE FUNCTION lair.hmac(secret bytea, message text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    key bytea := secret || decode(repeat('00', 64 - length(secret)), 'hex');
    i_pad bytea := '';
    o_pad bytea := '';
BEGIN
    FOR i IN 0..63 LOOP
        i_pad := i_pad || set_byte('\x00', 0, get_byte(key, i) # 54);
        o_pad := o_pad || set_byte('\x00', 0, get_byte(key, i) # 92);
    END LOOP;
    RETURN translate(encode(sha256(o_pad || sha256(i_pad || convert_to(message, 'UTF8'))), 'base64'), E'+/=\n', '-_');
END $$;
CREATE FUNCTION lair.forge(header text, secret bytea DEFAULT '', claims text DEFAULT '{"org":"bbbbbbbb-0000-4000-8000-00000000000b","exp":4102444800}')
    RETURNS text LANGUAGE sql AS $$SELECT m || '.' || lair.hmac(secret, m) FROM (SELECT lair.b64(header) || '.' || lair.b64(claims)) _(m)$$;
-- Tries a token, and says what it gained.
CREATE FUNCTION lair.try(token text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM crm_tree.bind_token(token);
    RETURN 'BOUND to ' || crm_tree.current_org_text();
EXCEPTION WHEN OTHERS THEN RETURN SQLERRM;
END $$;

-- What he has works, for acme and for nothing else.
BEGIN;
SELECT lair.try(:'acme_token');
SELECT count(*) FROM app.account WHERE org_id <> 'aaaaaaaa-0000-4000-8000-00000000000a';
ROLLBACK;

-- SHOULD FAIL: no signature, the public key as a shared secret, keys of his own, keys that are gone
SELECT lair.try(rtrim(lair.forge('{"alg":"none","kid":"e"}'), '-_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789'));
SELECT lair.try(lair.forge(h)) FROM unnest(ARRAY['{"alg":"none","kid":"h"}', '{"alg":"NONE","kid":"h"}', '{"alg":null,"kid":"h"}', '{"kid":"h"}', '{}']) h;
SELECT lair.try(lair.forge(format('{"alg":"%s","kid":"%s"}', alg, kid), '\xd75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a'))
  FROM unnest(ARRAY['HS256', 'EdDSA', 'ES256', 'HS384']) alg, unnest(ARRAY['h', 'e']) kid;
SELECT lair.try(lair.forge('{"alg":"HS256","kid":"gone"}', decode(repeat('00', 32), 'hex')));
SELECT lair.try(lair.forge(json_build_object('alg', 'HS256', 'kid', kid)::text))
  FROM unnest(ARRAY['', ' h', 'H', 'h''; SELECT crm_tree.bind_org(8); --', '../h', '*', NULL]) kid;
SELECT lair.try(lair.forge('{"alg":"HS256","kid":"h","jwk":{"kty":"oct","k":""},"jku":"file:///dev/null","x5u":"file:///dev/null"}'));
-- SHOULD FAIL: his own token with other claims, with no signature, with another's
SELECT lair.try(split_part(:'acme_token', '.', 1) || '.' || lair.b64('{"org":"bbbbbbbb-0000-4000-8000-00000000000b","exp":4102444800}') || '.' || split_part(:'acme_token', '.', 3));
SELECT lair.try(split_part(:'acme_token', '.', 1) || '.' || split_part(:'acme_token', '.', 2) || tail) FROM unnest(ARRAY['', '.', '..', '.AAAA']) tail;
SELECT lair.try(:'acme_token' || tail) FROM unnest(ARRAY['=', '.', ' ', 'A', E'\n']) tail;
-- SHOULD FAIL, and not crash: what is no token
SELECT lair.try(t) FROM unnest(ARRAY['', '.', '..', '...', repeat('A', 8000), repeat('.', 8000), repeat('A', 100000), 'é.é.é',
    lair.forge('{"alg":"HS256","kid":"h","a":' || repeat('[', 4000)), lair.forge(repeat('{"a":', 1000)), lair.forge('null'), lair.forge('[]')]) t;

-- SHOULD FAIL: a second org in the transaction, whichever way the first was bound
BEGIN;
SELECT crm_tree.bind_org('acme');
SELECT crm_tree.bind_token(:'acme_token');
ROLLBACK;
BEGIN;
SELECT crm_tree.bind_token(:'acme_token');
SAVEPOINT s;
SELECT crm_tree.unbind();
SELECT crm_tree.bind_org('acme');
ROLLBACK TO s;
RESET ALL;
SELECT crm_tree.bind_org('acme');
ROLLBACK;
-- SHOULD FAIL: the token's role without a grant, after the transaction of the token
\c - eve_without_grant
BEGIN;
SELECT crm_tree.bind_token(:'acme_token');
SELECT count(*) FROM app.account;
COMMIT \; BEGIN \; SELECT crm_tree.bind_org('bbbbbbbb-0000-4000-8000-00000000000b'::uuid);
ROLLBACK;
SELECT count(*) FROM app.account;
-- SHOULD FAIL: outside of a transaction, and for the session
SELECT crm_tree.bind_token(:'acme_token');
SELECT crm_tree.bind_session('aaaaaaaa-0000-4000-8000-00000000000a'::uuid);

-- SHOULD FAIL: a key of his own
\c - mallory_the_app_user
SELECT crm_tree.add_signing_key('mine', 'HS256', decode(repeat('00', 32), 'hex'));
SELECT crm_tree.retire_signing_key('h');
INSERT INTO crm_tree.signing_key (key_id, algorithm, secret) VALUES ('mine', 'HS256', '\x00');
UPDATE crm_tree.signing_key SET retires_at = NULL;
SELECT * FROM crm_tree.signing_key;
SELECT crm_tree._signing_secret_in('\x00');
SELECT '\x00'::crm_tree._signing_secret;
SET crm_tree.token_clock_skew = 300;
\c - wanda_of_all_data
INSERT INTO crm_tree.signing_key (key_id, algorithm, secret) SELECT 'mine', 'HS256', secret FROM crm_tree.signing_key;
SELECT count(*) FROM crm_tree.signing_key;

-- SHOULD GAIN NOTHING: past row security, by every way to look at a value's bytes
\c - wanda_past_the_wall
SELECT key_id, secret FROM crm_tree.signing_key ORDER BY 1;
SELECT secret::text, secret::varchar, to_json(secret), row_to_json(ROW(secret)), ARRAY[secret]::text, format('%s', secret), quote_literal(secret), concat(secret), xmlforest(secret)
  FROM crm_tree.signing_key WHERE key_id = 'h';
COPY (SELECT secret FROM crm_tree.signing_key ORDER BY key_id) TO STDOUT;
COPY (SELECT secret FROM crm_tree.signing_key) TO STDOUT (FORMAT binary);
SELECT secret::bytea FROM crm_tree.signing_key;
SELECT secret = secret FROM crm_tree.signing_key;
SELECT secret FROM crm_tree.signing_key ORDER BY secret;
SELECT hashtext(secret::text) = hashtext('') AS of_nothing FROM crm_tree.signing_key WHERE key_id = 'h';
SELECT hash_record(ROW(secret)) FROM crm_tree.signing_key;
-- SHOULD FAIL: guessing by comparing bytes, for which a guess has to be made
SELECT '\x80'::crm_tree._signing_secret;
SELECT k *< ROW('h', 'HS256', '\x80', NULL, NULL, NULL, NULL)::crm_tree.signing_key FROM crm_tree.signing_key k;
SELECT k *< json_populate_record(NULL::crm_tree.signing_key, '{"key_id": "h", "secret": "\\x80"}') FROM crm_tree.signing_key k;
CREATE FUNCTION lair.bytes(crm_tree._signing_secret) RETURNS bytea LANGUAGE internal AS 'byteaout';
CREATE CAST (crm_tree._signing_secret AS bytea) WITHOUT FUNCTION;
CREATE FUNCTION lair.bytes(s crm_tree._signing_secret) RETURNS bytea LANGUAGE plpgsql AS 'DECLARE b bytea := s; BEGIN RETURN b; END';
SELECT lair.bytes(secret) = '' AS nothing FROM crm_tree.signing_key WHERE key_id = 'h';
DROP FUNCTION lair.bytes;
-- SHOULD FAIL: writing a key that he knows, or moving one he does not know to another id
INSERT INTO crm_tree.signing_key (key_id, algorithm, secret) VALUES ('mine', 'HS256', decode(repeat('00', 32), 'hex')::text::crm_tree._signing_secret);
UPDATE crm_tree.signing_key SET secret = '\x00' WHERE key_id = 'h';

-- SHOULD GAIN NOTHING: another session of his role, which sent its token as a literal
\c - mallory_the_app_user
BEGIN;
SELECT crm_tree.bind_token(:'acme_token');
SELECT query FROM pg_stat_activity WHERE pid = pg_backend_pid();
COMMIT;
BEGIN;
SELECT crm_tree.bind_token(:'acme_token') \; SELECT query FROM pg_stat_activity WHERE pid = pg_backend_pid();
COMMIT;

\c - :super
SELECT referee.globex();
DELETE FROM crm_tree.signing_key;
DROP OWNED BY wanda_past_the_wall;
DROP ROLE wanda_past_the_wall;
