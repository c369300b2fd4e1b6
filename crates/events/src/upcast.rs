//! Old payloads in today's shape. Every source decodes here and nowhere else.

use serde_json::Value;

use crate::envelope::{Recorded, Sealed};
use crate::fact::{DecodeError, Fact};
use crate::seal::{self, Key, SealError};

/// Why a stored fact cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Its payload is not what its type says.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Its personal fields do not open.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// Decodes, upcasts and opens a stored fact. `key` is the acting person's; none: erased.
///
/// Every type is still in its first version, so there is nothing to upcast yet; this is where a payload of an older
/// version is turned into the next one, step by step.
pub fn read(stored: Sealed, key: Option<&Key>) -> Result<Recorded, ReadError> {
    let malformed = |reason| DecodeError::Malformed {
        fact_type: stored.fact_type.clone(),
        reason,
    };
    let payload: Value = serde_json::from_str(&stored.payload).map_err(malformed)?;
    let mut fact = Fact::from_payload(&stored.fact_type, stored.schema_version, payload)?;
    seal::open(&mut fact, stored.event_id, key)?;
    Ok(Recorded {
        position: stored.position,
        lane: stored.lane,
        tenant: stored.tenant,
        stream: stored.stream,
        version: stored.version,
        subject: stored.subject,
        meta: stored.meta,
        event_id: stored.event_id,
        recorded_at: stored.recorded_at,
        fact,
    })
}
