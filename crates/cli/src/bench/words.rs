//! Made-up words of five languages, each the more frequent the lower its rank, and texts of them.
//!
//! Every other word of the first ranks is one that the language is full of, the others are what people here talk of; all
//! further ones are put together from parts and endings that look like the language. Stemmers take the endings off, as they
//! do with real words.

use super::chance::Chance;

/// Words in each language.
pub const VOCABULARY: u64 = 20_000;

/// A language that texts are made in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Language {
    /// BCP 47.
    pub tag: &'static str,
    /// Postgres's text search configuration for it.
    pub configuration: &'static str,
    /// Of a hundred texts, so many are in it.
    share: u64,
    common: &'static str,
    topics: &'static str,
    parts: &'static str,
    endings: &'static str,
    places: &'static str,
}

/// The languages, the most used first.
pub const LANGUAGES: [Language; 5] = [
    Language {
        tag: "es",
        configuration: "spanish",
        share: 40,
        common: "de la que el en y a los se del las por un para con no una su al lo como más pero sus",
        topics: "película cámara luz escena gato noche ciudad amigo verano música playa fiesta guion montaje actriz \
                 estreno rodaje sonido cartel sala butaca trama toma foco",
        parts: "cam mel lor ris pan tor sal ven bar gust lid fer nov quer tard mont pas rel sum trab vis zar hon jug \
                lam mar nid pel rot set tem vac abr com dil est fal gir hor len",
        endings: "ado ar oso ito ero illa anza idad ación emente",
        places: "Sevilla Lima Bogotá Cádiz Quito Madrid Mérida Rosario",
    },
    Language {
        tag: "en",
        configuration: "english",
        share: 25,
        common: "the of and to a in is that it for was on are as with his they at be this from have or by",
        topics: "movie camera light scene cat night city friend summer music beach party script cut actress premiere \
                 shoot sound poster theatre seat plot take focus",
        parts: "bran col drif fen gros hal jum kil lod mar nest orb pel quin rust sten tram und vol wick yar bleth \
                crum dask flin glim harp knol lorn mist",
        endings: "er ing ed ness able ist ment ish ation ery",
        places: "London Leeds Austin Dublin Perth Boston Bristol Halifax",
    },
    Language {
        tag: "pt",
        configuration: "portuguese",
        share: 15,
        common: "de a o que e do da em um para é com não uma os no se na por mais as dos como mas",
        topics: "filme câmera luz cena gato noite cidade amigo verão música praia festa roteiro montagem atriz estreia \
                 filmagem som cartaz sala poltrona enredo tomada foco",
        parts: "cam mel lav rod pint tost salg venc bord gost lid ferv nov quebr tard mont pux relv sum trab vist zel \
                honr jog lamb mord nad pel rot sent",
        endings: "ado ar oso inho eiro ilha ança idade ação amente",
        places: "Lisboa Porto Recife Braga Manaus Évora Curitiba Faro",
    },
    Language {
        tag: "fr",
        configuration: "french",
        share: 10,
        common: "de la le et les des en un du une que est pour qui dans a par plus pas au sur ne se ce",
        topics: "film caméra lumière scène chat nuit ville ami été musique plage fête scénario montage actrice sortie \
                 tournage son affiche salle fauteuil intrigue prise cadre",
        parts: "chant brill coul dor fern gliss heur jou lanc mont nag parl quitt ramp sav tourn vers bross crois \
                dans effac flott grond herb imit jet lav mord nou pouss",
        endings: "er ement age eur eux ette ance ité ation oir",
        places: "Lyon Nantes Genève Liège Dakar Lille Brest Québec",
    },
    Language {
        tag: "de",
        configuration: "german",
        share: 10,
        common: "der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als auch es an werden",
        topics: "Film Kamera Licht Szene Katze Nacht Stadt Freund Sommer Musik Strand Feier Drehbuch Schnitt \
                 Schauspielerin Premiere Dreh Ton Plakat Saal Sessel Handlung Aufnahme Bild",
        parts: "brom dach felz grub hamm jagd kell lind murr nord pfann quell rast schlund trenk ulm volk wend zorn \
                blick drang funk glim holz klamm leist mond pracht rind stolz",
        endings: "en ung er lich keit heit isch bar chen schaft",
        places: "Wien Köln Bern Leipzig Graz Kiel Basel Jena",
    },
];

