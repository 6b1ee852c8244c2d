//! The keys that tokens are signed with, and binding by such a token.

use super::binding;
use super::token::{self, Algorithm, Flaw, Key};
use crate::error::Refusal;
use crate::pg::{activity, role, scan};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};
use std::ffi::{CStr, CString};
use std::time::{SystemTime, UNIX_EPOCH};

/// Clocks kept by NTP agree within a second; more than five minutes would be a longer life for every token.
static CLOCK_SKEW: GucSetting<i32> = GucSetting::<i32>::new(30);

/// Called once, when the library is loaded.
pub fn init() {
    GucRegistry::define_int_guc(
        c"crm_tree.token_clock_skew",
        c"How far the clock of whoever signs a token may be from the server's.",
        c"A token is taken that much before its nbf and after its exp.",
        &CLOCK_SKEW,
        0,
        300,
        GucContext::Sighup,
        GucFlags::UNIT_S,
    );
}

#[pg_extern(sql = false)]
fn bind_token(token: &str) {
    activity::hide(token);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    match token::verify(token, live_key, now, CLOCK_SKEW.get().into()) {
        Ok(proof) => binding::bind_proven(&proof.org, proof.user.as_deref()),
        Err(flaw) => refuse(flaw),
    }
}

fn refuse(flaw: Flaw) -> ! {
    let refusal = Refusal::new(
        PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
        format!("the token does not hold: {}", flaw.told()),
    );
    match flaw {
        Flaw::Key => refusal.hint("A superuser can add it: SELECT crm_tree.add_signing_key('<kid>', 'EdDSA', '<public key>');"),
        Flaw::Expired => refusal.hint("Have a new one signed: exp is checked at each bind."),
        _ => refusal.hint("It is a JWT with alg and kid in its header and org, exp and, as you like, sub and nbf as claims."),
    }
    .raise()
}

fn live_key(key_id: &str) -> Option<Key> {
    let now = pgrx::datum::datetime_support::clock_timestamp();
    let mut key = None;
    scan::by_text_key(c"signing_key", c"signing_key_pkey", key_id, |found| {
        let retires = found.row.get_by_name::<TimestampWithTimeZone>("retires_at").ok().flatten();
        let algorithm = found.shown(c"algorithm").and_then(|name| Algorithm::of(&name));
        if retires.is_none_or(|at| now < at)
            && let (Some(algorithm), Some(bytes)) = (algorithm, found.bytes(c"secret"))
        {
            key = Key::new(algorithm, &bytes, found.shown(c"audience")).ok();
        }
        true
    });
    key
}

fn refuse_parameter(message: String, hint: &str) -> ! {
    Refusal::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, message).hint(hint).raise()
}

#[pg_extern(sql = false)]
fn add_signing_key(
    key_id: Option<&str>,
    algorithm: Option<&str>,
    key: Option<&[u8]>,
    audience: Option<&str>,
) {
    activity::show_instead("SELECT crm_tree.add_signing_key(…)");
    let (Some(key_id), Some(algorithm), Some(key)) = (key_id, algorithm, key) else {
        refuse_parameter(
            "a signing key without id, algorithm or key is none".into(),
            "SELECT crm_tree.add_signing_key('<kid>', 'EdDSA', '<public key>');",
        )
    };
    if key_id.is_empty() || key_id.len() > 200 || key_id.chars().any(char::is_control) {
        refuse_parameter(
            "a key id is 1 to 200 bytes without control characters".into(),
            "It is what tokens have as kid in their header, for example '2026-11'.",
        )
    }
    let Some(kind) = Algorithm::of(algorithm) else {
        refuse_parameter(
            format!("algorithm {algorithm:?} is not known"),
            "EdDSA, with the signer's public Ed25519 key; or HS256, with a shared secret.",
        )
    };
    let key = Key::new(kind, key, None).unwrap_or_else(|why| {
        refuse_parameter(
            format!("the key \"{key_id}\" is none: {why}"),
            "Pass it as bytea, for example decode('<base64>', 'base64').",
        )
    });
    // As text: the type's input function is the only way in.
    let secret = text_of(key.bytes());
    let added = role::as_extension_owner(|| {
        Spi::get_one_with_args::<i64>(
            "WITH added AS (
                 INSERT INTO crm_tree.signing_key (key_id, algorithm, secret, audience)
                 VALUES ($1, $2, $3::pg_catalog.text::crm_tree._signing_secret, $4)
                 ON CONFLICT (key_id) DO NOTHING RETURNING 1)
             SELECT pg_catalog.count(*) FROM added",
            &[key_id.into(), algorithm.into(), secret.as_str().into(), audience.into()],
        )
    });
    if added != Ok(Some(1)) {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_UNIQUE_VIOLATION,
            format!("there is a signing key \"{key_id}\" already"),
        )
        .hint("A key keeps its id, retired too. Add the new one under another.")
        .raise()
    }
}

