//! Whether the bucket lets pages of an origin put what we sign: browsers ask it by a preflight (fetch.spec.whatwg.org, "CORS protocol").

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::Method;
use reqwest::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN,
};

use super::{Bucket, unavailable};
use crate::error::Error;
use crate::terms::PutTerms;

/// How long the bucket may take to answer.
const ANSWER: Duration = Duration::from_secs(15);
/// What browsers send without asking.
const ALWAYS: [&str; 1] = ["content-length"];

impl Bucket {
    /// What the bucket's rules would have to allow so that pages of `origin` can put what `terms` say; nothing when they do.
    pub(crate) async fn cors_lacks(
        &self,
        origin: &str,
        terms: &PutTerms,
        now: DateTime<Utc>,
    ) -> Result<Vec<String>, Error> {
        let signed = self.sign_put(terms, ANSWER, now)?;
        let headers = signed.headers.iter().map(|(name, _)| name.as_str());
        let headers: Vec<&str> = headers.filter(|name| !ALWAYS.contains(name)).collect();
        let asked = self
            .http
            .request(Method::OPTIONS, signed.url)
            .header(ORIGIN, origin)
            .header(ACCESS_CONTROL_REQUEST_METHOD, "PUT")
            .header(ACCESS_CONTROL_REQUEST_HEADERS, headers.join(","))
            .timeout(ANSWER);
        let answer = asked.send().await.map_err(unavailable)?;
        let allowed = |name| {
            let values = answer.headers().get_all(name).iter();
            let values = values.filter_map(|value| value.to_str().ok());
            let each = values.flat_map(|value| value.split(','));
            each.map(|one| one.trim().to_ascii_lowercase())
                .collect::<Vec<_>>()
        };
        let lacks = |name, wanted: &str| {
            let allowed = allowed(name);
            !allowed
                .iter()
                .any(|one| one == "*" || *one == wanted.to_ascii_lowercase())
        };
        let mut lacking = vec![];
        if !answer.status().is_success() || lacks(ACCESS_CONTROL_ALLOW_ORIGIN, origin) {
            lacking.push(format!("origin {origin}"));
        }
        if lacks(ACCESS_CONTROL_ALLOW_METHODS, "PUT") {
            lacking.push("method PUT".to_owned());
        }
        let headers = headers
            .iter()
            .filter(|name| lacks(ACCESS_CONTROL_ALLOW_HEADERS, name));
        lacking.extend(headers.map(|name| format!("header {name}")));
        Ok(lacking)
    }
}
