//! Matches, candidates, and what the viewer thinks of someone.

use chrono::{DateTime, Utc};
use events::id::{Position, UserId};
use serde::Serialize;
use service::db::TenantTx;

use crate::page::{Cursor, Page, Viewer, below};

/// The read models that these queries read.
pub const READS: &[&str] = &["pairing"];

/// Someone whom the viewer likes and who likes the viewer.
#[derive(Clone, Debug, PartialEq, Serialize, sqlx::FromRow)]
pub struct Match {
    /// The other one.
    pub user: UserId,
    /// Its place in the log.
    pub position: Position,
    /// When it was made.
    pub made_at: DateTime<Utc>,
}

/// Someone whom the viewer has not judged yet.
#[derive(Clone, Debug, PartialEq, Serialize, sqlx::FromRow)]
pub struct Candidate {
    /// Who it is.
    pub user: UserId,
    /// When they registered, as a place in the log.
    pub position: Position,
}

/// The viewer's matches, newest first.
pub async fn matches(
    tx: &mut TenantTx,
    viewer: Viewer,
    after: Option<Cursor>,
    limit: u32,
) -> sqlx::Result<Page<Match>> {
    let matches = sqlx::query_as(
        "SELECT p.other AS \"user\", p.position, p.made_at
        FROM pairing.pair p
        WHERE p.tenant = $1 AND p.owner = $2 AND p.position < $3
        ORDER BY p.position DESC LIMIT $4",
    )
    .bind(viewer.tenant)
    .bind(viewer.user)
    .bind(below(after))
    .bind(i64::from(limit) + 1)
    .fetch_all(&mut **tx)
    .await?;
    Ok(Page::cut(matches, limit, |one: &Match| Cursor {
        position: one.position,
        id: one.user.0,
    }))
}

/// Users whom the viewer has neither liked nor passed over, newest first.
pub async fn candidates(
    tx: &mut TenantTx,
    viewer: Viewer,
    after: Option<Cursor>,
    limit: u32,
) -> sqlx::Result<Page<Candidate>> {
    let candidates = sqlx::query_as(
        "SELECT p.\"user\", p.position
        FROM pairing.person p
        WHERE p.tenant = $1 AND p.\"user\" <> $2 AND p.position < $3
          AND NOT EXISTS (
            SELECT FROM pairing.verdict v WHERE v.tenant = $1 AND v.owner = $2 AND v.target = p.\"user\")
        ORDER BY p.position DESC LIMIT $4",
    )
    .bind(viewer.tenant)
    .bind(viewer.user)
    .bind(below(after))
    .bind(i64::from(limit) + 1)
    .fetch_all(&mut **tx)
    .await?;
    Ok(Page::cut(candidates, limit, |one: &Candidate| Cursor {
        position: one.position,
        id: one.user.0,
    }))
}

/// What the viewer last said of `other`: `like`, `super`, `pass` or `ended`.
pub async fn verdict(
    tx: &mut TenantTx,
    viewer: Viewer,
    other: UserId,
) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar(
        "SELECT kind FROM pairing.verdict WHERE tenant = $1 AND owner = $2 AND target = $3",
    )
    .bind(viewer.tenant)
    .bind(viewer.user)
    .bind(other)
    .fetch_optional(&mut **tx)
    .await
}

/// Whether the viewer and `other` are matched.
pub async fn matched(tx: &mut TenantTx, viewer: Viewer, other: UserId) -> sqlx::Result<bool> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM pairing.pair WHERE tenant = $1 AND owner = $2 AND other = $3)",
    )
    .bind(viewer.tenant)
    .bind(viewer.user)
    .bind(other)
    .fetch_one(&mut **tx)
    .await
}
