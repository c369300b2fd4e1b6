//! The inbox: who is told of what, and what takes it back.

use std::collections::BTreeSet;

use events::fact::Fact;
use events::fact::pair::{FollowEnded, FollowStarted};
use events::fact::post::{
    CommentAdded, CommentDeleted, ContentHidden, ReactionAdded, ReactionRemoved, Reason,
};
use events::fact::user::{AccountSuspended, NoticeKind, PreferenceSet};
use events::id::{CommentId, Position, StreamKey, UserId};
use projectors::config::Config;
use projectors::notification::query::{self, Bundle};
use projectors::notification::{mark, query::COUNTED};
use service::db::TenantTx;
use uuid::Uuid;

use crate::history::{History, comment_id, post_id, user};
use crate::model::{Models, runtime};

/// Tells all that has happened since the last time.
struct Telling {
    models: Models,
    history: History,
    told: usize,
}

impl Telling {
    /// A database in which user 0 has published a post.
    async fn begin() -> Self {
        let mut history = History::new();
        history.publish(0, 0, 4);
        Self {
            models: Models::create(&Config::default()).await,
            history,
            told: 0,
        }
    }

    async fn tell(&mut self) {
        self.models.tell(&self.history.facts[self.told..]).await;
        self.told = self.history.facts.len();
    }

    /// The inbox of a user, read page by page.
    async fn inbox(&mut self, owner: u8) -> Vec<Bundle> {
        self.tell().await;
        let (mut tx, viewer) = self.models.read(user(owner)).await;
        let mark = mark::position(&mut tx, viewer)
            .await
            .expect("read the mark");
        let (mut after, mut all) = (None, vec![]);
        loop {
            let page = query::inbox(&mut tx, viewer, mark, after, 2).await;
            let page = page.expect("read a page");
            all.extend(page.items);
            after = page.next;
            if after.is_none() {
                return all;
            }
        }
    }

    /// What the inbox says: kinds, the last actors and how many.
    async fn told(&mut self, owner: u8) -> Vec<(NoticeKind, Vec<UserId>, i64)> {
        let bundles = self.inbox(owner).await.into_iter();
        bundles
            .map(|bundle| (bundle.kind.0, bundle.actors, bundle.count))
            .collect()
    }

    fn comment(&mut self, n: u8, author: u8, parent: Option<CommentId>) -> CommentId {
        let added = CommentAdded {
            comment: comment_id(n),
            post: post_id(0),
            author: user(author),
            text: "sí".into(),
            parent,
        };
        self.on_post(added);
        comment_id(n)
    }

    fn delete(&mut self, comment: CommentId) {
        let post = post_id(0);
        self.on_post(CommentDeleted { comment, post });
    }

    fn react(&mut self, by: UserId, comment: Option<CommentId>) {
        let (post, kind) = (post_id(0), "like".to_owned());
        self.on_post(ReactionAdded {
            post,
            comment,
            user: by,
            kind,
        });
    }

    fn unreact(&mut self, by: UserId, comment: Option<CommentId>) {
        let (post, kind) = (post_id(0), "like".to_owned());
        self.on_post(ReactionRemoved {
            post,
            comment,
            user: by,
            kind,
        });
    }

    /// Something happens under the post. The stream does not matter here.
    fn on_post(&mut self, fact: impl Into<Fact>) {
        self.history
            .append(&StreamKey::post(post_id(0)), fact.into());
    }
}

fn one(kind: NoticeKind, actor: u8) -> (NoticeKind, Vec<UserId>, i64) {
    (kind, vec![user(actor)], 1)
}

