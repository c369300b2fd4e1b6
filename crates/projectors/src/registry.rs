//! Which read models there are, and their generations: every build of one has a schema of its own (`feed_g1`), and the
//! views that are read (`feed`) point at one of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use events::envelope::Recorded;
use events::fact::Fact;
use events::id::{TenantId, UserId};
use events::subscription::Subscriber;
use futures::future::BoxFuture;
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};

use crate::config::Config;

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

/// Makes one more, empty generation of a read model, which nobody reads yet, and returns its name.
pub async fn fresh_generation(owner: &PgPool, projection: &dyn Projection) -> sqlx::Result<String> {
    let mut tx = owner.begin().await?;
    lock(&mut tx).await?;
    let generation = make(&mut tx, projection).await?;
    tx.commit().await?;
    Ok(schema(projection.name(), generation))
}

/// What a generation that is only there to be compared says of itself.
const FOR_COMPARING: &str = "for comparing";

/// Makes an empty generation that is only there to be compared, as long as `guard` lives: one whose maker was killed is
/// dropped by the next. Nobody keeps it true, so it must not stay.
pub(crate) async fn generation_to_compare(
    owner: &PgPool,
    guard: &mut PgConnection,
    projection: &dyn Projection,
) -> sqlx::Result<String> {
    let left: Vec<String> = sqlx::query_scalar(
        "SELECT nspname::text FROM pg_namespace n JOIN projection.generations g
             ON n.nspname = g.projection || '_g' || g.generation AND NOT g.live
         WHERE g.projection = $1 AND obj_description(n.oid, 'pg_namespace') = $2",
    )
    .bind(projection.name())
    .bind(FOR_COMPARING)
    .fetch_all(&mut *guard)
    .await?;
    for generation in left {
        if claim(guard, &generation).await? {
            drop_generation(owner, &generation).await?;
        }
    }
    let mut tx = owner.begin().await?;
    lock(&mut tx).await?;
    let generation = schema(projection.name(), make(&mut tx, projection).await?);
    execute(
        &mut tx,
        format!("COMMENT ON SCHEMA {generation} IS '{FOR_COMPARING}'"),
    )
    .await?;
    claim(guard, &generation).await?;
    tx.commit().await?;
    Ok(generation)
}

/// Whether a generation to compare is ours from now on, as long as `guard` lives.
async fn claim(guard: &mut PgConnection, generation: &str) -> sqlx::Result<bool> {
    sqlx::query_scalar("SELECT pg_try_advisory_lock(hashtext('cinelog comparing'), hashtext($1))")
        .bind(generation)
        .fetch_one(guard)
        .await
}

/// Drops every generation that nobody reads, those that are being compared aside, and tells each. What made them
/// may be gone from the code: no erasure could purge them, and nothing that they have not taken in could be archived.
pub async fn drop_unread(owner: &PgPool, mut dropped: impl FnMut(&str)) -> sqlx::Result<()> {
    let unread: Vec<(String, bool)> = sqlx::query_as(
        "SELECT nspname::text, obj_description(n.oid, 'pg_namespace') IS NOT DISTINCT FROM $1
         FROM pg_namespace n JOIN projection.generations g
             ON n.nspname = g.projection || '_g' || g.generation AND NOT g.live
         ORDER BY g.projection, g.generation",
    )
    .bind(FOR_COMPARING)
    .fetch_all(owner)
    .await?;
    let mut guard = owner.acquire().await?.detach();
    for (generation, compared) in unread {
        if compared && !claim(&mut guard, &generation).await? {
            continue;
        }
        if drop_generation(owner, &generation).await? {
            dropped(&generation);
        }
    }
    guard.close().await
}

/// Drops a generation that nobody reads, and its subscription; whether it was there. Checkpoints first: so does whoever
/// still works through it.
pub(crate) async fn drop_generation(owner: &PgPool, generation: &str) -> sqlx::Result<bool> {
    let mut tx = owner.begin().await?;
    lock(&mut tx).await?;
    let found = sqlx::query(
        "DELETE FROM projection.generations WHERE projection || '_g' || generation = $1 AND NOT live",
    )
    .bind(generation)
    .execute(&mut *tx)
    .await?
    .rows_affected()
        == 1;
    if found {
        for table in ["checkpoints", "leases", "members", "parked", "dropped"] {
            sqlx::query(AssertSqlSafe(format!(
                "DELETE FROM subscription.{table} WHERE subscription = $1"
            )))
            .bind(generation)
            .execute(&mut *tx)
            .await?;
        }
        execute(&mut tx, format!("DROP SCHEMA {generation} CASCADE")).await?;
    }
    tx.commit().await?;
    Ok(found)
}

