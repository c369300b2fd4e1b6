//! What clients may keep: answers are private, and a client that has the newest one is told so instead of given it
//! again.

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use crate::auth::Asks;
use crate::edge::Caller;
use crate::problem::Problem;
use crate::state::ApiState;

/// The largest answer that is tagged: a page of 100 posts with all their media is well below.
const TAGGED_MAX: usize = 8 * 1024 * 1024;

/// Tags JSON answers to reads by content and viewer, and answers 304 to who has them already.
pub(crate) async fn tag(
    State(state): State<ApiState>,
    mut request: Request,
    next: Next,
) -> Response {
    let reads = request.method() == Method::GET || request.method() == Method::HEAD;
    // The person, not the token: a new token must not make everything look new.
    let asks = state.principal(request.method(), request.headers()).await;
    let viewer = asks.as_ref().ok().map(|who| (who.tenant, who.user));
    request.extensions_mut().insert(Asks(asks));
    let kept = request.headers().get(IF_NONE_MATCH).cloned();
    let mut response = next.run(request).await;
    if let Some((_, user)) = viewer {
        response.extensions_mut().insert(Caller(user));
    }
    response
        .headers_mut()
        .entry(CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("private, no-cache"));
    let json = response
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|media_type| media_type == "application/json");
    if !reads || response.status() != StatusCode::OK || !json {
        return response;
    }
    let (mut head, body) = response.into_parts();
    let body = match to_bytes(body, TAGGED_MAX).await {
        Ok(body) => body,
        Err(error) => return Problem::internal(&error).into_response(),
    };
    let mut hash = Sha256::new();
    if let Some((tenant, user)) = viewer {
        hash.update(tenant.0);
        hash.update(user.0);
    }
    hash.update(&body);
    let etag = format!("\"{}\"", hex::encode(&hash.finalize()[..16]));
    let fresh = kept
        .as_ref()
        .and_then(|kept| kept.to_str().ok())
        .is_some_and(|kept| matches(kept, &etag));
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        head.headers.insert(ETAG, etag);
    }
    if fresh {
        head.status = StatusCode::NOT_MODIFIED;
        head.headers.remove(CONTENT_TYPE);
        return Response::from_parts(head, Body::empty());
    }
    Response::from_parts(head, Body::from(body))
}

/// Whether what a client has, as `If-None-Match` says it, is this.
pub(crate) fn matches(kept: &str, etag: &str) -> bool {
    kept.split(',')
        .map(|one| one.trim().trim_start_matches("W/"))
        .any(|one| one == "*" || one == etag)
}
