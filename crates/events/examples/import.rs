//! Imports what is behind a log's end: `import DATABASE_URL BROKERS PREFIX`.
//!
//! The import's tests start it as a process of its own, and kill it.

use events::log::{Config, Kafka, import};
use service::db::{Role, connect};
use service::secret::Secret;
use service::shutdown::Shutdown;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let [_, url, brokers, prefix] = &std::env::args().collect::<Vec<_>>()[..] else {
        anyhow::bail!("usage: import DATABASE_URL BROKERS PREFIX");
    };
    let config = Config {
        kafka_brokers: Some(brokers.clone()),
        topic_prefix: prefix.clone(),
        kafka_replication: 1,
        kafka_config: vec![],
    };
    let kafka = Kafka::from_config(&config).expect("brokers are given");
    let shutdown = Shutdown::new();
    let pool = connect(&Secret::new(url), Role::Owner, 2).await?;
    import(&pool, &kafka, false, &|_| {}, &shutdown).await?;
    Ok(())
}
