//! One user's HTTP client.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use events::id::{TenantId, UserId};
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::Value;
use service::clock::Clock;
use service::secret::Secret;

const HOUR: Duration = Duration::from_hours(1);
const CALL_LIMIT: Duration = Duration::from_secs(30);

/// What a call gave.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// The status.
    pub(super) status: u16,
    /// The JSON body; null when there is none.
    pub(super) body: Value,
    /// Where in the log the command's last fact is.
    pub(super) position: Option<i64>,
    /// How long it took.
    pub(super) took: Duration,
}

/// Calls the API as one user, and reads what that user wrote.
pub(super) struct Client {
    http: reqwest::Client,
    base: String,
    token: String,
    user: UserId,
    /// The position of the last command, for the next read.
    wrote: Mutex<Option<String>>,
}

impl Client {
    pub(super) fn new(
        address: SocketAddr,
        secret: &Secret,
        tenant: TenantId,
        name: &str,
    ) -> anyhow::Result<Self> {
        let roles = [api::auth::Role::Member];
        Ok(Self {
            // What runs on this machine is not reached by way of a proxy.
            http: reqwest::Client::builder()
                .no_proxy()
                .timeout(CALL_LIMIT)
                .build()?,
            base: format!("http://{address}"),
            token: api::auth::issue(secret, tenant, name, &roles, HOUR, Clock::System.now()),
            user: UserId::of(api::auth::ISSUER, name),
            wrote: Mutex::new(None),
        })
    }

    /// The user's id.
    pub(super) fn id(&self) -> String {
        self.user.to_string()
    }

    /// A command.
    pub(super) async fn send(&self, method: &str, path: &str, body: Value) -> anyhow::Result<Told> {
        let began = Instant::now();
        let request = self.http.request(
            Method::from_bytes(method.as_bytes())?,
            format!("{}{path}", self.base),
        );
        let answer = request.bearer_auth(&self.token).json(&body).send().await?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = answer.text().await?;
        ensure!(
            status.is_success(),
            "{method} {path} answered {status}: {body}"
        );
        let token = position_header(&headers);
        let position = token.as_deref().and_then(position_in);
        if token.is_some() {
            *self
                .wrote
                .lock()
                .map_err(|_| anyhow::anyhow!("a call panicked"))? = token;
        }
        let body = serde_json::from_str(&body).unwrap_or_default();
        Ok(Told {
            status: status.as_u16(),
            body,
            position,
            took: began.elapsed(),
        })
    }

    /// A query that sees what this user wrote.
    pub(super) async fn read(&self, path: &str) -> anyhow::Result<Told> {
        let began = Instant::now();
        let mut request = self
            .http
            .get(format!("{}{path}", self.base))
            .bearer_auth(&self.token);
        let wrote = self
            .wrote
            .lock()
            .map_err(|_| anyhow::anyhow!("a call panicked"))?
            .clone();
        if let Some(position) = wrote {
            request = request.header("cinelog-min-position", position);
        }
        let answer = request.send().await?;
        let status = answer.status();
        let body = answer.text().await?;
        ensure!(status.is_success(), "GET {path} answered {status}: {body}");
        let body = serde_json::from_str(&body).with_context(|| format!("GET {path}"))?;
        Ok(Told {
            status: status.as_u16(),
            body,
            position: None,
            took: began.elapsed(),
        })
    }

    /// A query's body.
    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        Ok(self.read(path).await?.body)
    }

    /// Sends bytes as an upload's ticket says.
    pub(super) async fn upload(&self, ticket: &Value, bytes: Vec<u8>) -> anyhow::Result<Told> {
        let began = Instant::now();
        let url = ticket["url"].as_str().context("the ticket has no URL")?;
        let mut request = self.http.put(url).body(bytes);
        for (name, value) in ticket["headers"].as_object().into_iter().flatten() {
            // The HTTP client sets the length itself.
            if !name.eq_ignore_ascii_case("content-length") {
                request = request.header(name, value.as_str().unwrap_or_default());
            }
        }
        let answer = request.send().await?;
        let status = answer.status();
        ensure!(
            status.is_success(),
            "storage answered {status}: {}",
            answer.text().await?
        );
        Ok(Told {
            status: status.as_u16(),
            took: began.elapsed(),
            ..Told::default()
        })
    }

    /// The bytes behind a link of the API, redirects followed.
    pub(super) async fn bytes(&self, url: &str) -> anyhow::Result<Vec<u8>> {
        let url = if url.starts_with('/') {
            format!("{}{url}", self.base)
        } else {
            url.to_owned()
        };
        let answer = self.http.get(&url).bearer_auth(&self.token).send().await?;
        let status = answer.status();
        ensure!(
            status.is_success(),
            "GET {url} answered {status}: {}",
            answer.text().await?
        );
        Ok(answer.bytes().await?.into())
    }
}

fn position_header(headers: &HeaderMap) -> Option<String> {
    Some(headers.get("cinelog-position")?.to_str().ok()?.to_owned())
}

/// The position inside a token, for the report only: to users of the API a token is opaque.
fn position_in(token: &str) -> Option<i64> {
    let bytes = BASE64.decode(token).ok()?;
    Some(i64::from_be_bytes(bytes.get(17..25)?.try_into().ok()?))
}
