//! Subscriptions as those see them who run the platform: how much waits in each lane, and what is parked.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::id::{Lane, Position, TenantId};

/// What a subscription has not taken in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Backlog {
    /// Processes that share its lanes.
    pub processes: i64,
    /// The lanes that have something.
    pub lanes: BTreeMap<Lane, LaneBacklog>,
}

/// What a subscription has not taken in of one lane.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LaneBacklog {
    /// How far it has come.
    pub position: Position,
    /// Facts after that, counted as far as was asked for. Where some are in the archive, they pass for so many.
    pub facts: i64,
    /// Age of the oldest of them, seconds; of one that was archived, the least that it can be.
    pub seconds: f64,
}

/// The backlog of every subscription. In each lane at most `most` facts are counted: one that begins anew has all of them.
pub async fn backlogs(
    connection: &mut PgConnection,
    most: i64,
) -> sqlx::Result<BTreeMap<String, Backlog>> {
    let rows: Vec<(String, i16, Position, i64, Option<f64>)> = sqlx::query_as(
        "SELECT c.subscription, c.lane, c.position, CASE WHEN a.lane IS NULL THEN n.facts ELSE $1 END,
                EXTRACT(epoch FROM clock_timestamp()
                    - CASE WHEN a.lane IS NULL THEN e.recorded_at ELSE oldest.recorded_at END)::float8
         FROM subscription.checkpoints c
         LEFT JOIN log.archived a ON a.lane = c.lane AND a.position > c.position
         LEFT JOIN (SELECT recorded_at FROM log.events ORDER BY position LIMIT 1) oldest ON true
         LEFT JOIN LATERAL (
             SELECT recorded_at FROM log.events e
             WHERE e.lane = c.lane AND e.position > c.position ORDER BY e.position LIMIT 1) e ON true
         CROSS JOIN LATERAL (
             SELECT count(*) AS facts FROM (
                 SELECT FROM log.events e WHERE e.lane = c.lane AND e.position > c.position LIMIT $1) n) n",
    )
    .bind(most)
    .fetch_all(&mut *connection)
    .await?;
    let members: Vec<(String, i64)> = sqlx::query_as(
        "SELECT subscription, count(*) FROM subscription.members WHERE until >= clock_timestamp() GROUP BY subscription",
    )
    .fetch_all(connection)
    .await?;
    let mut backlogs: BTreeMap<String, Backlog> = BTreeMap::new();
    for (subscription, lane, position, facts, seconds) in rows {
        let backlog = backlogs.entry(subscription).or_default();
        if let (Some(lane), Some(seconds)) = (Lane::new(lane.into()), seconds) {
            let seconds = seconds.max(0.0);
            let waits = LaneBacklog {
                position,
                facts,
                seconds,
            };
            backlog.lanes.insert(lane, waits);
        }
    }
    for (subscription, processes) in members {
        if let Some(backlog) = backlogs.get_mut(&subscription) {
            backlog.processes = processes;
        }
    }
    Ok(backlogs)
}

/// A parked subject, and how many there are of its subscription. Neither its facts nor the error, which may quote them.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub struct Waiting {
    /// The subscription that cannot take it in.
    pub subscription: String,
    /// How many subjects this subscription has parked.
    pub subjects: i64,
    /// How many facts wait in all of them.
    pub facts: i64,
    /// Whose data it is.
    pub tenant: TenantId,
    /// The subject.
    pub subject: String,
    /// Since when it waits.
    pub parked_at: DateTime<Utc>,
    /// What somebody wants to be done: `retry` or `drop`.
    pub wish: Option<String>,
    /// The first of its facts that waits.
    pub position: Position,
    /// How many of its facts wait.
    pub waiting: i64,
}

/// The `each` newest parked subjects of every subscription that has some, the newest first.
pub async fn newest_parked(connection: &mut PgConnection, each: i64) -> sqlx::Result<Vec<Waiting>> {
    sqlx::query_as(
        "SELECT * FROM (
             SELECT p.subscription, p.tenant, p.subject, p.parked_at, p.wish, min(f.position) AS position,
                    count(*) AS waiting,
                    count(*) OVER of_it AS subjects,
                    (sum(count(*)) OVER of_it)::bigint AS facts,
                    row_number() OVER (PARTITION BY p.subscription ORDER BY p.parked_at DESC, p.tenant, p.subject) AS n
             FROM subscription.parked p JOIN subscription.parked_facts f USING (subscription, tenant, subject)
             GROUP BY p.subscription, p.tenant, p.subject
             WINDOW of_it AS (PARTITION BY p.subscription)) w
         WHERE n <= $1 ORDER BY subscription, n",
    )
    .bind(each)
    .fetch_all(connection)
    .await
}

/// Whether what subscriptions have taken in last came from the topic, as far as their checkpoints tell.
pub async fn reads_topic(connection: &mut PgConnection) -> sqlx::Result<bool> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM subscription.checkpoints WHERE kafka_offset > 0)",
    )
    .fetch_one(connection)
    .await
}
