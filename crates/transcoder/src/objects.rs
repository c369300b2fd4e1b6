//! What lies in the bucket and may be nobody's: written down before it is put, named by facts, and taken away when it has had
//! no name for long (ADR 13). The bucket itself is never listed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use events::envelope::Recorded;
use events::fact::Fact;
use events::failpoint;
use events::id::{AssetId, TenantId};
use events::subscription::{Subscriber, lag};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use service::clock::Clock;
use service::db;
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool};
use storage::{Key, Store};

use crate::job::{Job, patiently};

/// The name of an asset's original.
const ORIGINAL: &str = "";
/// How long taking one object away may take, and how long after its mark it is begun at the latest.
const DELETE: Duration = Duration::from_mins(1);
const BEGIN: TimeDelta = TimeDelta::minutes(5);
/// A database whose objects were not looked through for so long may be a restored one …
const PAUSE: Duration = Duration::from_hours(2);
/// … and so long nothing is taken away, so that what it lacks can be imported.
const IMPORT: Duration = Duration::from_hours(2);
/// What was marked so long ago and is still there is tried again.
const AGAIN: Duration = Duration::from_mins(15);
/// Names may be so far behind at most, however long nameless objects are spared.
const BEHIND: Duration = Duration::from_hours(12);
/// Objects marked at once, and how many of them are taken away at a time.
const BATCH: i64 = 64;
const AT_A_TIME: usize = 8;

/// Says that a job is about to put objects; false: one of the keys is dead, and others must be taken.
pub(crate) async fn announce(pool: &PgPool, job: &Job, keys: &BTreeSet<Key>) -> sqlx::Result<bool> {
    let announced = sqlx::query(
        "INSERT INTO jobs.objects AS o (storage_key, tenant, asset, names, since)
         SELECT k, $2, $3, '{}', clock_timestamp() FROM unnest($1::text[]) k ORDER BY k COLLATE \"C\"
         ON CONFLICT (storage_key) DO UPDATE SET since = excluded.since WHERE o.doomed_at IS NULL",
    )
    .bind(keys.iter().map(Key::as_str).collect::<Vec<_>>())
    .bind(job.tenant)
    .bind(job.asset)
    .execute(pool);
    Ok(patiently(announced).await?.rows_affected() == keys.len() as u64)
}

/// Keeps keys alive that the caller's transaction names; false: one of them is dead.
pub(crate) async fn confirm(tx: &mut PgConnection, keys: &BTreeSet<&str>) -> sqlx::Result<bool> {
    if keys.is_empty() {
        return Ok(true);
    }
    let confirmed = sqlx::query(
        "WITH mine AS MATERIALIZED (
             SELECT storage_key FROM jobs.objects WHERE storage_key = ANY ($1) AND doomed_at IS NULL
             ORDER BY storage_key COLLATE \"C\" FOR UPDATE)
         UPDATE jobs.objects o SET since = clock_timestamp() FROM mine WHERE o.storage_key = mine.storage_key",
    )
    .bind(keys.iter().copied().collect::<Vec<_>>())
    .execute(tx);
    Ok(patiently(confirmed).await?.rows_affected() == keys.len() as u64)
}

/// Takes away what has had no name for longer than `spare`; returns how much that was. Does nothing while names are not
/// folded as far as that needs, or while someone else is at it.
pub async fn sweep(pool: &PgPool, store: &Store, spare: Duration) -> sqlx::Result<u64> {
    let mut swept = 0;
    loop {
        let marked = Clock::System.now();
        let doomed = patiently(doom(pool, spare)).await?;
        failpoint::hit("sweep.before_delete");
        let count = doomed.len();
        let gone: Vec<String> = stream::iter(doomed)
            .map(|key| async move { take_away(store, &key, marked).await.then_some(key) })
            .buffer_unordered(AT_A_TIME)
            .filter_map(|gone| async move { gone })
            .collect()
            .await;
        failpoint::hit("sweep.after_delete");
        patiently(note_gone(pool, &gone, spare)).await?;
        swept += gone.len() as u64;
        if gone.len() < count || gone.is_empty() {
            return Ok(swept);
        }
    }
}

