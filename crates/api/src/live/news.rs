//! `GET /feed/live`, `GET /notifications/live`: that there is something new, as soon as there is. What it is, is read as always.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::response::sse::Event;
use events::id::{Position, PostId, TenantId, UserId};
use projectors::feed::query as feed;
use projectors::live::READS;
use projectors::notification::{mark, query as notification};
use serde::Serialize;
use service::slots::Slot;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::hub::Waiter;
use super::{RETRY_AFTER, events, last_event, turn};
use crate::problem::Problem;
use crate::query::Reader;
use crate::state::ApiState;

/// What is new of a feed is looked for among its newest so many.
const LOOKED_AT: u32 = 20;
/// Who was told has so long until they are told again: what happens meanwhile is one piece of news.
const CALM: Duration = Duration::from_secs(1);

/// There are new posts in the feed.
#[derive(Serialize, ToSchema)]
pub(crate) struct FeedNews {
    /// How many that were not there before, 20 at most.
    new: usize,
}

/// The inbox has changed.
#[derive(Serialize, ToSchema)]
pub(crate) struct InboxNews {
    /// How many items were not read; 100 is so many or more.
    unread: i64,
}

/// Be told when one's feed has new posts
///
/// A `feed` event each time, at most one a second; an event's id is a position, and after a `Last-Event-ID` what is newer is told at
/// once, some of it perhaps again. Without news the stream begins with an id alone, to come back with; read the feed after that. The
/// stream ends with the token.
#[utoipa::path(get, path = "/feed/live", tag = "feed",
    params(("Last-Event-ID" = Option<String>, Header, description = "The id of the last event that was taken.")),
    responses((status = 200, description = "Events", content_type = "text/event-stream", body = FeedNews)))]
pub(crate) async fn feed(
    State(state): State<ApiState>,
    reader: Reader,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let seen = Seen::Feed {
        since: last_event(&headers)?,
        ids: None,
    };
    Watch::stream(state, reader, seen).await
}

/// Be told when one's inbox changes
///
/// An `inbox` event at once and each time that the number of unread items or the newest one changes, at most one a second. The stream ends with the
/// token.
#[utoipa::path(get, path = "/notifications/live", tag = "notifications",
    responses((status = 200, description = "Events", content_type = "text/event-stream", body = InboxNews)))]
pub(crate) async fn inbox(
    State(state): State<ApiState>,
    reader: Reader,
) -> Result<Response, Problem> {
    Watch::stream(state, reader, Seen::Inbox(None)).await
}

/// What a client knows.
enum Seen {
    /// The newest posts; before the first look, what it had when it was here last.
    Feed {
        since: Option<Position>,
        ids: Option<BTreeSet<(Position, PostId)>>,
    },
    /// How much is unread, and where the newest item is.
    Inbox(Option<(i64, Position)>),
}

/// One client.
struct Watch {
    /// Held as long as the stream is.
    _place: Slot<(TenantId, UserId)>,
    state: ApiState,
    reader: Reader,
    waiter: Waiter,
    seen: Seen,
    /// What was found before the stream began.
    first: Option<Event>,
    told: Instant,
}

impl Watch {
    /// Looks once, while an error can still be a problem, and begins the stream.
    async fn stream(state: ApiState, reader: Reader, seen: Seen) -> Result<Response, Problem> {
        let place = state.waiting.take(reader.who());
        let place = place.map_err(|_| Problem::overloaded(RETRY_AFTER))?;
        // Before the first look: what comes after it must not be missed.
        let waiter = state.hub().await?.wait(reader.who());
        let age = reader.age(&state, READS).await?;
        let mut watch = Self {
            _place: place,
            state,
            reader,
            waiter,
            seen,
            first: None,
            told: Instant::now(),
        };
        let (state, who) = (watch.state.clone(), watch.reader.who.clone());
        {
            let _turn = turn(&state.looking).await?;
            watch.first = watch.look(None).await?;
        }
        Ok(age.mark(events(&state, &who, watch)))
    }

    /// What is new to the client, now that feeds are whole up to `level`, if that is known.
    async fn look(&mut self, level: Option<Position>) -> Result<Option<Event>, Problem> {
        // Before anything is read: what comes in meanwhile is told again.
        let level = match (level, &self.seen) {
            (None, Seen::Feed { .. }) => self.state.level("feed").await?,
            (level, _) => level.unwrap_or(Position::START),
        };
        let mut view = self.reader.view(&self.state, &[]).await?;
        let (tx, viewer) = (&mut view.tx, view.viewer);
        match &mut self.seen {
            Seen::Feed { since, ids } => {
                let page = feed::page(tx, viewer, None, LOOKED_AT).await?;
                let now: BTreeSet<_> = page
                    .items
                    .iter()
                    .map(|post| (post.position, post.post))
                    .collect();
                // Older ones come up when one is deleted, if there were more.
                let full = ids.as_ref().filter(|seen| seen.len() >= LOOKED_AT as usize);
                let oldest = full.and_then(BTreeSet::first).copied();
                let come = now.iter().filter(|post| {
                    oldest.is_none_or(|oldest| **post > oldest)
                        && ids.as_ref().is_none_or(|seen| !seen.contains(post))
                });
                let come: Vec<PostId> = come.map(|(_, post)| *post).collect();
                if ids.is_some() && come.is_empty() {
                    *ids = Some(now);
                    return Ok(None);
                }
                let shown = feed::shown_since(tx, viewer, &come).await?;
                // Of who was here before it is not known what they saw, but until when.
                let last = since.unwrap_or(Position::END);
                let new = match ids {
                    Some(_) => come.len(),
                    None => shown.iter().filter(|at| **at > last).count(),
                };
                // Not beyond what lanes that are behind may still bring.
                let newest = shown.into_iter().max().map(|newest| newest.min(level));
                let newest = newest.max(*since).unwrap_or(Position::START);
                (*ids, *since) = (Some(now), Some(newest));
                Ok(Some(match new {
                    0 => Event::default().id(newest.to_string()),
                    new => event("feed", newest, &FeedNews { new }),
                }))
            }
            Seen::Inbox(seen) => {
                let mark = mark::position(tx, viewer).await?;
                let unread = notification::unread(tx, viewer, mark).await?;
                let newest = notification::inbox(tx, viewer, mark, None, 1).await?.items;
                let newest = newest
                    .first()
                    .map_or(Position::START, |bundle| bundle.position);
                let changed = seen.replace((unread, newest)) != Some((unread, newest));
                Ok(changed.then(|| event("inbox", newest, &InboxNews { unread })))
            }
        }
    }
}

impl super::Watch for Watch {
    /// The next piece of news; none when what is to be read does not answer: clients come again by themselves.
    async fn next(&mut self) -> Option<Event> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        loop {
            tokio::time::sleep_until(self.told + CALM).await;
            let level = self.waiter.news().await;
            let state = self.state.clone();
            let _turn = turn(&state.looking).await.ok()?;
            // In a box of its own, now that it is its turn: looking takes much room, and all others only wait.
            if let Some(event) = Box::pin(self.look(level)).await.ok()? {
                self.told = Instant::now();
                return Some(event);
            }
        }
    }
}

fn event(name: &str, position: Position, data: &impl Serialize) -> Event {
    let data = serde_json::to_string(data).unwrap_or_default();
    Event::default()
        .event(name)
        .id(position.to_string())
        .data(data)
}
