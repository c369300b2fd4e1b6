//! Issuers besides ourselves whose tokens are believed: each with one algorithm, its keys, and the tenants and roles that it may speak
//! for.

mod keys;

use std::path::{Path, PathBuf};

use accounts::Accounts;
use chrono::{DateTime, Utc};
use events::id::{TenantId, UserId};
use jsonwebtoken::{Algorithm, Validation};
use serde::Deserialize;
use serde_json::{Map, Value};
use service::shutdown::Shutdown;

use self::keys::Keys;
use super::{By, ISSUER, Principal, Role};
use crate::problem::{Kind, Problem};

/// Why issuers cannot be trusted as configured.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// The file is not there or no list of issuers.
    #[error("read the issuers in {file}: {reason}")]
    File {
        /// Which file.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// An issuer cannot be used.
    #[error("issuer {issuer}: {reason}")]
    Issuer {
        /// Which.
        issuer: String,
        /// What is wrong with it, and what would be right.
        reason: String,
    },
}

/// An issuer as it is configured.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Described {
    issuer: String,
    algorithm: Algorithm,
    audience: Vec<String>,
    /// Where it publishes its keys; or its public key; or the secret it shares with us.
    jwks_url: Option<String>,
    pem_file: Option<PathBuf>,
    secret_file: Option<PathBuf>,
    /// Ids or names; a token names one of them by `tenant_claim`, unless there is only one.
    tenants: Vec<String>,
    #[serde(default = "tenant")]
    tenant_claim: String,
    /// What its tokens may give; all that every user may is given anyway.
    #[serde(default)]
    roles: Vec<Role>,
    #[serde(default = "roles")]
    roles_claim: String,
    /// Whether it is the platform's own, and may give roles that reach beyond a tenant.
    #[serde(default)]
    platform: bool,
    #[serde(default = "leeway")]
    leeway_seconds: u32,
}

fn tenant() -> String {
    "tenant".to_owned()
}

fn roles() -> String {
    "roles".to_owned()
}

fn leeway() -> u32 {
    30
}

/// Whose tokens are believed.
#[derive(Default)]
pub struct Issuers(Vec<Issuer>);

struct Issuer {
    described: Described,
    tenants: Vec<TenantId>,
    rules: Validation,
    keys: Keys,
}

impl Issuers {
    /// Those in a file: a JSON list.
    pub async fn read(
        file: &Path,
        accounts: &Accounts,
        shutdown: &Shutdown,
    ) -> Result<Self, IssuerError> {
        let wrong = |reason: String| IssuerError::File {
            file: file.display().to_string(),
            reason,
        };
        let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
        let described: Vec<Described> =
            serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        let mut issuers: Vec<Issuer> = vec![];
        for described in described {
            let (name, twice) = (
                described.issuer.clone(),
                issuers
                    .iter()
                    .any(|one| one.described.issuer == described.issuer),
            );
            let issuer = match Issuer::open(described, accounts, shutdown).await {
                Ok(_) if twice => Err("it is there twice".to_owned()),
                opened => opened,
            };
            issuers.push(issuer.map_err(|reason| IssuerError::Issuer {
                issuer: name,
                reason,
            })?);
        }
        Ok(Self(issuers))
    }

    /// Who the token, which says that it is this issuer's, proves to ask.
    pub(super) async fn verify(
        &self,
        issuer: &str,
        token: &str,
        now: DateTime<Utc>,
    ) -> Result<Principal, Problem> {
        let issuer = self.named(issuer).ok_or(Kind::TokenInvalid)?;
        issuer.verify(token, now).await
    }

    fn named(&self, issuer: &str) -> Option<&Issuer> {
        self.0.iter().find(|one| one.described.issuer == issuer)
    }

    /// Of `roles` those that an issuer may give in a tenant; none where it does not speak for it, or is no longer trusted.
    pub(super) fn allowed(
        &self,
        issuer: &str,
        tenant: TenantId,
        roles: Vec<Role>,
    ) -> Option<Vec<Role>> {
        if issuer == ISSUER {
            return Some(roles);
        }
        let issuer = self.named(issuer)?;
        let allowed = |role: &Role| issuer.described.roles.contains(role);
        issuer
            .tenants
            .contains(&tenant)
            .then(|| roles.into_iter().filter(allowed).collect())
    }
}