/// Marks nameless objects, in the snapshot that shows how far names are folded.
async fn doom(pool: &PgPool, spare: Duration) -> sqlx::Result<Vec<String>> {
    let mut tx = db::begin(pool, "BEGIN ISOLATION LEVEL REPEATABLE READ").await?;
    let spared: Option<bool> = sqlx::query_scalar(
        "WITH mine AS MATERIALIZED (SELECT FROM jobs.sweeps FOR UPDATE SKIP LOCKED)
         UPDATE jobs.sweeps s SET
             at = clock_timestamp(),
             spared_until = CASE WHEN s.at < now() - $1::float8 * interval '1 s'
                                     -- The log is closed while facts are imported.
                                     OR NOT has_function_privilege('log.append'::regproc, 'EXECUTE')
                                 THEN now() + $2::float8 * interval '1 s' ELSE s.spared_until END
         FROM mine RETURNING s.spared_until > now()",
    )
    .bind(PAUSE.as_secs_f64())
    .bind(IMPORT.min(spare).as_secs_f64())
    .fetch_optional(&mut *tx)
    .await?;
    let Some(spared) = spared else {
        return Ok(vec![]);
    };
    if spared || !is_level(&mut tx, spare).await? {
        tx.commit().await?;
        tracing::info!(
            "nothing is taken away after a pause or an import, nor while facts wait to be folded"
        );
        return Ok(vec![]);
    }
    let doomed = sqlx::query_scalar(
        "WITH mine AS MATERIALIZED (
             SELECT storage_key FROM jobs.objects
             WHERE names = '{}' AND NOT gone AND since <= now() - $1::float8 * interval '1 s'
                 AND (doomed_at IS NULL OR doomed_at < now() - $2::float8 * interval '1 s')
             ORDER BY doomed_at NULLS FIRST, since LIMIT $3 FOR UPDATE SKIP LOCKED)
         UPDATE jobs.objects o SET doomed_at = clock_timestamp() FROM mine WHERE o.storage_key = mine.storage_key
         RETURNING o.storage_key",
    )
    .bind(spare.as_secs_f64())
    .bind(AGAIN.as_secs_f64())
    .bind(BATCH)
    .fetch_all(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(doomed)
}

/// Whether all facts that are older than half of `spare` have given their names.
async fn is_level(connection: &mut PgConnection, spare: Duration) -> sqlx::Result<bool> {
    // Of facts that were archived the lag only knows how old they are at least.
    let archived: bool = sqlx::query_scalar(
        "SELECT EXISTS (
             SELECT FROM subscription.checkpoints c JOIN log.archived a USING (lane)
             WHERE c.subscription = $1 AND a.position > c.position)",
    )
    .bind(ObjectFold::NAME)
    .fetch_one(&mut *connection)
    .await?;
    let lags = lag(connection).await?;
    let names = lags
        .iter()
        .find(|lag| lag.subscription == ObjectFold::NAME && !archived);
    let most = BEHIND.min(spare / 2);
    Ok(names.is_some_and(|names| names.lanes_behind == 0 || names.behind < most))
}

async fn take_away(store: &Store, key: &str, marked: DateTime<Utc>) -> bool {
    // By the clock that also counts while the machine sleeps.
    if Clock::System.now() - marked > BEGIN {
        return false;
    }
    let Ok(key) = key.parse::<Key>() else {
        tracing::error!(key, "no key of an object");
        return false;
    };
    match tokio::time::timeout(DELETE, store.delete(&key)).await {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            tracing::warn!(%key, %error, "an object without a name was not taken away; it will be tried again");
            false
        }
        Err(_) => {
            tracing::warn!(%key, "taking an object away takes too long; it will be tried again");
            false
        }
    }
}

/// Notes what is gone, and forgets what has been for long.
async fn note_gone(pool: &PgPool, gone: &[String], spare: Duration) -> sqlx::Result<()> {
    sqlx::query(
        "WITH mine AS MATERIALIZED (
             SELECT storage_key FROM jobs.objects WHERE storage_key = ANY ($1)
             ORDER BY storage_key COLLATE \"C\" FOR UPDATE),
         old AS (
             DELETE FROM jobs.objects WHERE storage_key IN (
                 SELECT storage_key FROM jobs.objects
                 WHERE gone AND names = '{}' AND doomed_at < now() - $2::float8 * interval '1 s'
                 ORDER BY doomed_at LIMIT 1000 FOR UPDATE SKIP LOCKED))
         UPDATE jobs.objects o SET gone = true FROM mine
         WHERE o.storage_key = mine.storage_key AND o.doomed_at IS NOT NULL AND o.names = '{}'",
    )
    .bind(gone)
    .bind(spare.max(2 * AGAIN).as_secs_f64())
    .execute(pool)
    .await
    .map(drop)
}

/// The subscription that gives objects their names.
#[derive(Debug, Clone, Copy)]
pub struct ObjectFold;

impl ObjectFold {
    /// Its name among the checkpoints.
    pub const NAME: &str = "objects";
}

impl Subscriber for ObjectFold {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn handles(&self, fact: &Fact) -> bool {
        asset(fact).is_some()
    }

    fn apply<'a>(
        &'a self,
        batch: &'a [Recorded],
        tx: &'a mut PgConnection,
    ) -> BoxFuture<'a, Result<(), sqlx::Error>> {
        async move {
            let assets = batch
                .iter()
                .filter_map(|recorded| Some((recorded.tenant, asset(&recorded.fact)?)));
            let mut names = Names::load(tx, assets.collect()).await?;
            for recorded in batch {
                names.fold(recorded);
            }
            names.store(tx).await
        }
        .boxed()
    }
}

fn asset(fact: &Fact) -> Option<AssetId> {
    match fact {
        Fact::UploadRequested(fact) => Some(fact.asset),
        Fact::UploadCompleted(fact) => Some(fact.asset),
        Fact::RenditionCompleted(fact) => Some(fact.asset),
        Fact::AssetDeleted(fact) => Some(fact.asset),
        _ => None,
    }
}

