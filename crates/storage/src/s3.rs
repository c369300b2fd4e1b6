//! A bucket of an S3-compatible store.
//!
//! Requests that must bind their terms (a client's PUT, our own PUTs, a HEAD that asks for the checksum) are signed
//! with rusty-s3, because `object_store` refuses to sign `content-length`; reading, deleting and multipart go through
//! `object_store`, which resumes and retries.

mod cors;
mod parts;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use chrono::{DateTime, Utc};
use object_store::aws::AmazonS3Builder;
use object_store::{
    Attribute, Attributes, ClientOptions, ObjectStore, PutMultipartOptions, PutOptions,
    RetryConfig, WriteMultipart,
};
use reqwest::header::{CONTENT_LENGTH, ETAG, HeaderMap};
use reqwest::{Response, StatusCode};
use rusty_s3::{Credentials, S3Action, UrlStyle};
use service::clock::Clock;
use service::retry::{Backoff, Retry};
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;
use url::Url;

use crate::breaker::Breaker;
use crate::checksum::{Checksum, Hashing};
use crate::config::{BucketLocation, Config};
use crate::error::Error;
use crate::key::Key;
use crate::store::{Body, ObjectFacts, expiry};
use crate::terms::{Presentation, PutTerms, SignedRequest};
use crate::{metrics, transfer};

/// Larger files go up in parts: a part that fails is sent again, not the whole file.
const MULTIPART_FROM: u64 = 16 * 1024 * 1024;
/// The size of a part; S3 takes at most 10,000 of them.
const PART: u64 = 8 * 1024 * 1024;
/// Parts on their way at once.
const PARTS_AT_ONCE: usize = 4;
/// How long our own requests are signed for.
const OWN: Duration = Duration::from_mins(15);
/// How often a request that a failure of the store spoiled is sent.
const ATTEMPTS: u32 = 4;
const CHECKSUM_HEADER: &str = "x-amz-checksum-sha256";

/// A bucket, or the part of it under a prefix.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    prefix: String,
    signer: rusty_s3::Bucket,
    credentials: Credentials,
    http: reqwest::Client,
    objects: Arc<dyn ObjectStore>,
    breaker: Breaker,
}

