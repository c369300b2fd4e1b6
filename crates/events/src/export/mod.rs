//! The log as files: sealed segments by position range, with a manifest that says what is in each.
//!
//! Facts are exported as stored, personal fields as ciphertext: an export must not outlive an erasure. Nothing in the
//! files comes from a clock or from chance, so an export that was interrupted and one that was not are the same bytes,
//! and a repeat changes nothing. [`plan`], [`manifest`] and the two formats are pure; [`run`] does the rest.

pub mod manifest;
pub mod ndjson;
pub mod own;
mod parquet;
pub mod plan;
mod run;
#[cfg(test)]
mod sample;

pub use manifest::{Manifest, Segment};
pub use plan::{Format, Plan, Request, Span};
pub(crate) use run::{Place, run_into};
pub use run::{Step, run};

use crate::id::Position;
use crate::store::LogError;

/// What writes the files. The same writer makes the same bytes of the same facts; another one may not, so an export is
/// finished by the writer that began it.
pub fn writer() -> String {
    format!(
        "cinelog {}, zstd {}",
        env!("CARGO_PKG_VERSION"),
        zstd::zstd_safe::version_string()
    )
}

/// How hard segments are compressed. A level is part of what an export's bytes are.
const ZSTD_LEVEL: i32 = 3;

/// Why an export did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Where the files go.
    #[error("the export's store: {0}")]
    Store(#[from] storage::Error),
    /// A segment in the making.
    #[error("a segment in the making: {0}")]
    File(#[from] std::io::Error),
    /// A Parquet segment in the making.
    #[error("a Parquet segment in the making: {0}")]
    Parquet(#[from] ::parquet::errors::ParquetError),
    /// The log is shorter than what is asked for.
    #[error("the log ends at {head}: --to {to} is not there yet")]
    Ahead {
        /// The last position asked for.
        to: Position,
        /// The last position there is.
        head: Position,
    },
    /// There is nothing between the two.
    #[error("--from {from} is after --to {to}")]
    Backwards {
        /// The first position asked for.
        from: Position,
        /// The last one.
        to: Position,
    },
    /// Another export lies there.
    #[error(
        "an export with {what} {there} is there, and {asked} is asked for: choose another --out, or the same options"
    )]
    Other {
        /// In what the two differ.
        what: &'static str,
        /// What the export there has.
        there: String,
        /// What is asked for.
        asked: String,
    },
    /// What lies there is no manifest of ours.
    #[error("the manifest that is there cannot be gone on from: {0}")]
    Manifest(String),
    /// The end was asked for.
    #[error("stopped after {segments} whole segments: the same command goes on from there")]
    Stopped {
        /// Segments in the manifest.
        segments: usize,
    },
}
