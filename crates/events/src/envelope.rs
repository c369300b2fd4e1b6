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
