//! Every stream with the facts that are in it: versions 1, 2, 3… along positions, and a row that says what they amount to.

use std::collections::HashMap;

use futures::TryStreamExt;
use serde_json::Value;
use sqlx::{PgConnection, Row};

use super::archived::{Archived, Folded};
use super::facts::TELL_EVERY;
use super::{Difference, Differences, Report, VerifyError};
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

/// Whose stream, and which.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Name {
    tenant: TenantId,
    stream: String,
}

impl Name {
    pub(super) fn of(fact: &Sealed) -> Self {
        Self {
            tenant: fact.tenant,
            stream: fact.stream.clone(),
        }
    }
}

/// A stream whose facts are being read.
#[derive(Debug)]
pub(super) struct Stream {
    name: Name,
    /// Of its first fact, which pins it.
    subject: String,
    lane: Lane,
    /// What its facts fold to; none once they cannot be folded here.
    state: Option<Value>,
    version: i64,
    position: Position,
    /// Its first fact was read.
    whole: bool,
}

/// Every stream that has facts from `report.first` on, each from its beginning.
pub(super) struct Scan<'a> {
    pub(super) floor: Position,
    pub(super) report: &'a mut Report,
    pub(super) progress: &'a (dyn Fn(u64) + Sync),
}

impl Scan<'_> {
    /// Lane by lane: a stream has one, and so Postgres sorts a sixty-fourth of the log at a time.
    pub(super) async fn run(
        mut self,
        connection: &mut PgConnection,
        archived: Option<Archived>,
    ) -> Result<(), VerifyError> {
        let whole = archived.is_some() || self.floor == Position::START.next();
        // The floor moves before the partition goes: what lies below it may be here still, and is looked at there.
        let mut archived = archived.map(Archived::lanes);
        let mut read = 0;
        for lane in Lane::all() {
            let mut begun = HashMap::new();
            if let Some(aside) = archived.as_mut().and_then(Iterator::next) {
                let (streams, differences): Folded = aside.fold().await?;
                self.report.differences.append(differences);
                begun = streams;
            }
            self.lane(connection, lane, whole, &mut begun, &mut read)
                .await?;
            if whole {
                self.without_facts(connection, lane, begun).await?;
            }
        }
        if !whole {
            self.report.absent_streams = absent(connection, self.floor).await?;
        }
        Ok(())
    }

    /// Streams with facts in Postgres; `begun` has what the archive holds of them.
    async fn lane(
        &mut self,
        connection: &mut PgConnection,
        lane: Lane,
        whole: bool,
        begun: &mut HashMap<Name, Stream>,
        read: &mut u64,
    ) -> Result<(), VerifyError> {
        let all = self.report.first <= self.floor;
        let touched = if all {
            ""
        } else {
            "AND (e.tenant, e.stream_id) IN (
                 SELECT n.tenant, n.stream_id FROM log.events n WHERE n.lane = $1 AND n.position >= $3)"
        };
        let sql = format!(
            "SELECT {COLUMNS}, s.subject AS row_subject, s.lane AS row_lane, s.version AS row_version, s.state AS row_state
             FROM log.events e LEFT JOIN log.streams s USING (tenant, stream_id)
             WHERE e.lane = $1 AND e.position >= $2 {touched}
             ORDER BY e.tenant, e.stream_id, e.position"
        );
        let mut rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(lane.number())
            .bind(self.floor);
        if !all {
            rows = rows.bind(self.report.first);
        }
        let mut rows = rows.fetch(&mut *connection);
        let mut open: Option<(Stream, Option<Kept>)> = None;
        while let Some(row) = rows.try_next().await? {
            let fact = sealed_from(&row)?;
            if open
                .as_ref()
                .is_none_or(|(stream, _)| stream.name != Name::of(&fact))
            {
                let name = Name::of(&fact);
                let stream = begun.remove(&name);
                let stream =
                    stream.unwrap_or_else(|| Stream::begin(&fact, whole || fact.version == 1));
                if let Some((before, kept)) = open.replace((stream, kept(&row)?)) {
                    before.finish(kept.as_ref(), self.report);
                }
            }
            if let Some((stream, _)) = &mut open {
                stream.take(fact, &mut self.report.differences);
            }
            *read += 1;
            if read.is_multiple_of(TELL_EVERY) {
                (self.progress)(*read);
            }
        }
        if let Some((last, kept)) = open {
            last.finish(kept.as_ref(), self.report);
        }
        Ok(())
    }

    /// Rows of streams that have no fact in Postgres: `archived` has the facts of some.
    async fn without_facts(
        &mut self,
        connection: &mut PgConnection,
        lane: Lane,
        mut archived: HashMap<Name, Stream>,
    ) -> Result<(), VerifyError> {
        let mut rows = sqlx::query(
            "SELECT s.tenant, s.stream_id, s.subject AS row_subject, s.lane AS row_lane, s.version AS row_version,
                    s.state AS row_state
             FROM log.streams s
             WHERE s.lane = $1 AND s.version > 0 AND NOT EXISTS (
                 SELECT FROM log.events e
                 WHERE e.tenant = s.tenant AND e.stream_id = s.stream_id AND e.position >= $2)
             ORDER BY s.tenant, s.stream_id",
        )
        .bind(lane.number())
        .bind(self.floor)
        .fetch(connection);
        while let Some(row) = rows.try_next().await? {
            let name = Name {
                tenant: row.try_get("tenant")?,
                stream: row.try_get("stream_id")?,
            };
            match archived.remove(&name) {
                Some(stream) => self.finish_archived(stream, kept(&row)?.as_ref()),
                None => self.report.differences.add(name.row_differs("version")),
            }
        }
        for stream in archived.into_values() {
            self.finish_archived(stream, None);
        }
        Ok(())
    }

    fn finish_archived(&mut self, stream: Stream, kept: Option<&Kept>) {
        if stream.position >= self.report.first {
            stream.finish(kept, self.report);
        }
    }
}

