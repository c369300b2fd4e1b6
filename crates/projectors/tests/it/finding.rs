//! Search.

use events::fact::post::{PostPublished, Visibility};
use events::fact::user::ProfileUpdated;
use events::id::{Position, StreamKey, UserId};
use projectors::config::Config;
use projectors::search::complete;
use projectors::search::facets::{Facet, facets};
use projectors::search::query::{self, Kind, Order, Search};
use uuid::Uuid;

use crate::history::{History, user};
use crate::model::{Models, runtime};

pub(crate) fn publish(
    history: &mut History,
    author: u8,
    text: &str,
    language: Option<&str>,
    visibility: Visibility,
) -> Uuid {
    let post = events::id::PostId(Uuid::from_u128(0x9000 + history.facts.len() as u128));
    let published = PostPublished {
        post,
        author: user(author),
        text: text.into(),
        place: None,
        location: None,
        language: language.map(str::to_owned),
        assets: vec![],
        visibility,
    };
    history.append(&StreamKey::post(post), published.into());
    post.0
}

pub(crate) async fn find(models: &Models, reader: UserId, search: Search) -> Vec<Uuid> {
    let (mut tx, viewer) = models.read(reader).await;
    let (mut after, mut found) = (None, vec![]);
    loop {
        let page = query::search(&mut tx, viewer, &search, after, 2)
            .await
            .expect("search");
        found.extend(page.items.iter().map(|one| one.id));
        after = page.next;
        if after.is_none() {
            return found;
        }
    }
}

/// What the first page shows.
async fn first(models: &Models, reader: UserId, search: Search) -> Vec<Uuid> {
    let (mut tx, viewer) = models.read(reader).await;
    let page = query::search(&mut tx, viewer, &search, None, 2).await;
    let page = page.expect("search");
    page.items.iter().map(|one| one.id).collect()
}

pub(crate) fn words(words: &str) -> Search {
    Search {
        words: words.to_owned(),
        order: Order::Newest,
        ..Search::default()
    }
}

#[test]
fn words_are_found_in_their_language_and_without_accents() {
    runtime().block_on(async {
        let models = Models::create(&Config::default()).await;
        let mut history = History::new();
        let claimed = publish(
            &mut history,
            0,
            "Mi camión rojo",
            Some("es-ES"),
            Visibility::Public,
        );
        let seen = publish(
            &mut history,
            0,
            "El camión de mi abuelo todavía está aparcado delante de la casa donde crecimos",
            None,
            Visibility::Public,
        );
        let english = publish(
            &mut history,
            0,
            "Two running dogs",
            Some("en"),
            Visibility::Public,
        );
        models.tell(&history.facts).await;
        for spelled in ["camiones", "camion", "CAMIÓN", "camión"] {
            assert_eq!(
                find(&models, user(1), words(spelled)).await,
                [seen, claimed],
                "{spelled}"
            );
        }
        assert_eq!(find(&models, user(1), words("dog run")).await, [english]);
        assert_eq!(
            find(&models, user(1), words("camiones -abuelo")).await,
            [claimed]
        );
        assert_eq!(
            find(&models, user(1), words("\"camión rojo\"")).await,
            [claimed]
        );
        let only = Search {
            language: Some("en".to_owned()),
            ..words("camion or dog")
        };
        assert_eq!(find(&models, user(1), only).await, [english]);
        assert_eq!(
            find(&models, user(1), words("nada")).await,
            Vec::<Uuid>::new()
        );
    });
}

/// Three posts of user 0, with user 1 as follower: for all, for followers, for nobody.
fn cats() -> (History, [Uuid; 3]) {
    let mut history = History::new();
    let posts = [
        ("gato uno #gatos", Visibility::Public),
        ("gato dos #gatos", Visibility::Followers),
        ("gato tres #gatos #secreto", Visibility::Private),
    ];
    let posts = posts.map(|(text, seen)| publish(&mut history, 0, text, Some("es"), seen));
    history.follow(1, 0);
    (history, posts)
}