#[test]
fn authors_are_told_of_comments_answers_and_reactions_and_not_of_their_own() {
    runtime().block_on(async {
        let mut telling = Telling::begin().await;
        let first = telling.comment(0, 1, None);
        let answer = telling.comment(1, 2, Some(first));
        telling.comment(2, 0, Some(answer));
        telling.react(user(3), Some(first));
        telling.react(user(0), None);
        let own = telling.inbox(0).await;
        assert_eq!(own.len(), 1, "{own:?}");
        assert_eq!(own[0].kind.0, NoticeKind::Comment);
        assert_eq!(
            (own[0].target, own[0].post),
            (post_id(0).0, Some(post_id(0)))
        );
        assert_eq!((&own[0].actors, own[0].count), (&vec![user(2), user(1)], 2));
        let told = telling.told(1).await;
        assert_eq!(
            told,
            [one(NoticeKind::Reaction, 3), one(NoticeKind::Reply, 2)]
        );
        assert_eq!(telling.told(2).await, [one(NoticeKind::Reply, 0)]);
        assert_eq!(telling.inbox(3).await, []);
    });
}

/// The author of a post whose own comment is answered hears of it once.
#[test]
fn one_comment_is_told_once() {
    runtime().block_on(async {
        let mut telling = Telling::begin().await;
        let mine = telling.comment(0, 0, None);
        let answer = telling.comment(1, 1, Some(mine));
        assert_eq!(telling.told(0).await, [one(NoticeKind::Reply, 1)]);
        telling.delete(answer);
        assert_eq!(telling.told(0).await, []);
    });
}

#[test]
fn what_is_taken_back_is_not_told() {
    runtime().block_on(async {
        let mut telling = Telling::begin().await;
        let first = telling.comment(0, 1, None);
        let second = telling.comment(1, 1, None);
        telling.react(user(2), None);
        telling.react(user(3), None);
        telling.unreact(user(3), None);
        let told = [one(NoticeKind::Reaction, 2), one(NoticeKind::Comment, 1)];
        assert_eq!(telling.told(0).await, told);
        // The newest is gone: what is left has its place.
        let was = telling.inbox(0).await[1].position;
        telling.delete(second);
        assert_eq!(telling.told(0).await, told);
        assert!(telling.inbox(0).await[1].position < was);
        telling.delete(first);
        telling.unreact(user(2), None);
        assert_eq!(telling.told(0).await, []);
    });
}

#[test]
fn a_bundle_goes_with_the_post_or_comment_that_it_is_about() {
    runtime().block_on(async {
        let mut telling = Telling::begin().await;
        let first = telling.comment(0, 1, None);
        telling.react(user(2), Some(first));
        telling.comment(1, 2, Some(first));
        assert_eq!(telling.inbox(1).await.len(), 2);
        telling.delete(first);
        assert_eq!(telling.inbox(1).await, []);
        assert_eq!(telling.told(0).await, [one(NoticeKind::Comment, 2)]);
        let post = StreamKey::post(post_id(0));
        telling.history.decide(&post, |state| {
            events::decide::post::delete(state, post_id(0), user(0))
        });
        assert_eq!(telling.inbox(0).await, []);
    });
}

#[test]
fn followers_requests_and_answers_are_told() {
    runtime().block_on(async {
        let mut telling = Telling::begin().await;
        telling.history.follow(1, 0);
        assert_eq!(telling.told(0).await, [one(NoticeKind::Follow, 1)]);
        let private = events::fact::user::ProfileUpdated {
            user: user(0),
            name: None,
            bio: None,
            place: None,
            language: None,
            private: Some(true),
        };
        let key = StreamKey::user(user(0));
        telling.history.append(&key, private.into());
        telling.history.follow(2, 0);
        telling.history.follow(3, 0);
        let requests = (NoticeKind::FollowRequest, vec![user(3), user(2)], 2);
        let follow = one(NoticeKind::Follow, 1);
        assert_eq!(telling.told(0).await, [requests, follow.clone()]);
        // Who is let in is told; who let them in knows.
        telling.history.answer(2, 0, true);
        telling.history.answer(3, 0, false);
        assert_eq!(telling.told(0).await, [follow]);
        assert_eq!(telling.told(2).await, [one(NoticeKind::FollowAccepted, 0)]);
        assert_eq!(telling.told(3).await, []);
        for n in [1, 2] {
            let ended = FollowEnded {
                follower: user(n),
                followee: user(0),
            };
            let key = StreamKey::follow(user(n), user(0));
            telling.history.append(&key, ended.into());
            assert_eq!(telling.told(n).await, []);
        }
        assert_eq!(telling.told(0).await, []);
    });
}

