//! What queries answer.

use events::fact::Fact;
use events::fact::asset::{MediaError, RenditionFailed};
use events::fact::post::CommentAdded;
use events::id::{CommentId, JobId, StreamKey};
use events::seal::Personal;
use projectors::config::Config;
use projectors::usage::query::Taken;
use projectors::{engagement, feed, graph, media, pairing, usage};
use uuid::Uuid;

use crate::history::{History, asset_id, comment_id, post_id, tenant, user};
use crate::model::{Models, runtime};

#[test]
fn a_post_shows_to_others_once_its_asset_is_viewable() {
    runtime().block_on(async {
        let models = Models::create(&Config::default()).await;
        let mut history = History::new();
        history.upload(0, 0);
        history.publish(0, 0, 0); // public, with the asset
        models.tell(&history.facts).await;
        let seen = async |reader: u8| {
            let (mut tx, viewer) = models.read(user(reader)).await;
            let post = feed::query::post(&mut tx, viewer, post_id(0))
                .await
                .unwrap();
            let asset = media::query::asset(&mut tx, viewer, asset_id(0))
                .await
                .unwrap();
            let poster = media::query::rendition(&mut tx, viewer, asset_id(0), "poster.jpg")
                .await
                .unwrap();
            (
                post.is_some(),
                asset.map(|asset| (asset.state, asset.file_name)),
                poster.is_some(),
            )
        };
        let mine = |state: &str| Some((state.to_owned(), Some("vacaciones.mp4".to_owned())));
        assert_eq!(seen(0).await, (true, mine("preparing"), false));
        assert_eq!(seen(1).await, (false, None, false));

        let told = history.facts.len();
        history.render(0, 0);
        models.tell(&history.facts[told..]).await;
        assert_eq!(seen(0).await, (true, mine("ready"), true));
        assert_eq!(
            seen(1).await,
            (true, Some(("ready".to_owned(), None)), true)
        );

        let told = history.facts.len();
        history.render(0, 3); // deletes the asset
        models.tell(&history.facts[told..]).await;
        assert_eq!(seen(1).await, (false, None, false));
    });
}

#[test]
fn a_job_shows_its_progress_warnings_and_end() {
    runtime().block_on(async {
        let models = Models::create(&Config::default()).await;
        let mut history = History::new();
        history.upload(0, 0);
        models.tell(&history.facts).await;
        let asked = history.facts.last().unwrap().event_id;
        let job = JobId::of(asked, "fast@1");
        let read = async |reader: u8| {
            let (mut tx, viewer) = models.read(user(reader)).await;
            let job = media::query::job(&mut tx, viewer, job).await.unwrap();
            job.map(|job| (job.state, job.stage, job.done))
        };
        assert_eq!(read(0).await, Some(("queued".to_owned(), None, None)));
        assert_eq!(read(1).await, None);
        sqlx::query("INSERT INTO jobs.progress (job_id, tenant, asset, stage, done) VALUES ($1, $2, $3, 'poster', 0.5)")
            .bind(job)
            .bind(tenant())
            .bind(asset_id(0))
            .execute(&models.owner)
            .await
            .unwrap();
        assert_eq!(read(0).await, Some(("running".to_owned(), Some("poster".to_owned()), Some(0.5))));
        let elsewhere: i64 = {
            let stranger = service::db::TenantTx::begin(&models.api, Uuid::from_u128(0xB), user(0).0);
            let mut tx = stranger.await.unwrap();
            sqlx::query_scalar("SELECT count(*) FROM projection.progress").fetch_one(&mut *tx).await.unwrap()
        };
        assert_eq!(elsewhere, 0);

        let told = history.facts.len();
        let error = MediaError { kind: "input".to_owned(), message: "no sound".to_owned(), retryable: false };
        let missing = RenditionFailed {
            asset: asset_id(0),
            job,
            profile: "fast@1".to_owned(),
            name: Some("waveform.dat".to_owned()),
            error,
            cpu_ms: None,
        };
        history.append(&StreamKey::asset(asset_id(0)), missing.into());
        history.render(0, 0);
        models.tell(&history.facts[told..]).await;
        assert_eq!(read(0).await, Some(("done".to_owned(), None, None)));
        let (mut tx, viewer) = models.read(user(0)).await;
        let warnings = media::query::warnings(&mut tx, viewer, asset_id(0)).await.unwrap();
        assert_eq!(warnings.iter().map(|warning| warning.name.as_str()).collect::<Vec<_>>(), ["waveform.dat"]);
        assert_eq!(media::query::jobs(&mut tx, viewer, asset_id(0)).await.unwrap().len(), 1);
    });
}

#[test]
fn what_an_owner_takes_up_is_what_facts_add_up_to() {
    runtime().block_on(async {
        let models = Models::create(&Config::default()).await;
        let mut history = History::new();
        for (owner, asset) in [(0, 0), (0, 1), (1, 2)] {
            history.upload(owner, asset);
            history.render(asset, 4); // 5 bytes, 4 ms
        }
        history.render(1, 0); // asks again …
        history.render(1, 8); // … and makes 9 bytes of the 5, in 8 ms
        history.render(0, 3); // deletes it
        for facts in history.facts.chunks(3) {
            models.tell(facts).await;
        }
        let read = async |owner: u8| {
            let (mut tx, viewer) = models.read(user(owner)).await;
            usage::query::own(&mut tx, viewer).await.unwrap()
        };
        let ana = Taken {
            assets: 1,
            original_bytes: 10,
            derived_bytes: 9,
            cpu_ms: 4 + 4 + 8,
        };
        let bea = Taken {
            assets: 1,
            original_bytes: 10,
            derived_bytes: 5,
            cpu_ms: 4,
        };
        assert_eq!((read(0).await, read(1).await), (ana, bea));
        assert_eq!(read(2).await, Taken::default());
    });
}

