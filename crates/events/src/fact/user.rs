//! Facts of a user. Stream and subject: `user-<id>`.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::post::Reason;
use crate::id::UserId;
use crate::seal::Personal;

/// A user acted for the first time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UserRegistered {
    /// The user: UUIDv5(issuer, account).
    pub user: UserId,
    /// Who vouches for the user.
    pub issuer: String,
    /// What the issuer calls the user.
    pub account: Personal,
}

/// The user changed the profile; a field left out stays as it was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProfileUpdated {
    /// The user.
    pub user: UserId,
    /// The name shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Personal>,
    /// A few words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bio: Option<Personal>,
    /// Where the user is, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Personal>,
    /// Preferred language, BCP 47, e.g. `es`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// Whether followers must be let in one by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private: Option<bool>,
}

/// What users are told of that others did.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum NoticeKind {
    /// A comment on one's post.
    Comment,
    /// An answer to one's comment.
    Reply,
    /// A reaction to one's post or comment.
    Reaction,
    /// A new follower.
    Follow,
    /// Someone asks to follow.
    FollowRequest,
    /// One was let in as a follower.
    FollowAccepted,
    /// A match.
    Match,
    /// A like that one is told of.
    SuperLike,
}

impl NoticeKind {
    /// All kinds.
    pub const ALL: [Self; 8] = [
        Self::Comment,
        Self::Reply,
        Self::Reaction,
        Self::Follow,
        Self::FollowRequest,
        Self::FollowAccepted,
        Self::Match,
        Self::SuperLike,
    ];
}

/// The user chose whether to be told of something. Until then users are told of everything.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PreferenceSet {
    /// The user.
    pub user: UserId,
    /// Of what.
    pub kind: NoticeKind,
    /// Whether.
    pub on: bool,
}

/// A moderator took from a user the right to change anything, and the user's posts from others' sight; anew, when the user
/// was suspended before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AccountSuspended {
    /// The user.
    pub user: UserId,
    /// The moderator.
    pub by: UserId,
    /// Until when; none: until it is lifted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
    /// Why.
    pub reason: Reason,
}

/// A moderator lifted a suspension.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AccountRestored {
    /// The user.
    pub user: UserId,
    /// The moderator.
    pub by: UserId,
}

/// The person asked to be forgotten: the key is destroyed, and every personal field under it is unreadable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UserErased {
    /// The user.
    pub user: UserId,
}
