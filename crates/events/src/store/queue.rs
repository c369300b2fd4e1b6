//! What waits for the writer, bounded by count and by bytes, and how a batch is gathered from it.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use metrics::counter;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use super::ExecuteError;
use super::append::{Answer, Prepared};
use crate::metrics::APPEND_OVERLOADED;

/// The most commands in one batch.
pub const MAX_BATCH: usize = 256;
/// The most bytes of payloads in one batch.
const MAX_BATCH_BYTES: usize = 8 << 20;
/// The most commands that may wait for the writer; one more is turned away.
const MAX_WAITING: usize = 4096;
/// And the most bytes that they may take.
const MAX_WAITING_BYTES: usize = 64 << 20;

/// A command that waits for its verdict.
pub(super) struct Waiting {
    pub(super) command: Prepared,
    pub(super) since: Instant,
    pub(super) answer: oneshot::Sender<Answer>,
    /// Its share of the bytes that may wait.
    pub(super) room: OwnedSemaphorePermit,
}

/// The end of the queue at which commands come in.
#[derive(Clone, Debug)]
pub(super) struct Entrance {
    sender: mpsc::Sender<Waiting>,
    room: Arc<Semaphore>,
}

impl Entrance {
    /// Puts a command into the queue; gives where its verdict will come. Turned away when there is no room.
    pub(super) fn put(&self, command: Prepared) -> Result<oneshot::Receiver<Answer>, ExecuteError> {
        let overloaded = || {
            counter!(APPEND_OVERLOADED).increment(1);
            ExecuteError::Overloaded {
                retry_after: Duration::from_secs(1),
            }
        };
        let bytes = u32::try_from(command.bytes()).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).try_acquire_many_owned(bytes);
        let (answer, verdict) = oneshot::channel();
        let waiting = Waiting {
            command,
            since: Instant::now(),
            answer,
            room: room.map_err(|_| overloaded())?,
        };
        match self.sender.try_send(waiting) {
            Ok(()) => Ok(verdict),
            Err(TrySendError::Full(_)) => Err(overloaded()),
            // This process is ending, or its writer died.
            Err(TrySendError::Closed(_)) => {
                Err(ExecuteError::Unavailable(sqlx::Error::WorkerCrashed))
            }
        }
    }
}

/// The end at which batches are taken out.
pub(super) struct Queue {
    receiver: mpsc::Receiver<Waiting>,
    /// A command that cannot be in the batch just gathered: it begins the next.
    held: Option<Waiting>,
    hasher: RandomState,
}

pub(super) fn queue() -> (Entrance, Queue) {
    let (sender, receiver) = mpsc::channel(MAX_WAITING);
    let entrance = Entrance {
        sender,
        room: Arc::new(Semaphore::new(MAX_WAITING_BYTES)),
    };
    let queue = Queue {
        receiver,
        held: None,
        hasher: RandomState::new(),
    };
    (entrance, queue)
}

impl Queue {
    /// The next batch: what is there, as soon as anything is. Empty when nothing will come any more. Loses nothing when
    /// it is dropped.
    pub(super) async fn gather(&mut self) -> Vec<Waiting> {
        let first = match self.held.take() {
            Some(held) => Some(held),
            None => self.receiver.recv().await,
        };
        let mut batch: Vec<Waiting> = first.into_iter().collect();
        let mut bytes: usize = batch.iter().map(|one| one.command.bytes()).sum();
        let mut seen = HashMap::new();
        for one in &batch {
            self.fits(&mut seen, &one.command);
        }
        while !batch.is_empty() && batch.len() < MAX_BATCH && bytes < MAX_BATCH_BYTES {
            let Ok(next) = self.receiver.try_recv() else {
                break;
            };
            if !self.fits(&mut seen, &next.command) {
                self.held = Some(next);
                break;
            }
            bytes += next.command.bytes();
            batch.push(next);
        }
        batch
    }

    /// Whether a command can be judged beside those whose hashes are `seen`, to which its own are added. Not beside one of
    /// the same id, whose outcome it is to find; nor beside one that names another subject for a stream, because a batch
    /// carries a stream once. Hashes are enough: who is held without need comes with the next batch.
    fn fits(&self, seen: &mut HashMap<u64, u64>, command: &Prepared) -> bool {
        let id = self.hasher.hash_one(command.id);
        if seen.insert(id, 0).is_some() {
            return false;
        }
        command.writes.iter().all(|write| {
            let stream = self.hasher.hash_one((command.tenant, &write.key.stream));
            let subject = self.hasher.hash_one(&write.key.subject);
            *seen.entry(stream).or_insert(subject) == subject
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Lane, StreamKey, TenantId};
    use crate::store::append::Write;
    use crate::store::known::Known;
    use uuid::Uuid;

    fn id(key: &str) -> Uuid {
        Uuid::new_v5(&Uuid::NAMESPACE_OID, key.as_bytes())
    }

    fn command(key: &str, stream: &str, subject: &str, bytes: usize) -> Prepared {
        let tenant = TenantId(Uuid::nil());
        let write = Write {
            key: StreamKey {
                stream: stream.to_owned(),
                subject: subject.to_owned(),
            },
            lane: Lane::of(tenant, subject),
            version: 0,
            state: Some("x".repeat(bytes).into()),
        };
        Prepared {
            tenant,
            id: id(key),
            body_hash: [0; 32],
            epoch: Known::new().epoch(),
            writes: vec![write],
            facts: vec![],
        }
    }

    async fn batches(commands: Vec<Prepared>) -> Vec<Vec<Uuid>> {
        let (entrance, mut queue) = queue();
        for command in commands {
            entrance.put(command).unwrap();
        }
        drop(entrance);
        let mut batches = vec![];
        loop {
            let batch = queue.gather().await;
            if batch.is_empty() {
                return batches;
            }
            batches.push(batch.into_iter().map(|one| one.command.id).collect());
        }
    }

    #[tokio::test]
    async fn a_command_that_cannot_be_judged_beside_another_waits_for_the_next_batch() {
        let same_id = ["a", "b", "a", "c"].map(|key| command(key, key, "s", 1));
        assert_eq!(
            batches(same_id.into()).await,
            [["a", "b"], ["a", "c"]].map(|keys| keys.map(id))
        );
        let subjects = [("a", "s"), ("b", "s"), ("c", "t"), ("d", "t")];
        let two_subjects = subjects.map(|(key, subject)| command(key, "stream", subject, 1));
        assert_eq!(
            batches(two_subjects.into()).await,
            [["a", "b"], ["c", "d"]].map(|keys| keys.map(id))
        );
    }

    #[tokio::test]
    async fn what_waits_is_bounded_by_count_and_by_bytes() {
        let (entrance, mut queue) = queue();
        let large = || command("large", "a", "s", MAX_WAITING_BYTES / 2 + 1);
        entrance.put(large()).unwrap();
        let turned_away = entrance.put(large());
        assert!(
            matches!(turned_away, Err(ExecuteError::Overloaded { .. })),
            "{turned_away:?}"
        );
        drop(queue.gather().await);
        entrance.put(large()).unwrap();
        drop(queue.gather().await);
        for n in 0..MAX_WAITING {
            entrance.put(command(&n.to_string(), "a", "s", 1)).unwrap();
        }
        let turned_away = entrance.put(command("last", "a", "s", 1));
        assert!(
            matches!(turned_away, Err(ExecuteError::Overloaded { .. })),
            "{turned_away:?}"
        );
    }
}
