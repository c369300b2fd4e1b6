//! What people see of each other: blocks, mutes, suggestions.

use std::collections::BTreeSet;

use events::fact::pair::{BlockStarted, FollowRequested, FollowStarted};
use events::fact::post::{CommentAdded, ReactionAdded};
use events::fact::user::{ProfileUpdated, UserErased, UserRegistered};
use events::id::{StreamKey, UserId};
use projectors::config::Config;
use projectors::search::query::Search;
use projectors::{engagement, feed, graph, pairing, search};

use crate::history::{History, comment_id, post_id, user};
use crate::model::{Models, runtime};

/// Someone besides those of every history.
fn extra(n: usize) -> UserId {
    UserId::of("extra", &n.to_string())
}

pub(crate) fn register(history: &mut History, n: usize) -> UserId {
    let user = extra(n);
    let registered = UserRegistered {
        user,
        issuer: "extra".to_owned(),
        account: n.to_string().into(),
    };
    history.append(&StreamKey::user(user), registered.into());
    user
}

pub(crate) fn nothing_new(user: UserId) -> ProfileUpdated {
    ProfileUpdated {
        user,
        name: None,
        bio: None,
        place: None,
        language: None,
        private: None,
    }
}

fn follows(history: &mut History, follower: UserId, followee: UserId) {
    let key = StreamKey::follow(follower, followee);
    history.append(&key, FollowStarted { follower, followee }.into());
}

pub(crate) fn blocks(history: &mut History, blocker: UserId, blocked: UserId) {
    let key = StreamKey::block(blocker, blocked);
    history.append(&key, BlockStarted { blocker, blocked }.into());
}

/// User 2 has a post on which users 0 and 1 have commented and to which they have reacted; 0 and 1 have a name, follow each
/// other and 2, have matched, and each has a post.
fn acquainted() -> History {
    let mut history = History::new();
    for (author, post) in [(0, 0), (1, 1), (2, 2)] {
        history.publish(author, post, 4); // public, without an asset
    }
    for n in [0, 1] {
        let named = ProfileUpdated {
            name: Some("Gato".into()),
            ..nothing_new(user(n))
        };
        history.append(&StreamKey::user(user(n)), named.into());
        history.follow(n, 2);
        history.follow(n, 1 - n);
        history.pair(n, 1 - n, 3);
        let (post, user, key) = (
            post_id(2),
            user(n),
            StreamKey::comment(comment_id(n), post_id(2)),
        );
        let added = CommentAdded {
            comment: comment_id(n),
            post,
            author: user,
            text: "sí".into(),
            parent: None,
        };
        history.append(&key, added.into());
        let (comment, kind) = (None, "love".to_owned());
        let added = ReactionAdded {
            post,
            comment,
            user,
            kind,
        };
        history.append(&StreamKey::post_reaction(post, user), added.into());
    }
    history
}

/// Whom `reader` sees anything of.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    feed: BTreeSet<UserId>,
    posts: BTreeSet<UserId>,
    /// By posts and by names.
    found: BTreeSet<(String, UserId)>,
    comments: BTreeSet<UserId>,
    comment: bool,
    reactions: BTreeSet<UserId>,
    followers: BTreeSet<UserId>,
    following: BTreeSet<UserId>,
    profile: bool,
    matches: BTreeSet<UserId>,
}

/// What user `reader` sees; single things are user `other`'s, lists are those that are about user 2.
async fn seen(models: &Models, reader: u8, other: u8) -> sqlx::Result<Seen> {
    let (mut tx, viewer) = models.read(user(reader)).await;
    let tx = &mut tx;
    let feed = feed::query::page(tx, viewer, None, 9).await?;
    let all = [post_id(0), post_id(1), post_id(2)];
    let posts = feed::query::posts(tx, viewer, &all).await?;
    let words = Search {
        words: "gato".to_owned(),
        ..Search::default()
    };
    let found = search::query::search(tx, viewer, &words, None, 9).await?;
    let on = post_id(2);
    let comments = engagement::query::comments(tx, viewer, on, None, None, 9).await?;
    let comment = engagement::query::comment(tx, viewer, comment_id(other)).await?;
    let reactions = engagement::query::reactions(tx, viewer, on.0, None, None, 9).await?;
    let followers = graph::query::followers(tx, viewer, user(2), None, 9).await?;
    let following = graph::query::following(tx, viewer, user(reader), None, 9).await?;
    let profile = graph::query::profile(tx, viewer, user(other)).await?;
    let matches = pairing::query::matches(tx, viewer, None, 9).await?;
    Ok(Seen {
        feed: feed.items.iter().map(|one| one.author).collect(),
        posts: posts.iter().map(|one| one.author).collect(),
        found: found
            .items
            .into_iter()
            .map(|one| (one.kind, one.author))
            .collect(),
        comments: comments.items.iter().map(|one| one.author).collect(),
        comment: comment.is_some(),
        reactions: reactions.items.iter().map(|one| one.user).collect(),
        followers: followers.items.iter().map(|one| one.user).collect(),
        following: following.items.iter().map(|one| one.user).collect(),
        profile: profile.is_some(),
        matches: matches.items.iter().map(|one| one.user).collect(),
    })
}

