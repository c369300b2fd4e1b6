//! Finding posts, people and one's own files.

use chrono::{DateTime, Utc};
use events::id::{Position, UserId};
use serde::{Deserialize, Serialize};
use service::db::TenantTx;
use uuid::Uuid;

use super::asked::{Asked, ask};
use super::window::{Window, Windows};
use crate::feed::query::visible;
use crate::page::{Page, Viewer};

/// The read models that these queries read.
pub const READS: &[&str] = &["search", "feed", "graph", "moderation"];

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
    /// An own file, by its name.
    Asset,
}

impl Kind {
    /// As written in tables and URLs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Post => "post",
            Self::Person => "person",
            Self::Asset => "asset",
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
    /// Words; `"a phrase"`, `or`, `-not` and a word that is only begun, `gat*`, work.
    pub words: String,
    /// Only this kind.
    pub kind: Option<Kind>,
    /// Only by this author.
    pub author: Option<UserId>,
    /// Only with this hashtag, with or without its `#`.
    pub hashtag: Option<String>,
    /// Only in this language, BCP 47.
    pub language: Option<String>,
    /// Only at this place, as its author names it; case and accents do not matter.
    pub place: Option<String>,
    /// Only from this time on.
    pub from: Option<DateTime<Utc>>,
    /// Only before this time.
    pub to: Option<DateTime<Utc>>,
    /// In which order.
    pub order: Order,
}

impl Search {
    /// The words, as far as they are looked at.
    pub(super) fn looked_at(&self) -> String {
        let words = self.words.chars().filter(|c| *c != '\0');
        words.take(LONGEST).collect::<String>().trim().to_owned()
    }
}

/// Something found.
#[derive(Clone, Debug, PartialEq, Serialize, sqlx::FromRow)]
pub struct Found {
    /// `post`, `person` or `asset`.
    pub kind: String,
    /// The post's, user's or asset's id.
    pub id: Uuid,
    /// Who wrote it, or who it is.
    pub author: UserId,
    /// How well it fits; 0 when ordered by age.
    pub rank: f32,
    /// Its place in the log.
    pub position: Position,
    /// The part of its text that fits, as HTML: `<mark>` around what was looked for, everything else escaped. None when no words
    /// were looked for.
    pub snippet: Option<String>,
}

/// Where a page of results ended.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SearchCursor {
    /// Rank of the last result.
    pub rank: f32,
    /// Its position.
    pub position: Position,
}

/// What `fit` are the newest $7 documents of the tenant $1 that fit: $2 the union of the query's configurations, each for the documents
/// of its languages, $3 kind, $4 author, $5 hashtag, $6 where to go on, $9 the languages, $10 the query in each, $11 place, $12 where to
/// end. What $8 can surely not see, or is in a language that is not asked for, must not take their places.
macro_rules! fit {
    ($($more:literal)?) => {
        concat!(
            "WITH candidates AS (
        SELECT d.kind, d.id, d.author, d.position, d.language, d.lexemes",
            $(", ", $more,)?
            "
        FROM search.found d
        WHERE d.tenant = $1 AND d.position < $6 AND d.position >= $12
          AND ($2::text IS NULL OR d.lexemes @@ $2::text::tsquery)
          AND ($3::text IS NULL OR d.kind = $3)
          AND ($4::uuid IS NULL OR d.author = $4)
          AND ($5::text IS NULL OR d.hashtags @> ARRAY[$5])
          AND ($11::text IS NULL OR d.place_key = lower(projection.plain($11)))
          AND d.language = ANY($9::text[])
          AND (d.public OR d.author = $8 OR d.kind = 'post' AND EXISTS (
            SELECT FROM feed.follow f WHERE f.tenant = $1 AND f.follower = $8 AND f.followee = d.author))
          AND ",
            $crate::graph::query::unblocked!("$8", "d.author"),
            "
        ORDER BY d.position DESC
        LIMIT $7
    ), fit AS (
        SELECT c.*, a.words AS query
        FROM candidates c
        JOIN unnest($9::text[], $10::text[]::tsquery[]) AS a(language, words) ON a.language = c.language
    )"
        )
    };
}
pub(super) use fit;

/// Whether $8 may see the document `d` of the tenant $1.
macro_rules! seen {
    () => {
        concat!(
            "CASE d.kind WHEN 'post' THEN EXISTS (SELECT FROM feed.post p WHERE p.tenant = $1 AND p.post = d.id AND ",
            visible!("$8"),
            ") ELSE d.author = $8 OR ",
            $crate::moderation::query::unsuspended!("d.author"),
            " END"
        )
    };
}
pub(super) use seen;

