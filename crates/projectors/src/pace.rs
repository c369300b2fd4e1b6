//! How fast a rebuild may go while others read.

use std::time::Duration;

use sqlx::{AssertSqlSafe, PgPool};
use tokio::time::{Instant, sleep, timeout};

/// A read that takes so many times as long as it can is slow, if it takes this long at all.
const SLOW: (u32, Duration) = (4, Duration::from_millis(20));
/// How long a rebuild stands back before it looks again.
const BACK: Duration = Duration::from_millis(500);
/// It goes on in the end, however slow reads are: others may be why.
const LONGEST: Duration = Duration::from_secs(5);

/// Measures what a read of the live generation takes, and holds a rebuild back while that is slow.
pub(crate) struct Pace<'a> {
    pool: &'a PgPool,
    probe: String,
    best: Duration,
}

impl<'a> Pace<'a> {
    /// Of reads of `generation`.
    pub(crate) async fn of(pool: &'a PgPool, generation: &str) -> sqlx::Result<Self> {
        let table: Option<String> = sqlx::query_scalar(
            "SELECT relname::text FROM pg_class WHERE relnamespace = $1::regnamespace AND relkind = 'r'
             ORDER BY relpages DESC LIMIT 1",
        )
        .bind(generation)
        .fetch_optional(pool)
        .await?;
        let from = table.map(|table| format!(" FROM {generation}.{table} LIMIT 100"));
        Ok(Self {
            pool,
            probe: format!("SELECT 1{}", from.unwrap_or_default()),
            best: Duration::MAX,
        })
    }

    /// Waits while reads are slow; how long.
    pub(crate) async fn hold(&mut self) -> sqlx::Result<Duration> {
        let began = Instant::now();
        while began.elapsed() < LONGEST {
            let asked = Instant::now();
            let read = sqlx::query(AssertSqlSafe(self.probe.clone())).fetch_all(self.pool);
            if let Ok(read) = timeout(BACK, read).await {
                read?;
            }
            let took = asked.elapsed();
            self.best = self.best.min(took);
            if !is_slow(self.best, took) {
                break;
            }
            sleep(BACK).await;
        }
        Ok(began.elapsed())
    }
}

fn is_slow(best: Duration, took: Duration) -> bool {
    took > SLOW.1 && took > best.saturating_mul(SLOW.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_is_much_slower_than_it_can_be() {
        let ms = Duration::from_millis;
        assert!(!is_slow(ms(1), ms(15)), "nobody feels that");
        assert!(is_slow(ms(1), ms(25)));
        assert!(!is_slow(ms(10), ms(25)), "this machine is no faster");
        assert!(is_slow(ms(10), ms(41)));
    }
}
