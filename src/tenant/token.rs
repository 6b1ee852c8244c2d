//! What a signed token (JWT) proves. Pure: no server needed.
//!
//! The algorithm belongs to the key, never to the token: the token's `alg` has to name it, and no code
//! for another one is linked in, "none" included.

use super::binding::is_user_id;
use super::org::OrgId;
use ed25519_dalek::{Signature, VerifyingKey};
use hmac::{Hmac, KeyInit, Mac};
use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{DecodingKey, Validation};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use sha2::Sha256;
use signature::Verifier;
use std::fmt::Formatter;

/// Longest token read, in bytes: an attacker chooses what is parsed before the signature is checked.
pub const MAX_BYTES: usize = 8192;

/// RFC 7518: a key for HS256 has at least the 256 bits of the hash.
const MIN_SECRET_BYTES: usize = 32;

/// How a public Ed25519 key begins in DER (SubjectPublicKeyInfo); its 32 bytes follow.
const ED25519_DER: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Hs256,
    EdDsa,
}

impl Algorithm {
    pub fn of(name: &str) -> Option<Algorithm> {
        match name {
            "HS256" => Some(Algorithm::Hs256),
            "EdDSA" => Some(Algorithm::EdDsa),
            _ => None,
        }
    }

    fn jwt(self) -> jsonwebtoken::Algorithm {
        match self {
            Algorithm::Hs256 => jsonwebtoken::Algorithm::HS256,
            Algorithm::EdDsa => jsonwebtoken::Algorithm::EdDSA,
        }
    }
}

/// A key that tokens may be signed with.
#[derive(Clone)]
pub struct Key {
    algorithm: Algorithm,
    bytes: Vec<u8>,
    audience: Option<String>,
}

impl Key {
    /// Takes a key as it is stored or passed in. The error says what is wrong with it.
    pub fn new(algorithm: Algorithm, bytes: &[u8], audience: Option<String>) -> Result<Key, &'static str> {
        let bytes = match algorithm {
            Algorithm::Hs256 if bytes.len() < MIN_SECRET_BYTES => {
                return Err("a secret for HS256 has at least 32 bytes");
            }
            Algorithm::Hs256 => bytes,
            Algorithm::EdDsa => {
                let raw = bytes.strip_prefix(&ED25519_DER).unwrap_or(bytes);
                match public_key(raw) {
                    // Whoever likes can sign for a weak one.
                    Some(key) if !key.is_weak() => raw,
                    _ => return Err("a key for EdDSA is a public Ed25519 key, as its 32 bytes or in DER"),
                }
            }
        };
        Ok(Key { algorithm, bytes: bytes.to_vec(), audience })
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

fn public_key(bytes: &[u8]) -> Option<VerifyingKey> {
    VerifyingKey::from_bytes(bytes.try_into().ok()?).ok()
}

/// What a token that holds says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    pub org: OrgId,
    pub user: Option<String>,
}

/// Why a token does not hold. Without a word of the token itself: refusals are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    Form,
    KeyId,
    Key,
    Algorithm,
    Signature,
    Claim(&'static str),
    Audience,
    Expired,
    TooEarly,
}

impl Flaw {
    pub fn told(self) -> String {
        match self {
            Flaw::Form => "it is no JWT signed with HS256 or EdDSA".into(),
            Flaw::KeyId => "its header names no key (kid)".into(),
            Flaw::Key => "its key is not known, or is retired".into(),
            Flaw::Algorithm => "its algorithm is not the one of its key".into(),
            Flaw::Signature => "its signature does not match".into(),
            Flaw::Claim(what) => format!("its claim {what}"),
            Flaw::Audience => "it is meant for another audience than its key serves here".into(),
            Flaw::Expired => "it has expired".into(),
            Flaw::TooEarly => "it is not valid yet".into(),
        }
    }
}

/// The claims that are read, each as it stands. A claim given twice is an error of the parser's.
#[derive(Deserialize)]
struct Claims {
    org: Option<Value>,
    sub: Option<Value>,
    exp: Option<Value>,
    nbf: Option<Value>,
    aud: Option<Value>,
}

