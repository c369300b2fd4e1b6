//! Histories that could have happened: every fact comes from a decider.

mod apart;
mod delivery;
mod moderating;

use std::iter;

use chrono::{DateTime, Duration, Utc};
use events::decide::{
    Decision, State, asset, comment, follow, pairing, post, reaction, share, user,
};
use events::envelope::{Meta, Recorded};
use events::fact::Fact;
use events::fact::asset::{RenditionCompleted, UploadCompleted, UploadRequested};
use events::fact::pair::LikeKind;
use events::fact::post::{
    CommentAdded, CommentEdited, PostEdited, PostPublished, ReactionAdded, Visibility,
};
use events::fact::user::{NoticeKind, ProfileUpdated};
use events::id::{
    AssetId, CommentId, EventId, JobId, Lane, Position, PostId, StreamKey, TenantId, UserId,
};
use uuid::Uuid;

use delivery::Chance;
pub(crate) use delivery::delivery;

/// Users, posts, assets of a history: few, so that they meet.
pub(crate) const USERS: u8 = 4;
const POSTS: u8 = 12;
const ASSETS: u8 = 3;
const COMMENTS: u8 = 6;
const VISIBILITIES: [Visibility; 4] = [
    Visibility::Public,
    Visibility::Followers,
    Visibility::Mutuals,
    Visibility::Private,
];

pub(crate) fn tenant() -> TenantId {
    TenantId(Uuid::from_u128(0xA))
}

pub(crate) fn user(n: u8) -> UserId {
    UserId::of("test", &(n % USERS).to_string())
}

pub(crate) fn post_id(n: u8) -> PostId {
    PostId(Uuid::from_u128(0x1000 + u128::from(n % POSTS)))
}

pub(crate) fn asset_id(n: u8) -> AssetId {
    AssetId(Uuid::from_u128(0x2000 + u128::from(n % ASSETS)))
}

pub(crate) fn comment_id(n: u8) -> CommentId {
    CommentId(Uuid::from_u128(0x3000 + u128::from(n % COMMENTS)))
}

/// One thing that someone tries: which, and three numbers that say on what.
pub(crate) type Attempt = (u8, u8, u8, u8);

/// Facts in the order of the log.
pub(crate) struct History {
    pub(crate) facts: Vec<Recorded>,
    /// Who brings about what comes next.
    pub(crate) actor: UserId,
}

impl History {
    /// A history in which all users have registered.
    pub(crate) fn new() -> Self {
        let mut history = Self {
            facts: vec![],
            actor: user(0),
        };
        for n in 0..USERS {
            history.decide(&StreamKey::user(user(n)), |state| {
                user::register(state, "test", &n.to_string())
            });
        }
        history
    }

    /// What comes of `attempts`, after the first users have uploaded something to post.
    pub(crate) fn of(attempts: &[Attempt]) -> Self {
        let mut history = Self::new();
        for n in 0..ASSETS {
            history.upload(n, n);
        }
        for attempt in attempts {
            history.attempt(*attempt);
        }
        history
    }

    /// A long history, in which everything happens that deciders allow.
    pub(crate) fn rich() -> Self {
        let mut chance = Chance(2);
        let mut number = || u8::try_from(chance.below(256)).expect("it is below 256");
        let attempts = (0..400).map(|_| (number(), number(), number(), number()));
        // Few posts show an asset; one surely.
        let attempts: Vec<Attempt> = iter::once((0, 0, 0, 0)).chain(attempts).collect();
        Self::of(&attempts)
    }

    /// Appends what a decider wants; a refusal appends nothing.
    pub(crate) fn decide<S: State>(
        &mut self,
        key: &StreamKey,
        decide: impl FnOnce(&S) -> Decision,
    ) {
        let decision = decide(&self.state(key));
        self.take(key, decision);
    }

    fn take(&mut self, key: &StreamKey, decision: Decision) {
        for fact in decision.unwrap_or_default() {
            self.append(key, fact);
        }
    }