/// How many streams have no fact here: their facts are in the archive.
async fn absent(connection: &mut PgConnection, floor: Position) -> Result<u64, VerifyError> {
    let count: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM log.streams s
         WHERE s.version > 0 AND NOT EXISTS (
             SELECT FROM log.events e
             WHERE e.tenant = s.tenant AND e.stream_id = s.stream_id AND e.position >= $1)",
    )
    .bind(floor)
    .fetch_one(connection)
    .await?;
    Ok(count.unsigned_abs())
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

impl Name {
    fn row_differs(&self, what: &'static str) -> Difference {
        Difference::Row {
            tenant: self.tenant.0,
            stream: self.stream.clone(),
            what,
        }
    }
}

impl Stream {
    /// The stream that begins with `fact`, `whole` unless it began before.
    pub(super) fn begin(fact: &Sealed, whole: bool) -> Self {
        Self {
            name: Name::of(fact),
            subject: fact.subject.clone(),
            lane: fact.lane,
            state: whole.then_some(Value::Null),
            // Of a stream that begins in the archive, only what follows can be told.
            version: if whole { 0 } else { fact.version - 1 },
            position: Position::START,
            whole,
        }
    }

    pub(super) fn take(&mut self, fact: Sealed, differences: &mut Differences) {
        let wanted = self.version + 1;
        if fact.version != wanted {
            differences.add(Difference::Version {
                tenant: self.name.tenant.0,
                stream: self.name.stream.clone(),
                position: fact.position,
                found: fact.version,
                wanted,
            });
        }
        if fact.subject != self.subject || fact.lane != self.lane {
            differences.add(self.name.row_differs("subject"));
        }
        self.version = fact.version;
        self.position = fact.position;
        let event = fact.event_id;
        self.state = match (self.state.take(), upcast::read(fact, None)) {
            (Some(state), Ok(fact)) => {
                decide::fold(&self.name.stream, state, event, &fact.fact).ok()
            }
            // Unknown or unreadable: that is told where facts are looked at one by one.
            _ => None,
        };
    }

    fn finish(self, kept: Option<&Kept>, report: &mut Report) {
        report.streams += 1;
        report.archived_streams += u64::from(!self.whole);
        let what = match kept {
            None => "existence",
            Some(kept) if kept.subject != self.subject || kept.lane != self.lane.number() => {
                "subject"
            }
            Some(kept) if kept.version != self.version => "version",
            Some(kept) if !self.amounts_to(&kept.state) => "state",
            Some(_) => return,
        };
        report.differences.add(self.name.row_differs(what));
    }

    fn amounts_to(&self, kept: &Value) -> bool {
        self.state.as_ref().is_none_or(|state| state == kept)
            // What was not folded here must make sense all the same.
            && decide::check(&self.name.stream, kept).is_ok()
    }
}
