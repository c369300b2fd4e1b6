//! The facts of one stream, by its index: what happened to one thing.

use futures::TryStreamExt;
use sqlx::{AssertSqlSafe, Row};

use super::{COLUMNS, Limits, Log, LogError, sealed_from};
use crate::envelope::Sealed;
use crate::id::TenantId;

impl Log {
    /// The facts of a stream after version `after`, oldest first; none when there are no more. A stream that nothing ever
    /// happened in has none.
    pub async fn stream_facts(
        &self,
        tenant: TenantId,
        stream: &str,
        after: i64,
        limits: Limits,
    ) -> Result<Vec<Sealed>, LogError> {
        self.stream_part(tenant, stream, after.saturating_add(1), false, limits)
            .await
    }

    /// The facts of a stream before version `before`, newest first; none when there are no more. `i64::MAX`: from its end.
    pub async fn stream_facts_back(
        &self,
        tenant: TenantId,
        stream: &str,
        before: i64,
        limits: Limits,
    ) -> Result<Vec<Sealed>, LogError> {
        self.stream_part(tenant, stream, before.saturating_sub(1), true, limits)
            .await
    }

    /// The facts from version `first` on, in either direction. Proves by itself that none is left out.
    async fn stream_part(
        &self,
        tenant: TenantId,
        stream: &str,
        first: i64,
        back: bool,
        limits: Limits,
    ) -> Result<Vec<Sealed>, LogError> {
        let (than, order) = if back { ("<=", "DESC") } else { (">=", "ASC") };
        // One statement, so one snapshot: the version and the floor are those of the facts.
        let sql = format!(
            "SELECT l.floor, s.version AS newest, e.*
             FROM log.log l
             JOIN log.streams s ON s.tenant = $1 AND s.stream_id = $2
             LEFT JOIN LATERAL (
                 SELECT {COLUMNS} FROM log.events e
                 WHERE e.tenant = $1 AND e.stream_id = $2 AND e.version {than} $3
                 ORDER BY e.version {order}
                 LIMIT $4
             ) e ON true"
        );
        let mut rows = sqlx::query(AssertSqlSafe(sql))
            .bind(tenant)
            .bind(stream)
            .bind(first)
            .bind(limits.facts)
            .fetch(&self.pool);
        let (mut facts, mut bytes, mut due) = (vec![], 0, first);
        while let Some(row) = rows.try_next().await? {
            let newest: i64 = row.try_get("newest")?;
            if back {
                due = due.min(newest);
            }
            if due < 1 || due > newest {
                break;
            }
            let fact = match row.try_get::<Option<i64>, _>("position")? {
                Some(_) => Some(sealed_from(&row)?),
                None => None,
            };
            let Some(fact) = fact.filter(|fact| fact.version == due) else {
                return Err(LogError::StreamTooOld {
                    stream: stream.to_owned(),
                    version: due,
                    floor: row.try_get("floor")?,
                });
            };
            due += if back { -1 } else { 1 };
            bytes += i64::try_from(fact.payload.len()).unwrap_or(i64::MAX);
            facts.push(fact);
            if bytes >= limits.bytes {
                break;
            }
        }
        Ok(facts)
    }
}
