//! `GET /posts/{id}/comments`, and `GET …/reactions` of posts and comments. Who may see the post may see them.

use axum::extract::{Path, Query, State};
use axum::response::Response;
use chrono::{DateTime, Utc};
use events::id::{CommentId, PostId, UserId};
use projectors::engagement::query as engagement;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::post::{Counts, READS};
use super::{Person, Reader, View};
use crate::command::reaction::ReactionKind;
use crate::cursor::{Page, PageQuery, Paging};
use crate::problem::{Kind, Problem};
use crate::state::ApiState;
use crate::word::Word;

/// A comment.
#[derive(Serialize, ToSchema)]
pub(crate) struct Comment {
    id: Uuid,
    post: Uuid,
    author: Person,
    /// The comment it answers.
    parent: Option<Uuid>,
    /// None once it was taken away or its author erased, and while it is hidden from others.
    text: Option<String>,
    /// Whether it is only a place for the answers to it.
    deleted: bool,
    /// Whether a moderator hid it.
    hidden: bool,
    counts: Counts,
    added_at: DateTime<Utc>,
    edited_at: Option<DateTime<Utc>>,
}

/// A reaction.
#[derive(Serialize, ToSchema)]
pub(crate) struct Reaction {
    user: Person,
    #[schema(value_type = ReactionKind)]
    kind: String,
}

/// Which comments.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct CommentsQuery {
    /// Only the answers to this comment.
    parent: Option<Uuid>,
}

/// Which reactions.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ReactionsQuery {
    /// Only of this kind.
    #[param(inline, required = false, value_type = ReactionKind)]
    kind: Option<Word<ReactionKind>>,
}

/// List the comments on a post
///
/// Oldest first; `parent` makes the threads.
#[utoipa::path(get, path = "/posts/{id}/comments", tag = "comments",
    params(("id" = Uuid, Path), CommentsQuery, PageQuery),
    responses((status = 200, description = "A page of comments", body = Page<Comment>)))]
pub(crate) async fn list(
    State(state): State<ApiState>,
    reader: Reader,
    paging: Paging,
    Path(id): Path<Uuid>,
    Query(query): Query<CommentsQuery>,
) -> Result<Response, Problem> {
    let after = paging.after(&state)?;
    let mut view = reader.view(&state, READS).await?;
    view.post(PostId(id)).await?;
    let parent = query.parent.map(CommentId);
    let page = engagement::comments(
        &mut view.tx,
        view.viewer,
        PostId(id),
        parent,
        after,
        paging.limit,
    )
    .await?;
    let items = view.comments(page.items).await?;
    Ok(view.mark(paging.page(&state, items, page.next)?))
}

/// List the reactions to a post
#[utoipa::path(get, path = "/posts/{id}/reactions", tag = "reactions",
    params(("id" = Uuid, Path), ReactionsQuery, PageQuery),
    responses((status = 200, description = "A page of reactions", body = Page<Reaction>)))]
pub(crate) async fn post_reactions(
    State(state): State<ApiState>,
    reader: Reader,
    paging: Paging,
    Path(id): Path<Uuid>,
    Query(query): Query<ReactionsQuery>,
) -> Result<Response, Problem> {
    let mut view = reader.view(&state, READS).await?;
    view.post(PostId(id)).await?;
    reactions(&state, view, &paging, id, query).await
}

/// List the reactions to a comment
#[utoipa::path(get, path = "/comments/{id}/reactions", tag = "reactions",
    params(("id" = Uuid, Path), ReactionsQuery, PageQuery),
    responses((status = 200, description = "A page of reactions", body = Page<Reaction>)))]
pub(crate) async fn comment_reactions(
    State(state): State<ApiState>,
    reader: Reader,
    paging: Paging,
    Path(id): Path<Uuid>,
    Query(query): Query<ReactionsQuery>,
) -> Result<Response, Problem> {
    let mut view = reader.view(&state, READS).await?;
    let comment = engagement::comment(&mut view.tx, view.viewer, CommentId(id)).await?;
    let comment = comment.ok_or(Kind::NotFound("comment"))?;
    view.post(comment.post)
        .await
        .map_err(|problem| problem.renamed("post", "comment"))?;
    reactions(&state, view, &paging, id, query).await
}

async fn reactions(
    state: &ApiState,
    mut view: View,
    paging: &Paging,
    target: Uuid,
    query: ReactionsQuery,
) -> Result<Response, Problem> {
    let kind = Word::if_any(query.kind, "/kind")?.map(ReactionKind::name);
    let after = paging.after(state)?;
    let page =
        engagement::reactions(&mut view.tx, view.viewer, target, kind, after, paging.limit).await?;
    let users: Vec<UserId> = page.items.iter().map(|reaction| reaction.user).collect();
    let people = view.people(&users).await?;
    let shown = |reaction: engagement::Reaction| Reaction {
        user: people.mention(reaction.user),
        kind: reaction.kind,
    };
    let items: Vec<Reaction> = page.items.into_iter().map(shown).collect();
    Ok(view.mark(paging.page(state, items, page.next)?))
}

impl View {
    async fn comments(
        &mut self,
        comments: Vec<engagement::Comment>,
    ) -> Result<Vec<Comment>, Problem> {
        let authors: Vec<UserId> = comments.iter().map(|comment| comment.author).collect();
        let people = self.people(&authors).await?;
        let ids: Vec<Uuid> = comments.iter().map(|comment| comment.comment.0).collect();
        let mut counts = engagement::counts(&mut self.tx, self.viewer, &ids).await?;
        let shown = comments.into_iter().map(|comment| Comment {
            id: comment.comment.0,
            post: comment.post.0,
            author: people.mention(comment.author),
            parent: comment.parent.map(|parent| parent.0),
            text: comment.text,
            deleted: comment.deleted,
            hidden: comment.hidden,
            counts: counts.remove(&comment.comment.0).unwrap_or_default().into(),
            added_at: comment.created_at,
            edited_at: comment.edited_at,
        });
        Ok(shown.collect())
    }
}
