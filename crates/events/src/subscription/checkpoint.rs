//! How far a subscription has come.

use std::collections::BTreeMap;

use sqlx::{PgConnection, PgPool};

use super::Subscriber;
use crate::envelope::Sealed;
use crate::id::{EventId, LANES, Lane, Position};
use crate::source::{self, LaneStart};

/// Makes a new subscription's rows; does nothing when they are there, or when its schema is not: it was dropped, and would
/// count as one that lags for ever. Where it does not replay, each lane begins behind its last fact.
pub(super) async fn prepare(pool: &PgPool, subscriber: &dyn Subscriber) -> Result<(), sqlx::Error> {
    sqlx::query(
        "WITH lanes AS (
            SELECT lane FROM generate_series(0, $2 - 1) AS g(lane)
            WHERE $3::text IS NULL OR to_regnamespace($3) IS NOT NULL
        ), checkpoints AS (
            INSERT INTO subscription.checkpoints (subscription, lane, position)
            SELECT $1, lane, CASE WHEN $4 THEN 0 ELSE coalesce(
                (SELECT max(position) FROM log.events e WHERE e.lane = l.lane),
                (SELECT position FROM log.archived a WHERE a.lane = l.lane), 0) END
            FROM lanes l
            WHERE NOT EXISTS (SELECT FROM subscription.checkpoints c WHERE c.subscription = $1)
            ON CONFLICT DO NOTHING
        )
        INSERT INTO subscription.leases (subscription, lane) SELECT $1, lane FROM lanes ON CONFLICT DO NOTHING",
    )
    .bind(subscriber.name())
    .bind(i32::from(LANES))
    .bind(subscriber.schema())
    .bind(subscriber.replays())
    .execute(pool)
    .await?;
    Ok(())
}

/// Where each of `lanes` goes on.
pub(super) async fn load(
    pool: &PgPool,
    subscription: &str,
    lanes: &[Lane],
) -> Result<Vec<LaneStart>, sqlx::Error> {
    let numbers: Vec<i16> = lanes.iter().map(|lane| lane.number()).collect();
    let rows: Vec<(i16, Position, i64)> = sqlx::query_as(
        "SELECT lane, position, kafka_offset FROM subscription.checkpoints
         WHERE subscription = $1 AND lane = ANY ($2) ORDER BY lane",
    )
    .bind(subscription)
    .bind(numbers)
    .fetch_all(pool)
    .await?;
    let starts = rows.into_iter().filter_map(|(lane, after, offset)| {
        Some(LaneStart {
            lane: Lane::new(lane.into())?,
            after,
            offset,
        })
    });
    Ok(starts.collect())
}

/// A lane's step in one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) lane: Lane,
    pub(super) from: Position,
    pub(super) to: Position,
    /// The fact at `to`.
    pub(super) event: EventId,
    pub(super) offset: i64,
}

/// The steps that `facts`, with their offsets, are for lanes that stand `at` these positions.
pub(super) fn steps<'a>(
    at: &BTreeMap<Lane, Position>,
    facts: impl Iterator<Item = (&'a Sealed, i64)>,
) -> Vec<Step> {
    let mut steps: BTreeMap<Lane, Step> = BTreeMap::new();
    for (fact, offset) in facts {
        let step = steps.entry(fact.lane).or_insert(Step {
            lane: fact.lane,
            from: at.get(&fact.lane).copied().unwrap_or_default(),
            to: fact.position,
            event: fact.event_id,
            offset,
        });
        (step.to, step.event, step.offset) = (fact.position, fact.event_id, offset);
    }
    steps.into_values().collect()
}

/// What moving checkpoints came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Advance {
    /// All moved.
    Done,
    /// One was not where this process believed: someone else moved it.
    Lost,
    /// The log in Postgres does not hold this fact, which the topic does.
    Ahead(Position),
}

