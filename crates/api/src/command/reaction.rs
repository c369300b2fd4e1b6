//! `PUT|DELETE /posts/{id}/reactions/{kind}` and the same on comments.

use axum::extract::{Path, State};
use axum::response::Response;
use events::decide;
use events::decide::Refusal;
use events::fact::post::ReactionAdded;
use events::id::{CommentId, PostId, StreamKey};
use events::store::{Emit, Streams};
use uuid::Uuid;

use super::Asked;
use super::sight::{Remark, Sight};
use crate::problem::{Kind, Problem};
use crate::state::ApiState;

/// React to a post
///
/// One reaction per user: another kind replaces the one before.
#[utoipa::path(put, path = "/posts/{id}/reactions/{kind}", tag = "reactions",
    params(("id" = Uuid, Path), ("kind" = String, Path, description = "like, love, laugh, wow, sad or angry")),
    responses((status = 204, description = "The reaction is this one")))]
pub(crate) async fn react_to_post(
    State(state): State<ApiState>,
    Path((id, kind)): Path<(Uuid, String)>,
    asked: Asked,
) -> Result<Response, Problem> {
    Wish::on_post(&state, &asked, PostId(id), kind)
        .await?
        .react(&state, &asked)
        .await
}

/// Take a reaction to a post back
#[utoipa::path(delete, path = "/posts/{id}/reactions/{kind}", tag = "reactions",
    params(("id" = Uuid, Path), ("kind" = String, Path)),
    responses((status = 204, description = "There is no such reaction any more")))]
pub(crate) async fn unreact_to_post(
    State(state): State<ApiState>,
    Path((id, kind)): Path<(Uuid, String)>,
    asked: Asked,
) -> Result<Response, Problem> {
    Wish::on_post(&state, &asked, PostId(id), kind)
        .await?
        .unreact(&state, &asked)
        .await
}

/// React to a comment
#[utoipa::path(put, path = "/comments/{id}/reactions/{kind}", tag = "reactions",
    params(("id" = Uuid, Path), ("kind" = String, Path, description = "like, love, laugh, wow, sad or angry")),
    responses((status = 204, description = "The reaction is this one")))]
pub(crate) async fn react_to_comment(
    State(state): State<ApiState>,
    Path((id, kind)): Path<(Uuid, String)>,
    asked: Asked,
) -> Result<Response, Problem> {
    Wish::on_comment(&state, &asked, CommentId(id), kind)
        .await?
        .react(&state, &asked)
        .await
}

/// Take a reaction to a comment back
#[utoipa::path(delete, path = "/comments/{id}/reactions/{kind}", tag = "reactions",
    params(("id" = Uuid, Path), ("kind" = String, Path)),
    responses((status = 204, description = "There is no such reaction any more")))]
pub(crate) async fn unreact_to_comment(
    State(state): State<ApiState>,
    Path((id, kind)): Path<(Uuid, String)>,
    asked: Asked,
) -> Result<Response, Problem> {
    Wish::on_comment(&state, &asked, CommentId(id), kind)
        .await?
        .unreact(&state, &asked)
        .await
}

/// A reaction that is wanted, or unwanted.
struct Wish {
    reaction: ReactionAdded,
    key: StreamKey,
    /// The comment reacted to, if it is one.
    comment: Option<Remark>,
    sight: Sight,
}

impl Wish {
    async fn on_post(
        state: &ApiState,
        asked: &Asked,
        post: PostId,
        kind: String,
    ) -> Result<Self, Problem> {
        known(&kind)?;
        let user = asked.who.user;
        Ok(Self {
            reaction: ReactionAdded {
                post,
                comment: None,
                user,
                kind,
            },
            key: StreamKey::post_reaction(post, user),
            comment: None,
            sight: state.sight(&asked.who, post).await?,
        })
    }

    async fn on_comment(
        state: &ApiState,
        asked: &Asked,
        comment: CommentId,
        kind: String,
    ) -> Result<Self, Problem> {
        known(&kind)?;
        let user = asked.who.user;
        let (post, remark) = state.remark(&asked.who, comment).await?;
        Ok(Self {
            reaction: ReactionAdded {
                post,
                comment: Some(comment),
                user,
                kind,
            },
            key: StreamKey::comment_reaction(comment, post, user),
            comment: Some(remark),
            sight: state.sight(&asked.who, post).await?,
        })
    }

    async fn react(self, state: &ApiState, asked: &Asked) -> Result<Response, Problem> {
        let decide = |streams: &Streams| {
            let facts = decide::reaction::react(
                &streams.get(&self.key),
                self.reaction.clone(),
                self.there(streams),
            )?;
            Ok(Emit::all(&self.key, facts))
        };
        Ok(state
            .execute(asked, &self.streams(), decide)
            .await?
            .no_content())
    }

    async fn unreact(self, state: &ApiState, asked: &Asked) -> Result<Response, Problem> {
        let decide = |streams: &Streams| {
            Ok(Emit::all(
                &self.key,
                decide::reaction::unreact(&streams.get(&self.key), &self.reaction)?,
            ))
        };
        Ok(state
            .execute(asked, &self.streams(), decide)
            .await?
            .no_content())
    }

    fn streams(&self) -> Vec<&StreamKey> {
        let streams = self.sight.with(&self.key);
        match &self.comment {
            Some(comment) => comment.with(&streams),
            None => streams,
        }
    }

    fn there(&self, streams: &Streams) -> Result<(), Refusal> {
        self.sight.see(streams)?;
        match &self.comment {
            Some(comment) => comment.see(streams).map(drop),
            None => Ok(()),
        }
    }
}

/// Refuses what is no kind of reaction.
pub(crate) fn known(kind: &str) -> Result<(), Problem> {
    if decide::reaction::KINDS.contains(&kind) {
        return Ok(());
    }
    Err(Problem::field(
        Kind::Invalid,
        "/kind",
        format!("is one of {}", decide::reaction::KINDS.join(", ")),
    ))
}
