//! Names of things. Swapped strings compile; swapped types do not.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

macro_rules! uuid_ids {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema, sqlx::Type)]
        #[serde(transparent)]
        #[sqlx(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    )*};
}

uuid_ids! {
    /// A workspace, a brand, a company: the widest wall between data.
    TenantId
    /// A person or a machine that acts.
    UserId
    /// An uploaded media file and all made from it; the upload's id too.
    AssetId
    /// A post.
    PostId
    /// A comment on a post.
    CommentId
    /// One (asset, profile) to render.
    JobId
    /// One fact; version 7, so ordered roughly by time.
    EventId
}

impl UserId {
    /// The user that `issuer` calls `subject`: a `UUIDv5`, so that nobody needs to look it up.
    pub fn of(issuer: &str, subject: &str) -> Self {
        let realm = Uuid::new_v5(&Uuid::NAMESPACE_URL, issuer.as_bytes());
        Self(Uuid::new_v5(&realm, subject.as_bytes()))
    }
}

impl JobId {
    /// The job that the fact `asked_by` asks for, known before the job is.
    pub fn of(asked_by: EventId, profile: &str) -> Self {
        Self(Uuid::new_v5(&asked_by.0, profile.as_bytes()))
    }
}

/// A fact's place in the whole log: dense, from 1, in commit order. 0 is "before the first".
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
    sqlx::Type,
)]
#[serde(transparent)]
#[sqlx(transparent)]
pub struct Position(pub i64);

impl Position {
    /// Before the first fact.
    pub const START: Self = Self(0);
    /// After every fact: no log comes so far, and sums of two such numbers are numbers.
    pub const END: Self = Self(i64::MAX / 2);

    /// The place after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Number of lanes, and of Kafka partitions. It can never change: lanes are stored.
pub const LANES: u8 = 64;

/// One of the ordered sub-logs.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct Lane(u8);

impl Lane {
    /// The lane of a subject: the first 8 bytes of SHA-256(tenant ‖ 0x00 ‖ subject), big-endian, modulo 64, over the
    /// tenant's lower-case UUID text and the subject's UTF-8 text. Test vectors: `schemas/lanes.json`.
    pub fn of(tenant: TenantId, subject: &str) -> Self {
        let digest = Sha256::new()
            .chain_update(tenant.to_string())
            .chain_update([0])
            .chain_update(subject)
            .finalize();
        // 64 divides 256: of eight big-endian bytes modulo 64, the last one tells.
        Self(digest[7] % LANES)
    }

    /// The lane with this number; none beyond the last.
    pub fn new(number: i32) -> Option<Self> {
        u8::try_from(number).ok().filter(|n| *n < LANES).map(Self)
    }

    /// Every lane.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..LANES).map(Self)
    }

