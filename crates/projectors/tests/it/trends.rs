//! Hashtags that are used more than before.

use chrono::{DateTime, Duration, Utc};
use events::fact::post::{PostDeleted, PostPublished, Visibility};
use events::id::{PostId, StreamKey};
use projectors::config::Config;
use projectors::trending::query::{Where, trends};
use uuid::Uuid;

use crate::history::{History, user};
use crate::model::{Models, runtime};

/// Hours since 1970.
fn at(hour: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + Duration::hours(hour)
}

fn publish(
    history: &mut History,
    hour: i64,
    text: &str,
    (language, place): (&str, &str),
    visibility: Visibility,
) -> PostId {
    let post = PostId(Uuid::from_u128(0x9000 + history.facts.len() as u128));
    let published = PostPublished {
        post,
        author: user(0),
        text: text.into(),
        place: Some(place.into()),
        location: None,
        language: Some(language.to_owned()),
        assets: vec![],
        visibility,
    };
    history.append(&StreamKey::post(post), published.into());
    if let Some(last) = history.facts.last_mut() {
        last.recorded_at = at(hour);
    }
    post
}

async fn seen(
    models: &Models,
    language: Option<&str>,
    place: Option<&str>,
    hour: i64,
) -> Vec<(String, i64)> {
    let (mut tx, viewer) = models.read(user(1)).await;
    let wanted = Where {
        language: language.map(str::to_owned),
        place: place.map(str::to_owned),
    };
    let found = trends(&mut tx, viewer, &wanted, at(hour), 10)
        .await
        .expect("trends");
    found
        .into_iter()
        .map(|trend| (trend.tag, trend.posts))
        .collect()
}

/// Uses of three days ago and of now, in two languages and at two places, and what is not counted.
fn uses() -> History {
    let mut history = History::new();
    for _ in 0..4 {
        publish(
            &mut history,
            100,
            "#ayer",
            ("es", "Málaga"),
            Visibility::Public,
        );
    }
    for _ in 0..2 {
        publish(
            &mut history,
            120,
            "#hoy #Ayer",
            ("es-MX", "Puebla"),
            Visibility::Public,
        );
    }
    publish(
        &mut history,
        120,
        "#today",
        ("en", "Málaga"),
        Visibility::Public,
    );
    publish(
        &mut history,
        120,
        "#secreto",
        ("es", "Málaga"),
        Visibility::Followers,
    );
    let gone = publish(
        &mut history,
        120,
        "#borrado",
        ("es", "Málaga"),
        Visibility::Public,
    );
    let author = user(0);
    history.append(
        &StreamKey::post(gone),
        PostDeleted { post: gone, author }.into(),
    );
    history
}

#[test]
fn what_is_new_goes_before_what_was_and_each_place_has_its_own() {
    runtime().block_on(async {
        let models = Models::create(&Config::default()).await;
        let history = uses();
        models.tell(&history.facts).await;
        let of = |found: &[(&str, i64)]| -> Vec<(String, i64)> {
            found
                .iter()
                .map(|(tag, posts)| ((*tag).to_owned(), *posts))
                .collect()
        };
        assert_eq!(
            seen(&models, None, None, 120).await,
            of(&[("ayer", 6), ("hoy", 2), ("today", 1)])
        );
        assert_eq!(
            seen(&models, Some("ES"), None, 120).await,
            of(&[("ayer", 6), ("hoy", 2)])
        );
        assert_eq!(
            seen(&models, None, Some("MÁLAGA"), 120).await,
            of(&[("today", 1), ("ayer", 4)])
        );
        assert_eq!(
            seen(&models, None, None, 100 + 72).await,
            of(&[("ayer", 2), ("hoy", 2), ("today", 1)])
        );
        assert_eq!(seen(&models, None, None, 500).await, of(&[]));
        assert_eq!(seen(&models, Some("\0;"), None, 120).await, of(&[]));
    });
}
