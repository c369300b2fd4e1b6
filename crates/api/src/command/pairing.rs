//! `POST /matches/likes`, `POST /matches/passes`, `DELETE /matches/{id}`. A match is named by the other user, so both
//! sides can name it without looking it up.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use events::decide;
use events::decide::pairing::PairingState;
use events::fact::Fact;
use events::fact::pair::LikeKind;
use events::id::{StreamKey, UserId};
use events::store::{Emit, Streams};
use garde::Validate;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Asked, AskedWith};
use crate::problem::Problem;
use crate::state::ApiState;

/// How much someone likes someone.
#[derive(Clone, Copy, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Degree {
    /// A like.
    #[default]
    Like,
    /// A like that the other side is told of.
    Super,
}

/// Whom one likes.
#[derive(Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"user": "0193b6a4-6d0e-7f3e-9f0a-1f2e3d4c5b6a", "kind": "super"}))]
pub(crate) struct NewLike {
    /// The user.
    #[garde(skip)]
    user: Uuid,
    /// How much.
    #[garde(skip)]
    #[serde(default)]
    kind: Degree,
}

/// Whom one passes over.
#[derive(Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"user": "0193b6a4-6d0e-7f3e-9f0a-1f2e3d4c5b6a"}))]
pub(crate) struct NewPass {
    /// The user.
    #[garde(skip)]
    user: Uuid,
}

/// What came of a like.
#[derive(Serialize, ToSchema)]
pub(crate) struct Liked {
    user: Uuid,
    /// Whether the two are matched: by this like, or when it changed nothing, before it.
    matched: bool,
}

/// Like someone
///
/// The second of two likes makes the match, exactly once.
#[utoipa::path(post, path = "/matches/likes", tag = "matches", request_body = NewLike,
    responses((status = 201, description = "Liked", body = Liked)))]
pub(crate) async fn like(
    State(state): State<ApiState>,
    AskedWith(asked, new): AskedWith<NewLike>,
) -> Result<Response, Problem> {
    let (me, other) = (asked.who.user, UserId(new.user));
    let kind = match new.kind {
        Degree::Like => LikeKind::Like,
        Degree::Super => LikeKind::Super,
    };
    let key = StreamKey::pair_match(me, other);
    let between = state.between(me, other);
    let decide = |streams: &Streams| {
        between.open(streams, "user")?;
        let facts = decide::pairing::like(
            &streams.get(&key),
            me,
            other,
            kind,
            &streams.get(&between.other),
        )?;
        Ok(Emit::all(&key, facts))
    };
    let streams = between.with(&[&key]);
    let done = state.execute(&asked, &streams, decide).await?;
    let matched = if done.changed_nothing() {
        let pairing: PairingState = state.peek(&asked.who, &key).await?;
        pairing.matched
    } else {
        done.fact(|recorded| matches!(recorded.fact, Fact::MatchMade(_)).then_some(()))
            .is_some()
    };
    Ok(done.answer(
        StatusCode::CREATED,
        Liked {
            user: other.0,
            matched,
        },
    ))
}

/// Pass someone over
#[utoipa::path(post, path = "/matches/passes", tag = "matches", request_body = NewPass,
    responses((status = 204, description = "Passed over")))]
pub(crate) async fn pass(
    State(state): State<ApiState>,
    AskedWith(asked, new): AskedWith<NewPass>,
) -> Result<Response, Problem> {
    let (me, other) = (asked.who.user, UserId(new.user));
    let key = StreamKey::pair_match(me, other);
    let between = state.between(me, other);
    let decide = |streams: &Streams| {
        between.open(streams, "user")?;
        let facts =
            decide::pairing::pass(&streams.get(&key), me, other, &streams.get(&between.other))?;
        Ok(Emit::all(&key, facts))
    };
    Ok(state
        .execute(&asked, &between.with(&[&key]), decide)
        .await?
        .no_content())
}

/// End a match
#[utoipa::path(delete, path = "/matches/{id}", tag = "matches",
    params(("id" = Uuid, Path, description = "the other user")), responses((status = 204, description = "Ended")))]
pub(crate) async fn end(
    State(state): State<ApiState>,
    Path(id): Path<Uuid>,
    asked: Asked,
) -> Result<Response, Problem> {
    let (me, other) = (asked.who.user, UserId(id));
    let key = StreamKey::pair_match(me, other);
    let decide = |streams: &Streams| {
        Ok(Emit::all(
            &key,
            decide::pairing::end(&streams.get(&key), me, other)?,
        ))
    };
    Ok(state.execute(&asked, &[&key], decide).await?.no_content())
}
