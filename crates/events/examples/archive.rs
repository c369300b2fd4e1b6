//! Archives whole partitions of a log into a folder: `archive DATABASE_URL BEFORE OUT`.
//!
//! The archive's tests start it as a process of its own, and kill it.

use std::time::Duration;

use anyhow::Context;
use events::archive::{Request, run};
use events::id::Position;
use service::db::{Role, connect};
use service::secret::Secret;
use service::shutdown::Shutdown;
use storage::{Config, Store};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let [_, url, before, out] = &std::env::args().collect::<Vec<_>>()[..] else {
        anyhow::bail!("usage: archive DATABASE_URL BEFORE OUT");
    };
    let store = Store::open_or_make(&Config {
        storage_url: Some(out.clone()),
        aws_access_key_id: None,
        aws_secret_access_key: None,
        public_url: None,
    })?;
    let request = Request {
        before: Position(before.parse().context("BEFORE")?),
        older_than: Duration::ZERO,
        segment_rows: 400,
        keep_tables: false,
    };
    let shutdown = Shutdown::new();
    shutdown.on_signal()?;
    let pool = connect(&Secret::new(url), Role::Owner, 4).await?;
    run(&pool, None, &store, request, &|_| {}, &shutdown).await?;
    Ok(())
}
