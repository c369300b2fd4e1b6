//! `PUT|DELETE /users/{id}/block`, `PUT|DELETE /users/{id}/mute`.

use axum::extract::{Path, State};
use axum::response::Response;
use events::decide;
use events::id::{StreamKey, UserId};
use events::store::{Emit, Streams};
use uuid::Uuid;

use super::Asked;
use crate::problem::Problem;
use crate::state::ApiState;

/// Block a user
///
/// The two see nothing of each other any more, and cannot follow, like or answer each other. The other is not told: to
/// them it is as if one were not there.
#[utoipa::path(put, path = "/users/{id}/block", tag = "follows",
    params(("id" = Uuid, Path)), responses((status = 204, description = "Blocks")))]
pub(crate) async fn block(
    State(state): State<ApiState>,
    Path(id): Path<Uuid>,
    asked: Asked,
) -> Result<Response, Problem> {
    let (me, other) = (asked.who.user, UserId(id));
    let (key, target) = (StreamKey::block(me, other), StreamKey::user(other));
    let decide = |streams: &Streams| {
        let facts = decide::block::block(streams.get(&key), me, other, &streams.get(&target))?;
        Ok(Emit::all(&key, facts))
    };
    Ok(state
        .execute(&asked, &[&key, &target], decide)
        .await?
        .no_content())
}

/// Block a user no longer
///
/// What was there before shows again: follows, likes and comments are as they were.
#[utoipa::path(delete, path = "/users/{id}/block", tag = "follows",
    params(("id" = Uuid, Path)), responses((status = 204, description = "Does not block")))]
pub(crate) async fn unblock(
    State(state): State<ApiState>,
    Path(id): Path<Uuid>,
    asked: Asked,
) -> Result<Response, Problem> {
    let (me, other) = (asked.who.user, UserId(id));
    let key = StreamKey::block(me, other);
    let decide = |streams: &Streams| {
        Ok(Emit::all(
            &key,
            decide::block::unblock(streams.get(&key), me, other)?,
        ))
    };
    Ok(state.execute(&asked, &[&key], decide).await?.no_content())
}

/// Mute a user
///
/// One's feed leaves their posts out; they show everywhere else. The other is not told.
#[utoipa::path(put, path = "/users/{id}/mute", tag = "follows",
    params(("id" = Uuid, Path)), responses((status = 204, description = "Mutes")))]
pub(crate) async fn mute(
    State(state): State<ApiState>,
    Path(id): Path<Uuid>,
    asked: Asked,
) -> Result<Response, Problem> {
    let (me, other) = (asked.who.user, UserId(id));
    let (key, target) = (StreamKey::mute(me, other), StreamKey::user(other));
    let decide = |streams: &Streams| {
        let facts = decide::block::mute(streams.get(&key), me, other, &streams.get(&target))?;
        Ok(Emit::all(&key, facts))
    };
    Ok(state
        .execute(&asked, &[&key, &target], decide)
        .await?
        .no_content())
}

/// Mute a user no longer
#[utoipa::path(delete, path = "/users/{id}/mute", tag = "follows",
    params(("id" = Uuid, Path)), responses((status = 204, description = "Does not mute")))]
pub(crate) async fn unmute(
    State(state): State<ApiState>,
    Path(id): Path<Uuid>,
    asked: Asked,
) -> Result<Response, Problem> {
    let (me, other) = (asked.who.user, UserId(id));
    let key = StreamKey::mute(me, other);
    let decide = |streams: &Streams| {
        Ok(Emit::all(
            &key,
            decide::block::unmute(streams.get(&key), me, other)?,
        ))
    };
    Ok(state.execute(&asked, &[&key], decide).await?.no_content())
}
