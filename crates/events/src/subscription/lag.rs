//! How far behind subscriptions are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use metrics::gauge;
use service::shutdown::Shutdown;
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool};
use tokio::sync::watch;

use crate::id::Lane;
use crate::metrics::{BEHIND_SECONDS, LANES_BEHIND};

/// How often it is looked at.
const EVERY: Duration = Duration::from_secs(1);
/// A look that takes longer is given up.
const LOOK_LIMIT: Duration = Duration::from_secs(5);

/// How far behind a subscription is.
#[derive(Clone, Debug, PartialEq)]
pub struct Lag {
    /// The subscription.
    pub subscription: String,
    /// Lanes that have facts it has not taken in.
    pub lanes_behind: i64,
    /// Age of the oldest such fact; zero when there is none. Of one that was archived, the least that it can be.
    pub behind: Duration,
    /// The same of each lane that is behind.
    pub lanes: BTreeMap<Lane, Duration>,
}

/// How far behind every subscription is.
pub async fn lag(connection: &mut PgConnection) -> Result<Vec<Lag>, sqlx::Error> {
    let rows: Vec<(String, Json<BTreeMap<i32, f64>>)> = sqlx::query_as(
        "SELECT c.subscription, coalesce(jsonb_object_agg(c.lane, coalesce(EXTRACT(epoch FROM clock_timestamp()
                    - CASE WHEN a.lane IS NULL THEN e.recorded_at ELSE oldest.recorded_at END), 0))
                FILTER (WHERE a.lane IS NOT NULL OR e.recorded_at IS NOT NULL), '{}')
         FROM subscription.checkpoints c
         LEFT JOIN log.archived a ON a.lane = c.lane AND a.position > c.position
         LEFT JOIN (SELECT recorded_at FROM log.events ORDER BY position LIMIT 1) oldest ON true
         LEFT JOIN LATERAL (
             SELECT recorded_at FROM log.events e
             WHERE e.lane = c.lane AND e.position > c.position ORDER BY e.position LIMIT 1) e ON true
         GROUP BY c.subscription ORDER BY c.subscription",
    )
    .fetch_all(connection)
    .await?;
    let lags = rows.into_iter().map(|(subscription, Json(lanes))| {
        let lanes = lanes.into_iter().filter_map(|(lane, seconds)| {
            Some((Lane::new(lane)?, Duration::from_secs_f64(seconds.max(0.0))))
        });
        let lanes: BTreeMap<Lane, Duration> = lanes.collect();
        Lag {
            subscription,
            lanes_behind: i64::try_from(lanes.len()).unwrap_or(i64::MAX),
            behind: lanes.values().max().copied().unwrap_or_default(),
            lanes,
        }
    });
    Ok(lags.collect())
}

/// Looks every second, tells the gauges, and gives what was seen last; nothing until the first look.
pub fn watch_lag(pool: PgPool, shutdown: &Shutdown) -> watch::Receiver<Option<Arc<Vec<Lag>>>> {
    let (seen, receiver) = watch::channel(None);
    let end = shutdown.clone();
    shutdown.spawn(async move {
        loop {
            let look = async { lag(&mut *pool.acquire().await?).await };
            match tokio::time::timeout(LOOK_LIMIT, look).await {
                Ok(Ok(lags)) => {
                    for lag in &lags {
                        let name = &lag.subscription;
                        gauge!(BEHIND_SECONDS, "subscription" => name.clone())
                            .set(lag.behind.as_secs_f64());
                        gauge!(LANES_BEHIND, "subscription" => name.clone())
                            .set(lag.lanes_behind as f64);
                    }
                    seen.send_replace(Some(Arc::new(lags)));
                }
                Ok(Err(error)) => tracing::warn!(%error, "lag could not be looked at"),
                Err(_) => tracing::warn!("a look at lag takes too long"),
            }
            if !end.sleep(EVERY).await {
                break;
            }
        }
    });
    receiver
}
