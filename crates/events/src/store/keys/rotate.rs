//! Replacing the master key: every person's key gets a new wrapping, and then the log's check value.

use sqlx::PgPool;
use uuid::Uuid;

use super::MasterKeys;
use crate::failpoint;
use crate::id::{TenantId, UserId};
use crate::seal::SealError;
use crate::store::LogError;

/// Keys in one transaction.
const BATCH: i64 = 1_000;

/// What a rotation did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rotated {
    /// Keys that got a new wrapping.
    pub rewrapped: u64,
    /// Keys that were in it before.
    pub before: u64,
}

/// A person's key as stored.
type Wrapped = (Uuid, Uuid, Vec<u8>);

/// Wraps every person's key with the first of `master`, opening it with either. Needs the rights of the schemas' owner. Can be
/// stopped and repeated at any time: both master keys open what is there until a repeat has come to the end. `progress` is told
/// the keys looked at.
pub async fn rotate(
    pool: &PgPool,
    master: &MasterKeys,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Rotated, LogError> {
    let check: Option<Vec<u8>> = sqlx::query_scalar("SELECT master_check FROM log.log")
        .fetch_one(pool)
        .await?;
    // Nothing is wrapped with a key that would be the third.
    if let Some(check) = &check
        && !master.all().any(|master| master.gave(check))
    {
        return Err(SealError::WrongMasterKey.into());
    }
    let mut rotated = Rotated::default();
    let mut after = (Uuid::nil(), Uuid::nil());
    loop {
        let keys = next(pool, after).await?;
        let Some((tenant, person, _)) = keys.last() else {
            break;
        };
        after = (*tenant, *person);
        let looked = keys.len() as u64;
        let rewrapped = rewrap(pool, master, keys).await?;
        failpoint::hit("rotate.rewrapped");
        rotated.rewrapped += rewrapped;
        rotated.before += looked - rewrapped;
        progress(rotated.rewrapped + rotated.before);
    }
    if let Some(check) = check.filter(|check| !master.first.gave(check)) {
        sqlx::query("SELECT log.replace_master_check($1, $2)")
            .bind(check)
            .bind(master.first.check_value())
            .execute(pool)
            .await?;
        failpoint::hit("rotate.checked");
    }
    Ok(rotated)
}

async fn next(pool: &PgPool, after: (Uuid, Uuid)) -> Result<Vec<Wrapped>, LogError> {
    Ok(sqlx::query_as(
        "SELECT tenant, person, wrapped FROM log.person_keys
         WHERE (tenant, person) > ($1, $2) AND wrapped IS NOT NULL ORDER BY tenant, person LIMIT $3",
    )
    .bind(after.0)
    .bind(after.1)
    .bind(BATCH)
    .fetch_all(pool)
    .await?)
}

/// Wraps anew those of `keys` that the first master key does not open, and returns how many.
async fn rewrap(pool: &PgPool, master: &MasterKeys, keys: Vec<Wrapped>) -> Result<u64, LogError> {
    let (mut tenants, mut persons, mut old, mut new) = (vec![], vec![], vec![], vec![]);
    for (tenant, person, wrapped) in keys {
        let (of, whose) = (TenantId(tenant), UserId(person));
        if master.first.unwrap(of, whose, &wrapped).is_none() {
            let key = master.unwrap(of, whose, &wrapped)?;
            tenants.push(tenant);
            persons.push(person);
            new.push(master.wrap(of, whose, &key));
            old.push(wrapped);
        }
    }
    if new.is_empty() {
        return Ok(0);
    }
    let rewrapped: i64 = sqlx::query_scalar("SELECT log.rewrap($1, $2, $3, $4)")
        .bind(tenants)
        .bind(persons)
        .bind(old)
        .bind(new)
        .fetch_one(pool)
        .await?;
    Ok(rewrapped.unsigned_abs())
}
