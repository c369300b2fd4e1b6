//! People who do things at random, through the deciders, as the API would let them.

use chrono::DateTime;
use events::decide::asset::{AssetState, Rendered};
use events::decide::{
    Decision, State, asset, block, comment, follow, pairing, post, reaction, user,
};
use events::fact::asset::{RenditionCompleted, UploadCompleted, UploadRequested};
use events::fact::pair::LikeKind;
use events::fact::post::{
    CommentAdded, CommentEdited, PostEdited, PostPublished, ReactionAdded, Visibility,
};
use events::fact::user::ProfileUpdated;
use events::id::{AssetId, CommandId, CommentId, PostId, StreamKey, TenantId, UserId};
use events::store::{Command, Emit, ExecuteError, Log, Streams};
use uuid::Uuid;

const USERS: u64 = 8;
const POSTS: u64 = 60;
const COMMENTS: u64 = 80;
const ASSETS: u64 = 10;
const VISIBILITIES: [Visibility; 4] = [
    Visibility::Public,
    Visibility::Followers,
    Visibility::Mutuals,
    Visibility::Private,
];

/// A world of few people and things, so that they meet.
pub(crate) struct Life {
    log: Log,
    tenant: TenantId,
    chance: Chance,
    commands: u64,
    /// Whether people say that something was uploaded and rendered. A real transcoder must not hear of it.
    pub(crate) pretends_uploads: bool,
}

impl Life {
    /// All have registered.
    pub(crate) async fn begin(log: Log, seed: u64) -> Self {
        let tenant = log.default_tenant().await.unwrap();
        let mut life = Self {
            log,
            tenant,
            chance: Chance(seed),
            commands: 0,
            pretends_uploads: true,
        };
        for n in 0..USERS {
            life.decide(person(n), &StreamKey::user(person(n)), &[], |state, _| {
                user::register(state, "test", &n.to_string())
            })
            .await;
        }
        life
    }

    pub(crate) fn tenant(&self) -> TenantId {
        self.tenant
    }

    pub(crate) fn people() -> impl Iterator<Item = UserId> {
        (0..USERS).map(person)
    }

    pub(crate) fn chance(&mut self) -> &mut Chance {
        &mut self.chance
    }

    /// Someone tries `count` things.
    pub(crate) async fn go_on(&mut self, count: usize) {
        for _ in 0..count {
            let (what, a, b) = (self.draw(22), person(self.draw(USERS)), self.draw(u64::MAX));
            match what {
                0..5 => self.publish(a, post_id(b)).await,
                5 => self.edit(a, post_id(b)).await,
                6 => {
                    let (key, id) = (StreamKey::post(post_id(b)), post_id(b));
                    self.decide(a, &key, &[], |state, _| post::delete(state, id, a))
                        .await;
                }
                7..10 => self.follow(a, person(b)).await,
                10 => {
                    let b = person(b);
                    let key = StreamKey::follow(a, b);
                    self.decide(a, &key, &[], |state, _| follow::unfollow(*state, a, b))
                        .await;
                }
                11..14 => self.comment(a, post_id(b)).await,
                14..17 => self.react(a, post_id(b)).await,
                17 => self.pair(a, person(b)).await,
                19 if self.pretends_uploads => {
                    self.asset(AssetId(number(0x2000, b % ASSETS))).await;
                }
                20 => self.block(a, person(b)).await,
                21 => self.mute(a, person(b)).await,
                _ => self.profile(a).await,
            }
        }
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.chance.below(below)
    }

    /// Appends what the decider wants of the stream `key`, knowing `others`; what it refuses does not happen.
    async fn decide<S: State>(
        &mut self,
        actor: UserId,
        key: &StreamKey,
        others: &[StreamKey],
        decide: impl Fn(&S, &Streams) -> Decision + Sync,
    ) {
        self.commands += 1;
        let command = Command {
            id: CommandId {
                tenant: self.tenant,
                actor,
                route: "life".to_owned(),
                key: self.commands.to_string(),
            },
            body_hash: [0; 32],
            correlation: None,
            cause: None,
        };
        let streams = [std::slice::from_ref(key), others].concat();
        let done = self
            .log
            .execute(&command, &streams, |streams| {
                Ok(Emit::all(key, decide(&streams.get(key), streams)?))
            })
            .await;
        match done {
            Ok(_) | Err(ExecuteError::Refused(_)) => {}
            Err(error) => panic!("{key:?}: {error}"),
        }
    }