/// Claims by their names. An array would be taken for them by their order.
struct Object(Claims);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Named;
        impl<'de> Visitor<'de> for Named {
            type Value = Object;
            fn expecting(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object, A::Error> {
                Claims::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        from.deserialize_map(Named)
    }
}

/// Checks a token at the moment `now`, in seconds since 1970, with clocks that may differ by `skew` seconds.
/// `key_of` knows the live keys by their ids.
pub fn verify(
    token: &str,
    key_of: impl FnOnce(&str) -> Option<Key>,
    now: f64,
    skew: f64,
) -> Result<Proof, Flaw> {
    if token.len() > MAX_BYTES {
        return Err(Flaw::Form);
    }
    let header = jsonwebtoken::decode_header(token).map_err(|_| Flaw::Form)?;
    // RFC 7515: who does not understand an extension that is marked critical must refuse.
    if header.crit.is_some() {
        return Err(Flaw::Form);
    }
    let key = key_of(&header.kid.ok_or(Flaw::KeyId)?).ok_or(Flaw::Key)?;
    if header.alg != key.algorithm.jwt() {
        return Err(Flaw::Algorithm);
    }
    let claims = signed_claims(token, &key)?;

    let org = match claims.org.ok_or(Flaw::Claim("\"org\" is missing"))? {
        Value::String(name) => OrgId::parse(&name).ok(),
        Value::Number(n) => n.as_i64().and_then(|n| OrgId::parse(&n.to_string()).ok()),
        _ => None,
    };
    let org = org.ok_or(Flaw::Claim("\"org\" names no org"))?;
    let user = match claims.sub {
        None => None,
        Some(Value::String(user)) if is_user_id(&user) => Some(user),
        Some(_) => return Err(Flaw::Claim("\"sub\" is no user id")),
    };
    if !is_audience(claims.aud.as_ref(), key.audience.as_deref()) {
        return Err(Flaw::Audience);
    }
    let expires = claims.exp.ok_or(Flaw::Claim("\"exp\" is missing"))?;
    if now >= expires.as_f64().ok_or(Flaw::Claim("\"exp\" is no moment"))? + skew {
        return Err(Flaw::Expired);
    }
    if let Some(begins) = claims.nbf
        && now + skew < begins.as_f64().ok_or(Flaw::Claim("\"nbf\" is no moment"))?
    {
        return Err(Flaw::TooEarly);
    }
    Ok(Proof { org, user })
}

/// The claims, once the signature is known to be the key's.
fn signed_claims(token: &str, key: &Key) -> Result<Claims, Flaw> {
    // Refused where it was installed before, which leaves the same one in place.
    let _ = PROVIDER.install_default();
    let decoding = match key.algorithm {
        Algorithm::Hs256 => DecodingKey::from_secret(&key.bytes),
        Algorithm::EdDsa => DecodingKey::from_ed_der(&key.bytes),
    };
    // The crate reads a moment in the wrong form as none; ours are checked in `verify`.
    let mut only_the_signature = Validation::new(key.algorithm.jwt());
    only_the_signature.required_spec_claims.clear();
    only_the_signature.validate_exp = false;
    only_the_signature.validate_aud = false;
    jsonwebtoken::decode::<Object>(token, &decoding, &only_the_signature).map(|data| data.claims.0).map_err(
        |e| match e.kind() {
            ErrorKind::Json(_) => Flaw::Claim("set is no JSON object that names each once"),
            ErrorKind::InvalidSignature => Flaw::Signature,
            _ => Flaw::Form,
        },
    )
}

/// RFC 7519: a token for somebody says so, and nobody else takes it.
fn is_audience(claimed: Option<&Value>, wanted: Option<&str>) -> bool {
    match (claimed, wanted) {
        (None, None) => true,
        (Some(Value::String(one)), Some(wanted)) => one == wanted,
        (Some(Value::Array(many)), Some(wanted)) => many.iter().any(|one| one.as_str() == Some(wanted)),
        _ => false,
    }
}

/// The two algorithms, and none besides, for the crate that reads the tokens.
static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |_, _| Err(ErrorKind::InvalidAlgorithm.into()),
    verifier_factory: |algorithm, key| match algorithm {
        jsonwebtoken::Algorithm::HS256 => Ok(Box::new(Hs256(key.try_get_as_bytes()?.to_vec()))),
        jsonwebtoken::Algorithm::EdDSA => {
            let key = public_key(key.try_get_as_bytes()?).ok_or(Error::from(ErrorKind::InvalidEddsaKey))?;
            Ok(Box::new(Ed25519(key)))
        }
        _ => Err(ErrorKind::InvalidAlgorithm.into()),
    },
    key_utils: KeyUtils::new_unimplemented(),
};

struct Hs256(Vec<u8>);

