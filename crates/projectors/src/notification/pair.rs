//! What the facts between two users mean to each of them.

use events::envelope::Recorded;
use events::fact::Fact;
use events::fact::pair::LikeKind;
use events::fact::user::NoticeKind;
use events::id::UserId;
use uuid::Uuid;

use super::apply::{News, tell};
use super::row::NoticeRow;

/// Someone is told that `actor` did something, or it is taken back.
struct Told {
    owner: UserId,
    kind: NoticeKind,
    actor: UserId,
    done: bool,
}

fn told(owner: UserId, kind: NoticeKind, actor: UserId) -> Told {
    let done = true;
    Told {
        owner,
        kind,
        actor,
        done,
    }
}

fn taken_back(owner: UserId, kind: NoticeKind, actor: UserId) -> Told {
    let done = false;
    Told {
        owner,
        kind,
        actor,
        done,
    }
}

/// What a fact about following, which `by` brought about, tells whom.
fn followed(fact: &Fact, by: UserId) -> Vec<Told> {
    use NoticeKind::{Follow, FollowAccepted, FollowRequest};
    match fact {
        Fact::FollowRequested(fact) => vec![told(fact.followee, FollowRequest, fact.follower)],
        Fact::FollowStarted(fact) => {
            let (follower, followee) = (fact.follower, fact.followee);
            // Who was asked and said yes needs no telling; who asked does.
            let news = if by == followee {
                told(follower, FollowAccepted, followee)
            } else {
                told(followee, Follow, follower)
            };
            vec![taken_back(followee, FollowRequest, follower), news]
        }
        Fact::FollowDeclined(fact) => {
            vec![taken_back(fact.followee, FollowRequest, fact.follower)]
        }
        Fact::FollowEnded(fact) => vec![
            taken_back(fact.followee, FollowRequest, fact.follower),
            taken_back(fact.followee, Follow, fact.follower),
            taken_back(fact.follower, FollowAccepted, fact.followee),
        ],
        _ => vec![],
    }
}

/// What a fact about matching tells whom.
fn matched(fact: &Fact) -> Vec<Told> {
    use NoticeKind::{Match, SuperLike};
    match fact {
        Fact::LikeGiven(fact) if fact.kind == LikeKind::Super => {
            vec![told(fact.to, SuperLike, fact.from)]
        }
        Fact::LikeGiven(fact) => vec![taken_back(fact.to, SuperLike, fact.from)],
        Fact::PassGiven(fact) => vec![taken_back(fact.to, SuperLike, fact.from)],
        Fact::MatchMade(fact) => {
            let [one, other] = fact.users;
            vec![told(one, Match, other), told(other, Match, one)]
        }
        Fact::MatchEnded(fact) => {
            let [one, other] = fact.users;
            let left = if fact.by == one { other } else { one };
            vec![
                taken_back(one, Match, other),
                taken_back(other, Match, one),
                taken_back(left, SuperLike, fact.by),
            ]
        }
        _ => vec![],
    }
}

fn all(fact: &Fact, by: UserId) -> impl Iterator<Item = Told> {
    followed(fact, by).into_iter().chain(matched(fact))
}

pub(super) fn handles(fact: &Fact) -> bool {
    all(fact, UserId(Uuid::nil())).next().is_some()
}

pub(super) fn fold(recorded: &Recorded, news: &mut News) {
    for told in all(&recorded.fact, recorded.meta.actor) {
        // It concerns nothing but its owner.
        let target = told.owner.0;
        let notice = NoticeRow::of(recorded, told.owner, told.kind, target, told.actor);
        tell(news, notice, told.done);
    }
}
