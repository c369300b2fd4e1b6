//! Hashtags that are used more than before.

use chrono::{DateTime, Utc};
use serde::Serialize;
use service::db::TenantTx;

use super::scope;
use crate::page::Viewer;
use crate::search::language;

/// The read models that these queries read.
pub const READS: &[&str] = &["trending"];

/// Hours that are looked at.
const WINDOW: i64 = 72;

/// Hours after which a use weighs half as much.
const HALF_LIFE: f64 = 6.0;

/// Where hashtags are used.
#[derive(Clone, Debug, Default)]
pub struct Where {
    /// In this language, BCP 47.
    pub language: Option<String>,
    /// At this place, as authors name it; goes before the language.
    pub place: Option<String>,
}

/// A hashtag and its uses.
#[derive(Clone, Debug, PartialEq, Serialize, sqlx::FromRow)]
pub struct Trend {
    /// Without the `#`, lower case.
    pub tag: String,
    /// Public posts of the last three days that have it.
    pub posts: i64,
    /// Those posts, each weighing half as much for every six hours of its age.
    pub score: f64,
}

/// The hashtags with the greatest score at `now`, greatest first.
pub async fn trends(
    tx: &mut TenantTx,
    viewer: Viewer,
    wanted: &Where,
    now: DateTime<Utc>,
    limit: u32,
) -> sqlx::Result<Vec<Trend>> {
    let place = wanted.place.as_deref().map(str::trim);
    let scope = match (place.filter(|place| !place.is_empty()), &wanted.language) {
        (Some(place), _) => scope::place(&place.replace('\0', "").to_lowercase()),
        (None, Some(language)) => scope::language(&language::primary(language).unwrap_or_default()),
        (None, None) => scope::ALL.to_owned(),
    };
    let hour = now.timestamp().div_euclid(3600);
    sqlx::query_as(
        "SELECT u.tag, sum(u.posts)::bigint AS posts, sum(u.posts * power(0.5, ($3 - u.hour) / $5))::float8 AS score
        FROM trending.used u
        WHERE u.tenant = $1 AND u.scope = $2 AND u.hour > $3 - $4 AND u.hour <= $3
        GROUP BY u.tag
        ORDER BY score DESC, u.tag
        LIMIT $6",
    )
    .bind(viewer.tenant)
    .bind(scope)
    .bind(hour)
    .bind(WINDOW)
    .bind(HALF_LIFE)
    .bind(i64::from(limit))
    .fetch_all(&mut **tx)
    .await
}
