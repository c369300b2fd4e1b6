//! Finding posts, people and hashtags.

use events::id::{Position, UserId};
use serde::{Deserialize, Serialize};
use service::db::TenantTx;
use uuid::Uuid;

use super::language;
use crate::feed::query::visible;
use crate::page::{Page, Viewer};

/// The read models that these queries read.
pub const READS: &[&str] = &["search", "feed"];

/// Of a word's matches, the newest so many are ranked: ranking reads every one of them.
const RANKED: i64 = 2_000;

/// Longest query that is looked at, characters.
const LONGEST: usize = 400;

/// What can be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A post, by its text and place.
    Post,
    /// A user, by name, words and place.
    Person,
}

impl Kind {
    /// As written in tables and URLs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Post => "post",
            Self::Person => "person",
        }
    }
}

/// In which order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// The best of the newest matches first.
    #[default]
    Best,
    /// The newest first.
    Newest,
}

/// What is looked for. Without words and without a hashtag, nothing is found.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// Words; `"a phrase"`, `or` and `-not` work.
    pub words: String,
    /// Only this kind.
    pub kind: Option<Kind>,
    /// Only by this author.
    pub author: Option<UserId>,
    /// Only with this hashtag, with or without its `#`.
    pub hashtag: Option<String>,
    /// Only in this language, BCP 47.
    pub language: Option<String>,
    /// In which order.
    pub order: Order,
}

/// Something found.
#[derive(Clone, Debug, PartialEq, Serialize, sqlx::FromRow)]
pub struct Found {
    /// `post` or `person`.
    pub kind: String,
    /// The post's or user's id.
    pub id: Uuid,
    /// Who wrote it, or who it is.
    pub author: UserId,
    /// How well it fits; 0 when ordered by age.
    pub rank: f32,
    /// Its place in the log.
    pub position: Position,
}

/// Where a page of results ended.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SearchCursor {
    /// Rank of the last result.
    pub rank: f32,
    /// Its position.
    pub position: Position,
    /// Its id.
    pub id: Uuid,
}

/// A hashtag and how many public posts have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct Hashtag {
    /// Without the `#`, lower case.
    pub tag: String,
    /// How many public posts have it.
    pub posts: i64,
}

/// $3 words, $4 configurations, $5 kind, $6 author, $7 hashtag; $8 whether to rank, $9 and $10 which documents are
/// candidates; $11, $12 and $13 the page.
const SEARCH: &str = concat!(
    "WITH asked AS MATERIALIZED (
        SELECT c.language, websearch_to_tsquery(c.language::regconfig, projection.plain($3)) AS words
        FROM unnest($4::text[]) AS c(language)
    ), candidates AS (
        SELECT d.kind, d.id, d.author, d.position,
            CASE WHEN $8 THEN ts_rank(d.words, asked.words) ELSE 0 END::real AS rank
        FROM search.document d
        JOIN asked ON asked.language = d.language
        WHERE d.tenant = $1 AND d.position < $9
          AND ($3 = '' OR (d.words @@ asked.words AND d.words @@ (
            SELECT string_agg(DISTINCT '(' || a.words::text || ')', ' | ')::tsquery FROM asked a
            WHERE numnode(a.words) > 0)))
          AND ($5::text IS NULL OR d.kind = $5)
          AND ($6::uuid IS NULL OR d.author = $6)
          AND ($7::text IS NULL OR d.hashtags @> ARRAY[$7])
          AND (d.kind <> 'post' OR EXISTS (
            SELECT FROM feed.post p WHERE p.tenant = $1 AND p.post = d.id AND ",
    visible!(),
    "))
        ORDER BY d.position DESC
        LIMIT $10
    )
    SELECT kind, id, author, position, rank
    FROM candidates
    WHERE $11::real IS NULL OR (rank, position) < ($11, $12)
    ORDER BY rank DESC, position DESC
    LIMIT $13"
);

/// What the viewer may see of what fits. Words are compared in the language of each text, without accents.
///
/// A word means something else in each language: the query is put into every configuration, their union finds candidates
/// by index, and each candidate must fit the query of its own language.
pub async fn search(
    tx: &mut TenantTx,
    viewer: Viewer,
    search: &Search,
    after: Option<SearchCursor>,
    limit: u32,
) -> sqlx::Result<Page<Found, SearchCursor>> {
    let words: String = search
        .words
        .chars()
        .filter(|c| *c != '\0')
        .take(LONGEST)
        .collect();
    let hashtag = search.hashtag.as_deref().map(super::hashtag_key);
    if words.trim().is_empty() && hashtag.is_none() {
        return Ok(Page {
            items: vec![],
            next: None,
        });
    }
    let (best, wanted) = (search.order == Order::Best, i64::from(limit) + 1);
    let found = sqlx::query_as(SEARCH)
        .bind(viewer.tenant)
        .bind(viewer.user)
        .bind(words.trim())
        .bind(language::searched(search.language.as_deref()))
        .bind(search.kind.map(Kind::as_str))
        .bind(search.author)
        .bind(hashtag)
        .bind(best)
        .bind(
            after
                .filter(|_| !best)
                .map_or(i64::MAX, |cursor| cursor.position.0),
        )
        .bind(if best { RANKED } else { wanted })
        .bind(after.filter(|_| best).map(|cursor| cursor.rank))
        .bind(after.map(|cursor| cursor.position))
        .bind(wanted)
        .fetch_all(&mut **tx)
        .await?;
    Ok(Page::cut(found, limit, |found: &Found| SearchCursor {
        rank: found.rank,
        position: found.position,
        id: found.id,
    }))
}

/// Hashtags that begin with `prefix`, most used first.
pub async fn hashtags(
    tx: &mut TenantTx,
    viewer: Viewer,
    prefix: &str,
    limit: u32,
) -> sqlx::Result<Vec<Hashtag>> {
    sqlx::query_as(
        "SELECT h.tag, sum(h.posts)::bigint AS posts
        FROM search.hashtag h
        WHERE h.tenant = $1 AND starts_with(h.tag, $2)
        GROUP BY h.tag
        ORDER BY posts DESC, h.tag
        LIMIT $3",
    )
    .bind(viewer.tenant)
    .bind(super::hashtag_key(prefix))
    .bind(i64::from(limit))
    .fetch_all(&mut **tx)
    .await
}
