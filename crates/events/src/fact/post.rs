//! Facts of a post, of the comments and reactions under it, and of what moderators do to them. Subject: `post-<id>`, so they keep their order.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::{AssetId, CommentId, PostId, UserId};
use crate::seal::Personal;

/// Who may see a post besides its author.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Visibility {
    /// Everybody in the tenant.
    #[default]
    Public,
    /// The author's followers.
    Followers,
    /// Those who follow the author and whom the author follows.
    Mutuals,
    /// Nobody else.
    Private,
}

impl Visibility {
    /// As written in facts and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Followers => "followers",
            Self::Mutuals => "mutuals",
            Self::Private => "private",
        }
    }
}

/// A place on Earth (WGS 84), written as `36.72130,-4.42140`: degrees of latitude and longitude, to a metre.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Location {
    /// Degrees north, −90 to 90.
    pub latitude: f64,
    /// Degrees east, −180 to 180.
    pub longitude: f64,
}

impl Location {
    /// A location, if there is such a one.
    pub fn new(latitude: f64, longitude: f64) -> Option<Self> {
        let is_there = latitude.abs() <= 90.0 && longitude.abs() <= 180.0;
        is_there.then_some(Self {
            latitude,
            longitude,
        })
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.5},{:.5}", self.latitude, self.longitude)
    }
}

/// A text is no location.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no location: degrees of latitude and longitude are, such as 36.72130,-4.42140")]
pub struct NoLocation;

impl FromStr for Location {
    type Err = NoLocation;

    fn from_str(text: &str) -> Result<Self, NoLocation> {
        let (latitude, longitude) = text.split_once(',').ok_or(NoLocation)?;
        let degrees = |text: &str| text.trim().parse().map_err(|_| NoLocation);
        Self::new(degrees(latitude)?, degrees(longitude)?).ok_or(NoLocation)
    }
}

/// Someone published a post.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PostPublished {
    /// The post.
    pub post: PostId,
    /// Who wrote it.
    pub author: UserId,
    /// What it says.
    pub text: Personal,
    /// Where it was written, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Personal>,
    /// Where it was written, as a [`Location`] is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Personal>,
    /// The text's language as the author says, BCP 47.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// The media it shows, in order.
    pub assets: Vec<AssetId>,
    /// Who may see it.
    pub visibility: Visibility,
}

/// The author changed the post; a field left out stays as it was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PostEdited {
    /// The post.
    pub post: PostId,
    /// Its author.
    pub author: UserId,
    /// What it says now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<Personal>,
    /// Where it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Personal>,
    /// The text's language.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// Who may see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visibility: Option<Visibility>,
}

/// The author took the post away.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PostDeleted {
    /// The post.
    pub post: PostId,
    /// Its author.
    pub author: UserId,
}

/// Someone commented on a post.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CommentAdded {
    /// The comment.
    pub comment: CommentId,
    /// The post it is on.
    pub post: PostId,
    /// Who wrote it.
    pub author: UserId,
    /// What it says.
    pub text: Personal,
    /// The comment it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<CommentId>,
}

/// The author changed the comment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CommentEdited {
    /// The comment.
    pub comment: CommentId,
    /// The post it is on.
    pub post: PostId,
    /// Its author.
    pub author: UserId,
    /// What it says now.
    pub text: Personal,
}

/// The comment's author, or the post's, took the comment away.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CommentDeleted {
    /// The comment.
    pub comment: CommentId,
    /// The post it was on.
    pub post: PostId,
}

/// Someone reacted to a post, or to a comment on it; one reaction per user and target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReactionAdded {
    /// The post.
    pub post: PostId,
    /// The comment on it, when the reaction is to that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<CommentId>,
    /// Who reacted.
    pub user: UserId,
    /// The kind, e.g. `like`.
    pub kind: String,
}

/// Someone took a reaction back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReactionRemoved {
    /// The post.
    pub post: PostId,
    /// The comment on it, when the reaction was to that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<CommentId>,
    /// Whose reaction.
    pub user: UserId,
    /// The kind that was taken back.
    pub kind: String,
}

/// Someone passed a post on; once per user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PostShared {
    /// The post.
    pub post: PostId,
    /// Who passed it on.
    pub user: UserId,
}

/// A post was looked at so many times more. Counted together, and lost when the process that counts is killed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ViewCounted {
    /// The post.
    pub post: PostId,
    /// How many times.
    pub views: u32,
}

/// Why something should not be seen. More may be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// Advertising, fraud, the same again and again.
    Spam,
    /// Someone is bullied or threatened.
    Harassment,
    /// People are despised for what they are.
    Hate,
    /// Cruelty, or a call for it.
    Violence,
    /// Sexual, where it does not belong.
    Sexual,
    /// Against the law.
    Illegal,
    /// Something else; a text may say what.
    Other,
}

impl Reason {
    /// As written in facts and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Spam => "spam",
            Self::Harassment => "harassment",
            Self::Hate => "hate",
            Self::Violence => "violence",
            Self::Sexual => "sexual",
            Self::Illegal => "illegal",
            Self::Other => "other",
        }
    }
}

/// Someone asked moderators to look at a post, or at a comment on it; once per user and target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReportFiled {
    /// The post.
    pub post: PostId,
    /// The comment on it, when the report is of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<CommentId>,
    /// Who reports.
    pub reporter: UserId,
    /// What is wrong with it.
    pub reason: Reason,
    /// The same in the reporter's own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<Personal>,
}

/// A moderator took a post, or a comment on it, out of everybody's sight but its author's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ContentHidden {
    /// The post.
    pub post: PostId,
    /// The comment on it, when that is hidden.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<CommentId>,
    /// The moderator.
    pub by: UserId,
    /// Why.
    pub reason: Reason,
}

/// A moderator found a post, or a comment on it, to be fine: it is seen again, or goes on being seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ContentRestored {
    /// The post.
    pub post: PostId,
    /// The comment on it, when it is about that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<CommentId>,
    /// The moderator.
    pub by: UserId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_written_and_read() {
        let malaga = Location::new(36.721_3, -4.421_4).unwrap();
        assert_eq!(malaga.to_string(), "36.72130,-4.42140");
        assert_eq!("36.72130,-4.42140".parse(), Ok(malaga));
        for text in ["", "1", "91,0", "0,181", "NaN,0", "a,b", "1,2,3"] {
            assert_eq!(text.parse::<Location>(), Err(NoLocation), "{text}");
        }
    }
}
