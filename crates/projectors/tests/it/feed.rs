//! Every page of the feed equals the page that the posts themselves give.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use events::decide::asset::PRIMARY;
use events::envelope::Recorded;
use events::fact::Fact;
use events::fact::pair::FollowStarted;
use events::fact::post::Visibility;
use events::id::{AssetId, Position, PostId, UserId};
use projectors::config::Config;
use projectors::feed::query::{self, Post};
use projectors::page::Page;
use projectors::rebuild;
use projectors::registry::{Generation, Projection};
use proptest::collection::vec;
use proptest::prelude::any;
use proptest::test_runner::TestCaseError;
use testing::db::locked_out;
use uuid::Uuid;

use crate::history::{self, Attempt, History, USERS, delivery, user};
use crate::model::{Models, cases, runtime};

/// So small that every path is taken: pushed and pulled authors, trimmed feeds, pages across the floor.
const SMALL: Config = Config {
    feed_push_limit: 2,
    feed_cap: 3,
    feed_trim_every: 2,
};

/// The feed as facts say it, without any table.
#[derive(Default)]
struct Oracle {
    posts: BTreeMap<PostId, (Position, UserId, Visibility, Vec<AssetId>)>,
    follows: BTreeSet<(UserId, UserId)>,
    viewable: BTreeSet<AssetId>,
    hidden: BTreeSet<PostId>,
    suspended: BTreeSet<UserId>,
    blocks: BTreeSet<(UserId, UserId)>,
    mutes: BTreeSet<(UserId, UserId)>,
}

impl Oracle {
    fn tell(&mut self, recorded: &Recorded) {
        match &recorded.fact {
            Fact::PostPublished(fact) => {
                let post = (
                    recorded.position,
                    fact.author,
                    fact.visibility,
                    fact.assets.clone(),
                );
                self.posts.insert(fact.post, post);
            }
            Fact::PostEdited(fact) => {
                if let (Some(post), Some(visibility)) =
                    (self.posts.get_mut(&fact.post), fact.visibility)
                {
                    post.2 = visibility;
                }
            }
            Fact::PostDeleted(fact) => drop(self.posts.remove(&fact.post)),
            Fact::FollowStarted(fact) => drop(self.follows.insert((fact.follower, fact.followee))),
            Fact::FollowEnded(fact) => drop(self.follows.remove(&(fact.follower, fact.followee))),
            Fact::RenditionCompleted(fact) if PRIMARY.contains(&fact.name.as_str()) => {
                self.viewable.insert(fact.asset);
            }
            Fact::AssetDeleted(fact) => drop(self.viewable.remove(&fact.asset)),
            Fact::ContentHidden(fact) if fact.comment.is_none() => {
                self.hidden.insert(fact.post);
            }
            Fact::ContentRestored(fact) if fact.comment.is_none() => {
                self.hidden.remove(&fact.post);
            }
            // What has an end has ended long ago.
            Fact::AccountSuspended(fact) if fact.until.is_none() => {
                self.suspended.insert(fact.user);
            }
            Fact::AccountSuspended(fact) => drop(self.suspended.remove(&fact.user)),
            Fact::AccountRestored(fact) => drop(self.suspended.remove(&fact.user)),
            Fact::BlockStarted(fact) => drop(self.blocks.insert((fact.blocker, fact.blocked))),
            Fact::BlockEnded(fact) => drop(self.blocks.remove(&(fact.blocker, fact.blocked))),
            Fact::MuteStarted(fact) => drop(self.mutes.insert((fact.muter, fact.muted))),
            Fact::MuteEnded(fact) => drop(self.mutes.remove(&(fact.muter, fact.muted))),
            _ => {}
        }
    }

    fn feed(&self, reader: UserId) -> Vec<PostId> {
        let follows = |a, b| self.follows.contains(&(a, b));
        let mut seen: Vec<_> = self
            .posts
            .iter()
            .filter(|(post, (_, author, visibility, assets))| {
                let shown = match visibility {
                    Visibility::Public | Visibility::Followers => true,
                    Visibility::Mutuals => follows(*author, reader),
                    Visibility::Private => false,
                };
                let whole = assets.iter().all(|asset| self.viewable.contains(asset));
                let fine = !self.hidden.contains(post) && !self.suspended.contains(author);
                let blocked = |a, b| self.blocks.contains(&(a, b));
                let apart = blocked(*author, reader)
                    || blocked(reader, *author)
                    || self.mutes.contains(&(reader, *author));
                *author == reader || (follows(reader, *author) && shown && whole && fine && !apart)
            })
            .map(|(post, (position, ..))| (*position, *post))
            .collect();
        seen.sort_unstable_by(|a, b| b.cmp(a));
        seen.into_iter().map(|(_, post)| post).collect()
    }
}