#[pg_extern(sql = false)]
fn retire_signing_key(key_id: &str, at: TimestampWithTimeZone) {
    let retired = role::as_extension_owner(|| {
        Spi::get_one_with_args::<i64>(
            "WITH retired AS (
                 UPDATE crm_tree.signing_key SET retires_at = $2
                  WHERE key_id OPERATOR(pg_catalog.=) $1
                    AND (retires_at IS NULL OR retires_at OPERATOR(pg_catalog.>) pg_catalog.clock_timestamp()) RETURNING 1)
             SELECT pg_catalog.count(*) FROM retired",
            &[key_id.into(), at.into()],
        )
    });
    if retired != Ok(Some(1)) {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
            format!("there is no signing key \"{key_id}\" that is not retired"),
        )
        .hint("SELECT key_id, retires_at FROM crm_tree.signing_key; as a superuser. A retired key stays retired.")
        .raise()
    }
}

/// The type of the stored keys is for superusers, also where a role passes row security and reads
/// every table (BYPASSRLS with pg_read_all_data, as backups run): others see nothing of a value, and
/// can make none to compare it with (`ROW(secret) *< ROW(guess)` compares bytes of any type).
#[pg_extern(sql = false)]
fn _signing_secret_out(secret: &[u8]) -> CString {
    let text = if role::is_superuser(role::current()) { text_of(secret) } else { String::new() };
    CString::new(text).expect("hexadecimal digits")
}

#[pg_extern(sql = false)]
fn _signing_secret_in(text: &CStr) -> Vec<u8> {
    if !role::is_superuser(role::current()) {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
            "only a superuser can write a signing key down",
        )
        .hint("SELECT crm_tree.add_signing_key(…);")
        .raise()
    }
    text.to_str().ok().and_then(bytes_of).unwrap_or_else(|| {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_INVALID_TEXT_REPRESENTATION,
            "a signing key is written as \\x and pairs of hexadecimal digits",
        )
        .hint("An empty one was read by somebody who is no superuser.")
        .raise()
    })
}

fn bytes_of(text: &str) -> Option<Vec<u8>> {
    let digits = text
        .strip_prefix("\\x")
        .filter(|d| !d.is_empty() && d.len() % 2 == 0 && d.bytes().all(|b| b.is_ascii_hexdigit()))?;
    (0..digits.len()).step_by(2).map(|i| u8::from_str_radix(&digits[i..i + 2], 16).ok()).collect()
}

fn text_of(bytes: &[u8]) -> String {
    bytes.iter().fold(String::from("\\x"), |text, byte| format!("{text}{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::{bytes_of, text_of};
    use proptest::prelude::*;

    #[test]
    fn what_is_no_key_is_not_read_as_one() {
        for bad in ["", "\\x", "\\x1", "\\xg0", "\\x+1", "00", "\\xé"] {
            assert_eq!(bytes_of(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_key_is_read_as_it_is_written(bytes in prop::collection::vec(any::<u8>(), 1..80)) {
            prop_assert_eq!(bytes_of(&text_of(&bytes)), Some(bytes));
        }
    }
}
