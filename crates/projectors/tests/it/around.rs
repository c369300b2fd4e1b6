//! Posts by where they were written, and what is counted of them.

use events::fact::post::{Location, PostPublished, PostShared, ViewCounted, Visibility};
use events::id::{PostId, StreamKey, UserId};
use projectors::config::Config;
use projectors::engagement::query as engagement;
use projectors::feed::query as feed;
use uuid::Uuid;

use crate::history::{History, user};
use crate::model::{Models, runtime};

fn publish(history: &mut History, at: Location, visibility: Visibility) -> PostId {
    let post = PostId(Uuid::from_u128(0x9000 + history.facts.len() as u128));
    let published = PostPublished {
        post,
        author: user(0),
        text: "Hola".into(),
        place: None,
        location: Some(at.to_string().into()),
        language: None,
        assets: vec![],
        visibility,
    };
    history.append(&StreamKey::post(post), published.into());
    post
}

async fn around(models: &Models, reader: UserId, here: Location, radius: f64) -> Vec<PostId> {
    let (mut tx, viewer) = models.read(reader).await;
    let (mut after, mut found) = (None, vec![]);
    loop {
        let page = feed::nearby(&mut tx, viewer, (here, radius), after, 2)
            .await
            .expect("look around");
        found.extend(page.items.iter().map(|post| post.post));
        after = page.next;
        if after.is_none() {
            return found;
        }
    }
}

#[test]
fn posts_are_found_by_their_exact_distance() {
    runtime().block_on(async {
        let models = Models::create(&Config::default()).await;
        let mut history = History::new();
        let at = |latitude, longitude| Location::new(latitude, longitude).unwrap();
        let here = at(36.7213, -4.4214);
        let next_door = publish(&mut history, at(36.7220, -4.4214), Visibility::Public);
        let harbour = publish(&mut history, at(36.7100, -4.4214), Visibility::Public);
        let mine = publish(&mut history, here, Visibility::Private);
        let nerja = publish(&mut history, at(36.7460, -3.8740), Visibility::Public);
        let many: Vec<PostId> = (0..300)
            .map(|n| {
                publish(
                    &mut history,
                    at(36.7, -4.40 - f64::from(n) / 1e5),
                    Visibility::Public,
                )
            })
            .collect();
        models.tell(&history.facts).await;
        assert_eq!(around(&models, user(1), here, 100.0).await, [next_door]);
        assert_eq!(
            around(&models, user(0), here, 100.0).await,
            [mine, next_door]
        );
        assert_eq!(
            around(&models, user(1), here, 1_300.0).await,
            [harbour, next_door]
        );
        let all = around(&models, user(1), here, 60_000.0).await;
        assert_eq!(all.len(), many.len() + 3);
        assert_eq!(all[all.len() - 3..], [nerja, harbour, next_door]);
    });
}

#[test]
fn shares_and_views_are_counted() {
    runtime().block_on(async {
        let models = Models::create(&Config::default()).await;
        let mut history = History::new();
        let post = publish(
            &mut history,
            Location::new(0.0, 0.0).unwrap(),
            Visibility::Public,
        );
        for (user, views) in [(user(1), 3), (user(2), 4)] {
            history.append(
                &StreamKey::share(post, user),
                PostShared { post, user }.into(),
            );
            history.append(&StreamKey::views(post), ViewCounted { post, views }.into());
        }
        models.tell(&history.facts).await;
        let (mut tx, viewer) = models.read(user(3)).await;
        let counts = engagement::counts(&mut tx, viewer, &[post.0])
            .await
            .unwrap();
        assert_eq!((counts[&post.0].shares, counts[&post.0].views), (2, 7));
        let points: (i64, f64) = sqlx::query_as("SELECT points, hot FROM feed.hot WHERE post = $1")
            .bind(post)
            .fetch_one(&mut *tx)
            .await
            .unwrap();
        let seconds = history
            .facts
            .iter()
            .find(|fact| fact.subject == format!("post-{post}"));
        let seconds = seconds.unwrap().recorded_at.timestamp();
        assert_eq!(points.0, 6);
        assert!((points.1 - (6f64.log10() + seconds as f64 / 45_000.0)).abs() < 1e-9);
    });
}
