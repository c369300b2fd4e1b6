//! `cinelog rebuild`.

use std::num::NonZeroU16;
use std::sync::Arc;

use anyhow::{Context, bail};
use events::id::{Position, TenantId, UserId};
use events::store::KeysConfig;
use projectors::registry::{self, Projection};
use projectors::{generation, rebuild};
use service::db::Role;
use service::shutdown::Shutdown;

use super::token::default_tenant;
use crate::out::{bar_to_end, say};
use crate::stack::{self, ArchiveAt, BucketKeys, Database};

/// Builds a read model anew while it is read, compares both, and has the new one take its place.
///
/// Reads and facts go on throughout. Stopped or killed, it goes on where it was when it is run again. What was read before is kept
/// true, so that --rollback loses nothing, until the next rebuild; `cinelog migrate --drop-replaced` then drops it. Needs the
/// master key, and `ARCHIVE_URL` where facts are archived.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Rebuild {
    /// Which read model, e.g. `feed`.
    name: String,
    /// Writers at once.
    #[arg(long, default_value = "2", value_name = "N")]
    parallel: NonZeroU16,
    /// Have a rebuild that runs pause.
    #[arg(long, group = "instead")]
    pause: bool,
    /// Have a rebuild that pauses go on.
    #[arg(long, group = "instead")]
    resume: bool,
    /// Have what was read before the last rebuild take the place of what is read.
    #[arg(long, group = "instead")]
    rollback: bool,
    /// Only make anew what is kept ready for this user, by id or account name, at once.
    #[arg(long, group = "instead", value_name = "USER")]
    key: Option<String>,
    /// The tenant of that user; the one that every install has unless set.
    #[arg(long, requires = "key")]
    tenant: Option<TenantId>,
    #[command(flatten)]
    database: Database,
    #[command(flatten)]
    keys: KeysConfig,
    #[command(flatten)]
    projectors: projectors::config::Config,
    #[command(flatten)]
    archive: ArchiveAt,
    #[command(flatten)]
    bucket: BucketKeys,
}

const EXAMPLES: &str = "Examples:
  cinelog rebuild feed                 with two writers
  cinelog rebuild search --parallel 8  as fast as Postgres takes it
  cinelog rebuild feed --pause         from another terminal; --resume goes on
  cinelog rebuild feed --rollback      back to what was read before
  cinelog rebuild feed --key ana       one reader's feed alone";

impl Rebuild {
    pub(super) async fn run(self, shutdown: &Shutdown) -> anyhow::Result<()> {
        let all = registry::all(&self.projectors);
        let Some(projection) = all.iter().find(|one| one.name() == self.name) else {
            let known: Vec<_> = all.iter().map(|one| one.name()).collect();
            bail!(
                "no read model is called `{}`; there are {}",
                self.name,
                known.join(", ")
            );
        };
        let owner = self.database.pool(Role::Owner).await?;
        if self.pause || self.resume {
            if !generation::pause(&owner, &self.name, self.pause).await? {
                bail!("nothing is being built of {}", self.name);
            }
            say(if self.pause {
                "it pauses"
            } else {
                "it goes on"
            });
            return Ok(());
        }
        if let Some(user) = &self.key {
            return self.repair(projection.as_ref(), user).await;
        }
        let keys = stack::keys(&self.keys).context("a rebuild opens facts")?;
        let projector = self.database.pool(Role::Projector).await?;
        let reader = self.archive.reader(&projector, &self.bucket).await?;
        let rebuild = rebuild::Rebuild {
            owner: &owner,
            projector: &projector,
            reader: &reader,
            keys: &keys,
            writers: self.parallel,
        };
        if self.rollback {
            let (now, before) = rebuild.back(projection).await?;
            say(format_args!("{now} is read again; {before} is kept"));
            return Ok(());
        }
        forward(&rebuild, projection, shutdown).await
    }
}

impl Rebuild {
    async fn repair(&self, projection: &dyn Projection, user: &str) -> anyhow::Result<()> {
        let tenant = match self.tenant {
            Some(tenant) => tenant,
            None => default_tenant(&self.database).await?,
        };
        let user = user
            .parse()
            .unwrap_or_else(|_| UserId::of(api::auth::ISSUER, user));
        let projector = self.database.pool(Role::Projector).await?;
        let repaired = rebuild::repair(&projector, projection, (tenant, user)).await?;
        if repaired.is_empty() {
            bail!(
                "{} keeps nothing ready for a user: rebuild it whole",
                self.name
            );
        }
        for (generation, rows) in repaired {
            say(format_args!(
                "{generation} has {rows} entries for {user}, made anew"
            ));
        }
        Ok(())
    }
}

async fn forward(
    rebuild: &rebuild::Rebuild<'_>,
    projection: &Arc<dyn Projection>,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    let bar = bar_to_end(projection.name());
    let progress = |at: Position, end: Position| {
        bar.set_length(end.0.unsigned_abs());
        bar.set_position(at.0.unsigned_abs());
    };
    let rebuilt = rebuild.run(projection, &progress, shutdown).await?;
    bar.finish_and_clear();
    for table in &rebuilt.differing {
        say(format_args!(
            "  {}.{table} was not what its facts say; {} is",
            rebuilt.before, rebuilt.now
        ));
    }
    if rebuilt.parked > 0 {
        say(format_args!(
            "  {} parked subjects are tried again, nothing was compared: `cinelog parked list {}`",
            rebuilt.parked, rebuilt.now
        ));
    }
    say(format_args!(
        "{} is read, from position {} on; {} is kept",
        rebuilt.now, rebuilt.upto, rebuilt.before
    ));
    Ok(())
}
