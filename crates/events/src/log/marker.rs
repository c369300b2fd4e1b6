//! How far the relay has come, written in the same transaction as the facts.

use rdkafka::Message;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::check::Garbled;
use crate::envelope::Sealed;
use crate::id::{EventId, Lane, Position};

/// The one key in the compacted topic: only the newest marker counts.
pub(super) const KEY: &str = "marker";

/// The last fact in the topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Marker {
    /// The log it is of.
    pub(crate) log_id: Uuid,
    /// Its position: all facts up to here are in the topic, and no later one.
    pub(crate) position: Position,
    /// Its id, so that another fact at the same position is told from it.
    pub(crate) event_id: EventId,
    /// The partition it is the tail of.
    pub(crate) lane: Lane,
}

impl Marker {
    /// The marker in a record of the relay's topic.
    pub(super) fn read(record: &impl Message) -> Result<Self, Garbled> {
        serde_json::from_slice(record.payload().unwrap_or_default()).map_err(|_| Garbled)
    }

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