    async fn publish(&mut self, author: UserId, id: PostId) {
        let n = self.draw(ASSETS);
        let assets = match self.draw(4) {
            0 => vec![AssetId(number(0x2000, n))],
            _ => vec![],
        };
        let wanted = PostPublished {
            post: id,
            author,
            text: format!("Hola #gato y #perro{n}").into(),
            place: (n == 0).then(|| "Cádiz".into()),
            location: None,
            language: Some("es".to_owned()),
            assets: assets.clone(),
            visibility: VISIBILITIES[usize::try_from(self.draw(6) / 2).unwrap()],
        };
        let keys: Vec<_> = assets.into_iter().map(StreamKey::asset).collect();
        let key = StreamKey::post(id);
        self.decide(author, &key, &keys, |state, streams| {
            let shown: Vec<AssetState> = keys.iter().map(|key| streams.get(key)).collect();
            post::publish(state, wanted.clone(), &shown)
        })
        .await;
    }

    async fn edit(&mut self, author: UserId, id: PostId) {
        let edit = PostEdited {
            post: id,
            author,
            text: Some(format!("Adiós #gato{}", self.draw(3)).into()),
            place: None,
            language: None,
            visibility: Some(VISIBILITIES[usize::try_from(self.draw(4)).unwrap()]),
        };
        let key = StreamKey::post(id);
        self.decide(author, &key, &[], |state, _| {
            post::edit(state, edit.clone())
        })
        .await;
    }

    async fn follow(&mut self, a: UserId, b: UserId) {
        let (key, target) = (StreamKey::follow(a, b), StreamKey::user(b));
        self.decide(a, &key, std::slice::from_ref(&target), |state, streams| {
            follow::follow(*state, a, b, &streams.get(&target))
        })
        .await;
    }

    async fn comment(&mut self, author: UserId, post: PostId) {
        let comment = CommentId(number(0x3000, self.draw(COMMENTS)));
        let text = format!("¡Qué bien! {}", self.draw(9));
        let (key, on) = (StreamKey::comment(comment, post), StreamKey::post(post));
        let what = self.draw(6);
        self.decide(author, &key, std::slice::from_ref(&on), |state, streams| {
            let text = text.clone().into();
            match what {
                0 => comment::delete(state, comment, author, &streams.get(&on)),
                1 => comment::edit(
                    state,
                    CommentEdited {
                        comment,
                        post,
                        author,
                        text,
                    },
                ),
                _ => {
                    let add = CommentAdded {
                        comment,
                        post,
                        author,
                        text,
                        parent: None,
                    };
                    comment::add(state, add, &streams.get(&on), None)
                }
            }
        })
        .await;
    }

    async fn react(&mut self, user: UserId, post: PostId) {
        let kind = reaction::KINDS[usize::try_from(self.draw(3)).unwrap()].to_owned();
        let (key, on) = (StreamKey::post_reaction(post, user), StreamKey::post(post));
        let wanted = ReactionAdded {
            post,
            comment: None,
            user,
            kind,
        };
        let back = self.draw(4) == 0;
        self.decide(user, &key, std::slice::from_ref(&on), |state, streams| {
            if back {
                return reaction::unreact(state, &wanted);
            }
            let there = streams.get::<post::PostState>(&on).author().map(drop);
            reaction::react(state, wanted.clone(), there)
        })
        .await;
    }

    async fn pair(&mut self, a: UserId, b: UserId) {
        let (key, target) = (StreamKey::pair_match(a, b), StreamKey::user(b));
        let what = self.draw(6);
        self.decide(a, &key, std::slice::from_ref(&target), |state, streams| {
            let target = streams.get(&target);
            match what {
                0 => pairing::end(state, a, b),
                1 => pairing::pass(state, a, b, &target),
                2 => pairing::like(state, a, b, LikeKind::Super, &target),
                _ => pairing::like(state, a, b, LikeKind::Like, &target),
            }
        })
        .await;
    }

