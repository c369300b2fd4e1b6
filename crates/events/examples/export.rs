//! Exports a log into a folder or a bucket: `export DATABASE_URL ndjson|parquet SEGMENT_ROWS OUT [ACCESS_KEY SECRET_KEY]`.
//!
//! The export's tests start it as a process of its own, and kill it.

use anyhow::Context;
use clap::ValueEnum;
use events::export::{Format, Request, run};
use events::id::Position;
use service::db::{Role, connect};
use service::secret::Secret;
use service::shutdown::Shutdown;
use storage::{Config, Store};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let [_, url, format, segment_rows, out, keys @ ..] = &std::env::args().collect::<Vec<_>>()[..]
    else {
        anyhow::bail!(
            "usage: export DATABASE_URL ndjson|parquet SEGMENT_ROWS OUT [ACCESS_KEY SECRET_KEY]"
        );
    };
    let format = Format::from_str(format, false).map_err(anyhow::Error::msg)?;
    let store = Store::open_or_make(&Config {
        storage_url: Some(out.clone()),
        aws_access_key_id: keys.first().cloned(),
        aws_secret_access_key: keys.get(1).map(Secret::new),
        public_url: None,
    })?;
    let request = Request {
        format,
        from: Position(1),
        to: None,
        types: vec![],
        tenant: None,
        segment_rows: segment_rows.parse().context("SEGMENT_ROWS")?,
    };
    let shutdown = Shutdown::new();
    shutdown.on_signal()?;
    let pool = connect(&Secret::new(url), Role::Api, 2).await?;
    run(&pool, &store, &request, &|_| {}, &shutdown).await?;
    Ok(())
}