/// The best $16 of what fits, behind $14 and $15; $13 whether to rank. Last comes a row of the kind `edge`, which says how many fit and
/// where they end: in the same statement, because another one would see another state of the table.
const SKELETON: &str = concat!(
    fit!(),
    ", ranked AS (
        SELECT kind, id, position, query, 0::bigint AS fit, CASE WHEN $13 THEN ts_rank(lexemes, query) ELSE 0 END::real AS rank
        FROM fit
    ), best AS (
        SELECT * FROM ranked
        WHERE $14::real IS NULL OR (rank, position) < ($14, $15)
        ORDER BY rank DESC, position DESC
        LIMIT $16
    )
    SELECT kind, id, position, rank, query::text AS query, fit FROM best
    UNION ALL
    SELECT 'edge', $8, coalesce(min(position), $12), -1, '', count(*) FROM candidates
    ORDER BY rank DESC, position DESC"
);

/// The first $7 of a skeleton, $2 kinds, $3 ids, $4 ranks and $5 queries, that $8 may see; $6 whether with snippets.
const PRESENTED: &str = concat!(
    "SELECT d.kind, d.id, d.author, d.position, d.rank, CASE WHEN $6 THEN ts_headline(
            ('projection.' || d.language)::regconfig,
            translate(left(concat_ws(' · ', d.title, d.body), 20000), '\u{E000}\u{E001}', ''), d.query::tsquery,
            'StartSel=\u{E000},StopSel=\u{E001},MaxWords=30,MinWords=10,ShortWord=0,MaxFragments=2,FragmentDelimiter=\" … \"') END AS snippet
    FROM (
        SELECT d.*, s.rank, s.query
        FROM unnest($2::text[], $3::uuid[], $4::real[], $5::text[]) AS s(kind, id, rank, query)
        CROSS JOIN LATERAL (
            SELECT d.* FROM search.found d WHERE d.tenant = $1 AND d.kind = s.kind AND d.id = s.id OFFSET 0
        ) d
        WHERE ",
    seen!(),
    "
        LIMIT $7
    ) d
    ORDER BY d.rank DESC, d.position DESC"
);

/// Of the best, so many times as many as a page has are looked at first: not all of them may be seen.
const SPARE: u32 = 4;

/// Something that may be found.
#[derive(sqlx::FromRow)]
struct Hit {
    kind: String,
    id: Uuid,
    position: Position,
    rank: f32,
    query: String,
    /// Of an edge, how many fit.
    fit: i64,
}

/// So many of the best of the newest that may be found, behind `after`. Ordered by age, also where those end, when there may be
/// more of them.
async fn skeleton(
    tx: &mut TenantTx,
    viewer: Viewer,
    (search, asked, (from, to)): (&Search, &Asked, (Position, Position)),
    (after, looked_at): (Option<SearchCursor>, i64),
) -> sqlx::Result<(Vec<Hit>, Option<Position>)> {
    let best = search.order == Order::Best;
    let below = after.filter(|_| !best).map_or(to, |cursor| cursor.position);
    let mut windows = Windows::new(from, below.min(to), asked.head);
    // What is chosen by more than words has an index of its own, or is little.
    let by_words = search.author.is_none() && search.place.is_none() && asked.hashtag.is_none();
    let (mut hits, mut edge, mut fit) = (vec![], None, 0);
    let mut left = if best { RANKED } else { WINDOW };
    while let Some(window) = match &asked.union {
        Some(_) if by_words => windows.next(fit, left),
        _ => Some(windows.rest()).filter(|window| window.from < window.to),
    } {
        let mut some = part(
            tx,
            viewer,
            (search, asked, window),
            (after, looked_at, left),
        )
        .await?;
        if let Some(last) = some.pop_if(|last| last.kind == EDGE) {
            (fit, left) = (last.fit, left - last.fit);
            edge = Some(last.position).filter(|_| left == 0 && !best);
        }
        hits.append(&mut some);
    }
    // The best of each window: among them are the best of all.
    hits.sort_by(|a, b| b.rank.total_cmp(&a.rank).then(b.position.cmp(&a.position)));
    hits.truncate(usize::try_from(looked_at).unwrap_or(usize::MAX));
    Ok((hits, edge))
}

/// The same of one window, of which `left` may fit, and its edge.
async fn part(
    tx: &mut TenantTx,
    viewer: Viewer,
    (search, asked, window): (&Search, &Asked, Window),
    (after, looked_at, left): (Option<SearchCursor>, i64, i64),
) -> sqlx::Result<Vec<Hit>> {
    let best = search.order == Order::Best;
    // Not kept prepared: which index is right depends on the words, so each search is planned with its own.
    sqlx::query_as(SKELETON)
        .persistent(false)
        .bind(viewer.tenant)
        .bind(asked.union.as_deref().map(|union| window.of(union)))
        .bind(search.kind.map(Kind::as_str))
        .bind(search.author)
        .bind(&asked.hashtag)
        .bind(window.to)
        .bind(left)
        .bind(viewer.user)
        .bind(&asked.languages)
        .bind(&asked.queries)
        .bind(search.place.as_deref().map(printable))
        .bind(window.from)
        .bind(best)
        .bind(after.filter(|_| best).map(|cursor| cursor.rank))
        .bind(after.map(|cursor| cursor.position))
        .bind(looked_at)
        .fetch_all(&mut **tx)
        .await
}

