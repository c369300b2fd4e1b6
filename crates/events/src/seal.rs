//! Personal fields, and the one choke point that seals and opens them.
//!
//! An immutable log must still be able to forget a person. A personal field is stored as AES-256-GCM ciphertext under a
//! key of that person's own, with (event id, field) as associated data, so that a ciphertext cannot be moved elsewhere.
//! The person's key is itself wrapped by the master key. Destroying it makes every copy of the log unreadable there.
//! A [`Personal`] that is not sealed does not serialise: plaintext cannot reach the log by mistake.

use std::borrow::Cow;

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use rand::RngCore;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::fact::Fact;
use crate::id::{EventId, TenantId, UserId};

const NONCE: usize = 12;

/// A text about a person: in the clear in memory, sealed wherever it is kept, erased when its key is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Personal {
    /// Readable.
    Clear(String),
    /// Nonce and ciphertext, base64.
    Sealed(String),
    /// The person was erased; nobody can read it any more.
    Erased,
}

impl Personal {
    /// The text, when it is readable.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Clear(text) => Some(text),
            Self::Sealed(_) | Self::Erased => None,
        }
    }
}

impl From<&str> for Personal {
    fn from(text: &str) -> Self {
        Self::Clear(text.to_owned())
    }
}

impl From<String> for Personal {
    fn from(text: String) -> Self {
        Self::Clear(text)
    }
}

#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    sealed: Cow<'a, str>,
}

impl Serialize for Personal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Sealed(sealed) => Stored {
                sealed: Cow::Borrowed(sealed),
            }
            .serialize(serializer),
            Self::Clear(_) | Self::Erased => Err(S::Error::custom(
                "a personal field is kept only when sealed",
            )),
        }
    }
}

impl<'de> Deserialize<'de> for Personal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let stored = Stored::deserialize(deserializer)?;
        match BASE64.decode(stored.sealed.as_bytes()) {
            Ok(bytes) if bytes.len() > NONCE => Ok(Self::Sealed(stored.sealed.into_owned())),
            _ => Err(D::Error::custom("not a sealed field")),
        }
    }
}

impl JsonSchema for Personal {
    fn schema_name() -> Cow<'static, str> {
        "Personal".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "description": "A text about the acting person, sealed under that person's key.",
            "properties": {"sealed": {"type": "string", "description": "12-byte nonce, AES-256-GCM ciphertext and tag; base64."}},
            "required": ["sealed"],
            "additionalProperties": false,
            "personal": true
        })
    }
}

/// A field of a fact that may hold a [`Personal`].
pub trait PersonalField {
    /// The personal text, when the field is there.
    fn slot(&mut self) -> Option<&mut Personal>;

    /// Whether the field is there.
    fn is_there(&self) -> bool;
}

impl PersonalField for Personal {
    fn slot(&mut self) -> Option<&mut Personal> {
        Some(self)
    }

    fn is_there(&self) -> bool {
        true
    }
}

impl PersonalField for Option<Personal> {
    fn slot(&mut self) -> Option<&mut Personal> {
        self.as_mut()
    }

    fn is_there(&self) -> bool {
        self.is_some()
    }
}

/// Why sealing or opening failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The master key is not the one that this log's keys are wrapped with.
    #[error(
        "the master key does not open this log's keys: is MASTER_KEY the one this log was written with? While one replaces \
         another, SECOND_MASTER_KEY is read too"
    )]
    WrongMasterKey,
    /// The ciphertext belongs to another fact or field, or was altered.
    #[error("field `{0}` does not open: it was altered or moved")]
    Altered(&'static str),
    /// The person was erased.
    #[error("the person was erased")]
    Erased,
}

/// A 256-bit key.
#[derive(Clone)]
pub struct Key([u8; 32]);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(***)")
    }
}

impl Key {
    /// A key from its bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A fresh random key.
    pub fn random() -> Self {
        let mut bytes = [0; 32];
        rand::rng().fill_bytes(&mut bytes);
        Self(bytes)
    }

    /// A person's key under this master key, to be kept.
    pub fn wrap(&self, tenant: TenantId, person: UserId, key: &Self) -> Vec<u8> {
        self.encrypt(&key.0, &owner(tenant, person))
    }

    /// A person's key, from what [`Key::wrap`] gave under the same master key.
    pub fn unwrap(&self, tenant: TenantId, person: UserId, wrapped: &[u8]) -> Option<Self> {
        let bytes = self.decrypt(wrapped, &owner(tenant, person))?;
        bytes.try_into().map(Self).ok()
    }

    /// What tells this master key from others, to be kept.
    pub fn check_value(&self) -> Vec<u8> {
        self.encrypt(CHECK, CHECK)
    }

    /// Whether [`Key::check_value`] of this master key gave `kept`.
    pub fn gave(&self, kept: &[u8]) -> bool {
        self.decrypt(kept, CHECK).is_some()
    }