#[test]
fn only_posts_that_may_be_seen_are_found() {
    runtime().block_on(async {
        let models = Models::create(&Config::default()).await;
        let (history, [open, followers, private]) = cats();
        models.tell(&history.facts).await;
        assert_eq!(
            find(&models, user(0), words("gatos")).await,
            [private, followers, open]
        );
        assert_eq!(
            find(&models, user(1), words("gatos")).await,
            [followers, open]
        );
        assert_eq!(find(&models, user(3), words("gatos")).await, [open]);
        let mut best = find(
            &models,
            user(1),
            Search {
                order: Order::Best,
                ..words("gato")
            },
        )
        .await;
        best.sort_unstable();
        assert_eq!(best, [open, followers]);
    });
}

#[test]
fn what_may_be_seen_is_found_behind_much_that_may_not() {
    runtime().block_on(async {
        let models = Models::create(&Config::default()).await;
        let (mut history, [open, followers, _]) = cats();
        for _ in 0..300 {
            publish(&mut history, 0, "gato", Some("es"), Visibility::Private);
        }
        models.tell(&history.facts).await;
        // What a stranger can surely not see takes no places; of a follower, page after page is looked through.
        assert_eq!(first(&models, user(3), words("gatos")).await, [open]);
        assert_eq!(
            find(&models, user(1), words("gatos")).await,
            [followers, open]
        );
    });
}

#[test]
fn other_languages_take_no_places_in_a_search_of_one() {
    runtime().block_on(async {
        let models = Models::create(&Config::default()).await;
        let (mut history, [open, ..]) = cats();
        for _ in 0..300 {
            publish(&mut history, 2, "#gatos", Some("en"), Visibility::Public);
        }
        models.tell(&history.facts).await;
        let tagged = Search {
            hashtag: Some("gatos".to_owned()),
            language: Some("es".to_owned()),
            ..words("")
        };
        assert_eq!(first(&models, user(3), tagged).await, [open]);
    });
}

#[test]
fn hashtags_are_found_and_counted_where_all_may_see_them() {
    runtime().block_on(async {
        let models = Models::create(&Config::default()).await;
        let (history, [open, followers, _]) = cats();
        models.tell(&history.facts).await;
        let tagged = Search {
            hashtag: Some("#GATOS".to_owned()),
            author: Some(user(0)),
            ..words("")
        };
        assert_eq!(find(&models, user(1), tagged).await, [followers, open]);
        let (mut tx, viewer) = models.read(user(3)).await;
        let tags = complete::hashtags(&mut tx, viewer, "#G", 10).await.unwrap();
        assert_eq!(
            tags,
            [complete::Hashtag {
                tag: "gatos".to_owned(),
                posts: 1
            }]
        );
        assert_eq!(
            complete::hashtags(&mut tx, viewer, "secreto", 10)
                .await
                .unwrap(),
            []
        );
    });
}

#[test]
fn people_are_found_by_name() {
    runtime().block_on(async {
        let models = Models::create(&Config::default()).await;
        let (mut history, [open, ..]) = cats();
        let (name, user) = (Some("Señor Gato".into()), user(2));
        let update = ProfileUpdated {
            user,
            name,
            bio: None,
            place: None,
            language: None,
            private: None,
        };
        history.append(&StreamKey::user(user), update.into());
        models.tell(&history.facts).await;
        assert_eq!(find(&models, user, words("gato")).await, [open, user.0]);
        let person = Search {
            kind: Some(Kind::Person),
            ..words("senor gato")
        };
        assert_eq!(find(&models, user, person).await, [user.0]);
    });
}

/// The first results with what is shown of them.
async fn snippets(models: &Models, reader: UserId, search: Search) -> Vec<String> {
    let (mut tx, viewer) = models.read(reader).await;
    let page = query::search(&mut tx, viewer, &search, None, 10).await;
    let found = page.expect("search").items.into_iter();
    found.map(|one| one.snippet.unwrap_or_default()).collect()
}

