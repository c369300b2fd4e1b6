//! Builds of read models: each has a schema of its own (`feed_g1`), and the views that are read (`feed`) point at one of them.

use service::db;
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};

use crate::registry::Projection;

/// Makes one more, empty generation of a read model, which nobody reads yet, and returns its name. What only reading needs is not
/// there yet, see [`complete`].
pub async fn fresh_generation(owner: &PgPool, projection: &dyn Projection) -> sqlx::Result<String> {
    let mut tx = db::begin(owner, "BEGIN").await?;
    lock(&mut tx).await?;
    let generation = make_bare(&mut tx, projection).await?;
    tx.commit().await?;
    Ok(schema(projection.name(), generation))
}

/// What making an index at a build's end may take of the server's memory.
const INDEX_MEMORY: &str = "256MB";

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
    let mut tx = db::begin(owner, "BEGIN").await?;
    lock(&mut tx).await?;
    let generation = schema(projection.name(), make_bare(&mut tx, projection).await?);
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

/// Drops every generation that nobody reads, the kept ones too, and tells each. What made them may be gone from the code: no
/// erasure could purge them, and nothing that they have not taken in could be archived.
pub async fn drop_unread(owner: &PgPool, mut dropped: impl FnMut(&str) + Send) -> sqlx::Result<()> {
    let mut guard = owner.acquire().await?.detach();
    drop_those(owner, &mut guard, None, &mut dropped).await?;
    guard.close().await
}

/// Drops the unread generations of one read model that are neither kept nor to be built on, or all that are unread; never one
/// that somebody builds or compares at this moment.
async fn drop_those(
    owner: &PgPool,
    guard: &mut PgConnection,
    projection: Option<&str>,
    dropped: &mut (dyn FnMut(&str) + Send),
) -> sqlx::Result<()> {
    let unread: Vec<(String, bool)> = sqlx::query_as(
        "SELECT nspname::text, g.building OR obj_description(n.oid, 'pg_namespace') IS NOT DISTINCT FROM $1
         FROM pg_namespace n JOIN projection.generations g
             ON n.nspname = g.projection || '_g' || g.generation AND NOT g.live
         WHERE $2::text IS NULL OR g.projection = $2 AND NOT g.kept AND NOT g.building
         ORDER BY g.projection, g.generation",
    )
    .bind(FOR_COMPARING)
    .bind(projection)
    .fetch_all(owner)
    .await?;
    for (generation, in_use) in unread {
        if in_use && !claim(guard, &generation).await? {
            continue;
        }
        if drop_generation(owner, &generation).await? {
            dropped(&generation);
        }
    }
    Ok(())
}

/// Drops a generation that nobody reads, and its subscription; whether it was there. Checkpoints first: so does whoever
/// still works through it.
pub(crate) async fn drop_generation(owner: &PgPool, generation: &str) -> sqlx::Result<bool> {
    let mut tx = db::begin(owner, "BEGIN").await?;
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

/// Whether a build is still there; to be asked under [`lock`].
pub(crate) async fn is_there(tx: &mut PgConnection, generation: &str) -> sqlx::Result<bool> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM projection.generations WHERE projection || '_g' || generation = $1)",
    )
    .bind(generation)
    .fetch_one(tx)
    .await
}

