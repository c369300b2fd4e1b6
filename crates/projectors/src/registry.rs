//! Which read models there are, and what is kept of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use events::envelope::Recorded;
use events::fact::Fact;
use events::id::{TenantId, UserId};
use events::subscription::Subscriber;
use futures::future::BoxFuture;
use sqlx::{AssertSqlSafe, PgConnection, PgPool};

use crate::config::Config;
use crate::generation::{lock, make, point, schema};

/// A read model: tables, and how facts change them.
pub trait Projection: Send + Sync + 'static {
    /// Its name, and the schema that its queries read; lower-case letters.
    fn name(&self) -> &'static str;

    /// The version of its tables and code: another one needs a generation of its own.
    fn version(&self) -> i32;

    /// Makes its tables, guarded, in the first schema of the search path.
    fn ddl(&self) -> &'static str;

    /// Whether a fact changes it.
    fn handles(&self, fact: &Fact) -> bool;

    /// Takes facts in: any cut of the lanes' facts, each lane's in order, each once.
    fn apply<'a>(
        &'a self,
        batch: &'a [Recorded],
        tx: &'a mut PgConnection,
    ) -> BoxFuture<'a, sqlx::Result<()>>;

    /// Makes its tables what they would be had `person`, whose key is gone, never been readable; returns how many rows that
    /// changed. Nothing else writes them meanwhile.
    fn forget<'a>(
        &'a self,
        person: (TenantId, UserId),
        tx: &'a mut PgConnection,
    ) -> BoxFuture<'a, sqlx::Result<u64>>;
}

/// Every read model.
pub fn all(config: &Config) -> Vec<Arc<dyn Projection>> {
    vec![
        Arc::new(crate::media::Media),
        Arc::new(crate::feed::Feed::new(config)),
        Arc::new(crate::engagement::Engagement),
        Arc::new(crate::graph::Graph),
        Arc::new(crate::search::Search),
        Arc::new(crate::pairing::Pairing),
        Arc::new(crate::usage::Usage),
    ]
}

/// Gives every read model a live generation of its newest version, with views to read it by. Needs the pool of the
/// schemas' owner. Does nothing when all is there; safe from several processes at once.
///
/// A new generation is live at once, empty, and fills from the log's beginning: until it has caught up, its answers lack
/// what it has not seen.
pub async fn prepare(owner: &PgPool) -> sqlx::Result<()> {
    for projection in all(&Config::default()) {
        let mut tx = owner.begin().await?;
        lock(&mut tx).await?;
        let live: Option<i32> = sqlx::query_scalar(
            "SELECT version FROM projection.generations WHERE projection = $1 AND live",
        )
        .bind(projection.name())
        .fetch_optional(&mut *tx)
        .await?;
        if live != Some(projection.version()) {
            let generation = make(&mut tx, projection.as_ref()).await?;
            point(&mut tx, projection.name(), generation).await?;
        }
        tx.commit().await?;
    }
    Ok(())
}

/// The generations of a read model that this version of the code has made: the one that is read, and the one before that is
/// kept true.
pub(crate) async fn of_version(
    pool: &PgPool,
    projection: &dyn Projection,
) -> sqlx::Result<(Option<String>, Option<String>)> {
    let (live, kept): (Option<i32>, Option<i32>) = sqlx::query_as(
        "SELECT max(generation) FILTER (WHERE live), max(generation) FILTER (WHERE kept)
         FROM projection.generations WHERE projection = $1 AND version = $2",
    )
    .bind(projection.name())
    .bind(projection.version())
    .fetch_one(pool)
    .await?;
    let name = |generation| schema(projection.name(), generation);
    Ok((live.map(name), kept.map(name)))
}

/// The generations that are read, by read model: `feed` → `feed_g1`. A generation's name is its subscription's.
pub async fn live(pool: &PgPool) -> sqlx::Result<BTreeMap<String, String>> {
    let live: Vec<(String, i32)> =
        sqlx::query_as("SELECT projection, generation FROM projection.generations WHERE live")
            .fetch_all(pool)
            .await?;
    Ok(live
        .into_iter()
        .map(|(name, generation)| (name.clone(), schema(&name, generation)))
        .collect())
}

/// Every build there is, read or not: read model, version, name.
pub(crate) async fn generations(pool: &PgPool) -> sqlx::Result<Vec<(String, i32, String)>> {
    let all: Vec<(String, i32, i32)> = sqlx::query_as(
        "SELECT projection, version, generation FROM projection.generations ORDER BY projection, generation",
    )
    .fetch_all(pool)
    .await?;
    Ok(all
        .into_iter()
        .map(|(name, version, generation)| {
            let generation = schema(&name, generation);
            (name, version, generation)
        })
        .collect())
}

/// What keeps generations true: a subscriber for each that is read or kept, and that this version of the code has made.
pub async fn subscribers(pool: &PgPool, config: &Config) -> sqlx::Result<Vec<Arc<dyn Subscriber>>> {
    let kept: Vec<(String, i32, i32)> = sqlx::query_as(
        "SELECT projection, version, generation FROM projection.generations WHERE live OR kept
         ORDER BY projection, generation",
    )
    .fetch_all(pool)
    .await?;
    let mut subscribers: Vec<Arc<dyn Subscriber>> = vec![];
    for projection in all(config) {
        let ours = (projection.name(), projection.version());
        let kept = kept
            .iter()
            .filter(|(name, version, _)| (&**name, *version) == ours);
        for (name, _, generation) in kept {
            let name = schema(name, *generation);
            subscribers.push(Arc::new(Generation::new(name, Arc::clone(&projection))));
        }
    }
    Ok(subscribers)
}

/// One build of a read model, as a subscriber.
pub struct Generation {
    name: String,
    projection: Arc<dyn Projection>,
}

impl Generation {
    /// The build of `projection` in the schema `name`.
    pub fn new(name: String, projection: Arc<dyn Projection>) -> Self {
        Self { name, projection }
    }
}

impl Subscriber for Generation {
    fn name(&self) -> &str {
        &self.name
    }

    fn schema(&self) -> Option<&str> {
        Some(&self.name)
    }

    fn handles(&self, fact: &Fact) -> bool {
        self.projection.handles(fact)
    }

    fn apply<'a>(
        &'a self,
        batch: &'a [Recorded],
        tx: &'a mut PgConnection,
    ) -> BoxFuture<'a, sqlx::Result<()>> {
        self.projection.apply(batch, tx)
    }
}

/// A hash of every table of a generation, whatever the order of its rows: two generations that know the same facts have
/// the same. Caches are left out. Needs a pool that bypasses row level security.
pub async fn table_hashes(
    pool: &PgPool,
    generation: &str,
) -> sqlx::Result<BTreeMap<String, String>> {
    let mut hashes = BTreeMap::new();
    for table in tables(pool, generation).await? {
        let hash = sqlx::query_scalar(AssertSqlSafe(format!(
            "SELECT count(*) || ':' || coalesce(sum(hashtextextended(t::text, 0)::numeric), 0)
            FROM {generation}.{table} t"
        )))
        .fetch_one(pool)
        .await?;
        hashes.insert(table, hash);
    }
    Ok(hashes)
}

/// The tables of a generation, without caches.
pub(crate) async fn tables(pool: &PgPool, generation: &str) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar(
        "SELECT relname::text FROM pg_class
        WHERE relnamespace = $1::regnamespace AND relkind = 'r' AND obj_description(oid) IS DISTINCT FROM 'cache'
        ORDER BY relname",
    )
    .bind(generation)
    .fetch_all(pool)
    .await
}
