//! What is pushed to clients while it happens, as server-sent events.

pub(crate) mod asset;
pub(crate) mod hub;
pub(crate) mod news;

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use events::id::{Position, TenantId, UserId};
use futures::{Stream, StreamExt, stream};
use service::retry::Backoff;
use service::shutdown::Shutdown;
use service::slots::Slot;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};

use crate::auth::Principal;
use crate::problem::{Kind, Problem};
use crate::state::ApiState;

/// When one may ask again for a stream that is one too many: streams are long.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// What a client that stays is told.
pub(crate) trait Watch: Send + 'static {
    /// The next event, whenever it comes; none: the stream ends.
    fn next(&mut self) -> impl Future<Output = Option<Event>> + Send;
}

/// How often at least it is seen whether somebody to whom nothing happens may still listen. Who came together does not ask together.
const CHECK: Duration = Duration::from_mins(1);

/// After which position a client wants to go on.
pub(crate) fn last_event(headers: &HeaderMap) -> Result<Option<Position>, Problem> {
    let Some(last) = headers.get("last-event-id") else {
        return Ok(None);
    };
    let last = last.to_str().ok().and_then(|text| text.parse().ok());
    let last = last.filter(|last| (0..Position::END.0).contains(last));
    Ok(Some(Position(last.ok_or(Kind::PositionInvalid)?)))
}

/// A stream of events, of which each is looked for when the one before was taken. It ends with the token, and with the session or key:
/// of what happens seconds after, nothing is told.
pub(crate) fn events(state: &ApiState, who: &Principal, watch: impl Watch) -> Response {
    let watch = Allowed {
        watch,
        state: state.clone(),
        who: who.clone(),
    };
    Sse::new(told(&state.shutdown, watch).map(Ok::<_, Infallible>))
        .keep_alive(KeepAlive::default())
        .into_response()
}

/// What somebody is told as long as they may do what they might at first.
struct Allowed<W> {
    watch: W,
    state: ApiState,
    who: Principal,
}

impl<W: Watch> Watch for Allowed<W> {
    async fn next(&mut self) -> Option<Event> {
        let Self { watch, state, who } = self;
        let (mut event, mut pace) = (pin!(watch.next()), Backoff::new(CHECK, CHECK));
        loop {
            let left = (who.until - state.clock.now()).to_std().ok()?;
            let found = tokio::time::timeout(left.min(pace.next_wait()), event.as_mut()).await;
            let silent = found.is_err();
            // In a box of its own: all others only wait.
            let holds = Box::pin(async {
                let _turn = if silent {
                    Some(turn(&state.checking).await?)
                } else {
                    None
                };
                state.still_holds(who).await
            });
            match (found, holds.await) {
                (Ok(event), Ok(true)) => return event,
                // Where it is not known, it is asked again.
                (Err(_), Ok(true) | Err(_)) => {}
                _ => return None,
            }
        }
    }
}

/// What `watch` tells, one event ahead of who reads it, until the process ends. A task of its own looks: one that went on only when the
/// client takes something, a heartbeat too, would keep its turn from all others meanwhile.
fn told<W: Watch>(shutdown: &Shutdown, mut watch: W) -> impl Stream<Item = Event> + use<W> {
    let (give, mut take) = mpsc::channel(1);
    let end = shutdown.clone();
    shutdown.spawn(async move {
        while let Ok(room) = give.reserve().await {
            let event = tokio::select! {
                event = watch.next() => event,
                () = give.closed() => None,
                () = end.cancelled() => None,
            };
            let Some(event) = event else { break };
            room.send(event);
        }
    });
    stream::poll_fn(move |cx| take.poll_recv(cx))
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::FutureExt;

    use super::*;

    struct Looks(Arc<Semaphore>);

    impl Watch for Looks {
        async fn next(&mut self) -> Option<Event> {
            let _turn = turn(&self.0).await.ok()?;
            tokio::task::yield_now().await;
            Some(Event::default())
        }
    }

    #[tokio::test]
    async fn who_takes_nothing_keeps_nobodys_turn() {
        let (turns, shutdown) = (Arc::new(Semaphore::new(1)), Shutdown::new());
        let held = turns.acquire().await.unwrap();
        let mut deaf = told(&shutdown, Looks(Arc::clone(&turns)));
        // It is asked once, as for a heartbeat, and never again.
        assert!(deaf.next().now_or_never().is_none());
        tokio::task::yield_now().await;
        drop(held);
        let soon = tokio::time::timeout(RETRY_AFTER, turns.acquire());
        assert!(soon.await.is_ok());
        assert!(deaf.next().await.is_some(), "it was looked for");
    }

    /// Never has anything to tell.
    struct Silent(#[expect(dead_code, reason = "held")] Arc<()>);

    impl Watch for Silent {
        async fn next(&mut self) -> Option<Event> {
            std::future::pending().await
        }
    }

    #[tokio::test]
    async fn nothing_is_left_of_who_has_gone() {
        let (held, shutdown) = (Arc::new(()), Shutdown::new());
        let mut gone = told(&shutdown, Silent(Arc::clone(&held)));
        assert!(gone.next().now_or_never().is_none());
        tokio::task::yield_now().await;
        drop(gone);
        let left = async {
            while Arc::strong_count(&held) > 1 {
                tokio::task::yield_now().await;
            }
        };
        let soon = tokio::time::timeout(RETRY_AFTER, left);
        assert!(soon.await.is_ok());
    }
}
