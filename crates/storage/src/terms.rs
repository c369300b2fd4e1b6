//! What may be done to objects, and as what they are shown: the terms that signatures are over.

use chrono::{DateTime, Utc};
use url::Url;

use crate::checksum::Checksum;
use crate::key::Key;

/// What a client may put: exactly this, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutTerms {
    /// Where.
    pub key: Key,
    /// How many bytes.
    pub bytes: u64,
    /// The `content-type`, a valid header value.
    pub media_type: String,
    /// Their checksum.
    pub sha256: Checksum,
}

/// A request that a client may make as it is, until it expires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedRequest {
    /// The HTTP method.
    pub method: &'static str,
    /// The URL, a secret as long as it holds.
    pub url: Url,
    /// Headers that must be sent just so.
    pub headers: Vec<(String, String)>,
    /// When it stops to be good.
    pub expires_at: DateTime<Utc>,
}

/// As what a signed GET shows the object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Presentation {
    /// The answer's `content-type`.
    pub media_type: Option<String>,
    /// The answer's `content-disposition`.
    pub disposition: Option<String>,
}
