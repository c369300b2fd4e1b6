//! The word that a misspelt one was probably meant to be.
//!
//! Most misspelt words are one edit away from what was meant (Damerau, 1964: four in five), and there are only some hundred words
//! one edit away from a word: each is looked for by itself. Two edits are looked for among words that begin or end alike.

use std::collections::BTreeSet;

use service::db::TenantTx;
use strsim::osa_distance;

use crate::page::Viewer;

/// The most letters that are put in or in the place of another.
const LETTERS: usize = 128;

/// Letters of scripts besides ours stand in blocks of so many.
const BLOCK: u32 = 128;

/// Of words that begin or end as a misspelt one does, so many rows are compared with it.
const NEAR: i64 = 5_000;

/// A word somebody uses, as it is written and without accents, and how often.
type Used = (String, String, i64);

/// The edits within which a word of so many characters is taken for another.
fn edits(length: usize) -> usize {
    match length {
        0..=3 => 0,
        4..=6 => 1,
        _ => 2,
    }
}

/// The word that `plain`, which has no accents, was probably meant to be: the one with the fewest edits (letters put in, left out,
/// changed, swapped), of those the most used; none when it is used itself. One that is two edits away and differs both in its
/// beginning and in its end is not found.
pub(super) async fn nearest(
    tx: &mut TenantTx,
    viewer: Viewer,
    plain: &str,
) -> sqlx::Result<Option<String>> {
    let letters: Vec<char> = plain.chars().collect();
    let most = edits(letters.len());
    if most == 0 {
        return Ok(None);
    }
    let mut near = one_edit_away(&letters);
    near.insert(plain.to_owned());
    let mut used: Vec<Used> = sqlx::query_as(
        "SELECT term, plain, sum(documents)::bigint FROM search.spelt
        WHERE tenant = $1 AND plain = ANY($2) GROUP BY term, plain",
    )
    .persistent(false)
    .bind(viewer.tenant)
    .bind(Vec::from_iter(near))
    .fetch_all(&mut **tx)
    .await?;
    if used.is_empty() && most > 1 {
        used = alike(tx, viewer, plain, letters.len()).await?;
    }
    let best = used.into_iter().filter_map(|(term, used, documents)| {
        let distance = osa_distance(&used, plain);
        (distance <= most).then_some((distance, -documents, term))
    });
    Ok(best
        .min()
        .filter(|(distance, ..)| *distance > 0)
        .map(|(.., term)| term))
}

/// Words that begin or end as `plain` does, of about its length.
async fn alike(
    tx: &mut TenantTx,
    viewer: Viewer,
    plain: &str,
    length: usize,
) -> sqlx::Result<Vec<Used>> {
    let part = if length < 9 { 3 } else { 4 };
    sqlx::query_as(
        "SELECT term, plain, sum(documents)::bigint FROM (
            (SELECT t.term, t.plain, t.lane, t.documents FROM search.spelt t
            WHERE t.tenant = $1 AND t.plain LIKE left($2, $3) || '%' AND abs(length(t.plain) - length($2)) <= 2 LIMIT $4)
            UNION
            (SELECT t.term, t.plain, t.lane, t.documents FROM search.spelt t
            WHERE t.tenant = $1 AND reverse(t.plain) LIKE reverse(right($2, $3)) || '%'
              AND abs(length(t.plain) - length($2)) <= 2 LIMIT $4)
        ) near
        GROUP BY term, plain",
    )
    .persistent(false)
    .bind(viewer.tenant)
    .bind(plain)
    .bind(part)
    .bind(NEAR)
    .fetch_all(&mut **tx)
    .await
}

/// The letters that a word may have been meant to have: ours, and of other scripts those that stand around its own.
fn alphabet(word: &[char]) -> BTreeSet<char> {
    let mut letters = BTreeSet::new();
    for &letter in word {
        if letter.is_ascii() {
            letters.extend(if letter.is_ascii_digit() {
                '0'..='9'
            } else {
                'a'..='z'
            });
            continue;
        }
        let block = u32::from(letter) / BLOCK * BLOCK;
        let around = (block..block + BLOCK).filter_map(char::from_u32);
        letters.extend(around.filter(|c| c.is_alphabetic() && !c.is_uppercase()));
    }
    letters.into_iter().take(LETTERS).collect()
}

/// Every word that is one letter less, one swap, one other letter or one letter more away.
fn one_edit_away(word: &[char]) -> BTreeSet<String> {
    let alphabet = alphabet(word);
    let mut words = BTreeSet::new();
    for at in 0..=word.len() {
        let (before, behind) = word.split_at(at);
        let mut add = |middle: &[char], rest: &[char]| {
            words.insert(before.iter().chain(middle).chain(rest).collect::<String>());
        };
        for &letter in &alphabet {
            add(&[letter], behind);
        }
        let Some((&first, rest)) = behind.split_first() else {
            continue;
        };
        add(&[], rest);
        for &letter in &alphabet {
            add(&[letter], rest);
        }
        if let Some((&second, rest)) = rest.split_first() {
            add(&[second, first], rest);
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around(word: &str) -> BTreeSet<String> {
        one_edit_away(&word.chars().collect::<Vec<_>>())
    }

    #[test]
    fn every_word_one_edit_away_is_looked_for_and_no_other() {
        let words = around("gato");
        for near in [
            "gao", "gaot", "agto", "pato", "gatos", "rgato", "gatto", "gata",
        ] {
            assert!(words.contains(near), "{near}");
        }
        assert!(words.iter().all(|word| osa_distance(word, "gato") <= 1));
        // 25 others in each of 4 places, 25 others in front of each letter and 26 at the end, 4 less, 3 swaps, and itself.
        assert_eq!(words.len(), 100 + 126 + 4 + 3 + 1);
    }

    #[test]
    fn numbers_have_digits() {
        assert!(around("h265").contains("h264"));
    }

    #[test]
    fn other_scripts_have_letters_of_their_own() {
        for (wrong, meant) in [
            ("прывет", "привет"),
            ("καλημερ", "καλημερα"),
            ("слово", "слова"),
            ("комнаа", "комната"),
        ] {
            assert!(around(wrong).contains(meant), "{meant}");
        }
        assert!(
            around("слово")
                .iter()
                .all(|word| !word.contains(|c: char| c.is_ascii()))
        );
        assert!(around(&"語".repeat(30)).len() < 10_000);
    }
}