    /// Its number, 0 to 63; the Kafka partition.
    pub fn number(self) -> i16 {
        i16::from(self.0)
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The facts of one thing, and the subject whose lane they travel in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamKey {
    /// E.g. `post-<uuid>`.
    pub stream: String,
    /// What people look at, e.g. the post that a comment is on.
    pub subject: String,
}

impl StreamKey {
    fn own(stream: String) -> Self {
        Self {
            subject: stream.clone(),
            stream,
        }
    }

    /// An asset's stream.
    pub fn asset(asset: AssetId) -> Self {
        Self::own(format!("asset-{asset}"))
    }

    /// A user's stream.
    pub fn user(user: UserId) -> Self {
        Self::own(format!("user-{user}"))
    }

    /// A post's stream.
    pub fn post(post: PostId) -> Self {
        Self::own(format!("post-{post}"))
    }

    /// A comment's stream, in its post's lane.
    pub fn comment(comment: CommentId, post: PostId) -> Self {
        Self {
            stream: format!("comment-{comment}"),
            subject: format!("post-{post}"),
        }
    }

    /// What `user` feels about a post.
    pub fn post_reaction(post: PostId, user: UserId) -> Self {
        Self {
            stream: format!("reaction-{post}-{user}"),
            subject: format!("post-{post}"),
        }
    }

    /// Whether `user` passed a post on, in its lane.
    pub fn share(post: PostId, user: UserId) -> Self {
        Self {
            stream: format!("share-{post}-{user}"),
            subject: format!("post-{post}"),
        }
    }

    /// How often a post was looked at, in its lane: beside its own stream, which nobody then waits for.
    pub fn views(post: PostId) -> Self {
        Self {
            stream: format!("views-{post}"),
            subject: format!("post-{post}"),
        }
    }

    /// What `user` feels about a comment, in its post's lane.
    pub fn comment_reaction(comment: CommentId, post: PostId, user: UserId) -> Self {
        Self {
            stream: format!("reaction-{comment}-{user}"),
            subject: format!("post-{post}"),
        }
    }

    /// What `user` reports of a post.
    pub fn post_report(post: PostId, user: UserId) -> Self {
        Self {
            stream: format!("report-{post}-{user}"),
            subject: format!("post-{post}"),
        }
    }

    /// What `user` reports of a comment, in its post's lane.
    pub fn comment_report(comment: CommentId, post: PostId, user: UserId) -> Self {
        Self {
            stream: format!("report-{comment}-{user}"),
            subject: format!("post-{post}"),
        }
    }

    /// Whether `follower` follows `followee` (directed), in the pair's lane.
    pub fn follow(follower: UserId, followee: UserId) -> Self {
        Self {
            stream: format!("follow-{follower}-{followee}"),
            subject: pair(follower, followee),
        }
    }

    /// Whether `blocker` has blocked `blocked` (directed), in the pair's lane.
    pub fn block(blocker: UserId, blocked: UserId) -> Self {
        Self {
            stream: format!("block-{blocker}-{blocked}"),
            subject: pair(blocker, blocked),
        }
    }

    /// Whether `muter` has muted `muted` (directed), in the pair's lane.
    pub fn mute(muter: UserId, muted: UserId) -> Self {
        Self {
            stream: format!("mute-{muter}-{muted}"),
            subject: pair(muter, muted),
        }
    }

    /// What two users think of each other: one stream for both sides, so that a mutual match is one append.
    pub fn pair_match(one: UserId, other: UserId) -> Self {
        let (a, b) = (one.min(other), one.max(other));
        Self {
            stream: format!("match-{a}-{b}"),
            subject: pair(a, b),
        }
    }
}

/// The subject that all facts between two users share: ids sorted.
fn pair(one: UserId, other: UserId) -> String {
    format!("pair-{}-{}", one.min(other), one.max(other))
}

/// Who asked for what, so that asking again changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CommandId {
    /// The tenant it acts in.
    pub tenant: TenantId,
    /// Who asks.
    pub actor: UserId,
    /// What kind of thing is asked, e.g. `POST /posts`.
    pub route: String,
    /// The asker's own key (`Idempotency-Key`), or a fresh one.
    pub key: String,
}

impl CommandId {
    /// What the log keeps an acceptance under: the first half of the SHA-256 of tenant, actor, route, NUL and key.
    pub fn hash(&self) -> Uuid {
        let mut hash = Sha256::new();
        hash.update(self.tenant.0);
        hash.update(self.actor.0);
        hash.update(&self.route);
        hash.update([0]);
        hash.update(&self.key);
        let mut half = [0; 16];
        half.copy_from_slice(&hash.finalize()[..16]);
        Uuid::from_bytes(half)
    }

    /// An id for the thing that this command makes: the same for a repeat.
    pub fn derive(&self) -> Uuid {
        let text = format!(
            "{}\n{}\n{}\n{}",
            self.tenant, self.actor, self.route, self.key
        );
        Uuid::new_v5(&Uuid::NAMESPACE_OID, text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_equal_the_published_vectors() {
        let vectors: Vec<serde_json::Value> =
            serde_json::from_str(include_str!("../../../schemas/lanes.json"))
                .expect("schemas/lanes.json is JSON");
        assert!(vectors.len() >= 8);
        for vector in vectors {
            let tenant = vector["tenant"]
                .as_str()
                .expect("tenant")
                .parse()
                .expect("tenant is a UUID");
            let lane = Lane::of(tenant, vector["subject"].as_str().expect("subject"));
            assert_eq!(i64::from(lane.number()), vector["lane"], "{vector}");
        }
    }

    #[test]
    fn both_directions_of_a_pair_share_a_lane() {
        let (a, b) = (UserId::of("x", "a"), UserId::of("x", "b"));
        for directed in [StreamKey::follow, StreamKey::block, StreamKey::mute] {
            assert_eq!(directed(a, b).subject, directed(b, a).subject);
            assert_ne!(directed(a, b).stream, directed(b, a).stream);
        }
        assert_eq!(StreamKey::pair_match(a, b), StreamKey::pair_match(b, a));
    }

    #[test]
    fn a_user_is_who_the_issuer_says() {
        assert_eq!(UserId::of("cinelog", "ana"), UserId::of("cinelog", "ana"));
        assert_ne!(UserId::of("cinelog", "ana"), UserId::of("elsewhere", "ana"));
    }
}