#[test]
fn what_fits_is_marked_and_everything_else_is_escaped() {
    runtime().block_on(async {
        let models = Models::create(&Config::default()).await;
        let mut history = History::new();
        let text = "<b>La Señora</b> & su camión \u{E000}\"rojo\"";
        publish(&mut history, 0, text, Some("es"), Visibility::Public);
        models.tell(&history.facts).await;
        let shown = snippets(&models, user(1), words("senora camiones")).await;
        assert_eq!(shown.len(), 1);
        assert!(shown[0].contains("<mark>Señora</mark>"), "{shown:?}");
        assert!(
            shown[0].contains("<mark>camión</mark> &quot;rojo"),
            "{shown:?}"
        );
        assert!(!shown[0].contains("<b>"), "{shown:?}");
        assert_eq!(shown[0].matches('<').count(), 4, "{shown:?}");
    });
}

/// Three public posts and a private one of user 0, and user 2 with a name; the private one.
fn vehicles() -> (History, Uuid) {
    let mut history = History::new();
    for text in ["el camión rojo", "un camión y un camino", "la cámara nueva"] {
        publish(&mut history, 0, text, Some("es"), Visibility::Public);
    }
    let secret = publish(
        &mut history,
        0,
        "camuflaje",
        Some("es"),
        Visibility::Private,
    );
    let named = ProfileUpdated {
        user: user(2),
        name: Some("Álvaro García".into()),
        bio: None,
        place: None,
        language: None,
        private: None,
    };
    history.append(&StreamKey::user(user(2)), named.into());
    (history, secret)
}

#[test]
fn words_and_names_are_completed() {
    runtime().block_on(async {
        let models = Models::create(&Config::default()).await;
        let (history, secret) = vehicles();
        models.tell(&history.facts).await;
        let (mut tx, viewer) = models.read(user(1)).await;
        let begun = complete::words(&mut tx, viewer, "un Cám", 10)
            .await
            .unwrap();
        let begun: Vec<(&str, i64)> = begun
            .iter()
            .map(|one| (&*one.term, one.documents))
            .collect();
        assert_eq!(begun, [("camión", 2), ("camino", 1), ("cámara", 1)]);
        assert_eq!(complete::words(&mut tx, viewer, "c", 10).await.unwrap(), []);
        assert_eq!(
            complete::words(&mut tx, viewer, "ca%", 1)
                .await
                .unwrap()
                .len(),
            1
        );
        assert_eq!(
            complete::people(&mut tx, viewer, "alvaro g", 10)
                .await
                .unwrap(),
            [user(2)]
        );
        assert_eq!(
            complete::people(&mut tx, viewer, "%%", 10).await.unwrap(),
            []
        );
        assert_eq!(find(&models, user(0), words("camuf*")).await, [secret]);
        assert_eq!(find(&models, user(1), words("rojo cam*")).await.len(), 1);
    });
}

#[test]
fn misspelt_words_are_repaired_to_what_all_may_see() {
    runtime().block_on(async {
        let models = Models::create(&Config::default()).await;
        models.tell(&vehicles().0.facts).await;
        let (mut tx, viewer) = models.read(user(1)).await;
        for (asked, meant) in [
            ("camoin", Some("camión")),
            ("Rojo CAMIOM", Some("Rojo camión")),
            ("vamion", Some("camión")),
            ("camarra nueva", Some("cámara nueva")),
            ("camion", None),
            ("xyzzyx", None),
            ("camuflajf", None),
        ] {
            let repaired = complete::repaired(&mut tx, viewer, &words(asked))
                .await
                .unwrap();
            assert_eq!(repaired.as_deref(), meant, "{asked}");
        }
    });
}

