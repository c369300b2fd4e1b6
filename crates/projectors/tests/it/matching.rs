//! Who might match, and what is told of it.

use events::fact::pair::{LikeGiven, LikeKind};
use events::fact::post::{PostDeleted, PostPublished, Visibility};
use events::fact::user::{ProfileUpdated, UserErased};
use events::id::{PostId, StreamKey, UserId};
use projectors::config::Config;
use projectors::pairing;
use projectors::pairing::query::Candidate;
use uuid::Uuid;

use crate::history::{History, user};
use crate::model::{Models, runtime};
use crate::people::{blocks, nothing_new, register};

fn publishes(history: &mut History, author: UserId, text: &str, visibility: Visibility) -> PostId {
    let post = PostId(Uuid::from_u128(0x9000 + history.facts.len() as u128));
    let published = PostPublished {
        post,
        author,
        text: text.into(),
        place: None,
        location: None,
        language: None,
        assets: vec![],
        visibility,
    };
    history.append(&StreamKey::post(post), published.into());
    post
}

fn is(history: &mut History, user: UserId, place: Option<&str>, language: Option<&str>) {
    let updated = ProfileUpdated {
        place: place.map(Into::into),
        language: language.map(str::to_owned),
        ..nothing_new(user)
    };
    history.append(&StreamKey::user(user), updated.into());
}

async fn candidates(models: &Models, reader: UserId, limit: u32) -> Vec<(UserId, u8)> {
    let (mut tx, viewer) = models.read(reader).await;
    let (mut after, mut all): (_, Vec<Candidate>) = (None, vec![]);
    loop {
        let page = pairing::query::candidates(&mut tx, viewer, after, limit)
            .await
            .expect("list candidates");
        all.extend(page.items);
        after = page.next;
        if after.is_none() {
            return all.into_iter().map(|one| (one.user, one.score)).collect();
        }
    }
}

#[test]
fn candidates_come_by_score_and_pages_of_them_go_on_where_they_ended() {
    runtime().block_on(async {
        let models = Models::create(&Config::default()).await;
        let mut history = History::new();
        let me = user(0);
        is(&mut history, me, Some("Cádiz"), Some("es"));
        publishes(&mut history, me, "#gato #mar", Visibility::Public);
        let all: Vec<UserId> = (0..8).map(|n| register(&mut history, n)).collect();
        is(&mut history, all[0], Some("cádiz"), Some("es-ES"));
        publishes(&mut history, all[0], "#mar #gato", Visibility::Public);
        is(&mut history, all[1], None, Some("es"));
        publishes(&mut history, all[2], "#mar #gato", Visibility::Followers);
        let gone = publishes(&mut history, all[3], "#mar", Visibility::Public);
        let deleted = PostDeleted {
            post: gone,
            author: all[3],
        };
        history.append(&StreamKey::post(gone), deleted.into());
        // Judged, blocked on either side, erased.
        for (n, kind) in [(4, LikeKind::Like), (5, LikeKind::Super)] {
            let given = LikeGiven {
                from: me,
                to: all[n],
                kind,
            };
            history.append(&StreamKey::pair_match(me, all[n]), given.into());
        }
        blocks(&mut history, me, all[6]);
        blocks(&mut history, all[7], me);
        let erased = register(&mut history, 8);
        history.append(&StreamKey::user(erased), UserErased { user: erased }.into());
        for n in 1..4 {
            history.pair(0, n, 1); // passes over the other three of every history
        }
        models.tell(&history.facts).await;
        let mut expected = vec![(all[0], 100), (all[1], 15), (all[2], 0), (all[3], 0)];
        expected[2..].sort();
        for limit in [1, 3, 9] {
            assert_eq!(candidates(&models, me, limit).await, expected);
        }
        // It is the same from the other side.
        let back = candidates(&models, all[0], 9).await;
        assert_eq!(back.first(), Some(&(me, 100)));
        assert!(
            back.iter()
                .all(|(user, _)| *user != all[0] && *user != erased)
        );
    });
}

#[test]
fn who_shares_an_interest_is_a_candidate_behind_many_who_are_newer() {
    runtime().block_on(async {
        let models = Models::create(&Config::default()).await;
        let mut history = History::new();
        publishes(&mut history, user(0), "#gato", Visibility::Public);
        publishes(&mut history, user(1), "#gato", Visibility::Public);
        let newer: Vec<UserId> = (0..220).map(|n| register(&mut history, n)).collect();
        models.tell(&history.facts).await;
        let found = candidates(&models, user(0), 100).await;
        assert_eq!(found[0], (user(1), 60));
        // The newest two hundred besides, and no others: with those who are liked, older ones come.
        assert_eq!(found.len(), 201);
        assert!(
            found[1..]
                .iter()
                .all(|(user, score)| newer[20..].contains(user) && *score == 0)
        );
    });
}

#[test]
fn a_super_like_shows_to_the_other_side_until_it_is_answered() {
    runtime().block_on(async {
        let models = Models::create(&Config::default()).await;
        let mut history = History::new();
        let read = async |reader: u8| {
            let (mut tx, viewer) = models.read(user(reader)).await;
            let page = pairing::query::admirers(&mut tx, viewer, None, 9)
                .await
                .unwrap();
            page.items.iter().map(|one| one.user).collect::<Vec<_>>()
        };
        let mut told = 0;
        // Who does what to whom, and who shows to user 0 then.
        for ((from, to, what), shown) in [
            ((1, 0, 3), vec![]),                 // a like
            ((1, 0, 2), vec![user(1)]),          // a super-like
            ((2, 0, 2), vec![user(2), user(1)]), // another one
            ((2, 0, 1), vec![user(1)]),          // taken back
            ((3, 0, 2), vec![user(3), user(1)]),
            ((0, 3, 1), vec![user(1)]), // passed over
            ((0, 1, 3), vec![]),        // liked back
            ((0, 1, 0), vec![]),        // and ended
        ] {
            history.pair(from, to, what);
            models.tell(&history.facts[told..]).await;
            told = history.facts.len();
            assert_eq!(read(0).await, shown, "{from} {to} {what}");
        }
        assert_eq!(read(1).await, []);
        history.pair(2, 0, 2);
        history.block(2, 0, 1);
        models.tell(&history.facts[told..]).await;
        assert_eq!(read(0).await, []);
    });
}
