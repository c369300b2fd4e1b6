//! What is reported, hidden and suspended.

use std::time::Duration;

use chrono::{DateTime, Utc};
use events::decide::{comment, post};
use events::fact::post::{
    CommentAdded, ContentHidden, ContentRestored, Reason, ReportFiled, Visibility,
};
use events::fact::user::{AccountRestored, AccountSuspended};
use events::id::{CommentId, PostId, StreamKey};
use projectors::config::Config;
use projectors::moderation::query::{self, Queued};
use projectors::search::query::{Order, Search};
use projectors::{engagement, feed, search};
use service::clock::Clock;
use service::db::TenantTx;
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::history::{History, comment_id, post_id, user};
use crate::model::{Models, runtime};

/// The stream of a post, or of a comment on it.
fn key(post: PostId, comment: Option<CommentId>) -> StreamKey {
    comment.map_or(StreamKey::post(post), |c| StreamKey::comment(c, post))
}

fn hide(history: &mut History, post: PostId, comment: Option<CommentId>) {
    let (by, reason) = (user(3), Reason::Spam);
    let hidden = ContentHidden {
        post,
        comment,
        by,
        reason,
    };
    history.append(&key(post, comment), hidden.into());
}

fn restore(history: &mut History, post: PostId, comment: Option<CommentId>) {
    let by = user(3);
    let restored = ContentRestored { post, comment, by };
    history.append(&key(post, comment), restored.into());
}

fn suspend(history: &mut History, whom: u8, until: Option<DateTime<Utc>>) {
    let suspended = AccountSuspended {
        user: user(whom),
        by: user(3),
        until,
        reason: Reason::Hate,
    };
    history.append(&StreamKey::user(user(whom)), suspended.into());
}

fn report(history: &mut History, by: u8, post: PostId, comment: Option<CommentId>) {
    let filed = ReportFiled {
        post,
        comment,
        reporter: user(by),
        reason: Reason::Other,
        text: Some(format!("dice {by}").into()),
    };
    let key = match comment {
        Some(comment) => StreamKey::comment_report(comment, post, user(by)),
        None => StreamKey::post_report(post, user(by)),
    };
    history.append(&key, filed.into());
}

fn comment(history: &mut History, n: u8, author: u8) -> CommentId {
    let added = CommentAdded {
        comment: comment_id(n),
        post: post_id(0),
        author: user(author),
        text: "sí".into(),
        parent: None,
    };
    history.append(&StreamKey::comment(comment_id(n), post_id(0)), added.into());
    comment_id(n)
}

/// Whether `reader` sees the only post there is: by its id, among its author's, in the feed, in search.
async fn sees(models: &Models, reader: u8) -> [bool; 4] {
    let (mut tx, viewer) = models.read(user(reader)).await;
    let tx = &mut tx;
    let one = feed::query::post(tx, viewer, post_id(0))
        .await
        .expect("read");
    let own = feed::query::by_author(tx, viewer, user(0), None, 9).await;
    let page = feed::query::page(tx, viewer, None, 9).await.expect("read");
    let pulled = feed::query::pull_page(tx, viewer, None, 9)
        .await
        .expect("read");
    assert_eq!(page, pulled);
    let words = Search {
        words: "hola".to_owned(),
        order: Order::Newest,
        ..Search::default()
    };
    let found = search::query::search(tx, viewer, &words, None, 9).await;
    [
        one.is_some(),
        !own.expect("read").items.is_empty(),
        !page.items.is_empty(),
        !found.expect("read").items.is_empty(),
    ]
}

/// User 1 follows user 0, who publishes a post for all to see.
fn published() -> History {
    let mut history = History::new();
    history.follow(1, 0);
    history.publish(0, 0, 4);
    history
}

