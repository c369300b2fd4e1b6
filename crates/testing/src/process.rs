//! A child process that cannot outlive its test.

use std::ffi::OsStr;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::watch;

/// A running program, leader of a process group of its own. Dropping it kills the group, so what the program started
/// goes with it.
#[derive(Debug)]
pub struct Child {
    process: tokio::process::Child,
    group: Pid,
    stdout: watch::Receiver<Captured>,
    stderr: watch::Receiver<Captured>,
}

/// What a program left when it ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// All it wrote to its standard output.
    pub stdout: String,
    /// All it wrote to its standard error.
    pub stderr: String,
}

#[derive(Debug, Default)]
struct Captured {
    text: Vec<u8>,
    ended: bool,
}

impl Child {
    /// Starts `program` with `args`, and `environment` added to this process's.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    pub fn start(program: impl AsRef<OsStr>, args: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = tokio::process::Command::new(program);
        command.args(args).envs(environment.iter().copied());
        Self::spawn(command)
    }

    /// Starts `command`; its output is captured and its input is empty.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    pub fn spawn(mut command: tokio::process::Command) -> Self {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("start {command:?}: {error}"));
        let id = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .expect("a running child has an id");
        Self {
            group: Pid::from_raw(id).expect("a process id is positive"),
            stdout: capture(child.stdout.take().expect("stdout is piped")),
            stderr: capture(child.stderr.take().expect("stderr is piped")),
            process: child,
        }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.group.as_raw_pid().cast_unsigned()
    }

    /// Sends `signal` to it and all it started.
    pub fn signal(&self, signal: Signal) {
        // The group may be gone already, which is what a signal is for.
        let _ = kill_process_group(self.group, signal);
    }

    /// Ends it as `kill -9` does.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Waits for a line of its standard output that contains `part`, and returns the line.
    ///
    /// # Panics
    ///
    /// When the output ends, or `limit` is over, before there is one.
    pub async fn line(&mut self, part: &str, limit: Duration) -> String {
        let found = tokio::time::timeout(limit, async {
            loop {
                let ended = {
                    let captured = self.stdout.borrow_and_update();
                    let text = String::from_utf8_lossy(&captured.text);
                    // A line counts once it is whole.
                    let mut lines = text
                        .split_inclusive('\n')
                        .filter(|line| line.ends_with('\n'));
                    if let Some(line) = lines.find(|line| line.contains(part)) {
                        return Some(line.trim_end().to_owned());
                    }
                    captured.ended
                };
                if ended || self.stdout.changed().await.is_err() {
                    return None;
                }
            }
        });
        if let Ok(Some(line)) = found.await {
            return line;
        }
        panic!(
            "no line with {part:?} within {limit:?}; stdout: {}; stderr: {}",
            self.stdout(),
            self.stderr()
        )
    }

    /// Waits at most `limit` for its end; whether it came.
    pub async fn ends_within(&mut self, limit: Duration) -> bool {
        tokio::time::timeout(limit, self.process.wait())
            .await
            .is_ok()
    }

    /// Waits until it has ended and its output is complete.
    ///
    /// # Panics
    ///
    /// When it is still running after `limit`.
    pub async fn finish(mut self, limit: Duration) -> Finished {
        let ended = tokio::time::timeout(limit, async {
            let status = self.process.wait().await;
            let _ = self.stdout.wait_for(|captured| captured.ended).await;
            let _ = self.stderr.wait_for(|captured| captured.ended).await;
            status
        });
        match ended.await {
            Ok(status) => Finished {
                status: status.expect("a child can be waited for"),
                stdout: self.stdout(),
                stderr: self.stderr(),
            },
            Err(tokio::time::error::Elapsed { .. }) => panic!(
                "still running after {limit:?}; stdout: {}; stderr: {}",
                self.stdout(),
                self.stderr()
            ),
        }
    }

    /// What it has written to its standard output so far.
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.stdout.borrow().text).into_owned()
    }

    /// What it has written to its standard error so far.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr.borrow().text).into_owned()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the reader ends with the pipe, which ends with the child's group"
)]
fn capture(mut pipe: impl AsyncRead + Unpin + Send + 'static) -> watch::Receiver<Captured> {
    let (sender, receiver) = watch::channel(Captured::default());
    tokio::spawn(async move {
        let mut buffer = [0; 8192];
        while let Ok(read @ 1..) = pipe.read(&mut buffer).await {
            sender.send_modify(|captured| captured.text.extend_from_slice(&buffer[..read]));
        }
        sender.send_modify(|captured| captured.ended = true);
    });
    receiver
}