pub(crate) fn schema(projection: &str, generation: i32) -> String {
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
pub(crate) async fn make(tx: &mut PgConnection, projection: &dyn Projection) -> sqlx::Result<i32> {
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

/// Makes the next generation without its [late](Projection::late) indexes.
async fn make_bare(tx: &mut PgConnection, projection: &dyn Projection) -> sqlx::Result<i32> {
    let generation = make(tx, projection).await?;
    let schema = schema(projection.name(), generation);
    for index in projection.late() {
        execute(tx, format!("DROP INDEX {schema}.{index}")).await?;
    }
    Ok(generation)
}

/// Makes the [late](Projection::late) indexes of a filled generation that are not there, each in a transaction of its own.
pub async fn complete(
    owner: &PgPool,
    projection: &dyn Projection,
    generation: &str,
) -> sqlx::Result<()> {
    for index in projection.late() {
        let create = format!("CREATE INDEX {index} ");
        let found = projection.ddl().split_once(&create);
        let Some((on, _)) = found.and_then(|(_, rest)| rest.split_once(';')) else {
            let missing = format!("the tables of {generation} do not say `{create}…;`");
            return Err(sqlx::Error::Protocol(missing));
        };
        let mut tx = db::begin(owner, "BEGIN").await?;
        let sql = format!(
            "SET LOCAL search_path = {generation}; SET LOCAL maintenance_work_mem = '{INDEX_MEMORY}';
             CREATE INDEX IF NOT EXISTS {index} {on}"
        );
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *tx).await?;
        tx.commit().await?;
    }
    Ok(())
}

/// An unfinished build of a read model to go on with, as long as `guard` lives, or a new one; none: another process builds it.
pub(crate) async fn generation_to_build(
    owner: &PgPool,
    guard: &mut PgConnection,
    projection: &dyn Projection,
) -> sqlx::Result<Option<String>> {
    let mut tx = db::begin(owner, "BEGIN").await?;
    lock(&mut tx).await?;
    let unfinished: Option<i32> = sqlx::query_scalar(
        "SELECT max(generation) FROM projection.generations WHERE projection = $1 AND version = $2 AND building",
    )
    .bind(projection.name())
    .bind(projection.version())
    .fetch_one(&mut *tx)
    .await?;
    let generation = match unfinished {
        Some(generation) => generation,
        None => make_bare(&mut tx, projection).await?,
    };
    sqlx::query(
        "UPDATE projection.generations SET building = true WHERE projection = $1 AND generation = $2",
    )
    .bind(projection.name())
    .bind(generation)
    .execute(&mut *tx)
    .await?;
    let generation = schema(projection.name(), generation);
    if !claim(guard, &generation).await? {
        return Ok(None);
    }
    tx.commit().await?;
    Ok(Some(generation))
}

/// Asks whoever builds a read model to pause, or to go on; whether anything is being built.
pub async fn pause(owner: &PgPool, projection: &str, paused: bool) -> sqlx::Result<bool> {
    let asked = sqlx::query(
        "UPDATE projection.generations SET paused = $2 WHERE projection = $1 AND building",
    )
    .bind(projection)
    .bind(paused)
    .execute(owner)
    .await?;
    Ok(asked.rows_affected() > 0)
}

/// Whether a build is to pause.
pub(crate) async fn is_paused(pool: &PgPool, generation: &str) -> sqlx::Result<bool> {
    let paused: Option<bool> = sqlx::query_scalar(
        "SELECT paused FROM projection.generations WHERE projection || '_g' || generation = $1",
    )
    .bind(generation)
    .fetch_optional(pool)
    .await?;
    Ok(paused.unwrap_or(false))
}

/// Makes a generation the one that is read, and keeps the one before.
pub(crate) async fn swap(
    owner: &PgPool,
    projection: &dyn Projection,
    generation: &str,
) -> sqlx::Result<()> {
    let mut tx = db::begin(owner, "BEGIN").await?;
    lock(&mut tx).await?;
    let number: i32 = sqlx::query_scalar(
        "SELECT generation FROM projection.generations WHERE projection || '_g' || generation = $1",
    )
    .bind(generation)
    .fetch_one(&mut *tx)
    .await?;
    point(&mut tx, projection.name(), number).await?;
    tx.commit().await
}

/// Drops what a swap let go: neither read nor kept, and nobody builds or compares it. Nothing would move its checkpoints any
/// more, and it would count as a read model that lags.
pub(crate) async fn drop_let_go(
    owner: &PgPool,
    guard: &mut PgConnection,
    projection: &str,
) -> sqlx::Result<()> {
    drop_those(owner, guard, Some(projection), &mut |_| {}).await
}

/// Makes a generation the one that is read. The one before is kept, and what was kept is not any more. Readers that hold the
/// old views end first.
pub(crate) async fn point(
    tx: &mut PgConnection,
    projection: &str,
    generation: i32,
) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE projection.generations g SET live = false, kept = g.live
         WHERE g.projection = $1 AND (g.live OR g.kept) AND g.generation <> $2",
    )
    .bind(projection)
    .bind(generation)
    .execute(&mut *tx)
    .await?;
    sqlx::query(
        "UPDATE projection.generations SET live = true, kept = false, building = false, paused = false
         WHERE projection = $1 AND generation = $2",
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
