//! `POST /posts/{id}/comments`, `PATCH|DELETE /comments/{id}`.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use chrono::{DateTime, Utc};
use events::decide;
use events::decide::comment::CommentState;
use events::fact::Fact;
use events::fact::post::{CommentAdded, CommentEdited};
use events::id::{CommentId, PostId, StreamKey};
use events::store::{Emit, Streams};
use garde::Validate;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Asked, AskedWith};
use crate::problem::{Kind, Problem};
use crate::state::ApiState;

/// A comment to add.
#[derive(Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"text": "Qué envidia"}))]
pub(crate) struct NewComment {
    /// What it says.
    #[garde(length(chars, min = 1, max = 2000))]
    #[schema(min_length = 1, max_length = 2000)]
    text: String,
    /// The comment it answers, on the same post.
    #[garde(skip)]
    parent: Option<Uuid>,
}

/// A comment's new text.
#[derive(Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"text": "What a ride!"}))]
pub(crate) struct CommentChange {
    /// What it says now.
    #[garde(length(chars, min = 1, max = 2000))]
    #[schema(min_length = 1, max_length = 2000)]
    text: String,
}

/// A comment that was added.
#[derive(Serialize, ToSchema)]
pub(crate) struct AddedComment {
    id: Uuid,
    post: Uuid,
    author: Uuid,
    parent: Option<Uuid>,
    /// None once the author was erased.
    text: Option<String>,
    added_at: DateTime<Utc>,
}

/// Comment on a post
#[utoipa::path(post, path = "/posts/{id}/comments", tag = "comments", request_body = NewComment,
    params(("id" = Uuid, Path)), responses((status = 201, description = "Added", body = AddedComment)))]
pub(crate) async fn add(
    State(state): State<ApiState>,
    Path(id): Path<Uuid>,
    AskedWith(asked, new): AskedWith<NewComment>,
) -> Result<Response, Problem> {
    let post = PostId(id);
    let comment = CommentId(asked.command.id.derive());
    let key = StreamKey::comment(comment, post);
    let sight = state.sight(&asked.who, post).await?;
    let parent = match new.parent {
        Some(parent) => {
            let parent = state.remark(&asked.who, CommentId(parent)).await?;
            // It may be one of a post that the asker does not see.
            let there = parent.post == post;
            Some(there.then_some(parent).ok_or(Kind::NotFound("comment"))?)
        }
        None => None,
    };
    let added = CommentAdded {
        comment,
        post,
        author: asked.who.user,
        text: new.text.into(),
        parent: new.parent.map(CommentId),
    };
    let streams = match &parent {
        Some(parent) => parent.with(&key),
        None => sight.with(&key),
    };
    let decide = |streams: &Streams| {
        let post = sight.see(streams)?;
        let parent = parent
            .as_ref()
            .map(|parent| parent.see(streams))
            .transpose()?;
        Ok(Emit::all(
            &key,
            decide::comment::add(&streams.get(&key), added.clone(), &post, parent.as_ref())?,
        ))
    };
    let done = state.execute(&asked, &streams, decide).await?;
    let body = done.fact(|recorded| match &recorded.fact {
        Fact::CommentAdded(comment) => Some(AddedComment {
            id: comment.comment.0,
            post: comment.post.0,
            author: comment.author.0,
            parent: comment.parent.map(|parent| parent.0),
            text: comment.text.text().map(ToOwned::to_owned),
            added_at: recorded.recorded_at,
        }),
        _ => None,
    });
    Ok(done.answer(StatusCode::CREATED, body.ok_or(Kind::Internal)?))
}

/// Change a comment
#[utoipa::path(patch, path = "/comments/{id}", tag = "comments", request_body = CommentChange,
    params(("id" = Uuid, Path)), responses((status = 204, description = "Changed")))]
pub(crate) async fn edit(
    State(state): State<ApiState>,
    Path(id): Path<Uuid>,
    AskedWith(asked, change): AskedWith<CommentChange>,
) -> Result<Response, Problem> {
    let comment = CommentId(id);
    let remark = state.remark(&asked.who, comment).await?;
    let edited = CommentEdited {
        comment,
        post: remark.post,
        author: asked.who.user,
        text: change.text.into(),
    };
    let decide = |streams: &Streams| {
        let facts = decide::comment::edit(&remark.see(streams)?, edited.clone())?;
        Ok(Emit::all(&remark.key, facts))
    };
    let streams = remark.with(&remark.key);
    let done = state.execute(&asked, &streams, decide).await?;
    Ok(done.no_content())
}

/// Take a comment away
///
/// Its author may, and the author of the post.
#[utoipa::path(delete, path = "/comments/{id}", tag = "comments",
    params(("id" = Uuid, Path)), responses((status = 204, description = "Gone")))]
pub(crate) async fn delete(
    State(state): State<ApiState>,
    Path(id): Path<Uuid>,
    asked: Asked,
) -> Result<Response, Problem> {
    let (comment, me) = (CommentId(id), asked.who.user);
    let remark = state.remark(&asked.who, comment).await?;
    let decide = |streams: &Streams| {
        let state: CommentState = streams.get(&remark.key);
        // Its author may take it away even from a post that is gone; others must not learn what they cannot see.
        if state.author != Some(me) && remark.see_post(streams)?.author != Some(me) {
            remark.see(streams)?;
        }
        let post = streams.get(&StreamKey::post(remark.post));
        let facts = decide::comment::delete(&state, comment, me, &post)?;
        Ok(Emit::all(&remark.key, facts))
    };
    let streams = remark.with(&remark.key);
    let done = state.execute(&asked, &streams, decide).await?;
    Ok(done.no_content())
}