fn comment(history: &mut History, n: u8, parent: Option<CommentId>) -> CommentId {
    let comment = comment_id(n);
    let added = CommentAdded {
        comment,
        post: post_id(0),
        author: user(n),
        text: "sí".into(),
        parent,
    };
    history.append(&StreamKey::comment(comment, post_id(0)), added.into());
    comment
}

#[test]
fn a_deleted_comment_stays_as_a_place_for_its_answers() {
    runtime().block_on(async {
        let models = Models::create(&Config::default()).await;
        let mut history = History::new();
        history.publish(0, 0, 4);
        let first = comment(&mut history, 1, None);
        let answer = comment(&mut history, 2, Some(first));
        let lonely = comment(&mut history, 3, None);
        for gone in [first, lonely] {
            let deleted = events::fact::post::CommentDeleted {
                comment: gone,
                post: post_id(0),
            };
            history.append(&StreamKey::comment(gone, post_id(0)), deleted.into());
        }
        models.tell(&history.facts).await;
        let (mut tx, viewer) = models.read(user(3)).await;
        let all = engagement::query::comments(&mut tx, viewer, post_id(0), None, None, 10)
            .await
            .unwrap()
            .items;
        let shown: Vec<_> = all
            .iter()
            .map(|one| (one.comment, one.text.as_deref(), one.deleted))
            .collect();
        assert_eq!(shown, [(first, None, true), (answer, Some("sí"), false)]);
        let answers =
            engagement::query::comments(&mut tx, viewer, post_id(0), Some(first), None, 10)
                .await
                .unwrap();
        assert_eq!(answers.items.len(), 1);
        let counts = engagement::query::counts(&mut tx, viewer, &[post_id(0).0])
            .await
            .unwrap();
        assert_eq!(counts[&post_id(0).0].comments, 1);
        assert_eq!(
            engagement::query::comment(&mut tx, viewer, first)
                .await
                .unwrap(),
            None
        );
    });
}

/// Users 1, 2 and 3 follow user 0, and each matched with user 0.
async fn admired(models: &Models) {
    let mut history = History::new();
    for n in 1..4 {
        history.follow(n, 0);
        history.pair(n, 0, 3);
        history.pair(0, n, 3);
    }
    models.tell(&history.facts).await;
}

#[test]
fn pages_of_followers_go_on_where_they_ended() {
    runtime().block_on(async {
        let models = Models::create(&Config::default()).await;
        admired(&models).await;
        let (mut tx, viewer) = models.read(user(0)).await;
        let first = graph::query::followers(&mut tx, viewer, user(0), None, 2)
            .await
            .unwrap();
        let second = graph::query::followers(&mut tx, viewer, user(0), first.next, 2)
            .await
            .unwrap();
        let users: Vec<_> = first
            .items
            .iter()
            .chain(&second.items)
            .map(|one| one.user)
            .collect();
        assert_eq!(
            (users, second.next),
            (vec![user(3), user(2), user(1)], None)
        );
        let profile = graph::query::profile(&mut tx, viewer, user(0))
            .await
            .unwrap()
            .unwrap();
        assert_eq!((profile.followers, profile.following), (3, 0));
    });
}

#[test]
fn pages_of_matches_go_on_where_they_ended() {
    runtime().block_on(async {
        let models = Models::create(&Config::default()).await;
        admired(&models).await;
        let (mut tx, viewer) = models.read(user(0)).await;
        let first = pairing::query::matches(&mut tx, viewer, None, 2)
            .await
            .unwrap();
        let second = pairing::query::matches(&mut tx, viewer, first.next, 2)
            .await
            .unwrap();
        let users: Vec<_> = first
            .items
            .iter()
            .chain(&second.items)
            .map(|one| one.user)
            .collect();
        assert_eq!(
            (users, second.next),
            (vec![user(3), user(2), user(1)], None)
        );
        assert!(
            pairing::query::matched(&mut tx, viewer, user(2))
                .await
                .unwrap()
        );
        let verdict = pairing::query::verdict(&mut tx, viewer, user(2))
            .await
            .unwrap();
        assert_eq!(verdict.as_deref(), Some("like"));
        let left = pairing::query::candidates(&mut tx, viewer, None, 9)
            .await
            .unwrap();
        assert_eq!(left.items, []);
        let (mut tx, viewer) = models.read(user(1)).await;
        let left = pairing::query::candidates(&mut tx, viewer, None, 9)
            .await
            .unwrap();
        assert_eq!(left.items.len(), 2);
    });
}

#[test]
fn what_was_erased_is_not_there() {
    runtime().block_on(async {
        let models = Models::create(&Config::default()).await;
        let mut history = History::new();
        history.publish(0, 0, 5);
        let Fact::PostPublished(post) = &mut history.facts.last_mut().unwrap().fact else {
            panic!("a post")
        };
        (post.text, post.place) = (Personal::Erased, Some(Personal::Erased));
        models.tell(&history.facts).await;
        let (mut tx, viewer) = models.read(user(0)).await;
        let post = feed::query::post(&mut tx, viewer, post_id(0))
            .await
            .unwrap()
            .unwrap();
        assert_eq!((post.text, post.place), (None, None));
    });
}
