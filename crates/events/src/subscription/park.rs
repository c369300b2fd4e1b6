//! Subjects whose facts cannot be taken in: they wait, and the rest goes on (ADR 17).

use std::collections::{BTreeSet, HashSet};

use chrono::{DateTime, Utc};
use metrics::gauge;
use serde::Serialize;
use service::db;
use sqlx::{PgConnection, PgPool};

use super::Subscriber;
use super::apply::{ApplyError, begin, take_in};
use super::checkpoint::{self, Advance, Step};
use crate::envelope::{Recorded, Sealed};
use crate::failpoint;
use crate::id::{Lane, Position, TenantId};
use crate::metrics::SUBJECTS_PARKED;
use crate::store::{COLUMNS, Keys, sealed_from};

/// What is kept of an error.
const ERROR_CHARS: usize = 2_000;

/// A subject whose facts wait.
#[derive(Clone, Debug, Serialize, sqlx::FromRow)]
pub struct Parked {
    /// The subscription that cannot take them in.
    pub subscription: String,
    /// Whose data it is.
    pub tenant: TenantId,
    /// The subject.
    pub subject: String,
    /// What is wrong with the first of them.
    pub error: String,
    /// Since when they wait.
    pub parked_at: DateTime<Utc>,
    /// What somebody wants to be done: `retry` or `drop`.
    pub wish: Option<String>,
    /// The first of them.
    pub position: Position,
    /// How many there are.
    pub facts: i64,
}

/// What can be done with a parked subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Try its facts again, in order.
    Retry,
    /// Leave its first fact out for good, then try the others.
    Drop,
}

impl Wish {
    fn name(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Drop => "drop",
        }
    }
}

/// All parked subjects, those that have waited longest first; of one subscription where it is named.
pub async fn parked(
    connection: &mut PgConnection,
    subscription: Option<&str>,
) -> sqlx::Result<Vec<Parked>> {
    sqlx::query_as(
        "SELECT p.subscription, p.tenant, p.subject, p.error, p.parked_at, p.wish, min(f.position) AS position,
                count(*) AS facts
         FROM subscription.parked p JOIN subscription.parked_facts f USING (subscription, tenant, subject)
         WHERE $1::text IS NULL OR p.subscription = $1
         GROUP BY p.subscription, p.tenant, p.subject ORDER BY p.parked_at, p.subscription, p.subject",
    )
    .bind(subscription)
    .fetch_all(connection)
    .await
}

/// The facts of a parked subject that wait, in order, as they are stored; `most` at most.
pub async fn waiting(
    connection: &mut PgConnection,
    subscription: &str,
    (tenant, subject): (TenantId, &str),
    most: i64,
) -> sqlx::Result<Vec<Sealed>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM subscription.parked_facts p JOIN log.events e ON e.position = p.position
         WHERE p.subscription = $1 AND p.tenant = $2 AND p.subject = $3 ORDER BY p.position LIMIT $4"
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(subscription)
        .bind(tenant)
        .bind(subject)
        .bind(most)
        .fetch_all(connection)
        .await?;
    rows.iter().map(sealed_from).collect()
}

/// Asks the process that has the lane to do something with a parked subject; false: it is not parked any more.
pub async fn wish(
    connection: &mut PgConnection,
    parked: &Parked,
    wish: Wish,
) -> sqlx::Result<bool> {
    let asked = sqlx::query(
        "UPDATE subscription.parked SET wish = $4 WHERE subscription = $1 AND tenant = $2 AND subject = $3",
    )
    .bind(&parked.subscription)
    .bind(parked.tenant)
    .bind(&parked.subject)
    .bind(wish.name())
    .execute(connection)
    .await?;
    Ok(asked.rows_affected() == 1)
}

/// What a subscription has not taken in below its checkpoints, or has left out.
pub async fn left_out(
    connection: &mut PgConnection,
    subscription: &str,
) -> sqlx::Result<BTreeSet<Position>> {
    let positions: Vec<Position> = sqlx::query_scalar(
        "SELECT position FROM subscription.parked_facts WHERE subscription = $1
         UNION ALL SELECT position FROM subscription.dropped WHERE subscription = $1",
    )
    .bind(subscription)
    .fetch_all(connection)
    .await?;
    Ok(positions.into_iter().collect())
}

