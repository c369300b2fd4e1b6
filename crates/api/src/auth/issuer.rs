//! Issuers besides ourselves whose tokens are believed: each with one algorithm, its keys, and the tenants and roles that it may speak
//! for.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use accounts::Accounts;
use chrono::{DateTime, Utc};
use events::id::{TenantId, UserId};
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, dangerous, decode_header};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use serde::Deserialize;
use serde_json::{Map, Value};
use service::shutdown::Shutdown;
use tokio::sync::watch;

use super::{By, ISSUER, Principal, Role};
use crate::problem::{Kind, Problem};

/// Keys at a URL are looked at again so often.
const REFRESH: chrono::Duration = chrono::Duration::minutes(10);
/// But no more often than this, whatever keys tokens name.
const REFRESH_LEAST: chrono::Duration = chrono::Duration::seconds(30);
/// An issuer that does not answer is believed by the keys it had for so long.
const STALE: chrono::Duration = chrono::Duration::hours(24);
/// How long it may take to answer.
const FETCHING: Duration = Duration::from_secs(5);
/// The largest set of keys, bytes.
const KEYS_MAX: usize = 1 << 20;

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

enum Keys {
    One(Box<DecodingKey>),
    At(Remote),
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

    /// Who the token proves to ask.
    pub(super) async fn verify(
        &self,
        token: &str,
        now: DateTime<Utc>,
    ) -> Result<Principal, Problem> {
        #[derive(Deserialize)]
        struct Issued {
            iss: String,
        }
        let said: Issued =
            dangerous::insecure_decode_claims(token).map_err(|_| Kind::TokenInvalid)?;
        let issuer = self.0.iter().find(|one| one.described.issuer == said.iss);
        issuer.ok_or(Kind::TokenInvalid)?.verify(token, now).await
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
        let issuer = self.0.iter().find(|one| one.described.issuer == issuer)?;
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
        let key = match &self.keys {
            Keys::One(key) => DecodingKey::clone(key),
            Keys::At(remote) => {
                let header = decode_header(token).map_err(|_| Kind::TokenInvalid)?;
                let key = remote.key(header.kid.as_deref(), now).await?;
                key.filter(|key| signs(key, self.described.algorithm))
                    .and_then(|key| DecodingKey::from_jwk(&key).ok())
                    .ok_or(Kind::TokenInvalid)?
            }
        };
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

/// Whether a key is for signatures by that algorithm.
fn signs(key: &Jwk, algorithm: Algorithm) -> bool {
    use jsonwebtoken::jwk::{AlgorithmParameters, PublicKeyUse};
    let named = key
        .common
        .key_algorithm
        .and_then(|named| named.to_string().parse().ok());
    // A secret that is published is none.
    !matches!(key.algorithm, AlgorithmParameters::OctetKey(_))
        && named.is_none_or(|named: Algorithm| named == algorithm)
        && !matches!(key.common.public_key_use, Some(PublicKeyUse::Encryption))
}

impl Keys {
    fn open(described: &Described, shutdown: &Shutdown) -> Result<Self, String> {
        let symmetric = matches!(
            described.algorithm,
            Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512
        );
        let read = |file: &Path| {
            std::fs::read(file).map_err(|error| format!("read {}: {error}", file.display()))
        };
        match (
            symmetric,
            &described.secret_file,
            &described.pem_file,
            &described.jwks_url,
        ) {
            (true, Some(file), None, None) => {
                let secret = read(file)?;
                let secret = secret.trim_ascii();
                if secret.len() < 32 {
                    return Err("its secret must have 32 characters at least".to_owned());
                }
                Ok(Self::One(Box::new(DecodingKey::from_secret(secret))))
            }
            (false, None, Some(file), None) => {
                let pem = read(file)?;
                let key = match described.algorithm {
                    Algorithm::ES256 | Algorithm::ES384 => DecodingKey::from_ec_pem(&pem),
                    Algorithm::EdDSA => DecodingKey::from_ed_pem(&pem),
                    _ => DecodingKey::from_rsa_pem(&pem),
                };
                let key = key.map_err(|error| {
                    format!(
                        "no public key of its algorithm is in {}: {error}",
                        file.display()
                    )
                })?;
                Ok(Self::One(Box::new(key)))
            }
            (false, None, None, Some(url)) => Ok(Self::At(Remote::new(url, shutdown.clone())?)),
            (true, ..) => Err("an HS algorithm needs a `secret_file` and nothing else".to_owned()),
            (false, ..) => {
                Err("this algorithm needs a `jwks_url` or a `pem_file`, one of them".to_owned())
            }
        }
    }
}

/// Keys that an issuer publishes.
struct Remote(Arc<Published>);

struct Published {
    url: Url,
    http: Client,
    known: Mutex<Known>,
    /// Changes when an answer has come, or none will.
    answered: watch::Sender<()>,
    shutdown: Shutdown,
}

#[derive(Default)]
struct Known {
    keys: Arc<JwkSet>,
    fetched: Option<DateTime<Utc>>,
    tried: Option<DateTime<Utc>>,
    fetching: bool,
}

impl Known {
    /// The key of this id; the only one, when a token names none.
    fn find(&self, kid: Option<&str>) -> Option<Jwk> {
        match (kid, &*self.keys.keys) {
            (Some(kid), _) => self.keys.find(kid).cloned(),
            (None, [only]) => Some(only.clone()),
            (None, _) => None,
        }
    }

    fn holds(&self, now: DateTime<Utc>) -> bool {
        self.fetched.is_some_and(|fetched| now - fetched <= STALE)
    }
}

impl Remote {
    fn new(url: &str, shutdown: Shutdown) -> Result<Self, String> {
        let url: Url = url
            .parse()
            .map_err(|_| "its `jwks_url` is no URL".to_owned())?;
        let here = matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
        if url.scheme() != "https" && !here {
            return Err("its `jwks_url` begins with https://".to_owned());
        }
        let http = Client::builder()
            .timeout(FETCHING)
            .redirect(Policy::none())
            .build();
        Ok(Self(Arc::new(Published {
            url,
            http: http.map_err(|error| error.to_string())?,
            known: Mutex::default(),
            answered: watch::Sender::default(),
            shutdown,
        })))
    }

    /// The key of this id; the only one, when a token names none. A key that is known is there at once; for one that is not, the
    /// issuer is asked by one task, which nobody who goes away stops.
    async fn key(&self, kid: Option<&str>, now: DateTime<Utc>) -> Result<Option<Jwk>, Problem> {
        let mut answered = self.0.answered.subscribe();
        let waits = {
            let mut known = self.0.known();
            let found = known.find(kid).filter(|_| known.holds(now));
            let age = |since: Option<DateTime<Utc>>| since.map(|since| now - since);
            let old = age(known.fetched).is_none_or(|age| age > REFRESH);
            let may = age(known.tried).is_none_or(|age| age > REFRESH_LEAST);
            if (old || found.is_none()) && may && !known.fetching {
                (known.tried, known.fetching) = (Some(now), true);
                let published = Arc::clone(&self.0);
                self.0
                    .shutdown
                    .spawn(async move { published.refresh(now).await });
            }
            if found.is_some() {
                return Ok(found);
            }
            known.fetching
        };
        if waits {
            tokio::time::timeout(FETCHING * 2, answered.changed())
                .await
                .ok();
        }
        let known = self.0.known();
        if !known.holds(now) {
            let silent = std::io::Error::other("an issuer's keys cannot be read");
            return Err(Problem::unavailable(&silent));
        }
        Ok(known.find(kid))
    }
}

impl Published {
    fn known(&self) -> MutexGuard<'_, Known> {
        // Whole after each step, whatever panicked.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn refresh(&self, now: DateTime<Utc>) {
        let fetched = self.fetch().await;
        let mut known = self.known();
        known.fetching = false;
        match fetched {
            Ok(keys) => (known.keys, known.fetched) = (Arc::new(keys), Some(now)),
            Err(reason) => {
                tracing::warn!(url = %self.url, reason, "an issuer's keys cannot be read");
            }
        }
        drop(known);
        self.answered.send_replace(());
    }

    async fn fetch(&self) -> Result<JwkSet, String> {
        let answer = self.http.get(self.url.clone()).send().await;
        let mut answer = answer
            .and_then(reqwest::Response::error_for_status)
            .map_err(|error| error.to_string())?;
        let mut body = vec![];
        while let Some(some) = answer.chunk().await.map_err(|error| error.to_string())? {
            body.extend_from_slice(&some);
            if body.len() > KEYS_MAX {
                return Err(format!("they are larger than {KEYS_MAX} bytes"));
            }
        }
        serde_json::from_slice(&body).map_err(|error| error.to_string())
    }
}
