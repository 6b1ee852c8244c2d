-- Binding by a signed token, and the keys that tokens are signed with.

-- What BYPASSRLS with pg_read_all_data reads too, a role for backups for example, but not what it may know.
CREATE TYPE crm_tree._signing_secret;
CREATE FUNCTION crm_tree._signing_secret_in(cstring) RETURNS crm_tree._signing_secret
    LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', '_signing_secret_in_wrapper';
CREATE FUNCTION crm_tree._signing_secret_out(crm_tree._signing_secret) RETURNS cstring
    LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', '_signing_secret_out_wrapper';
CREATE TYPE crm_tree._signing_secret (
    INPUT = crm_tree._signing_secret_in, OUTPUT = crm_tree._signing_secret_out, STORAGE = extended);
COMMENT ON TYPE crm_tree._signing_secret IS 'Bytes that superusers read and write, as hexadecimal digits; to everybody else they are empty.';

CREATE TABLE crm_tree.signing_key (
    key_id     text COLLATE "C" PRIMARY KEY,
    algorithm  text NOT NULL CHECK (algorithm IN ('HS256', 'EdDSA')),
    secret     crm_tree._signing_secret NOT NULL,
    audience   text,
    retires_at timestamptz,
    added_by   text NOT NULL DEFAULT session_user,
    added_at   timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE crm_tree.signing_key ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON crm_tree.signing_key FROM PUBLIC;
COMMENT ON TABLE crm_tree.signing_key IS 'The keys that tokens are signed with, for superusers. Written by add_signing_key() and retire_signing_key(). Not part of a dump: a key in a backup is a key in many hands.';

CREATE FUNCTION crm_tree.bind_token(token text) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'bind_token_wrapper';
COMMENT ON FUNCTION crm_tree.bind_token(text) IS 'Binds the transaction to the org and user that a signed token (JWT: HS256 or EdDSA, kid, claims org, sub, exp, nbf) names. Needs no grant: the signature is the authority. 42501 where the token does not hold, with the reason and without the token; written once as with bind_org(). Pass it as a parameter.';

CREATE FUNCTION crm_tree.add_signing_key(key_id text, algorithm text, key bytea, audience text DEFAULT NULL) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'add_signing_key_wrapper';
COMMENT ON FUNCTION crm_tree.add_signing_key(text, text, bytea, text) IS 'Adds a key that tokens may be signed with: EdDSA with the public Ed25519 key (32 bytes, or DER), or HS256 with a secret of at least 32 bytes. With an audience, tokens of this key have to name it in aud; without one, they must have no aud. Whoever may execute this can bind any org.';

CREATE FUNCTION crm_tree.retire_signing_key(key_id text, at timestamptz DEFAULT now()) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'retire_signing_key_wrapper';
COMMENT ON FUNCTION crm_tree.retire_signing_key(text, timestamptz) IS 'From that moment on the key''s tokens are refused. Can be moved until it is there; a retired key stays retired, and its id taken. Transactions already bound stay bound.';

REVOKE ALL ON FUNCTION
    crm_tree._signing_secret_in(cstring), crm_tree._signing_secret_out(crm_tree._signing_secret),
    crm_tree.add_signing_key(text, text, bytea, text), crm_tree.retire_signing_key(text, timestamptz)
    FROM PUBLIC;
REVOKE ALL ON TYPE crm_tree._signing_secret FROM PUBLIC;
