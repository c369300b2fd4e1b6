//! Taking an erased person's texts out of every build of every read model.
//!
//! The person's key is gone before anything here begins, so no transaction that begins later can read the texts. One that
//! read the key before holds its lane's checkpoint until it ends. Whoever holds all checkpoints of a build therefore sees
//! all that was ever readable there, and after the purge the build is what a rebuild would make, however far it has come.

use std::sync::Arc;
use std::time::Duration;

use events::failpoint;
use events::id::{TenantId, UserId};
use events::subscription;
use service::db;
use service::shutdown::Shutdown;
use sqlx::PgPool;
use uuid::Uuid;

use crate::config::Config;
use crate::generation;
use crate::registry::{self, Projection};

/// How often a build is tried whose locks do not come.
const TRIES: u32 = 3;
/// How often a projector looks for an erasure that nobody finished.
const LOOK: Duration = Duration::from_mins(1);

/// One build of a read model, and what was taken out of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purged {
    /// The build, e.g. `feed_g1`.
    pub generation: String,
    /// Rows that held the person's texts; none: this program does not know the build's tables and left it alone.
    pub rows: Option<u64>,
}

/// Takes the texts of `person`, whose key is destroyed, out of every build, and says so in the log's table of keys when none is
/// left. Needs the projectors' rights. May be repeated, and may be done by several at once.
pub async fn purge(
    pool: &PgPool,
    config: &Config,
    person: (TenantId, UserId),
) -> sqlx::Result<Vec<Purged>> {
    let known = registry::all(config);
    let mut purged = vec![];
    for (name, version, generation) in registry::generations(pool).await? {
        let of = |one: &&Arc<dyn Projection>| one.name() == name && one.version() == version;
        let rows = match known.iter().find(of) {
            Some(projection) => Some(insist(pool, projection.as_ref(), &generation, person).await?),
            None => None,
        };
        purged.push(Purged { generation, rows });
        failpoint::hit("erase.build_purged");
    }
    failpoint::hit("erase.purged");
    if purged.iter().all(|one| one.rows.is_some()) {
        sqlx::query("SELECT log.person_purged($1, $2)")
            .bind(person.0)
            .bind(person.1)
            .execute(pool)
            .await?;
    }
    Ok(purged)
}

/// Purges one build. Whoever compares or works through it may hold it for long: that is waited for, three times.
async fn insist(
    pool: &PgPool,
    projection: &dyn Projection,
    generation: &str,
    person: (TenantId, UserId),
) -> sqlx::Result<u64> {
    let mut tries = 1;
    loop {
        match purge_one(pool, projection, generation, person).await {
            Err(error) if tries < TRIES && was_held(&error) => tries += 1,
            done => return done,
        }
    }
}

/// A lock did not come in time, or a deadlock was resolved against us.
fn was_held(error: &sqlx::Error) -> bool {
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| code == "55P03" || code == "40P01")
}

async fn purge_one(
    pool: &PgPool,
    projection: &dyn Projection,
    generation: &str,
    person: (TenantId, UserId),
) -> sqlx::Result<u64> {
    let mut tx = db::begin(pool, "BEGIN").await?;
    // A batch holds its lanes for a minute at most.
    sqlx::query(
        "SELECT set_config('search_path', $1, true), set_config('lock_timeout', '90s', true)",
    )
    .bind(generation)
    .execute(&mut *tx)
    .await?;
    // Neither made nor dropped meanwhile.
    generation::lock(&mut tx).await?;
    if !generation::is_there(&mut tx, generation).await? {
        return Ok(0);
    }
    subscription::held(&mut tx, generation).await?;
    let rows = projection.forget(person, &mut tx).await?;
    tx.commit().await?;
    Ok(rows)
}

/// Finishes erasures whose command did not live to do it, until `shutdown`.
pub fn keep(pool: PgPool, config: Config, shutdown: &Shutdown) {
    let end = shutdown.clone();
    shutdown.spawn(async move {
        loop {
            if let Err(error) = finish(&pool, &config).await {
                tracing::warn!(%error, "unfinished erasures could not be looked for");
            }
            if !end.sleep(LOOK).await {
                return;
            }
        }
    });
}

async fn finish(pool: &PgPool, config: &Config) -> sqlx::Result<()> {
    let unfinished: Vec<(Uuid, Uuid)> = sqlx::query_as(
        "SELECT tenant, person FROM log.person_keys WHERE erased_at IS NOT NULL AND purged_at IS NULL
         ORDER BY random() LIMIT 100",
    )
    .fetch_all(pool)
    .await?;
    for (tenant, person) in unfinished {
        match purge(pool, config, (TenantId(tenant), UserId(person))).await {
            Ok(purged) => told(tenant, person, &purged),
            Err(error) => {
                tracing::warn!(%tenant, %person, %error, "an erasure could not be finished; it is tried again");
            }
        }
    }
    Ok(())
}

fn told(tenant: Uuid, person: Uuid, purged: &[Purged]) {
    let left: Vec<&str> = purged
        .iter()
        .filter(|one| one.rows.is_none())
        .map(|one| one.generation.as_str())
        .collect();
    if left.is_empty() {
        let rows: u64 = purged.iter().filter_map(|one| one.rows).sum();
        tracing::info!(%tenant, %person, rows, "an erased person's texts were purged");
    } else {
        tracing::warn!(
            %tenant, %person, builds = left.join(" "),
            "builds of another version may still hold an erased person's texts: purge them with that version, or drop those that were replaced (`cinelog migrate --drop-replaced`)"
        );
    }
}
