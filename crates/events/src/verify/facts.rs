//! Every fact in order of position: dense, in its lane, in time, readable.

use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use sqlx::PgConnection;

use super::digest::Digests;
use super::{Difference, Report, VerifyError};
use crate::envelope::Sealed;
use crate::fact::DecodeError;
use crate::id::{Lane, Position};
use crate::store::{COLUMNS, sealed_from};
use crate::upcast::{self, ReadError};

/// Progress is told after so many facts.
pub(super) const TELL_EVERY: u64 = 10_000;

/// Reads everything from `report.first` on, and gives the digests, up to `upto`, to compare the topic with.
pub(super) async fn scan(
    connection: &mut PgConnection,
    upto: Position,
    report: &mut Report,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Digests, VerifyError> {
    let sql =
        format!("SELECT {COLUMNS} FROM log.events e WHERE e.position >= $1 ORDER BY e.position");
    let mut rows = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(report.first)
        .fetch(connection);
    let mut digests = Digests::default();
    let mut due = report.first;
    let mut latest = DateTime::<Utc>::MIN_UTC;
    while let Some(row) = rows.try_next().await? {
        let fact = sealed_from(&row)?;
        // A gap of millions is one finding, not millions.
        if fact.position != due {
            report.differences.add(Difference::Missing(due));
        }
        due = fact.position.next();
        if fact.recorded_at < latest {
            let found = Difference::TimeWentBack(fact.position);
            report.differences.add(found);
        }
        latest = fact.recorded_at;
        if fact.position <= upto {
            digests.add(&fact);
        }
        look_into(fact, report);
        if report.facts.is_multiple_of(TELL_EVERY) {
            progress(report.facts);
        }
    }
    progress(report.facts);
    Ok(digests)
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

/// The facts of one lane in a stretch of positions.
pub(super) async fn of_lane(
    connection: &mut PgConnection,
    lane: Lane,
    (first, last): (Position, Position),
) -> Result<Vec<Sealed>, VerifyError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM log.events e WHERE e.lane = $1 AND e.position BETWEEN $2 AND $3 ORDER BY e.position"
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(lane.number())
        .bind(first)
        .bind(last)
        .fetch_all(connection)
        .await?;
    let facts = rows.iter().map(sealed_from).collect::<Result<_, _>>()?;
    Ok(facts)
}
