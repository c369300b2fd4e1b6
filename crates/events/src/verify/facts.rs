//! Every fact in order of position: dense, in its lane, in time, readable.

use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use sqlx::PgConnection;

use super::digest::Digests;
use super::{Difference, Report, VerifyError};
use crate::archive::Archive;
use crate::envelope::Sealed;
use crate::fact::DecodeError;
use crate::id::{Lane, Position};
use crate::store::{COLUMNS, Filter, Limits, LogError, sealed_from};
use crate::upcast::{self, ReadError};

/// Progress is told after so many facts.
pub(super) const TELL_EVERY: u64 = 10_000;

/// Facts in order of position, whichever side of the floor they come from.
pub(super) struct Facts<'a> {
    /// The digests, up to `upto`, to compare the topic with.
    pub(super) digests: Digests,
    upto: Position,
    due: Position,
    latest: DateTime<Utc>,
    report: &'a mut Report,
    progress: &'a (dyn Fn(u64) + Sync),
}

impl<'a> Facts<'a> {
    pub(super) fn new(
        upto: Position,
        report: &'a mut Report,
        progress: &'a (dyn Fn(u64) + Sync),
    ) -> Self {
        Self {
            digests: Digests::default(),
            upto,
            due: report.first,
            latest: DateTime::<Utc>::MIN_UTC,
            report,
            progress,
        }
    }

    pub(super) fn found(&mut self, difference: Difference) {
        self.report.differences.add(difference);
    }

    /// Looks at none before `first`.
    pub(super) fn begin_at(&mut self, first: Position) {
        self.report.first = first;
        self.due = first;
    }

    /// Reads what Postgres holds, from `from` on.
    pub(super) async fn scan(
        &mut self,
        connection: &mut PgConnection,
        from: Position,
    ) -> Result<(), VerifyError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM log.events e WHERE e.position >= $1 ORDER BY e.position"
        );
        let mut rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(from)
            .fetch(connection);
        while let Some(row) = rows.try_next().await? {
            self.take(sealed_from(&row)?);
        }
        (self.progress)(self.report.facts);
        Ok(())
    }

    /// Looks at the next fact, if it is one of those to be looked at.
    pub(super) fn take(&mut self, fact: Sealed) {
        if fact.position < self.report.first {
            return;
        }
        // A gap of millions is one finding, not millions.
        if fact.position != self.due {
            self.report.differences.add(Difference::Missing(self.due));
        }
        self.due = fact.position.next();
        if fact.recorded_at < self.latest {
            let found = Difference::TimeWentBack(fact.position);
            self.report.differences.add(found);
        }
        self.latest = fact.recorded_at;
        if fact.position <= self.upto {
            self.digests.add(&fact);
        }
        look_into(fact, self.report);
        if self.report.facts.is_multiple_of(TELL_EVERY) {
            (self.progress)(self.report.facts);
        }
    }
}

fn look_into(fact: Sealed, report: &mut Report) {
    report.facts += 1;
    let (position, found) = (fact.position, fact.lane);
    let wanted = Lane::of(fact.tenant, &fact.subject);
    if found != wanted {
        report.differences.add(Difference::WrongLane {
            position,
            found,
            wanted,
        });
    }
    match readable(fact) {
        Ok(true) => {}
        Ok(false) => report.unknown += 1,
        Err(reason) => report
            .differences
            .add(Difference::Unreadable { position, reason }),
    }
}

/// Whether the fact is of a type known here. Without keys every personal field reads as erased, which is enough to know.
fn readable(fact: Sealed) -> Result<bool, String> {
    match upcast::read(fact, None) {
        Ok(_) => Ok(true),
        Err(ReadError::Decode(DecodeError::Unknown { .. }) | ReadError::Newer { .. }) => Ok(false),
        Err(error) => Err(error.to_string()),
    }
}

/// The facts of one lane in a stretch of positions: those before `floor` from the archive, if there is one.
pub(super) async fn of_lane(
    connection: &mut PgConnection,
    archive: Option<Archive>,
    floor: Position,
    lane: Lane,
    (first, last): (Position, Position),
) -> Result<Vec<Sealed>, VerifyError> {
    let mut facts = vec![];
    if let Some(mut archive) = archive {
        let (mut at, last) = (Position(first.0 - 1), last.min(Position(floor.0 - 1)));
        let filter = Filter {
            lanes: vec![lane],
            ..Filter::default()
        };
        while at < last {
            let page = archive.page(at, &filter, Limits::BULK, last).await;
            let (page, seen) = page.map_err(LogError::from)?;
            facts.extend(page);
            at = seen;
        }
    }
    let sql = format!(
        "SELECT {COLUMNS} FROM log.events e WHERE e.lane = $1 AND e.position BETWEEN $2 AND $3 ORDER BY e.position"
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(lane.number())
        .bind(first.max(floor))
        .bind(last)
        .fetch_all(connection)
        .await?;
    for row in &rows {
        facts.push(sealed_from(row)?);
    }
    Ok(facts)
}
