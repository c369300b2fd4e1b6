//! What is asked for: a query as each configuration understands it, widened by what means the same to the tenant.

use std::collections::BTreeMap;

use events::id::Position;
use service::db::TenantTx;

use super::query::Search;
use super::{language, text};
use crate::hashtag;
use crate::page::Viewer;

/// So many of a tenant's meanings widen one query.
const MEANINGS: i64 = 32;

/// A query as each configuration understands it, and the union of all that say anything.
pub(super) struct Asked {
    pub(super) languages: Vec<String>,
    pub(super) queries: Vec<String>,
    pub(super) union: Option<String>,
    pub(super) hashtag: Option<String>,
    /// Where the tenant's newest document is.
    pub(super) head: Position,
}

/// The query, and what means the same to the viewer's tenant. None: nothing can be found by that.
pub(super) async fn ask(
    tx: &mut TenantTx,
    viewer: Viewer,
    search: &Search,
) -> sqlx::Result<Option<Asked>> {
    let words = search.looked_at();
    let hashtag = search.hashtag.as_deref().map(hashtag::key);
    let query = text::asked(&words);
    let asked: Vec<(String, String, Position)> = sqlx::query_as(
        "WITH meanings AS MATERIALIZED (
            SELECT jsonb_agg(words) AS words FROM (
                SELECT jsonb_agg(s.asked ORDER BY s.word) AS words FROM accounts.synonyms s
                WHERE s.tenant = $4 AND s.meaning IN (
                    SELECT t.meaning FROM accounts.synonym_stems t
                    WHERE t.tenant = $4 AND t.stem IN (
                        SELECT said.lexeme FROM unnest($1::text[]) AS c(language)
                        CROSS JOIN LATERAL unnest(to_tsvector(c.language::regconfig, projection.plain($2))) said))
                GROUP BY s.meaning ORDER BY s.meaning LIMIT $5
            ) m
            WHERE EXISTS (SELECT FROM accounts.synonyms s WHERE s.tenant = $4)
        )
        SELECT language, (CASE WHEN m.words IS NULL THEN said ELSE projection.widened(said, language, m.words) END
            && to_tsquery('pg_catalog.simple', coalesce(
                (SELECT string_agg(quote_literal(projection.plain(begun)) || ':*', ' & ') FROM unnest($3::text[]) AS t(begun)), '')))::text,
            (SELECT coalesce(max(position), 0) FROM search.found WHERE tenant = $4)
        FROM meanings m, unnest($1::text[]) AS c(language)
        CROSS JOIN LATERAL websearch_to_tsquery(language::regconfig, projection.plain($2)) said
        WHERE EXISTS (
            -- A build of before they were marked is no use, and is known here, before much is read.
            SELECT FROM search.found d WHERE d.tenant = $4 AND d.language = c.language AND d.lexemes IS NOT NULL)",
    )
    .bind(language::searched(search.language.as_deref()))
    .bind(query.words)
    .bind(query.begun)
    .bind(viewer.tenant)
    .bind(MEANINGS)
    .fetch_all(&mut **tx)
    .await?;
    let head = asked.first().map_or(Position::START, |(.., head)| *head);
    let asked = asked
        .into_iter()
        .map(|(language, query, _)| (language, query));
    let (languages, queries): (Vec<_>, Vec<_>) = asked.unzip();
    let union = union(&languages, &queries);
    if union.is_none() && (hashtag.is_none() || !words.is_empty()) {
        return Ok(None);
    }
    Ok(Some(Asked {
        languages,
        queries,
        union,
        hashtag,
        head,
    }))
}

/// What finds the documents that fit the query of their own language; none: it says nothing in any.
fn union(languages: &[String], queries: &[String]) -> Option<String> {
    let mut said: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (language, query) in languages
        .iter()
        .zip(queries)
        .filter(|(_, query)| !query.is_empty())
    {
        said.entry(query)
            .or_default()
            .push(format!("'={language}'"));
    }
    let parts: Vec<String> = said
        .into_iter()
        .map(|(query, marks)| format!("({query}) & ({})", marks.join(" | ")))
        .collect();
    (!parts.is_empty()).then(|| parts.join(" | "))
}
