//! What is pushed to clients while it happens, as server-sent events.

pub(crate) mod asset;
pub(crate) mod hub;
pub(crate) mod news;

use std::time::Duration;

use events::id::{TenantId, UserId};

use crate::problem::Problem;
use crate::slots::Slot;
use crate::state::ApiState;

/// When one may ask again for a stream that is one too many: streams are long.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// A place among the live streams of this process, held as long as the stream.
pub(crate) fn place(
    state: &ApiState,
    who: (TenantId, UserId),
) -> Result<Slot<(TenantId, UserId)>, Problem> {
    let place = state.following.take(who);
    place.map_err(|_| Problem::overloaded(RETRY_AFTER))
}
