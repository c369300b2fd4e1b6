//! The database's shape. Every folder of `schemas/postgres` is a set of append-only migrations; each has its own range
//! of version numbers (log 1000s, jobs 2000s, views 3000s, accounts 4000s), so that they share one ledger.

use sqlx::PgPool;
use sqlx::migrate::{MigrateError, Migrator};

static LOG: Migrator = sqlx::migrate!("../../schemas/postgres/log");
static JOBS: Migrator = sqlx::migrate!("../../schemas/postgres/jobs");
static VIEWS: Migrator = sqlx::migrate!("../../schemas/postgres/views");
static ACCOUNTS: Migrator = sqlx::migrate!("../../schemas/postgres/accounts");

/// Brings the database of `pool` (as its owner) to the newest shape; does nothing when it is there already. Safe to run
/// from several processes at once: the ledger is locked.
pub async fn run(pool: &PgPool) -> Result<(), MigrateError> {
    for migrations in [&LOG, &JOBS, &VIEWS, &ACCOUNTS] {
        let mut migrator = Migrator {
            migrations: migrations.migrations.clone(),
            ..Migrator::DEFAULT
        };
        migrator.set_ignore_missing(true);
        migrator.run(pool).await?;
    }
    Ok(())
}

/// How many migrations the database of `pool` lacks.
pub async fn lacking(pool: &PgPool) -> Result<usize, sqlx::Error> {
    let ledger: bool = sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")
        .fetch_one(pool)
        .await?;
    let mut done: Vec<i64> = vec![];
    if ledger {
        let versions = sqlx::query_scalar("SELECT version FROM _sqlx_migrations WHERE success");
        done = versions.fetch_all(pool).await?;
    }
    let all = [&LOG, &JOBS, &VIEWS, &ACCOUNTS].into_iter();
    let lacking = all
        .flat_map(|m| m.iter())
        .filter(|one| !done.contains(&one.version));
    Ok(lacking.count())
}

/// A number that changes whenever any migration does; tests key their template database by it.
pub fn fingerprint() -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    let all = [&LOG, &JOBS, &VIEWS, &ACCOUNTS];
    for migration in all.into_iter().flat_map(|m| m.iter()) {
        migration.version.hash(&mut hasher);
        migration.checksum.hash(&mut hasher);
    }
    hasher.finish()
}
