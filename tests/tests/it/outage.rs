//! The brokers go away for a while: nothing stops but the relay, which says how much waits.

use std::time::Duration;

use rustix::process::Signal;
use testing::kafka::{self, Broker};
use testing::{port, wait};

use crate::world::{LIMIT, World};

/// What the relay says of itself.
struct Metrics(String);

impl Metrics {
    async fn read(&self, name: &str) -> Option<f64> {
        let answer = reqwest::get(&self.0).await.ok()?.text().await.ok()?;
        let mut lines = answer.lines();
        let line = lines.find(|line| line.split_once(' ').is_some_and(|(n, _)| n == name))?;
        line.rsplit_once(' ')?.1.parse().ok()
    }

    async fn reach(&self, name: &str, what: &str, enough: impl Fn(f64) -> bool) {
        wait::until_true(LIMIT, what, async || {
            self.read(name).await.is_some_and(&enough)
        })
        .await;
    }
}

#[expect(clippy::cast_precision_loss, reason = "these are some hundred facts")]
async fn head(world: &World) -> f64 {
    let head: i64 = sqlx::query_scalar("SELECT max(position) FROM log.events")
        .fetch_one(&world.owner)
        .await
        .unwrap();
    head as f64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_brokers_are_away_the_relay_waits_and_says_how_much_does() {
    const BACKLOG: &str = "cinelog_relay_backlog_facts";
    const AGE: &str = "cinelog_relay_age_seconds";
    let (mut world, broker) = (World::new(None, 9).await, Broker::new());
    let (prefix, admin) = (kafka::unique_prefix(), port::free().to_string());
    let brokers = broker.brokers();
    let there = [("KAFKA_BROKERS", &*brokers), ("TOPIC_PREFIX", &*prefix)];
    world.life.go_on(50).await;
    let command = ["relay", "--admin-listen", &admin];
    let relay = world.programs.start(&command, &there);
    let metrics = Metrics(format!("http://{admin}/metrics"));
    let before = head(&world).await;
    let facts = "cinelog_relay_facts_total";
    metrics
        .reach(facts, "all is relayed", |count| count >= before)
        .await;
    metrics
        .reach(BACKLOG, "nothing waits", |count| count == 0.0)
        .await;

    broker.kill();
    let mut waiting = 0.0;
    for _ in 0..2 {
        world.life.go_on(60).await;
        let more = head(&world).await - before;
        assert!(more > waiting, "people go on");
        waiting = more;
        let told = |count: f64| (count - more).abs() < 0.5;
        metrics.reach(BACKLOG, "the backlog is told", told).await;
    }
    let age = metrics.read(AGE).await.unwrap();
    let older = Duration::from_secs(3).as_secs_f64();
    metrics
        .reach(AGE, "the oldest grows older", |now| now > age + older)
        .await;

    broker.start();
    metrics
        .reach(BACKLOG, "nothing waits any more", |count| count == 0.0)
        .await;
    let verified = world.programs.start(&["verify"], &there);
    let verified = verified.finish(LIMIT).await;
    assert!(verified.stdout.contains("no differences"), "{verified:?}");
    let all = format!("{} records", head(&world).await);
    assert!(verified.stdout.contains(&all), "{verified:?}");
    relay.signal(Signal::TERM);
    let ended = relay.finish(LIMIT).await;
    assert!(ended.status.success(), "{ended:?}");
    assert!(world.shutdown.finish(LIMIT).await);
}