impl Issuer {
    async fn open(
        described: Described,
        accounts: &Accounts,
        shutdown: &Shutdown,
    ) -> Result<Self, String> {
        if described.issuer == ISSUER || described.issuer.is_empty() {
            return Err(format!("another name than {ISSUER} is needed"));
        }
        if described.audience.is_empty() || described.tenants.is_empty() {
            return Err(
                "say for which `audience` its tokens are and for which `tenants` it speaks"
                    .to_owned(),
            );
        }
        if !described.platform && described.roles.iter().any(|role| role.is_global()) {
            return Err("operator and data_global are given by the platform's own issuer: say \"platform\": true".to_owned());
        }
        let mut tenants = vec![];
        for named in &described.tenants {
            let tenant = accounts
                .tenant(named)
                .await
                .map_err(|error| error.to_string())?;
            tenants.push(TenantId(
                tenant.ok_or_else(|| format!("there is no tenant {named}"))?,
            ));
        }
        let mut rules = Validation::new(described.algorithm);
        rules.set_issuer(&[&described.issuer]);
        rules.set_audience(&described.audience);
        rules.set_required_spec_claims(&["iss", "sub", "aud", "exp"]);
        // Checked by ourselves, against our own clock.
        (rules.validate_exp, rules.validate_nbf) = (false, false);
        let keys = Keys::open(&described, shutdown)?;
        Ok(Self {
            described,
            tenants,
            rules,
            keys,
        })
    }

    async fn verify(&self, token: &str, now: DateTime<Utc>) -> Result<Principal, Problem> {
        let key = self.keys.of(token, self.described.algorithm, now).await?;
        let claims: Map<String, Value> = jsonwebtoken::decode(token, &key, &self.rules)
            .map_err(|_| Kind::TokenInvalid)?
            .claims;
        let leeway = chrono::Duration::seconds(self.described.leeway_seconds.into());
        let time = |name| {
            let seconds = claims.get(name).and_then(Value::as_f64);
            // Fractions are allowed (RFC 7519, NumericDate).
            #[expect(
                clippy::cast_possible_truncation,
                reason = "what does not fit is refused as no time"
            )]
            seconds.and_then(|seconds| DateTime::from_timestamp(seconds as i64, 0))
        };
        let until = time("exp").ok_or(Kind::TokenInvalid)?;
        if until <= now - leeway {
            return Err(Kind::TokenExpired.into());
        }
        if claims.contains_key("nbf") && time("nbf").is_none_or(|from| from > now + leeway) {
            return Err(Kind::TokenInvalid.into());
        }
        let account = claims
            .get("sub")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if account.is_empty() {
            return Err(Kind::TokenInvalid.into());
        }
        Ok(Principal {
            tenant: self.tenant(&claims)?,
            user: UserId::of(&self.described.issuer, account),
            issuer: self.described.issuer.clone(),
            account: account.to_owned(),
            roles: self.roles(&claims),
            until: until.checked_add_signed(leeway).unwrap_or(until),
            by: By::Token,
            session: None,
        })
    }

    /// The tenant that the token names, of those that the issuer speaks for.
    fn tenant(&self, claims: &Map<String, Value>) -> Result<TenantId, Problem> {
        let Some(named) = claims.get(&self.described.tenant_claim) else {
            return match &*self.tenants {
                [only] => Ok(*only),
                _ => Err(Kind::TokenInvalid.into()),
            };
        };
        let named = named.as_str().unwrap_or_default();
        let all = self.tenants.iter().zip(&self.described.tenants);
        let mut known = all.filter(|(id, name)| *name == named || id.0.to_string() == named);
        Ok(*known.next().ok_or(Kind::TokenInvalid)?.0)
    }

    /// The roles that the token gives, of those that the issuer may give.
    fn roles(&self, claims: &Map<String, Value>) -> Vec<Role> {
        let named = match claims.get(&self.described.roles_claim) {
            Some(Value::Array(names)) => names
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect(),
            Some(Value::String(names)) => names.split_whitespace().map(str::to_owned).collect(),
            _ => vec![],
        };
        let allowed = |role: &Role| self.described.roles.contains(role);
        Role::named(&named).into_iter().filter(allowed).collect()
    }
}
