//! Users: registering, profiles, being forgotten.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Decision, Refusal, State};
use crate::fact::Fact;
use crate::fact::user::{NoticeKind, PreferenceSet, ProfileUpdated, UserErased, UserRegistered};
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
    /// What the user does not want to be told of.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub muted: BTreeSet<NoticeKind>,
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
            Fact::PreferenceSet(fact) if fact.on => drop(self.muted.remove(&fact.kind)),
            Fact::PreferenceSet(fact) => drop(self.muted.insert(fact.kind)),
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

/// Chooses what `user` is told of; a kind that is not in `wanted`, or is so already, stays as it is.
pub fn set_preferences(
    state: &UserState,
    user: UserId,
    wanted: &BTreeMap<NoticeKind, bool>,
) -> Decision {
    let changes = wanted
        .iter()
        .filter(|(kind, on)| state.muted.contains(kind) == **on);
    Ok(changes
        .map(|(&kind, &on)| PreferenceSet { user, kind, on }.into())
        .collect())
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
    fn only_preferences_that_change_are_told() {
        let user = UserId::of("cinelog", "ana");
        let set = |kind, on| Fact::from(PreferenceSet { user, kind, on });
        let wanted = BTreeMap::from([(NoticeKind::Reaction, false), (NoticeKind::Match, true)]);
        given::<UserState>([ana()])
            .when(|s| set_preferences(s, user, &wanted))
            .then([set(NoticeKind::Reaction, false)]);
        given::<UserState>([ana(), set(NoticeKind::Reaction, false)])
            .when(|s| set_preferences(s, user, &wanted))
            .then([]);
        let back = BTreeMap::from([(NoticeKind::Reaction, true)]);
        given::<UserState>([ana(), set(NoticeKind::Reaction, false)])
            .when(|s| set_preferences(s, user, &back))
            .then([set(NoticeKind::Reaction, true)]);
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
