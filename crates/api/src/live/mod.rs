//! What is pushed to clients while it happens, as server-sent events.

pub(crate) mod asset;
pub(crate) mod hub;
pub(crate) mod news;

use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use events::id::{TenantId, UserId};
use futures::stream;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::auth::Principal;
use crate::problem::{Kind, Problem};
use crate::slots::Slot;
use crate::state::ApiState;

/// When one may ask again for a stream that is one too many: streams are long.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// What a client that stays is told.
pub(crate) trait Watch: Send + 'static {
    /// The next event, whenever it comes; none: the stream ends.
    fn next(&mut self) -> impl Future<Output = Option<Event>> + Send;
}

/// A stream of events, of which each is looked for when the one before was taken. Whose session or key has ended is told nothing more.
pub(crate) fn events(state: &ApiState, who: &Principal, watch: impl Watch) -> Response {
    let begin = (watch, state.clone(), who.clone());
    let events = stream::unfold(begin, async |(mut watch, state, who)| {
        let event = watch.next().await?;
        // In a box of its own: all others only wait.
        Box::pin(state.still_holds(&who)).await.then_some(())?;
        Some((Ok::<_, Infallible>(event), (watch, state, who)))
    });
    Sse::new(events)
        .keep_alive(KeepAlive::default())
        .into_response()
}

/// A turn at looking into the read models. However many streams would look, so many do at a time: others' requests need connections too.
async fn turn(looking: &Semaphore) -> Result<SemaphorePermit<'_>, Problem> {
    let turn = looking.acquire().await;
    Ok(turn.map_err(|_| Kind::Unavailable)?)
}

/// A place among the live streams of this process, held as long as the stream.
pub(crate) fn place(
    state: &ApiState,
    who: (TenantId, UserId),
) -> Result<Slot<(TenantId, UserId)>, Problem> {
    let place = state.following.take(who);
    place.map_err(|_| Problem::overloaded(RETRY_AFTER))
}
