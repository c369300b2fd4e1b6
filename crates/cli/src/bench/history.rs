//! What happened in a made-up place, a stretch at a time.
//!
//! Any stretch can be made from the seed alone. Nothing in a stretch rests on something of the same stretch, so that all of it
//! can be appended at once, and what comes of it is the same history whatever the order.

use events::decide::{Decision, Refusal};
use events::id::{CommandId, StreamKey, TenantId, UserId};
use events::store::{Append, Expected};

use super::chance::{Chance, For};

mod people;
mod posts;

/// Whom people follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Follows {
    /// A few have most of the followers, the n-th about in proportion to 1/n.
    Zipf,
    /// All have as many.
    Uniform,
}

/// How much happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// People.
    pub users: u32,
    /// Posts that they publish.
    pub posts: u32,
    /// Whom they follow.
    pub follows: Follows,
    /// Another seed, another history.
    pub seed: u64,
}

/// What one command appends.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Its name.
    pub id: CommandId,
    /// Its facts, and where their stream must stand.
    pub append: Append,
}

impl Step {
    /// Where its stream stands afterwards.
    pub(super) fn version(&self) -> i64 {
        let before = match self.append.expected {
            Expected::Exact(version) => version,
            Expected::Any | Expected::NoStream => 0,
        };
        before + i64::try_from(self.append.facts.len()).unwrap_or(i64::MAX)
    }
}

/// A made-up history.
#[derive(Clone, Debug)]
pub struct History {
    tenant: TenantId,
    size: Size,
    /// Part of every name in it: histories of other sizes or seeds share nothing.
    route: String,
    /// Steps of this many users come by all of them.
    stride: u64,
    /// Posts in a stretch.
    posts: u64,
}

/// People who register in one stretch.
const PEOPLE: u64 = 2_000;
/// Stretches over which others take notice of a post, half of them in the next one, half of the rest in the one after…
const NOTICED: u64 = 4;
/// One stretch in so many is one in which something happens.
const BUSY: u64 = 8;

impl History {
    /// The history of `tenant` that follows from its size.
    pub fn new(tenant: TenantId, size: Size) -> Self {
        let Size {
            users,
            posts,
            follows,
            seed,
        } = size;
        let size = Size {
            users: users.max(1),
            ..size
        };
        let kind = match follows {
            Follows::Zipf => "zipf",
            Follows::Uniform => "uniform",
        };
        let users = u64::from(size.users);
        let coprime = |stride: &u64| gcd(*stride, users) == 1;
        Self {
            tenant,
            size,
            route: format!("bench seed {seed} {users} {posts} {kind}"),
            stride: (users * 5 / 8 + 1..=users + 1).find(coprime).unwrap_or(1),
            posts: (u64::from(posts) / 200).clamp(20, 1_000),
        }
    }

    /// Its tenant.
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// How much happens in it.
    pub fn size(&self) -> Size {
        self.size
    }

    /// How many stretches there are.
    pub fn stretches(&self) -> u64 {
        self.stretches_of_people() + self.stretches_of_posts()
    }

    fn stretches_of_people(&self) -> u64 {
        u64::from(self.size.users).div_ceil(PEOPLE)
    }

    fn stretches_of_posts(&self) -> u64 {
        u64::from(self.size.posts).div_ceil(self.posts)
    }

    /// All that happens in the `n`-th stretch.
    pub fn stretch(&self, n: u64) -> Result<Vec<Step>, Refusal> {
        let mut steps = vec![];
        match n.checked_sub(self.stretches_of_people()) {
            None => self.register(n, &mut steps)?,
            Some(n) => {
                self.follow(n, &mut steps)?;
                self.publish(n, &mut steps)?;
                for age in 1..=NOTICED {
                    if let Some(before) = n.checked_sub(age) {
                        self.notice(before, age, &mut steps)?;
                    }
                }
                if let Some(before) = n.checked_sub(NOTICED + 1) {
                    self.regret(before, &mut steps)?;
                }
            }
        }
        Ok(steps)
    }