/// Moves the checkpoints, if all of them still are where this process believes, and tells whether subjects of these lanes are
/// parked. They may only come to stand at facts that Postgres holds: after a restore the topic may be ahead, and what takes its
/// place would be skipped.
pub(super) async fn advance(
    tx: &mut PgConnection,
    subscription: &str,
    steps: &[Step],
) -> Result<(Advance, bool), sqlx::Error> {
    let (ahead, moved, parked): (Option<Position>, Option<i64>, bool) = sqlx::query_as(
        "SELECT ahead, moved, parked FROM subscription.advance($1, $2, $3, $4, $5, $6)",
    )
    .bind(subscription)
    .bind(steps.iter().map(|s| s.lane.number()).collect::<Vec<_>>())
    .bind(steps.iter().map(|s| s.from.0).collect::<Vec<_>>())
    .bind(steps.iter().map(|s| s.to.0).collect::<Vec<_>>())
    .bind(steps.iter().map(|s| s.event.0).collect::<Vec<_>>())
    .bind(steps.iter().map(|s| s.offset).collect::<Vec<_>>())
    .fetch_one(tx)
    .await?;
    let advance = match ahead {
        Some(position) => Advance::Ahead(position),
        None if moved.unwrap_or_default().unsigned_abs() == steps.len() as u64 => Advance::Done,
        None => Advance::Lost,
    };
    Ok((advance, parked))
}

/// Whether `subscription` has taken in every fact of each of these lanes up to its position. Lanes without news need no checkpoint, but
/// one that lacks archived facts has not reached what came after them.
pub async fn reached(
    connection: &mut PgConnection,
    subscription: &str,
    places: &BTreeMap<Lane, Position>,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT COALESCE(bool_and(COALESCE(c.position >= u.position
             OR c.position IS NOT NULL AND NOT EXISTS (
                     SELECT FROM log.events e WHERE e.lane = u.lane AND e.position > c.position AND e.position <= u.position)
                 AND NOT EXISTS (
                     SELECT FROM log.archived a WHERE a.lane = u.lane AND a.position > c.position), false)), true)
         FROM unnest($2::smallint[], $3::bigint[]) AS u(lane, position)
         LEFT JOIN subscription.checkpoints c ON c.subscription = $1 AND c.lane = u.lane",
    )
    .bind(subscription)
    .bind(places.keys().map(|lane| lane.number()).collect::<Vec<_>>())
    .bind(places.values().map(|position| position.0).collect::<Vec<_>>())
    .fetch_one(connection)
    .await
}

/// Where every lane of `subscription` is.
pub async fn positions(
    connection: &mut PgConnection,
    subscription: &str,
) -> Result<BTreeMap<Lane, Position>, sqlx::Error> {
    let rows: Vec<(i16, Position)> = sqlx::query_as(
        "SELECT lane, position FROM subscription.checkpoints WHERE subscription = $1",
    )
    .bind(subscription)
    .fetch_all(connection)
    .await?;
    Ok(lanes(rows))
}

fn lanes(rows: Vec<(i16, Position)>) -> BTreeMap<Lane, Position> {
    let lanes = rows
        .into_iter()
        .filter_map(|(lane, position)| Some((Lane::new(lane.into())?, position)));
    lanes.collect()
}

/// Up to where `subscription` has taken in every fact, whatever its lane, but those that are parked.
pub async fn level(pool: &PgPool, subscription: &str) -> Result<Position, sqlx::Error> {
    let lanes = positions(&mut *pool.acquire().await?, subscription).await?;
    if lanes.is_empty() {
        return Ok(Position::START);
    }
    source::level(pool, &lanes).await
}

/// Where every lane of `subscription` is, held there until the transaction of `connection` ends.
pub async fn held(
    connection: &mut PgConnection,
    subscription: &str,
) -> Result<BTreeMap<Lane, Position>, sqlx::Error> {
    let rows: Vec<(i16, Position)> = sqlx::query_as(
        "SELECT lane, position FROM subscription.checkpoints WHERE subscription = $1 ORDER BY lane FOR UPDATE",
    )
    .bind(subscription)
    .fetch_all(connection)
    .await?;
    Ok(lanes(rows))
}

/// Subscriptions that have taken in what the log does not hold, with the lane and how far they have come; `most` at most. They
/// would wait for positions to be given out anew, and never see what those hold first.
pub(crate) async fn ahead(
    connection: &mut PgConnection,
    floor: Position,
    most: i64,
) -> sqlx::Result<Vec<(String, i16, Position)>> {
    sqlx::query_as(
        "SELECT c.subscription, c.lane, c.position FROM subscription.checkpoints c
         WHERE c.position >= $1 AND NOT EXISTS (
             SELECT FROM log.events e WHERE e.position = c.position AND e.lane = c.lane)
         ORDER BY c.subscription, c.lane LIMIT $2",
    )
    .bind(floor)
    .bind(most)
    .fetch_all(connection)
    .await
}
