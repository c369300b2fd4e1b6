//! What an export holds, decided once: the range is pinned when the export is first started, and cut into segments at
//! the same positions whoever asks.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::ExportError;
use crate::id::{Position, TenantId};
use crate::store::{Bounds, Filter, LogError};

/// The form of the segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A line of JSON per fact, compressed with zstd.
    Ndjson,
    /// Columns, in row groups by position, compressed with zstd.
    Parquet,
}

impl Format {
    /// What a segment's name ends with.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Ndjson => "ndjson.zst",
            Self::Parquet => "parquet",
        }
    }

    /// What a segment is, for those who ask the store.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Ndjson => "application/zstd",
            Self::Parquet => "application/vnd.apache.parquet",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ndjson => "ndjson",
            Self::Parquet => "parquet",
        })
    }
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The form of the segments.
    pub format: Format,
    /// The first position.
    pub from: Position,
    /// The last position; none: the log's last one when the export is first started.
    pub to: Option<Position>,
    /// Only facts of these types; none named: of all.
    pub types: Vec<String>,
    /// Only facts of this tenant.
    pub tenant: Option<TenantId>,
    /// Positions in a segment.
    pub segment_rows: i64,
}

/// What an export holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The form of the segments.
    pub format: Format,
    /// Which log it is of.
    pub log_id: Uuid,
    /// The first position.
    pub from: Position,
    /// The last position.
    pub to: Position,
    /// Only facts of these types, sorted; none named: of all.
    pub types: Vec<String>,
    /// Only facts of this tenant.
    pub tenant: Option<TenantId>,
    /// Positions in a segment.
    pub segment_rows: i64,
}

/// The positions of one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first one.
    pub first: Position,
    /// The last one.
    pub last: Position,
}

impl Span {
    /// The name of its segment.
    pub fn name(self, format: Format) -> String {
        format!(
            "facts-{:012}-{:012}.{}",
            self.first.0,
            self.last.0,
            format.extension()
        )
    }
}

impl Request {
    /// The plan for a log as it stands now.
    pub fn pin(&self, log: Bounds) -> Result<Plan, ExportError> {
        let to = self.to.unwrap_or(log.head);
        if to > log.head {
            return Err(ExportError::Ahead { to, head: log.head });
        }
        if self.from.0 < log.floor {
            return Err(LogError::TooOld {
                asked: self.from.0,
                floor: log.floor,
            }
            .into());
        }
        // An empty log is exported as no segments.
        if self.from > to.next() {
            return Err(ExportError::Backwards {
                from: self.from,
                to,
            });
        }
        Ok(self.plan(log.log_id, to))
    }

    /// The plan when `to` is known.
    pub(super) fn plan(&self, log_id: Uuid, to: Position) -> Plan {
        let mut types = self.types.clone();
        types.sort();
        types.dedup();
        Plan {
            format: self.format,
            log_id,
            from: self.from,
            to,
            types,
            tenant: self.tenant,
            segment_rows: self.segment_rows.max(1),
        }
    }
}

impl Plan {
    /// The segments, in order: whole multiples of their length, cut by the range.
    pub fn spans(&self) -> impl Iterator<Item = Span> {
        let (rows, from, to) = (self.segment_rows, self.from.0, self.to.0);
        let first = (from - 1) / rows;
        let end = if from > to {
            first
        } else {
            (to - 1) / rows + 1
        };
        (first..end).map(move |k| Span {
            first: Position((k * rows + 1).max(from)),
            last: Position(((k + 1) * rows).min(to)),
        })
    }

    /// Which facts it holds.
    pub fn filter(&self) -> Filter {
        Filter {
            types: self.types.clone(),
            tenant: self.tenant,
            ..Filter::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(from: i64, to: Option<i64>) -> Request {
        Request {
            format: Format::Parquet,
            from: Position(from),
            to: to.map(Position),
            types: vec!["b".to_owned(), "a".to_owned(), "b".to_owned()],
            tenant: None,
            segment_rows: 1_000,
        }
    }

    fn log(floor: i64, head: i64) -> Bounds {
        Bounds {
            log_id: Uuid::from_u128(1),
            floor,
            head: Position(head),
        }
    }

    fn spans(from: i64, to: i64) -> Vec<(i64, i64)> {
        let plan = request(from, None).plan(Uuid::nil(), Position(to));
        plan.spans()
            .map(|span| (span.first.0, span.last.0))
            .collect()
    }

    #[test]
    fn segments_lie_at_the_same_positions_whoever_asks() {
        assert_eq!(
            spans(1, 2_500),
            [(1, 1_000), (1_001, 2_000), (2_001, 2_500)]
        );
        assert_eq!(spans(999, 1_001), [(999, 1_000), (1_001, 1_001)]);
        assert_eq!(spans(1, 1_000), [(1, 1_000)]);
        assert_eq!(spans(1_001, 1_001), [(1_001, 1_001)]);
        assert_eq!(spans(1, 0), []);
    }

    #[test]
    fn a_name_sorts_by_position() {
        let span = Span {
            first: Position(1),
            last: Position(1_000_000),
        };
        assert_eq!(
            span.name(Format::Parquet),
            "facts-000000000001-000001000000.parquet"
        );
        assert_eq!(
            span.name(Format::Ndjson),
            "facts-000000000001-000001000000.ndjson.zst"
        );
    }

    #[test]
    fn the_tip_is_pinned_and_types_are_sorted() {
        let plan = request(1, None).pin(log(1, 77)).unwrap();
        assert_eq!(plan.to, Position(77));
        assert_eq!(plan.types, ["a", "b"]);
        assert_eq!(request(1, Some(5)).pin(log(1, 77)).unwrap().to, Position(5));
        assert_eq!(
            request(1, None).pin(log(1, 0)).unwrap().spans().count(),
            0,
            "an empty log"
        );
    }

    #[test]
    fn what_the_log_does_not_hold_is_refused() {
        let told = |request: Request, log| request.pin(log).unwrap_err().to_string();
        assert!(told(request(1, Some(78)), log(1, 77)).contains("ends at 77"));
        assert!(told(request(1, None), log(50, 77)).contains("begins at 50"));
        assert!(told(request(70, Some(60)), log(1, 77)).contains("after --to 60"));
    }
}