#[test]
fn super_likes_and_matches_are_told_until_they_end() {
    runtime().block_on(async {
        let mut telling = Telling::begin().await;
        telling.history.pair(1, 0, 2); // likes very much
        telling.history.pair(2, 0, 3); // likes
        assert_eq!(telling.told(0).await, [one(NoticeKind::SuperLike, 1)]);
        telling.history.pair(0, 1, 3);
        assert_eq!(
            telling.told(0).await,
            [one(NoticeKind::Match, 1), one(NoticeKind::SuperLike, 1)]
        );
        assert_eq!(telling.told(1).await, [one(NoticeKind::Match, 0)]);
        telling.history.pair(1, 0, 0); // ends it
        assert_eq!(
            (telling.told(0).await, telling.told(1).await),
            (vec![], vec![])
        );
        telling.history.pair(2, 0, 2);
        telling.history.pair(2, 0, 1); // passes, in the end
        assert_eq!(telling.told(0).await, []);
    });
}

/// Followers' facts are in the lanes of their pairs, and yet one bundle.
#[test]
fn many_make_one_bundle_with_the_last_three_in_front() {
    runtime().block_on(async {
        let mut telling = Telling::begin().await;
        let fans: Vec<UserId> = (0..130)
            .map(|n| UserId::of("fan", &n.to_string()))
            .collect();
        for fan in &fans[..13] {
            let key = StreamKey::follow(*fan, user(0));
            let started = FollowStarted {
                follower: *fan,
                followee: user(0),
            };
            telling.history.actor = *fan;
            telling.history.append(&key, started.into());
        }
        let lanes: BTreeSet<_> = telling.history.facts[5..]
            .iter()
            .map(|fact| fact.lane)
            .collect();
        assert!(lanes.len() > 3, "{lanes:?}");
        let newest = vec![fans[12], fans[11], fans[10]];
        assert_eq!(telling.told(0).await, [(NoticeKind::Follow, newest, 13)]);
        for fan in &fans {
            telling.react(*fan, None);
        }
        let reactions = &telling.told(0).await[0];
        assert_eq!(reactions.1, [fans[129], fans[128], fans[127]]);
        assert_eq!(reactions.2, i64::from(COUNTED), "so many or more");
    });
}

#[test]
fn what_is_muted_is_not_told_and_comes_back() {
    runtime().block_on(async {
        let mut telling = Telling::begin().await;
        telling.comment(0, 1, None);
        telling.react(user(2), None);
        let key = StreamKey::user(user(0));
        for (on, told) in [(false, 1), (true, 2)] {
            let kind = NoticeKind::Reaction;
            let user = user(0);
            telling
                .history
                .append(&key, PreferenceSet { user, kind, on }.into());
            assert_eq!(telling.inbox(0).await.len(), told);
            let (mut tx, viewer) = telling.models.read(user).await;
            let preferences = query::preferences(&mut tx, viewer).await.unwrap();
            assert_eq!(preferences.len(), NoticeKind::ALL.len());
            assert_eq!(
                (preferences[&kind], preferences[&NoticeKind::Match]),
                (on, true)
            );
            let unread = query::unread(&mut tx, viewer, Position::START).await;
            assert_eq!(unread.unwrap(), i64::try_from(told).unwrap());
        }
    });
}

