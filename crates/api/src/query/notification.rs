//! `GET /notifications`, `GET /preferences`.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::Response;
use events::fact::user::NoticeKind;
use events::id::UserId;
use projectors::notification::{mark, query as model};
use serde::Serialize;
use serde_json::json;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};
use uuid::Uuid;

use super::{People, Person, Reader};
use crate::cursor::{PageQuery, Paging};
use crate::openapi::one_of;
use crate::problem::Problem;
use crate::state::ApiState;

/// The inbox, and the names of those in it.
const READS: &[&str] = &["notification", "feed", "moderation", "graph"];

/// What preferences are read from.
const PREFERENCES: &[&str] = &["notification"];

/// What others did, of one kind and about one thing.
#[derive(Serialize, ToSchema)]
pub(crate) struct Notification {
    #[schema(value_type = NoticeName)]
    kind: NoticeKind,
    /// The post that it was done to, or under.
    post: Option<Uuid>,
    /// The comment that it was done to.
    comment: Option<Uuid>,
    /// Who did it, the last ones first, up to three.
    actors: Vec<Person>,
    /// How many did it; 100 is so many or more.
    count: i64,
    /// The position of the newest.
    position: i64,
    /// Whether all of it was read.
    read: bool,
}

/// A page of the inbox. It ends when there is no `next`, not when a page is short.
#[derive(Serialize, ToSchema)]
pub(crate) struct Inbox {
    /// This page.
    items: Vec<Notification>,
    /// The URL of the next page.
    next: Option<String>,
    /// How many items of the whole inbox were not read; 100 is so many or more.
    unread: i64,
}

/// [`NoticeKind`] as the document says it.
pub(crate) enum NoticeName {}

impl PartialSchema for NoticeName {
    fn schema() -> RefOr<Schema> {
        one_of(NoticeKind::ALL.map(|kind| json!(kind))).into()
    }
}

impl ToSchema for NoticeName {}

/// What one wants to be told.
#[derive(Serialize, ToSchema)]
pub(crate) struct Preferences {
    /// Every kind of notification, and whether one is told.
    #[schema(value_type = BTreeMap<NoticeName, bool>)]
    notifications: BTreeMap<NoticeKind, bool>,
}

/// List what others did that concerns one
///
/// The newest first. What is of one kind and about one thing is one item.
#[utoipa::path(get, path = "/notifications", tag = "notifications", params(PageQuery),
    responses((status = 200, description = "A page of the inbox", body = Inbox)))]
pub(crate) async fn list(
    State(state): State<ApiState>,
    reader: Reader,
    paging: Paging,
) -> Result<Response, Problem> {
    let after = paging.after(&state)?;
    let mut view = reader.view(&state, READS).await?;
    let (tx, viewer) = (&mut view.tx, view.viewer);
    let mark = mark::position(tx, viewer).await?;
    let unread = model::unread(tx, viewer, mark).await?;
    let page = model::inbox(tx, viewer, mark, after, paging.limit).await?;
    let actors = page.items.iter().flat_map(|one| one.actors.iter().copied());
    let people = view.people(&actors.collect::<Vec<UserId>>()).await?;
    let items = page.items.into_iter().map(|one| shown(one, &people));
    let items = items.collect();
    let response = paging.answer(&state, page.next, |next| Inbox {
        items,
        next,
        unread,
    })?;
    Ok(view.mark(response))
}

fn shown(bundle: model::Bundle, people: &People) -> Notification {
    let post = bundle.post.map(|post| post.0);
    let actors = bundle.actors.into_iter();
    Notification {
        kind: bundle.kind.0,
        post,
        comment: post
            .map(|_| bundle.target)
            .filter(|_| post != Some(bundle.target)),
        actors: actors.map(|actor| people.mention(actor)).collect(),
        count: bundle.count,
        position: bundle.position.0,
        read: bundle.read,
    }
}

/// Read what one chose to be told
#[utoipa::path(get, path = "/preferences", tag = "notifications",
    responses((status = 200, description = "All preferences", body = Preferences)))]
pub(crate) async fn preferences(
    State(state): State<ApiState>,
    reader: Reader,
) -> Result<Response, Problem> {
    let mut view = reader.view(&state, PREFERENCES).await?;
    let notifications = model::preferences(&mut view.tx, view.viewer).await?;
    Ok(view.answer(Preferences { notifications }))
}
