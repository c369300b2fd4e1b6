//! Users: registering, profiles, being forgotten.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Decision, Refusal, State};
use crate::fact::Fact;
use crate::fact::user::{ProfileUpdated, UserErased, UserRegistered};
use crate::id::{EventId, UserId};

/// What deciding about a user needs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UserState {
    /// Whether the user has acted before.
    pub registered: bool,
    /// Whether followers must be let in.
    pub private: bool,
    /// Whether the user was forgotten. Left out while it is not so: older states do not know it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub erased: bool,
    /// The suspension that was not lifted; time may have ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspension: Option<Suspension>,
}

/// For how long a user is suspended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspension {
    /// Until when; none: until it is lifted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
}

impl UserState {
    /// Refuses what the user asks for at the time `now`, while suspended.
    pub fn may_act(&self, now: DateTime<Utc>) -> Result<(), Refusal> {
        match self.suspension {
            Some(Suspension { until }) if until.is_none_or(|until| until > now) => {
                Err(Refusal::Suspended { until })
            }
            _ => Ok(()),
        }
    }

    /// Whether others can have to do with the user.
    pub fn is_there(&self) -> bool {
        self.registered && !self.erased
    }
}

impl State for UserState {
    fn fold(&mut self, _: EventId, fact: &Fact) {
        match fact {
            Fact::UserRegistered(_) => self.registered = true,
            Fact::ProfileUpdated(profile) => self.private = profile.private.unwrap_or(self.private),
            Fact::UserErased(_) => self.erased = true,
            Fact::AccountSuspended(fact) => {
                self.suspension = Some(Suspension { until: fact.until });
            }
            Fact::AccountRestored(_) => self.suspension = None,
            _ => {}
        }
    }
}

/// Registers `user` unless that has happened. Who was forgotten does not come back.
pub fn register(state: &UserState, issuer: &str, account: &str) -> Decision {
    if state.erased {
        return Err(Refusal::Forbidden("this account was erased"));
    }
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

/// Forgets `user`; once is enough.
pub fn erase(state: &UserState, user: UserId) -> Decision {
    if !state.registered {
        return Err(Refusal::NotFound("user"));
    }
    if state.erased {
        return Ok(vec![]);
    }
    Ok(vec![UserErased { user }.into()])
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
    fn an_erased_user_is_erased_once_and_does_not_come_back() {
        let user = UserId::of("cinelog", "ana");
        let erased = || Fact::from(UserErased { user });
        given::<UserState>([ana()])
            .when(|s| erase(s, user))
            .then([erased()]);
        given::<UserState>([ana(), erased()])
            .when(|s| erase(s, user))
            .then([]);
        given::<UserState>([ana(), erased()])
            .when(|s| register(s, "cinelog", "ana"))
            .refused(Refusal::Forbidden("this account was erased"));
        given::<UserState>([])
            .when(|s| erase(s, user))
            .refused(Refusal::NotFound("user"));
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
