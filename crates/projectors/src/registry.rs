//! Which read models there are, and what is kept of them.

use std::collections::BTreeMap;
use std::future::ready;
use std::sync::Arc;

use events::envelope::Recorded;
use events::fact::Fact;
use events::id::{TenantId, UserId};
use events::subscription::{self, Subscriber};
use futures::future::BoxFuture;
use service::db;
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

    /// Indexes of its tables that only reading needs: a build is filled without them, and they are made at its end.
    fn late(&self) -> &'static [&'static str] {
        &[]
    }

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

    /// Makes anew what it keeps ready for a reader beside the tables that follow from facts; how many rows there are then. None:
    /// it keeps nothing ready.
    fn refill<'a>(
        &'a self,
        _reader: (TenantId, UserId),
        _tx: &'a mut PgConnection,
    ) -> Option<BoxFuture<'a, sqlx::Result<u64>>> {
        None
    }

    /// Leaves out what it keeps ready for readers, in a build that nobody reads, until that [is made at once](Self::make_ready).
    fn leave_out<'a>(&'a self, _tx: &'a mut PgConnection) -> BoxFuture<'a, sqlx::Result<()>> {
        Box::pin(ready(Ok(())))
    }

    /// Makes what was left out for some readers, those after `after`, and tells who was the last; none: it is all there.
    fn make_ready<'a>(
        &'a self,
        _after: Option<(TenantId, UserId)>,
        _tx: &'a mut PgConnection,
    ) -> BoxFuture<'a, sqlx::Result<Option<(TenantId, UserId)>>> {
        Box::pin(ready(Ok(None)))
    }
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
        Arc::new(crate::trending::Trending),
        Arc::new(crate::moderation::Moderation),
        Arc::new(crate::notification::Notification),
    ]
}

/// Gives every read model that has none a live generation, with views to read it by. Needs the pool of the schemas' owner. Does
/// nothing when all is there; safe from several processes at once.
///
/// It is live at once, empty, and fills from the log's beginning: until it has caught up, its answers lack what it has not
/// seen. What is read of another version goes on being read until it is rebuilt, see [`replaced`].
pub async fn prepare(owner: &PgPool) -> sqlx::Result<()> {
    for projection in all(&Config::default()) {
        let mut tx = db::begin(owner, "BEGIN").await?;
        lock(&mut tx).await?;
        let is_read: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM projection.generations WHERE projection = $1 AND live)",
        )
        .bind(projection.name())
        .fetch_one(&mut *tx)
        .await?;
        if !is_read {
            let generation = make(&mut tx, projection.as_ref()).await?;
            point(&mut tx, projection.name(), generation).await?;
        }
        tx.commit().await?;
    }
    Ok(())
}

/// Read models whose live generation is of another version, and of whose own version nothing is kept: they are to be rebuilt.
/// Where something is kept, somebody went back on purpose.
pub async fn replaced(pool: &PgPool, config: &Config) -> sqlx::Result<Vec<Arc<dyn Projection>>> {
    let mut replaced = all(config);
    let ours: Vec<(String, i32)> =
        sqlx::query_as("SELECT projection, version FROM projection.generations WHERE live OR kept")
            .fetch_all(pool)
            .await?;
    replaced.retain(|one| {
        let mut ours = ours.iter();
        !ours.any(|(name, version)| (&**name, *version) == (one.name(), one.version()))
    });
    Ok(replaced)
}

/// A generation, and the version of the code that made it.
pub(crate) type Made = (String, i32);

/// The generation of a read model that is read, and the one that is kept, of whatever version.
pub(crate) async fn read_and_kept(
    pool: &PgPool,
    projection: &str,
) -> sqlx::Result<(Option<Made>, Option<Made>)> {
    let both: Vec<(i32, i32, bool)> = sqlx::query_as(
        "SELECT generation, version, live FROM projection.generations WHERE projection = $1 AND (live OR kept)",
    )
    .bind(projection)
    .fetch_all(pool)
    .await?;
    let find = |is_live| {
        let mut both = both.iter();
        let found = both.find(|(_, _, live)| *live == is_live);
        found.map(|(generation, version, _)| (schema(projection, *generation), *version))
    };
    Ok((find(true), find(false)))
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

    /// Leaves out what is kept ready for readers, see [`Projection::leave_out`].
    pub async fn leave_out(&self, pool: &PgPool) -> sqlx::Result<()> {
        let mut tx = subscription::begin(self, pool).await?;
        self.projection.leave_out(&mut tx).await?;
        tx.commit().await
    }

    /// Makes what was left out, some readers in each transaction.
    pub async fn make_ready(&self, pool: &PgPool) -> sqlx::Result<()> {
        let mut last = self.make_some_ready(pool, None).await?;
        while last.is_some() {
            last = self.make_some_ready(pool, last).await?;
        }
        Ok(())
    }

    /// Makes what was left out for some readers, see [`Projection::make_ready`].
    pub async fn make_some_ready(
        &self,
        pool: &PgPool,
        after: Option<(TenantId, UserId)>,
    ) -> sqlx::Result<Option<(TenantId, UserId)>> {
        let mut tx = subscription::begin(self, pool).await?;
        let last = self.projection.make_ready(after, &mut tx).await?;
        tx.commit().await?;
        Ok(last)
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
