//! Reading the log: dense, in order, and never silently less than was asked for.

mod page;

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use metrics::counter;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool, Row};
use uuid::Uuid;

use super::{Keys, Log, LogError, StreamRow};
use crate::envelope::{Meta, Recorded, Sealed};
use crate::fact::DecodeError;
use crate::id::{EventId, Lane, Position, TenantId};
use crate::metrics::FACTS_SKIPPED;
use crate::upcast::{self, ReadError};

pub use page::{Bounds, Filter, Limits, Page, bounds, page};

/// The columns that `sealed_from` reads, of `log.events e`.
pub(crate) const COLUMNS: &str = "e.position, e.lane, e.tenant, e.stream_id, e.version, e.subject, e.type, \
     e.schema_version, e.payload::text AS payload, e.meta, e.event_id, e.recorded_at";

/// A fact from a row of [`COLUMNS`].
pub(crate) fn sealed_from(row: &PgRow) -> Result<Sealed, sqlx::Error> {
    let lane: i16 = row.try_get("lane")?;
    Ok(Sealed {
        position: row.try_get("position")?,
        lane: Lane::new(lane.into())
            .ok_or_else(|| sqlx::Error::Decode(format!("lane {lane}").into()))?,
        tenant: row.try_get("tenant")?,
        stream: row.try_get("stream_id")?,
        version: row.try_get("version")?,
        subject: row.try_get("subject")?,
        fact_type: row.try_get("type")?,
        schema_version: row.try_get("schema_version")?,
        payload: row.try_get("payload")?,
        meta: row.try_get::<Json<Meta>, _>("meta")?.0,
        event_id: row.try_get::<EventId, _>("event_id")?,
        recorded_at: row.try_get::<DateTime<Utc>, _>("recorded_at")?,
    })
}

pub(super) async fn log_id(pool: &PgPool) -> Result<Uuid, LogError> {
    Ok(sqlx::query_scalar("SELECT log_id FROM log.log")
        .fetch_one(pool)
        .await?)
}

/// A stretch of the log, perhaps thinned to some lanes.
pub(crate) struct Stretch {
    /// The facts asked for, in order.
    pub(crate) facts: Vec<Sealed>,
    /// How far was looked: every fact up to here was seen.
    pub(crate) seen: Position,
}

/// Reads the facts of `lanes` (none: of all) among the next `limit` positions after `after`.
pub(crate) async fn stretch(
    pool: &PgPool,
    after: Position,
    lanes: Option<&[i16]>,
    limit: i64,
) -> Result<Stretch, LogError> {
    // One statement, so one snapshot: the floor and the head are those of the rows. The left join keeps one row when
    // there are no facts.
    let sql = format!(
        "SELECT l.floor, GREATEST(h.head, $1) AS head, {COLUMNS}
         FROM log.log l
         CROSS JOIN LATERAL (
             SELECT LEAST($1 + $2, COALESCE((SELECT position FROM log.events ORDER BY position DESC LIMIT 1), 0)) AS head
         ) h
         LEFT JOIN log.events e
             ON e.position > $1 AND e.position <= $1 + $2 AND ($3::smallint[] IS NULL OR e.lane = ANY ($3))
         ORDER BY e.position"
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(after)
        .bind(limit)
        .bind(lanes)
        .fetch_all(pool)
        .await?;
    let Some(first) = rows.first() else {
        return Err(LogError::Gap {
            missing: after.next().0,
        });
    };
    let (floor, seen): (i64, Position) = (first.try_get("floor")?, first.try_get("head")?);
    if after.0 + 1 < floor {
        return Err(LogError::TooOld {
            asked: after.0 + 1,
            floor,
        });
    }
    let empty = first.try_get::<Option<i64>, _>("position")?.is_none();
    let facts = if empty {
        vec![]
    } else {
        rows.iter()
            .map(sealed_from)
            .collect::<Result<Vec<_>, _>>()?
    };
    if lanes.is_none() {
        dense(after, seen, &facts)?;
    }
    Ok(Stretch { facts, seen })
}

fn dense(after: Position, seen: Position, facts: &[Sealed]) -> Result<(), LogError> {
    let mut next = after.next();
    for fact in facts {
        if fact.position != next {
            return Err(LogError::Gap { missing: next.0 });
        }
        next = next.next();
    }
    if seen >= next {
        Err(LogError::Gap { missing: next.0 })
    } else {
        Ok(())
    }
}

/// Opens stored facts with the keys of this moment. Facts of unknown types are skipped and counted.
pub(crate) async fn open(
    keys: &Keys,
    connection: &mut PgConnection,
    stored: Vec<Sealed>,
) -> Result<Vec<Recorded>, LogError> {
    let persons: BTreeSet<_> = stored
        .iter()
        .map(|fact| (fact.tenant, fact.meta.actor))
        .collect();
    let found = keys
        .for_reading(connection, &persons.into_iter().collect::<Vec<_>>())
        .await?;
    let mut facts = Vec::with_capacity(stored.len());
    for fact in stored {
        let key = found.get(&(fact.tenant, fact.meta.actor));
        match upcast::read(fact, key) {
            Ok(fact) => facts.push(fact),
            Err(ReadError::Decode(DecodeError::Unknown { fact_type, version })) => {
                tracing::warn!(fact_type, version, "a fact of an unknown type is skipped");
                counter!(FACTS_SKIPPED).increment(1);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(facts)
}

impl Log {
    /// The next facts after `after`, at most `limit`: dense and in order.
    pub async fn read(&self, after: Position, limit: i64) -> Result<Vec<Sealed>, LogError> {
        Ok(stretch(&self.pool, after, None, limit).await?.facts)
    }

    /// Types and opens stored facts; those of unknown types are skipped and counted.
    pub async fn open_facts(&self, stored: Vec<Sealed>) -> Result<Vec<Recorded>, LogError> {
        let mut connection = self.pool.acquire().await?;
        open(&self.keys, &mut connection, stored).await
    }

    /// A stream as it stands; none when nothing ever happened in it.
    pub async fn stream(
        &self,
        tenant: TenantId,
        stream: &str,
    ) -> Result<Option<StreamRow>, LogError> {
        let row: Option<(String, i64, serde_json::Value)> = sqlx::query_as(
            "SELECT subject, version, state FROM log.streams WHERE tenant = $1 AND stream_id = $2",
        )
        .bind(tenant)
        .bind(stream)
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.map(|(subject, version, state)| StreamRow {
            subject,
            version,
            state,
        }))
    }

    /// The facts of positions `first` to `last`, opened.
    pub(super) async fn between(
        &self,
        first: Position,
        last: Position,
    ) -> Result<Vec<Recorded>, LogError> {
        self.open_facts(
            self.read(Position(first.0 - 1), last.0 - first.0 + 1)
                .await?,
        )
        .await
    }
}