#[test]
fn a_hidden_post_is_its_authors_alone_until_it_is_restored() {
    runtime().block_on(async {
        let models = Models::create(&Config::default()).await;
        let mut history = published();
        models.tell(&history.facts).await;
        assert_eq!(sees(&models, 1).await, [true; 4]);
        let told = history.facts.len();
        hide(&mut history, post_id(0), None);
        models.tell(&history.facts[told..]).await;
        for (reader, seen) in [(0, true), (1, false), (3, false)] {
            assert_eq!(sees(&models, reader).await, [seen; 4], "{reader}");
        }
        let (mut tx, viewer) = models.read(user(0)).await;
        let own = feed::query::post(&mut tx, viewer, post_id(0)).await;
        assert!(own.unwrap().unwrap().hidden);
        drop(tx);
        let told = history.facts.len();
        restore(&mut history, post_id(0), None);
        models.tell(&history.facts[told..]).await;
        assert_eq!(sees(&models, 1).await, [true; 4]);
        let (mut tx, viewer) = models.read(user(0)).await;
        let own = feed::query::post(&mut tx, viewer, post_id(0)).await;
        assert!(!own.unwrap().unwrap().hidden);
    });
}

#[test]
fn posts_of_a_suspended_author_are_seen_again_when_it_ends() {
    runtime().block_on(async {
        let models = Models::create(&Config::default()).await;
        let mut history = published();
        models.tell(&history.facts).await;
        let lifted = AccountRestored {
            user: user(0),
            by: user(3),
        };
        let (now, hour) = (Clock::System.now(), Duration::from_hours(1));
        let (past, future) = (now - hour, now + hour);
        for (until, seen) in [(None, false), (Some(future), false), (Some(past), true)] {
            let told = history.facts.len();
            suspend(&mut history, 0, until);
            models.tell(&history.facts[told..]).await;
            assert_eq!(sees(&models, 1).await, [seen; 4], "{until:?}");
            assert_eq!(sees(&models, 0).await, [true; 4], "{until:?}");
        }
        let told = history.facts.len();
        suspend(&mut history, 0, None);
        history.append(&StreamKey::user(user(0)), lifted.into());
        models.tell(&history.facts[told..]).await;
        assert_eq!(sees(&models, 1).await, [true; 4]);
    });
}

#[test]
fn a_hidden_comment_loses_its_text_for_all_but_its_author() {
    runtime().block_on(async {
        let models = Models::create(&Config::default()).await;
        let mut history = published();
        let hidden = comment(&mut history, 0, 1);
        hide(&mut history, post_id(0), Some(hidden));
        models.tell(&history.facts).await;
        let read = async |reader: u8| {
            let (mut tx, viewer) = models.read(user(reader)).await;
            let page = engagement::query::comments(&mut tx, viewer, post_id(0), None, None, 9);
            let one = page.await.unwrap().items.remove(0);
            (one.text, one.hidden)
        };
        assert_eq!(read(0).await, (None, true));
        assert_eq!(read(1).await, (Some("sí".to_owned()), true));
        // The post itself is as it was.
        assert_eq!(sees(&models, 1).await, [true; 4]);
        let told = history.facts.len();
        restore(&mut history, post_id(0), Some(hidden));
        models.tell(&history.facts[told..]).await;
        assert_eq!(read(0).await, (Some("sí".to_owned()), false));
    });
}

/// The whole queue, as a moderator reads it, page by page.
async fn queue(models: &Models) -> Vec<Queued> {
    let (mut tx, viewer) = models.read(user(3)).await;
    tx.as_moderator().await.expect("moderate");
    let (mut after, mut all) = (None, vec![]);
    loop {
        let page = query::queue(&mut tx, viewer, after, 1)
            .await
            .expect("read a page");
        all.extend(page.items);
        after = page.next;
        if after.is_none() {
            return all;
        }
    }
}

fn targets(queue: &[Queued]) -> Vec<(Uuid, i64)> {
    queue.iter().map(|one| (one.target, one.reports)).collect()
}

