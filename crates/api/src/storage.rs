//! `PUT|GET /storage/{key}`: the bytes of a folder store, by signed URL only. Nothing that strangers uploaded may act
//! on our origin: every answer is a download, of exactly the signed type, in a sandbox.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, IF_RANGE, RANGE,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use events::decide::asset::{AssetState, Phase};
use events::id::{AssetId, StreamKey, TenantId};
use futures::StreamExt;
use storage::{ByteRange, Folder, Incoming, Key, OpenObject, Presentation, SignatureError};
use tokio::time::Instant;
use tokio_util::io::ReaderStream;

use crate::cache::matches;
use crate::limit::{SILENCE_LIMIT, SLOWEST_UPLOAD, upload_limit};
use crate::peer::Peer;
use crate::problem::{Kind, Problem};
use crate::state::ApiState;

/// On every answer with an object's bytes.
const HARMLESS: [(HeaderName, HeaderValue); 3] = [
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; sandbox"),
    ),
    (
        CACHE_CONTROL,
        HeaderValue::from_static("private, max-age=300"),
    ),
];

/// When to try again where as many uploads come as may.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Whether a request is for [`put`], if for anything.
pub(crate) fn is_upload(request: &Request) -> bool {
    request.method() == Method::PUT && request.uri().path().starts_with("/storage/")
}

/// Put an upload into the folder store
///
/// By the URL and with the headers that `POST /uploads` answered, where the store is a folder; with a bucket, that URL is the bucket's.
/// Once, and only the bytes that were promised: their number, type and SHA-256. The key has slashes, and a signature is in the query.
#[utoipa::path(put, path = "/storage/{key}", tag = "storage", security(()),
    params(("key" = String, Path)),
    request_body(content_type = "application/octet-stream", content = Vec<u8>),
    responses((status = 201, description = "Stored")))]
pub(crate) async fn put(
    State(state): State<ApiState>,
    peer: Peer,
    Path(key): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let folder = folder(&state)?;
    let now = state.clock.now();
    let (terms, until) = folder.check_put(&key, &query.unwrap_or_default(), &headers, now)?;
    let sending = state.uploads.take(peer.counted());
    let _sending = sending.map_err(|_| Problem::overloaded(RETRY_AFTER))?;
    // The same URL again while its bytes come would only fill the disk.
    let _alone = state.uploading.take(terms.key.clone())?;
    still_awaited(&state, &terms.key).await?;
    let key = terms.key.clone();
    let incoming = folder.begin_put(terms).await?;
    let taken_in = async {
        let incoming = take_in(incoming, body).await?;
        // It may have been given up in the meantime.
        still_awaited(&state, &key).await?;
        Ok::<_, Problem>(incoming.finish().await?)
    };
    let facts = tokio::time::timeout(upload_limit(until, now), taken_in)
        .await
        .map_err(|_| Kind::Timeout)??;
    let mut response = StatusCode::CREATED.into_response();
    if let Some(etag) = facts.etag {
        response.headers_mut().insert(ETAG, text(&etag)?);
    }
    Ok(response)
}

/// Refuses bytes of an upload that has ended: what was signed before holds on.
async fn still_awaited(state: &ApiState, key: &Key) -> Result<(), Problem> {
    let (tenant, asset) = key.of_original().ok_or(Kind::UploadEnded)?;
    let stream = StreamKey::asset(AssetId(asset)).stream;
    let row = state.log.stream(TenantId(tenant), &stream).await?;
    let upload: AssetState = row.map(|row| row.state()).unwrap_or_default();
    if upload.phase == Phase::Requested {
        return Ok(());
    }
    Err(Kind::UploadEnded.into())
}

async fn take_in(mut incoming: Incoming, body: Body) -> Result<Incoming, Problem> {
    let (mut pieces, mut come, begun) = (body.into_data_stream(), 0, Instant::now());
    while let Some(piece) = tokio::time::timeout(SILENCE_LIMIT, pieces.next())
        .await
        .map_err(|_| Kind::Timeout)?
    {
        let piece = piece.map_err(|_| Kind::Malformed)?;
        come += piece.len() as u64;
        if is_slow(come, begun.elapsed()) {
            return Err(Kind::Timeout.into());
        }
        incoming.write(&piece).await?;
    }
    Ok(incoming)
}

/// Whether so little has come in this time that somebody keeps a place rather than uploads.
fn is_slow(come: u64, time: Duration) -> bool {
    let (least, grace) = SLOWEST_UPLOAD;
    come < time.saturating_sub(grace).as_secs() * least
}

