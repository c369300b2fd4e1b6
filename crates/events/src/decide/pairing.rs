//! Likes, passes and matches between two users.

use serde::{Deserialize, Serialize};

use super::user::UserState;
use super::{Decision, Refusal, State};
use crate::fact::Fact;
use crate::fact::pair::{LikeGiven, LikeKind, MatchEnded, MatchMade, PassGiven};
use crate::id::{EventId, UserId};

/// What two users think of each other; index 0 is the one with the lower id.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PairingState {
    /// Likes given, by side.
    pub likes: [Option<LikeKind>; 2],
    /// Whether they are matched now.
    pub matched: bool,
    /// Who has passed the other over, by side. Left out while neither has: older states do not know it.
    #[serde(skip_serializing_if = "neither")]
    pub passed: [bool; 2],
}

fn neither(sides: &[bool]) -> bool {
    !sides.contains(&true)
}

fn sorted(one: UserId, other: UserId) -> [UserId; 2] {
    [one.min(other), one.max(other)]
}

fn side(actor: UserId, other: UserId) -> usize {
    usize::from(actor > other)
}

impl PairingState {
    fn judge(&mut self, side: usize, like: Option<LikeKind>) {
        self.likes[side] = like;
        self.passed[side] = like.is_none();
    }
}

impl State for PairingState {
    fn fold(&mut self, _: EventId, fact: &Fact) {
        match fact {
            Fact::LikeGiven(like) => self.judge(side(like.from, like.to), Some(like.kind)),
            Fact::PassGiven(pass) => self.judge(side(pass.from, pass.to), None),
            Fact::MatchMade(_) => self.matched = true,
            Fact::MatchEnded(ended) => {
                self.matched = false;
                let other = ended.users[usize::from(ended.by == ended.users[0])];
                self.likes[side(ended.by, other)] = None;
            }
            _ => {}
        }
    }
}

/// Likes someone; the second of two likes makes the match, in the same append.
pub fn like(
    state: &PairingState,
    from: UserId,
    to: UserId,
    kind: LikeKind,
    target: &UserState,
) -> Decision {
    known(from, to, target)?;
    let (mine, theirs) = (state.likes[side(from, to)], state.likes[side(to, from)]);
    if mine == Some(kind) || state.matched {
        return Ok(vec![]);
    }
    let mut facts = vec![LikeGiven { from, to, kind }.into()];
    if theirs.is_some() {
        facts.push(
            MatchMade {
                users: sorted(from, to),
            }
            .into(),
        );
    }
    Ok(facts)
}

/// Passes someone over, and takes a like back.
pub fn pass(state: &PairingState, from: UserId, to: UserId, target: &UserState) -> Decision {
    known(from, to, target)?;
    if state.matched {
        return Err(Refusal::WrongState(
            "they are matched: end the match instead",
        ));
    }
    if state.passed[side(from, to)] {
        return Ok(vec![]);
    }
    Ok(vec![PassGiven { from, to }.into()])
}

/// Ends a match; ending it twice is ending it. Where there is none, nothing happens and nothing is told: another answer
/// would tell whether the other has judged.
pub fn end(state: &PairingState, by: UserId, other: UserId) -> Decision {
    if !state.matched {
        return Ok(vec![]);
    }
    let users = sorted(by, other);
    Ok(vec![MatchEnded { users, by }.into()])
}

fn known(from: UserId, to: UserId, target: &UserState) -> Result<(), Refusal> {
    if from == to {
        return Err(Refusal::Invalid {
            field: "/user",
            reason: "nobody matches with themselves",
        });
    }
    if target.is_there() {
        Ok(())
    } else {
        Err(Refusal::NotFound("user"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::post::tests::user;
    use super::super::testing::given;
    use super::*;

    const THERE: UserState = UserState {
        registered: true,
        private: false,
        erased: false,
        suspension: None,
        muted: BTreeSet::new(),
    };

    fn liked(from: u128, to: u128) -> Fact {
        LikeGiven {
            from: user(from),
            to: user(to),
            kind: LikeKind::Like,
        }
        .into()
    }

    fn made() -> Fact {
        MatchMade {
            users: [user(1), user(2)],
        }
        .into()
    }

    #[test]
    fn a_match_is_made_once_whichever_side_is_second() {
        for (first, second) in [(1, 2), (2, 1)] {
            let now = |s: &PairingState| like(s, user(second), user(first), LikeKind::Like, &THERE);
            given::<PairingState>([liked(first, second)])
                .when(now)
                .then([liked(second, first), made()]);
            given::<PairingState>([liked(first, second), liked(second, first), made()])
                .when(now)
                .then([]);
        }
    }

    #[test]
    fn a_match_ends_and_can_be_made_again() {
        let history = [liked(1, 2), liked(2, 1), made()];
        let ended: Fact = MatchEnded {
            users: [user(1), user(2)],
            by: user(2),
        }
        .into();
        given::<PairingState>(history.clone())
            .when(|s| end(s, user(2), user(1)))
            .then([ended.clone()]);
        given::<PairingState>(history.into_iter().chain([ended]))
            .when(|s| like(s, user(2), user(1), LikeKind::Like, &THERE))
            .then([liked(2, 1), made()]);
    }

    #[test]
    fn ending_no_match_does_not_tell_what_the_other_thinks() {
        for history in [vec![], vec![liked(1, 2)]] {
            given::<PairingState>(history)
                .when(|s| end(s, user(2), user(1)))
                .then([]);
        }
    }

    fn passed() -> Fact {
        PassGiven {
            from: user(1),
            to: user(2),
        }
        .into()
    }

    #[test]
    fn a_pass_takes_a_like_back() {
        given::<PairingState>([liked(1, 2), passed()])
            .when(|s| like(s, user(2), user(1), LikeKind::Like, &THERE))
            .then([liked(2, 1)]);
    }

    #[test]
    fn a_second_pass_changes_nothing_and_a_like_takes_a_pass_back() {
        let pass = |s: &PairingState| pass(s, user(1), user(2), &THERE);
        given([]).when(pass).then([passed()]);
        given([passed()]).when(pass).then([]);
        given([passed(), liked(1, 2)]).when(pass).then([passed()]);
        given([passed()])
            .when(|s| super::pass(s, user(2), user(1), &THERE))
            .then([PassGiven {
                from: user(2),
                to: user(1),
            }
            .into()]);
        given([passed()])
            .when(|s| like(s, user(1), user(2), LikeKind::Like, &THERE))
            .then([liked(1, 2)]);
    }

    #[test]
    fn a_state_without_passes_is_as_it_was_before_they_were_known() {
        let state = PairingState::default();
        let kept = serde_json::to_value(&state).unwrap();
        assert_eq!(
            kept,
            serde_json::json!({"likes": [null, null], "matched": false})
        );
    }
}
