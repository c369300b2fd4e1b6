//! The archive: facts that have left Postgres, as verified segments in a folder or a bucket.
//!
//! Each partition of the log is an export of its own (NDJSON, see [`crate::export`]) in a folder of its own, which never
//! changes again. `archive.json` lists them from position 1 without a gap; it is written before the log's floor moves, so
//! whatever lies below the floor is listed. [`run`] makes the archive, [`Archive`] reads it.

mod read;
mod run;

use serde::{Deserialize, Serialize};
use service::retry::Retry;
use storage::{Key, Store};
use uuid::Uuid;

pub use read::Archive;
pub use run::{ArchivingError, Done, Request, Step, run};

use crate::export::ExportError;
use crate::id::Position;

/// The name of the index.
pub const NAME: &str = "archive.json";

/// An index of a million partitions is smaller.
const INDEX_LIMIT: u64 = 256 << 20;

/// Why the archive does not give what it should hold.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Where it lies.
    #[error("the archive's store: {0}")]
    Store(#[from] storage::Error),
    /// A segment on its way.
    #[error("a segment of the archive: {0}")]
    Io(#[from] std::io::Error),
    /// It is another log's.
    #[error(
        "the archive is log {found}'s and this is log {expected}: set ARCHIVE_URL to this log's archive"
    )]
    Foreign {
        /// The log that the index names.
        found: Uuid,
        /// This log.
        expected: Uuid,
    },
    /// Something in it is not as it was written.
    #[error("{name} of the archive is damaged ({reason}): bring it back from a copy")]
    Damaged {
        /// What.
        name: String,
        /// How.
        reason: String,
    },
    /// It ends too early.
    #[error(
        "the archive ends at position {end} and position {asked} is asked for, which the log no longer holds: \
         set ARCHIVE_URL to the archive that `cinelog log archive` last wrote to"
    )]
    Short {
        /// The last position in it.
        end: Position,
        /// The position asked for.
        asked: Position,
    },
}

impl ArchiveError {
    /// Whether the same call may pass later.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Store(error) => error.retry(),
            Self::Io(_) => Retry::Later,
            Self::Foreign { .. } | Self::Damaged { .. } | Self::Short { .. } => Retry::Never,
        }
    }

    fn damaged(name: &Key, reason: &impl ToString) -> Self {
        Self::Damaged {
            name: name.to_string(),
            reason: reason.to_string(),
        }
    }
}

impl From<ExportError> for ArchiveError {
    fn from(error: ExportError) -> Self {
        match error {
            ExportError::Store(error) => Self::Store(error),
            other => Self::Damaged {
                name: "a manifest".to_owned(),
                reason: other.to_string(),
            },
        }
    }
}

/// `archive.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Index {
    /// Which log it is of.
    log_id: Uuid,
    /// The partitions, in order, from position 1 without a gap.
    parts: Vec<Part>,
}

/// A partition of the log that lies in the archive and will not change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Part {
    /// Where its export is, beside the index.
    folder: String,
    /// The first position in it.
    first: Position,
    /// The last one.
    last: Position,
    /// The SHA-256 of its manifest, which has those of its segments; hex digits.
    manifest_sha256: String,
}

impl Index {
    /// The index that is there; none: there is none yet. Refuses another log's.
    async fn load(store: &Store, log_id: Uuid) -> Result<Option<Self>, ArchiveError> {
        let key = key(NAME)?;
        let text = match store.read(&key, INDEX_LIMIT).await {
            Err(storage::Error::Missing(_)) => return Ok(None),
            text => text?,
        };
        let index: Self =
            serde_json::from_slice(&text).map_err(|error| ArchiveError::damaged(&key, &error))?;
        if index.log_id != log_id {
            return Err(ArchiveError::Foreign {
                found: index.log_id,
                expected: log_id,
            });
        }
        let mut due = Position::START.next();
        for part in &index.parts {
            if part.first != due || part.last < part.first {
                return Err(ArchiveError::damaged(&key, &format!("{due} is missing")));
            }
            due = part.last.next();
        }
        Ok(Some(index))
    }

    async fn save(&self, store: &Store) -> Result<(), ArchiveError> {
        let text = serde_json::to_string_pretty(self).map_err(std::io::Error::other)? + "\n";
        let key = key(NAME)?;
        Ok(store.replace(&key, text.into(), "application/json").await?)
    }

    /// The last position in it.
    fn end(&self) -> Position {
        self.parts.last().map_or(Position::START, |part| part.last)
    }

    fn part(&self, position: Position) -> Option<&Part> {
        let after = self.parts.partition_point(|part| part.last < position);
        self.parts.get(after).filter(|part| part.first <= position)
    }
}

fn key(name: &str) -> Result<Key, ArchiveError> {
    name.parse().map_err(|error| ArchiveError::Damaged {
        name: name.to_owned(),
        reason: format!("{error}"),
    })
}