/// The hits that the viewer may see, `limit` at most, in their order.
async fn present(
    tx: &mut TenantTx,
    viewer: Viewer,
    hits: &[Hit],
    (snippets, limit): (bool, i64),
) -> sqlx::Result<Vec<Found>> {
    let mut found: Vec<Found> = sqlx::query_as(PRESENTED)
        .bind(viewer.tenant)
        .bind(hits.iter().map(|hit| &*hit.kind).collect::<Vec<_>>())
        .bind(hits.iter().map(|hit| hit.id).collect::<Vec<_>>())
        .bind(hits.iter().map(|hit| hit.rank).collect::<Vec<_>>())
        .bind(hits.iter().map(|hit| &*hit.query).collect::<Vec<_>>())
        .bind(snippets)
        .bind(limit)
        .bind(viewer.user)
        .fetch_all(&mut **tx)
        .await?;
    for one in &mut found {
        one.snippet = one.snippet.as_deref().map(marked);
    }
    Ok(found)
}

/// What the viewer may see of what fits. Words are compared in the language of each text, without accents.
///
/// A word means something else in each language: the query is put into every configuration, and their union is asked for at once, each
/// part with the mark of its languages.
pub async fn search(
    tx: &mut TenantTx,
    viewer: Viewer,
    search: &Search,
    after: Option<SearchCursor>,
    limit: u32,
) -> sqlx::Result<Page<Found, SearchCursor>> {
    let Some(asked) = ask(tx, viewer, search).await? else {
        return Ok(Page {
            items: vec![],
            next: None,
        });
    };
    let times = bounds(tx, viewer, search).await?;
    let wanted = i64::from(limit) + 1;
    let (mut found, mut edge, mut behind) = (vec![], None, after);
    // Looked at first are the best few, then all.
    for looked_at in [i64::from(SPARE) * wanted, RANKED] {
        let hits;
        (hits, edge) = skeleton(tx, viewer, (search, &asked, times), (behind, looked_at)).await?;
        let left = wanted - i64::try_from(found.len()).unwrap_or(wanted);
        found.extend(present(tx, viewer, &hits, (asked.union.is_some(), left)).await?);
        let all = hits.len() < usize::try_from(looked_at).unwrap_or(usize::MAX);
        if all || found.len() > limit as usize {
            break;
        }
        behind = hits.last().map(|hit| SearchCursor {
            rank: hit.rank,
            position: hit.position,
        });
    }
    let mut page = Page::cut(found, limit, |found: &Found| SearchCursor {
        rank: found.rank,
        position: found.position,
    });
    if page.next.is_none() {
        // The window ended before the page was full: the next page goes on behind the window.
        page.next = edge.map(|position| SearchCursor {
            rank: 0.0,
            position,
        });
    }
    Ok(page)
}

/// Without what Postgres has no letter for.
pub(super) fn printable(text: &str) -> String {
    text.replace('\0', "")
}

/// A headline as HTML.
fn marked(headline: &str) -> String {
    let mut html = String::with_capacity(headline.len() + 32);
    for c in headline.chars() {
        match c {
            '\u{E000}' => html.push_str("<mark>"),
            '\u{E001}' => html.push_str("</mark>"),
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            c => html.push(c),
        }
    }
    html
}

/// The positions from which on, and below which, the search's times are.
pub(super) async fn bounds(
    tx: &mut TenantTx,
    viewer: Viewer,
    search: &Search,
) -> sqlx::Result<(Position, Position)> {
    if search.from.is_none() && search.to.is_none() {
        return Ok((Position::START, Position(i64::MAX)));
    }
    // Times rise with positions.
    sqlx::query_as(
        "SELECT CASE WHEN $2::timestamptz IS NULL THEN 0 ELSE coalesce((
                SELECT position FROM search.found WHERE tenant = $1 AND at >= $2 ORDER BY at, position LIMIT 1),
                9223372036854775807) END,
            CASE WHEN $3::timestamptz IS NULL THEN 9223372036854775807 ELSE coalesce((
                SELECT position + 1 FROM search.found WHERE tenant = $1 AND at < $3 ORDER BY at DESC, position DESC LIMIT 1),
                0) END",
    )
    .bind(viewer.tenant)
    .bind(search.from)
    .bind(search.to)
    .fetch_one(&mut **tx)
    .await
}
