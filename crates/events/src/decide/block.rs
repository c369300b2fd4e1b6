//! Blocking and muting. What a block hides is filtered where things are read: follows, likes and all that was said stay as
//! they are, and show again when it ends.

use serde::{Deserialize, Serialize};

use super::user::UserState;
use super::{Decision, Refusal, State};
use crate::fact::Fact;
use crate::fact::pair::{BlockEnded, BlockStarted, MuteEnded, MuteStarted};
use crate::id::{EventId, UserId};

/// Whether one user has blocked another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlockState {
    /// Whether it is so now.
    pub blocked: bool,
}

impl State for BlockState {
    fn fold(&mut self, _: EventId, fact: &Fact) {
        match fact {
            Fact::BlockStarted(_) => self.blocked = true,
            Fact::BlockEnded(_) => self.blocked = false,
            _ => {}
        }
    }
}

/// Whether one user has muted another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MuteState {
    /// Whether it is so now.
    pub muted: bool,
}

impl State for MuteState {
    fn fold(&mut self, _: EventId, fact: &Fact) {
        match fact {
            Fact::MuteStarted(_) => self.muted = true,
            Fact::MuteEnded(_) => self.muted = false,
            _ => {}
        }
    }
}

/// Blocks a user.
pub fn block(state: BlockState, blocker: UserId, blocked: UserId, target: &UserState) -> Decision {
    someone_else(blocker, blocked, target, "nobody blocks themselves")?;
    Ok(if state.blocked {
        vec![]
    } else {
        vec![BlockStarted { blocker, blocked }.into()]
    })
}

/// Blocks a user no longer.
pub fn unblock(state: BlockState, blocker: UserId, blocked: UserId) -> Decision {
    Ok(if state.blocked {
        vec![BlockEnded { blocker, blocked }.into()]
    } else {
        vec![]
    })
}

/// Mutes a user.
pub fn mute(state: MuteState, muter: UserId, muted: UserId, target: &UserState) -> Decision {
    someone_else(muter, muted, target, "nobody mutes themselves")?;
    Ok(if state.muted {
        vec![]
    } else {
        vec![MuteStarted { muter, muted }.into()]
    })
}

/// Mutes a user no longer.
pub fn unmute(state: MuteState, muter: UserId, muted: UserId) -> Decision {
    Ok(if state.muted {
        vec![MuteEnded { muter, muted }.into()]
    } else {
        vec![]
    })
}

/// Who was erased can be blocked and muted, as can who has blocked the asker: so the answer does not tell which of the two
/// it is that nothing more is seen of someone.
fn someone_else(
    me: UserId,
    other: UserId,
    target: &UserState,
    reason: &'static str,
) -> Result<(), Refusal> {
    if me == other {
        let field = "/id";
        return Err(Refusal::Invalid { field, reason });
    }
    if target.registered {
        Ok(())
    } else {
        Err(Refusal::NotFound("user"))
    }
}

/// Refuses what two users would have to do with each other when one of them has blocked the other, in the words in which
/// what is not there is refused: who was blocked is not told.
pub fn unblocked(between: [BlockState; 2], thing: &'static str) -> Result<(), Refusal> {
    if between.iter().any(|side| side.blocked) {
        return Err(Refusal::NotFound(thing));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::post::tests::user;
    use super::super::testing::given;
    use super::*;

    const THERE: UserState = UserState {
        registered: true,
        private: false,
        erased: false,
        suspension: None,
        muted: std::collections::BTreeSet::new(),
    };

    fn block_started() -> Fact {
        BlockStarted {
            blocker: user(1),
            blocked: user(2),
        }
        .into()
    }

    fn block_ended() -> Fact {
        BlockEnded {
            blocker: user(1),
            blocked: user(2),
        }
        .into()
    }

    fn mute_started() -> Fact {
        MuteStarted {
            muter: user(1),
            muted: user(2),
        }
        .into()
    }

    fn mute_ended() -> Fact {
        MuteEnded {
            muter: user(1),
            muted: user(2),
        }
        .into()
    }

    #[test]
    fn a_block_starts_once_ends_once_and_can_start_again() {
        let start = |s: &BlockState| block(*s, user(1), user(2), &THERE);
        let end = |s: &BlockState| unblock(*s, user(1), user(2));
        given([]).when(start).then([block_started()]);
        given([block_started()]).when(start).then([]);
        given([block_started()]).when(end).then([block_ended()]);
        given([block_started(), block_ended()]).when(end).then([]);
        given([block_started(), block_ended()])
            .when(start)
            .then([block_started()]);
        given([]).when(end).then([]);
    }

    #[test]
    fn a_mute_starts_once_ends_once_and_can_start_again() {
        let start = |s: &MuteState| mute(*s, user(1), user(2), &THERE);
        let end = |s: &MuteState| unmute(*s, user(1), user(2));
        given([]).when(start).then([mute_started()]);
        given([mute_started()]).when(start).then([]);
        given([mute_started()]).when(end).then([mute_ended()]);
        given([mute_started(), mute_ended()]).when(end).then([]);
        given([mute_started(), mute_ended()])
            .when(start)
            .then([mute_started()]);
        given([]).when(end).then([]);
    }

    #[test]
    fn nobody_blocks_or_mutes_themselves_or_a_stranger() {
        let refusal = |reason| Refusal::Invalid {
            field: "/id",
            reason,
        };
        let stranger = UserState::default();
        given([])
            .when(|s| block(*s, user(1), user(1), &THERE))
            .refused(refusal("nobody blocks themselves"));
        given([])
            .when(|s| mute(*s, user(1), user(1), &THERE))
            .refused(refusal("nobody mutes themselves"));
        given([])
            .when(|s| block(*s, user(1), user(3), &stranger))
            .refused(Refusal::NotFound("user"));
        given([])
            .when(|s| mute(*s, user(1), user(3), &stranger))
            .refused(Refusal::NotFound("user"));
    }

    #[test]
    fn who_was_erased_is_blocked_like_who_is_there() {
        let erased = UserState {
            erased: true,
            ..THERE
        };
        given([])
            .when(|s| block(*s, user(1), user(2), &erased))
            .then([block_started()]);
    }

    #[test]
    fn a_block_stands_between_two_whichever_of_them_it_is_by() {
        let (open, shut) = (BlockState::default(), BlockState { blocked: true });
        assert_eq!(unblocked([open, open], "user"), Ok(()));
        for between in [[shut, open], [open, shut], [shut, shut]] {
            assert_eq!(unblocked(between, "post"), Err(Refusal::NotFound("post")));
        }
    }
}
