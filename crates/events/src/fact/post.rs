//! Facts of a post and of the comments and reactions under it. Subject: `post-<id>`, so they keep their order.

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
