//! Comments.

use serde::{Deserialize, Serialize};

use super::post::PostState;
use super::{Decision, Refusal, State};
use crate::fact::Fact;
use crate::fact::post::{CommentAdded, CommentDeleted, CommentEdited};
use crate::id::{CommentId, EventId, PostId, UserId};
use crate::seal::Personal;

/// What deciding about a comment needs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CommentState {
    /// Who wrote it; none: it was never added.
    pub author: Option<UserId>,
    /// The post it is on.
    pub post: Option<PostId>,
    /// Whether it was taken away.
    pub deleted: bool,
    /// Whether a moderator hid it. Left out while it is not so: older states do not know it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub hidden: bool,
}

impl CommentState {
    /// Author and post of a comment that is there.
    pub fn place(&self) -> Result<(UserId, PostId), Refusal> {
        match (self.author, self.post) {
            (Some(author), Some(post)) if !self.deleted => Ok((author, post)),
            _ => Err(Refusal::NotFound("comment")),
        }
    }

    /// Whether a moderator hid the comment, which is there.
    pub fn is_hidden(&self) -> Result<bool, Refusal> {
        self.place().map(|_| self.hidden)
    }

    /// The post of a comment that `viewer` can read: a hidden one only its author can.
    pub fn readable_by(&self, viewer: UserId) -> Result<PostId, Refusal> {
        match self.place()? {
            (author, _) if self.hidden && author != viewer => Err(Refusal::NotFound("comment")),
            (_, post) => Ok(post),
        }
    }
}

impl State for CommentState {
    fn fold(&mut self, _: EventId, fact: &Fact) {
        match fact {
            Fact::CommentAdded(added) => {
                *self = Self {
                    author: Some(added.author),
                    post: Some(added.post),
                    deleted: false,
                    hidden: false,
                }
            }
            Fact::CommentDeleted(_) => self.deleted = true,
            Fact::ContentHidden(_) => self.hidden = true,
            Fact::ContentRestored(_) => self.hidden = false,
            _ => {}
        }
    }
}

/// Adds a comment to `post`, perhaps in answer to `parent`, which must be on the same post.
pub fn add(
    state: &CommentState,
    comment: CommentAdded,
    post: &PostState,
    parent: Option<&CommentState>,
) -> Decision {
    if state.author.is_some() {
        return Err(Refusal::WrongState("this comment was added already"));
    }
    post.author()?;
    if let Some(parent) = parent
        && parent.readable_by(comment.author)? != comment.post
    {
        return Err(Refusal::Invalid {
            field: "/parent",
            reason: "the parent is on another post",
        });
    }
    says_something(&comment.text)?;
    Ok(vec![comment.into()])
}

fn says_something(text: &Personal) -> Result<(), Refusal> {
    if text.text().is_none_or(|text| text.trim().is_empty()) {
        return Err(Refusal::Invalid {
            field: "/text",
            reason: "a comment needs a text",
        });
    }
    Ok(())
}

/// Changes a comment's text.
pub fn edit(state: &CommentState, edit: CommentEdited) -> Decision {
    says_something(&edit.text)?;
    match state.place()? {
        (author, post) if author == edit.author && post == edit.post => Ok(vec![edit.into()]),
        _ => Err(Refusal::Forbidden("only its author may change a comment")),
    }
}

/// Takes a comment away: its author may, and the author of the post.
pub fn delete(
    state: &CommentState,
    comment: CommentId,
    actor: UserId,
    post: &PostState,
) -> Decision {
    let may = state.author == Some(actor) || post.author == Some(actor);
    if state.deleted && may {
        return Ok(vec![]);
    }
    let (_, on) = state.place()?;
    if !may {
        return Err(Refusal::Forbidden(
            "only its author or the post's may delete a comment",
        ));
    }
    Ok(vec![CommentDeleted { comment, post: on }.into()])
}

#[cfg(test)]
mod tests {
    use super::super::post::tests::{published, user};
    use super::super::testing::given;
    use super::*;
    use uuid::Uuid;

    fn comment() -> CommentAdded {
        let post = published(vec![]).post;
        CommentAdded {
            comment: CommentId(Uuid::from_u128(4)),
            post,
            author: user(2),
            text: "¡Qué bien!".into(),
            parent: None,
        }
    }

    fn post() -> PostState {
        let mut state = PostState::default();
        state.fold(EventId(Uuid::nil()), &published(vec![]).into());
        state
    }

    #[test]
    fn a_comment_needs_a_post_that_is_there() {
        given::<CommentState>([])
            .when(|s| add(s, comment(), &post(), None))
            .then([comment().into()]);
        given::<CommentState>([])
            .when(|s| add(s, comment(), &PostState::default(), None))
            .refused(Refusal::NotFound("post"));
    }

    #[test]
    fn an_edit_leaves_something_said() {
        let blank = CommentEdited {
            comment: comment().comment,
            post: comment().post,
            author: user(2),
            text: " \n".into(),
        };
        given::<CommentState>([comment().into()])
            .when(|s| edit(s, blank))
            .refused(Refusal::Invalid {
                field: "/text",
                reason: "a comment needs a text",
            });
    }

    #[test]
    fn an_answer_stays_on_its_post() {
        let parent = CommentState {
            author: Some(user(3)),
            post: Some(PostId(Uuid::from_u128(77))),
            ..CommentState::default()
        };
        let refusal = Refusal::Invalid {
            field: "/parent",
            reason: "the parent is on another post",
        };
        given::<CommentState>([])
            .when(|s| add(s, comment(), &post(), Some(&parent)))
            .refused(refusal);
    }

    #[test]
    fn the_posts_author_may_delete_a_strangers_comment() {
        let c = comment();
        let gone = CommentDeleted {
            comment: c.comment,
            post: c.post,
        };
        given::<CommentState>([c.clone().into()])
            .when(|s| delete(s, c.comment, user(1), &post()))
            .then([gone.into()]);
        given::<CommentState>([c.clone().into()])
            .when(|s| delete(s, c.comment, user(3), &post()))
            .refused(Refusal::Forbidden(
                "only its author or the post's may delete a comment",
            ));
    }
}