/// Has `to` begin with what `from` has parked and dropped: those subjects are parked from their first fact on.
pub async fn inherit(connection: &mut PgConnection, from: &str, to: &str) -> sqlx::Result<()> {
    sqlx::query(
        "WITH dropped AS (
             INSERT INTO subscription.dropped SELECT $2, position, tenant, subject, error, dropped_at
             FROM subscription.dropped WHERE subscription = $1 ON CONFLICT DO NOTHING)
         INSERT INTO subscription.parked (subscription, tenant, subject, lane, error)
         SELECT $2, tenant, subject, lane, error FROM subscription.parked WHERE subscription = $1
         ON CONFLICT DO NOTHING",
    )
    .bind(from)
    .bind(to)
    .execute(connection)
    .await?;
    Ok(())
}

/// Wishes that all that a subscription has parked be tried again; how many subjects that is.
pub async fn retry_all(connection: &mut PgConnection, subscription: &str) -> sqlx::Result<u64> {
    let asked =
        sqlx::query("UPDATE subscription.parked SET wish = 'retry' WHERE subscription = $1");
    Ok(asked
        .bind(subscription)
        .execute(connection)
        .await?
        .rows_affected())
}

/// Takes the facts of parked subjects out of a batch, and writes down that they wait. The lanes' checkpoints are locked.
pub(super) async fn set_aside(
    tx: &mut PgConnection,
    subscription: &str,
    steps: &[Step],
    facts: &mut Vec<Sealed>,
) -> sqlx::Result<()> {
    let parked: Vec<(TenantId, String)> = sqlx::query_as(
        "SELECT tenant, subject FROM subscription.parked WHERE subscription = $1 AND lane = ANY ($2)",
    )
    .bind(subscription)
    .bind(numbers(steps.iter().map(|step| step.lane)))
    .fetch_all(&mut *tx)
    .await?;
    let parked: HashSet<_> = parked.into_iter().collect();
    let waits = |fact: &mut Sealed| parked.contains(&(fact.tenant, fact.subject.clone()));
    let waiting: Vec<Sealed> = facts.extract_if(.., waits).collect();
    keep(tx, subscription, &waiting).await
}

async fn keep(tx: &mut PgConnection, subscription: &str, facts: &[Sealed]) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO subscription.parked_facts (subscription, position, tenant, subject)
         SELECT $1, * FROM unnest($2::bigint[], $3::uuid[], $4::text[])",
    )
    .bind(subscription)
    .bind(facts.iter().map(|fact| fact.position).collect::<Vec<_>>())
    .bind(facts.iter().map(|fact| fact.tenant).collect::<Vec<_>>())
    .bind(facts.iter().map(|fact| &*fact.subject).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(())
}

/// Parks the subject of a fact that cannot be taken in, as its lane's next step.
pub(super) async fn park(
    pool: &PgPool,
    subscription: &str,
    steps: &[Step],
    fact: &Sealed,
    error: &ApplyError,
) -> sqlx::Result<Advance> {
    let mut tx = db::begin(pool, "BEGIN").await?;
    let (advance, _) = checkpoint::advance(&mut tx, subscription, steps).await?;
    if advance != Advance::Done {
        return Ok(advance);
    }
    sqlx::query(
        "INSERT INTO subscription.parked (subscription, tenant, subject, lane, error) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT DO NOTHING",
    )
    .bind(subscription)
    .bind(fact.tenant)
    .bind(&fact.subject)
    .bind(fact.lane.number())
    .bind(told(error))
    .execute(&mut *tx)
    .await?;
    keep(&mut tx, subscription, std::slice::from_ref(fact)).await?;
    tx.commit().await?;
    Ok(Advance::Done)
}

