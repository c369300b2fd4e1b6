//! What an import does to Postgres.
//!
//! Locks are taken in the order of `log.append`: streams sorted, last the log.

use std::collections::BTreeMap;

use serde_json::Value;
use sqlx::types::Json;
use sqlx::{Connection, PgConnection, Postgres, Transaction};
use uuid::Uuid;

use super::{Head, ImportError, Person};
use crate::envelope::{Meta, Sealed};
use crate::id::Position;
use crate::store::LogError;
use crate::{decide, failpoint, upcast};

/// A transaction with the rights of the log's owner; whatever it waits for, it waits seconds.
async fn begin(connection: &mut PgConnection) -> Result<Transaction<'_, Postgres>, sqlx::Error> {
    let mut tx = connection.begin().await?;
    sqlx::query("SET LOCAL ROLE cinelog_log_owner")
        .execute(&mut *tx)
        .await?;
    sqlx::query("SET LOCAL lock_timeout = '10s'")
        .execute(&mut *tx)
        .await?;
    Ok(tx)
}

/// The log's last fact.
pub(super) async fn head(connection: &mut PgConnection) -> Result<Option<Head>, sqlx::Error> {
    sqlx::query_as(
        "SELECT position, event_id, recorded_at FROM log.events ORDER BY position DESC LIMIT 1",
    )
    .fetch_optional(connection)
    .await
}

/// Which of `persons` have no key, not even a destroyed one.
pub(super) async fn without_key(
    connection: &mut PgConnection,
    persons: impl Iterator<Item = Person>,
) -> Result<Vec<Person>, sqlx::Error> {
    let (tenants, people): (Vec<_>, Vec<_>) = persons.unzip();
    sqlx::query_as(
        "SELECT u.tenant, u.person FROM unnest($1::uuid[], $2::uuid[]) AS u(tenant, person)
         LEFT JOIN log.person_keys k USING (tenant, person)
         WHERE k.person IS NULL",
    )
    .bind(tenants)
    .bind(people)
    .fetch_all(connection)
    .await
}

/// Lets nobody append from here on, also should this process die: only the last batch, or a fork, allows it again. Fails
/// when something was appended since `head` was seen. The keys of the persons that are `gone` are destroyed, or count as
/// destroyed: a new one would not open what a lost one has sealed.
pub(super) async fn fence(
    connection: &mut PgConnection,
    head: Position,
    gone: &[Person],
) -> Result<(), ImportError> {
    let mut tx = begin(connection).await?;
    sqlx::query("REVOKE EXECUTE ON FUNCTION log.append FROM cinelog_api, cinelog_transcoder")
        .execute(&mut *tx)
        .await?;
    // Waits for appends under way: each locks streams first.
    sqlx::query("LOCK TABLE log.streams IN EXCLUSIVE MODE")
        .execute(&mut *tx)
        .await?;
    let now = self::head(&mut tx).await?;
    unchanged(head, now.map(|now| now.position))?;
    let (tenants, people): (Vec<_>, Vec<_>) = gone.iter().copied().unzip();
    sqlx::query(
        "SELECT log.erase_person(u.tenant, u.person) FROM unnest($1::uuid[], $2::uuid[]) AS u(tenant, person)",
    )
    .bind(tenants)
    .bind(people)
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    failpoint::hit("import.fenced");
    Ok(())
}

/// Lets everybody append again.
pub(in crate::log) async fn allow_appends(
    connection: &mut PgConnection,
) -> Result<(), sqlx::Error> {
    sqlx::query("GRANT EXECUTE ON FUNCTION log.append TO cinelog_api, cinelog_transcoder")
        .execute(connection)
        .await?;
    Ok(())
}

fn unchanged(wanted: Position, found: Option<Position>) -> Result<(), ImportError> {
    let found = found.unwrap_or_default();
    if found == wanted {
        Ok(())
    } else {
        Err(ImportError::Appended { position: found })
    }
}

/// Writes `facts` at their own positions, where the log ends with `head`. With the `last` batch, appending is allowed
/// again.
pub(super) async fn batch(
    connection: &mut PgConnection,
    head: Position,
    facts: &[Sealed],
    last: bool,
) -> Result<(), ImportError> {
    let mut tx = begin(connection).await?;
    sqlx::query("SELECT log.make_room($1)")
        .bind(i64::try_from(facts.len()).unwrap_or(i64::MAX))
        .execute(&mut *tx)
        .await?;
    let mut streams = lock_streams(&mut tx, facts).await?;
    sqlx::query("SELECT pg_advisory_xact_lock(7157201440951)")
        .execute(&mut *tx)
        .await?;
    let now = self::head(&mut tx).await?;
    unchanged(head, now.map(|now| now.position))?;
    for fact in facts {
        if let Some(stream) = streams.get_mut(&key(fact)) {
            stream.take(fact)?;
        }
    }
    insert(&mut tx, facts).await?;
    update_streams(&mut tx, &streams).await?;
    if last {
        allow_appends(&mut tx).await?;
    }
    sqlx::query("SELECT pg_notify('cinelog_log', $1)")
        .bind(facts.last().map(|fact| fact.position.to_string()))
        .execute(&mut *tx)
        .await?;
    failpoint::hit("import.before_commit");
    tx.commit().await?;
    failpoint::hit("import.after_commit");
    Ok(())
}

/// Which stream: sorted by bytes, as appends sort them.
type Key = (Uuid, String);

fn key(fact: &Sealed) -> Key {
    (fact.tenant.0, fact.stream.clone())
}

/// A stream's row.
struct Stream {
    subject: String,
    version: i64,
    state: Value,
}

