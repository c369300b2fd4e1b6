//! Matches, candidates, and what the viewer thinks of someone. Who has blocked the viewer, is blocked or suspended, is in no list.

use std::cmp::Reverse;

use chrono::{DateTime, Utc};
use events::id::{Position, UserId};
use serde::{Deserialize, Serialize};
use service::db::TenantTx;

use super::score::{Facets, score};
use crate::graph::query::there;
use crate::page::{Cursor, Page, Viewer, below};

/// The read models that these queries read.
pub const READS: &[&str] = &["pairing", "graph", "moderation"];

/// So many candidates are compared because they are new, and so many because they share an interest with the viewer.
const POOL: i64 = 200;

/// So many of someone's newest hashtags say what they are interested in.
const INTERESTS: i64 = 30;

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

/// Someone who gave the viewer a super-like.
#[derive(Clone, Debug, PartialEq, Serialize, sqlx::FromRow)]
pub struct Admirer {
    /// Who it is.
    pub user: UserId,
    /// The like's place in the log.
    pub position: Position,
}

/// Someone whom the viewer has not judged yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Candidate {
    /// Who it is.
    pub user: UserId,
    /// How well the two would go together, 0 to 100.
    pub score: u8,
}

/// Where a page of candidates ended: at the last one of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CandidateCursor {
    /// How well the two would go together.
    pub score: u8,
    /// Who it was.
    pub user: UserId,
}

/// Whether the viewer, $2, has not judged a user yet.
macro_rules! unjudged {
    ($user:literal) => {
        concat!(
            "NOT EXISTS (SELECT FROM pairing.verdict v WHERE v.tenant = $1 AND v.owner = $2 AND v.target = ",
            $user,
            ")"
        )
    };
}

/// The viewer's matches, newest first.
pub async fn matches(
    tx: &mut TenantTx,
    viewer: Viewer,
    after: Option<Cursor>,
    limit: u32,
) -> sqlx::Result<Page<Match>> {
    let matches = sqlx::query_as(concat!(
        "SELECT p.other AS \"user\", p.position, p.made_at
        FROM pairing.pair p
        WHERE p.tenant = $1 AND p.owner = $2 AND p.position < $3 AND ",
        there!("$2", "p.other"),
        " ORDER BY p.position DESC LIMIT $4"
    ))
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

/// Who gave the viewer a super-like that the viewer has not answered, newest first.
pub async fn admirers(
    tx: &mut TenantTx,
    viewer: Viewer,
    after: Option<Cursor>,
    limit: u32,
) -> sqlx::Result<Page<Admirer>> {
    let admirers = sqlx::query_as(concat!(
        "SELECT a.other AS \"user\", a.position
        FROM pairing.admirer a
        WHERE a.tenant = $1 AND a.owner = $2 AND a.position < $3
          AND EXISTS (SELECT FROM pairing.person p WHERE p.tenant = $1 AND p.\"user\" = a.other) AND ",
        unjudged!("a.other"),
        " AND ",
        there!("$2", "a.other"),
        " ORDER BY a.position DESC LIMIT $4"
    ))
    .bind(viewer.tenant)
    .bind(viewer.user)
    .bind(below(after))
    .bind(i64::from(limit) + 1)
    .fetch_all(&mut **tx)
    .await?;
    Ok(Page::cut(admirers, limit, |one: &Admirer| Cursor {
        position: one.position,
        id: one.user.0,
    }))
}

/// Of those whom the viewer has not judged, the newest, and those who most used the viewer's hashtags of late. Bounded
/// however many people there are and however much they post: what is looked at are index entries in order.
const CANDIDATES: &str = concat!(
    "WITH mine AS MATERIALIZED (
        SELECT DISTINCT i.hashtag
        FROM (
            SELECT i.hashtag FROM pairing.interest i
            WHERE i.tenant = $1 AND i.author = $2 ORDER BY i.position DESC LIMIT $3
        ) i
    ), newest AS (
        SELECT p.\"user\" FROM pairing.person p
        WHERE p.tenant = $1 AND p.\"user\" <> $2 AND ",
    unjudged!("p.\"user\""),
    " AND ",
    there!("$2", "p.\"user\""),
    " ORDER BY p.position DESC LIMIT $4
    ), alike AS (
        SELECT i.author AS \"user\"
        FROM mine
        CROSS JOIN LATERAL (
            SELECT i.author FROM pairing.interest i
            WHERE i.tenant = $1 AND i.hashtag = mine.hashtag ORDER BY i.position DESC LIMIT $4
        ) i
        WHERE i.author <> $2 AND ",
    unjudged!("i.author"),
    " AND ",
    there!("$2", "i.author"),
    " GROUP BY i.author ORDER BY count(*) DESC, i.author LIMIT $4
    )
    SELECT p.\"user\", p.place, p.language, ARRAY(
        SELECT i.hashtag FROM pairing.interest i
        WHERE i.tenant = $1 AND i.author = p.\"user\" ORDER BY i.position DESC LIMIT $3
    ) AS hashtags
    FROM (SELECT $2::uuid AS \"user\" UNION SELECT * FROM newest UNION SELECT * FROM alike) pool
    JOIN pairing.person p ON p.tenant = $1 AND p.\"user\" = pool.\"user\""
);

/// A person with what is known of them.
type Known = (UserId, Option<String>, Option<String>, Vec<String>);

/// Users whom the viewer has neither liked nor passed over, those first who go best with the viewer.
pub async fn candidates(
    tx: &mut TenantTx,
    viewer: Viewer,
    after: Option<CandidateCursor>,
    limit: u32,
) -> sqlx::Result<Page<Candidate, CandidateCursor>> {
    let known: Vec<Known> = sqlx::query_as(CANDIDATES)
        .bind(viewer.tenant)
        .bind(viewer.user)
        .bind(INTERESTS)
        .bind(POOL)
        .fetch_all(&mut **tx)
        .await?;
    let facets = known.into_iter().map(|(user, place, language, hashtags)| {
        let facets = Facets::new(hashtags, place.as_deref(), language.as_deref());
        (user, facets)
    });
    let (mine, others): (Vec<_>, Vec<_>) = facets.partition(|(user, _)| *user == viewer.user);
    let mine = mine.into_iter().next().map(|(_, facets)| facets);
    let mine = mine.unwrap_or_default();
    let order = |score: u8, user: UserId| (Reverse(score), user);
    let mut candidates: Vec<Candidate> = others
        .into_iter()
        .map(|(user, facets)| Candidate {
            user,
            score: score(&mine, &facets),
        })
        .filter(|one| {
            after.is_none_or(|last| order(one.score, one.user) > order(last.score, last.user))
        })
        .collect();
    candidates.sort_unstable_by_key(|one| order(one.score, one.user));
    Ok(Page::cut(candidates, limit, |one: &Candidate| {
        CandidateCursor {
            score: one.score,
            user: one.user,
        }
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