    /// About how many facts there are from the `n`-th stretch on: some stretches stand for the others.
    pub fn about(&self, n: u64) -> Result<u64, Refusal> {
        let (people, all) = (self.stretches_of_people(), self.stretches());
        // Follows are all in the first half of the posts.
        let half = people + (all - people) / 2;
        let mut facts = 0;
        for (from, to) in [(0, people), (people, half), (half, all)] {
            let from = from.max(n).min(to);
            let looked_at = (to - from).min(8);
            let mut seen = 0;
            for n in 0..looked_at {
                let steps = self.stretch(from + (to - from) * n / looked_at)?;
                seen += steps
                    .iter()
                    .map(|step| step.append.facts.len() as u64)
                    .sum::<u64>();
            }
            facts += seen * (to - from) / looked_at.max(1);
        }
        Ok(facts)
    }

    /// What the `n`-th user is called; `cinelog token --user` takes it.
    pub fn account(&self, n: u64) -> String {
        format!("{} {n}", self.route)
    }

    /// The `n`-th user; the first ones are followed most.
    pub fn user(&self, n: u64) -> UserId {
        UserId::of(api::auth::ISSUER, &self.account(n))
    }

    fn users(&self) -> u64 {
        u64::from(self.size.users)
    }

    /// The `n`-th user on a walk from `from` by all users, each once.
    fn walk(&self, from: u64, n: u64) -> u64 {
        (from + n * self.stride) % self.users()
    }

    fn chance(&self, what: For, n: u64) -> Chance {
        Chance::new(self.size.seed, what, n)
    }

    /// What `actor` did as `key` to a stream of `version` facts.
    fn step(
        &self,
        (actor, key): (u64, String),
        stream: StreamKey,
        version: i64,
        facts: Decision,
    ) -> Result<Step, Refusal> {
        let expected = match version {
            0 => Expected::NoStream,
            version => Expected::Exact(version),
        };
        Ok(Step {
            id: CommandId {
                tenant: self.tenant,
                actor: self.user(actor),
                route: self.route.clone(),
                key,
            },
            append: Append {
                stream,
                expected,
                facts: facts?,
            },
        })
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use events::fact::Fact;
    use uuid::Uuid;

    use super::*;

    fn history(seed: u64, follows: Follows) -> History {
        let size = Size {
            users: 1_500,
            posts: 2_000,
            follows,
            seed,
        };
        History::new(TenantId(Uuid::nil()), size)
    }

    fn all(history: &History) -> Vec<Vec<Step>> {
        let stretches = 0..history.stretches();
        stretches.map(|n| history.stretch(n).unwrap()).collect()
    }

    /// How often each type comes.
    fn types(stretches: &[Vec<Step>]) -> BTreeMap<&'static str, u64> {
        let mut types = BTreeMap::new();
        for fact in stretches
            .iter()
            .flatten()
            .flat_map(|step| &step.append.facts)
        {
            *types.entry(fact.fact_type()).or_default() += 1;
        }
        types
    }

    #[test]
    fn each_step_finds_its_stream_as_it_expects_and_has_a_name_of_its_own() {
        let (mut versions, mut names) = (BTreeMap::new(), BTreeSet::new());
        for steps in all(&history(1, Follows::Zipf)) {
            assert!(!steps.is_empty());
            let mut touched = BTreeSet::new();
            for step in steps {
                let stream = step.append.stream.stream.clone();
                let version = step.version();
                let before = version - i64::try_from(step.append.facts.len()).unwrap();
                assert_eq!(
                    versions.get(&stream).copied().unwrap_or(0),
                    before,
                    "{step:?}"
                );
                assert!(
                    touched.insert(stream.clone()),
                    "twice in a stretch: {stream}"
                );
                versions.insert(stream, version);
                assert!(names.insert(step.id.clone()), "{:?}", step.id);
            }
        }
    }