    pub(crate) fn append(&mut self, key: &StreamKey, fact: Fact) {
        let position = number(self.facts.len() + 1);
        self.facts.push(Recorded {
            position: Position(position),
            lane: Lane::of(tenant(), &key.subject),
            tenant: tenant(),
            stream: key.stream.clone(),
            version: number(self.of_stream(key).count() + 1),
            subject: key.subject.clone(),
            meta: Meta {
                actor: self.actor,
                command: position.to_string(),
                correlation: None,
                cause: None,
            },
            event_id: EventId(Uuid::from_u128(self.facts.len() as u128 + 1)),
            recorded_at: DateTime::<Utc>::UNIX_EPOCH + Duration::seconds(position),
            fact,
        });
    }

    fn of_stream(&self, key: &StreamKey) -> impl Iterator<Item = &Recorded> {
        self.facts
            .iter()
            .filter(|recorded| recorded.stream == key.stream)
    }

    fn state<S: State>(&self, key: &StreamKey) -> S {
        let mut state = S::default();
        for recorded in self.of_stream(key) {
            state.fold(recorded.event_id, &recorded.fact);
        }
        state
    }

    fn attempt(&mut self, (what, a, b, c): Attempt) {
        self.actor = user(a);
        match what % 22 {
            0..4 => self.publish(a, b, c),
            4 => self.decide(&StreamKey::post(post_id(b)), |state| {
                post::edit(state, edited(a, b, c))
            }),
            5 => self.decide(&StreamKey::post(post_id(b)), |state| {
                post::delete(state, post_id(b), user(a))
            }),
            6..9 => self.follow(a, b),
            9 if c.is_multiple_of(2) => self.decide(
                &StreamKey::follow(user(a), user(b)),
                |state: &follow::FollowState| follow::unfollow(*state, user(a), user(b)),
            ),
            9 => self.answer(a, b, c % 4 == 1),
            10 => self.upload(a, b),
            11 => self.render(b, c),
            12 => self.comment(a, b, c),
            13 if c.is_multiple_of(5) => self.share(a, b, c),
            13 => self.react(a, b, c),
            14 => self.pair(a, b, c),
            15 => self.report(a, b, c),
            16 => self.moderate(a, b, c),
            17 => self.suspend(a, b, c),
            18 => self.block(a, b, c),
            19 => self.mute(a, b, c),
            20 => self.prefer(a, b, c),
            21 if c.is_multiple_of(16) => self.decide(&StreamKey::user(user(a)), |state| {
                user::erase(state, user(a))
            }),
            _ => self.decide(&StreamKey::user(user(a)), |state| {
                user::update_profile(state, profile(a, b, c))
            }),
        }
    }

    pub(crate) fn publish(&mut self, a: u8, b: u8, c: u8) {
        let assets = if c.is_multiple_of(3) {
            vec![asset_id(c / 3)]
        } else {
            vec![]
        };
        let states: Vec<_> = assets
            .iter()
            .map(|asset| self.state(&StreamKey::asset(*asset)))
            .collect();
        let wanted = PostPublished {
            post: post_id(b),
            author: user(a),
            text: format!("Hola #gato y #perro{}", c % 3).into(),
            place: c.is_multiple_of(5).then(|| "Cádiz".into()),
            location: c
                .is_multiple_of(2)
                .then(|| format!("36.{},-4.4", 720 + u32::from(b)).into()),
            language: Some("es".to_owned()),
            assets,
            visibility: VISIBILITIES[usize::from(c % 4)],
        };
        self.decide(&StreamKey::post(post_id(b)), |state| {
            post::publish(state, wanted, &states)
        });
    }

    pub(crate) fn follow(&mut self, a: u8, b: u8) {
        self.actor = user(a);
        let target = self.state(&StreamKey::user(user(b)));
        self.decide(
            &StreamKey::follow(user(a), user(b)),
            |state: &follow::FollowState| follow::follow(*state, user(a), user(b), &target),
        );
    }

