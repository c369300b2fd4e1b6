//! Users: registering and profiles.

use serde::{Deserialize, Serialize};

use super::{Decision, State};
use crate::fact::Fact;
use crate::fact::user::{ProfileUpdated, UserRegistered};
use crate::id::{EventId, UserId};

/// What deciding about a user needs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UserState {
    /// Whether the user has acted before.
    pub registered: bool,
    /// Whether followers must be let in.
    pub private: bool,
}

impl State for UserState {
    fn fold(&mut self, _: EventId, fact: &Fact) {
        match fact {
            Fact::UserRegistered(_) => self.registered = true,
            Fact::ProfileUpdated(profile) => self.private = profile.private.unwrap_or(self.private),
            _ => {}
        }
    }
}

/// Registers `user` unless that has happened.
pub fn register(state: &UserState, issuer: &str, account: &str) -> Decision {
    if state.registered {
        return Ok(vec![]);
    }
    let user = UserId::of(issuer, account);
    Ok(vec![
        UserRegistered {
            user,
            issuer: issuer.to_owned(),
            account: account.into(),
        }
        .into(),
    ])
}

/// Changes the fields that are there.
pub fn update_profile(_: &UserState, profile: ProfileUpdated) -> Decision {
    let empty = ProfileUpdated {
        user: profile.user,
        name: None,
        bio: None,
        place: None,
        language: None,
        private: None,
    };
    if profile == empty {
        Ok(vec![])
    } else {
        Ok(vec![profile.into()])
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::given;
    use super::*;

    fn ana() -> Fact {
        UserRegistered {
            user: UserId::of("cinelog", "ana"),
            issuer: "cinelog".to_owned(),
            account: "ana".into(),
        }
        .into()
    }

    #[test]
    fn a_user_registers_once() {
        given::<UserState>([])
            .when(|s| register(s, "cinelog", "ana"))
            .then([ana()]);
        given::<UserState>([ana()])
            .when(|s| register(s, "cinelog", "ana"))
            .then([]);
    }

    #[test]
    fn an_empty_change_changes_nothing() {
        let user = UserId::of("cinelog", "ana");
        let empty = ProfileUpdated {
            user,
            name: None,
            bio: None,
            place: None,
            language: None,
            private: None,
        };
        given::<UserState>([ana()])
            .when(|s| update_profile(s, empty))
            .then([]);
    }
}
