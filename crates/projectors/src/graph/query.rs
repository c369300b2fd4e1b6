//! Profiles, who follows whom, and who wants to see nothing of whom.

use std::collections::BTreeMap;

use events::id::{Position, UserId};
use serde::{Deserialize, Serialize};
use service::db::TenantTx;

use crate::moderation::query::unsuspended;
use crate::page::{Cursor, Page, Viewer, below};

/// The read models that these queries read.
pub const READS: &[&str] = &["graph", "moderation"];

/// So many of someone's newest followees are looked at for suggestions: of the viewer's, and of each of those.
const NEAR: i64 = 200;

/// So many of the viewer's newest followees are looked for among someone's followers.
const KNOWN: i64 = 5_000;

/// Whether neither of two users, the first of whom looks, has blocked the other. The one place that says so; the tenant is
/// $1.
macro_rules! unblocked {
    ($viewer:literal, $other:literal) => {
        concat!(
            "NOT EXISTS (SELECT FROM graph.block b WHERE b.tenant = $1 AND b.owner = ",
            $viewer,
            " AND b.other = ",
            $other,
            ")"
        )
    };
}
pub(crate) use unblocked;

/// Whether another user, or oneself, is there for who looks: no block is between the two, and no moderator suspended the other. Whoever
/// is not has no profile and is in no list.
macro_rules! there {
    ($viewer:literal, $other:literal) => {
        concat!(
            "(",
            $other,
            " = ",
            $viewer,
            " OR ",
            $crate::moderation::query::unsuspended!($other),
            ") AND ",
            $crate::graph::query::unblocked!($viewer, $other)
        )
    };
}
pub(crate) use there;

/// A user.
#[derive(Clone, Debug, PartialEq, Serialize, sqlx::FromRow)]
pub struct Profile {
    /// The id.
    pub user: UserId,
    /// The name shown.
    pub name: Option<String>,
    /// A few words.
    pub bio: Option<String>,
    /// Where the user is, in words.
    pub place: Option<String>,
    /// Preferred language.
    pub language: Option<String>,
    /// Whether followers must be let in.
    pub private: bool,
    /// How many follow the user.
    pub followers: i64,
    /// How many the user follows.
    pub following: i64,
    /// Where the viewer stands with the user: `requested` or `following`.
    pub relation: Option<String>,
    /// Whether the viewer blocks the user.
    pub blocked: bool,
    /// Whether the viewer mutes the user.
    pub muted: bool,
}

/// The other end of a relation.
#[derive(Clone, Debug, PartialEq, Serialize, sqlx::FromRow)]
pub struct Related {
    /// Who it is.
    pub user: UserId,
    /// Since when, as a place in the log.
    pub position: Position,
}

/// Someone whom the viewer may know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct Suggestion {
    /// Who it is.
    pub user: UserId,
    /// How many of those whom the viewer follows follow them.
    pub common: i64,
}

/// Where a page of suggestions ended: at the last one of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuggestionCursor {
    /// How many followees there were in common.
    pub common: i64,
    /// Who it was.
    pub user: UserId,
}

/// One user, unless the viewer is blocked by them or they are suspended.
pub async fn profile(
    tx: &mut TenantTx,
    viewer: Viewer,
    user: UserId,
) -> sqlx::Result<Option<Profile>> {
    sqlx::query_as(concat!(
        "SELECT p.\"user\", p.name, p.bio, p.place, p.language, p.private, r.state AS relation,
            b.given IS NOT NULL AS blocked, m.owner IS NOT NULL AS muted,
            coalesce(t.followers, 0) AS followers, coalesce(t.following, 0) AS following
        FROM graph.profile p
        LEFT JOIN LATERAL (
            SELECT sum(t.followers)::bigint AS followers, sum(t.following)::bigint AS following
            FROM graph.tally t WHERE t.tenant = $1 AND t.\"user\" = p.\"user\"
        ) t ON true
        LEFT JOIN graph.relation r ON r.tenant = $1 AND r.follower = $2 AND r.followee = p.\"user\"
        LEFT JOIN graph.block b ON b.tenant = $1 AND b.owner = $2 AND b.other = p.\"user\"
        LEFT JOIN graph.mute m ON m.tenant = $1 AND m.owner = $2 AND m.other = p.\"user\"
        WHERE p.tenant = $1 AND p.\"user\" = $3 AND b.received IS NULL AND (p.\"user\" = $2 OR ",
        unsuspended!("p.\"user\""),
        ")"
    ))
    .bind(viewer.tenant)
    .bind(viewer.user)
    .bind(user)
    .fetch_optional(&mut **tx)
    .await
}

