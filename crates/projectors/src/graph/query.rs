//! Profiles, and who follows whom.

use std::collections::BTreeMap;

use events::id::{Position, UserId};
use serde::Serialize;
use service::db::TenantTx;

use crate::page::{Cursor, Page, Viewer, below};

/// The read models that these queries read.
pub const READS: &[&str] = &["graph"];

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
}

/// The other end of a relation.
#[derive(Clone, Debug, PartialEq, Serialize, sqlx::FromRow)]
pub struct Related {
    /// Who it is.
    pub user: UserId,
    /// Since when, as a place in the log.
    pub position: Position,
}

/// One user.
pub async fn profile(
    tx: &mut TenantTx,
    viewer: Viewer,
    user: UserId,
) -> sqlx::Result<Option<Profile>> {
    Ok(profiles(tx, viewer, &[user]).await?.remove(&user))
}

/// Those of `users` that have registered.
pub async fn profiles(
    tx: &mut TenantTx,
    viewer: Viewer,
    users: &[UserId],
) -> sqlx::Result<BTreeMap<UserId, Profile>> {
    let profiles: Vec<Profile> = sqlx::query_as(
        "SELECT p.\"user\", p.name, p.bio, p.place, p.language, p.private, r.state AS relation,
            coalesce(t.followers, 0) AS followers, coalesce(t.following, 0) AS following
        FROM graph.profile p
        LEFT JOIN LATERAL (
            SELECT sum(t.followers)::bigint AS followers, sum(t.following)::bigint AS following
            FROM graph.tally t WHERE t.tenant = $1 AND t.\"user\" = p.\"user\"
        ) t ON true
        LEFT JOIN graph.relation r ON r.tenant = $1 AND r.follower = $2 AND r.followee = p.\"user\"
        WHERE p.tenant = $1 AND p.\"user\" = ANY($3)",
    )
    .bind(viewer.tenant)
    .bind(viewer.user)
    .bind(users)
    .fetch_all(&mut **tx)
    .await?;
    Ok(profiles
        .into_iter()
        .map(|profile| (profile.user, profile))
        .collect())
}

/// Who follows `user`, newest first.
pub async fn followers(
    tx: &mut TenantTx,
    viewer: Viewer,
    user: UserId,
    after: Option<Cursor>,
    limit: u32,
) -> sqlx::Result<Page<Related>> {
    related(tx, viewer, FOLLOWERS, user, "following", after, limit).await
}

/// Whom `user` follows, newest first.
pub async fn following(
    tx: &mut TenantTx,
    viewer: Viewer,
    user: UserId,
    after: Option<Cursor>,
    limit: u32,
) -> sqlx::Result<Page<Related>> {
    related(tx, viewer, FOLLOWING, user, "following", after, limit).await
}

/// Who asks to follow the viewer, newest first.
pub async fn requests(
    tx: &mut TenantTx,
    viewer: Viewer,
    after: Option<Cursor>,
    limit: u32,
) -> sqlx::Result<Page<Related>> {
    related(
        tx,
        viewer,
        FOLLOWERS,
        viewer.user,
        "requested",
        after,
        limit,
    )
    .await
}

const FOLLOWERS: &str = "SELECT r.follower AS \"user\", r.position
    FROM graph.relation r
    WHERE r.tenant = $1 AND r.followee = $2 AND r.state = $3 AND r.position < $4
    ORDER BY r.position DESC LIMIT $5";

const FOLLOWING: &str = "SELECT r.followee AS \"user\", r.position
    FROM graph.relation r
    WHERE r.tenant = $1 AND r.follower = $2 AND r.state = $3 AND r.position < $4
    ORDER BY r.position DESC LIMIT $5";

async fn related(
    tx: &mut TenantTx,
    viewer: Viewer,
    sql: &'static str,
    user: UserId,
    state: &str,
    after: Option<Cursor>,
    limit: u32,
) -> sqlx::Result<Page<Related>> {
    let related = sqlx::query_as(sql)
        .bind(viewer.tenant)
        .bind(user)
        .bind(state)
        .bind(below(after))
        .bind(i64::from(limit) + 1)
        .fetch_all(&mut **tx)
        .await?;
    Ok(Page::cut(related, limit, |related: &Related| Cursor {
        position: related.position,
        id: related.user.0,
    }))
}