#[test]
fn what_is_reported_waits_in_the_queue_until_a_moderator_has_looked() {
    runtime().block_on(async {
        let models = Models::create(&Config::default()).await;
        let mut history = published();
        history.publish(2, 1, 4);
        let rude = comment(&mut history, 0, 2);
        report(&mut history, 1, post_id(1), None);
        report(&mut history, 1, post_id(0), Some(rude));
        report(&mut history, 0, post_id(1), None);
        models.tell(&history.facts).await;
        let waiting = queue(&models).await;
        assert_eq!(targets(&waiting), [(post_id(1).0, 2), (rude.0, 1)]);
        let (first, last) = (waiting[0].first, waiting[0].last);
        assert_eq!(last.0 - first.0, 2);
        assert_eq!(waiting[1].text.as_deref(), Some("sí"));
        assert_eq!((waiting[0].author, waiting[1].author), (user(2), user(2)));
        let (mut tx, viewer) = models.read(user(3)).await;
        tx.as_moderator().await.unwrap();
        let reports = query::reports(&mut tx, viewer, &[post_id(1).0])
            .await
            .unwrap();
        let told: Vec<_> = reports
            .iter()
            .map(|one| (one.user, one.text.as_deref()))
            .collect();
        assert_eq!(told, [(user(0), Some("dice 0")), (user(1), Some("dice 1"))]);
        drop(tx);

        let told = history.facts.len();
        hide(&mut history, post_id(1), None);
        restore(&mut history, post_id(0), Some(rude));
        models.tell(&history.facts[told..]).await;
        assert_eq!(queue(&models).await, []);

        // What was answered is not asked again.
        let told = history.facts.len();
        restore(&mut history, post_id(1), None);
        report(&mut history, 3, post_id(1), None);
        models.tell(&history.facts[told..]).await;
        assert_eq!(targets(&queue(&models).await), [(post_id(1).0, 1)]);
        let (mut tx, viewer) = models.read(user(3)).await;
        tx.as_moderator().await.unwrap();
        let reports = query::reports(&mut tx, viewer, &[post_id(1).0])
            .await
            .unwrap();
        assert_eq!(reports.len(), 1);
    });
}

#[test]
fn what_is_deleted_leaves_the_queue_with_all_under_it() {
    runtime().block_on(async {
        let models = Models::create(&Config::default()).await;
        let mut history = published();
        history.publish(2, 1, 4);
        let (one, other) = (comment(&mut history, 0, 2), comment(&mut history, 1, 2));
        for target in [None, Some(one), Some(other)] {
            report(&mut history, 1, post_id(0), target);
        }
        report(&mut history, 1, post_id(1), None);
        let on: post::PostState = post::PostState {
            author: Some(user(0)),
            visibility: Visibility::Public,
            ..Default::default()
        };
        history.decide(&StreamKey::comment(one, post_id(0)), |state| {
            comment::delete(state, one, user(2), &on)
        });
        models.tell(&history.facts).await;
        assert_eq!(
            targets(&queue(&models).await),
            [(post_id(0).0, 1), (other.0, 1), (post_id(1).0, 1)]
        );
        let told = history.facts.len();
        history.decide(&StreamKey::post(post_id(0)), |state| {
            post::delete(state, post_id(0), user(0))
        });
        models.tell(&history.facts[told..]).await;
        assert_eq!(targets(&queue(&models).await), [(post_id(1).0, 1)]);
    });
}

#[test]
fn reports_are_for_moderators_of_the_tenant_alone() {
    runtime().block_on(async {
        let models = Models::create(&Config::default()).await;
        let mut history = published();
        report(&mut history, 1, post_id(0), None);
        models.tell(&history.facts).await;
        let elsewhere = TenantTx::begin(&models.api, Uuid::from_u128(0xB), user(3).0);
        let mut elsewhere = elsewhere.await.unwrap();
        elsewhere.as_moderator().await.unwrap();
        let (mut reporter, _) = models.read(user(1)).await;
        let (mut moderator, _) = models.read(user(3)).await;
        moderator.as_moderator().await.unwrap();
        for table in ["moderation.report", "moderation.queue"] {
            for (tx, rows) in [
                (&mut elsewhere, 0i64),
                (&mut reporter, 0),
                (&mut moderator, 1),
            ] {
                let count = format!("SELECT count(*) FROM {table}");
                let n: i64 = sqlx::query_scalar(AssertSqlSafe(count))
                    .fetch_one(&mut **tx)
                    .await
                    .unwrap();
                assert_eq!(n, rows, "{table}");
            }
        }
    });
}
