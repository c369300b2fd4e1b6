//! Side effects: mails, pushes, calls to others. What they do cannot be undone, so they are no read model's business.

use std::collections::VecDeque;
use std::error::Error;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use sqlx::PgConnection;
use tokio::sync::Mutex;

use super::{Subscriber, park};
use crate::envelope::Recorded;
use crate::fact::Fact;
use crate::id::EventId;

/// Something that facts make happen outside. It begins with what is appended after its first start and never sees a fact from
/// before; nothing fills, rebuilds or compares it, which need a [`Subscriber`].
///
/// Each fact comes at least once, those of a subject in order: one whose effect was had comes again when the process, or Postgres,
/// died before that was written down, and when an older backup is restored. What is told outside should carry the fact's event id, by
/// which a repetition is known.
pub trait Reactor: Send + Sync + 'static {
    /// Its name among the checkpoints, e.g. `mail`.
    fn name(&self) -> &str;

    /// Whether it cares for a fact.
    fn handles(&self, fact: &Fact) -> bool;

    /// Has the effect of one fact. A batch of them has a minute.
    fn react<'a>(&'a self, fact: &'a Recorded) -> BoxFuture<'a, Result<(), ReactError>>;
}

/// Why a fact had no effect.
#[derive(Debug, thiserror::Error)]
pub enum ReactError {
    /// It may have one later: it is tried again, and everything behind it waits.
    #[error("{0}")]
    Later(#[source] Box<dyn Error + Send + Sync>),
    /// It never will: that is written down (`subscription.dropped`), and the rest goes on.
    #[error("{0}")]
    Never(#[source] Box<dyn Error + Send + Sync>),
}

/// The most facts in one transaction of a reactor.
pub(super) const BATCH: usize = 32;

/// A reactor as the runner sees it. Its effects are had while its lanes' checkpoints are locked: no two processes have the same
/// one at once.
pub(super) struct Reacting {
    reactor: Arc<dyn Reactor>,
    /// What had its effect lately. It comes again when another fact of its batch fails.
    lately: Mutex<VecDeque<EventId>>,
}

impl Reacting {
    pub(super) fn new(reactor: Arc<dyn Reactor>) -> Self {
        Self {
            reactor,
            lately: Mutex::default(),
        }
    }
}

impl Subscriber for Reacting {
    fn name(&self) -> &str {
        self.reactor.name()
    }

    fn replays(&self) -> bool {
        false
    }

    fn handles(&self, fact: &Fact) -> bool {
        self.reactor.handles(fact)
    }

    fn apply<'a>(
        &'a self,
        batch: &'a [Recorded],
        tx: &'a mut PgConnection,
    ) -> BoxFuture<'a, Result<(), sqlx::Error>> {
        async move {
            // Others outside may take their time; the runner limits it. What is done cannot be undone by losing the tail of a log.
            sqlx::query(
                "SELECT set_config('idle_in_transaction_session_timeout', '90s', true),
                    set_config('synchronous_commit', 'on', true)",
            )
            .execute(&mut *tx)
            .await?;
            let mut lately = self.lately.lock().await;
            for fact in batch {
                if lately.contains(&fact.event_id) {
                    continue;
                }
                match self.reactor.react(fact).await {
                    Ok(()) => {
                        lately.truncate(2 * BATCH - 1);
                        lately.push_front(fact.event_id);
                    }
                    Err(ReactError::Later(error)) => {
                        return Err(sqlx::Error::Io(std::io::Error::other(error)));
                    }
                    Err(ReactError::Never(error)) => {
                        park::note_dropped(tx, self.name(), fact, &error.to_string()).await?;
                    }
                }
            }
            Ok(())
        }
        .boxed()
    }
}
