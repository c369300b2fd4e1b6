//! Signed URLs of a folder store: every term stands in the query and under the tag, so that changing one, or moving a
//! tag to another key or method, is a forgery. Pure, so that a fuzzer can have it: fuzz/src/lib.rs.

use chrono::{DateTime, Utc};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName};
use service::mac::MacKey;
use url::Url;
use url::form_urlencoded;

use crate::checksum::Checksum;
use crate::key::Key;
use crate::terms::{Presentation, PutTerms, SignedRequest};

/// Why a request to the folder store is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The key or the query is not what this store signs (`400`).
    #[error("the signed URL is malformed")]
    Malformed,
    /// The signature does not belong to these terms (`403`).
    #[error("the signature does not match")]
    Forged,
    /// The signature was good, until now (`403`).
    #[error("the signed URL has expired")]
    Expired,
    /// The body is announced without a length, or with another one (`411` or `400`).
    #[error("`content-length` is not the signed one")]
    LengthDiffers,
    /// The body is announced as another type (`400`).
    #[error("`content-type` is not the signed one")]
    TypeDiffers,
}

/// Signs and checks the URLs of a store. It never looks at what is stored.
#[derive(Clone, Debug)]
pub(crate) struct Signer(MacKey);

impl Signer {
    pub(crate) fn new(key: MacKey) -> Self {
        Self(key)
    }

    /// A put of what `terms` say, at the object's `url`.
    pub(crate) fn put(
        &self,
        mut url: Url,
        terms: &PutTerms,
        expires_at: DateTime<Utc>,
    ) -> SignedRequest {
        let expires = expires_at.timestamp();
        let tag = put_parts(terms, expires, |parts| self.0.sign(parts));
        url.query_pairs_mut()
            .append_pair("bytes", &terms.bytes.to_string())
            .append_pair("type", &terms.media_type)
            .append_pair("sha256", &terms.sha256.to_string())
            .append_pair("expires", &expires.to_string())
            .append_pair("signature", &hex::encode(tag));
        let headers = vec![
            ("content-length".to_owned(), terms.bytes.to_string()),
            ("content-type".to_owned(), terms.media_type.clone()),
        ];
        SignedRequest {
            method: "PUT",
            url,
            headers,
            expires_at,
        }
    }

    /// A get of the object of `key`, at its `url`.
    pub(crate) fn get(
        &self,
        mut url: Url,
        key: &Key,
        presentation: &Presentation,
        expires_at: DateTime<Utc>,
    ) -> Url {
        let expires = expires_at.timestamp();
        let tag = get_parts(key, presentation, expires, |parts| self.0.sign(parts));
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        url.query_pairs_mut()
            .append_pair("type", &text(&presentation.media_type))
            .append_pair("disposition", &text(&presentation.disposition))
            .append_pair("expires", &expires.to_string())
            .append_pair("signature", &hex::encode(tag));
        url
    }

    /// What a put of `key` was allowed to put and until when, if it still is and the headers announce just that.
    pub(crate) fn check_put(
        &self,
        key: &str,
        query: &str,
        headers: &HeaderMap,
        now: DateTime<Utc>,
    ) -> Result<(PutTerms, DateTime<Utc>), SignatureError> {
        let terms = PutTerms {
            key: key.parse().map_err(|_| SignatureError::Malformed)?,
            bytes: parsed(query, "bytes")?,
            media_type: field(query, "type")?,
            sha256: parsed::<Checksum>(query, "sha256")?,
        };
        let (expires, tag) = (parsed(query, "expires")?, tag(query)?);
        check_tag(put_parts(&terms, expires, |parts| {
            self.0.verify(parts, &tag)
        }))?;
        check_time(expires, now)?;
        if header(headers, &CONTENT_LENGTH).and_then(|text| text.parse().ok()) != Some(terms.bytes)
        {
            return Err(SignatureError::LengthDiffers);
        }
        if header(headers, &CONTENT_TYPE) != Some(&terms.media_type) {
            return Err(SignatureError::TypeDiffers);
        }
        let until = DateTime::from_timestamp(expires, 0).ok_or(SignatureError::Malformed)?;
        Ok((terms, until))
    }

    /// What a get of `key` may read, and as what it is to be presented.
    pub(crate) fn check_get(
        &self,
        key: &str,
        query: &str,
        now: DateTime<Utc>,
    ) -> Result<(Key, Presentation), SignatureError> {
        let key: Key = key.parse().map_err(|_| SignatureError::Malformed)?;
        let presentation = Presentation {
            media_type: Some(field(query, "type")?).filter(|text| !text.is_empty()),
            disposition: Some(field(query, "disposition")?).filter(|text| !text.is_empty()),
        };
        let (expires, tag) = (parsed(query, "expires")?, tag(query)?);
        check_tag(get_parts(&key, &presentation, expires, |parts| {
            self.0.verify(parts, &tag)
        }))?;
        check_time(expires, now)?;
        Ok((key, presentation))
    }
}

/// Hands the signed parts of a put to `then`.
fn put_parts<T>(terms: &PutTerms, expires: i64, then: impl FnOnce(&[&[u8]]) -> T) -> T {
    let PutTerms {
        key,
        bytes,
        media_type,
        sha256,
    } = terms;
    let (bytes, expires) = (bytes.to_be_bytes(), expires.to_be_bytes());
    then(&[
        b"put",
        key.as_str().as_bytes(),
        &bytes,
        media_type.as_bytes(),
        sha256.as_bytes(),
        &expires,
    ])
}

/// Hands the signed parts of a get to `then`.
fn get_parts<T>(
    key: &Key,
    presentation: &Presentation,
    expires: i64,
    then: impl FnOnce(&[&[u8]]) -> T,
) -> T {
    let media_type = presentation
        .media_type
        .as_deref()
        .unwrap_or_default()
        .as_bytes();
    let disposition = presentation
        .disposition
        .as_deref()
        .unwrap_or_default()
        .as_bytes();
    then(&[
        b"get",
        key.as_str().as_bytes(),
        media_type,
        disposition,
        &expires.to_be_bytes(),
    ])
}

fn check_tag(good: bool) -> Result<(), SignatureError> {
    if good {
        Ok(())
    } else {
        Err(SignatureError::Forged)
    }
}

fn check_time(expires: i64, now: DateTime<Utc>) -> Result<(), SignatureError> {
    if now.timestamp() < expires {
        Ok(())
    } else {
        Err(SignatureError::Expired)
    }
}

fn tag(query: &str) -> Result<Vec<u8>, SignatureError> {
    hex::decode(field(query, "signature")?).map_err(|_| SignatureError::Malformed)
}

/// The one value of `name`; given twice, it is unclear which was signed.
fn field(query: &str, name: &str) -> Result<String, SignatureError> {
    let mut values = form_urlencoded::parse(query.as_bytes()).filter(|(found, _)| found == name);
    match (values.next(), values.next()) {
        (Some((_, value)), None) => Ok(value.into_owned()),
        _ => Err(SignatureError::Malformed),
    }
}

fn parsed<T: std::str::FromStr>(query: &str, name: &str) -> Result<T, SignatureError> {
    field(query, name)?
        .parse()
        .map_err(|_| SignatureError::Malformed)
}

fn header<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}
