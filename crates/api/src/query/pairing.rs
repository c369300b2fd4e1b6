//! `GET /matches`, `GET /matches/candidates`.

use axum::extract::State;
use axum::response::Response;
use chrono::{DateTime, Utc};
use events::id::UserId;
use projectors::pairing::query as pairing;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Person, Reader};
use crate::cursor::{Page, PageQuery, Paging};
use crate::problem::Problem;
use crate::state::ApiState;

/// Matches, and the names of those in them.
const READS: &[&str] = &["pairing", "graph"];

/// A match.
#[derive(Serialize, ToSchema)]
pub(crate) struct Match {
    /// What `DELETE /matches/{id}` takes: the other user's id.
    id: Uuid,
    user: Person,
    made_at: DateTime<Utc>,
}

/// List one's matches
#[utoipa::path(get, path = "/matches", tag = "matches", params(PageQuery),
    responses((status = 200, description = "A page of matches, newest first", body = Page<Match>)))]
pub(crate) async fn matches(
    State(state): State<ApiState>,
    reader: Reader,
    paging: Paging,
) -> Result<Response, Problem> {
    let after = paging.after(&state)?;
    let mut view = reader.view(&state, READS).await?;
    let page = pairing::matches(&mut view.tx, view.viewer, after, paging.limit).await?;
    let users: Vec<UserId> = page.items.iter().map(|one| one.user).collect();
    let people = view.people(&users).await?;
    let shown = |one: &pairing::Match| Match {
        id: one.user.0,
        user: people.mention(one.user),
        made_at: one.made_at,
    };
    let items: Vec<Match> = page.items.iter().map(shown).collect();
    Ok(view.mark(paging.page(&state, items, page.next)?))
}

/// List users whom one has neither liked nor passed over
#[utoipa::path(get, path = "/matches/candidates", tag = "matches", params(PageQuery),
    responses((status = 200, description = "A page of users, newest first", body = Page<Person>)))]
pub(crate) async fn candidates(
    State(state): State<ApiState>,
    reader: Reader,
    paging: Paging,
) -> Result<Response, Problem> {
    let after = paging.after(&state)?;
    let mut view = reader.view(&state, READS).await?;
    let page = pairing::candidates(&mut view.tx, view.viewer, after, paging.limit).await?;
    let users: Vec<UserId> = page.items.iter().map(|one| one.user).collect();
    let people = view.people(&users).await?;
    let items: Vec<Person> = users.into_iter().map(|user| people.mention(user)).collect();
    Ok(view.mark(paging.page(&state, items, page.next)?))
}
