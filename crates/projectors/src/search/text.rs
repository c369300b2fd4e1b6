//! What texts and queries are made of: terms, and the parts of scripts that write no spaces.

use std::collections::BTreeSet;

/// How long a word must be to be completed or repaired to, characters.
const TERM_LENGTHS: std::ops::RangeInclusive<usize> = 3..=30;
/// The most terms of one document.
const TERMS_MAX: usize = 200;
/// So much of a text is cut into pairs, characters.
const GRAMS_MAX: usize = 5_000;

/// The first words that somebody may begin to write, or write wrongly; each once, in lower case.
pub(super) fn terms(text: &str) -> BTreeSet<String> {
    let mut terms = BTreeSet::new();
    for word in text.split(|c: char| !c.is_alphanumeric()) {
        if terms.len() == TERMS_MAX {
            break;
        }
        let counts = TERM_LENGTHS.contains(&word.chars().take(31).count())
            && word.chars().any(char::is_alphabetic)
            && !word.chars().any(is_unspaced);
        if counts {
            terms.insert(word.to_lowercase());
        }
    }
    terms
}

/// Whether a character is of a script that writes no spaces, or in which words are hardly told apart by them.
fn is_unspaced(c: char) -> bool {
    matches!(c,
        '\u{0E00}'..='\u{0EFF}' // Thai, Lao
        | '\u{1000}'..='\u{109F}' // Burmese
        | '\u{1100}'..='\u{11FF}' | '\u{AC00}'..='\u{D7AF}' // Hangul
        | '\u{1780}'..='\u{17FF}' // Khmer
        | '\u{3040}'..='\u{30FF}' | '\u{31F0}'..='\u{31FF}' // Kana
        | '\u{3400}'..='\u{4DBF}' | '\u{4E00}'..='\u{9FFF}' | '\u{F900}'..='\u{FAFF}' // Han
        | '\u{20000}'..='\u{323AF}')
}

/// The runs of a text's characters that are of such scripts (true) and that are not.
fn runs(text: &str) -> impl Iterator<Item = (bool, Vec<char>)> {
    let chars: Vec<char> = text.chars().collect();
    let runs: Vec<_> = chars
        .chunk_by(|a, b| is_unspaced(*a) == is_unspaced(*b))
        .map(|run| (is_unspaced(run[0]), run.to_vec()))
        .collect();
    runs.into_iter()
}

fn pairs(run: &[char]) -> impl Iterator<Item = String> {
    run.windows(2).map(|pair| pair.iter().collect())
}

/// Pairs of characters, then the characters, of what is written without spaces: words of an index. None: there is nothing such.
pub(super) fn grams<'a>(texts: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let mut grams = vec![];
    for text in texts {
        let some: String = text.chars().take(GRAMS_MAX).collect();
        for (_, run) in runs(&some).filter(|(unspaced, _)| *unspaced) {
            grams.extend(pairs(&run));
            grams.extend(run.iter().map(char::to_string));
        }
    }
    (!grams.is_empty()).then(|| grams.join(" "))
}

/// A query's words as Postgres is asked for them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// For `websearch_to_tsquery`.
    pub(super) words: String,
    /// Words that are only begun.
    pub(super) begun: Vec<String>,
}

/// Takes a query apart: `gat*` is a word that begins so; what is written without spaces becomes pairs of characters.
pub(super) fn asked(query: &str) -> Asked {
    let (mut words, mut begun) = (vec![], vec![]);
    for word in query.split_whitespace() {
        let beginning = word
            .strip_suffix('*')
            .filter(|word| word.chars().count() > 1 && word.chars().all(char::is_alphanumeric));
        if let Some(beginning) = beginning {
            begun.push(beginning.to_lowercase());
            continue;
        }
        let spaced = runs(word).map(|(unspaced, run)| {
            if unspaced && run.len() > 1 {
                format!(" {} ", pairs(&run).collect::<Vec<_>>().join(" "))
            } else {
                run.into_iter().collect()
            }
        });
        words.push(spaced.collect::<String>().trim().to_owned());
    }
    Asked {
        words: words.join(" "),
        begun,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_words_that_somebody_writes() {
        let found = terms("El Camión, el camión y 2024: ¡a2b! 日本語");
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["a2b", "camión"]);
        assert_eq!(terms(&"x".repeat(1 << 20)).len(), 0);
    }

    #[test]
    fn scripts_without_spaces_are_cut_into_pairs() {
        assert_eq!(
            grams(["el 日本語 aquí"]).as_deref(),
            Some("日本 本語 日 本 語")
        );
        assert_eq!(grams(["sin"]), None);
        assert_eq!(asked("-gato 日本語").words, "-gato 日本 本語");
        assert_eq!(asked("\"日本語\"").words, "\" 日本 本語 \"");
        assert_eq!(asked("語").words, "語");
    }

    #[test]
    fn a_star_begins_a_word() {
        let begun = Asked {
            words: "rojo a*".to_owned(),
            begun: vec!["cami".to_owned()],
        };
        assert_eq!(asked("Cami* rojo a*"), begun);
        assert_eq!(asked("ca'm*").begun, Vec::<String>::new());
    }
}
