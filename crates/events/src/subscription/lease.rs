//! Sharing a subscription's lanes among processes: leases of three seconds, renewed twice a second.

use std::time::Duration;

use metrics::gauge;
use service::shutdown::Shutdown;
use sqlx::PgPool;
use tokio::sync::watch;
use uuid::Uuid;

use crate::id::Lane;
use crate::metrics::LANES_HELD;

const LEASE: Duration = Duration::from_secs(3);
const BEAT: Duration = Duration::from_millis(500);
/// A beat that takes longer counts as missed, well before the lease runs out.
const BEAT_LIMIT: Duration = Duration::from_secs(2);

/// Keeps this process's lanes, and says which they are, until `shutdown`; then gives them back.
pub(super) fn keep(
    pool: PgPool,
    subscription: String,
    shutdown: &Shutdown,
) -> watch::Receiver<Vec<Lane>> {
    let (held, receiver) = watch::channel(vec![]);
    let end = shutdown.clone();
    let me = Uuid::new_v4();
    shutdown.spawn(async move {
        loop {
            let lanes = beat(&pool, &subscription, me, false).await;
            gauge!(LANES_HELD, "subscription" => subscription.clone()).set(lanes.len() as f64);
            held.send_if_modified(|before| std::mem::replace(before, lanes.clone()) != lanes);
            if !end.sleep(BEAT).await {
                break;
            }
        }
        held.send_replace(vec![]);
        beat(&pool, &subscription, me, true).await;
    });
    receiver
}

/// One beat; a process that cannot reach Postgres holds nothing.
async fn beat(pool: &PgPool, subscription: &str, me: Uuid, leaving: bool) -> Vec<Lane> {
    let ask = sqlx::query_scalar::<_, Vec<i16>>(
        "SELECT subscription.hold($1, $2, $3::float8 * interval '1 s', $4)",
    )
    .bind(subscription)
    .bind(me)
    .bind(LEASE.as_secs_f64())
    .bind(leaving)
    .fetch_one(pool);
    match tokio::time::timeout(BEAT_LIMIT, ask).await {
        Ok(Ok(lanes)) => lanes
            .into_iter()
            .filter_map(|lane| Lane::new(lane.into()))
            .collect(),
        Ok(Err(error)) => {
            tracing::warn!(subscription, %error, "the lanes' leases were not renewed");
            vec![]
        }
        Err(_) => vec![],
    }
}
