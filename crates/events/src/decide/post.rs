//! Posts.

use serde::{Deserialize, Serialize};

use super::asset::AssetState;
use super::{Decision, Refusal, State};
use crate::fact::Fact;
use crate::fact::post::{PostDeleted, PostEdited, PostPublished, Visibility};
use crate::id::{AssetId, EventId, PostId, UserId};

/// What deciding about a post, its comments and its reactions needs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PostState {
    /// Who wrote it; none: it was never published.
    pub author: Option<UserId>,
    /// Whether it was taken away.
    pub deleted: bool,
    /// Who may see it.
    pub visibility: Visibility,
    /// Whether a moderator hid it. Left out while it is not so: older states do not know it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub hidden: bool,
    /// What it shows. Left out where that is nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub assets: Vec<AssetId>,
}

impl PostState {
    /// The author of a post that is there.
    pub fn author(&self) -> Result<UserId, Refusal> {
        match self.author {
            Some(author) if !self.deleted => Ok(author),
            _ => Err(Refusal::NotFound("post")),
        }
    }

    /// Whether a moderator hid the post, which is there.
    pub fn is_hidden(&self) -> Result<bool, Refusal> {
        self.author().map(|_| self.hidden)
    }

    fn of(&self, actor: UserId) -> Result<(), Refusal> {
        match self.author()? {
            author if author == actor => Ok(()),
            _ => Err(Refusal::Forbidden("only its author may change a post")),
        }
    }
}

impl State for PostState {
    fn fold(&mut self, _: EventId, fact: &Fact) {
        match fact {
            Fact::PostPublished(post) => {
                *self = Self {
                    author: Some(post.author),
                    deleted: false,
                    visibility: post.visibility,
                    hidden: false,
                    assets: post.assets.clone(),
                }
            }
            Fact::PostEdited(edit) => self.visibility = edit.visibility.unwrap_or(self.visibility),
            Fact::PostDeleted(_) => self.deleted = true,
            Fact::ContentHidden(_) => self.hidden = true,
            Fact::ContentRestored(_) => self.hidden = false,
            _ => {}
        }
    }
}

/// Publishes a post whose `assets` are, in order, those of `post.assets`; all must be the author's own.
pub fn publish(state: &PostState, post: PostPublished, assets: &[AssetState]) -> Decision {
    if state.author.is_some() {
        return Err(Refusal::WrongState("this post was published already"));
    }
    if post.assets.is_empty() && post.text.text().is_none_or(|text| text.trim().is_empty()) {
        return Err(Refusal::Invalid {
            field: "/text",
            reason: "a post needs a text or an asset",
        });
    }
    if !assets.iter().all(|asset| asset.usable_by(post.author)) {
        return Err(Refusal::NotFound("asset"));
    }
    Ok(vec![post.into()])
}

/// Changes the fields that are there.
pub fn edit(state: &PostState, edit: PostEdited) -> Decision {
    state.of(edit.author)?;
    let nothing = edit.text.is_none() && edit.place.is_none() && edit.language.is_none();
    if nothing && edit.visibility.is_none_or(|v| v == state.visibility) {
        return Ok(vec![]);
    }
    Ok(vec![edit.into()])
}

/// Takes the post away; taking it away twice is taking it away.
pub fn delete(state: &PostState, post: PostId, actor: UserId) -> Decision {
    if state.deleted && state.author == Some(actor) {
        return Ok(vec![]);
    }
    state.of(actor)?;
    Ok(vec![
        PostDeleted {
            post,
            author: actor,
        }
        .into(),
    ])
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::testing::given;
    use super::*;
    use crate::fact::asset::UploadCompleted;
    use uuid::Uuid;

    pub(in crate::decide) fn user(n: u128) -> UserId {
        UserId(Uuid::from_u128(n))
    }

    pub(in crate::decide) fn published(assets: Vec<AssetId>) -> PostPublished {
        let (text, visibility) = ("Hola".into(), Visibility::Public);
        PostPublished {
            post: PostId(Uuid::from_u128(9)),
            author: user(1),
            text,
            place: None,
            location: None,
            language: None,
            assets,
            visibility,
        }
    }

    fn asset_of(owner: UserId) -> AssetState {
        let asset = AssetId(Uuid::from_u128(5));
        let mut state = AssetState::default();
        let completed = UploadCompleted {
            asset,
            owner,
            storage_key: String::new(),
            bytes: 1,
            sha256: String::new(),
            etag: None,
            media_type: "video/mp4".to_owned(),
            profiles: vec![],
        };
        state.fold(EventId(Uuid::nil()), &completed.into());
        state
    }

    #[test]
    fn an_own_asset_may_be_posted_and_a_strangers_is_not_there() {
        let post = published(vec![AssetId(Uuid::from_u128(5))]);
        given::<PostState>([])
            .when(|s| publish(s, post.clone(), &[asset_of(user(1))]))
            .then([post.clone().into()]);
        given::<PostState>([])
            .when(|s| publish(s, post.clone(), &[asset_of(user(2))]))
            .refused(Refusal::NotFound("asset"));
        given::<PostState>([])
            .when(|s| publish(s, post, &[AssetState::default()]))
            .refused(Refusal::NotFound("asset"));
    }

    #[test]
    fn an_empty_post_is_refused() {
        let post = PostPublished {
            text: "  ".into(),
            ..published(vec![])
        };
        let refusal = Refusal::Invalid {
            field: "/text",
            reason: "a post needs a text or an asset",
        };
        given::<PostState>([])
            .when(|s| publish(s, post, &[]))
            .refused(refusal);
    }

    #[test]
    fn only_the_author_deletes_and_twice_is_once() {
        let post = published(vec![]);
        let gone = PostDeleted {
            post: post.post,
            author: user(1),
        };
        given::<PostState>([post.clone().into()])
            .when(|s| delete(s, post.post, user(1)))
            .then([gone.clone().into()]);
        given::<PostState>([post.clone().into(), gone.into()])
            .when(|s| delete(s, post.post, user(1)))
            .then([]);
        given::<PostState>([post.clone().into()])
            .when(|s| delete(s, post.post, user(2)))
            .refused(Refusal::Forbidden("only its author may change a post"));
    }
}
