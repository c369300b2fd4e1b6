//! A database with a made-up history in its log, made once for all benches of a run: `BENCH_USERS` people and `BENCH_POSTS`
//! posts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cli::bench::{self, Follows, History, Size};
use events::store::Log;
use projectors::config::Config;
use projectors::registry::{self, Projection};
use service::shutdown::Shutdown;
use sqlx::postgres::PgPoolOptions;
use testing::db::Database;

use crate::support::{World, keys, number};

/// The history, and a database of the caller's own that has it.
pub(crate) async fn seeded() -> (World, History) {
    let size = Size {
        users: number("BENCH_USERS", 10_000),
        posts: number("BENCH_POSTS", 100_000),
        follows: Follows::Zipf,
        seed: 1,
    };
    let database = Database::create(&format!("log of {size:?}"), async |owner| {
        service::migrate::run(owner).await?;
        let begun = Instant::now();
        let shutdown = Shutdown::new();
        // As processes connect, see `service::db::connect`.
        let options = (*owner.connect_options()).clone();
        let options = options.options([("jit", "off"), ("role", "cinelog_api")]);
        let api = PgPoolOptions::new().connect_with(options).await?;
        let log = Log::open(api.clone(), keys(), &shutdown).await?;
        let history = History::new(log.default_tenant().await?, size);
        let seeded = bench::seed(&log, &history, &|_| {}, &shutdown).await?;
        println!(
            "seeded: {} users and {} posts, {} facts, {:.0} a second",
            size.users,
            size.posts,
            seeded.facts,
            seeded.facts as f64 / begun.elapsed().as_secs_f64()
        );
        shutdown.finish(Duration::from_secs(10)).await;
        api.close().await;
        sqlx::query("ANALYZE").execute(owner).await?;
        Ok(())
    })
    .await;
    let world = World::on(database).await;
    registry::prepare(&world.owner).await.unwrap();
    let tenant = sqlx::query_scalar("SELECT tenant FROM log.tenants WHERE name = 'default'")
        .fetch_one(&world.owner)
        .await
        .unwrap();
    (world, History::new(tenant, size))
}

/// The read model of this name.
pub(crate) fn projection(name: &str, config: &Config) -> Arc<dyn Projection> {
    let all = registry::all(config);
    all.into_iter()
        .find(|one| one.name() == name)
        .expect("there is such a read model")
}
