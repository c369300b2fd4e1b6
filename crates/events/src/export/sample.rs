//! A fact to try the formats on.

use chrono::{TimeZone, Utc};
use uuid::Uuid;

use crate::envelope::{Meta, Sealed};
use crate::id::{EventId, Lane, Position, TenantId, UserId};

/// The fact at `position`.
pub(super) fn sample(position: i64) -> Sealed {
    Sealed {
        position: Position(position),
        lane: Lane::new(3).unwrap(),
        tenant: TenantId(Uuid::from_u128(1)),
        stream: "comment-2".to_owned(),
        version: 3,
        subject: "post-1".to_owned(),
        fact_type: "comment.added".to_owned(),
        schema_version: 1,
        payload: format!(r#"{{"n": {position}}}"#),
        meta: Meta {
            actor: UserId(Uuid::from_u128(2)),
            command: "c".to_owned(),
            correlation: None,
            cause: None,
        },
        event_id: EventId(Uuid::from_u128(3)),
        recorded_at: Utc.timestamp_micros(1_700_000_000_000_100).unwrap(),
    }
}