#[test]
fn results_are_narrowed_and_counted() {
    runtime().block_on(async {
        let models = Models::create(&Config::default()).await;
        let (mut history, [open, ..]) = cats();
        let elsewhere = events::id::PostId(Uuid::from_u128(0x9999));
        let published = PostPublished {
            post: elsewhere,
            author: user(2),
            text: "gato #calle".into(),
            place: Some("Málaga".into()),
            location: None,
            language: Some("es".to_owned()),
            assets: vec![],
            visibility: Visibility::Public,
        };
        history.append(&StreamKey::post(elsewhere), published.into());
        let last = history.facts.last().unwrap().recorded_at;
        models.tell(&history.facts).await;
        let place = Search {
            place: Some("malaga".to_owned()),
            ..words("gatos")
        };
        assert_eq!(find(&models, user(3), place).await, [elsewhere.0]);
        let late = Search {
            from: Some(last),
            ..words("gatos")
        };
        assert_eq!(find(&models, user(3), late).await, [elsewhere.0]);
        for order in [Order::Best, Order::Newest] {
            let early = Search {
                to: Some(last),
                order,
                ..words("gatos")
            };
            assert_eq!(find(&models, user(3), early).await, [open]);
        }

        let (mut tx, viewer) = models.read(user(3)).await;
        let counted = facets(&mut tx, viewer, &words("gatos")).await.unwrap();
        let one = |value: &str| Facet {
            value: value.to_owned(),
            count: 1,
        };
        assert_eq!(counted["hashtag"], [one("calle"), one("gatos")]);
        assert_eq!(counted["place"], [one("malaga")]);
        assert_eq!(
            counted["kind"],
            [Facet {
                value: "post".to_owned(),
                count: 2
            }]
        );
        assert_eq!(counted["language"][0].value, "es");
        assert_eq!(counted["author"].len(), 2);
    });
}

#[test]
fn a_file_is_found_by_its_owner_only() {
    runtime().block_on(async {
        let models = Models::create(&Config::default()).await;
        let mut history = History::new();
        history.upload(0, 0);
        models.tell(&history.facts).await;
        let files = Search {
            kind: Some(Kind::Asset),
            ..words("vacac*")
        };
        assert_eq!(find(&models, user(0), files.clone()).await.len(), 1);
        assert_eq!(find(&models, user(1), files).await, Vec::<Uuid>::new());
    });
}

/// Far apart, so that they are looked for in several windows: 30 in the newest two buckets of positions, 30 in the 32 before those, and one
/// in all that is left.
#[test]
fn what_is_found_does_not_depend_on_how_far_apart_it_is() {
    runtime().block_on(async {
        let models = Models::create(&Config::default()).await;
        let mut history = History::new();
        let mut posts: Vec<Uuid> = (0..61)
            .map(|n| {
                let text = format!("El gato número {n} {}", "gatos ".repeat(n * 7 % 11));
                publish(&mut history, 0, &text, Some("es"), Visibility::Public)
            })
            .collect();
        // The same letters, and in its language no cat.
        publish(&mut history, 0, "gato", Some("de"), Visibility::Public);
        let mut at = 5;
        for (n, fact) in (0..).zip(&mut history.facts) {
            at += match n {
                0 => 0,
                1 => 5_000_000,
                2..31 => 60_000,
                _ => 3_000,
            };
            fact.position = Position(at);
        }
        models.tell(&history.facts).await;
        let spanish = |order| Search {
            order,
            language: Some("es".to_owned()),
            ..words("gatos")
        };
        posts.reverse();
        assert_eq!(find(&models, user(1), spanish(Order::Newest)).await, posts);
        let best = find(&models, user(1), spanish(Order::Best)).await;
        assert_ne!(best, posts, "the best are not the newest");
        let (mut tx, viewer) = models.read(user(1)).await;
        let all = query::search(&mut tx, viewer, &spanish(Order::Best), None, 100).await;
        let all = all.expect("search").items;
        assert!(all.is_sorted_by(|a, b| (a.rank, a.position) >= (b.rank, b.position)));
        let all: Vec<Uuid> = all.iter().map(|one| one.id).collect();
        assert_eq!(best, all, "page by page as all at once");
        posts.sort_unstable();
        let mut best = best;
        best.sort_unstable();
        assert_eq!(best, posts);
        assert_eq!(
            find(&models, user(1), words("número gatos")).await.len(),
            61
        );
    });
}
