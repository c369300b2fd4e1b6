//! The transcoder beside a single machine's processes: a child with its own rights, started again when it dies.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use service::retry::Backoff;
use service::shutdown::Shutdown;
use tokio::process::{Child, Command};

/// How long a worker may take to finish its jobs before it gives them back, and then to end.
const FINISH: &str = "5";
const DRAIN: Duration = Duration::from_secs(20);

/// Keeps one `cinelog-transcoder worker` running with `environment` until `shutdown`.
pub fn keep(environment: Vec<(&'static str, OsString)>, shutdown: &Shutdown) {
    let end = shutdown.clone();
    shutdown.spawn(async move {
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
        while !end.is_cancelled() {
            match start(&environment) {
                Ok(mut child) => tokio::select! {
                    ended = child.wait() => tracing::error!(?ended, "the transcoder ended; starting it again"),
                    () = end.cancelled() => return drain(child).await,
                },
                Err(error) => tracing::error!(%error, program = ?program(), "the transcoder does not start"),
            }
            end.sleep(backoff.next_wait()).await;
        }
    });
}

fn start(environment: &[(&'static str, OsString)]) -> std::io::Result<Child> {
    Command::new(program())
        .args(["worker", "--drain-seconds", FINISH])
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        // Not in the terminal's group: a Ctrl-C reaches it through us, in order.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

async fn drain(mut child: Child) {
    if let Some(id) = child.id() {
        Command::new("kill")
            .args(["-TERM", &id.to_string()])
            .status()
            .await
            .ok();
    }
    if tokio::time::timeout(DRAIN, child.wait()).await.is_err() {
        tracing::warn!(
            "the transcoder did not end in time and is killed; its jobs are taken again later"
        );
        child.kill().await.ok();
    }
}

/// The program beside this one, else the one on the PATH.
fn program() -> PathBuf {
    let name = "cinelog-transcoder";
    let beside = std::env::current_exe()
        .ok()
        .map(|me| me.with_file_name(name));
    beside
        .filter(|path| path.exists())
        .unwrap_or_else(|| name.into())
}
