//! How much and how long: every wait has a limit, and what is too much is refused at once.

pub(crate) mod rate;
pub(crate) mod reference;
pub(crate) mod table;

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::peer::Peer;
use crate::problem::{Kind, Problem};
use crate::state::ApiState;
use crate::{edge, storage};

/// The largest JSON body, bytes.
const BODY_MAX: usize = 256 * 1024;
/// How long a client may take to send one.
const BODY_LIMIT: Duration = Duration::from_secs(10);
/// How long a request may take until its answer begins.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// The same where storage may have to be read through. Reading goes on, and who asks again later is told what it found.
const VERIFY_LIMIT: Duration = Duration::from_mins(15);
/// Bytes a second of the slowest storage that is read through in time.
pub(crate) const SLOWEST_READ: u64 = 8 << 20;
/// How long a client may be silent while it sends a body.
pub(crate) const SILENCE_LIMIT: Duration = Duration::from_secs(30);
/// What comes of an upload to the folder a second, at least, once it has gone on for so long.
pub(crate) const SLOWEST_UPLOAD: (u64, Duration) = (8 << 10, Duration::from_mins(1));

/// How often to tell that requests are refused.
const TELL_AGAIN: Duration = Duration::from_secs(10);

/// How long after the end of its permission the body of an upload may go on.
const UPLOAD_GRACE: Duration = Duration::from_mins(1);
/// Uploads to the folder in progress at once, besides all other requests, in all and from one address; of one object, one.
pub(crate) const UPLOADS: (usize, usize) = (128, 32);
/// Uploads of one user that are not over.
pub(crate) const OPEN_UPLOADS: i64 = 100;
/// Uploads that are being allowed at once, in all and of one user: those of one user wait for each other.
pub(crate) const RESERVING: (usize, usize) = (64, 8);
/// Live streams at once, in all and of one user: each looks into the read models again and again.
pub(crate) const LIVE: (usize, usize) = (256, 8);
/// Requests that look at a time whether read models have come so far, of those that wait for it.
pub(crate) const AWAITING: usize = 2;
/// Streams that look into the read models at a time, of those that wait for news, and of those that follow an asset.
pub(crate) const LOOKING: usize = 4;
/// Silent streams that ask at a time whether their session holds: half of the connections that know of sessions.
pub(crate) const CHECKING: usize = 2;
/// Exports of what is kept about somebody at once; of one person, one.
pub(crate) const EXPORTS: usize = 4;
/// Waveforms that are read and drawn at a time.
pub(crate) const DRAWING: usize = 4;
/// Stored objects read through at once, and because one user says that they are complete; of one asset, one.
pub(crate) const VERIFICATIONS: (usize, usize) = (16, 8);

/// How long the body of an upload that is allowed `until` then may take.
pub(crate) fn upload_limit(until: DateTime<Utc>, now: DateTime<Utc>) -> Duration {
    (until - now).to_std().unwrap_or_default() + UPLOAD_GRACE
}

/// How long reading `bytes` of storage through may take.
pub(crate) fn read_limit(bytes: u64) -> Duration {
    Duration::from_mins(1) + Duration::from_secs(bytes / SLOWEST_READ)
}

/// Refuses what comes on top of the allowed number of requests in progress. One is in progress once all of it has come: who sends slowly
/// is in nobody's way but of others who send. An upload may take an hour: it has places of its own.
pub(crate) async fn in_flight(
    State(state): State<ApiState>,
    request: Request,
    next: Next,
) -> Response {
    if storage::is_upload(&request) {
        return next.run(request).await;
    }
    let (mut parts, body) = request.into_parts();
    let came = match arrived(&state, &mut parts, body).await {
        Ok(body) => state.in_flight.place().map(|place| (place, body)),
        Err(problem) => Err(problem),
    };
    match came {
        Ok((_place, body)) => next.run(Request::from_parts(parts, body)).await,
        Err(problem) => edge::refuse(&Request::from_parts(parts, Body::empty()), problem),
    }
}

/// A body that has come whole. As many are under way as requests may be in progress, and a quarter of them from one address.
async fn arrived(state: &ApiState, parts: &mut Parts, body: Body) -> Result<Body, Problem> {
    if body.is_end_stream() {
        return Ok(body);
    }
    let Ok(peer) = Peer::from_request_parts(parts, state).await;
    let sending = state.sending.take(peer.counted());
    let _sending = sending.map_err(|_| state.in_flight.refused())?;
    let whole = tokio::time::timeout(BODY_LIMIT, read(body)).await;
    Ok(whole.map_err(|_| Kind::Timeout)??.into())
}

/// Requests in progress, and how many were refused on top of them.
pub(crate) struct InFlight {
    places: Semaphore,
    /// How many since that was last told, and when.
    refused: Mutex<(u64, Option<Instant>)>,
}

impl InFlight {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            places: Semaphore::new(most),
            refused: Mutex::default(),
        }
    }

    /// A place for a request.
    fn place(&self) -> Result<SemaphorePermit<'_>, Problem> {
        self.places.try_acquire().map_err(|_| self.refused())
    }

    /// A request was refused. That is told now and then only, so that refusing costs little however often it happens.
    fn refused(&self) -> Problem {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.0 += 1;
        if refused.1.is_none_or(|told| told.elapsed() > TELL_AGAIN) {
            tracing::warn!(
                requests = refused.0,
                "refused: as many are in progress as may be"
            );
            *refused = (0, Some(Instant::now()));
        }
        Problem::overloaded(Duration::from_secs(1))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_may_not_go_on_long_after_its_permission_has_ended() {
        let now = DateTime::UNIX_EPOCH;
        let after = |seconds| upload_limit(now + chrono::TimeDelta::seconds(seconds), now);
        assert_eq!(after(3600), Duration::from_hours(1) + UPLOAD_GRACE);
        assert_eq!(after(-1), UPLOAD_GRACE);
    }
}
