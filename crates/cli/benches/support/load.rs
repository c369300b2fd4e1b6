//! Closed-loop load: clients that ask again as soon as they are answered.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::client::Client;

/// What is asked for next.
pub(crate) type Requests = Arc<dyn Fn() -> Vec<u8> + Send + Sync>;

/// How long each answer took that so many `clients` got within `time`. All must be of this `status`.
pub(crate) async fn closed(
    address: SocketAddr,
    (clients, time): (usize, Duration),
    requests: &Requests,
    status: u16,
) -> Vec<Duration> {
    let mut connections = vec![];
    for _ in 0..clients {
        connections.push(Client::connect(address).await.unwrap());
    }
    let until = Instant::now() + time;
    let mut running = JoinSet::new();
    for mut client in connections {
        let requests = requests.clone();
        running.spawn(async move {
            let mut waits = vec![];
            loop {
                let request = requests();
                let begun = Instant::now();
                let answered = client.ask(&request).await.unwrap();
                if Instant::now() > until {
                    return waits;
                }
                let asked = String::from_utf8_lossy(&request);
                assert_eq!(answered, status, "to {}", asked.lines().next().unwrap());
                waits.push(begun.elapsed());
            }
        });
    }
    let waits = running.join_all().await.concat();
    assert!(!waits.is_empty(), "nothing was answered within {time:?}");
    waits
}

/// What was answered a second.
pub(crate) fn rate(waits: &[Duration], time: Duration) -> f64 {
    waits.len() as f64 / time.as_secs_f64()
}