    /// Lets a follower in, or not.
    pub(crate) fn answer(&mut self, a: u8, b: u8, welcome: bool) {
        self.actor = user(b);
        self.decide(
            &StreamKey::follow(user(a), user(b)),
            |state: &follow::FollowState| follow::answer(*state, user(a), user(b), welcome),
        );
    }

    /// Chooses of which two kinds to be told.
    pub(crate) fn prefer(&mut self, a: u8, b: u8, c: u8) {
        let kind = |n: u8| NoticeKind::ALL[usize::from(n) % NoticeKind::ALL.len()];
        let wanted = [
            (kind(b), c.is_multiple_of(2)),
            (kind(c), c.is_multiple_of(3)),
        ]
        .into();
        self.decide(&StreamKey::user(user(a)), |state| {
            user::set_preferences(state, user(a), &wanted)
        });
    }

    pub(crate) fn upload(&mut self, a: u8, b: u8) {
        let (asset, owner) = (asset_id(b), user(a));
        let key = StreamKey::asset(asset);
        let wanted = UploadRequested {
            asset,
            owner,
            file_name: "vacaciones.mp4".into(),
            media_type: "video/mp4".to_owned(),
            bytes: 10,
            sha256: "aa".to_owned(),
            storage_key: "in".to_owned(),
            expires_at: DateTime::UNIX_EPOCH,
        };
        self.decide(&key, |state| asset::request_upload(state, wanted));
        let completed = UploadCompleted {
            asset,
            owner,
            storage_key: "in".to_owned(),
            bytes: 10,
            sha256: "aa".to_owned(),
            etag: None,
            media_type: "video/mp4".to_owned(),
            profiles: vec!["fast@1".to_owned()],
        };
        self.decide(&key, |state| {
            asset::complete_upload(state, completed, chrono::DateTime::UNIX_EPOCH)
        });
    }

    /// Ends the asset's job, well or badly, or deletes the asset.
    pub(crate) fn render(&mut self, b: u8, c: u8) {
        let asset = asset_id(b);
        let key = StreamKey::asset(asset);
        let state: asset::AssetState = self.state(&key);
        let Some(owner) = state.owner else {
            return;
        };
        if c % 4 == 3 {
            return self.decide(&key, |state| asset::delete(state, asset, owner));
        }
        let open = state.jobs.iter().find(|(_, job)| job.outcome.is_none());
        let Some(job) = open.map(|(job, _)| *job) else {
            return self.decide(&key, |state| {
                asset::request_rendition(state, asset, owner, "fast@1")
            });
        };
        let made = vec![made(asset, job, c)];
        self.decide(&key, |state| {
            asset::finish_job(
                state,
                asset,
                job,
                asset::Rendered {
                    made,
                    ..Default::default()
                },
            )
        });
    }

    fn comment(&mut self, a: u8, b: u8, c: u8) {
        let comment = comment_id(c);
        let known: comment::CommentState = self.state(&StreamKey::comment(comment, post_id(b)));
        let post = known.post.unwrap_or(post_id(b));
        let (key, on) = (
            StreamKey::comment(comment, post),
            self.state(&StreamKey::post(post)),
        );
        if c.is_multiple_of(3) {
            return self.decide(&key, |state| comment::delete(state, comment, user(a), &on));
        }
        let text = format!("comment {a}");
        let edit = CommentEdited {
            comment,
            post,
            author: user(a),
            text: text.clone().into(),
        };
        self.decide(&key, |state| comment::edit(state, edit));
        let parent = comment_id(c.wrapping_add(b));
        let parents = self.state(&StreamKey::comment(parent, post));
        let answers = comment::CommentState::place(&parents).is_ok_and(|(_, on)| on == post);
        let add = CommentAdded {
            comment,
            post,
            author: user(a),
            text: text.into(),
            parent: answers.then_some(parent),
        };
        let parents = answers.then_some(&parents);
        self.decide(&key, |state| comment::add(state, add, &on, parents));
    }

