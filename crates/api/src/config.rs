//! Options of the API.

use std::net::SocketAddr;
use std::path::PathBuf;

use axum::http::HeaderValue;
use ipnet::IpNet;
use service::secret::Secret;
use url::Url;

use crate::auth::IssuerError;
pub use crate::limit::table::RateLimits;

/// How the API is served.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Config {
    /// Where the API listens.
    #[arg(long, env = "LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// The installation's secret, at least 32 characters: signs tokens, cursors, positions and a folder store's URLs, and hides the
    /// mail addresses of accounts. With another one everybody logs in again, by handle: addresses are not known any more.
    /// `cinelog up` keeps one in its data folder.
    #[arg(long, env = "SECRET_KEY", hide_env_values = true)]
    pub secret_key: Option<Secret>,
    /// The largest file that may be uploaded, bytes.
    #[arg(long, env = "UPLOAD_MAX_BYTES", default_value_t = 50 << 30)]
    pub upload_max_bytes: u64,
    /// A file larger than this comes into a bucket in parts of this size, bytes; S3 takes none below 5 MiB.
    #[arg(long, env = "UPLOAD_PART_BYTES", default_value_t = 64 << 20)]
    pub upload_part_bytes: u64,
    /// How long a permission to upload holds, seconds; one in parts lasts a second longer for each 256 KiB.
    #[arg(long, env = "UPLOAD_SECONDS", default_value_t = 3600)]
    pub upload_seconds: u32,
    /// The secret under which notices of storage to /v1/webhooks/storage/hmac and /r2 are signed; none are taken without.
    #[arg(long, env = "STORAGE_NOTICE_SECRET", hide_env_values = true)]
    pub storage_notice_secret: Option<Secret>,
    /// The topic of Amazon SNS whose notices /v1/webhooks/storage/s3-sns takes, by its ARN.
    #[arg(long, env = "STORAGE_NOTICE_TOPIC")]
    pub storage_notice_topic: Option<String>,
    /// Where that topic's certificates are, in place of its region's own host.
    #[arg(long, env = "STORAGE_NOTICE_ORIGIN")]
    pub storage_notice_origin: Option<Url>,
    /// How often one may ask: `on`, `off`, or lines of docs/reference/limits.md that are to be others, e.g. `user-read=300/1200` for 300
    /// at once and 1,200 a minute. Those of proving who one is cannot be off.
    #[arg(long, env = "RATE_LIMITS", default_value = "on")]
    pub rate_limits: RateLimits,
    /// Requests in progress at once, besides uploads to a folder; what comes on top is told to try again. When absent 128 for each CPU,
    /// at least 256: more of them wait for so long that their answers come late.
    #[arg(long, env = "MAX_IN_FLIGHT", default_value_t = in_flight(), hide_default_value = true)]
    pub max_in_flight: usize,
    /// Streams that wait for news at once; of one user, eight.
    #[arg(long, env = "MAX_LIVE", default_value_t = 20_000)]
    pub max_live: usize,
    /// A JSON list of the issuers whose tokens are believed besides our own; docs/reference/issuers.md says what is in it.
    #[arg(long, env = "JWT_ISSUERS")]
    pub jwt_issuers: Option<PathBuf>,
    /// Proxies whose X-Forwarded-For says who calls, as networks, e.g. 10.0.0.0/8.
    #[arg(long, env = "TRUSTED_PROXIES", value_delimiter = ',')]
    pub trusted_proxies: Vec<IpNet>,
    /// Origins of pages elsewhere that may call, e.g. `https://app.example.org`.
    #[arg(long, env = "CORS_ORIGINS", value_delimiter = ',', value_parser = origin)]
    pub cors_origins: Vec<HeaderValue>,
    /// Who gets an account of our own.
    #[command(flatten)]
    pub accounts: accounts::Config,
}

/// An origin as browsers send it (RFC 6454, 6.2).
fn origin(text: &str) -> Result<HeaderValue, String> {
    let after = text.split_once("://").map(|(_, after)| after);
    let is_origin = after.is_some_and(|host| !host.is_empty() && !host.contains(['/', '*']));
    if !is_origin {
        return Err("an origin is a scheme and a host, without a path, as in https://app.example.org; `*` is none, because cookies \
                    are sent along"
            .to_owned());
    }
    HeaderValue::from_str(text).map_err(|error| error.to_string())
}

/// Why the API cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Without a secret anybody could sign.
    #[error("set SECRET_KEY to a secret of at least 32 characters")]
    SecretKey,
    /// Notices of storage are to come from what is no topic.
    #[error("STORAGE_NOTICE_TOPIC is not the ARN of a topic, arn:aws:sns:REGION:ACCOUNT:NAME: {0}")]
    Topic(String),
    /// Accounts cannot be kept.
    #[error(transparent)]
    Accounts(#[from] accounts::ConfigError),
    /// An issuer cannot be trusted.
    #[error(transparent)]
    Issuers(#[from] IssuerError),
}

/// Two cores answer 2,000 first pages of feeds a second: 256 of them wait for a sixth of a second, see `make bench NAME=limits`.
fn in_flight() -> usize {
    std::thread::available_parallelism().map_or(256, |cpus| (128 * cpus.get()).max(256))
}
