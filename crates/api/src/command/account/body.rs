//! What is sent to `/auth/…`, and what is answered.

use chrono::{DateTime, Utc};
use garde::Validate;
use serde::{Deserialize, Serialize};
use service::secret::Secret;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::auth::Role;

/// Who registers.
#[derive(Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"handle": "ana", "password": "correct horse battery", "name": "Ana"}))]
pub(crate) struct Registration {
    /// What one logs in with: letters, digits, `.`, `_` and `-`; capitals do not matter. Nobody else in the tenant may have it.
    #[garde(length(min = 2, max = 30), custom(is_handle))]
    #[schema(min_length = 2, max_length = 30)]
    pub(super) handle: String,
    /// Eight characters at least.
    #[garde(custom(is_password))]
    #[schema(value_type = String, min_length = 8, max_length = 256)]
    pub(super) password: Password,
    /// Where one gets mail, to get back in without a password. Only a hash of it is kept.
    #[garde(inner(custom(is_address)))]
    pub(super) email: Option<String>,
    /// The name shown.
    #[garde(inner(length(chars, min = 1, max = 80)))]
    pub(super) name: Option<String>,
    /// The code of an invite, where one is needed.
    #[garde(inner(length(max = 100)))]
    pub(super) invite: Option<String>,
    /// The tenant's name or id; the one that every install has unless said.
    #[garde(inner(length(min = 1, max = 100)))]
    pub(super) tenant: Option<String>,
}

/// Who logs in.
#[expect(
    clippy::struct_field_names,
    reason = "what one logs in with is called so"
)]
#[derive(Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"login": "ana", "password": "correct horse battery"}))]
pub(crate) struct Login {
    /// The handle, or the mail address.
    #[garde(length(min = 1, max = 254))]
    pub(super) login: String,
    /// The password.
    #[garde(skip)]
    #[schema(value_type = String)]
    pub(super) password: Password,
    /// The tenant's name or id; the one that every install has unless said.
    #[garde(inner(length(min = 1, max = 100)))]
    pub(super) tenant: Option<String>,
}

/// A code from a mail, or where to send one.
#[derive(Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"code": "…"}))]
pub(crate) struct Verification {
    /// The code that a mail said.
    #[garde(inner(length(max = 200)))]
    pub(super) code: Option<String>,
    /// Instead: the address that a mail with a code is sent to.
    #[garde(inner(custom(is_address)))]
    pub(super) email: Option<String>,
    /// The tenant's name or id; the one that every install has unless said.
    #[garde(inner(length(min = 1, max = 100)))]
    pub(super) tenant: Option<String>,
}

/// A code from a mail and a new password, or where to send a code.
#[derive(Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"email": "ana@example.org"}))]
pub(crate) struct Reset {
    /// The code that a mail said.
    #[garde(inner(length(max = 200)))]
    pub(super) code: Option<String>,
    /// With the code: the new password, eight characters at least.
    #[garde(inner(custom(is_password)))]
    #[schema(value_type = Option<String>, min_length = 8, max_length = 256)]
    pub(super) password: Option<Password>,
    /// Instead: the address that a mail with a code is sent to.
    #[garde(inner(custom(is_address)))]
    pub(super) email: Option<String>,
    /// The tenant's name or id; the one that every install has unless said.
    #[garde(inner(length(min = 1, max = 100)))]
    pub(super) tenant: Option<String>,
}

/// What ends.
#[derive(Default, Deserialize, Validate, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(example = json!({"everywhere": true}))]
pub(crate) struct LogOut {
    /// All sessions of the account, and not only this one.
    #[garde(skip)]
    pub(super) everywhere: bool,
}

/// A password as it is sent: it is not to be shown by accident.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "String")]
pub(crate) struct Password(pub(super) Secret);

impl From<String> for Password {
    fn from(text: String) -> Self {
        Self(Secret::new(text))
    }
}

/// What one is let in with.
#[expect(clippy::struct_field_names, reason = "RFC 6749, 5.1")]
#[derive(Serialize, ToSchema)]
pub(crate) struct Access {
    /// The bearer token of all other routes.
    pub(super) access_token: String,
    /// `Bearer`.
    pub(super) token_type: &'static str,
    /// For how many seconds it holds; then `POST /auth/refresh` gives the next one.
    pub(super) expires_in: u64,
    /// The user.
    pub(super) user: Uuid,
    /// The tenant.
    pub(super) tenant: Uuid,
    /// Beyond what every user may do.
    pub(super) roles: Vec<Role>,
    /// Whether the mail address is proven.
    pub(super) verified: bool,
}

/// Somebody may register with it, once.
#[derive(Serialize, ToSchema)]
pub(crate) struct Invite {
    /// What to register with.
    pub(super) invite: String,
    /// Until when.
    pub(super) expires_at: DateTime<Utc>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "garde passes its context so"
)]
fn is_handle(handle: &str, (): &()) -> garde::Result {
    let fine = handle.starts_with(|c: char| c.is_ascii_alphanumeric())
        && handle
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if fine {
        return Ok(());
    }
    Err(garde::Error::new(
        "has letters, digits, `.`, `_` and `-`, and begins with one of the first two",
    ))
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "garde passes its context so"
)]
fn is_password(password: &Password, (): &()) -> garde::Result {
    if (8..=256).contains(&password.0.expose().chars().count()) {
        return Ok(());
    }
    Err(garde::Error::new("has 8 to 256 characters"))
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "garde passes its context so"
)]
fn is_address(email: &str, (): &()) -> garde::Result {
    if email.len() <= 254 && accounts::is_address(email.trim()) {
        return Ok(());
    }
    Err(garde::Error::new("is a mail address"))
}
