//! `POST /posts/{id}/shares`, `POST /posts/{id}/views`.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use events::decide;
use events::id::{PostId, StreamKey};
use events::store::{Emit, Streams};
use uuid::Uuid;

use super::Asked;
use crate::problem::Problem;
use crate::state::ApiState;

/// Pass a post on
///
/// Counted once per user.
#[utoipa::path(post, path = "/posts/{id}/shares", tag = "posts",
    params(("id" = Uuid, Path)), responses((status = 204, description = "It is passed on")))]
pub(crate) async fn share(
    State(state): State<ApiState>,
    Path(id): Path<Uuid>,
    asked: Asked,
) -> Result<Response, Problem> {
    let (post, me) = (PostId(id), asked.who.user);
    let key = StreamKey::share(post, me);
    let sight = state.sight(&asked.who, post).await?;
    let decide = |streams: &Streams| {
        let there = sight.see(streams).map(drop);
        Ok(Emit::all(
            &key,
            decide::share::share(streams.get(&key), post, me, there)?,
        ))
    };
    Ok(state
        .execute(&asked, &sight.with(&key), decide)
        .await?
        .no_content())
}

/// Count a look at a post
///
/// Looks at a post that one may see are counted together and written every few seconds, each user's once in that time; some may be
/// lost.
#[utoipa::path(post, path = "/posts/{id}/views", tag = "posts",
    params(("id" = Uuid, Path)), responses((status = 202, description = "It will be counted")))]
pub(crate) async fn view(
    State(state): State<ApiState>,
    Path(id): Path<Uuid>,
    asked: Asked,
) -> Result<Response, Problem> {
    let (who, post) = (&asked.who, PostId(id));
    let sight = state.sight(who, post).await?;
    let decide = |streams: &Streams| sight.see(streams).map(|_| vec![]);
    state
        .execute(&asked, &sight.with(&StreamKey::views(post)), decide)
        .await?;
    state.views.look(&state, (who.tenant, post), who.user);
    Ok(StatusCode::ACCEPTED.into_response())
}
