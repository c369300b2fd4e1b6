//! The outermost layer: every request gets an id, every error its body, every answer a line in the log, without
//! personal data: no query, no path but the route's template. Refusals for being too much are counted, and have lines of debugging.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::http::header::{CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument;
use uuid::Uuid;

use crate::limit::Refused;
use crate::metrics::{REQUEST_SECONDS, REQUESTS};
use crate::problem;

/// On every answer that does not say otherwise: it is what it says it is, is nobody's page, and does not tell where one came from.
const HARMLESS: [(HeaderName, HeaderValue); 3] = [
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    ),
    (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
];
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest id that a client may choose.
const REQUEST_ID_MAX: usize = 128;

/// The request's id: the client's own when it is one, else a fresh one.
#[derive(Clone, Debug)]
pub(crate) struct RequestId(pub(crate) Arc<str>);

impl RequestId {
    fn of(headers: &HeaderMap) -> Self {
        let chosen = headers
            .get(REQUEST_ID)
            .and_then(|value| value.to_str().ok());
        let sane = |id: &&str| {
            (1..=REQUEST_ID_MAX).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic())
        };
        Self(
            chosen
                .filter(sane)
                .map_or_else(|| Uuid::now_v7().to_string().into(), Into::into),
        )
    }
}

pub(crate) async fn edge(route: Option<MatchedPath>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = RequestId::of(request.headers());
    let method = request.method().clone();
    let route = route.map_or_else(|| "unknown".to_owned(), |route| route.as_str().to_owned());
    request.extensions_mut().insert(id.clone());
    let span = tracing::info_span!("request", request_id = &*id.0);
    async {
        let answer = next.run(request).await;
        let refused = answer.extensions().get::<Refused>().is_some();
        let mut response = problem::finish(answer, &id.0);
        if let Ok(value) = HeaderValue::from_str(&id.0) {
            response.headers_mut().insert(REQUEST_ID, value);
        }
        for (name, value) in HARMLESS {
            response.headers_mut().entry(name).or_insert(value);
        }
        if refused {
            tracing::debug!(%method, route, "refused");
        } else {
            tell(&method, &route, &response, started);
        }
        count(&method, route, &response, started);
        response
    }
    .instrument(span)
    .await
}

fn tell(method: &Method, route: &str, response: &Response, started: Instant) {
    let (status, elapsed) = (response.status().as_u16(), started.elapsed());
    let duration_ms = elapsed.as_secs_f64() * 1000.0;
    tracing::info!(%method, route, status, duration_ms, "answered");
}

fn count(method: &Method, route: String, response: &Response, started: Instant) {
    // Clients invent methods; labels must stay few.
    let method = match method.as_str() {
        known @ ("GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS") => {
            known.to_owned()
        }
        _ => "other".to_owned(),
    };
    metrics::histogram!(REQUEST_SECONDS, "method" => method.clone(), "route" => route.clone())
        .record(started.elapsed());
    let status = response.status().as_u16().to_string();
    metrics::counter!(REQUESTS, "method" => method, "route" => route, "status" => status)
        .increment(1);
}
