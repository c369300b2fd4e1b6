//! Following, and asking private accounts to be followed.

use serde::{Deserialize, Serialize};

use super::user::UserState;
use super::{Decision, Refusal, State};
use crate::fact::Fact;
use crate::fact::pair::{FollowDeclined, FollowEnded, FollowRequested, FollowStarted};
use crate::id::{EventId, UserId};

/// Where one user stands with another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FollowState {
    /// Does not follow.
    #[default]
    Apart,
    /// Asked a private account.
    Requested,
    /// Follows.
    Following,
}

impl State for FollowState {
    fn fold(&mut self, _: EventId, fact: &Fact) {
        match fact {
            Fact::FollowRequested(_) => *self = Self::Requested,
            Fact::FollowStarted(_) => *self = Self::Following,
            Fact::FollowDeclined(_) | Fact::FollowEnded(_) => *self = Self::Apart,
            _ => {}
        }
    }
}

/// Follows a user, or asks to when the account is private.
pub fn follow(
    state: FollowState,
    follower: UserId,
    followee: UserId,
    target: &UserState,
) -> Decision {
    if follower == followee {
        return Err(Refusal::Invalid {
            field: "/id",
            reason: "nobody follows themselves",
        });
    }
    if !target.is_there() {
        return Err(Refusal::NotFound("user"));
    }
    Ok(match (state, target.private) {
        (FollowState::Following, _) | (FollowState::Requested, true) => vec![],
        (FollowState::Apart, true) => vec![FollowRequested { follower, followee }.into()],
        (_, false) => vec![FollowStarted { follower, followee }.into()],
    })
}

/// Lets a follower in, or not; asked by the followee.
pub fn answer(state: FollowState, follower: UserId, followee: UserId, welcome: bool) -> Decision {
    Ok(match (state, welcome) {
        (FollowState::Requested, true) => vec![FollowStarted { follower, followee }.into()],
        (FollowState::Requested, false) => vec![FollowDeclined { follower, followee }.into()],
        (FollowState::Following, true) | (FollowState::Apart, false) => vec![],
        _ => return Err(Refusal::NotFound("follow request")),
    })
}

/// Follows no longer, or takes the question back.
pub fn unfollow(state: FollowState, follower: UserId, followee: UserId) -> Decision {
    Ok(match state {
        FollowState::Apart => vec![],
        FollowState::Requested | FollowState::Following => {
            vec![FollowEnded { follower, followee }.into()]
        }
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::post::tests::user;
    use super::super::testing::given;
    use super::*;

    const OPEN: UserState = UserState {
        registered: true,
        private: false,
        erased: false,
        suspension: None,
        muted: BTreeSet::new(),
    };
    const PRIVATE: UserState = UserState {
        registered: true,
        private: true,
        erased: false,
        suspension: None,
        muted: BTreeSet::new(),
    };

    fn started() -> Fact {
        FollowStarted {
            follower: user(1),
            followee: user(2),
        }
        .into()
    }

    #[test]
    fn a_second_follow_changes_nothing() {
        given::<FollowState>([])
            .when(|s| follow(*s, user(1), user(2), &OPEN))
            .then([started()]);
        given::<FollowState>([started()])
            .when(|s| follow(*s, user(1), user(2), &OPEN))
            .then([]);
    }

    #[test]
    fn a_private_account_is_asked_and_answers() {
        let asked: Fact = FollowRequested {
            follower: user(1),
            followee: user(2),
        }
        .into();
        given::<FollowState>([])
            .when(|s| follow(*s, user(1), user(2), &PRIVATE))
            .then([asked.clone()]);
        given::<FollowState>([asked])
            .when(|s| answer(*s, user(1), user(2), true))
            .then([started()]);
        given::<FollowState>([])
            .when(|s| answer(*s, user(1), user(2), true))
            .refused(Refusal::NotFound("follow request"));
    }

    #[test]
    fn nobody_follows_themselves_or_a_stranger() {
        let refusal = Refusal::Invalid {
            field: "/id",
            reason: "nobody follows themselves",
        };
        given::<FollowState>([])
            .when(|s| follow(*s, user(1), user(1), &OPEN))
            .refused(refusal);
        given::<FollowState>([])
            .when(|s| follow(*s, user(1), user(3), &UserState::default()))
            .refused(Refusal::NotFound("user"));
    }
}
