//! What may happen: pure functions from a stream's state and a command to facts, or to a reason why not.
//!
//! A decider returns the facts it wants; an empty list means that nothing needs to change, so asking twice is asking
//! once. States are folded from a stream's own facts, kept beside the stream, and hold no personal fields.

pub mod asset;
pub mod block;
pub mod comment;
pub mod follow;
pub mod moderation;
pub mod pairing;
pub mod post;
pub mod reaction;
pub mod share;
pub mod user;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::fact::Fact;
use crate::id::EventId;

/// What a stream's facts amount to, as far as deciding needs it.
pub trait State: Default + Serialize + DeserializeOwned {
    /// Takes one fact of the stream in. Facts that do not concern the state leave it as it is.
    fn fold(&mut self, event: EventId, fact: &Fact);
}

/// Why a command is refused. The log stays as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such thing, or not any more, or the asker may not know.
    #[error("there is no such {0}")]
    NotFound(&'static str),
    /// The asker may not do this.
    #[error("{0}")]
    Forbidden(&'static str),
    /// The thing is in a state in which this cannot be done.
    #[error("{0}")]
    WrongState(&'static str),
    /// A moderator suspended the asker.
    #[error("this account is suspended")]
    Suspended {
        /// Until when; none: until a moderator lifts it.
        until: Option<DateTime<Utc>>,
    },
    /// What was asked for makes no sense.
    #[error("{field}: {reason}")]
    Invalid {
        /// The part of the command, a JSON pointer.
        field: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// The state that `fact` leads to in `stream`, whose name says of what kind it is. Null is the state before everything.
pub fn fold(
    stream: &str,
    state: Value,
    event: EventId,
    fact: &Fact,
) -> Result<Value, serde_json::Error> {
    match Kind::of(stream) {
        Some(kind) => (kind.fold)(state, event, fact),
        None => Ok(state),
    }
}

/// Whether `stream`'s kept state reads as what its name says.
pub fn check(stream: &str, state: &Value) -> Result<(), serde_json::Error> {
    Kind::of(stream).map_or(Ok(()), |kind| (kind.check)(state))
}

/// What is done with states of a kind.
struct Kind {
    fold: fn(Value, EventId, &Fact) -> Result<Value, serde_json::Error>,
    check: fn(&Value) -> Result<(), serde_json::Error>,
}

impl Kind {
    fn of(stream: &str) -> Option<Self> {
        Some(match stream.split_once('-')?.0 {
            "asset" => Self::with::<asset::AssetState>(),
            "user" => Self::with::<user::UserState>(),
            "post" => Self::with::<post::PostState>(),
            "comment" => Self::with::<comment::CommentState>(),
            "share" => Self::with::<share::ShareState>(),
            "reaction" => Self::with::<reaction::ReactionState>(),
            "report" => Self::with::<moderation::ReportState>(),
            "follow" => Self::with::<follow::FollowState>(),
            "block" => Self::with::<block::BlockState>(),
            "mute" => Self::with::<block::MuteState>(),
            "match" => Self::with::<pairing::PairingState>(),
            _ => return None,
        })
    }

    fn with<S: State>() -> Self {
        Self {
            fold: |state, event, fact| {
                let mut typed: S = if state.is_null() {
                    S::default()
                } else {
                    serde_json::from_value(state)?
                };
                typed.fold(event, fact);
                serde_json::to_value(typed)
            },
            check: |state| S::deserialize(state).map(drop),
        }
    }
}

/// What a decider gives.
pub type Decision = Result<Vec<Fact>, Refusal>;

#[cfg(test)]
pub(crate) mod testing {
    //! `given(facts).when(decider).then(facts)`.

    use super::{Decision, Refusal, State};
    use crate::fact::Fact;
    use crate::id::EventId;
    use uuid::Uuid;

    pub(crate) struct Given<S>(S);

    pub(crate) fn given<S: State>(facts: impl IntoIterator<Item = Fact>) -> Given<S> {
        let mut state = S::default();
        for (n, fact) in facts.into_iter().enumerate() {
            state.fold(EventId(Uuid::from_u128(n as u128 + 1)), &fact);
        }
        // What is folded must survive being kept.
        let kept = serde_json::to_string(&state).unwrap();
        Given(serde_json::from_str(&kept).unwrap())
    }

    impl<S: State> Given<S> {
        pub(crate) fn when(self, decide: impl FnOnce(&S) -> Decision) -> When {
            When(decide(&self.0))
        }
    }

    pub(crate) struct When(Decision);

    impl When {
        #[track_caller]
        pub(crate) fn then(self, facts: impl IntoIterator<Item = Fact>) {
            assert_eq!(self.0, Ok(facts.into_iter().collect()));
        }

        #[track_caller]
        pub(crate) fn refused(self, refusal: Refusal) {
            assert_eq!(self.0, Err(refusal));
        }
    }
}
