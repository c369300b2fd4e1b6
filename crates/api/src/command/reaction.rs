//! `PUT|DELETE /posts/{id}/reactions/{kind}` and the same on comments.

use axum::extract::{Path, State};
use axum::response::Response;
use events::decide;
use events::decide::Refusal;
use events::fact::post::ReactionAdded;
use events::id::{CommentId, PostId, StreamKey};
use events::store::{Emit, Streams};
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::Asked;
use super::sight::Thing;
use crate::problem::Problem;
use crate::state::ApiState;
use crate::word::Word;

/// A kind of reaction.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ReactionKind {
    Like,
    Love,
    Laugh,
    Wow,
    Sad,
    Angry,
}

impl ReactionKind {
    /// As written in facts and tables.
    pub(crate) fn name(self) -> &'static str {
        decide::reaction::KINDS[self as usize]
    }
}

/// React to a post
///
/// One reaction per user: another kind replaces the one before.
#[utoipa::path(put, path = "/posts/{id}/reactions/{kind}", tag = "reactions",
    params(("id" = Uuid, Path), ("kind" = inline(ReactionKind), Path)),
    responses((status = 204, description = "The reaction is this one")))]
pub(crate) async fn react_to_post(
    State(state): State<ApiState>,
    Path((id, kind)): Path<(Uuid, Word<ReactionKind>)>,
    asked: Asked,
) -> Result<Response, Problem> {
    Wish::on_post(&state, &asked, PostId(id), kind)
        .await?
        .react(&state, &asked)
        .await
}

/// Take a reaction to a post back
#[utoipa::path(delete, path = "/posts/{id}/reactions/{kind}", tag = "reactions",
    params(("id" = Uuid, Path), ("kind" = inline(ReactionKind), Path)),
    responses((status = 204, description = "There is no such reaction any more")))]
pub(crate) async fn unreact_to_post(
    State(state): State<ApiState>,
    Path((id, kind)): Path<(Uuid, Word<ReactionKind>)>,
    asked: Asked,
) -> Result<Response, Problem> {
    Wish::on_post(&state, &asked, PostId(id), kind)
        .await?
        .unreact(&state, &asked)
        .await
}

/// React to a comment
#[utoipa::path(put, path = "/comments/{id}/reactions/{kind}", tag = "reactions",
    params(("id" = Uuid, Path), ("kind" = inline(ReactionKind), Path)),
    responses((status = 204, description = "The reaction is this one")))]
pub(crate) async fn react_to_comment(
    State(state): State<ApiState>,
    Path((id, kind)): Path<(Uuid, Word<ReactionKind>)>,
    asked: Asked,
) -> Result<Response, Problem> {
    Wish::on_comment(&state, &asked, CommentId(id), kind)
        .await?
        .react(&state, &asked)
        .await
}

/// Take a reaction to a comment back
#[utoipa::path(delete, path = "/comments/{id}/reactions/{kind}", tag = "reactions",
    params(("id" = Uuid, Path), ("kind" = inline(ReactionKind), Path)),
    responses((status = 204, description = "There is no such reaction any more")))]
pub(crate) async fn unreact_to_comment(
    State(state): State<ApiState>,
    Path((id, kind)): Path<(Uuid, Word<ReactionKind>)>,
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
    thing: Thing,
}

impl Wish {
    async fn on_post(
        state: &ApiState,
        asked: &Asked,
        post: PostId,
        kind: Word<ReactionKind>,
    ) -> Result<Self, Problem> {
        let kind = kind.read("/kind")?.name().to_owned();
        let user = asked.who.user;
        Ok(Self {
            reaction: ReactionAdded {
                post,
                comment: None,
                user,
                kind,
            },
            key: StreamKey::post_reaction(post, user),
            thing: Thing::Post(state.sight(&asked.who, post).await?),
        })
    }

    async fn on_comment(
        state: &ApiState,
        asked: &Asked,
        comment: CommentId,
        kind: Word<ReactionKind>,
    ) -> Result<Self, Problem> {
        let kind = kind.read("/kind")?.name().to_owned();
        let user = asked.who.user;
        let remark = state.remark(&asked.who, comment).await?;
        Ok(Self {
            reaction: ReactionAdded {
                post: remark.post,
                comment: Some(comment),
                user,
                kind,
            },
            key: StreamKey::comment_reaction(comment, remark.post, user),
            thing: Thing::Comment(remark),
        })
    }

    async fn react(self, state: &ApiState, asked: &Asked) -> Result<Response, Problem> {
        let decide = |streams: &Streams| {
            let facts = decide::reaction::react(
                &streams.get(&self.key),
                self.reaction.clone(),
                self.thing.author(streams).map(drop),
            )?;
            Ok(Emit::all(&self.key, facts))
        };
        self.carry_out(state, asked, decide).await
    }

    async fn unreact(self, state: &ApiState, asked: &Asked) -> Result<Response, Problem> {
        let decide = |streams: &Streams| {
            let facts = decide::reaction::unreact(&streams.get(&self.key), &self.reaction)?;
            // One's own is taken back also from what is not seen any more.
            if facts.is_empty() {
                self.thing.author(streams)?;
            }
            Ok(Emit::all(&self.key, facts))
        };
        self.carry_out(state, asked, decide).await
    }

    async fn carry_out(
        &self,
        state: &ApiState,
        asked: &Asked,
        decide: impl FnMut(&Streams) -> Result<Vec<Emit>, Refusal> + Send,
    ) -> Result<Response, Problem> {
        let streams = self.thing.with(&self.key);
        let done = state.execute(asked, &streams, decide).await?;
        Ok(done.no_content())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_said_as_it_is_written() {
        for kind in decide::reaction::KINDS {
            let said = Word::<ReactionKind>::from(kind.to_owned()).read("/kind");
            assert_eq!(said.map(ReactionKind::name).unwrap(), kind);
        }
    }
}