impl Language {
    /// One of them, as often as it is used.
    pub(super) fn any(chance: &mut Chance) -> &'static Self {
        let mut at = chance.below(100);
        let found = LANGUAGES.iter().find(|language| {
            let here = at < language.share;
            at = at.saturating_sub(language.share);
            here
        });
        found.unwrap_or(&LANGUAGES[0])
    }

    /// The word of this rank, from 0.
    pub fn word(&self, rank: u64) -> String {
        let list = if rank.is_multiple_of(2) {
            self.common
        } else {
            self.topics
        };
        match usize::try_from(rank / 2).ok().and_then(|n| nth(list, n)) {
            Some(word) => word.to_owned(),
            None => self.made_up(rank - FIRST),
        }
    }

    /// Parts change fastest, so that words of nearly the same rank have other stems.
    fn made_up(&self, n: u64) -> String {
        let count = |list: &str| list.split_whitespace().count() as u64;
        let (parts, endings) = (count(self.parts), count(self.endings));
        let of = |list, n: u64| {
            usize::try_from(n)
                .ok()
                .and_then(|n| nth(list, n))
                .unwrap_or_default()
        };
        // With one part, with two, with three.
        let (mut n, mut stems) = (n, parts);
        while n >= stems * endings {
            n -= stems * endings;
            stems *= parts;
        }
        let ending = of(self.endings, n / stems);
        let mut word = String::new();
        let mut stem = n % stems;
        while stems > 1 {
            word.push_str(of(self.parts, stem % parts));
            stem /= parts;
            stems /= parts;
        }
        word.push_str(ending);
        word
    }

    /// A hashtag without its `#`; there are two thousand in each language.
    pub(super) fn hashtag(&self, chance: &mut Chance) -> String {
        self.word(2 * chance.zipf(2_000) + 1).to_lowercase()
    }

    /// A word as a name.
    pub(super) fn name(&self, chance: &mut Chance) -> String {
        let word = self.word(FIRST + chance.zipf(500));
        let mut letters = word.chars();
        letters
            .next()
            .into_iter()
            .flat_map(char::to_uppercase)
            .chain(letters)
            .collect()
    }

    /// A few words about where.
    pub(super) fn place(&self, chance: &mut Chance) -> &'static str {
        let n = chance.below(self.places.split_whitespace().count() as u64);
        usize::try_from(n)
            .ok()
            .and_then(|n| nth(self.places, n))
            .unwrap_or_default()
    }

    /// A sentence.
    pub(super) fn sentence(&self, chance: &mut Chance, least: u64, most: u64) -> String {
        let words = least + chance.below(most - least + 1);
        let mut text = String::new();
        for n in 0..words {
            if n > 0 {
                text.push(' ');
            }
            text.push_str(&self.word(chance.zipf(VOCABULARY)));
        }
        text.push('.');
        text
    }
}

/// The rank of the first word that is made up: each language has 24 of either sort before it.
const FIRST: u64 = 48;

fn nth(list: &str, n: usize) -> Option<&str> {
    list.split_whitespace().nth(n)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::chance::For;
    use super::*;

    #[test]
    fn each_rank_has_a_word_of_its_own() {
        assert_eq!(
            LANGUAGES.iter().map(|language| language.share).sum::<u64>(),
            100
        );
        for language in LANGUAGES {
            for list in [language.common, language.topics] {
                assert_eq!(list.split_whitespace().count() as u64, FIRST / 2);
            }
            let words: BTreeSet<_> = (0..VOCABULARY).map(|rank| language.word(rank)).collect();
            // A few can be put together in two ways.
            assert!(
                words.len() as u64 > VOCABULARY * 95 / 100,
                "{}: {}",
                language.tag,
                words.len()
            );
        }
        assert_eq!(LANGUAGES[0].word(1), "película");
        assert_eq!(LANGUAGES[0].word(FIRST), "camado");
    }

    #[test]
    fn a_text_is_a_text() {
        let mut chance = Chance::new(1, For::Text, 1);
        let text = LANGUAGES[0].sentence(&mut chance, 6, 8);
        assert!((6..=8).contains(&text.split(' ').count()), "{text}");
        assert!(text.ends_with('.'));
    }
}