    #[test]
    fn nothing_rests_on_what_is_not_there_yet() {
        let (mut posts, mut comments) = (BTreeSet::new(), BTreeSet::new());
        for steps in all(&history(1, Follows::Zipf)) {
            let facts = steps.into_iter().flat_map(|step| step.append.facts);
            let (mut new_posts, mut gone, mut new_comments) = (vec![], vec![], vec![]);
            for fact in facts {
                match fact {
                    Fact::PostPublished(fact) => new_posts.push(fact.post),
                    Fact::PostDeleted(fact) => gone.push(fact.post),
                    Fact::PostEdited(fact) => assert!(posts.contains(&fact.post)),
                    Fact::ReactionAdded(fact) => assert!(posts.contains(&fact.post)),
                    Fact::CommentAdded(fact) => {
                        assert!(posts.contains(&fact.post));
                        assert!(fact.parent.is_none_or(|parent| comments.contains(&parent)));
                        new_comments.push(fact.comment);
                    }
                    _ => {}
                }
            }
            posts.extend(new_posts);
            comments.extend(new_comments);
            posts.retain(|post| !gone.contains(post));
        }
    }

    #[test]
    fn all_sorts_of_things_happen_in_proportion() {
        let stretches = all(&history(1, Follows::Zipf));
        let types = types(&stretches);
        for rare in [
            "follow.requested",
            "follow.declined",
            "follow.ended",
            "post.edited",
            "post.deleted",
            "comment.deleted",
            "reaction.removed",
        ] {
            assert!(types[rare] > 5, "{types:?}");
        }
        assert_eq!(
            (types["user.registered"], types["post.published"]),
            (1_500, 2_000)
        );
        assert!(
            (20_000..45_000).contains(&types["follow.started"]),
            "{types:?}"
        );
        assert!(
            (3_000..10_000).contains(&types["reaction.added"]),
            "{types:?}"
        );
        assert!((700..3_500).contains(&types["comment.added"]), "{types:?}");
        let facts: u64 = types.values().sum();
        let about = history(1, Follows::Zipf).about(0).unwrap();
        assert!(
            (facts * 8 / 10..facts * 12 / 10).contains(&about),
            "{facts} {about}"
        );
    }

    #[test]
    fn a_seed_is_a_history() {
        assert_eq!(
            all(&history(1, Follows::Zipf)),
            all(&history(1, Follows::Zipf))
        );
        let [one, other, uniform] = [
            (1, Follows::Zipf),
            (2, Follows::Zipf),
            (1, Follows::Uniform),
        ]
        .map(|(seed, follows)| all(&history(seed, follows)));
        let names = |steps: &[Vec<Step>]| -> BTreeSet<String> {
            let steps = steps.iter().flatten();
            steps
                .map(|step| step.append.stream.stream.clone())
                .collect()
        };
        assert!(names(&one).is_disjoint(&names(&other)));
        assert!(names(&one).is_disjoint(&names(&uniform)));
    }

    #[test]
    fn a_few_have_most_followers() {
        let most = |follows| {
            let mut followers = BTreeMap::<_, u64>::new();
            for fact in all(&history(1, follows))
                .into_iter()
                .flatten()
                .flat_map(|step| step.append.facts)
            {
                if let Fact::FollowStarted(fact) = fact {
                    *followers.entry(fact.followee).or_default() += 1;
                }
            }
            followers.into_values().max().unwrap_or_default()
        };
        assert!(most(Follows::Zipf) > 500);
        assert!(most(Follows::Uniform) < 100);
    }

    #[test]
    fn the_smallest_place_has_a_history_too() {
        let size = Size {
            users: 1,
            posts: 30,
            follows: Follows::Zipf,
            seed: 1,
        };
        let alone = History::new(TenantId(Uuid::nil()), size);
        assert_eq!(types(&all(&alone))["post.published"], 30);
    }
}
