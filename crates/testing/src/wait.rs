//! Waiting for a condition instead of for a time.

use std::time::{Duration, Instant};

/// How often a condition is looked at.
const EVERY: Duration = Duration::from_millis(10);

/// Waits until `condition` gives a value, and returns it.
///
/// # Panics
///
/// When `what` has not happened within `limit`.
pub async fn until<T>(
    limit: Duration,
    what: &str,
    mut condition: impl AsyncFnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + limit;
    loop {
        // The condition itself may hang; the limit holds for it too.
        let left = deadline
            .saturating_duration_since(Instant::now())
            .max(EVERY);
        match tokio::time::timeout(left, condition()).await {
            Ok(Some(value)) => return value,
            Ok(None) if Instant::now() < deadline => tokio::time::sleep(EVERY).await,
            _ => panic!("within {limit:?} it did not happen that {what}"),
        }
    }
}

/// Waits until `condition` holds.
///
/// # Panics
///
/// When `what` has not happened within `limit`.
pub async fn until_true(limit: Duration, what: &str, mut condition: impl AsyncFnMut() -> bool) {
    until(limit, what, async || condition().await.then_some(())).await;
}