impl Bucket {
    pub(crate) fn open(at: BucketLocation, config: &Config) -> Result<Self, Error> {
        let (Some(key), Some(secret)) = (&config.aws_access_key_id, &config.aws_secret_access_key)
        else {
            return Err(Error::Config(
                "a bucket needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY".into(),
            ));
        };
        // Amazon wants the bucket in the host's name; others are mostly reached by an address that takes none.
        let style = if at.endpoint.is_some() {
            UrlStyle::Path
        } else {
            UrlStyle::VirtualHost
        };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&at.bucket)
            .with_region(&at.region)
            .with_access_key_id(key)
            .with_secret_access_key(secret.expose())
            .with_virtual_hosted_style_request(at.endpoint.is_none())
            .with_client_options(client_options(at.endpoint.as_ref()))
            .with_retry(RetryConfig {
                max_retries: ATTEMPTS as usize,
                retry_timeout: Duration::from_hours(1),
                ..RetryConfig::default()
            });
        if let Some(endpoint) = &at.endpoint {
            builder = builder.with_endpoint(endpoint.as_str().trim_end_matches('/'));
        }
        let config_error = |error: &dyn std::fmt::Display| Error::Config(error.to_string());
        let endpoint = match at.endpoint {
            Some(endpoint) => endpoint,
            None => Url::parse(&format!("https://s3.{}.amazonaws.com", at.region))
                .map_err(|e| config_error(&e))?,
        };
        let signer = rusty_s3::Bucket::new(endpoint, style, at.bucket, at.region)
            .map_err(|e| config_error(&e))?;
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(5))
            .build();
        Ok(Self {
            prefix: at.prefix,
            signer,
            credentials: Credentials::new(key.clone(), secret.expose()),
            http: http.map_err(|e| config_error(&e))?,
            objects: Arc::new(builder.build().map_err(|e| config_error(&e))?),
            breaker: Breaker::default(),
        })
    }

    pub(crate) fn objects(&self) -> &Arc<dyn ObjectStore> {
        &self.objects
    }

    pub(crate) fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(crate) fn sign_put(
        &self,
        terms: &PutTerms,
        expires: Duration,
        now: DateTime<Utc>,
    ) -> Result<SignedRequest, Error> {
        let name = self.name(&terms.key);
        let mut action = self.signer.put_object(Some(&self.credentials), &name);
        let headers = [
            ("content-length", terms.bytes.to_string()),
            ("content-type", terms.media_type.clone()),
            ("if-none-match", "*".to_owned()),
            (CHECKSUM_HEADER, terms.sha256.base64()),
        ];
        for (name, value) in &headers {
            action.headers_mut().insert(*name, value.clone());
        }
        let url = action.sign_with_time(expires, &timestamp(now)?);
        let headers = headers
            .map(|(name, value)| (name.to_owned(), value))
            .to_vec();
        Ok(SignedRequest {
            method: "PUT",
            url,
            headers,
            expires_at: expiry(expires, now),
        })
    }

    pub(crate) fn sign_get(
        &self,
        key: &Key,
        expires: Duration,
        now: DateTime<Utc>,
        presentation: &Presentation,
    ) -> Result<Url, Error> {
        let name = self.name(key);
        let mut action = self.signer.get_object(Some(&self.credentials), &name);
        if let Some(media_type) = &presentation.media_type {
            action
                .query_mut()
                .insert("response-content-type", media_type);
        }
        if let Some(disposition) = &presentation.disposition {
            action
                .query_mut()
                .insert("response-content-disposition", disposition);
        }
        Ok(action.sign_with_time(expires, &timestamp(now)?))
    }

    /// Size, `ETag` and, where the store keeps one of the whole object, the checksum it attests.
    pub(crate) async fn head(&self, key: &Key) -> Result<Option<ObjectFacts>, Error> {
        let mut attempts = Attempts::new();
        loop {
            match self.head_once(key).await {
                Err(error) if attempts.again(&error).await => {}
                Err(Error::Missing(_)) => return Ok(None),
                result => return result.map(Some),
            }
        }
    }

    async fn head_once(&self, key: &Key) -> Result<ObjectFacts, Error> {
        let name = self.name(key);
        let mut action = self.signer.head_object(Some(&self.credentials), &name);
        action
            .headers_mut()
            .insert("x-amz-checksum-mode", "ENABLED");
        let url = action.sign_with_time(OWN, &timestamp(Clock::System.now())?);
        let request = self
            .http
            .head(url)
            .header("x-amz-checksum-mode", "ENABLED")
            .timeout(Duration::from_secs(15));
        let response = accepted(key, request.send().await.map_err(unavailable)?).await?;
        let headers = response.headers();
        let bytes = text(headers, CONTENT_LENGTH.as_str()).and_then(|bytes| bytes.parse().ok());
        Ok(ObjectFacts {
            bytes: bytes.ok_or_else(|| Error::Refused("HEAD without a content-length".into()))?,
            etag: text(headers, ETAG.as_str()).map(str::to_owned),
            sha256: text(headers, CHECKSUM_HEADER).and_then(|sum| Checksum::from_base64(sum).ok()),
        })
    }

    /// Creates the object, in one PUT that the store checks against the terms or, when large, in parts.
    pub(crate) async fn create(&self, terms: &PutTerms, body: &Body<'_>) -> Result<(), Error> {
        if let Body::File(path) = body
            && terms.bytes >= MULTIPART_FROM
        {
            // Parts know no create-once; and whoever else writes this key now writes the same bytes.
            return match self.head(&terms.key).await? {
                Some(_) => Err(Error::Exists(terms.key.clone())),
                None => self.put_parts(terms, path).await,
            };
        }
        let mut attempts = Attempts::new();
        loop {
            match self.put_once(terms, body).await {
                Err(error) if attempts.again(&error).await => {}
                result => return result,
            }
            // A store that has the object may hang up before it has read what it refuses, and that is all we see of it.
            if self.head_once(&terms.key).await.is_ok() {
                return Err(Error::Exists(terms.key.clone()));
            }
        }
    }

    /// Puts the object whatever is there: nothing is asked of the store but that a PUT is whole or not at all.
    pub(crate) async fn replace(
        &self,
        key: &Key,
        bytes: Bytes,
        media_type: &str,
    ) -> Result<(), Error> {
        let attributes = Attributes::from_iter([(Attribute::ContentType, media_type.to_owned())]);
        let options = PutOptions {
            attributes,
            ..PutOptions::default()
        };
        let at = transfer::path(&self.prefix, key)?;
        let put = self.objects.put_opts(&at, bytes.into(), options);
        put.await
            .map(drop)
            .map_err(|error| Error::from_store(key, error))
    }

    async fn put_once(&self, terms: &PutTerms, body: &Body<'_>) -> Result<(), Error> {
        let signed = self.sign_put(terms, OWN, Clock::System.now())?;
        // Slower than 256 KiB/s counts as not answering.
        let limit = Duration::from_secs(60 + terms.bytes / (256 * 1024));
        let mut request = self.http.put(signed.url).timeout(limit);
        for (name, value) in signed.headers {
            request = request.header(name, value);
        }
        let body = match body {
            Body::Bytes(bytes) => reqwest::Body::from(bytes.clone()),
            Body::File(path) => reqwest::Body::wrap_stream(ReaderStream::with_capacity(
                File::open(path).await?,
                65536,
            )),
        };
        accepted(
            &terms.key,
            request.body(body).send().await.map_err(unavailable)?,
        )
        .await?;
        metrics::moved("out", usize::try_from(terms.bytes).unwrap_or(usize::MAX));
        Ok(())
    }

    /// An upload that this process does not live to end or to abort stays in the bucket, unseen and paid for, until a
    /// lifecycle rule for incomplete multipart uploads removes it.
    async fn put_parts(&self, terms: &PutTerms, path: &Path) -> Result<(), Error> {
        let attributes =
            Attributes::from_iter([(Attribute::ContentType, terms.media_type.clone())]);
        let options = PutMultipartOptions {
            attributes,
            ..PutMultipartOptions::default()
        };
        let store_error = |error| Error::from_store(&terms.key, error);
        let at = transfer::path(&self.prefix, &terms.key)?;
        let upload = self
            .objects
            .put_multipart_opts(&at, options)
            .await
            .map_err(store_error)?;
        let part = PART.max(terms.bytes.div_ceil(10_000));
        let part = usize::try_from(part)
            .map_err(|_| Error::Refused("too large for this machine".into()))?;
        let mut writer = WriteMultipart::new_with_chunk_size(upload, part);
        match send_parts(&mut writer, terms, path, part).await {
            Ok(()) => writer.finish().await.map(drop).map_err(store_error),
            Err(error) => {
                if let Err(left) = writer.abort().await {
                    tracing::warn!(key = %terms.key, error = %left, "an incomplete multipart upload was left");
                }
                Err(error)
            }
        }
    }

    fn name(&self, key: &Key) -> String {
        format!("{}{key}", self.prefix)
    }
}