/// The names of those of `users` that have one. Whoever is mentioned is named: lists leave out whom the viewer is not to see.
pub async fn names(
    tx: &mut TenantTx,
    viewer: Viewer,
    users: &[UserId],
) -> sqlx::Result<BTreeMap<UserId, String>> {
    let names: Vec<(UserId, String)> = sqlx::query_as(
        "SELECT \"user\", name FROM graph.profile WHERE tenant = $1 AND \"user\" = ANY($2) AND name IS NOT NULL",
    )
    .bind(viewer.tenant)
    .bind(users)
    .fetch_all(&mut **tx)
    .await?;
    Ok(names.into_iter().collect())
}

/// Who follows `user`, newest first.
pub async fn followers(
    tx: &mut TenantTx,
    viewer: Viewer,
    user: UserId,
    after: Option<Cursor>,
    limit: u32,
) -> sqlx::Result<Page<Related>> {
    related(tx, viewer, FOLLOWERS, user, after, limit).await
}

/// Who follows `user` and is followed by the viewer, newest follower first; of the viewer's newest followees.
pub async fn mutuals(
    tx: &mut TenantTx,
    viewer: Viewer,
    user: UserId,
    after: Option<Cursor>,
    limit: u32,
) -> sqlx::Result<Page<Related>> {
    related(tx, viewer, MUTUALS, user, after, limit).await
}

/// Whom `user` follows, newest first.
pub async fn following(
    tx: &mut TenantTx,
    viewer: Viewer,
    user: UserId,
    after: Option<Cursor>,
    limit: u32,
) -> sqlx::Result<Page<Related>> {
    related(tx, viewer, FOLLOWING, user, after, limit).await
}

/// Who asks to follow the viewer, newest first.
pub async fn requests(
    tx: &mut TenantTx,
    viewer: Viewer,
    after: Option<Cursor>,
    limit: u32,
) -> sqlx::Result<Page<Related>> {
    related(tx, viewer, REQUESTS, viewer.user, after, limit).await
}

/// Whom the viewer blocks, newest first.
pub async fn blocks(
    tx: &mut TenantTx,
    viewer: Viewer,
    after: Option<Cursor>,
    limit: u32,
) -> sqlx::Result<Page<Related>> {
    related(tx, viewer, BLOCKS, viewer.user, after, limit).await
}

/// Whom the viewer mutes, newest first.
pub async fn mutes(
    tx: &mut TenantTx,
    viewer: Viewer,
    after: Option<Cursor>,
    limit: u32,
) -> sqlx::Result<Page<Related>> {
    related(tx, viewer, MUTES, viewer.user, after, limit).await
}

const FOLLOWERS: &str = concat!(
    "SELECT r.follower AS \"user\", r.position
    FROM graph.relation r
    WHERE r.tenant = $1 AND r.followee = $2 AND r.state = 'following' AND r.position < $3 AND ",
    there!("$5", "r.follower"),
    " ORDER BY r.position DESC LIMIT $4"
);

const FOLLOWING: &str = concat!(
    "SELECT r.followee AS \"user\", r.position
    FROM graph.relation r
    WHERE r.tenant = $1 AND r.follower = $2 AND r.state = 'following' AND r.position < $3 AND ",
    there!("$5", "r.followee"),
    " ORDER BY r.position DESC LIMIT $4"
);

const REQUESTS: &str = concat!(
    "SELECT r.follower AS \"user\", r.position
    FROM graph.relation r
    WHERE r.tenant = $1 AND r.followee = $2 AND r.state = 'requested' AND r.position < $3 AND ",
    there!("$5", "r.follower"),
    " ORDER BY r.position DESC LIMIT $4"
);