#[test]
fn nobody_hears_of_the_suspended_nor_of_what_is_hidden() {
    runtime().block_on(async {
        let mut telling = Telling::begin().await;
        let rude = telling.comment(0, 1, None);
        telling.react(user(2), None);
        let by = user(3);
        telling.on_post(ContentHidden {
            post: post_id(0),
            comment: Some(rude),
            by,
            reason: Reason::Hate,
        });
        assert_eq!(telling.told(0).await, [one(NoticeKind::Reaction, 2)]);
        let suspended = AccountSuspended {
            user: user(2),
            by,
            until: None,
            reason: Reason::Spam,
        };
        let key = StreamKey::user(user(2));
        telling.history.append(&key, suspended.into());
        assert_eq!(telling.told(0).await, []);
        let (mut tx, viewer) = telling.models.read(user(0)).await;
        let unread = query::unread(&mut tx, viewer, Position::START).await;
        assert_eq!(unread.unwrap(), 0);
    });
}

#[test]
fn what_was_read_stays_read_and_what_comes_is_new() {
    runtime().block_on(async {
        let mut telling = Telling::begin().await;
        let first = telling.comment(0, 1, None);
        telling.react(user(2), None);
        let inbox = telling.inbox(0).await;
        assert!(inbox.iter().all(|bundle| !bundle.read));
        let read = async |models: &Models, position: Position| {
            let (mut tx, viewer) = models.read(user(0)).await;
            mark::read_up_to(&mut tx, viewer, position).await.unwrap();
            let mark = mark::position(&mut tx, viewer).await.unwrap();
            let unread = query::unread(&mut tx, viewer, mark).await.unwrap();
            tx.commit().await.unwrap();
            unread
        };
        assert_eq!(read(&telling.models, inbox[1].position).await, 1);
        assert_eq!(read(&telling.models, Position(i64::MAX)).await, 0);
        assert_eq!(
            read(&telling.models, Position(1)).await,
            0,
            "it does not go back"
        );
        assert!(telling.inbox(0).await.iter().all(|bundle| bundle.read));
        // However far someone claims to have read, what comes after is new.
        telling.react(user(3), None);
        let news: Vec<_> = telling
            .inbox(0)
            .await
            .into_iter()
            .map(|one| (one.count, one.read))
            .collect();
        assert_eq!(news, [(2, false), (1, true)]);
        // What was new is taken back.
        telling.unreact(user(3), None);
        telling.delete(first);
        let left: Vec<_> = telling
            .inbox(0)
            .await
            .into_iter()
            .map(|one| (one.count, one.read))
            .collect();
        assert_eq!(left, [(1, true)]);
    });
}

#[test]
fn an_inbox_and_its_mark_are_their_owners_alone() {
    runtime().block_on(async {
        let mut telling = Telling::begin().await;
        telling.react(user(2), None);
        let newest = telling.inbox(0).await[0].position;
        let models = &telling.models;
        let (mut own, viewer) = models.read(user(0)).await;
        mark::read_up_to(&mut own, viewer, newest).await.unwrap();
        own.commit().await.unwrap();
        let elsewhere = TenantTx::begin(&models.api, Uuid::from_u128(0xB), user(0).0).await;
        let (other, _) = models.read(user(1)).await;
        for mut tx in [elsewhere.unwrap(), other] {
            let bundles = query::inbox(&mut tx, viewer, Position::START, None, 9).await;
            assert_eq!(bundles.unwrap().items, []);
            let unread = query::unread(&mut tx, viewer, Position::START).await;
            assert_eq!(unread.unwrap(), 0);
            let mark = mark::position(&mut tx, viewer).await;
            assert_eq!(mark.unwrap(), Position::START);
            let forged = sqlx::query(
                "INSERT INTO accounts.read_marks (tenant, owner, position) VALUES ($1, $2, 9)",
            )
            .bind(viewer.tenant)
            .bind(viewer.user)
            .execute(&mut *tx)
            .await;
            let code = forged
                .unwrap_err()
                .into_database_error()
                .unwrap()
                .code()
                .unwrap()
                .into_owned();
            assert_eq!(code, "42501");
        }
    });
}
