//! The builds of read models that a process of projectors works on: those that are there are kept true, and those that another
//! version made are replaced.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use events::log::Kafka;
use events::source::Source;
use events::store::{Keys, Reader, Wake};
use events::subscription::{Options, Runner, Subscriber};
use projectors::rebuild::{Rebuild, RebuildError};
use projectors::registry;
use service::shutdown::Shutdown;
use sqlx::PgPool;
use uuid::Uuid;

/// How often builds of read models are looked for.
const LOOK: Duration = Duration::from_secs(1);
/// How long the last batch of a build that is not kept any more may take.
const LAST_BATCH: Duration = Duration::from_mins(1);
/// How long a build that could not be made waits for the next try.
const AGAIN: Duration = Duration::from_secs(10);
/// Writers at once of a build that nobody asked for by hand.
const WRITERS: NonZeroU16 = NonZeroU16::new(2).unwrap();

/// The builds of read models that this process keeps true.
pub(crate) struct Kept {
    pub(crate) pool: PgPool,
    pub(crate) config: projectors::config::Config,
    pub(crate) names: Vec<String>,
    pub(crate) kafka: Option<Kafka>,
    pub(crate) reader: Reader,
    pub(crate) keys: Keys,
    pub(crate) wake: Wake,
    pub(crate) log_id: Uuid,
    pub(crate) running: BTreeMap<String, Shutdown>,
}

impl Kept {
    /// Looks for builds until the end.
    pub(crate) fn keep(mut self, shutdown: &Shutdown) {
        let end = shutdown.clone();
        shutdown.spawn(async move {
            while end.sleep(LOOK).await {
                if let Err(error) = self.look(&end).await {
                    tracing::warn!(%error, "builds of read models could not be looked for");
                }
            }
            for running in self.running.values() {
                running.finish(LAST_BATCH).await;
            }
        });
    }

    /// Rebuilds what another version made, read model by read model, while it is read and that version keeps it true. Of several
    /// processes one does it.
    pub(crate) fn replace(&self, owner: PgPool, shutdown: &Shutdown) {
        let (projector, reader, keys) = (self.pool.clone(), self.reader.clone(), self.keys.clone());
        let (config, names, end) = (self.config.clone(), self.names.clone(), shutdown.clone());
        shutdown.spawn(async move {
            let rebuild = Rebuild {
                owner: &owner,
                projector: &projector,
                reader: &reader,
                keys: &keys,
                writers: WRITERS,
            };
            loop {
                let wait = match replace_once(&rebuild, &config, &names, &end).await {
                    Ok(()) => LOOK,
                    Err(error) => {
                        tracing::warn!(%error, "a read model of another version could not be replaced yet");
                        AGAIN
                    }
                };
                if !end.sleep(wait).await {
                    break;
                }
            }
        });
    }

    pub(crate) async fn refuse_unknown(&self) -> anyhow::Result<()> {
        let known = projectors::registry::live(&self.pool).await?;
        anyhow::ensure!(
            !known.is_empty(),
            "there are no read models yet: run `cinelog migrate`"
        );
        if let Some(unknown) = self.names.iter().find(|name| !known.contains_key(*name)) {
            let known: Vec<_> = known.into_keys().collect();
            anyhow::bail!(
                "no projector is called `{unknown}`; there are {}",
                known.join(", ")
            );
        }
        Ok(())
    }

    /// Starts what is there now, and ends what is not any more.
    pub(crate) async fn look(&mut self, shutdown: &Shutdown) -> anyhow::Result<()> {
        let mut there = projectors::registry::subscribers(&self.pool, &self.config).await?;
        let of =
            |one: &Arc<dyn Subscriber>, name: &String| one.name().starts_with(&format!("{name}_g"));
        there.retain(|one| self.names.is_empty() || self.names.iter().any(|name| of(one, name)));
        let is_there = |name: &String| there.iter().any(|one| one.name() == name);
        let gone: Vec<_> = self
            .running
            .extract_if(.., |name, _| !is_there(name))
            .collect();
        for (name, running) in gone {
            tracing::info!(subscription = name, "not kept any more");
            running.finish(LAST_BATCH).await;
        }
        for subscriber in there {
            let name = subscriber.name().to_owned();
            if self.running.contains_key(&name) {
                continue;
            }
            let source = Source::open(
                self.kafka.as_ref(),
                self.reader.clone(),
                &self.wake,
                self.log_id,
                &name,
            )?;
            let runner = Runner::new(
                subscriber,
                self.pool.clone(),
                source,
                self.keys.clone(),
                Options::default(),
            );
            let own = shutdown.child();
            let end = own.clone();
            own.spawn(async move { runner.run(&end).await });
            self.running.insert(name, own);
        }
        Ok(())
    }
}

async fn replace_once(
    rebuild: &Rebuild<'_>,
    config: &projectors::config::Config,
    names: &[String],
    end: &Shutdown,
) -> Result<(), RebuildError> {
    for projection in registry::replaced(rebuild.owner, config).await? {
        if !names.is_empty() && !names.iter().any(|name| name == projection.name()) {
            continue;
        }
        tracing::info!(
            projection = projection.name(),
            "what another version made is replaced"
        );
        match rebuild.run(&projection, &|_, _| {}, end).await {
            Ok(rebuilt) => {
                tracing::info!(
                    now = rebuilt.now,
                    before = rebuilt.before,
                    "a read model is replaced"
                );
            }
            Err(RebuildError::Busy(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
