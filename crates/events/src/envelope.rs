//! A fact as the log keeps it: what happened, and who, when, why and where in the log.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::fact::Fact;
use crate::id::{EventId, Lane, Position, TenantId, UserId};

/// Who did it and why; no personal fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Who acted. Personal fields of the fact are sealed under this person's key.
    pub actor: UserId,
    /// The key of the command that was accepted.
    pub command: String,
    /// Groups everything that came from one request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation: Option<String>,
    /// The fact that led to this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Uuid>,
}

/// A fact as stored: payload text unparsed, personal fields sealed. What travels to Kafka and into exports.
#[derive(Clone, Debug, PartialEq)]
pub struct Sealed {
    /// Place in the whole log.
    pub position: Position,
    /// The sub-log it travels in.
    pub lane: Lane,
    /// Whose data it is.
    pub tenant: TenantId,
    /// The thing it happened to, e.g. `post-<uuid>`.
    pub stream: String,
    /// Place in its stream, from 1.
    pub version: i64,
    /// What people look at; picks the lane.
    pub subject: String,
    /// E.g. `post.published`.
    pub fact_type: String,
    /// Version of the payload's schema.
    pub schema_version: i16,
    /// The payload, JSON text.
    pub payload: String,
    /// Who and why.
    pub meta: Meta,
    /// Its own id.
    pub event_id: EventId,
    /// When it was recorded; never goes back along positions.
    pub recorded_at: DateTime<Utc>,
}

impl Sealed {
    /// What it takes as a record in Kafka: its key, its value, and names and values of its headers, as `log::to_headers`
    /// makes them.
    pub fn encoded_bytes(&self) -> usize {
        /// The names of the headers that are always there, and of the values all that does not depend on the fact.
        const FIXED: usize = 397;
        let digits = |number: i64| number.checked_ilog10().map_or(1, |n| n as usize + 1);
        let schema_version = digits(self.schema_version.into());
        let time = match self.recorded_at.timestamp_subsec_nanos() {
            0 => 20,
            nanos if nanos % 1_000_000 == 0 => 24,
            _ => 27,
        };
        let named = |name: &str, value: Option<usize>| value.map_or(0, |bytes| name.len() + bytes);
        FIXED
            + self.payload.len()
            + 2 * (self.subject.len() + self.fact_type.len() + schema_version)
            + self.stream.len()
            + digits(self.position.0)
            + digits(self.version)
            + time
            + self.meta.command.len()
            + named(
                "ce_correlation",
                self.meta.correlation.as_ref().map(String::len),
            )
            + named("ce_cause", self.meta.cause.map(|_| 36))
    }
}

/// A fact as read: typed, in its newest version, personal fields opened as far as keys still exist.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// Place in the whole log.
    pub position: Position,
    /// The sub-log it travels in.
    pub lane: Lane,
    /// Whose data it is.
    pub tenant: TenantId,
    /// The thing it happened to.
    pub stream: String,
    /// Place in its stream, from 1.
    pub version: i64,
    /// What people look at.
    pub subject: String,
    /// Who and why.
    pub meta: Meta,
    /// Its own id.
    pub event_id: EventId,
    /// When it was recorded.
    pub recorded_at: DateTime<Utc>,
    /// What happened.
    pub fact: Fact,
}