/// Walks a feed to its end by pages of `limit`, as the cache gives it and as the posts do.
async fn walk(models: &Models, reader: UserId, limit: u32) -> Vec<PostId> {
    let (mut tx, viewer) = models.read(reader).await;
    let (mut after, mut walked) = (None, vec![]);
    loop {
        let cached: Page<Post> = query::page(&mut tx, viewer, after, limit)
            .await
            .expect("read a page");
        let pulled = query::pull_page(&mut tx, viewer, after, limit)
            .await
            .expect("pull a page");
        assert_eq!(cached, pulled, "reader {reader}, after {after:?}");
        assert!(
            cached.next.is_none() || cached.items.len() == limit as usize,
            "a short page is the last"
        );
        walked.extend(cached.items.iter().map(|post| post.post));
        after = cached.next;
        if after.is_none() {
            return walked;
        }
    }
}

/// What was kept ready for a reader is lost, and made anew.
async fn lose_and_repair(models: &Models, reader: UserId) {
    sqlx::query("DELETE FROM feed_g1.feed_entry WHERE owner = $1")
        .bind(reader)
        .execute(&models.projector)
        .await
        .expect("lose entries");
    let whose = (history::tenant(), reader);
    for projection in &models.all {
        rebuild::repair(&models.projector, projection.as_ref(), whose)
            .await
            .expect("repair");
    }
}

/// Tells the batches, and has pages compared after each and after all.
async fn every_page(
    models: &Models,
    read: &[(&Arc<dyn Projection>, String)],
    batches: &[Vec<Recorded>],
    (seed, limit): (u64, u32),
) -> Result<(), TestCaseError> {
    for (_, generation) in read {
        models.clear(generation).await;
    }
    let feed = read.iter().find(|(one, _)| one.name() == "feed");
    let (feed, generation) = feed.expect("pages are read from the feed");
    let built = Generation::new(generation.clone(), Arc::clone(feed));
    // Every other time the feed is built as a rebuild builds it: nobody reads it before everything is there at once.
    let mut left_out = seed.is_multiple_of(2).then_some(seed % 7);
    if left_out.is_some() {
        built.leave_out(&models.projector).await.expect("leave out");
    }
    let mut oracle = Oracle::default();
    for (batch, reader) in batches.iter().zip((0..USERS).cycle().map(user)) {
        match &mut left_out {
            Some(0) => {
                built.make_ready(&models.projector).await.expect("make");
                left_out = None;
            }
            Some(batches) => *batches -= 1,
            None => {}
        }
        for (projection, generation) in read {
            models.apply(projection.as_ref(), generation, batch).await;
        }
        for recorded in batch {
            oracle.tell(recorded);
        }
        if left_out.is_none() {
            proptest::prop_assert_eq!(walk(models, reader, limit).await, oracle.feed(reader));
        }
    }
    built.make_ready(&models.projector).await.expect("make");
    for reader in (0..USERS).map(user) {
        proptest::prop_assert_eq!(walk(models, reader, limit).await, oracle.feed(reader));
        lose_and_repair(models, reader).await;
        proptest::prop_assert_eq!(walk(models, reader, limit).await, oracle.feed(reader));
    }
    Ok(())
}

#[test]
fn every_page_equals_the_pull_query() {
    let runtime = runtime();
    let models = runtime.block_on(Models::create(&SMALL));
    let read: Vec<_> = models
        .all
        .iter()
        .map(|projection| (projection, format!("{}_g1", projection.name())))
        .filter(|(projection, _)| query::READS.contains(&projection.name()))
        .collect();
    let attempt = (
        proptest::sample::select(vec![0u8, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 16, 17, 18, 19]),
        any::<u8>(),
        any::<u8>(),
        any::<u8>(),
    );
    let histories = (vec(attempt, 0..80), any::<u64>(), 1u32..5);
    cases()
        .run(&histories, |(attempts, seed, limit)| {
            let attempts: Vec<Attempt> = attempts;
            let facts = History::of(&attempts).facts;
            runtime.block_on(async {
                every_page(&models, &read, &delivery(&facts, seed), (seed, limit)).await
            })
        })
        .unwrap();
}

