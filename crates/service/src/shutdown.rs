//! The only signal handling, and the only way to start a task: every task has an owner that waits for it.

use std::fmt::Display;
use std::future::Future;
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Tells tasks to end and waits until they have. Clones share the same fate; [`Shutdown::child`] makes a narrower one.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    token: CancellationToken,
    tasks: TaskTracker,
    failure: Arc<OnceLock<String>>,
    last_act: Arc<Mutex<Option<Command>>>,
}

impl Shutdown {
    /// A fate of its own.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends when this one ends, or earlier by itself.
    #[must_use]
    pub fn child(&self) -> Self {
        Self {
            token: self.token.child_token(),
            tasks: TaskTracker::new(),
            failure: Arc::default(),
            last_act: self.last_act.clone(),
        }
    }

    /// The token that work in progress watches.
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// Resolves when the end has been asked for.
    pub async fn cancelled(&self) {
        self.token.cancelled().await;
    }

    /// Whether the end has been asked for.
    pub fn is_cancelled(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Asks every task to end.
    pub fn cancel(&self) {
        self.token.cancel();
    }

    /// Asks every task to end because of a failure that trying again cannot mend.
    pub fn fail(&self, reason: impl Display) {
        self.failure.set(reason.to_string()).ok();
        self.token.cancel();
    }

    /// Why the end was asked for, when it was a failure; the first one.
    pub fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// Runs `command` before a second signal ends the process: what must not outlive it, and would. A short one.
    pub fn on_second_signal(&self, command: Command) {
        *self.last_act.lock().unwrap_or_else(PoisonError::into_inner) = Some(command);
    }

    /// Starts a task that [`Shutdown::finish`] waits for.
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tasks.spawn(task)
    }

    /// Waits `wait` or until the end is asked for; true when the time went by.
    pub async fn sleep(&self, wait: Duration) -> bool {
        tokio::select! {
            () = self.token.cancelled() => false,
            () = tokio::time::sleep(wait) => true,
        }
    }

    /// Asks every task to end and waits for them, at most `limit`; false when some were still running.
    pub async fn finish(&self, limit: Duration) -> bool {
        self.token.cancel();
        self.tasks.close();
        tokio::time::timeout(limit, self.tasks.wait()).await.is_ok()
    }

    /// Ends on the first SIGINT, SIGTERM or SIGHUP; a second one ends the process at once.
    pub fn on_signal(&self) -> std::io::Result<()> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hang_up = (!ignores_hang_up())
            .then(|| signal(SignalKind::hangup()))
            .transpose()?;
        let (token, last_act) = (self.token.clone(), self.last_act.clone());
        let mut stop = async move || {
            let hung_up = async {
                match &mut hang_up {
                    Some(signal) => signal.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = interrupt.recv() => 130,
                _ = terminate.recv() => 143,
                _ = hung_up => 129,
            }
        };
        // Not tracked: it must outlive the tasks it ends, and it owns nothing that needs an orderly end.
        #[expect(
            clippy::disallowed_methods,
            reason = "the signal listener has the life of the process"
        )]
        tokio::spawn(async move {
            stop().await;
            token.cancel();
            tracing::info!("stopping; a second signal stops at once");
            let code = stop().await;
            let command = last_act
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            if let Some(mut command) = command {
                command.status().ok();
            }
            std::process::exit(code);
        });
        Ok(())
    }
}

/// Whether we were started to survive the terminal, as `nohup` does it: a handler of ours would undo that. Where there is
/// no `/proc`, a hang-up ends us.
fn ignores_hang_up() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // The lowest bit is that of signal 1, SIGHUP.
    ignored.is_some_and(|mask| mask & 1 == 1)
}
