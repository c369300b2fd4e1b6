//! Signed URLs of a folder store: every term stands in the query and under the tag, so that changing one, or moving a
//! tag to another key or method, is a forgery.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName};
use service::mac::MacKey;
use url::Url;
use url::form_urlencoded;

use super::Folder;
use crate::checksum::Checksum;
use crate::error::Error;
use crate::key::Key;
use crate::store::{Presentation, PutTerms, SignedRequest, expiry};

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

impl Folder {
    pub(crate) fn sign_put(
        &self,
        terms: &PutTerms,
        expires: Duration,
        now: DateTime<Utc>,
    ) -> Result<SignedRequest, Error> {
        let expires_at = expiry(expires, now);
        let signing = self.signing_key()?;
        let tag = put_parts(terms, expires_at.timestamp(), |parts| signing.sign(parts));
        let mut url = self.url_of(&terms.key)?;
        url.query_pairs_mut()
            .append_pair("bytes", &terms.bytes.to_string())
            .append_pair("type", &terms.media_type)
            .append_pair("sha256", &terms.sha256.to_string())
            .append_pair("expires", &expires_at.timestamp().to_string())
            .append_pair("signature", &hex::encode(tag));
        let headers = vec![
            ("content-length".to_owned(), terms.bytes.to_string()),
            ("content-type".to_owned(), terms.media_type.clone()),
        ];
        Ok(SignedRequest {
            method: "PUT",
            url,
            headers,
            expires_at,
        })
    }

    pub(crate) fn sign_get(
        &self,
        key: &Key,
        expires: Duration,
        now: DateTime<Utc>,
        presentation: &Presentation,
    ) -> Result<Url, Error> {
        let expires_at = expiry(expires, now).timestamp();
        let signing = self.signing_key()?;
        let tag = get_parts(key, presentation, expires_at, |parts| signing.sign(parts));
        let mut url = self.url_of(key)?;
        url.query_pairs_mut()
            .append_pair(
                "type",
                presentation.media_type.as_deref().unwrap_or_default(),
            )
            .append_pair(
                "disposition",
                presentation.disposition.as_deref().unwrap_or_default(),
            )
            .append_pair("expires", &expires_at.to_string())
            .append_pair("signature", &hex::encode(tag));
        Ok(url)
    }

    /// What a `PUT /storage/{key}?{query}` was allowed to put and until when, if it still is and the headers announce just
    /// that.
    pub fn check_put(
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
        let expires = parsed(query, "expires")?;
        let (signing, tag) = self.signing_and_tag(query)?;
        check_tag(put_parts(&terms, expires, |parts| {
            signing.verify(parts, &tag)
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

    /// What a `GET` or `HEAD /storage/{key}?{query}` may read, and as what it is to be presented.
    pub fn check_get(
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
        let expires = parsed(query, "expires")?;
        let (signing, tag) = self.signing_and_tag(query)?;
        check_tag(get_parts(&key, &presentation, expires, |parts| {
            signing.verify(parts, &tag)
        }))?;
        check_time(expires, now)?;
        Ok((key, presentation))
    }

    fn signing_key(&self) -> Result<&MacKey, Error> {
        self.signing
            .as_ref()
            .ok_or_else(|| Error::Config("this process holds no key to sign URLs with".into()))
    }

    fn url_of(&self, key: &Key) -> Result<Url, Error> {
        let base = self.public_url.as_str().trim_end_matches('/');
        Url::parse(&format!("{base}/storage/{key}"))
            .map_err(|error| Error::Config(format!("public URL: {error}")))
    }

    /// Without a key of our own, no tag can be ours.
    fn signing_and_tag(&self, query: &str) -> Result<(&MacKey, Vec<u8>), SignatureError> {
        let tag = hex::decode(field(query, "signature")?).map_err(|_| SignatureError::Malformed)?;
        Ok((self.signing.as_ref().ok_or(SignatureError::Forged)?, tag))
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
