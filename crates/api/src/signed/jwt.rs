//! Our own tokens as text: JWT signed by HS256. Whether one still holds is for whoever has a clock.

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The issuer of our own tokens; a user is (issuer, account).
pub const ISSUER: &str = "cinelog";

/// What a token of ours says; `R` is a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claims<R> {
    pub(crate) iss: String,
    pub(crate) sub: String,
    pub(crate) tenant: Uuid,
    pub(crate) roles: Vec<R>,
    pub(crate) exp: i64,
    /// The session that it ends with; none: it ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sid: Option<Uuid>,
}

/// Signs and reads tokens under one key.
pub(crate) struct Tokens {
    sign: EncodingKey,
    verify: DecodingKey,
    rules: Validation,
}

impl Tokens {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        let mut rules = Validation::new(Algorithm::HS256);
        rules.set_issuer(&[ISSUER]);
        rules.set_required_spec_claims(&["iss", "sub", "exp"]);
        // Checked by the caller, against our own clock.
        rules.validate_exp = false;
        Self {
            sign: EncodingKey::from_secret(key),
            verify: DecodingKey::from_secret(key),
            rules,
        }
    }

    pub(crate) fn sign<R: Serialize>(&self, claims: &Claims<R>) -> String {
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &self.sign)
            .expect("plain claims serialise and sign")
    }

    /// What a token says, if we signed it.
    pub(crate) fn read<R: DeserializeOwned + Clone>(&self, token: &str) -> Option<Claims<R>> {
        let read = jsonwebtoken::decode::<Claims<R>>(token, &self.verify, &self.rules);
        read.ok().map(|read| read.claims)
    }
}