#[test]
fn feeds_are_pushed_trimmed_and_given_up() {
    runtime().block_on(async {
        let models = Models::create(&SMALL).await;
        let mut history = History::new();
        history.follow(1, 0);
        history.follow(2, 0);
        for n in 0..8 {
            history.publish(0, n, 4);
        }
        models.tell(&history.facts).await;
        let entries = async |reader: u8| -> (i64, Option<i64>) {
            sqlx::query_as(
                "SELECT count(*), (SELECT floor FROM feed_g1.reader WHERE owner = $1) FROM feed_g1.feed_entry WHERE owner = $1",
            )
            .bind(user(reader))
            .fetch_one(&models.projector)
            .await
            .unwrap()
        };
        let (kept, floor) = entries(1).await;
        assert!((3..8).contains(&kept) && floor > Some(0), "{kept} entries above {floor:?}");
        assert_eq!(walk(&models, user(1), 3).await.len(), 8);

        // A third follower is one too many: from the next post on, the author is pulled, and stays so.
        let told = history.facts.len();
        history.follow(3, 0);
        history.publish(0, 8, 4);
        models.tell(&history.facts[told..]).await;
        let pulled: bool = sqlx::query_scalar("SELECT pulled FROM feed_g1.author WHERE author = $1")
            .bind(user(0))
            .fetch_one(&models.projector)
            .await
            .unwrap();
        assert!(pulled);
        assert_eq!(entries(1).await, (kept, floor));
        assert_eq!(walk(&models, user(1), 3).await.len(), 9);
        assert_eq!(walk(&models, user(3), 3).await.len(), 9);
    });
}

/// A rebuild that is killed while it makes feeds ready goes on with the readers that are left, whatever came meanwhile.
#[test]
fn feeds_that_were_half_made_ready_are_made_ready_later() {
    runtime().block_on(async {
        let pushing = Config {
            feed_push_limit: 1_000,
            ..SMALL
        };
        let models = Models::create(&pushing).await;
        let feed = models.all.iter().find(|one| one.name() == "feed");
        let built = Generation::new("feed_g1".to_owned(), Arc::clone(feed.unwrap()));
        let mut history = History::new();
        history.follow(1, 0);
        let crowd = |n: u128| UserId(Uuid::from_u128(n << 64));
        let follow = history.facts.last().unwrap().clone();
        history.facts.extend((0..700).map(|n| {
            let mut one = follow.clone();
            one.fact = Fact::FollowStarted(FollowStarted {
                follower: crowd(n),
                followee: if n % 2 == 0 { user(0) } else { user(2) },
            });
            one
        }));
        for n in 0..6 {
            history.publish(2 * (n % 2), n, 4);
        }
        let told = history.facts.len();
        built.leave_out(&models.projector).await.unwrap();
        models.tell(&history.facts).await;
        let some = built
            .make_some_ready(&models.projector, None)
            .await
            .unwrap();
        assert!(some.is_some(), "not all are ready at once");
        let waiting = "SELECT count(DISTINCT follower) FROM feed_g1.follow f
            WHERE NOT EXISTS (SELECT FROM feed_g1.reader r WHERE r.owner = f.follower)";
        let waiting: i64 = sqlx::query_scalar(waiting)
            .fetch_one(&models.projector)
            .await
            .unwrap();
        assert!((1..700).contains(&waiting), "{waiting} are left");

        built.leave_out(&models.projector).await.unwrap();
        history.publish(2, 6, 4);
        history.follow(3, 2);
        models.tell(&history.facts[told..]).await;
        built.make_ready(&models.projector).await.unwrap();
        for reader in (0..700).step_by(41).map(crowd).chain([user(1), user(3)]) {
            let posts = walk(&models, reader, 3).await.len();
            assert!((3..=4).contains(&posts), "{reader} sees {posts}");
        }
    });
}

/// Two processes: a follow and a post that cannot see each other's uncommitted rows, in both orders.
#[test]
fn a_post_and_a_follow_at_once_do_not_miss_each_other() {
    runtime().block_on(async {
        let models = Models::create(&Config::default()).await;
        let feed = models
            .all
            .iter()
            .find(|projection| projection.name() == "feed")
            .unwrap();
        for follow_first in [true, false] {
            models.clear("feed_g1").await;
            let mut history = History::new();
            history.follow(1, 0);
            history.publish(0, 0, 4);
            let [.., follow, post] = history.facts.as_slice() else {
                panic!("two facts")
            };
            let (first, second) = if follow_first {
                (follow, post)
            } else {
                (post, follow)
            };
            race(&models, feed.as_ref(), first, second).await;
            assert_eq!(
                walk(&models, user(1), 3).await.len(),
                1,
                "follow first: {follow_first}"
            );
        }
    });
}

/// Applies `second` while `first` is applied and not committed.
async fn race(models: &Models, feed: &dyn Projection, first: &Recorded, second: &Recorded) {
    let open = models
        .begin(feed, "feed_g1", std::slice::from_ref(first))
        .await
        .expect("apply the first");
    let waits = async {
        testing::wait::until_true(
            Duration::from_secs(10),
            "the second waits for the first",
            async || locked_out(&models.owner, "%").await > 0,
        )
        .await;
        open.commit().await.expect("commit the first");
    };
    tokio::join!(
        models.apply(feed, "feed_g1", std::slice::from_ref(second)),
        waits
    );
}