async fn send_parts(
    writer: &mut WriteMultipart,
    terms: &PutTerms,
    path: &Path,
    part: usize,
) -> Result<(), Error> {
    let (mut file, mut hashing) = (File::open(path).await?, Hashing::default());
    loop {
        let mut piece = BytesMut::with_capacity(part);
        while piece.len() < part && file.read_buf(&mut piece).await? > 0 {}
        if piece.is_empty() {
            break;
        }
        hashing.update(&piece);
        metrics::moved("out", piece.len());
        writer
            .wait_for_capacity(PARTS_AT_ONCE)
            .await
            .map_err(|error| Error::from_store(&terms.key, error))?;
        writer.put(Bytes::from(piece));
    }
    // The file was hashed before; between then and now it could change.
    if hashing.finish() == terms.sha256 {
        Ok(())
    } else {
        let (key, etag) = (terms.key.clone(), None);
        Err(Error::ChecksumDiffers { key, etag })
    }
}

/// No limit on a whole transfer, which may be of many gigabytes; one on every wait within it.
fn client_options(endpoint: Option<&Url>) -> ClientOptions {
    ClientOptions::new()
        .with_allow_http(endpoint.is_some_and(|url| url.scheme() == "http"))
        .with_connect_timeout(Duration::from_secs(5))
        .with_read_timeout(Duration::from_secs(30))
        .with_timeout_disabled()
}

/// Tries left for one request.
struct Attempts {
    left: u32,
    backoff: Backoff,
}

impl Attempts {
    fn new() -> Self {
        Self {
            left: ATTEMPTS - 1,
            backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(2)),
        }
    }

    /// Whether to try again after `error`; if so, it has waited.
    async fn again(&mut self, error: &Error) -> bool {
        if self.left == 0 || error.retry() == Retry::Never {
            return false;
        }
        self.left -= 1;
        tokio::time::sleep(self.backoff.next_wait()).await;
        true
    }
}

/// The response when it is a success, else what its status means for the object at `key`.
async fn accepted(key: &Key, response: Response) -> Result<Response, Error> {
    let status = response.status();
    match status {
        _ if status.is_success() => Ok(response),
        StatusCode::NOT_FOUND => Err(Error::Missing(key.clone())),
        StatusCode::PRECONDITION_FAILED => Err(Error::Exists(key.clone())),
        // Amazon's answer to simultaneous conditional writes: try again.
        StatusCode::CONFLICT | StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => {
            Err(Error::Unavailable(format!("{status}").into()))
        }
        _ if status.is_server_error() => Err(Error::Unavailable(format!("{status}").into())),
        _ => {
            let why: String = response
                .text()
                .await
                .unwrap_or_default()
                .chars()
                .take(300)
                .collect();
            Err(Error::Refused(format!("{status} {why}")))
        }
    }
}

/// A signed URL is a secret as long as it holds, so it leaves the error.
fn unavailable(error: reqwest::Error) -> Error {
    Error::Unavailable(Box::new(error.without_url()))
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

fn timestamp(at: DateTime<Utc>) -> Result<jiff::Timestamp, Error> {
    jiff::Timestamp::from_second(at.timestamp())
        .map_err(|error| Error::Config(format!("the time: {error}")))
}
