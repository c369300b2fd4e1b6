//! Texts and queries of every kind.

use events::fact::post::Visibility;
use projectors::config::Config;
use projectors::search::query::{Order, Search};
use proptest::prelude::any;
use uuid::Uuid;

use crate::finding::{find, publish, words};
use crate::history::{History, user};
use crate::model::{Models, cases, runtime};

#[test]
fn texts_without_spaces_are_found_by_a_part() {
    runtime().block_on(async {
        let models = Models::create(&Config::default()).await;
        let mut history = History::new();
        let japanese = publish(
            &mut history,
            0,
            "私は日本語を勉強します",
            None,
            Visibility::Public,
        );
        let thai = publish(
            &mut history,
            0,
            "แมวของฉันน่ารัก",
            Some("th"),
            Visibility::Public,
        );
        models.tell(&history.facts).await;
        for part in ["日本語", "勉強", "語", "\"日本語を\""] {
            assert_eq!(
                find(&models, user(1), words(part)).await,
                [japanese],
                "{part}"
            );
        }
        assert_eq!(find(&models, user(1), words("แมว")).await, [thai]);
        assert_eq!(
            find(&models, user(1), words("本日")).await,
            Vec::<Uuid>::new()
        );
    });
}

#[test]
fn texts_of_any_kind_are_taken_in() {
    runtime().block_on(async {
        let models = Models::create(&Config::default()).await;
        let mut history = History::new();
        let odd = [
            "x".repeat(1 << 20),
            "x ".repeat(1 << 19),
            (0..200_000)
                .map(|n| format!("w{n}"))
                .collect::<Vec<_>>()
                .join(" "),
            "語".repeat(1 << 18),
            "مرحبا بالعالم 🐈‍⬛ שלום".to_owned(),
        ];
        let odd =
            odd.map(|text| publish(&mut history, 0, &text, Some("x-¡nada"), Visibility::Public));
        models.tell(&history.facts).await;
        assert_eq!(
            find(&models, user(1), words("بالعالم שלום")).await,
            [odd[4]]
        );
        assert_eq!(find(&models, user(1), words("w7")).await, [odd[2]]);
        assert_eq!(find(&models, user(1), words("語語")).await, [odd[3]]);
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
        "ʻokina*",
        "⑴a*",
        "ŉab*",
        "a or -b",
        "the",
        &"x ".repeat(5000),
    ] {
        runtime.block_on(find(&models, user(0), words(text)));
    }
}
