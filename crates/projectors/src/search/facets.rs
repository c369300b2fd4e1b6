//! How what is found is divided: by kind, author, hashtag, language, place and month.

use std::collections::BTreeMap;

use serde::Serialize;
use service::db::TenantTx;

use super::asked::ask;
use super::language;
use super::query::{Kind, Search, bounds, fit, printable, seen};
use crate::feed::query::visible;
use crate::page::Viewer;

/// Of what fits, the newest so many are counted.
const COUNTED: i64 = 2_000;

/// So many values of each facet are told, the most frequent ones.
const VALUES: usize = 10;

/// A value that can be filtered by, and how many results have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Facet {
    /// As the filter takes it; a month as `2026-11`.
    pub value: String,
    /// Results that have it.
    pub count: i64,
}

/// The documents that are `found`, each counted once per facet. Texts are compared as their filters compare them.
const FACETS: &str = concat!(
    fit!("d.hashtags, d.place_key, d.at"),
    ", found AS (
        SELECT * FROM fit d WHERE ",
    seen!(),
    "
    ), facets AS (
        SELECT 'kind' AS facet, kind AS value FROM found
        UNION ALL SELECT 'author', author::text FROM found
        UNION ALL SELECT 'hashtag', unnest(hashtags) FROM found
        UNION ALL SELECT 'language', language FROM found
        UNION ALL SELECT 'place', place_key FROM found WHERE place_key IS NOT NULL
        UNION ALL SELECT 'month', to_char(at AT TIME ZONE 'UTC', 'YYYY-MM') FROM found
    ), ranked AS (
        SELECT facet, value, count(*) AS n, row_number() OVER (PARTITION BY facet ORDER BY count(*) DESC, value) AS place
        FROM facets GROUP BY facet, value
    )
    SELECT facet, value, n FROM ranked WHERE place <= $13 ORDER BY facet, place"
);

/// The facets `kind`, `author`, `hashtag`, `language` (BCP 47; a language that is not stemmed has none), `place` and `month` of
/// the newest 2,000 results, each with its ten most frequent values.
pub async fn facets(
    tx: &mut TenantTx,
    viewer: Viewer,
    search: &Search,
) -> sqlx::Result<BTreeMap<String, Vec<Facet>>> {
    let Some(asked) = ask(tx, viewer, search).await? else {
        return Ok(BTreeMap::new());
    };
    let (from, to) = bounds(tx, viewer, search).await?;
    let counted: Vec<(String, String, i64)> = sqlx::query_as(FACETS)
        .persistent(false)
        .bind(viewer.tenant)
        .bind(asked.union)
        .bind(search.kind.map(Kind::as_str))
        .bind(search.author)
        .bind(asked.hashtag)
        .bind(to)
        .bind(COUNTED)
        .bind(viewer.user)
        .bind(asked.languages)
        .bind(asked.queries)
        .bind(search.place.as_deref().map(printable))
        .bind(from)
        .bind(i64::try_from(VALUES).unwrap_or(i64::MAX))
        .fetch_all(&mut **tx)
        .await?;
    let mut facets: BTreeMap<String, Vec<Facet>> = BTreeMap::new();
    for (facet, value, count) in counted {
        let value = if facet == "language" {
            let Some(tag) = language::tag(&value) else {
                continue;
            };
            tag.to_owned()
        } else {
            value
        };
        facets
            .entry(facet)
            .or_default()
            .push(Facet { value, count });
    }
    Ok(facets)
}