    fn encrypt(&self, text: &[u8], associated: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE];
        rand::rng().fill_bytes(&mut nonce);
        let cipher = Aes256Gcm::new((&self.0).into());
        let sealed = cipher
            .encrypt(
                (&nonce).into(),
                Payload {
                    msg: text,
                    aad: associated,
                },
            )
            .expect("AES-GCM seals anything under 64 GiB");
        [nonce.as_slice(), &sealed].concat()
    }

    fn decrypt(&self, sealed: &[u8], associated: &[u8]) -> Option<Vec<u8>> {
        let (nonce, text) = sealed.split_at_checked(NONCE)?;
        Aes256Gcm::new((&self.0).into())
            .decrypt(
                nonce.into(),
                Payload {
                    msg: text,
                    aad: associated,
                },
            )
            .ok()
    }
}

/// What a check value says.
const CHECK: &[u8] = b"cinelog master key";

/// Whose a wrapped key is: in another tenant, or for another person, it does not open.
fn owner(tenant: TenantId, person: UserId) -> Vec<u8> {
    [tenant.0.as_bytes().as_slice(), person.0.as_bytes()].concat()
}

fn associated(event: EventId, field: &str) -> Vec<u8> {
    [event.0.as_bytes(), field.as_bytes()].concat()
}

/// Seals every readable personal field of `fact` under its person's key.
pub fn seal(fact: &mut Fact, event: EventId, key: &Key) {
    for (field, personal) in fact.personal() {
        if let Personal::Clear(text) = personal {
            let sealed = key.encrypt(text.as_bytes(), &associated(event, field));
            *personal = Personal::Sealed(BASE64.encode(sealed));
        }
    }
}

/// Opens every sealed field of `fact`; without a key they become [`Personal::Erased`].
pub fn open(fact: &mut Fact, event: EventId, key: Option<&Key>) -> Result<(), SealError> {
    for (field, personal) in fact.personal() {
        let Personal::Sealed(sealed) = personal else {
            continue;
        };
        *personal = match key {
            None => Personal::Erased,
            Some(key) => {
                let bytes = BASE64
                    .decode(sealed.as_bytes())
                    .map_err(|_| SealError::Altered(field))?;
                let text = key
                    .decrypt(&bytes, &associated(event, field))
                    .ok_or(SealError::Altered(field))?;
                Personal::Clear(String::from_utf8(text).map_err(|_| SealError::Altered(field))?)
            }
        };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::fact::post::{PostPublished, Visibility};
    use crate::id::{PostId, UserId};

    fn post() -> Fact {
        let post = PostPublished {
            post: PostId(Uuid::from_u128(1)),
            author: UserId(Uuid::from_u128(2)),
            text: "Hola desde Cádiz".into(),
            place: Some("Cádiz".into()),
            location: None,
            language: None,
            assets: vec![],
            visibility: Visibility::Public,
        };
        post.into()
    }

    #[test]
    fn plaintext_does_not_serialise() {
        assert!(post().to_payload().is_err());
    }

    #[test]
    fn a_sealed_fact_opens_with_its_key_and_only_there() {
        let (key, event, other) = (
            Key::random(),
            EventId(Uuid::from_u128(7)),
            EventId(Uuid::from_u128(8)),
        );
        let mut fact = post();
        seal(&mut fact, event, &key);
        let payload = fact.to_payload().unwrap();
        // A shorter word may come of chance: ciphertext is written in letters.
        for clear in ["desde", "Cádiz"] {
            assert!(!payload.contains(clear), "{payload}");
        }

        let read = || {
            Fact::from_payload(
                "post.published",
                1,
                &mut serde_json::Deserializer::from_str(&payload),
            )
            .unwrap()
        };
        let mut opened = read();
        open(&mut opened, event, Some(&key)).unwrap();
        assert_eq!(opened, post());
        assert_eq!(
            open(&mut read(), other, Some(&key)),
            Err(SealError::Altered("text"))
        );
        assert_eq!(
            open(&mut read(), event, Some(&Key::random())),
            Err(SealError::Altered("text"))
        );
    }

    #[test]
    fn without_a_key_the_fields_are_erased_and_the_rest_stays() {
        let (event, mut fact) = (EventId(Uuid::from_u128(7)), post());
        seal(&mut fact, event, &Key::random());
        open(&mut fact, event, None).unwrap();
        let Fact::PostPublished(post) = fact else {
            panic!("another fact")
        };
        assert_eq!(
            (post.text, post.place),
            (Personal::Erased, Some(Personal::Erased))
        );
        assert_eq!(post.visibility, Visibility::Public);
    }

    #[test]
    fn a_wrapped_key_opens_under_its_master_key_for_its_owner_only() {
        let (master, key) = (Key::random(), Key::random());
        let (tenant, person) = (TenantId(Uuid::from_u128(3)), UserId(Uuid::from_u128(4)));
        let wrapped = master.wrap(tenant, person, &key);
        let opened = |master: &Key, tenant, person| master.unwrap(tenant, person, &wrapped);
        assert_eq!(
            opened(&master, tenant, person).map(|key| key.0),
            Some(key.0)
        );
        assert!(opened(&Key::random(), tenant, person).is_none());
        assert!(opened(&master, tenant, UserId(Uuid::from_u128(5))).is_none());
        assert!(opened(&master, TenantId(Uuid::from_u128(5)), person).is_none());
    }

    #[test]
    fn a_check_value_tells_its_master_key_from_another() {
        let master = Key::random();
        assert!(master.gave(&master.check_value()));
        assert!(!Key::random().gave(&master.check_value()));
    }
}
