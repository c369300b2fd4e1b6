//! `cinelog log info`.

use chrono::{DateTime, Utc};
use service::db::Role;
use uuid::Uuid;

use crate::out::say;
use crate::stack::Database;

/// Which log it is, how far it goes, and how far behind each subscription is.
#[derive(clap::Args)]
pub(super) struct Info {
    /// Also tell how far behind each lane is.
    #[arg(long)]
    lanes: bool,
    #[command(flatten)]
    database: Database,
}

impl Info {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let pool = self.database.pool(Role::Api).await?;
        let (id, floor, head, newest): (Uuid, i64, Option<i64>, Option<DateTime<Utc>>) = sqlx::query_as(
            "SELECT l.log_id, l.floor, e.position, e.recorded_at FROM log.log l
             LEFT JOIN LATERAL (SELECT position, recorded_at FROM log.events ORDER BY position DESC LIMIT 1) e ON true",
        )
        .fetch_one(&pool)
        .await?;
        say(format_args!("log       {id}"));
        say(format_args!("floor     {floor}"));
        say(format_args!("head      {}", head.unwrap_or(0)));
        if let Some(newest) = newest {
            say(format_args!("newest    {}", newest.to_rfc3339()));
        }
        for lag in events::subscription::lag(&mut *pool.acquire().await?).await? {
            let (name, lanes, seconds) =
                (lag.subscription, lag.lanes_behind, lag.behind.as_secs_f64());
            say(format_args!(
                "{name:<20} {seconds:>8.1} s behind in {lanes} lanes"
            ));
            for (lane, behind) in lag.lanes.iter().filter(|_| self.lanes) {
                let (lane, seconds) = (lane.number(), behind.as_secs_f64());
                say(format_args!("  lane {lane:<13} {seconds:>8.1} s"));
            }
        }
        Ok(())
    }
}
