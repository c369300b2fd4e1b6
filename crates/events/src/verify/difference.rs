//! What may be found.

use crate::id::{Lane, Position};

/// The most differences that are kept one by one; more are counted.
const MOST: usize = 100;

/// Something that should not be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Difference {
    /// Positions are not dense.
    #[error("Postgres lacks position {0}")]
    Missing(Position),
    /// Times go back.
    #[error("position {0} was recorded earlier than the one before it")]
    TimeWentBack(Position),
    /// The lane is not the subject's.
    #[error("position {position} is in lane {found} and its subject belongs in lane {wanted}")]
    WrongLane {
        /// Where in the log.
        position: Position,
        /// The lane stored.
        found: Lane,
        /// The lane that the subject picks.
        wanted: Lane,
    },
    /// A stored fact is not what its type says.
    #[error("position {position} does not read: {reason}")]
    Unreadable {
        /// Where in the log.
        position: Position,
        /// Why.
        reason: String,
    },
    /// Versions of a stream are not 1, 2, 3… along positions.
    #[error(
        "stream {stream} of tenant {tenant}: version {found} at position {position}, where {wanted} is due"
    )]
    Version {
        /// Whose.
        tenant: uuid::Uuid,
        /// Which.
        stream: String,
        /// Where in the log.
        position: Position,
        /// The version stored.
        found: i64,
        /// The version that would be dense.
        wanted: i64,
    },
    /// A stream's row says something else than its facts.
    #[error("stream {stream} of tenant {tenant}: its row's {what} is not what its facts say")]
    Row {
        /// Whose.
        tenant: uuid::Uuid,
        /// Which.
        stream: String,
        /// The column.
        what: &'static str,
    },
    /// The topic does not hold a fact that the relay says it has written.
    #[error("lane {lane} of the topic lacks position {position}")]
    NotInTopic {
        /// The lane.
        lane: Lane,
        /// The fact.
        position: Position,
    },
    /// The topic holds a fact more than once.
    #[error(
        "lane {lane} of the topic holds position {position} {times} times, last at offset {offset}"
    )]
    Doubled {
        /// The lane.
        lane: Lane,
        /// The fact.
        position: Position,
        /// How often.
        times: usize,
        /// The last of its offsets.
        offset: i64,
    },
    /// The topic holds another fact, or the same one changed.
    #[error(
        "lane {lane} of the topic, offset {offset}: position {position} is not what Postgres holds"
    )]
    Altered {
        /// The lane.
        lane: Lane,
        /// The fact.
        position: Position,
        /// Where in the lane.
        offset: i64,
    },
    /// The topic holds a fact that Postgres does not have in that lane.
    #[error(
        "lane {lane} of the topic, offset {offset}: Postgres has no position {position} in this lane"
    )]
    NotInPostgres {
        /// The lane.
        lane: Lane,
        /// The position that the record names.
        position: Position,
        /// Where in the lane.
        offset: i64,
    },
    /// A lane of the topic is not in the order of positions.
    #[error(
        "lane {lane} of the topic, offset {offset}: position {position} comes after a later one"
    )]
    Reordered {
        /// The lane.
        lane: Lane,
        /// The fact.
        position: Position,
        /// Where in the lane.
        offset: i64,
    },
    /// A record is no fact of this log.
    #[error("lane {lane} of the topic, offset {offset}: {reason}")]
    Foreign {
        /// The lane.
        lane: Lane,
        /// Where in the lane.
        offset: i64,
        /// What it is.
        reason: String,
    },
    /// The log does not begin where the archive ends.
    #[error(
        "the log begins at position {floor}, and the last fact that was archived is {archived}"
    )]
    Floor {
        /// The lowest position that the log says it has.
        floor: Position,
        /// The last one that left it.
        archived: Position,
    },
    /// A subscription has taken in what the log does not hold.
    #[error(
        "subscription {subscription} has taken in position {position} in lane {lane}, and the log holds no such fact"
    )]
    Ahead {
        /// The subscription.
        subscription: String,
        /// The lane.
        lane: i16,
        /// How far it has come.
        position: Position,
    },
    /// The topic and the log do not belong together.
    #[error("the topic: {0}")]
    Topic(String),
}

/// Differences: the first hundred one by one, the rest counted.
#[derive(Debug, Default)]
pub struct Differences {
    /// The first ones.
    pub first: Vec<Difference>,
    /// How many there are in all.
    pub count: u64,
}

impl Differences {
    /// One more.
    pub(super) fn add(&mut self, difference: Difference) {
        self.count += 1;
        if self.first.len() < MOST {
            self.first.push(difference);
        }
    }

    /// Those that were found elsewhere.
    pub(super) fn append(&mut self, other: Self) {
        let untold = other.count - other.first.len() as u64;
        for difference in other.first {
            self.add(difference);
        }
        self.count += untold;
    }
}
