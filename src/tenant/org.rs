//! What names an org. Pure: no server needed.

use std::fmt::Write;

/// An org's name: its canonical text, and the key it stands for where that text is the canonical
/// form of a uuid or a bigint. `'7'` and bigint `7` are one org, `'07'` is another.
///
/// An untyped literal reaches the text form of every function here; reading the key back from the
/// canonical text lets it name the same org as the typed call. The canonical form is one to one, so
/// no two keys share a name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OrgId(String);

/// What an org column compares with the bound org.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrgKind {
    Uuid,
    Bigint,
    Text,
}

impl OrgKind {
    pub fn name(self) -> &'static str {
        match self {
            OrgKind::Uuid => "uuid",
            OrgKind::Bigint => "bigint",
            OrgKind::Text => "text",
        }
    }
}

/// Longest org name taken, in bytes.
pub const MAX_BYTES: usize = 200;

/// Stands for every org in a grant; itself it cannot be bound.
pub const ANY: &str = "*";

impl OrgId {
    /// Takes a name from outside. The error says what is wrong with it.
    pub fn parse(text: &str) -> Result<OrgId, &'static str> {
        if text.is_empty() {
            Err("it is empty")
        } else if text.len() > MAX_BYTES {
            Err("it is longer than 200 bytes")
        } else if text.chars().any(char::is_control) {
            Err("it has a control character")
        } else if text == ANY {
            Err("'*' stands for every org in a grant and names none")
        } else {
            Ok(OrgId(text.to_owned()))
        }
    }

    /// Reads back a name that `parse` accepted before.
    pub fn from_stored(text: &str) -> OrgId {
        OrgId(text.to_owned())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key, where the name is a uuid in lower case with hyphens.
    pub fn uuid(&self) -> Option<[u8; 16]> {
        let parsed = uuid::Uuid::try_parse(&self.0).ok()?;
        let mut canonical = String::with_capacity(36);
        write!(canonical, "{}", parsed.hyphenated()).ok()?;
        (canonical == self.0).then(|| *parsed.as_bytes())
    }

    /// The key, where the name is an integer without leading zeros or plus sign.
    pub fn bigint(&self) -> Option<i64> {
        let parsed: i64 = self.0.parse().ok()?;
        (parsed.to_string() == self.0).then_some(parsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn refuses_what_cannot_name_an_org() {
        for bad in ["", "*", "a\nb", "a\0b", &"x".repeat(201)] {
            assert!(OrgId::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn only_canonical_text_is_a_key() {
        assert_eq!(OrgId::from_stored("7").bigint(), Some(7));
        for other in ["07", "+7", " 7", "-0", "7.0", "9223372036854775808"] {
            assert_eq!(OrgId::from_stored(other).bigint(), None, "{other:?}");
        }
        let key = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
        assert!(OrgId::from_stored(key).uuid().is_some());
        assert!(OrgId::from_stored(&key.to_uppercase()).uuid().is_none());
        assert!(OrgId::from_stored(&key.replace('-', "")).uuid().is_none());
        assert!(OrgId::from_stored(&format!("{{{key}}}")).uuid().is_none());
    }

    proptest! {
        #[test]
        fn a_key_and_its_name_are_one_to_one(bytes: [u8; 16], n: i64) {
            let id = OrgId::from_stored(&uuid::Uuid::from_bytes(bytes).to_string());
            prop_assert_eq!(id.uuid(), Some(bytes));
            prop_assert_eq!(id.bigint(), None);
            prop_assert_eq!(OrgId::from_stored(&n.to_string()).bigint(), Some(n));
        }

        #[test]
        fn any_text_that_is_a_key_is_that_keys_name(text in "\\PC{0,40}|[-0-9a-f]{30,40}|[-+0-9 ]{1,20}") {
            let id = OrgId::from_stored(&text);
            if let Some(key) = id.uuid() {
                prop_assert_eq!(uuid::Uuid::from_bytes(key).to_string(), text.clone());
            }
            if let Some(key) = id.bigint() {
                prop_assert_eq!(key.to_string(), text);
            }
        }
    }
}
