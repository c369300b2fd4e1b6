//! `PUT|DELETE /users/{id}/follow`, `PUT|DELETE /follow-requests/{id}`.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use events::decide;
use events::decide::follow::FollowState;
use events::fact::Fact;
use events::id::{StreamKey, UserId};
use events::store::{Emit, Streams};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::Asked;
use crate::problem::{Kind, Problem};
use crate::state::ApiState;

/// Where one stands with someone.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Standing {
    /// Follows.
    Following,
    /// Asked a private account, which has not answered.
    Requested,
}

/// What came of a wish to follow.
#[derive(Serialize, ToSchema)]
pub(crate) struct Followed {
    state: Standing,
}

/// Follow a user
///
/// A private account is asked first.
#[utoipa::path(put, path = "/users/{id}/follow", tag = "follows",
    params(("id" = Uuid, Path)), responses((status = 200, description = "Follows, or asked to", body = Followed)))]
pub(crate) async fn follow(
    State(state): State<ApiState>,
    Path(id): Path<Uuid>,
    asked: Asked,
) -> Result<Response, Problem> {
    let (me, other) = (asked.who.user, UserId(id));
    let key = StreamKey::follow(me, other);
    let between = state.between(me, other);
    let decide = |streams: &Streams| {
        between.open(streams, "user")?;
        let facts =
            decide::follow::follow(streams.get(&key), me, other, &streams.get(&between.other))?;
        Ok(Emit::all(&key, facts))
    };
    let streams = between.with(&[&key]);
    let done = state.execute(&asked, &streams, decide).await?;
    let news = done.fact(|recorded| match recorded.fact {
        Fact::FollowStarted(_) => Some(FollowState::Following),
        Fact::FollowRequested(_) => Some(FollowState::Requested),
        _ => None,
    });
    let standing = match news {
        Some(news) => news,
        None => state.peek(&asked.who, &key).await?,
    };
    let standing = match standing {
        FollowState::Following => Standing::Following,
        FollowState::Requested => Standing::Requested,
        // Ended by the other side between the decision and this look.
        FollowState::Apart => return Err(Kind::Contended.into()),
    };
    Ok(done.answer(StatusCode::OK, Followed { state: standing }))
}

/// Follow a user no longer, or take the question back
#[utoipa::path(delete, path = "/users/{id}/follow", tag = "follows",
    params(("id" = Uuid, Path)), responses((status = 204, description = "Does not follow")))]
pub(crate) async fn unfollow(
    State(state): State<ApiState>,
    Path(id): Path<Uuid>,
    asked: Asked,
) -> Result<Response, Problem> {
    let (me, other) = (asked.who.user, UserId(id));
    let key = StreamKey::follow(me, other);
    let decide = |streams: &Streams| {
        Ok(Emit::all(
            &key,
            decide::follow::unfollow(streams.get(&key), me, other)?,
        ))
    };
    Ok(state.execute(&asked, &[&key], decide).await?.no_content())
}

/// Let a follower in
#[utoipa::path(put, path = "/follow-requests/{id}", tag = "follows",
    params(("id" = Uuid, Path, description = "who asks")), responses((status = 204, description = "Follows now")))]
pub(crate) async fn accept(
    State(state): State<ApiState>,
    Path(id): Path<Uuid>,
    asked: Asked,
) -> Result<Response, Problem> {
    answer(&state, &asked, UserId(id), true).await
}

/// Do not let a follower in
#[utoipa::path(delete, path = "/follow-requests/{id}", tag = "follows",
    params(("id" = Uuid, Path, description = "who asks")), responses((status = 204, description = "Declined")))]
pub(crate) async fn decline(
    State(state): State<ApiState>,
    Path(id): Path<Uuid>,
    asked: Asked,
) -> Result<Response, Problem> {
    answer(&state, &asked, UserId(id), false).await
}

async fn answer(
    state: &ApiState,
    asked: &Asked,
    follower: UserId,
    welcome: bool,
) -> Result<Response, Problem> {
    let me = asked.who.user;
    let key = StreamKey::follow(follower, me);
    let between = state.between(me, follower);
    let decide = |streams: &Streams| {
        if welcome {
            between.open(streams, "follow request")?;
        }
        Ok(Emit::all(
            &key,
            decide::follow::answer(streams.get(&key), follower, me, welcome)?,
        ))
    };
    Ok(state
        .execute(asked, &between.with(&[&key]), decide)
        .await?
        .no_content())
}
