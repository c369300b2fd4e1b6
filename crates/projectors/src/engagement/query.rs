//! Comments, reactions and counts. Whether the viewer may see the post is asked of the feed's model first. What was said across a
//! block, or by whom a moderator suspended, is not shown; it is counted all the same.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use events::id::{CommentId, Position, PostId, UserId};
use serde::Serialize;
use service::db::TenantTx;
use uuid::Uuid;

use crate::graph::query::there;
use crate::page::{Cursor, Page, Viewer, above, below};

/// The read models that these queries read.
pub const READS: &[&str] = &["engagement", "graph", "moderation"];

/// A comment on a post.
#[derive(Clone, Debug, PartialEq, Serialize, sqlx::FromRow)]
pub struct Comment {
    /// Its id.
    pub comment: CommentId,
    /// The post it is on.
    pub post: PostId,
    /// Who wrote it.
    pub author: UserId,
    /// The comment it answers.
    pub parent: Option<CommentId>,
    /// What it says; none once it was deleted or its author erased, and for others while it is hidden.
    pub text: Option<String>,
    /// Whether it was taken away and is only a place for the answers to it.
    pub deleted: bool,
    /// Whether a moderator hid it.
    pub hidden: bool,
    /// Its place in the log.
    pub position: Position,
    /// When it was written.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub edited_at: Option<DateTime<Utc>>,
}

/// Someone's reaction to a post or a comment.
#[derive(Clone, Debug, PartialEq, Serialize, sqlx::FromRow)]
pub struct Reaction {
    /// Who reacted.
    pub user: UserId,
    /// How.
    pub kind: String,
    /// Its place in the log.
    pub position: Position,
}

/// How much there is under a post or a comment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Comments on a post.
    pub comments: i64,
    /// Users who passed a post on.
    pub shares: i64,
    /// How often a post was looked at.
    pub views: i64,
    /// Reactions, by kind.
    pub reactions: BTreeMap<String, i64>,
    /// The viewer's own reaction.
    pub mine: Option<String>,
}

/// A [`Comment`] of the tenant $1, as $2 may read it.
macro_rules! comment {
    () => {
        "SELECT c.comment, c.post, c.author, c.parent, c.deleted, h.target IS NOT NULL AS hidden,
            CASE WHEN h.target IS NULL OR c.author = $2 THEN c.text END AS text, c.position, c.created_at, c.edited_at
        FROM engagement.comment c
        LEFT JOIN moderation.hidden h ON h.tenant = $1 AND h.target = c.comment
        WHERE c.tenant = $1 AND "
    };
}

/// One comment that is there, if the viewer may see it.
pub async fn comment(
    tx: &mut TenantTx,
    viewer: Viewer,
    comment: CommentId,
) -> sqlx::Result<Option<Comment>> {
    sqlx::query_as(concat!(
        comment!(),
        "c.comment = $3 AND NOT c.deleted AND ",
        there!("$2", "c.author")
    ))
    .bind(viewer.tenant)
    .bind(viewer.user)
    .bind(comment)
    .fetch_optional(&mut **tx)
    .await
}

/// The comments on a post, oldest first: all of them, or the answers to one. A deleted comment is shown, without its
/// text, as long as there are answers to it; a hidden one stays where it is.
pub async fn comments(
    tx: &mut TenantTx,
    viewer: Viewer,
    post: PostId,
    parent: Option<CommentId>,
    after: Option<Cursor>,
    limit: u32,
) -> sqlx::Result<Page<Comment>> {
    let comments = sqlx::query_as(concat!(
        comment!(),
        "c.post = $3 AND c.position > $4 AND ($5::uuid IS NULL OR c.parent = $5)
            AND (NOT c.deleted OR EXISTS (
                SELECT FROM engagement.comment r WHERE r.tenant = $1 AND r.parent = c.comment AND NOT r.deleted))
            AND ",
        there!("$2", "c.author"),
        " ORDER BY c.position LIMIT $6"
    ))
    .bind(viewer.tenant)
    .bind(viewer.user)
    .bind(post)
    .bind(above(after))
    .bind(parent)
    .bind(i64::from(limit) + 1)
    .bind(viewer.user)
    .fetch_all(&mut **tx)
    .await?;
    Ok(Page::cut(comments, limit, |comment: &Comment| Cursor {
        position: comment.position,
        id: comment.comment.0,
    }))
}

/// Who reacted to a post or a comment, newest first; of one kind or of all.
pub async fn reactions(
    tx: &mut TenantTx,
    viewer: Viewer,
    target: Uuid,
    kind: Option<&str>,
    after: Option<Cursor>,
    limit: u32,
) -> sqlx::Result<Page<Reaction>> {
    let reactions = sqlx::query_as(concat!(
        "SELECT r.\"user\", r.kind, r.position
        FROM engagement.reaction r
        WHERE r.tenant = $1 AND r.target = $2 AND r.position < $3 AND ($4::text IS NULL OR r.kind = $4)
          AND ",
        there!("$6", "r.\"user\""),
        " ORDER BY r.position DESC LIMIT $5"
    ))
    .bind(viewer.tenant)
    .bind(target)
    .bind(below(after))
    .bind(kind)
    .bind(i64::from(limit) + 1)
    .bind(viewer.user)
    .fetch_all(&mut **tx)
    .await?;
    Ok(Page::cut(reactions, limit, |reaction: &Reaction| Cursor {
        position: reaction.position,
        id: reaction.user.0,
    }))
}

/// What is under each of `targets` (posts or comments); a target without anything is there with zeros.
pub async fn counts(
    tx: &mut TenantTx,
    viewer: Viewer,
    targets: &[Uuid],
) -> sqlx::Result<BTreeMap<Uuid, Counts>> {
    let mut counts: BTreeMap<Uuid, Counts> = targets
        .iter()
        .map(|target| (*target, Counts::default()))
        .collect();
    // Without a number: what the viewer did.
    let found: Vec<(Uuid, String, Option<i64>)> = sqlx::query_as(
        "SELECT target, kind, n FROM engagement.tally WHERE tenant = $1 AND target = ANY($2)
         UNION ALL
         SELECT target, kind, NULL FROM engagement.reaction WHERE tenant = $1 AND target = ANY($2) AND \"user\" = $3",
    )
    .bind(viewer.tenant)
    .bind(targets)
    .bind(viewer.user)
    .fetch_all(&mut **tx)
    .await?;
    for (target, kind, n) in found {
        let count = counts.entry(target).or_default();
        match (&*kind, n) {
            (_, None) => count.mine = Some(kind),
            (super::COMMENT, Some(n)) => count.comments = n,
            (super::SHARE, Some(n)) => count.shares = n,
            (super::VIEW, Some(n)) => count.views = n,
            (_, Some(n)) => {
                count.reactions.insert(kind, n);
            }
        }
    }
    Ok(counts)
}
