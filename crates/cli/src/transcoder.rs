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

/// A variable of the worker's; none: it does not inherit ours.
pub type Variable = (&'static str, Option<OsString>);

/// Keeps one `cinelog-transcoder worker` running with `environment` until `shutdown`.
pub fn keep(environment: Vec<Variable>, shutdown: &Shutdown) {
    let end = shutdown.clone();
    shutdown.spawn(async move {
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
        while !end.is_cancelled() {
            match start(&environment) {
                Ok(mut child) => {
                    // Taken, because waiting for the child would close it.
                    let life = child.stdin.take();
                    tokio::select! {
                        ended = child.wait() => tracing::error!(?ended, "the transcoder ended; starting it again"),
                        () = end.cancelled() => {
                            drop(life);
                            return drain(child).await;
                        }
                    }
                }
                Err(error) => {
                    tracing::error!(%error, program = ?program(), "the transcoder does not start");
                }
            }
            end.sleep(backoff.next_wait()).await;
        }
    });
}

fn start(environment: &[Variable]) -> std::io::Result<Child> {
    let mut command = Command::new(program());
    for (name, value) in environment {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    // No kernel but Linux confines what reads media; elsewhere this is a developer's own machine.
    if cfg!(not(target_os = "linux")) && std::env::var_os("SANDBOX").is_none() {
        command.env("SANDBOX", "best-effort");
    }
    command
        .args(["worker", "--end-with-stdin", "--drain-seconds", FINISH])
        // Open as long as we live, whatever ends us: the worker ends with it.
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        // Not in the terminal's group: a Ctrl-C reaches it through us, in order.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

/// Waits for a worker whose input has ended.
async fn drain(mut child: Child) {
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
