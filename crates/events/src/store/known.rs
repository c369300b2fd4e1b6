//! Streams as this process last left them. Good for deciding only where the log checks the version again: then a command
//! costs one round trip, and one that was decided on something old costs another try.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use moka::future::Cache;

use super::StreamRow;
use super::execute::Streams;
use crate::id::{StreamKey, TenantId};

/// The most bytes that what is remembered may take, roughly.
const MOST_BYTES: u64 = 64 << 20;
/// What a stream takes besides its texts, roughly.
const BESIDES: usize = 300;

/// Between two losses of a connection to the log. The server behind the next one may have come less far, so that what was
/// read in one epoch is not true in another, and a version alone does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Epoch(u64);

/// Counts epochs; clones count together.
#[derive(Clone, Debug, Default)]
pub(super) struct Epochs(Arc<AtomicU64>);

impl Epochs {
    pub(super) fn now(&self) -> Epoch {
        Epoch(self.0.load(Ordering::Acquire))
    }

    pub(super) fn end(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

/// A stream as a command left it.
#[derive(Clone, Debug)]
pub(super) struct Left {
    pub(super) stream: String,
    pub(super) subject: String,
    pub(super) version: i64,
    /// What its facts amount to, as JSON text.
    pub(super) state: Arc<str>,
}

#[derive(Clone, Debug)]
pub(super) struct Known {
    streams: Cache<(TenantId, String), (Epoch, Arc<Left>)>,
    epochs: Epochs,
}

impl Known {
    pub(super) fn new() -> Self {
        let weigh = |(_, stream): &(TenantId, String), (_, left): &(Epoch, Arc<Left>)| {
            let bytes = 2 * stream.len() + left.subject.len() + left.state.len() + BESIDES;
            u32::try_from(bytes).unwrap_or(u32::MAX)
        };
        Self {
            streams: Cache::builder()
                .weigher(weigh)
                .max_capacity(MOST_BYTES)
                .build(),
            epochs: Epochs::default(),
        }
    }

    /// This epoch. Ask before reading: what is read later is at least of it.
    pub(super) fn epoch(&self) -> Epoch {
        self.epochs.now()
    }

    /// The streams, if every one is remembered from this epoch.
    pub(super) async fn all(&self, tenant: TenantId, streams: &[StreamKey]) -> Option<Streams> {
        let epoch = self.epoch();
        let mut found = Streams::none(epoch);
        for key in streams {
            let (since, left) = self.streams.get(&(tenant, key.stream.clone())).await?;
            let row = StreamRow {
                subject: left.subject.clone(),
                version: left.version,
                state: serde_json::from_str(&left.state).ok()?,
            };
            (since == epoch).then(|| found.rows.insert(key.stream.clone(), row))?;
        }
        Some(found)
    }

    /// Keeps what a command of `epoch` left.
    pub(super) async fn remember(&self, tenant: TenantId, epoch: Epoch, streams: Vec<Left>) {
        for left in streams {
            let name = (tenant, left.stream.clone());
            self.streams.insert(name, (epoch, Arc::new(left))).await;
        }
    }

    /// Begins a new epoch: the log itself may have forgotten.
    pub(super) fn forget_all(&self) {
        self.epochs.end();
        self.streams.invalidate_all();
    }

    /// Someone else has been there.
    pub(super) async fn forget(&self, tenant: TenantId, streams: &[StreamKey]) {
        for key in streams {
            self.streams.remove(&(tenant, key.stream.clone())).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[tokio::test]
    async fn what_was_left_before_a_lost_connection_is_not_remembered_after_it() {
        let (known, tenant) = (Known::new(), TenantId(Uuid::nil()));
        let key = StreamKey {
            stream: "stream".to_owned(),
            subject: "subject".to_owned(),
        };
        let left = || Left {
            stream: key.stream.clone(),
            subject: key.subject.clone(),
            version: 1,
            state: "{}".into(),
        };
        let before = known.epoch();
        known.remember(tenant, before, vec![left()]).await;
        let streams = std::slice::from_ref(&key);
        assert!(known.all(tenant, streams).await.is_some());
        known.forget_all();
        // Its verdict had come before the loss; its caller is only now told.
        known.remember(tenant, before, vec![left()]).await;
        assert!(known.all(tenant, streams).await.is_none());
        known.remember(tenant, known.epoch(), vec![left()]).await;
        assert!(known.all(tenant, streams).await.is_some());
    }
}
