//! Passing posts on, and looking at them.

use serde::{Deserialize, Serialize};

use super::post::PostState;
use super::{Decision, Refusal, State};
use crate::fact::Fact;
use crate::fact::post::{PostShared, ViewCounted};
use crate::id::{EventId, PostId, UserId};

/// Whether a user passed a post on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ShareState {
    /// Once is for good.
    pub shared: bool,
}

impl State for ShareState {
    fn fold(&mut self, _: EventId, fact: &Fact) {
        if let Fact::PostShared(_) = fact {
            self.shared = true;
        }
    }
}

/// Passes a post on that is there; a second time changes nothing.
pub fn share(
    state: ShareState,
    post: PostId,
    user: UserId,
    there: Result<(), Refusal>,
) -> Decision {
    there?;
    if state.shared {
        return Ok(vec![]);
    }
    Ok(vec![PostShared { post, user }.into()])
}

/// Counts views of a post; of one that is not there any more they are forgotten.
pub fn count_views(state: &PostState, post: PostId, views: u32) -> Decision {
    if views == 0 || state.author().is_err() {
        return Ok(vec![]);
    }
    Ok(vec![ViewCounted { post, views }.into()])
}

#[cfg(test)]
mod tests {
    use super::super::post::tests::{published, user};
    use super::super::testing::given;
    use super::*;
    use uuid::Uuid;

    #[test]
    fn a_post_is_passed_on_once_per_user_and_only_where_it_is() {
        let post = PostId(Uuid::from_u128(9));
        let shared: Fact = PostShared {
            post,
            user: user(2),
        }
        .into();
        given::<ShareState>([])
            .when(|s| share(*s, post, user(2), Ok(())))
            .then([shared.clone()]);
        given::<ShareState>([shared])
            .when(|s| share(*s, post, user(2), Ok(())))
            .then([]);
        let gone = Refusal::NotFound("post");
        given::<ShareState>([])
            .when(|s| share(*s, post, user(2), Err(gone.clone())))
            .refused(gone.clone());
    }

    #[test]
    fn views_of_what_is_not_there_are_forgotten() {
        let post = PostId(Uuid::from_u128(9));
        given::<PostState>([])
            .when(|s| count_views(s, post, 3))
            .then([]);
        given::<PostState>([published(vec![]).into()])
            .when(|s| count_views(s, post, 3))
            .then([ViewCounted { post, views: 3 }.into()]);
    }
}