/// Posts and, of those who have a name, names that are found.
fn found(of: &[u8]) -> BTreeSet<(String, UserId)> {
    let kinds = |n: &u8| {
        let person = ("person".to_owned(), user(*n));
        let post = ("post".to_owned(), user(*n));
        [Some(post), (*n < 2).then_some(person)]
    };
    of.iter().flat_map(kinds).flatten().collect()
}

/// What user 0 or 1 sees while there is no block.
fn open(reader: u8) -> Seen {
    Seen {
        feed: [user(0), user(1), user(2)].into(),
        posts: [user(0), user(1), user(2)].into(),
        found: found(&[0, 1, 2]),
        comments: [user(0), user(1)].into(),
        comment: true,
        reactions: [user(0), user(1)].into(),
        followers: [user(0), user(1)].into(),
        following: [user(1 - reader), user(2)].into(),
        profile: true,
        matches: [user(1 - reader)].into(),
    }
}

/// What user 0 or 1 sees while user 0 blocks user 1.
fn shut(reader: u8) -> Seen {
    Seen {
        feed: [user(reader), user(2)].into(),
        posts: [user(reader), user(2)].into(),
        found: found(&[reader, 2]),
        comments: [user(reader)].into(),
        comment: false,
        reactions: [user(reader)].into(),
        followers: [user(reader)].into(),
        following: [user(2)].into(),
        // Who blocks sees whom, to be able to end it; who is blocked sees nobody.
        profile: reader == 0,
        matches: [].into(),
    }
}

#[test]
fn a_block_hides_two_from_each_other_and_from_nobody_else() {
    runtime().block_on(async {
        let models = Models::create(&Config::default()).await;
        let mut history = acquainted();
        models.tell(&history.facts).await;
        let both = async || {
            let (zero, one) = (seen(&models, 0, 1).await, seen(&models, 1, 0).await);
            [zero.unwrap(), one.unwrap()]
        };
        assert_eq!(both().await, [open(0), open(1)]);
        let third = seen(&models, 2, 0).await.unwrap();

        let told = history.facts.len();
        history.block(0, 1, 1);
        models.tell(&history.facts[told..]).await;
        assert_eq!(both().await, [shut(0), shut(1)]);
        assert_eq!(seen(&models, 2, 0).await.unwrap(), third);

        let told = history.facts.len();
        history.block(0, 1, 3);
        models.tell(&history.facts[told..]).await;
        assert_eq!(both().await, [open(0), open(1)]);
    });
}

#[test]
fn a_block_by_either_side_stands_until_both_have_ended() {
    runtime().block_on(async {
        let models = Models::create(&Config::default()).await;
        let mut history = acquainted();
        models.tell(&history.facts).await;
        let read = async |reader: u8| {
            let (mut tx, viewer) = models.read(user(reader)).await;
            let shown = feed::query::post(&mut tx, viewer, post_id(1 - reader))
                .await
                .unwrap();
            let own = graph::query::blocks(&mut tx, viewer, None, 9)
                .await
                .unwrap();
            (shown.is_some(), own.items.len())
        };
        for (who, what, expected) in [
            (0, 1, [(false, 1), (false, 0)]),
            (1, 1, [(false, 1), (false, 1)]),
            (0, 3, [(false, 0), (false, 1)]),
            (1, 3, [(true, 0), (true, 0)]),
        ] {
            let told = history.facts.len();
            history.block(who, 1 - who, what);
            models.tell(&history.facts[told..]).await;
            assert_eq!([read(0).await, read(1).await], expected, "{who} {what}");
        }
    });
}

