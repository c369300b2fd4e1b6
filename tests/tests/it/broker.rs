//! A Kafka broker of a test's own, which may go away and come back with all it had.

use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use testing::process::Child;
use testing::{environment, wait};
use tokio::net::TcpStream;

const LIMIT: Duration = Duration::from_mins(1);

/// How a broker goes away.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outage {
    /// Killed with `kill -9`, and started again.
    Killed,
    /// Stopped, so that connections stay open and nothing answers.
    Frozen,
}

/// It ends, and its data go, when this is dropped.
pub(crate) struct Broker {
    folder: TempDir,
    address: String,
}

impl Broker {
    pub(crate) async fn start() -> Self {
        let folder = TempDir::with_prefix("cinelog-kafka").unwrap();
        launch(folder.path(), None).await;
        let address = std::fs::read_to_string(folder.path().join("brokers")).unwrap();
        Self {
            address: address.trim().to_owned(),
            folder,
        }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Goes away until `meanwhile` is over, and comes back where it was.
    pub(crate) async fn goes_away(&self, how: Outage, meanwhile: impl Future<Output = ()>) {
        match how {
            Outage::Killed => {
                self.signal(Signal::KILL);
                // From now on its id may be another process's.
                std::fs::remove_file(self.folder.path().join("pid")).unwrap();
                wait::until_true(LIMIT, "the broker is gone", async || {
                    TcpStream::connect(&self.address).await.is_err()
                })
                .await;
                meanwhile.await;
                let (_, port) = self.address.rsplit_once(':').unwrap();
                launch(self.folder.path(), Some(port)).await;
            }
            Outage::Frozen => {
                self.signal(Signal::STOP);
                meanwhile.await;
                self.signal(Signal::CONT);
            }
        }
    }

    fn signal(&self, signal: Signal) {
        let id = std::fs::read_to_string(self.folder.path().join("pid"));
        let id = id.ok().and_then(|id| id.trim().parse().ok());
        if let Some(id) = id.and_then(Pid::from_raw) {
            // One that is gone needs no signal.
            let _ = kill_process(id, signal);
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

async fn launch(folder: &Path, port: Option<&str>) {
    let program = environment::root().join("ops/dev/kafka");
    let folder = folder.to_str().unwrap();
    let arguments: Vec<_> = ["start", folder].into_iter().chain(port).collect();
    let started = Child::start(program, &arguments, &[]).finish(LIMIT).await;
    assert!(started.status.success(), "{started:?}");
}
