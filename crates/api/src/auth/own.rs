//! Our own tokens: JWT signed by HS256 under a key derived from the installation's secret.

use std::time::Duration;

use chrono::{DateTime, Utc};
use events::id::{TenantId, UserId};
use service::secret::Secret;
use uuid::Uuid;

use super::{By, Principal, Role};
use crate::problem::{Kind, Problem};
use crate::signed::jwt::{Claims, Tokens};
use crate::state::root_key;

pub use crate::signed::jwt::ISSUER;

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
    let claims = claims((tenant, subject, roles), None, (ttl, now));
    Tokens::new(&signing_key(secret)).sign(&claims)
}

fn claims(
    (tenant, subject, roles): (TenantId, &str, &[Role]),
    sid: Option<Uuid>,
    (ttl, now): (Duration, DateTime<Utc>),
) -> Claims<Role> {
    Claims {
        iss: ISSUER.to_owned(),
        sub: subject.to_owned(),
        tenant: tenant.0,
        roles: roles.to_vec(),
        exp: now.timestamp().saturating_add_unsigned(ttl.as_secs()),
        sid,
    }
}

fn signing_key(secret: &Secret) -> [u8; 32] {
    root_key(secret).derive("token").sign(&[])
}

/// Checks tokens of ours, and makes those of sessions.
pub(crate) struct Verifier(Tokens);

impl Verifier {
    pub(crate) fn new(secret: &Secret) -> Self {
        Self(Tokens::new(&signing_key(secret)))
    }

    /// A token by which `subject` acts in `tenant` until `ttl` after `now`, or until the session ends.
    pub(crate) fn issue(
        &self,
        who: (TenantId, &str, &[Role]),
        session: Uuid,
        lasts: (Duration, DateTime<Utc>),
    ) -> String {
        self.0.sign(&claims(who, Some(session), lasts))
    }

    pub(super) fn verify(&self, token: &str, now: DateTime<Utc>) -> Result<Principal, Problem> {
        let claims = self.0.read::<Role>(token).ok_or(Kind::TokenInvalid)?;
        let until = DateTime::from_timestamp(claims.exp, 0).ok_or(Kind::TokenInvalid)?;
        if until <= now {
            return Err(Kind::TokenExpired.into());
        }
        let user = UserId::of(&claims.iss, &claims.sub);
        Ok(Principal {
            tenant: TenantId(claims.tenant),
            user,
            issuer: claims.iss,
            account: claims.sub,
            roles: claims.roles,
            until,
            by: By::Token,
            session: claims.sid,
        })
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
        let problem = verifier.verify(token, now).err();
        format!("{:?}", problem.expect("the token must not pass"))
    }

    #[test]
    fn a_token_says_who_until_it_expires() {
        let verifier = Verifier::new(&secret());
        let proven = verifier
            .verify(&token(60), DateTime::UNIX_EPOCH)
            .ok()
            .unwrap();
        assert_eq!(proven.user, UserId::of(ISSUER, "ana"));
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
