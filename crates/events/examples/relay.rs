//! Relays a log to Kafka until it is told to stop: `relay DATABASE_URL BROKERS PREFIX`.
//!
//! The relay's tests start it as a process of its own, and kill it.

use events::log::{Config, Kafka, Relay};
use events::store::Wake;
use service::clock::Clock;
use service::db::{Role, connect};
use service::secret::Secret;
use service::shutdown::Shutdown;
use service::telemetry;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let [_, url, brokers, prefix] = &std::env::args().collect::<Vec<_>>()[..] else {
        anyhow::bail!("usage: relay DATABASE_URL BROKERS PREFIX");
    };
    telemetry::init_logs(&telemetry::Config {
        log: "info".to_owned(),
    });
    let config = Config {
        kafka_brokers: Some(brokers.clone()),
        topic_prefix: prefix.clone(),
        kafka_replication: 1,
        kafka_config: vec![],
    };
    let kafka = Kafka::from_config(&config).expect("brokers are given");
    let shutdown = Shutdown::new();
    shutdown.on_signal()?;
    let pool = connect(&Secret::new(url), Role::Api, 4).await?;
    let wake = Wake::start(pool.clone(), &shutdown);
    Relay::new(pool, wake, kafka, Clock::System)
        .run(&shutdown)
        .await?;
    Ok(())
}
