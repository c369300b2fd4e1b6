//! Reactions: one per user and target.

use serde::{Deserialize, Serialize};

use super::{Decision, Refusal, State};
use crate::fact::Fact;
use crate::fact::post::{ReactionAdded, ReactionRemoved};
use crate::id::EventId;

/// The kinds of reaction.
pub const KINDS: [&str; 6] = ["like", "love", "laugh", "wow", "sad", "angry"];

/// What deciding about a reaction needs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReactionState {
    /// The user's reaction to the target, if any.
    pub kind: Option<String>,
}

impl State for ReactionState {
    fn fold(&mut self, _: EventId, fact: &Fact) {
        match fact {
            Fact::ReactionAdded(added) => self.kind = Some(added.kind.clone()),
            Fact::ReactionRemoved(_) => self.kind = None,
            _ => {}
        }
    }
}

/// Reacts to a target that is `there`; another kind replaces the one before.
pub fn react(state: &ReactionState, wanted: ReactionAdded, there: Result<(), Refusal>) -> Decision {
    if !KINDS.contains(&wanted.kind.as_str()) {
        return Err(Refusal::Invalid {
            field: "/kind",
            reason: "is one of like, love, laugh, wow, sad, angry",
        });
    }
    there?;
    let mut facts = match &state.kind {
        Some(kind) if *kind == wanted.kind => return Ok(vec![]),
        Some(kind) => vec![removed(&wanted, kind).into()],
        None => vec![],
    };
    facts.push(wanted.into());
    Ok(facts)
}

/// Takes a reaction of this kind back, if it is there.
pub fn unreact(state: &ReactionState, unwanted: &ReactionAdded) -> Decision {
    match &state.kind {
        Some(kind) if *kind == unwanted.kind => Ok(vec![removed(unwanted, kind).into()]),
        _ => Ok(vec![]),
    }
}

fn removed(target: &ReactionAdded, kind: &str) -> ReactionRemoved {
    ReactionRemoved {
        post: target.post,
        comment: target.comment,
        user: target.user,
        kind: kind.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::post::tests::{published, user};
    use super::super::testing::given;
    use super::*;

    fn like(kind: &str) -> ReactionAdded {
        ReactionAdded {
            post: published(vec![]).post,
            comment: None,
            user: user(2),
            kind: kind.to_owned(),
        }
    }

    #[test]
    fn a_second_like_changes_nothing_and_love_replaces_it() {
        given::<ReactionState>([])
            .when(|s| react(s, like("like"), Ok(())))
            .then([like("like").into()]);
        given::<ReactionState>([like("like").into()])
            .when(|s| react(s, like("like"), Ok(())))
            .then([]);
        given::<ReactionState>([like("like").into()])
            .when(|s| react(s, like("love"), Ok(())))
            .then([removed(&like("like"), "like").into(), like("love").into()]);
    }

    #[test]
    fn only_what_is_there_is_taken_back() {
        given::<ReactionState>([])
            .when(|s| unreact(s, &like("like")))
            .then([]);
        given::<ReactionState>([like("love").into()])
            .when(|s| unreact(s, &like("like")))
            .then([]);
        let gone = removed(&like("like"), "like");
        given::<ReactionState>([like("like").into()])
            .when(|s| unreact(s, &like("like")))
            .then([gone.into()]);
    }

    #[test]
    fn an_unknown_kind_is_refused() {
        let refusal = Refusal::Invalid {
            field: "/kind",
            reason: "is one of like, love, laugh, wow, sad, angry",
        };
        given::<ReactionState>([])
            .when(|s| react(s, like("meh"), Ok(())))
            .refused(refusal);
    }
}
