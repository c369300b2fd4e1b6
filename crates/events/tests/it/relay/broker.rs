//! The broker goes away and comes back.

use std::process::Command;
use std::time::Duration;

use events::id::{Lane, Position};
use events::log::{Kafka, KafkaTail};
use events::source::LaneStart;
use testing::{environment, kafka, port, wait};

use super::{LIMIT, Running, all, append, topics_at};
use crate::support::World;

/// A broker of this test's own, ended when dropped.
struct Broker {
    folder: tempfile::TempDir,
    port: u16,
}

impl Broker {
    fn new() -> Self {
        let broker = Self {
            folder: tempfile::tempdir().unwrap(),
            port: port::free().port(),
        };
        broker.start();
        broker
    }

    fn start(&self) {
        let script = environment::root().join("ops/dev/kafka");
        let mut start = Command::new(script);
        let status = start
            .arg("start")
            .arg(self.folder.path())
            .arg(self.port.to_string())
            .status();
        assert!(status.unwrap().success(), "the broker starts");
    }

    /// Ends it as a power cut does.
    fn kill(&self) {
        let file = self.folder.path().join("pid");
        let Ok(pid) = std::fs::read_to_string(&file) else {
            return;
        };
        let killed = Command::new("kill").args(["-9", pid.trim()]).status();
        assert!(killed.unwrap().success(), "the broker was running");
        std::fs::remove_file(file).unwrap();
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Reads the whole topic until it holds `count` facts; returns their positions in order.
async fn positions(kafka: &Kafka, world: &World, count: usize) -> Vec<i64> {
    let mut tail = KafkaTail::new(kafka, "test", world.log.id()).unwrap();
    let starts = Lane::all().map(|lane| LaneStart {
        lane,
        after: Position::START,
        offset: 0,
    });
    let starts: Vec<_> = starts.collect();
    wait::until_true(LIMIT, "the broker answers", async || {
        tail.assign(starts.clone()).await.is_ok()
    })
    .await;
    let mut seen = vec![];
    wait::until_true(LIMIT, "every fact is in the topic", async || {
        let batch = tail
            .next_batch(10_000, Duration::from_millis(100))
            .await
            .unwrap();
        seen.extend(batch.iter().map(|(fact, _)| fact.position.0));
        seen.len() >= count
    })
    .await;
    seen.sort_unstable();
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_away_for_a_while_costs_nothing_but_time() {
    let world = World::new().await;
    let broker = Broker::new();
    let kafka = topics_at(format!("127.0.0.1:{}", broker.port), kafka::unique_prefix());
    append(&world, "before", 300).await;
    let relay = Running::start(&world, &kafka).await;
    assert_eq!(positions(&kafka, &world, 300).await.len(), 300);
    broker.kill();
    append(&world, "while it is away", 300).await;
    broker.start();
    append(&world, "after", 100).await;
    let count = all(&world).await.len();
    let wanted: Vec<i64> = (1..=700).collect();
    assert_eq!(positions(&kafka, &world, count).await, wanted);
    relay.stop().await;
}