/// From the viewer's side, because someone may have more followers than anybody follows.
const MUTUALS: &str = concat!(
    "SELECT r.follower AS \"user\", r.position
    FROM (
        SELECT k.followee FROM graph.relation k
        WHERE k.tenant = $1 AND k.follower = $5 AND k.state = 'following'
        ORDER BY k.position DESC LIMIT $6
    ) known
    CROSS JOIN LATERAL (
        SELECT r.follower, r.position FROM graph.relation r
        WHERE r.tenant = $1 AND r.follower = known.followee AND r.followee = $2 AND r.state = 'following'
          AND r.position < $3
        LIMIT 1
    ) r
    WHERE ",
    there!("$5", "r.follower"),
    " ORDER BY r.position DESC LIMIT $4"
);

const BLOCKS: &str = "SELECT b.other AS \"user\", b.given AS position
    FROM graph.block b
    WHERE b.tenant = $1 AND b.owner = $2 AND b.given < $3
    ORDER BY b.given DESC LIMIT $4";

const MUTES: &str = "SELECT m.other AS \"user\", m.position
    FROM graph.mute m
    WHERE m.tenant = $1 AND m.owner = $2 AND m.position < $3
    ORDER BY m.position DESC LIMIT $4";

async fn related(
    tx: &mut TenantTx,
    viewer: Viewer,
    sql: &'static str,
    user: UserId,
    after: Option<Cursor>,
    limit: u32,
) -> sqlx::Result<Page<Related>> {
    let related = sqlx::query_as(sql)
        .bind(viewer.tenant)
        .bind(user)
        .bind(below(after))
        .bind(i64::from(limit) + 1)
        .bind(viewer.user)
        .bind(KNOWN)
        .fetch_all(&mut **tx)
        .await?;
    Ok(Page::cut(related, limit, |related: &Related| Cursor {
        position: related.position,
        id: related.user.0,
    }))
}

/// Counted first, and only then asked of the first in that order who they are: most are never looked at.
const SUGGESTIONS: &str = concat!(
    "WITH near AS MATERIALIZED (
        SELECT r.followee AS \"user\" FROM graph.relation r
        WHERE r.tenant = $1 AND r.follower = $2 AND r.state = 'following' AND ",
    unblocked!("$2", "r.followee"),
    " ORDER BY r.position DESC LIMIT $3
    )
    SELECT far.\"user\", far.common
    FROM (
        SELECT f.\"user\", count(*) AS common
        FROM near
        CROSS JOIN LATERAL (
            SELECT r.followee AS \"user\" FROM graph.relation r
            WHERE r.tenant = $1 AND r.follower = near.\"user\" AND r.state = 'following'
            ORDER BY r.position DESC LIMIT $3
        ) f
        WHERE f.\"user\" <> $2
        GROUP BY f.\"user\"
        HAVING $4::bigint IS NULL OR count(*) < $4 OR count(*) = $4 AND f.\"user\" > $5
        ORDER BY common DESC, f.\"user\"
        OFFSET 0
    ) far
    WHERE (SELECT true FROM graph.profile p WHERE p.tenant = $1 AND p.\"user\" = far.\"user\")
      AND (SELECT r.state FROM graph.relation r
        WHERE r.tenant = $1 AND r.follower = $2 AND r.followee = far.\"user\") IS NULL
      AND (SELECT b.owner FROM graph.block b
        WHERE b.tenant = $1 AND b.owner = $2 AND b.other = far.\"user\") IS NULL
      AND (SELECT true WHERE ",
    unsuspended!("far.\"user\""),
    ")
    ORDER BY far.common DESC, far.\"user\" LIMIT $6"
);

/// Users whom those whom the viewer follows follow, and whom the viewer neither follows nor asks to: most in common first.
pub async fn suggestions(
    tx: &mut TenantTx,
    viewer: Viewer,
    after: Option<SuggestionCursor>,
    limit: u32,
) -> sqlx::Result<Page<Suggestion, SuggestionCursor>> {
    let suggestions = sqlx::query_as(SUGGESTIONS)
        .bind(viewer.tenant)
        .bind(viewer.user)
        .bind(NEAR)
        .bind(after.map(|after| after.common))
        .bind(after.map(|after| after.user))
        .bind(i64::from(limit) + 1)
        .fetch_all(&mut **tx)
        .await?;
    Ok(Page::cut(suggestions, limit, |one: &Suggestion| {
        SuggestionCursor {
            common: one.common,
            user: one.user,
        }
    }))
}
