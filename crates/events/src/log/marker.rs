//! How far the relay has come, written in the same transaction as the facts.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::envelope::Sealed;
use crate::id::{EventId, Lane, Position};

/// The one key in the compacted topic: only the newest marker counts.
pub(super) const KEY: &str = "marker";

/// The last fact in the topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Marker {
    /// The log it is of.
    pub(super) log_id: Uuid,
    /// Its position: all facts up to here are in the topic, and no later one.
    pub(super) position: Position,
    /// Its id, so that another fact at the same position is told from it.
    pub(super) event_id: EventId,
    /// The partition it is the tail of.
    pub(super) lane: Lane,
}

impl Marker {
    /// The marker after a transaction whose last fact is `fact`.
    pub(super) fn after(log_id: Uuid, fact: &Sealed) -> Self {
        Self {
            log_id,
            position: fact.position,
            event_id: fact.event_id,
            lane: fact.lane,
        }
    }
}
