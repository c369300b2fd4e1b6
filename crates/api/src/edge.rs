//! The outermost layer of every route: every request gets an id, every error its body, every answer a line in the log, without
//! personal data: no query, no path but the route's template. What is refused before has all but that line, and one for debugging.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::http::header::{CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use events::id::{JobId, UserId};
use tracing::{Instrument, field};
use uuid::Uuid;

use crate::metrics::{REQUEST_SECONDS, REQUESTS};
use crate::problem::{self, Problem};

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
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// For the route where none was looked for or found.
const UNKNOWN: &str = "unknown";
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
        // It is logged: an address, or whatever else is more than a name for a request, is none.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        let sane = |id: &&str| (1..=REQUEST_ID_MAX).contains(&id.len()) && id.bytes().all(plain);
        Self(
            chosen
                .filter(sane)
                .map_or_else(|| Uuid::now_v7().to_string().into(), Into::into),
        )
    }
}

/// The trace that the client's request is of, where its `traceparent` is one by the W3C's Trace Context: for finding what others logged
/// of it. Of later versions what is longer is for others.
fn trace(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(TRACEPARENT)?.to_str().ok()?;
    let parts: Vec<&str> = text.splitn(5, '-').collect();
    let [version, trace, parent, flags, more @ ..] = &*parts else {
        return None;
    };
    let hex = |part: &str, length| {
        let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        part.len() == length && part.bytes().all(digit)
    };
    let some = |part: &str, length| hex(part, length) && part.bytes().any(|byte| byte != b'0');
    let version = hex(version, 2) && *version != "ff" && (*version != "00" || more.is_empty());
    (version && some(trace, 32) && some(parent, 16) && hex(flags, 2)).then_some(*trace)
}

/// Who asked, for the line in the log: a name of ours that says nothing to strangers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller(pub(crate) UserId);

/// Has the line in the log name the job that an answer is about.
pub(crate) fn about_job(mut response: Response, job: JobId) -> Response {
    response.extensions_mut().insert(job);
    response
}

pub(crate) async fn edge(route: Option<MatchedPath>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = RequestId::of(request.headers());
    let method = label(request.method());
    let route: Cow<'static, str> =
        route.map_or(UNKNOWN.into(), |route| route.as_str().to_owned().into());
    request.extensions_mut().insert(id.clone());
    let trace_id = trace(request.headers());
    let span = tracing::info_span!("request", request_id = &*id.0, trace_id);
    async {
        let response = dress(next.run(request).await, &id);
        let (status, elapsed) = (response.status().as_u16(), started.elapsed());
        let duration_ms = elapsed.as_secs_f64() * 1000.0;
        let told = response.extensions();
        let user = told.get().map(|Caller(user)| field::display(user));
        let job_id = told.get::<JobId>().map(field::display);
        tracing::info!(method, %route, status, duration_ms, user, job_id, "answered");
        metrics::histogram!(REQUEST_SECONDS, "method" => method, "route" => route.clone())
            .record(elapsed);
        count(method, route, status);
        response
    }
    .instrument(span)
    .await
}

/// The answer to a request for which no route was looked for.
pub(crate) fn refuse(request: &Request, why: Problem) -> Response {
    let id = RequestId::of(request.headers());
    let mut response = dress(why.into_response(), &id);
    if request.method() == Method::HEAD {
        // No route does it here, and HTTP/2 would send it.
        *response.body_mut() = Body::empty();
    }
    let (method, status) = (label(request.method()), response.status().as_u16());
    tracing::debug!(request_id = &*id.0, method, status, "refused");
    count(method, UNKNOWN.into(), status);
    response
}

/// With what every answer has.
fn dress(response: Response, id: &RequestId) -> Response {
    let mut response = problem::finish(response, &id.0);
    if let Ok(value) = HeaderValue::from_str(&id.0) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    for (name, value) in HARMLESS {
        response.headers_mut().entry(name).or_insert(value);
    }
    response
}

/// Clients invent methods; labels must stay few.
fn label(method: &Method) -> &'static str {
    const KNOWN: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    let known = KNOWN.iter().find(|known| **known == method.as_str());
    known.copied().unwrap_or("other")
}

fn count(method: &'static str, route: Cow<'static, str>, status: u16) {
    metrics::counter!(REQUESTS, "method" => method, "route" => route, "status" => status.to_string())
        .increment(1);
}

#[cfg(test)]
mod tests {
    use axum::body::HttpBody;

    use super::*;
    use crate::problem::Kind;

    #[test]
    fn a_trace_is_one_only_as_it_should_be_written() {
        let (trace_id, parent) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        let (none, capitals) = ("0".repeat(32), trace_id.to_uppercase());
        for (traceparent, known) in [
            (format!("00-{trace_id}-{parent}-01"), true),
            (format!("cc-{trace_id}-{parent}-01-what-comes-later"), true),
            (format!("00-{trace_id}-{parent}-01-more"), false),
            (format!("ff-{trace_id}-{parent}-01"), false),
            (format!("00-{none}-{parent}-01"), false),
            (format!("00-{capitals}-{parent}-01"), false),
            (format!("00-{trace_id}-{parent}"), false),
            (format!("00-{trace_id}-{parent}-01-"), false),
            ("00".to_owned(), false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(TRACEPARENT, traceparent.parse().unwrap());
            assert_eq!(trace(&headers), known.then_some(trace_id), "{traceparent}");
        }
    }

    #[test]
    fn who_asks_for_a_head_is_refused_without_a_body() {
        for (method, empty) in [(Method::HEAD, true), (Method::GET, false)] {
            let request = Request::builder().method(method).body(Body::empty());
            let refused = refuse(&request.unwrap(), Kind::Overloaded.into());
            assert_eq!(refused.status(), 503);
            assert_eq!(refused.body().is_end_stream(), empty);
        }
    }
}
