//! `GET /matches`, `GET /matches/candidates`, `GET /matches/likes`.

use axum::extract::State;
use axum::response::Response;
use chrono::{DateTime, Utc};
use projectors::pairing::query as pairing;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Person, Reader};
use crate::cursor::{Page, PageQuery, Paging};
use crate::problem::Problem;
use crate::state::ApiState;

/// A match.
#[derive(Serialize, ToSchema)]
pub(crate) struct Match {
    /// What `DELETE /matches/{id}` takes: the other user's id.
    id: Uuid,
    user: Person,
    made_at: DateTime<Utc>,
}

/// Someone whom one has not judged yet.
#[derive(Serialize, ToSchema)]
pub(crate) struct Candidate {
    #[serde(flatten)]
    user: Person,
    /// How well the two would go together, from 0 to 100: by hashtags that both use, place and language. It is the same from
    /// either side.
    #[schema(minimum = 0, maximum = 100)]
    score: u8,
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
    let mut view = reader.view(&state, pairing::READS).await?;
    let page = pairing::matches(&mut view.tx, view.viewer, after, paging.limit).await?;
    let shown = |one: &pairing::Match, user| Match {
        id: one.user.0,
        user,
        made_at: one.made_at,
    };
    view.about_users(&state, &paging, page, |one| one.user, shown)
        .await
}

/// List users whom one has neither liked nor passed over
///
/// Of the newest, and of those who use one's hashtags: those first who go best with oneself.
#[utoipa::path(get, path = "/matches/candidates", tag = "matches", params(PageQuery),
    responses((status = 200, description = "A page of users, best first", body = Page<Candidate>)))]
pub(crate) async fn candidates(
    State(state): State<ApiState>,
    reader: Reader,
    paging: Paging,
) -> Result<Response, Problem> {
    let after = paging.after(&state)?;
    let mut view = reader.view(&state, pairing::READS).await?;
    let page = pairing::candidates(&mut view.tx, view.viewer, after, paging.limit).await?;
    let shown = |one: &pairing::Candidate, user| Candidate {
        user,
        score: one.score,
    };
    view.about_users(&state, &paging, page, |one| one.user, shown)
        .await
}

/// List who super-likes oneself
///
/// Until one has answered with a like or a pass. Of other likes one is not told.
#[utoipa::path(get, path = "/matches/likes", tag = "matches", params(PageQuery),
    responses((status = 200, description = "A page of users, newest first", body = Page<Person>)))]
pub(crate) async fn admirers(
    State(state): State<ApiState>,
    reader: Reader,
    paging: Paging,
) -> Result<Response, Problem> {
    let after = paging.after(&state)?;
    let mut view = reader.view(&state, pairing::READS).await?;
    let page = pairing::admirers(&mut view.tx, view.viewer, after, paging.limit).await?;
    view.about_users(&state, &paging, page, |one| one.user, |_, user| user)
        .await
}
