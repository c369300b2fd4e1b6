//! Finding posts, people and hashtags.

use std::collections::BTreeSet;

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

/// Ordered by age, so many matches are looked at for a page. Where few of them may be seen, a page is short and yet not
/// the last.
const WINDOW: i64 = 250;

/// What the row is called that says where the candidates end.
const EDGE: &str = "edge";

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
}

/// A hashtag and how many public posts have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct Hashtag {
    /// Without the `#`, lower case.
    pub tag: String,
    /// How many public posts have it.
    pub posts: i64,
}

/// `candidates` are the newest $7 documents of the tenant $1 that may fit: $2 the union of the query's configurations, $3
/// kind, $4 author, $5 hashtag, $6 where to go on, $9 the languages. What $8 can surely not see, or is in a language that
/// is not asked for, must not take their places. Nothing in them is hard to estimate, so that a rare word is found by its
/// index and a frequent one by walking back from the newest document.
///
/// Of them, those are `found` that fit the query in their own language ($10) and that $8 may see; $11 whether to rank,
/// $12, $13 and $14 the page. Ordered by age, where the candidates end comes last, of kind `edge`, when there may be more
/// of them: in the same statement, because another one would see another state of the table.
const SEARCH: &str = concat!(
    "WITH candidates AS (
        SELECT d.*
        FROM search.found d
        WHERE d.tenant = $1 AND d.position < $6
          AND ($2::text IS NULL OR d.words @@ $2::text::tsquery)
          AND ($3::text IS NULL OR d.kind = $3)
          AND ($4::uuid IS NULL OR d.author = $4)
          AND ($5::text IS NULL OR d.hashtags @> ARRAY[$5])
          AND d.language = ANY($9::text[])
          AND (d.public OR d.author = $8 OR EXISTS (
            SELECT FROM feed.follow f WHERE f.tenant = $1 AND f.follower = $8 AND f.followee = d.author))
        ORDER BY d.position DESC
        LIMIT $7
    ), found AS (
        SELECT c.kind, c.id, c.author, c.position,
            CASE WHEN $11 THEN ts_rank(c.words, a.words) ELSE 0 END::real AS rank
        FROM candidates c
        JOIN unnest($9::text[], $10::text[]::tsquery[]) AS a(language, words) ON a.language = c.language
        WHERE ($2::text IS NULL OR c.words @@ a.words)
          AND (c.kind <> 'post' OR EXISTS (
            SELECT FROM feed.post p WHERE p.tenant = $1 AND p.post = c.id AND ",
    visible!("$8"),
    "))
    ), page AS (
        SELECT kind, id, author, position, rank
        FROM found
        WHERE $12::real IS NULL OR (rank, position) < ($12, $13)
        ORDER BY rank DESC, position DESC
        LIMIT $14
    )
    SELECT kind, id, author, position, rank FROM page
    UNION ALL
    SELECT 'edge', $8, $8, min(position), -1 FROM candidates HAVING count(*) = $7 AND NOT $11
    ORDER BY rank DESC, position DESC"
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
    let asked = ask(tx, words.trim(), search.language.as_deref()).await?;
    if asked.union.is_none() && (hashtag.is_none() || !words.trim().is_empty()) {
        return Ok(Page {
            items: vec![],
            next: None,
        });
    }
    let best = search.order == Order::Best;
    let below = after.filter(|_| !best).map(|cursor| cursor.position);
    // Not kept prepared: which index is right depends on the words, so each search is planned with its own.
    let mut found: Vec<Found> = sqlx::query_as(SEARCH)
        .persistent(false)
        .bind(viewer.tenant)
        .bind(asked.union)
        .bind(search.kind.map(Kind::as_str))
        .bind(search.author)
        .bind(hashtag)
        .bind(below.unwrap_or(Position(i64::MAX)))
        .bind(if best { RANKED } else { WINDOW })
        .bind(viewer.user)
        .bind(asked.languages)
        .bind(asked.queries)
        .bind(best)
        .bind(after.filter(|_| best).map(|cursor| cursor.rank))
        .bind(after.map(|cursor| cursor.position))
        .bind(i64::from(limit) + 1)
        .fetch_all(&mut **tx)
        .await?;
    let edge = found.pop_if(|last| last.kind == EDGE);
    let mut page = Page::cut(found, limit, |found: &Found| SearchCursor {
        rank: found.rank,
        position: found.position,
    });
    if page.next.is_none() {
        // The window ended before the page was full: the next page goes on behind the window.
        page.next = edge.map(|edge| SearchCursor {
            rank: 0.0,
            position: edge.position,
        });
    }
    Ok(page)
}

/// A query as each configuration understands it, and the union of all that say anything.
struct Asked {
    languages: Vec<String>,
    queries: Vec<String>,
    union: Option<String>,
}

async fn ask(tx: &mut TenantTx, words: &str, language: Option<&str>) -> sqlx::Result<Asked> {
    let asked: Vec<(String, String)> = sqlx::query_as(
        "SELECT language, websearch_to_tsquery(language::regconfig, projection.plain($2))::text
        FROM unnest($1::text[]) AS c(language)",
    )
    .bind(language::searched(language))
    .bind(words)
    .fetch_all(&mut **tx)
    .await?;
    let (languages, queries): (Vec<_>, Vec<_>) = asked.into_iter().unzip();
    let said: BTreeSet<&String> = queries.iter().filter(|query| !query.is_empty()).collect();
    let said: Vec<String> = said.into_iter().map(|query| format!("({query})")).collect();
    let union = (!said.is_empty()).then(|| said.join(" | "));
    Ok(Asked {
        languages,
        queries,
        union,
    })
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
