//! Words that mean the same to a tenant's people: no history, so they are kept beside the read models and widen queries.

use std::collections::BTreeMap;

use service::db::TenantTx;

use super::{language, text};
use crate::page::Viewer;

/// The words of each meaning, as they were written.
pub async fn synonyms(tx: &mut TenantTx, viewer: Viewer) -> sqlx::Result<Vec<Vec<String>>> {
    let words: Vec<(i16, String)> = sqlx::query_as(
        "SELECT meaning, word FROM accounts.synonyms WHERE tenant = $1 ORDER BY meaning, word",
    )
    .bind(viewer.tenant)
    .fetch_all(&mut **tx)
    .await?;
    let mut meanings = BTreeMap::<i16, Vec<String>>::new();
    for (meaning, word) in words {
        meanings.entry(meaning).or_default().push(word);
    }
    Ok(meanings.into_values().collect())
}

/// Has these take the place of all there were, for a moderator; each meaning is a list of different words.
pub async fn replace(
    tx: &mut TenantTx,
    viewer: Viewer,
    meanings: &[Vec<String>],
) -> sqlx::Result<()> {
    // Two at once would each delete what was there, and both add theirs.
    sqlx::query("SELECT pg_advisory_xact_lock(hashtext('cinelog synonyms'), hashtext($1::text))")
        .bind(viewer.tenant.to_string())
        .execute(&mut **tx)
        .await?;
    sqlx::query("DELETE FROM accounts.synonyms WHERE tenant = $1")
        .bind(viewer.tenant)
        .execute(&mut **tx)
        .await?;
    sqlx::query("DELETE FROM accounts.synonym_stems WHERE tenant = $1")
        .bind(viewer.tenant)
        .execute(&mut **tx)
        .await?;
    let all = (0i16..).zip(meanings);
    let (numbers, words): (Vec<i16>, Vec<&str>) = all
        .flat_map(|(number, words)| words.iter().map(move |word| (number, &**word)))
        .unzip();
    sqlx::query(
        "WITH added AS (
            INSERT INTO accounts.synonyms (tenant, meaning, word, asked)
            SELECT $1, * FROM unnest($2::smallint[], $3::text[], $4::text[])
            RETURNING meaning, asked
        )
        INSERT INTO accounts.synonym_stems (tenant, stem, meaning)
        SELECT DISTINCT $1, t.lexeme, a.meaning
        FROM added a
        CROSS JOIN unnest($5::text[]) AS l(language)
        CROSS JOIN LATERAL (
            SELECT lexeme FROM unnest(to_tsvector(l.language::regconfig, projection.plain(a.asked)))
            ORDER BY length(lexeme) DESC, lexeme LIMIT 1
        ) t",
    )
    .bind(viewer.tenant)
    .bind(numbers)
    .bind(&words)
    .bind(
        words
            .iter()
            .map(|word| text::asked(word).words)
            .collect::<Vec<_>>(),
    )
    .bind(language::searched(None))
    .execute(&mut **tx)
    .await?;
    Ok(())
}