    async fn block(&mut self, a: UserId, b: UserId) {
        let (key, target) = (StreamKey::block(a, b), StreamKey::user(b));
        let ends = self.draw(3) == 0;
        self.decide(a, &key, std::slice::from_ref(&target), |state, streams| {
            if ends {
                block::unblock(*state, a, b)
            } else {
                block::block(*state, a, b, &streams.get(&target))
            }
        })
        .await;
    }

    async fn mute(&mut self, a: UserId, b: UserId) {
        let (key, target) = (StreamKey::mute(a, b), StreamKey::user(b));
        let ends = self.draw(3) == 0;
        self.decide(a, &key, std::slice::from_ref(&target), |state, streams| {
            if ends {
                block::unmute(*state, a, b)
            } else {
                block::mute(*state, a, b, &streams.get(&target))
            }
        })
        .await;
    }

    async fn profile(&mut self, user: UserId) {
        let n = self.draw(9);
        let change = ProfileUpdated {
            user,
            name: Some(format!("Ana {n}").into()),
            bio: n.is_multiple_of(2).then(|| "La de los gatos".into()),
            place: None,
            language: Some("es".to_owned()),
            private: Some(n == 0),
        };
        let key = StreamKey::user(user);
        self.decide(user, &key, &[], |state, _| {
            user::update_profile(state, change.clone())
        })
        .await;
    }

    /// Takes an asset a step further: asked for, uploaded, rendered, and once in a while deleted.
    async fn asset(&mut self, asset: AssetId) {
        let (key, owner) = (StreamKey::asset(asset), person(0));
        let doomed = self.draw(8) == 0;
        self.decide(owner, &key, &[], |state: &AssetState, _| {
            match (state.owner, state.jobs.keys().next().copied()) {
                (None, _) => asset::request_upload(state, requested(asset, owner)),
                (Some(_), None) => asset::complete_upload(
                    state,
                    completed(asset, owner),
                    chrono::DateTime::UNIX_EPOCH,
                ),
                (Some(_), Some(_)) if doomed => asset::delete(state, asset, owner),
                (Some(_), Some(job)) => {
                    let made = vec![RenditionCompleted {
                        asset,
                        job,
                        profile: "fast@1".to_owned(),
                        name: "poster.jpg".to_owned(),
                        storage_key: "out".to_owned(),
                        media_type: "image/jpeg".to_owned(),
                        bytes: 1,
                        sha256: "bb".to_owned(),
                        width: Some(640),
                        height: Some(360),
                        duration_ms: None,
                        cpu_ms: None,
                    }];
                    let rendered = Rendered {
                        made,
                        ..Rendered::default()
                    };
                    asset::finish_job(state, asset, job, rendered)
                }
            }
        })
        .await;
    }
}

fn person(n: u64) -> UserId {
    UserId::of("test", &(n % USERS).to_string())
}

fn post_id(n: u64) -> PostId {
    PostId(number(0x1000, n % POSTS))
}

fn number(kind: u128, n: u64) -> Uuid {
    Uuid::from_u128(kind + u128::from(n))
}

fn requested(asset: AssetId, owner: UserId) -> UploadRequested {
    UploadRequested {
        asset,
        owner,
        file_name: "vacaciones.mp4".into(),
        media_type: "video/mp4".to_owned(),
        bytes: 10,
        sha256: "aa".to_owned(),
        storage_key: "in".to_owned(),
        expires_at: DateTime::UNIX_EPOCH,
    }
}

fn completed(asset: AssetId, owner: UserId) -> UploadCompleted {
    UploadCompleted {
        asset,
        owner,
        storage_key: "in".to_owned(),
        bytes: 10,
        sha256: "aa".to_owned(),
        etag: None,
        media_type: "video/mp4".to_owned(),
        profiles: vec!["fast@1".to_owned()],
    }
}

/// Numbers that follow from a seed (splitmix64).
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % limit
    }
}
