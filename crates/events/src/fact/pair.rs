//! Facts between two users. Subject: `pair-<min>-<max>`, so both directions keep their order.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::UserId;

/// Someone asked to follow a private account.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FollowRequested {
    /// Who asks.
    pub follower: UserId,
    /// Who is asked.
    pub followee: UserId,
}

/// Someone follows someone from now on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FollowStarted {
    /// Who follows.
    pub follower: UserId,
    /// Who is followed.
    pub followee: UserId,
}

/// A private account did not let a follower in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FollowDeclined {
    /// Who asked.
    pub follower: UserId,
    /// Who declined.
    pub followee: UserId,
}

/// Someone follows someone no longer; whichever side ended it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FollowEnded {
    /// Who followed.
    pub follower: UserId,
    /// Who was followed.
    pub followee: UserId,
}

/// Someone wants to have nothing to do with someone from now on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BlockStarted {
    /// Who blocks.
    pub blocker: UserId,
    /// Who is blocked.
    pub blocked: UserId,
}

/// Someone blocks someone no longer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BlockEnded {
    /// Who blocked.
    pub blocker: UserId,
    /// Who was blocked.
    pub blocked: UserId,
}

/// Someone does not want someone's posts in the feed from now on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MuteStarted {
    /// Who mutes.
    pub muter: UserId,
    /// Who is muted.
    pub muted: UserId,
}

/// Someone mutes someone no longer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MuteEnded {
    /// Who muted.
    pub muter: UserId,
    /// Who was muted.
    pub muted: UserId,
}

/// How much someone likes someone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LikeKind {
    /// A like.
    #[default]
    Like,
    /// A like that the other side is told of.
    Super,
}

/// Someone would like to match with someone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LikeGiven {
    /// Who likes.
    pub from: UserId,
    /// Who is liked.
    pub to: UserId,
    /// How much.
    pub kind: LikeKind,
}

/// Someone would rather not match with someone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PassGiven {
    /// Who passes.
    pub from: UserId,
    /// Who is passed over.
    pub to: UserId,
}

/// Both like each other. Exactly once, in the append of the second like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MatchMade {
    /// The two, ids sorted.
    pub users: [UserId; 2],
}

/// One of the two ended the match.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MatchEnded {
    /// The two, ids sorted.
    pub users: [UserId; 2],
    /// Who ended it.
    pub by: UserId,
}