/// An object of an asset.
#[derive(Debug, Clone, PartialEq)]
struct Object {
    tenant: TenantId,
    asset: AssetId,
    names: BTreeSet<String>,
    since: DateTime<Utc>,
    changed: bool,
}

impl Object {
    fn touch(&mut self, at: DateTime<Utc>) {
        self.since = self.since.max(at);
        self.changed = true;
    }
}

#[derive(sqlx::FromRow)]
struct ObjectRow {
    storage_key: String,
    tenant: TenantId,
    asset: AssetId,
    names: Vec<String>,
    since: DateTime<Utc>,
}

/// The objects of a few assets, by key.
#[derive(Debug, Default)]
struct Names(BTreeMap<String, Object>);

impl Names {
    async fn load(
        tx: &mut PgConnection,
        assets: BTreeSet<(TenantId, AssetId)>,
    ) -> sqlx::Result<Self> {
        let (tenants, assets): (Vec<TenantId>, Vec<AssetId>) = assets.into_iter().unzip();
        let rows: Vec<ObjectRow> = sqlx::query_as(
            "SELECT o.storage_key, o.tenant, o.asset, o.names, o.since
             FROM unnest($1::uuid[], $2::uuid[]) AS u(tenant, asset) JOIN jobs.objects o USING (tenant, asset)",
        )
        .bind(tenants)
        .bind(assets)
        .fetch_all(tx)
        .await?;
        let objects = rows.into_iter().map(|row| {
            let object = Object {
                tenant: row.tenant,
                asset: row.asset,
                names: row.names.into_iter().collect(),
                since: row.since,
                changed: false,
            };
            (row.storage_key, object)
        });
        Ok(Self(objects.collect()))
    }

    fn fold(&mut self, recorded: &Recorded) {
        let (tenant, at) = (recorded.tenant, recorded.recorded_at);
        match &recorded.fact {
            // Until then a client may put it.
            Fact::UploadRequested(fact) => {
                self.object((tenant, fact.asset), &fact.storage_key, fact.expires_at);
            }
            Fact::UploadCompleted(fact) => {
                self.rename((tenant, fact.asset), ORIGINAL, &fact.storage_key, at);
            }
            Fact::RenditionCompleted(fact) => {
                self.rename((tenant, fact.asset), &fact.name, &fact.storage_key, at);
            }
            Fact::AssetDeleted(fact) => {
                for object in self.of((tenant, fact.asset)) {
                    object.names.clear();
                    object.touch(at);
                }
            }
            _ => {}
        }
    }

    fn of(&mut self, asset: (TenantId, AssetId)) -> impl Iterator<Item = &mut Object> {
        let objects = self.0.values_mut();
        objects.filter(move |object| (object.tenant, object.asset) == asset)
    }

    fn object(
        &mut self,
        (tenant, asset): (TenantId, AssetId),
        key: &str,
        since: DateTime<Utc>,
    ) -> &mut Object {
        let object = self.0.entry(key.to_owned()).or_insert_with(|| Object {
            tenant,
            asset,
            names: BTreeSet::new(),
            since,
            changed: false,
        });
        object.touch(since);
        object
    }

    /// What has this name lies at `key` from now on, and nowhere else.
    fn rename(&mut self, asset: (TenantId, AssetId), name: &str, key: &str, at: DateTime<Utc>) {
        for object in self.of(asset) {
            if object.names.remove(name) {
                object.touch(at);
            }
        }
        self.object(asset, key, at).names.insert(name.to_owned());
    }

    async fn store(self, tx: &mut PgConnection) -> sqlx::Result<()> {
        let changed = || self.0.iter().filter(|(_, object)| object.changed);
        let objects: Vec<&Object> = changed().map(|(_, object)| object).collect();
        // Sorted by key, as whoever else waits for some of them does.
        sqlx::query(
            "INSERT INTO jobs.objects AS o (storage_key, tenant, asset, names, since)
             SELECT storage_key, tenant, asset, ARRAY(SELECT jsonb_array_elements_text(names)), since
             FROM unnest($1::text[], $2::uuid[], $3::uuid[], $4::jsonb[], $5::timestamptz[])
                 AS u(storage_key, tenant, asset, names, since)
             ON CONFLICT (storage_key) DO UPDATE SET names = excluded.names, since = greatest(o.since, excluded.since),
                 gone = o.gone AND excluded.names = '{}'",
        )
        .bind(changed().map(|(key, _)| key.as_str()).collect::<Vec<_>>())
        .bind(objects.iter().map(|object| object.tenant).collect::<Vec<_>>())
        .bind(objects.iter().map(|object| object.asset).collect::<Vec<_>>())
        .bind(objects.iter().map(|object| Json(&object.names)).collect::<Vec<_>>())
        .bind(objects.iter().map(|object| object.since).collect::<Vec<_>>())
        .execute(tx)
        .await?;
        Ok(())
    }
}
