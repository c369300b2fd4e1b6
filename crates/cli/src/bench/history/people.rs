//! People register, and follow each other.

use std::collections::BTreeSet;

use events::decide::Refusal;
use events::decide::follow::{self, FollowState};
use events::decide::user::{self, UserState};
use events::fact::user::ProfileUpdated;
use events::id::StreamKey;

use super::super::chance::{Chance, For};
use super::super::words::Language;
use super::{Follows, History, PEOPLE, Step};

/// The most followed, who are never private.
const FAMOUS: u64 = 100;
/// Most follow fewer than so many; one in a hundred ten times as many.
const FOLLOWED: u64 = 100;

/// Someone whom someone follows, or asks to.
struct Followed {
    followee: u64,
    private: bool,
    /// What comes of it.
    fate: u64,
}

/// Fates: of requests, what is answered yes, and then no; of follows, what ends.
const FATES: u64 = 32;
const WELCOME: u64 = 20;
const DECLINED: u64 = 25;
const ENDED: u64 = 1;

impl History {
    /// The people of the `n`-th stretch register.
    pub(super) fn register(&self, n: u64, steps: &mut Vec<Step>) -> Result<(), Refusal> {
        let people = n * PEOPLE..((n + 1) * PEOPLE).min(self.users());
        for user in people {
            let state = UserState::default();
            let mut facts = user::register(&state, api::auth::ISSUER, &self.account(user))?;
            facts.extend(user::update_profile(&state, self.profile(user))?);
            let stream = StreamKey::user(self.user(user));
            steps.push(self.step((user, "register".to_owned()), stream, 0, Ok(facts))?);
        }
        Ok(())
    }

    fn profile(&self, user: u64) -> ProfileUpdated {
        let (language, private, mut chance) = self.person(user);
        let name = format!(
            "{} {}",
            language.name(&mut chance),
            language.name(&mut chance)
        );
        ProfileUpdated {
            user: self.user(user),
            name: Some(name.into()),
            bio: (!chance.one_in(3)).then(|| language.sentence(&mut chance, 3, 10).into()),
            place: chance.one_in(2).then(|| language.place(&mut chance).into()),
            language: Some(language.tag.to_owned()),
            private: private.then_some(true),
        }
    }

    /// What a user speaks, and whether followers must be let in; then what else there is to say.
    pub(super) fn person(&self, user: u64) -> (&'static Language, bool, Chance) {
        let mut chance = self.chance(For::Person, user);
        let language = Language::any(&mut chance);
        let private = chance.one_in(20) && user >= FAMOUS;
        (language, private, chance)
    }

    /// In the `n`-th stretch of posts some begin to follow; those of earlier stretches are answered, or end it.
    pub(super) fn follow(&self, n: u64, steps: &mut Vec<Step>) -> Result<(), Refusal> {
        for user in self.beginning_to_follow(n) {
            for followed in self.followed(user) {
                let (stream, by, of) = self.between(user, followed.followee);
                let target = UserState {
                    registered: true,
                    private: followed.private,
                    ..UserState::default()
                };
                let facts = follow::follow(FollowState::Apart, by, of, &target);
                let key = format!("follow {}", followed.followee);
                steps.push(self.step((user, key), stream, 0, facts)?);
            }
        }
        let earlier = |age| n.checked_sub(age).map(|n| self.beginning_to_follow(n));
        for user in earlier(1).into_iter().flatten() {
            let asked = self.followed(user).into_iter();
            for asked in asked.filter(|one| one.private && one.fate < DECLINED) {
                let (stream, by, of) = self.between(user, asked.followee);
                let welcome = asked.fate < WELCOME;
                let facts = follow::answer(FollowState::Requested, by, of, welcome);
                let key = format!("answer {user}");
                steps.push(self.step((asked.followee, key), stream, 1, facts)?);
            }
        }
        for user in earlier(2).into_iter().flatten() {
            let followed = self.followed(user).into_iter();
            for ended in followed.filter(|one| !one.private && one.fate < ENDED) {
                let (stream, by, of) = self.between(user, ended.followee);
                let facts = follow::unfollow(FollowState::Following, by, of);
                let key = format!("unfollow {}", ended.followee);
                steps.push(self.step((user, key), stream, 1, facts)?);
            }
        }
        Ok(())
    }

    /// All have followed whom they will by the middle.
    fn beginning_to_follow(&self, n: u64) -> std::ops::Range<u64> {
        let half = (self.stretches_of_posts() / 2).max(1);
        let upto = |n: u64| self.users() * n.min(half) / half;
        upto(n)..upto(n + 1)
    }

    fn followed(&self, user: u64) -> Vec<Followed> {
        let mut chance = self.chance(For::Followees, user);
        let many = if chance.one_in(100) { 10 } else { 1 };
        let wanted = (1 + chance.zipf(FOLLOWED)) * many;
        let mut found = vec![];
        let mut known = BTreeSet::from([user]);
        // Of few people, the most followed come up again and again.
        for _ in 0..2 * wanted {
            let followee = match self.size.follows {
                Follows::Zipf => chance.zipf(self.users()),
                Follows::Uniform => chance.below(self.users()),
            };
            let fate = chance.below(FATES);
            if known.insert(followee) {
                found.push(Followed {
                    followee,
                    private: self.person(followee).1,
                    fate,
                });
            }
            if found.len() as u64 == wanted {
                break;
            }
        }
        found
    }

    fn between(
        &self,
        follower: u64,
        followee: u64,
    ) -> (StreamKey, events::id::UserId, events::id::UserId) {
        let (follower, followee) = (self.user(follower), self.user(followee));
        (StreamKey::follow(follower, followee), follower, followee)
    }
}
