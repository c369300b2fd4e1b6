//! How much and how long: every wait has a limit, and what is too much is refused at once.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};

use crate::problem::{Kind, Problem};
use crate::state::ApiState;

/// The largest JSON body, bytes.
const BODY_MAX: usize = 256 * 1024;
/// How long a request may take until its answer begins.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// The same where storage may have to be read through: 5 GiB from a slow disk.
const VERIFY_LIMIT: Duration = Duration::from_mins(15);
/// How long a client may be silent while it sends a body.
pub(crate) const SILENCE_LIMIT: Duration = Duration::from_secs(30);

/// Refuses what comes on top of the allowed number of requests in progress.
pub(crate) async fn in_flight(
    State(state): State<ApiState>,
    request: Request,
    next: Next,
) -> Response {
    match Arc::clone(&state.in_flight).try_acquire_owned() {
        Ok(_permit) => next.run(request).await,
        Err(_) => Problem::overloaded(Duration::from_secs(1)).into_response(),
    }
}

/// Ends a request that takes too long.
pub(crate) async fn answer_in_time(request: Request, next: Next) -> Response {
    in_time(ANSWER_LIMIT, request, next).await
}

/// Ends a request that takes too long even for one that verifies stored bytes.
pub(crate) async fn verify_in_time(request: Request, next: Next) -> Response {
    in_time(VERIFY_LIMIT, request, next).await
}

async fn in_time(limit: Duration, request: Request, next: Next) -> Response {
    let answer = tokio::time::timeout(limit, next.run(request)).await;
    answer.unwrap_or_else(|_| Problem::from(Kind::Timeout).into_response())
}

/// A small body, whole.
pub(crate) async fn read(body: Body) -> Result<Bytes, Problem> {
    let collected = Limited::new(body, BODY_MAX).collect().await;
    let whole = collected.map_err(|error| match error.downcast_ref::<LengthLimitError>() {
        Some(_) => Problem::from(Kind::BodyTooLarge).detail(format!("at most {BODY_MAX} bytes")),
        None => Kind::Malformed.into(),
    })?;
    Ok(whole.to_bytes())
}