impl Verifier<Vec<u8>> for Hs256 {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        let mac = Hmac::<Sha256>::new_from_slice(&self.0).map_err(|_| signature::Error::new())?;
        mac.chain_update(message).verify_slice(signature).map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for Hs256 {
    fn algorithm(&self) -> jsonwebtoken::Algorithm {
        jsonwebtoken::Algorithm::HS256
    }
}

struct Ed25519(VerifyingKey);

impl Verifier<Vec<u8>> for Ed25519 {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        let signature = Signature::from_slice(signature).map_err(|_| signature::Error::new())?;
        self.0.verify_strict(message, &signature).map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for Ed25519 {
    fn algorithm(&self) -> jsonwebtoken::Algorithm {
        jsonwebtoken::Algorithm::EdDSA
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use ed25519_dalek::{Signer, SigningKey};
    use proptest::prelude::*;
    use serde_json::json;

    const NOW: f64 = 1_800_000_000.0;
    const SECRET: [u8; 32] = [7; 32];

    fn pair() -> SigningKey {
        SigningKey::from_bytes(&[9; 32])
    }

    fn hs256() -> Key {
        Key::new(Algorithm::Hs256, &SECRET, None).expect("long enough")
    }

    fn eddsa() -> Key {
        Key::new(Algorithm::EdDsa, pair().verifying_key().as_bytes(), None).expect("a key")
    }

    /// The live keys of the tests.
    fn key_of(id: &str) -> Option<Key> {
        match id {
            "h" => Some(hs256()),
            "e" => Some(eddsa()),
            "for-us" => Some(Key { audience: Some("us".into()), ..hs256() }),
            _ => None,
        }
    }

    fn encode(bytes: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn mac(secret: &[u8], message: &str) -> Vec<u8> {
        let mac = Hmac::<Sha256>::new_from_slice(secret).expect("any length");
        mac.chain_update(message).finalize().into_bytes().to_vec()
    }

    fn signed(header: &str, claims: &str, sign: impl Fn(&str) -> Vec<u8>) -> String {
        let message = format!("{}.{}", encode(header.as_bytes()), encode(claims.as_bytes()));
        format!("{message}.{}", encode(&sign(&message)))
    }

    fn hs(claims: &Value) -> String {
        signed(r#"{"alg":"HS256","kid":"h"}"#, &claims.to_string(), |m| mac(&SECRET, m))
    }

    fn ed(claims: &Value) -> String {
        signed(r#"{"alg":"EdDSA","kid":"e"}"#, &claims.to_string(), |m| {
            pair().sign(m.as_bytes()).to_bytes().to_vec()
        })
    }

    fn check(token: &str) -> Result<Proof, Flaw> {
        verify(token, key_of, NOW, 30.0)
    }

    fn proof(org: &str, user: Option<&str>) -> Result<Proof, Flaw> {
        Ok(Proof { org: OrgId::from_stored(org), user: user.map(str::to_owned) })
    }

    #[test]
    fn both_algorithms_prove() {
        let claims =
            json!({"org": "acme", "sub": "ann", "exp": NOW + 60.0, "nbf": NOW - 60.0, "iss": "x", "iat": 1});
        assert_eq!(check(&hs(&claims)), proof("acme", Some("ann")));
        assert_eq!(check(&ed(&claims)), proof("acme", Some("ann")));
    }

    #[test]
    fn the_example_of_rfc_7515_has_no_key_id() {
        let token = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        assert_eq!(check(token), Err(Flaw::KeyId));
    }

    #[test]
    fn the_signature_of_rfc_8037_verifies() {
        let x = URL_SAFE_NO_PAD.decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").expect("base64");
        let key = Key::new(Algorithm::EdDsa, &x, None).expect("a key");
        let token = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
        // Signed well, and no JSON: what is told apart is the claim set.
        assert!(matches!(signed_claims(token, &key), Err(Flaw::Claim(_))));
        let other = Key::new(Algorithm::EdDsa, pair().verifying_key().as_bytes(), None).expect("a key");
        assert!(matches!(signed_claims(token, &other), Err(Flaw::Signature)));
    }

    #[test]
    fn the_algorithm_is_the_keys() {
        let claims = json!({"org": "acme", "exp": NOW + 60.0}).to_string();
        let public = pair().verifying_key().to_bytes();
        // The public key taken for a shared secret; a token that names the other algorithm, or none.
        for (header, flaw) in [
            (r#"{"alg":"HS256","kid":"e"}"#, Flaw::Algorithm),
            (r#"{"alg":"EdDSA","kid":"h"}"#, Flaw::Algorithm),
            (r#"{"alg":"HS384","kid":"h"}"#, Flaw::Algorithm),
            (r#"{"alg":"HS512","kid":"h"}"#, Flaw::Algorithm),
            (r#"{"alg":"RS256","kid":"h"}"#, Flaw::Algorithm),
            (r#"{"alg":"none","kid":"h"}"#, Flaw::Form),
            (r#"{"alg":"None","kid":"h"}"#, Flaw::Form),
            (r#"{"alg":"","kid":"h"}"#, Flaw::Form),
            (r#"{"kid":"h"}"#, Flaw::Form),
            (r#"{"alg":"HS256","alg":"HS256","kid":"h"}"#, Flaw::Form),
            (r#"{"alg":"HS256","kid":"h","kid":"h"}"#, Flaw::Form),
            (r#"{"alg":"HS256"}"#, Flaw::KeyId),
            (r#"{"alg":"HS256","kid":"x"}"#, Flaw::Key),
            (r#"{"alg":"HS256","kid":""}"#, Flaw::Key),
            (r#"{"alg":"HS256","kid":"h","crit":["b64"],"b64":false}"#, Flaw::Form),
        ] {
            for secret in [&SECRET, &public] {
                assert_eq!(check(&signed(header, &claims, |m| mac(secret, m))), Err(flaw), "{header}");
            }
            assert_eq!(check(&signed(header, &claims, |_| vec![])), Err(flaw), "{header}");
        }
    }

    #[test]
    fn a_key_brought_along_is_not_asked() {
        let header =
            r#"{"alg":"HS256","kid":"h","jwk":{"kty":"oct","k":"AAAA"},"jku":"https://evil.test/keys"}"#;
        let token =
            signed(header, &json!({"org": "acme", "exp": NOW + 60.0}).to_string(), |m| mac(&[0, 0, 0], m));
        assert_eq!(check(&token), Err(Flaw::Signature));
    }

    #[test]
    fn an_org_is_its_canonical_text() {
        let org = |org: Value| check(&hs(&json!({"org": org, "exp": NOW + 60.0})));
        assert_eq!(org(json!(7)), proof("7", None));
        assert_eq!(org(json!("7")), proof("7", None));
        assert_eq!(org(json!("07")), proof("07", None));
        assert_eq!(org(json!(-3)), proof("-3", None));
        for bad in [
            json!(7.0),
            json!(1e3),
            json!(u64::MAX),
            json!("*"),
            json!(""),
            json!(null),
            json!(true),
            json!([7]),
            json!({"id": 7}),
            json!("a\u{0}b"),
        ] {
            assert!(matches!(org(bad.clone()), Err(Flaw::Claim(_))), "{bad}");
        }
    }

    #[test]
    fn claims_of_the_wrong_form_are_not_taken_for_missing() {
        for bad in [
            json!({"org": "acme"}),
            json!({"org": "acme", "exp": null}),
            json!({"org": "acme", "exp": "9999999999"}),
            json!({"org": "acme", "exp": [NOW + 60.0]}),
            json!({"org": "acme", "exp": true}),
            json!({"org": "acme", "exp": NOW + 60.0, "nbf": "0"}),
            json!({"org": "acme", "exp": NOW + 60.0, "sub": 7}),
            json!({"org": "acme", "exp": NOW + 60.0, "sub": ""}),
            json!({"exp": NOW + 60.0}),
            json!([]),
            json!("acme"),
        ] {
            assert!(matches!(check(&hs(&bad)), Err(Flaw::Claim(_))), "{bad}");
        }
        let twice = r#"{"org":"acme","org":"globex","exp":9999999999}"#;
        let token = signed(r#"{"alg":"HS256","kid":"h"}"#, twice, |m| mac(&SECRET, m));
        assert!(matches!(check(&token), Err(Flaw::Claim(_))));
    }

    #[test]
    fn an_audience_is_not_skipped() {
        let check = |kid: &str, aud: Value| {
            let mut claims = json!({"org": "acme", "exp": NOW + 60.0});
            if !aud.is_null() {
                claims["aud"] = aud;
            }
            let header = json!({"alg": "HS256", "kid": kid}).to_string();
            check(&signed(&header, &claims.to_string(), |m| mac(&SECRET, m)))
        };
        for (kid, aud, taken) in [
            ("h", json!(null), true),
            ("h", json!("us"), false),
            ("for-us", json!("us"), true),
            ("for-us", json!(["them", "us"]), true),
            ("for-us", json!("them"), false),
            ("for-us", json!(["them"]), false),
            ("for-us", json!([]), false),
            ("for-us", json!(null), false),
        ] {
            assert_eq!(check(kid, aud.clone()).is_ok(), taken, "{kid} {aud}");
        }
    }

    #[test]
    fn keys_that_protect_nothing_are_refused() {
        assert!(Key::new(Algorithm::Hs256, &[1; 31], None).is_err());
        assert!(Key::new(Algorithm::Hs256, &[], None).is_err());
        let mut beside_the_curve = [0; 32];
        beside_the_curve[0] = 2;
        for bad in [&[0u8; 32][..], &[1; 31], &[1; 33], &beside_the_curve, &[]] {
            assert!(Key::new(Algorithm::EdDsa, bad, None).is_err(), "{bad:?}");
        }
        let mut identity = [0; 32];
        identity[0] = 1;
        assert!(Key::new(Algorithm::EdDsa, &identity, None).is_err(), "the point of order one");
        let raw = pair().verifying_key().to_bytes();
        let der = [&ED25519_DER[..], &raw].concat();
        assert_eq!(Key::new(Algorithm::EdDsa, &der, None).expect("a key").bytes(), raw);
    }

    proptest! {
        /// Against the plain rule, over moments around now.
        #[test]
        fn a_token_holds_from_nbf_to_exp(exp in -200i64..200, nbf in prop::option::of(-200i64..200), skew in 0u32..=300) {
            let mut claims = json!({"org": 1, "exp": NOW as i64 + exp});
            if let Some(nbf) = nbf {
                claims["nbf"] = json!(NOW as i64 + nbf);
            }
            let skew = i64::from(skew);
            let expected = if exp + skew <= 0 {
                Err(Flaw::Expired)
            } else if nbf.is_some_and(|nbf| nbf > skew) {
                Err(Flaw::TooEarly)
            } else {
                proof("1", None)
            };
            prop_assert_eq!(verify(&ed(&claims), key_of, NOW, skew as f64), expected);
        }

        #[test]
        fn any_org_and_user_come_through(org in "\\PC{1,40}", user in "\\PC{1,40}") {
            prop_assume!(org != "*");
            let claims = json!({"org": org, "sub": user, "exp": NOW + 1.0});
            prop_assert_eq!(check(&hs(&claims)), proof(&org, Some(&user)));
            prop_assert_eq!(check(&ed(&claims)), proof(&org, Some(&user)));
        }

        /// No other text than the signer's proves anything, but for a change in the last character that
        /// its base64 does not use.
        #[test]
        fn one_changed_byte_breaks_it(at: prop::sample::Index, to in "[A-Za-z0-9_.=+/ -]", eddsa: bool) {
            let claims = json!({"org": "acme", "sub": "ann", "exp": NOW + 60.0});
            let token = if eddsa { ed(&claims) } else { hs(&claims) };
            let at = at.index(token.len());
            let changed = format!("{}{to}{}", &token[..at], &token[at + 1..]);
            prop_assume!(changed != token);
            prop_assert!(check(&changed).is_err(), "{changed}");
        }

        #[test]
        fn another_key_signs_in_vain(secret: [u8; 32]) {
            prop_assume!(secret != SECRET);
            let claims = json!({"org": "acme", "exp": NOW + 60.0}).to_string();
            let token = signed(r#"{"alg":"HS256","kid":"h"}"#, &claims, |m| mac(&secret, m));
            prop_assert_eq!(check(&token), Err(Flaw::Signature));
            let token = signed(r#"{"alg":"EdDSA","kid":"e"}"#, &claims, |m| {
                SigningKey::from_bytes(&secret).sign(m.as_bytes()).to_bytes().to_vec()
            });
            prop_assert_eq!(check(&token), Err(Flaw::Signature));
        }

        #[test]
        fn noise_is_refused_without_a_panic(noise in "\\PC{0,200}|[A-Za-z0-9_-]{0,60}\\.[A-Za-z0-9_-]{0,60}\\.[A-Za-z0-9_-]{0,60}") {
            prop_assert!(check(&noise).is_err());
        }
    }

    #[test]
    fn what_is_too_long_is_not_parsed() {
        let claims = json!({"org": "acme", "exp": NOW + 60.0, "pad": "x".repeat(MAX_BYTES)});
        assert_eq!(check(&hs(&claims)), Err(Flaw::Form));
    }
}
