//! Streams as this process last left them. Good for deciding only where the log checks the version again: then a command
//! costs one round trip, and one that was decided on something old costs another try.

use moka::future::Cache;

use super::StreamRow;
use super::execute::Streams;
use crate::id::{StreamKey, TenantId};

/// The most streams that are remembered; a state takes some hundred bytes.
const MOST: u64 = 20_000;

#[derive(Clone, Debug)]
pub(super) struct Known(Cache<(TenantId, String), StreamRow>);

impl Known {
    pub(super) fn new() -> Self {
        Self(Cache::new(MOST))
    }

    /// The streams, if every one is remembered.
    pub(super) async fn all(&self, tenant: TenantId, streams: &[StreamKey]) -> Option<Streams> {
        let mut found = Streams::default();
        for key in streams {
            let row = self.0.get(&(tenant, key.stream.clone())).await?;
            found.0.insert(key.stream.clone(), row);
        }
        Some(found)
    }

    pub(super) async fn remember(&self, tenant: TenantId, rows: Vec<(String, StreamRow)>) {
        for (stream, row) in rows {
            self.0.insert((tenant, stream), row).await;
        }
    }

    /// What the log itself may have forgotten.
    pub(super) fn forget_all(&self) {
        self.0.invalidate_all();
    }

    /// Someone else has been there.
    pub(super) async fn forget(&self, tenant: TenantId, streams: &[StreamKey]) {
        for key in streams {
            self.0.remove(&(tenant, key.stream.clone())).await;
        }
    }
}
