//! Who asks: bearer tokens, JWT signed by HS256 under a key derived from the installation's secret. The header's own
//! algorithm and key hints (`jku`, `jwk`, `x5u`) decide nothing.

use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use chrono::{DateTime, Utc};
use events::id::{TenantId, UserId};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use service::secret::Secret;

use crate::problem::{Kind, Problem};
use crate::state::{ApiState, root_key};

/// The issuer of our own tokens; a user is (issuer, account).
pub const ISSUER: &str = "cinelog";

/// What a bearer may do beyond what every user may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Uses the product.
    Member,
    /// Hides content and suspends accounts of a tenant.
    Moderator,
    /// Runs the platform.
    Operator,
    /// Reads the tenant's facts.
    Data,
    /// Reads all facts.
    DataGlobal,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    tenant: TenantId,
    roles: Vec<Role>,
    exp: i64,
}

/// Who asks, proven.
#[derive(Clone, Debug)]
pub(crate) struct Principal {
    pub(crate) tenant: TenantId,
    pub(crate) user: UserId,
    /// What the issuer calls the user. Personal: it goes into a sealed field and nowhere else.
    pub(crate) account: String,
    /// With which rights beyond those of every user.
    pub(crate) roles: Vec<Role>,
    /// Until when; what streams ends then.
    pub(crate) until: DateTime<Utc>,
}

impl Principal {
    /// Refuses those who are no moderators of their tenant.
    pub(crate) fn must_moderate(&self) -> Result<(), Problem> {
        if self.roles.contains(&Role::Moderator) {
            return Ok(());
        }
        Err(Problem::from(Kind::Forbidden).detail("this is for the role moderator"))
    }
}

/// A token by which `subject` acts in `tenant` until `ttl` after `now`.
///
/// # Panics
///
/// Never: the claims are plain values, and HS256 signs any bytes.
pub fn issue(
    secret: &Secret,
    tenant: TenantId,
    subject: &str,
    roles: &[Role],
    ttl: Duration,
    now: DateTime<Utc>,
) -> String {
    let exp = now.timestamp().saturating_add_unsigned(ttl.as_secs());
    let claims = Claims {
        iss: ISSUER.to_owned(),
        sub: subject.to_owned(),
        tenant,
        roles: roles.to_vec(),
        exp,
    };
    let key = EncodingKey::from_secret(&signing_key(secret));
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key)
        .expect("plain claims serialise and sign")
}

fn signing_key(secret: &Secret) -> [u8; 32] {
    root_key(secret).derive("token").sign(&[])
}

/// Checks tokens.
pub(crate) struct Verifier {
    key: DecodingKey,
    rules: Validation,
}

impl Verifier {
    pub(crate) fn new(secret: &Secret) -> Self {
        let mut rules = Validation::new(Algorithm::HS256);
        rules.set_issuer(&[ISSUER]);
        rules.set_required_spec_claims(&["iss", "sub", "exp"]);
        // Checked below, against our own clock.
        rules.validate_exp = false;
        Self {
            key: DecodingKey::from_secret(&signing_key(secret)),
            rules,
        }
    }

    pub(crate) fn verify(&self, token: &str, now: DateTime<Utc>) -> Result<Principal, Problem> {
        let claims = jsonwebtoken::decode::<Claims>(token, &self.key, &self.rules)
            .map_err(|_| Kind::TokenInvalid)?
            .claims;
        let until = DateTime::from_timestamp(claims.exp, 0).ok_or(Kind::TokenInvalid)?;
        if until <= now {
            return Err(Kind::TokenExpired.into());
        }
        let user = UserId::of(&claims.iss, &claims.sub);
        Ok(Principal {
            tenant: claims.tenant,
            user,
            account: claims.sub,
            roles: claims.roles,
            until,
        })
    }
}

impl ApiState {
    /// Who the headers prove to ask.
    pub(crate) fn principal(&self, headers: &HeaderMap) -> Result<Principal, Problem> {
        let header = headers.get(AUTHORIZATION).ok_or(Kind::TokenMissing)?;
        let token = header.to_str().ok().and_then(|text| {
            let (scheme, token) = text.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        self.verifier
            .verify(token.ok_or(Kind::TokenMissing)?, self.clock.now())
    }
}

impl FromRequestParts<ApiState> for Principal {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Problem> {
        state.principal(&parts.headers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> Secret {
        Secret::new("an installation's secret of 40 characters")
    }

    fn token(ttl: u64) -> String {
        let tenant = TenantId(uuid::Uuid::from_u128(7));
        issue(
            &secret(),
            tenant,
            "ana",
            &[Role::Member],
            Duration::from_secs(ttl),
            DateTime::UNIX_EPOCH,
        )
    }

    #[track_caller]
    fn refused(verifier: &Verifier, token: &str, now: DateTime<Utc>) -> String {
        let problem = verifier
            .verify(token, now)
            .expect_err("the token must not pass");
        format!("{problem:?}")
    }

    #[test]
    fn a_token_says_who_until_it_expires() {
        let verifier = Verifier::new(&secret());
        let who = verifier.verify(&token(60), DateTime::UNIX_EPOCH).unwrap();
        assert_eq!(who.user, UserId::of(ISSUER, "ana"));
        let late = DateTime::UNIX_EPOCH + Duration::from_mins(1);
        assert!(refused(&verifier, &token(60), late).contains("TokenExpired"));
    }

    #[test]
    fn tokens_of_others_and_of_other_algorithms_do_not_pass() {
        let verifier = Verifier::new(&Secret::new("another installation's secret, 40 letters"));
        assert!(refused(&verifier, &token(60), DateTime::UNIX_EPOCH).contains("TokenInvalid"));
        let verifier = Verifier::new(&secret());
        // {"alg":"none"} with our own claims and no signature.
        let claims = token(60).split('.').nth(1).unwrap().to_owned();
        let unsigned = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{claims}.");
        assert!(refused(&verifier, &unsigned, DateTime::UNIX_EPOCH).contains("TokenInvalid"));
    }
}