#[test]
fn a_mute_takes_posts_out_of_the_feed_and_out_of_nothing_else() {
    runtime().block_on(async {
        let models = Models::create(&Config::default()).await;
        let mut history = acquainted();
        models.tell(&history.facts).await;
        let (zero, one) = (
            seen(&models, 0, 1).await.unwrap(),
            seen(&models, 1, 0).await.unwrap(),
        );
        let told = history.facts.len();
        history.mute(0, 1, 1);
        models.tell(&history.facts[told..]).await;
        let without = Seen {
            feed: [user(0), user(2)].into(),
            ..seen(&models, 0, 1).await.unwrap()
        };
        assert_eq!(seen(&models, 0, 1).await.unwrap(), without);
        assert_eq!(without.posts, zero.posts);
        assert_eq!(seen(&models, 1, 0).await.unwrap(), one);
        let (mut tx, viewer) = models.read(user(0)).await;
        let muted = graph::query::mutes(&mut tx, viewer, None, 9).await.unwrap();
        assert_eq!(
            muted.items.iter().map(|one| one.user).collect::<Vec<_>>(),
            [user(1)]
        );
        let profile = graph::query::profile(&mut tx, viewer, user(1))
            .await
            .unwrap()
            .unwrap();
        assert_eq!((profile.muted, profile.blocked), (true, false));

        let told = history.facts.len();
        history.mute(0, 1, 3);
        models.tell(&history.facts[told..]).await;
        assert_eq!(seen(&models, 0, 1).await.unwrap(), zero);
    });
}

#[test]
fn suggestions_are_those_whom_followees_follow_most_in_common_first() {
    runtime().block_on(async {
        let models = Models::create(&Config::default()).await;
        let mut history = History::new();
        let near: Vec<UserId> = (0..3).map(|n| register(&mut history, n)).collect();
        let far: Vec<UserId> = (3..12).map(|n| register(&mut history, n)).collect();
        for one in &near {
            follows(&mut history, user(0), *one);
            follows(&mut history, *one, user(0));
            follows(&mut history, *one, near[0]);
        }
        // Each of the first four is followed by one more of the followees; the rest is left out, each for a reason.
        for (n, one) in far.iter().enumerate() {
            for follower in near.iter().take(if n < 4 { n } else { 3 }) {
                follows(&mut history, *follower, *one);
            }
        }
        follows(&mut history, user(0), far[4]);
        let (follower, followee) = (user(0), far[5]);
        let requested = FollowRequested { follower, followee };
        history.append(&StreamKey::follow(follower, followee), requested.into());
        blocks(&mut history, user(0), far[6]);
        blocks(&mut history, far[7], user(0));
        history.append(&StreamKey::user(far[8]), UserErased { user: far[8] }.into());
        // What someone who is blocked follows counts for nothing.
        let shunned = register(&mut history, 12);
        follows(&mut history, user(0), shunned);
        follows(&mut history, shunned, far[0]);
        blocks(&mut history, user(0), shunned);
        models.tell(&history.facts).await;

        let (mut tx, viewer) = models.read(user(0)).await;
        let (mut after, mut all) = (None, vec![]);
        loop {
            let page = graph::query::suggestions(&mut tx, viewer, after, 1)
                .await
                .unwrap();
            all.extend(page.items.iter().map(|one| (one.user, one.common)));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(all, [(far[3], 3), (far[2], 2), (far[1], 1)]);
    });
}

#[test]
fn mutuals_are_the_followers_whom_the_viewer_follows() {
    runtime().block_on(async {
        let models = Models::create(&Config::default()).await;
        let mut history = History::new();
        let people: Vec<UserId> = (0..6).map(|n| register(&mut history, n)).collect();
        for (n, one) in people.iter().enumerate() {
            follows(&mut history, *one, user(1));
            if n != 2 {
                follows(&mut history, user(0), *one);
            }
        }
        blocks(&mut history, people[4], user(0));
        models.tell(&history.facts).await;
        let (mut tx, viewer) = models.read(user(0)).await;
        let first = graph::query::mutuals(&mut tx, viewer, user(1), None, 2)
            .await
            .unwrap();
        let second = graph::query::mutuals(&mut tx, viewer, user(1), first.next, 9)
            .await
            .unwrap();
        let all: Vec<UserId> = first
            .items
            .iter()
            .chain(&second.items)
            .map(|one| one.user)
            .collect();
        assert_eq!(all, [people[5], people[3], people[1], people[0]]);
        assert_eq!(second.next, None);
    });
}
