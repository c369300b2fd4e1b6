//! Words that are begun, and words that are misspelt.

use events::id::UserId;
use serde::Serialize;
use service::db::TenantTx;

use super::nearest::nearest;
use super::query::Search;
use super::text;
use crate::graph::query::there;
use crate::hashtag;
use crate::page::Viewer;

/// A hashtag and how many public posts have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct Hashtag {
    /// Without the `#`, lower case.
    pub tag: String,
    /// How many public posts have it.
    pub posts: i64,
}

/// A word of what all may see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct Term {
    /// As it is written, lower case.
    pub term: String,
    /// How many documents have it.
    pub documents: i64,
}

/// Shortest beginning that words and people are looked for by, characters: a shorter one begins too many.
const SHORTEST: usize = 2;

/// Words of a query that are looked at, whether they are misspelt.
const WORDS: usize = 8;

/// What a text is compared by: its first characters, with what is special to LIKE taken out by being no letter.
fn beginning(text: &str) -> String {
    let letters = text.trim().chars().filter(|c| c.is_alphanumeric());
    letters.take(30).collect::<String>().to_lowercase()
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
    .bind(hashtag::key(prefix))
    .bind(i64::from(limit))
    .fetch_all(&mut **tx)
    .await
}

/// Words that begin with the last word of `text`, most used first; accents do not matter. None for one letter.
pub async fn words(
    tx: &mut TenantTx,
    viewer: Viewer,
    text: &str,
    limit: u32,
) -> sqlx::Result<Vec<Term>> {
    let last = beginning(text.split_whitespace().last().unwrap_or_default());
    if last.chars().count() < SHORTEST {
        return Ok(vec![]);
    }
    sqlx::query_as(
        "SELECT t.term, sum(t.documents)::bigint AS documents
        FROM search.spelt t
        WHERE t.tenant = $1 AND t.plain LIKE projection.plain($2) || '%'
        GROUP BY t.term
        ORDER BY documents DESC, t.term
        LIMIT $3",
    )
    .persistent(false)
    .bind(viewer.tenant)
    .bind(last)
    .bind(i64::from(limit))
    .fetch_all(&mut **tx)
    .await
}

/// People whose name begins with `text`, those first who registered first; accents do not matter. None for one letter, and nobody
/// across a block or suspended.
pub async fn people(
    tx: &mut TenantTx,
    viewer: Viewer,
    text: &str,
    limit: u32,
) -> sqlx::Result<Vec<UserId>> {
    let name = text.replace(['\0', '%', '_', '\\'], "").to_lowercase();
    if name.trim().chars().count() < SHORTEST {
        return Ok(vec![]);
    }
    sqlx::query_scalar(concat!(
        "SELECT d.author FROM search.found d
        WHERE d.tenant = $1 AND d.kind = 'person' AND d.name_key LIKE projection.plain($2) || '%' AND ",
        there!("$4", "d.author"),
        " ORDER BY d.position LIMIT $3"
    ))
    .persistent(false)
    .bind(viewer.tenant)
    .bind(name.trim_start())
    .bind(i64::from(limit))
    .bind(viewer.user)
    .fetch_all(&mut **tx)
    .await
}

/// The query with words that nobody uses replaced by the nearest ones that somebody does; none: there is nothing to repair.
pub async fn repaired(
    tx: &mut TenantTx,
    viewer: Viewer,
    search: &Search,
) -> sqlx::Result<Option<String>> {
    let asked = search.looked_at();
    let mut repaired = asked.clone();
    let terms = text::terms(&asked.to_lowercase());
    let terms: Vec<String> = terms.into_iter().take(WORDS).collect();
    let plain: Vec<(String, String)> =
        sqlx::query_as("SELECT word, projection.plain(word) FROM unnest($1::text[]) AS t(word)")
            .bind(&terms)
            .fetch_all(&mut **tx)
            .await?;
    for (word, plain) in plain {
        if let Some(near) = nearest(tx, viewer, &plain).await? {
            repaired = replaced(&repaired, &word, &near);
        }
    }
    Ok((repaired != asked).then_some(repaired))
}

/// Every whole word `old` of `text`, in whatever case, as `new`.
fn replaced(text: &str, old: &str, new: &str) -> String {
    let mut parts: Vec<String> = vec![String::new()];
    let mut in_word = false;
    for c in text.chars() {
        if c.is_alphanumeric() != in_word {
            parts.push(String::new());
            in_word = !in_word;
        }
        if let Some(part) = parts.last_mut() {
            part.push(c);
        }
    }
    let is_old = |part: &String| part.to_lowercase() == old;
    let parts = parts
        .into_iter()
        .map(|part| if is_old(&part) { new.to_owned() } else { part });
    parts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_words_are_replaced_and_the_rest_stays() {
        assert_eq!(
            replaced("Camoin, camoines -CAMOIN", "camoin", "camión"),
            "camión, camoines -camión"
        );
    }
}
