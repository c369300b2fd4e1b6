//! How well two people go together: a number from 0 to 100, the same from either side.
//!
//! Three things are compared, each worth its points: what they post about (60), where they are (25) and which language
//! they prefer (15). Each is a set of words, and two sets *A* and *B* are alike to the degree
//! 2·|*A* ∩ *B*| / (|*A*| + |*B*|): 1 when they are equal, 0 when they share nothing or one of them is empty, so what is not
//! known earns nothing. Fractions of a point are dropped.

use std::collections::BTreeSet;

/// Points for hashtags that both have used.
const INTERESTS: usize = 60;
/// Points for the same place.
const PLACE: usize = 25;
/// Points for the same language.
const LANGUAGE: usize = 15;

/// What a person is compared by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facets {
    interests: BTreeSet<String>,
    place: BTreeSet<String>,
    language: BTreeSet<String>,
}

impl Facets {
    /// Of hashtags that the person has used, and of the profile. A place is the words between its commas, so that
    /// `Cádiz, España` and `Sevilla, España` are half the same; of a language tag the region does not count.
    pub fn new(hashtags: Vec<String>, place: Option<&str>, language: Option<&str>) -> Self {
        let place = place.unwrap_or_default().split(',');
        let language = language.unwrap_or_default().split('-').take(1);
        Self {
            interests: hashtags.into_iter().collect(),
            place: words(place),
            language: words(language),
        }
    }
}

fn words<'a>(parts: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    parts
        .map(|part| part.trim().to_lowercase())
        .filter(|word| !word.is_empty())
        .collect()
}

/// How well two people go together, 0 to 100.
pub fn score(one: &Facets, other: &Facets) -> u8 {
    let points = alike(&one.interests, &other.interests, INTERESTS)
        + alike(&one.place, &other.place, PLACE)
        + alike(&one.language, &other.language, LANGUAGE);
    // There are no more than 100 to be had.
    u8::try_from(points).unwrap_or(100)
}

/// So many of `points` as two sets are alike.
fn alike(one: &BTreeSet<String>, other: &BTreeSet<String>, points: usize) -> usize {
    let common = one.intersection(other).count();
    match one.len() + other.len() {
        0 => 0,
        both => points * 2 * common / both,
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    fn facets(hashtags: &[&str], place: &str, language: &str) -> Facets {
        let hashtags = hashtags.iter().map(|&tag| tag.to_owned()).collect();
        Facets::new(hashtags, Some(place), Some(language))
    }

    #[test]
    fn each_thing_in_common_earns_its_points() {
        let ana = facets(&["gato", "mar"], "Cádiz, España", "es-ES");
        for (other, points) in [
            (facets(&["gato", "mar"], "cádiz , españa", "es-MX"), 100),
            (facets(&["gato", "mar"], "", ""), 60),
            (facets(&["gato"], "", ""), 40),
            (facets(&["gato", "perro"], "", ""), 30),
            (facets(&[], "Cádiz, España", ""), 25),
            (facets(&[], "Sevilla, España", ""), 12),
            (facets(&[], "", "ES"), 15),
            (facets(&["perro"], "Lima", "en"), 0),
            (Facets::default(), 0),
        ] {
            assert_eq!(score(&ana, &other), points, "{other:?}");
        }
        assert_eq!(score(&Facets::default(), &Facets::default()), 0);
    }

    fn anybody() -> impl Strategy<Value = Facets> {
        let known = (
            vec("[a-d]", 0..6),
            option::of("[xy, ]{0,5}"),
            option::of("(es|en)(-MX)?"),
        );
        known.prop_map(|(hashtags, place, language)| {
            Facets::new(hashtags, place.as_deref(), language.as_deref())
        })
    }

    proptest! {
        #[test]
        fn it_is_the_same_from_either_side_and_highest_with_oneself(one in anybody(), other in anybody()) {
            let points = score(&one, &other);
            prop_assert_eq!(points, score(&other, &one));
            prop_assert!(points <= score(&one, &one) && points <= 100);
        }
    }
}
