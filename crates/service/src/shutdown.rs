//! The only signal handling, and the only way to start a task: every task has an owner that waits for it.

use std::fmt::Display;
use std::future::Future;
use std::sync::{Arc, OnceLock};
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

    /// Ends on the first SIGINT or SIGTERM; a second one ends the process at once.
    pub fn on_signal(&self) -> std::io::Result<()> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let token = self.token.clone();
        let mut stop = async move || {
            tokio::select! { _ = interrupt.recv() => 130, _ = terminate.recv() => 143 }
        };
        // Not tracked: it must outlive the tasks it ends, and it owns nothing that needs an orderly end.
        #[expect(
            clippy::disallowed_methods,
            reason = "the signal listener has the life of the process"
        )]
        tokio::spawn(async move {
            stop().await;
            tracing::info!("stopping; a second signal stops at once");
            token.cancel();
            std::process::exit(stop().await);
        });
        Ok(())
    }
}