/// Read an object of the folder store
///
/// By a URL that a redirect gave, for a while: all of its bytes or one `Range` of them.
#[utoipa::path(get, path = "/storage/{key}", tag = "storage", security(()),
    params(("key" = String, Path), ("Range" = Option<String>, Header, description = "One range of bytes."),
        ("If-Range" = Option<String>, Header, description = "The `ETag` of what the client has a part of: all of it comes if that is another one."),
        ("If-None-Match" = Option<String>, Header, description = "The `ETag` of what the client has: the answer is 304 if that is still so.")),
    responses((status = 200, description = "The bytes", content_type = "application/octet-stream", headers(("etag" = String, description = "For `If-Range`"))),
        (status = 206, description = "Those of the range", content_type = "application/octet-stream",
            headers(("content-range" = String, description = "Which these are"))),
        (status = 304, description = "The client has them")))]
pub(crate) async fn get(
    State(state): State<ApiState>,
    Path(key): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let folder = folder(&state)?;
    let (key, presentation) =
        folder.check_get(&key, &query.unwrap_or_default(), state.clock.now())?;
    let object = folder.open(&key).await.map_err(|error| match error {
        storage::Error::Missing(_) => Problem::from(Kind::NotFound("object")),
        other => other.into(),
    })?;
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let etag = object.etag.as_deref().unwrap_or_default();
    if header(IF_NONE_MATCH).is_some_and(|kept| matches(kept, etag)) {
        let known = [(ETAG, text(etag)?)];
        return Ok((StatusCode::NOT_MODIFIED, known, HARMLESS).into_response());
    }
    // A part of another object than the one that the client has the rest of is of no use.
    let kept = headers.get(IF_RANGE);
    let same = kept.is_none_or(|kept| kept.as_bytes() == etag.as_bytes());
    let wanted = header(RANGE).filter(|_| same);
    let total = object.bytes;
    let Ok(range) = ByteRange::parse(wanted, total) else {
        let mut response = Problem::from(Kind::Range).into_response();
        response
            .headers_mut()
            .insert(CONTENT_RANGE, text(&format!("bytes */{total}"))?);
        return Ok(response);
    };
    serve(object, &range, presentation).await
}

async fn serve(
    object: OpenObject,
    range: &ByteRange,
    presentation: Presentation,
) -> Result<Response, Problem> {
    let (total, covered) = (object.bytes, range.of(object.bytes));
    let etag = object.etag.clone();
    let bytes = object.read(range).await?;
    let mut response = (
        HARMLESS,
        Body::from_stream(ReaderStream::with_capacity(bytes, 64 * 1024)),
    )
        .into_response();
    if *range != ByteRange::Whole {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    let headers = response.headers_mut();
    if *range != ByteRange::Whole {
        let last = covered.end.saturating_sub(1);
        headers.insert(
            CONTENT_RANGE,
            text(&format!("bytes {}-{last}/{total}", covered.start))?,
        );
    }
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(CONTENT_LENGTH, (covered.end - covered.start).into());
    headers.insert(
        CONTENT_TYPE,
        text(
            presentation
                .media_type
                .as_deref()
                .unwrap_or("application/octet-stream"),
        )?,
    );
    headers.insert(
        CONTENT_DISPOSITION,
        text(presentation.disposition.as_deref().unwrap_or("attachment"))?,
    );
    if let Some(etag) = etag {
        headers.insert(ETAG, text(&etag)?);
    }
    Ok(response)
}

/// With a bucket there is nothing to serve here.
fn folder(state: &ApiState) -> Result<&Folder, Problem> {
    state
        .store
        .folder()
        .ok_or_else(|| Kind::NotFound("route").into())
}

fn text(value: &str) -> Result<HeaderValue, Problem> {
    HeaderValue::from_str(value).map_err(|error| Problem::internal(&error))
}

impl From<SignatureError> for Problem {
    fn from(error: SignatureError) -> Self {
        let kind = match error {
            SignatureError::Malformed => Kind::UrlMalformed,
            SignatureError::Forged => Kind::UrlForged,
            SignatureError::Expired => Kind::UrlExpired,
            SignatureError::LengthDiffers | SignatureError::TypeDiffers => Kind::HeaderDiffers,
        };
        Self::from(kind).detail(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_may_be_slow_for_a_while_and_then_as_slow_as_a_bad_line() {
        let (least, grace) = SLOWEST_UPLOAD;
        assert!(!is_slow(1, grace));
        let later = grace + Duration::from_mins(1);
        assert!(is_slow(60 * least - 1, later));
        assert!(!is_slow(60 * least, later));
    }
}
