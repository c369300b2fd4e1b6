//! Hashtags, as texts have them and as they are kept.

/// The longest word that counts as a hashtag, characters; an index takes no entry of thousands.
const LONGEST: usize = 100;
/// The most hashtags of one text.
const MOST: usize = 30;

/// A hashtag as it is kept and compared: without `#`, lower case.
pub(crate) fn key(tag: &str) -> String {
    tag.trim()
        .trim_start_matches('#')
        .replace('\0', "")
        .to_lowercase()
}

/// The first words behind a `#`, each once, in the order of the alphabet.
pub(crate) fn of_text(text: &str) -> Vec<String> {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let mut tags: Vec<String> = text
        .split('#')
        .skip(1)
        .map(|rest| &rest[..rest.find(|c| !word(c)).unwrap_or(rest.len())])
        .filter(|tag| (1..=LONGEST).contains(&tag.chars().count()))
        .take(MOST)
        .map(key)
        .collect();
    tags.sort();
    tags.dedup();
    tags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashtags_are_words_behind_a_hash() {
        assert_eq!(
            of_text("#Gato, un #perro_1 y #GATO! # nada #"),
            ["gato", "perro_1"]
        );
        assert_eq!(of_text("sin etiquetas"), Vec::<String>::new());
        assert_eq!(of_text("#camión#rojo"), ["camión", "rojo"]);
    }

    #[test]
    fn a_hashtag_is_not_a_text() {
        assert_eq!(of_text(&format!("#{} #gato", "x".repeat(5000))), ["gato"]);
        let many: Vec<String> = (0..2000).map(|n| format!("#{n}")).collect();
        assert_eq!(of_text(&many.join(" ")).len(), MOST);
    }
}