/// The live generation of a read model, if it is of this version of the code.
pub(crate) async fn live_of_version(
    pool: &PgPool,
    projection: &dyn Projection,
) -> sqlx::Result<Option<String>> {
    let generation: Option<i32> = sqlx::query_scalar(
        "SELECT generation FROM projection.generations WHERE projection = $1 AND version = $2 AND live",
    )
    .bind(projection.name())
    .bind(projection.version())
    .fetch_optional(pool)
    .await?;
    Ok(generation.map(|generation| schema(projection.name(), generation)))
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

/// Whether a build is still there; to be asked under [`lock`].
pub(crate) async fn is_there(tx: &mut PgConnection, generation: &str) -> sqlx::Result<bool> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM projection.generations WHERE projection || '_g' || generation = $1)",
    )
    .bind(generation)
    .fetch_one(tx)
    .await
}

/// What keeps the live generations: one subscriber each, for those read models that have one.
pub async fn subscribers(pool: &PgPool, config: &Config) -> sqlx::Result<Vec<Arc<dyn Subscriber>>> {
    let live = live(pool).await?;
    Ok(all(config)
        .into_iter()
        .filter_map(|projection| {
            let name = live.get(projection.name())?.clone();
            Some(Arc::new(Generation::new(name, projection)) as Arc<dyn Subscriber>)
        })
        .collect())
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

fn schema(projection: &str, generation: i32) -> String {
    format!("{projection}_g{generation}")
}

/// One process at a time makes or drops generations.
pub(crate) async fn lock(tx: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query("SELECT pg_advisory_xact_lock(hashtext('cinelog projections'))")
        .execute(tx)
        .await?;
    Ok(())
}

/// Makes the next generation's schema and tables.
async fn make(tx: &mut PgConnection, projection: &dyn Projection) -> sqlx::Result<i32> {
    let generation: i32 = sqlx::query_scalar(
        "INSERT INTO projection.generations (projection, generation, version)
        SELECT $1, coalesce(max(generation), 0) + 1, $2 FROM projection.generations WHERE projection = $1
        RETURNING generation",
    )
    .bind(projection.name())
    .bind(projection.version())
    .fetch_one(&mut *tx)
    .await?;
    let schema = schema(projection.name(), generation);
    execute(tx, format!("CREATE SCHEMA {schema}")).await?;
    execute(tx, format!("GRANT USAGE ON SCHEMA {schema} TO cinelog_api")).await?;
    // A view that is to have the projector's rights can be given to it only where it may create.
    execute(
        tx,
        format!("GRANT USAGE, CREATE ON SCHEMA {schema} TO cinelog_projector"),
    )
    .await?;
    execute(tx, format!("SET LOCAL search_path = {schema}")).await?;
    sqlx::raw_sql(projection.ddl()).execute(&mut *tx).await?;
    execute(tx, "SET LOCAL search_path = DEFAULT".to_owned()).await?;
    Ok(generation)
}

/// Makes a generation the one that is read. Readers that hold the old views end first.
async fn point(tx: &mut PgConnection, projection: &str, generation: i32) -> sqlx::Result<()> {
    sqlx::query("UPDATE projection.generations SET live = false WHERE projection = $1 AND live")
        .bind(projection)
        .execute(&mut *tx)
        .await?;
    sqlx::query(
        "UPDATE projection.generations SET live = true WHERE projection = $1 AND generation = $2",
    )
    .bind(projection)
    .bind(generation)
    .execute(&mut *tx)
    .await?;
    execute(tx, format!("DROP SCHEMA IF EXISTS {projection} CASCADE")).await?;
    execute(tx, format!("CREATE SCHEMA {projection}")).await?;
    let schema = schema(projection, generation);
    let tables: Vec<String> =
        sqlx::query_scalar("SELECT relname::text FROM pg_class WHERE relnamespace = $1::regnamespace AND relkind IN ('r', 'v')")
            .bind(&schema)
            .fetch_all(&mut *tx)
            .await?;
    for table in tables {
        execute(
            tx,
            format!(
                "CREATE VIEW {projection}.{table} WITH (security_invoker = true) AS SELECT * FROM {schema}.{table}"
            ),
        )
        .await?;
    }
    execute(
        tx,
        format!("GRANT USAGE ON SCHEMA {projection} TO cinelog_api, cinelog_projector"),
    )
    .await?;
    execute(
        tx,
        format!(
            "GRANT SELECT ON ALL TABLES IN SCHEMA {projection} TO cinelog_api, cinelog_projector"
        ),
    )
    .await
}

/// Runs a statement without parameters. The names in it are those of read models and of their tables.
async fn execute(tx: &mut PgConnection, statement: String) -> sqlx::Result<()> {
    sqlx::query(AssertSqlSafe(statement)).execute(tx).await?;
    Ok(())
}