/// Writes down that a fact has no effect, and why.
pub(super) async fn note_dropped(
    tx: &mut PgConnection,
    subscription: &str,
    fact: &Recorded,
    error: &str,
) -> sqlx::Result<()> {
    tracing::warn!(
        subscription,
        subject = fact.subject,
        position = fact.position.0,
        error,
        "a fact has no effect"
    );
    sqlx::query(
        "INSERT INTO subscription.dropped (subscription, position, tenant, subject, error) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(subscription)
    .bind(fact.position)
    .bind(fact.tenant)
    .bind(&fact.subject)
    .bind(bounded(error))
    .execute(tx)
    .await?;
    Ok(())
}

/// A parked subject that somebody has a wish for.
#[derive(Debug)]
pub(super) struct Wished {
    subscription: String,
    tenant: TenantId,
    pub(super) subject: String,
    lane: i16,
    wish: String,
}

/// Wishes for subjects of these lanes. Tells how many are parked, too.
pub(super) async fn wished(
    pool: &PgPool,
    subscription: &str,
    lanes: impl Iterator<Item = Lane>,
) -> sqlx::Result<Vec<Wished>> {
    let parked: Vec<(TenantId, String, i16, Option<String>)> = sqlx::query_as(
        "SELECT tenant, subject, lane, wish FROM subscription.parked WHERE subscription = $1 AND lane = ANY ($2)",
    )
    .bind(subscription)
    .bind(numbers(lanes))
    .fetch_all(pool)
    .await?;
    gauge!(SUBJECTS_PARKED, "subscription" => subscription.to_owned()).set(parked.len() as f64);
    let wished = parked
        .into_iter()
        .filter_map(|(tenant, subject, lane, wish)| {
            Some(Wished {
                subscription: subscription.to_owned(),
                tenant,
                subject,
                lane,
                wish: wish?,
            })
        });
    Ok(wished.collect())
}

/// Does what is wished, fact by fact. Where a fact is poison still, it and those behind it wait on, with its new error.
pub(super) async fn fulfil(
    subscriber: &dyn Subscriber,
    pool: &PgPool,
    keys: &Keys,
    wished: &Wished,
) -> Result<(), ApplyError> {
    let mut drops = wished.wish == Wish::Drop.name();
    loop {
        let mut tx = begin(subscriber, pool).await?;
        let Some(fact) = wished.first(&mut tx).await? else {
            wished.forget(&mut tx).await?;
            tx.commit().await?;
            return Ok(());
        };
        let position = fact.position;
        if drops {
            wished.note_dropped(&mut tx, position).await?;
        } else if let Err(error) = take_in(subscriber, keys, &mut tx, vec![fact]).await {
            tx.rollback().await?;
            return if error.is_poison() {
                Ok(wished.wait_on(pool, &error).await?)
            } else {
                Err(error)
            };
        }
        drops = false;
        wished.done(&mut tx, position).await?;
        tx.commit().await?;
        failpoint::hit("subscription.unparked");
    }
}

impl Wished {
    /// The first fact that waits. Locks the lane's checkpoint first: nothing of the subject comes in between.
    async fn first(&self, tx: &mut PgConnection) -> sqlx::Result<Option<Sealed>> {
        sqlx::query(
            "SELECT FROM subscription.checkpoints WHERE subscription = $1 AND lane = $2 FOR UPDATE",
        )
        .bind(&self.subscription)
        .bind(self.lane)
        .execute(&mut *tx)
        .await?;
        let waiting = waiting(tx, &self.subscription, (self.tenant, &self.subject), 1);
        Ok(waiting.await?.pop())
    }

    async fn note_dropped(&self, tx: &mut PgConnection, position: Position) -> sqlx::Result<()> {
        sqlx::query(
            "WITH parked AS (
                 UPDATE subscription.parked SET wish = 'retry'
                 WHERE subscription = $1 AND tenant = $2 AND subject = $3 RETURNING *)
             INSERT INTO subscription.dropped (subscription, position, tenant, subject, error)
             SELECT subscription, $4, tenant, subject, error FROM parked",
        )
        .bind(&self.subscription)
        .bind(self.tenant)
        .bind(&self.subject)
        .bind(position)
        .execute(tx)
        .await?;
        Ok(())
    }

    async fn done(&self, tx: &mut PgConnection, position: Position) -> sqlx::Result<()> {
        sqlx::query(
            "DELETE FROM subscription.parked_facts WHERE subscription = $1 AND position = $2",
        )
        .bind(&self.subscription)
        .bind(position)
        .execute(tx)
        .await?;
        Ok(())
    }

    async fn forget(&self, tx: &mut PgConnection) -> sqlx::Result<()> {
        sqlx::query(
            "DELETE FROM subscription.parked WHERE subscription = $1 AND tenant = $2 AND subject = $3",
        )
        .bind(&self.subscription)
        .bind(self.tenant)
        .bind(&self.subject)
        .execute(tx)
        .await?;
        Ok(())
    }

    async fn wait_on(&self, pool: &PgPool, error: &ApplyError) -> sqlx::Result<()> {
        sqlx::query(
            "UPDATE subscription.parked SET error = $4, wish = NULL
             WHERE subscription = $1 AND tenant = $2 AND subject = $3",
        )
        .bind(&self.subscription)
        .bind(self.tenant)
        .bind(&self.subject)
        .bind(told(error))
        .execute(pool)
        .await?;
        Ok(())
    }
}

fn numbers(lanes: impl Iterator<Item = Lane>) -> Vec<i16> {
    lanes.map(Lane::number).collect()
}

/// An error as it is kept: bounded, and without what Postgres takes in no text.
fn told(error: &ApplyError) -> String {
    bounded(&error.to_string())
}

fn bounded(text: &str) -> String {
    text.replace('\0', "").chars().take(ERROR_CHARS).collect()
}
