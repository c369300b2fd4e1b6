//! What an issuer signs with: a secret, a public key, or keys that it publishes and changes.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, decode_header};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use service::shutdown::Shutdown;
use tokio::sync::{Semaphore, watch};

use super::Described;
use crate::problem::{Kind, Problem};

/// Keys at a URL are looked at again so often.
const REFRESH: chrono::Duration = chrono::Duration::minutes(10);
/// But no more often than this, whatever keys tokens name.
const REFRESH_LEAST: chrono::Duration = chrono::Duration::seconds(30);
/// An issuer that does not answer is believed by the keys it had for so long.
const STALE: chrono::Duration = chrono::Duration::hours(24);
/// How long it may take to answer.
const FETCHING: Duration = Duration::from_secs(5);
/// Requests that wait for it at once; others are told that its keys cannot be read.
const WAITING: usize = 32;
/// The largest set of keys, bytes.
const KEYS_MAX: usize = 1 << 20;

/// An issuer's keys.
pub(super) enum Keys {
    /// The only one.
    One(Box<DecodingKey>),
    /// Those at a URL.
    At(Remote),
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
    /// The key that a token must be signed with.
    pub(super) async fn of(
        &self,
        token: &str,
        algorithm: Algorithm,
        now: DateTime<Utc>,
    ) -> Result<DecodingKey, Problem> {
        let remote = match self {
            Self::One(key) => return Ok(DecodingKey::clone(key)),
            Self::At(remote) => remote,
        };
        let header = decode_header(token).map_err(|_| Kind::TokenInvalid)?;
        let key = remote.key(header.kid.as_deref(), now).await?;
        let key = key.filter(|key| signs(key, algorithm));
        let key = key.and_then(|key| DecodingKey::from_jwk(&key).ok());
        Ok(key.ok_or(Kind::TokenInvalid)?)
    }

    /// Those that an issuer is described with.
    pub(super) fn open(described: &Described, shutdown: &Shutdown) -> Result<Self, String> {
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
pub(super) struct Remote(Arc<Published>);

struct Published {
    url: Url,
    http: Client,
    known: Mutex<Known>,
    /// Changes when an answer has come, or none will.
    answered: watch::Sender<()>,
    /// Who waits for an answer keeps a request's place.
    waiting: Semaphore,
    shutdown: Shutdown,
}

#[derive(Default)]
struct Known {
    keys: Arc<JwkSet>,
    fetched: Option<DateTime<Utc>>,
    tried: Option<DateTime<Utc>>,
    fetching: bool,
    /// Whether there was no answer when it was asked last.
    silent: bool,
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
            waiting: Semaphore::new(WAITING),
            shutdown,
        })))
    }

    /// The key of this id; the only one, when a token names none. A key that was looked at lately is there at once; for another, the
    /// issuer is asked by one task, which nobody who goes away stops. One that did not answer when it was asked last is not waited for.
    async fn key(&self, kid: Option<&str>, now: DateTime<Utc>) -> Result<Option<Jwk>, Problem> {
        let mut answered = self.0.answered.subscribe();
        let waits = {
            let mut known = self.0.known();
            let found = known.find(kid).filter(|_| known.holds(now));
            let age = |since: Option<DateTime<Utc>>| since.map(|since| now - since);
            let old = age(known.fetched).is_none_or(|age| age > REFRESH);
            // Whoever asks while the keys are a little old has them looked at for others; nobody has for long when they are older.
            let older = age(known.fetched).is_none_or(|age| age > REFRESH * 2);
            let silent = known.silent && age(known.tried).is_some_and(|age| age <= REFRESH);
            let may = age(known.tried).is_none_or(|age| age > REFRESH_LEAST);
            if (old || found.is_none()) && may && !known.fetching {
                (known.tried, known.fetching) = (Some(now), true);
                let published = Arc::clone(&self.0);
                self.0
                    .shutdown
                    .spawn(async move { published.refresh(now).await });
            }
            if found.is_some() && !(older && !silent && known.fetching) {
                return Ok(found);
            }
            known.fetching
        };
        if waits {
            let _place = self.0.waiting.try_acquire().map_err(|_| silence())?;
            tokio::time::timeout(FETCHING * 2, answered.changed())
                .await
                .ok();
        }
        let known = self.0.known();
        if !known.holds(now) {
            return Err(silence());
        }
        Ok(known.find(kid))
    }
}

fn silence() -> Problem {
    let silent = std::io::Error::other("an issuer's keys cannot be read");
    Problem::unavailable(&silent)
}

impl Published {
    fn known(&self) -> MutexGuard<'_, Known> {
        // Whole after each step, whatever panicked.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn refresh(&self, now: DateTime<Utc>) {
        let fetched = self.fetch().await;
        let mut known = self.known();
        (known.fetching, known.silent) = (false, fetched.is_err());
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
