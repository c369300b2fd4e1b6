//! Search.

use events::fact::post::{PostPublished, Visibility};
use events::fact::user::ProfileUpdated;
use events::id::{StreamKey, UserId};
use projectors::config::Config;
use projectors::search::query::{self, Kind, Order, Search};
use proptest::prelude::any;
use uuid::Uuid;

use crate::history::{History, user};
use crate::model::{Models, cases, runtime};

fn publish(
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
        language: language.map(str::to_owned),
        assets: vec![],
        visibility,
    };
    history.append(&StreamKey::post(post), published.into());
    post.0
}

async fn find(models: &Models, reader: UserId, search: Search) -> Vec<Uuid> {
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

fn words(words: &str) -> Search {
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
        let tags = query::hashtags(&mut tx, viewer, "#G", 10).await.unwrap();
        assert_eq!(
            tags,
            [query::Hashtag {
                tag: "gatos".to_owned(),
                posts: 1
            }]
        );
        assert_eq!(
            query::hashtags(&mut tx, viewer, "secreto", 10)
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

#[test]
fn no_query_is_an_error() {
    let runtime = runtime();
    let models = runtime.block_on(Models::create(&Config::default()));
    let mut history = History::new();
    publish(
        &mut history,
        0,
        "hello | & ! : * ( ) < > ' \\ world",
        None,
        Visibility::Public,
    );
    runtime.block_on(models.tell(&history.facts));
    let odd = proptest::prop_oneof![any::<String>(), "[a-z !&|:*()<>'\"\\\\\u{0}-]{0,40}"];
    cases()
        .run(&(odd, any::<bool>()), |(text, best)| {
            let order = if best { Order::Best } else { Order::Newest };
            let search = Search {
                hashtag: best.then(|| text.clone()),
                order,
                ..words(&text)
            };
            runtime.block_on(find(&models, user(0), search));
            runtime.block_on(find(
                &models,
                user(0),
                Search {
                    order,
                    ..words(&text)
                },
            ));
            Ok(())
        })
        .unwrap();
    for text in [
        "\0",
        "''",
        "\"",
        "-",
        "or",
        "a or -b",
        "the",
        &"x ".repeat(5000),
    ] {
        runtime.block_on(find(&models, user(0), words(text)));
    }
}
