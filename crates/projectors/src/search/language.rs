//! Languages, as people name them and as Postgres configures text search for them.

/// BCP 47 primary tag, ISO 639-3 code as the detector says it, configuration.
const LANGUAGES: &[(&str, &str, &str)] = &[
    ("ar", "ara", "arabic"),
    ("hy", "hye", "armenian"),
    ("eu", "eus", "basque"),
    ("ca", "cat", "catalan"),
    ("da", "dan", "danish"),
    ("nl", "nld", "dutch"),
    ("en", "eng", "english"),
    ("fi", "fin", "finnish"),
    ("fr", "fra", "french"),
    ("de", "deu", "german"),
    ("el", "ell", "greek"),
    ("hi", "hin", "hindi"),
    ("hu", "hun", "hungarian"),
    ("id", "ind", "indonesian"),
    ("ga", "gle", "irish"),
    ("it", "ita", "italian"),
    ("lt", "lit", "lithuanian"),
    ("ne", "nep", "nepali"),
    ("nb", "nob", "norwegian"),
    ("nn", "nno", "norwegian"),
    ("no", "nor", "norwegian"),
    ("pt", "por", "portuguese"),
    ("ro", "ron", "romanian"),
    ("ru", "rus", "russian"),
    ("sr", "srp", "serbian"),
    ("es", "spa", "spanish"),
    ("sv", "swe", "swedish"),
    ("ta", "tam", "tamil"),
    ("tr", "tur", "turkish"),
    ("yi", "yid", "yiddish"),
];

/// For every other language: words as they are.
const SIMPLE: &str = "simple";

/// The configuration for a text: of the language its author claims, else of the one that it is reliably seen to be in.
pub(super) fn of_text(claimed: Option<&str>, text: &str) -> &'static str {
    if let Some(claimed) = claimed {
        return named(claimed);
    }
    detected(text).map_or(SIMPLE, named)
}

/// The language that a text is reliably seen to be in, BCP 47, of those that have a configuration.
pub(crate) fn detected(text: &str) -> Option<&'static str> {
    let info = whatlang::detect(text).filter(whatlang::Info::is_reliable)?;
    let mut languages = LANGUAGES.iter();
    languages
        .find(|(_, code, _)| *code == info.lang().code())
        .map(|(tag, ..)| *tag)
}

/// The primary language of a tag, lower case: `es` of `es-MX`.
pub(crate) fn primary(tag: &str) -> Option<String> {
    let primary = tag.split(['-', '_']).next().unwrap_or(tag);
    let is_one =
        (2..=8).contains(&primary.len()) && primary.chars().all(|c| c.is_ascii_alphabetic());
    is_one.then(|| primary.to_ascii_lowercase())
}

/// The configurations that a query is put into: that of one language, or all.
pub(super) fn searched(language: Option<&str>) -> Vec<&'static str> {
    if let Some(language) = language {
        return vec![named(language)];
    }
    let mut all: Vec<_> = LANGUAGES
        .iter()
        .map(|(_, _, configuration)| *configuration)
        .collect();
    all.dedup();
    all.push(SIMPLE);
    all
}

/// The tag of a configuration's language; none of one that knows no language.
pub(super) fn tag(configuration: &str) -> Option<&'static str> {
    let mut languages = LANGUAGES.iter();
    languages
        .find(|(_, _, known)| *known == configuration)
        .map(|(tag, ..)| *tag)
}

fn named(tag: &str) -> &'static str {
    let primary = primary(tag).unwrap_or_default();
    let mut languages = LANGUAGES.iter();
    languages
        .find(|(tag, ..)| *tag == primary)
        .map_or(SIMPLE, |(_, _, configuration)| configuration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_believed_and_otherwise_the_text_is_looked_at() {
        assert_eq!(
            of_text(Some("es-MX"), "the quick brown fox jumps over the lazy dog"),
            "spanish"
        );
        assert_eq!(of_text(Some("ja"), "日本語"), SIMPLE);
        let text =
            "El camión rojo de mi abuelo todavía está aparcado delante de la casa donde crecimos";
        assert_eq!(of_text(None, text), "spanish");
        assert_eq!(of_text(None, "ok"), SIMPLE);
        assert_eq!(of_text(None, ""), SIMPLE);
    }

    #[test]
    fn every_configuration_is_searched_once() {
        let all = searched(None);
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!((all.len(), distinct.len()), (29, 29));
        assert_eq!(searched(Some("ES")), ["spanish"]);
    }
}
