//! Every stream with the facts that are in it: versions 1, 2, 3… along positions, and a row that says what they amount to.

use futures::TryStreamExt;
use serde_json::Value;
use sqlx::{PgConnection, Row};

use super::facts::TELL_EVERY;
use super::{Difference, Report, VerifyError};
use crate::decide;
use crate::envelope::Sealed;
use crate::id::{Lane, Position, TenantId};
use crate::store::{COLUMNS, sealed_from};
use crate::upcast;

/// What `log.streams` says of a stream.
#[derive(Clone, Debug)]
struct Kept {
    subject: String,
    lane: i16,
    version: i64,
    state: Value,
}

/// A stream whose facts are being read.
#[derive(Debug)]
struct Stream {
    tenant: TenantId,
    name: String,
    /// None: there is no row.
    kept: Option<Kept>,
    /// What its facts fold to; none once they cannot be folded here.
    state: Option<Value>,
    version: i64,
    position: Position,
    /// Its first fact was read.
    whole: bool,
}

/// Reads the streams that have facts from `report.first` on, each from its beginning. Lane by lane: a stream has one, and
/// so Postgres sorts a sixty-fourth of the log at a time.
pub(super) async fn scan(
    connection: &mut PgConnection,
    floor: Position,
    report: &mut Report,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<(), VerifyError> {
    let mut read = 0;
    for lane in Lane::all() {
        scan_lane(connection, lane, floor, report, &mut read, progress).await?;
    }
    if floor == Position::START.next() {
        without_facts(connection, report).await?;
    } else {
        report.absent_streams = absent(connection).await?;
    }
    Ok(())
}

/// How many streams have no fact here: their facts are in the archive.
async fn absent(connection: &mut PgConnection) -> Result<u64, VerifyError> {
    let count: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM log.streams s
         WHERE s.version > 0 AND NOT EXISTS (
             SELECT FROM log.events e WHERE e.tenant = s.tenant AND e.stream_id = s.stream_id)",
    )
    .fetch_one(connection)
    .await?;
    Ok(count.unsigned_abs())
}

async fn scan_lane(
    connection: &mut PgConnection,
    lane: Lane,
    floor: Position,
    report: &mut Report,
    read: &mut u64,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<(), VerifyError> {
    let all = report.first <= floor;
    let touched = if all {
        ""
    } else {
        "AND (e.tenant, e.stream_id) IN (
             SELECT n.tenant, n.stream_id FROM log.events n WHERE n.lane = $1 AND n.position >= $2)"
    };
    let sql = format!(
        "SELECT {COLUMNS}, s.subject AS row_subject, s.lane AS row_lane, s.version AS row_version, s.state AS row_state
         FROM log.events e LEFT JOIN log.streams s USING (tenant, stream_id)
         WHERE e.lane = $1 {touched}
         ORDER BY e.tenant, e.stream_id, e.position"
    );
    let mut rows = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(lane.number());
    if !all {
        rows = rows.bind(report.first);
    }
    let mut rows = rows.fetch(&mut *connection);
    let mut stream: Option<Stream> = None;
    while let Some(row) = rows.try_next().await? {
        let fact = sealed_from(&row)?;
        let same = |s: &Stream| s.tenant == fact.tenant && s.name == fact.stream;
        let mut open = match stream.take() {
            Some(open) if same(&open) => open,
            before => {
                if let Some(before) = before {
                    before.finish(report);
                }
                Stream::begin(&fact, kept(&row)?, floor)
            }
        };
        open.take(fact, report);
        stream = Some(open);
        *read += 1;
        if read.is_multiple_of(TELL_EVERY) {
            progress(*read);
        }
    }
    drop(rows);
    if let Some(last) = stream {
        last.finish(report);
    }
    Ok(())
}

fn kept(row: &sqlx::postgres::PgRow) -> Result<Option<Kept>, sqlx::Error> {
    let Some(version) = row.try_get("row_version")? else {
        return Ok(None);
    };
    Ok(Some(Kept {
        subject: row.try_get("row_subject")?,
        lane: row.try_get("row_lane")?,
        version,
        state: row.try_get("row_state")?,
    }))
}

/// Rows that tell of facts, where there is none.
async fn without_facts(
    connection: &mut PgConnection,
    report: &mut Report,
) -> Result<(), VerifyError> {
    let rows: Vec<(uuid::Uuid, String)> = sqlx::query_as(
        "SELECT s.tenant, s.stream_id FROM log.streams s
         WHERE s.version > 0 AND NOT EXISTS (
             SELECT FROM log.events e WHERE e.tenant = s.tenant AND e.stream_id = s.stream_id)
         ORDER BY s.tenant, s.stream_id",
    )
    .fetch_all(connection)
    .await?;
    for (tenant, stream) in rows {
        let what = "version";
        report.differences.add(Difference::Row {
            tenant,
            stream,
            what,
        });
    }
    Ok(())
}

impl Stream {
    fn begin(fact: &Sealed, kept: Option<Kept>, floor: Position) -> Self {
        let whole = fact.version == 1 || floor == Position::START.next();
        Self {
            tenant: fact.tenant,
            name: fact.stream.clone(),
            kept,
            state: whole.then_some(Value::Null),
            // Of a stream that begins in the archive, only what follows can be told.
            version: if whole { 0 } else { fact.version - 1 },
            position: Position::START,
            whole,
        }
    }

    fn take(&mut self, fact: Sealed, report: &mut Report) {
        let wanted = self.version + 1;
        if fact.version != wanted {
            report.differences.add(Difference::Version {
                tenant: self.tenant.0,
                stream: self.name.clone(),
                position: fact.position,
                found: fact.version,
                wanted,
            });
        }
        if let Some(kept) = &self.kept
            && (fact.subject != kept.subject || fact.lane.number() != kept.lane)
        {
            report.differences.add(self.row_differs("subject"));
        }
        self.version = fact.version;
        self.position = fact.position;
        let event = fact.event_id;
        self.state = match (self.state.take(), upcast::read(fact, None)) {
            (Some(state), Ok(fact)) => decide::fold(&self.name, state, event, &fact.fact).ok(),
            // Unknown or unreadable: that is told where facts are looked at one by one.
            _ => None,
        };
    }

    fn finish(self, report: &mut Report) {
        report.streams += 1;
        report.archived_streams += u64::from(!self.whole);
        let Some(kept) = &self.kept else {
            report.differences.add(self.row_differs("existence"));
            return;
        };
        if kept.version != self.version {
            report.differences.add(self.row_differs("version"));
        } else if self.state.as_ref().is_some_and(|s| *s != kept.state)
            // What the archive holds of a stream is not folded here; its state must make sense all the same.
            || decide::check(&self.name, &kept.state).is_err()
        {
            report.differences.add(self.row_differs("state"));
        }
    }

    fn row_differs(&self, what: &'static str) -> Difference {
        Difference::Row {
            tenant: self.tenant.0,
            stream: self.name.clone(),
            what,
        }
    }
}