impl Stream {
    fn take(&mut self, fact: &Sealed) -> Result<(), ImportError> {
        if (fact.version, &fact.subject) != (self.version + 1, &self.subject) {
            return Err(ImportError::Stream {
                position: fact.position,
                stream: fact.stream.clone(),
                version: self.version,
            });
        }
        let read = upcast::decode(&fact.fact_type, fact.schema_version, &fact.payload);
        let read = read.map_err(|reason| ImportError::Unreadable {
            position: fact.position,
            reason,
        })?;
        // Null is the state before everything.
        let before = if self.version == 0 {
            Value::Null
        } else {
            self.state.take()
        };
        self.state = decide::fold(&fact.stream, before, fact.event_id, &read)
            .map_err(|source| LogError::state(&fact.stream, source))?;
        self.version = fact.version;
        Ok(())
    }
}

async fn lock_streams(
    tx: &mut PgConnection,
    facts: &[Sealed],
) -> Result<BTreeMap<Key, Stream>, sqlx::Error> {
    let first: BTreeMap<Key, &Sealed> = facts.iter().rev().map(|fact| (key(fact), fact)).collect();
    let (tenants, names): (Vec<Uuid>, Vec<&str>) = first
        .keys()
        .map(|(tenant, name)| (tenant, name.as_str()))
        .unzip();
    sqlx::query(
        "INSERT INTO log.streams (tenant, stream_id, subject, lane, version, state)
         SELECT u.tenant, u.stream_id, u.subject, u.lane, 0, '{}'
         FROM unnest($1::uuid[], $2::text[], $3::text[], $4::smallint[]) WITH ORDINALITY
              AS u(tenant, stream_id, subject, lane, i)
         ORDER BY u.i
         ON CONFLICT DO NOTHING",
    )
    .bind(&tenants)
    .bind(&names)
    .bind(
        first
            .values()
            .map(|fact| fact.subject.as_str())
            .collect::<Vec<_>>(),
    )
    .bind(
        first
            .values()
            .map(|fact| fact.lane.number())
            .collect::<Vec<_>>(),
    )
    .execute(&mut *tx)
    .await?;
    let rows: Vec<(Uuid, String, String, i64, Value)> = sqlx::query_as(
        "SELECT t.tenant, t.stream_id, t.subject, t.version, t.state
         FROM unnest($1::uuid[], $2::text[]) WITH ORDINALITY AS u(tenant, stream_id, i)
         JOIN log.streams t ON t.tenant = u.tenant AND t.stream_id = u.stream_id
         ORDER BY u.i
         FOR UPDATE OF t",
    )
    .bind(&tenants)
    .bind(&names)
    .fetch_all(tx)
    .await?;
    let streams = rows
        .into_iter()
        .map(|(tenant, name, subject, version, state)| {
            let stream = Stream {
                subject,
                version,
                state,
            };
            ((tenant, name), stream)
        });
    Ok(streams.collect())
}

async fn insert(tx: &mut PgConnection, facts: &[Sealed]) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO log.events (position, lane, tenant, stream_id, version, type, schema_version, subject, payload, meta,
                                 event_id, recorded_at)
         SELECT u.position, u.lane, u.tenant, u.stream_id, u.version, u.type, u.schema, u.subject, u.payload::jsonb,
                u.meta, u.event, u.at
         FROM unnest($1::bigint[], $2::smallint[], $3::uuid[], $4::text[], $5::bigint[], $6::text[], $7::smallint[],
                     $8::text[], $9::text[], $10::jsonb[], $11::uuid[], $12::timestamptz[])
              AS u(position, lane, tenant, stream_id, version, type, schema, subject, payload, meta, event, at)
         ORDER BY u.position",
    )
    .bind(facts.iter().map(|f| f.position.0).collect::<Vec<_>>())
    .bind(facts.iter().map(|f| f.lane.number()).collect::<Vec<_>>())
    .bind(facts.iter().map(|f| f.tenant.0).collect::<Vec<_>>())
    .bind(facts.iter().map(|f| f.stream.as_str()).collect::<Vec<_>>())
    .bind(facts.iter().map(|f| f.version).collect::<Vec<_>>())
    .bind(facts.iter().map(|f| f.fact_type.as_str()).collect::<Vec<_>>())
    .bind(facts.iter().map(|f| f.schema_version).collect::<Vec<_>>())
    .bind(facts.iter().map(|f| f.subject.as_str()).collect::<Vec<_>>())
    .bind(facts.iter().map(|f| f.payload.as_str()).collect::<Vec<_>>())
    .bind(facts.iter().map(|f| Json(&f.meta)).collect::<Vec<Json<&Meta>>>())
    .bind(facts.iter().map(|f| f.event_id.0).collect::<Vec<_>>())
    .bind(facts.iter().map(|f| f.recorded_at).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(())
}

async fn update_streams(
    tx: &mut PgConnection,
    streams: &BTreeMap<Key, Stream>,
) -> Result<(), sqlx::Error> {
    let (tenants, names): (Vec<Uuid>, Vec<&str>) = streams
        .keys()
        .map(|(tenant, name)| (tenant, name.as_str()))
        .unzip();
    sqlx::query(
        "UPDATE log.streams t SET version = u.version, state = u.state
         FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::jsonb[]) AS u(tenant, stream_id, version, state)
         WHERE t.tenant = u.tenant AND t.stream_id = u.stream_id",
    )
    .bind(tenants)
    .bind(names)
    .bind(streams.values().map(|stream| stream.version).collect::<Vec<_>>())
    .bind(streams.values().map(|stream| &stream.state).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(())
}