    fn react(&mut self, a: u8, b: u8, c: u8) {
        let kind = reaction::KINDS[usize::from(c % 3)].to_owned();
        let Some((post, comment, on)) = self.target(b, c) else {
            return;
        };
        let wanted = ReactionAdded {
            post,
            comment,
            user: user(a),
            kind,
        };
        let (key, there) = match comment {
            None => (
                StreamKey::post_reaction(post, user(a)),
                self.state::<post::PostState>(&on).author().map(drop),
            ),
            Some(comment) => (
                StreamKey::comment_reaction(comment, post, user(a)),
                self.state::<comment::CommentState>(&on).place().map(drop),
            ),
        };
        if c.is_multiple_of(4) {
            self.decide(&key, |state| reaction::unreact(state, &wanted));
        } else {
            self.decide(&key, |state| reaction::react(state, wanted, there));
        }
    }

    fn share(&mut self, a: u8, b: u8, c: u8) {
        let (post, user) = (post_id(b), user(a));
        let state: post::PostState = self.state(&StreamKey::post(post));
        self.decide(&StreamKey::views(post), |_: &share::ShareState| {
            share::count_views(&state, post, u32::from(c))
        });
        self.decide(
            &StreamKey::share(post, user),
            |shared: &share::ShareState| {
                share::share(*shared, post, user, state.author().map(drop))
            },
        );
    }

    /// A post, or a comment that is there, and its stream.
    fn target(&self, b: u8, c: u8) -> Option<(PostId, Option<CommentId>, StreamKey)> {
        if !c.is_multiple_of(5) {
            let post = post_id(b);
            return Some((post, None, StreamKey::post(post)));
        }
        let comment = comment_id(b);
        let key = StreamKey::comment(comment, post_id(b));
        let post = self.state::<comment::CommentState>(&key).post?;
        Some((post, Some(comment), StreamKey::comment(comment, post)))
    }

    pub(crate) fn pair(&mut self, a: u8, b: u8, c: u8) {
        let (from, to) = (user(a), user(b));
        let target = self.state(&StreamKey::user(to));
        self.decide(&StreamKey::pair_match(from, to), |state| match c % 5 {
            0 => pairing::end(state, from, to),
            1 => pairing::pass(state, from, to, &target),
            2 => pairing::like(state, from, to, LikeKind::Super, &target),
            _ => pairing::like(state, from, to, LikeKind::Like, &target),
        });
    }
}

fn number(count: usize) -> i64 {
    i64::try_from(count).expect("histories are short")
}

fn edited(a: u8, b: u8, c: u8) -> PostEdited {
    PostEdited {
        post: post_id(b),
        author: user(a),
        text: c
            .is_multiple_of(2)
            .then(|| format!("Adiós #gato{}", c % 3).into()),
        place: None,
        language: None,
        visibility: Some(VISIBILITIES[usize::from(c / 2 % 4)]),
    }
}

fn profile(a: u8, b: u8, c: u8) -> ProfileUpdated {
    ProfileUpdated {
        user: user(a),
        name: b.is_multiple_of(2).then(|| format!("Ana {b}").into()),
        bio: b.is_multiple_of(3).then(|| "La de los gatos".into()),
        place: c.is_multiple_of(5).then(|| "Cádiz, España".into()),
        language: c.is_multiple_of(3).then(|| "es".to_owned()),
        private: Some(c.is_multiple_of(4)),
    }
}

fn made(asset: AssetId, job: JobId, c: u8) -> RenditionCompleted {
    RenditionCompleted {
        asset,
        job,
        profile: "fast@1".to_owned(),
        name: "poster.jpg".to_owned(),
        storage_key: "out".to_owned(),
        media_type: "image/jpeg".to_owned(),
        bytes: 1 + u64::from(c),
        sha256: "bb".to_owned(),
        width: Some(640),
        height: Some(360),
        duration_ms: None,
        cpu_ms: c.is_multiple_of(2).then_some(c.into()),
    }
}
