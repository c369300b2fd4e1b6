//! How long one post of an author with 100,000 followers takes to be in all their feeds, pushed: reading it from the log, its
//! row, an entry each, and the commit. The ceiling is one `INSERT … SELECT` of the same entries into a table like theirs.
//!
//! Printed besides: how long posts of others take to reach a feed while such an author posts, beside a quiet time; all of it
//! goes through one projector process.
//!
//! `BENCH_FOLLOWERS` (100,000) is how many there are.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]
#![expect(clippy::print_stdout, reason = "its table is for people")]

#[path = "support/filling.rs"]
mod filling;
#[path = "support/percentile.rs"]
mod percentile;
#[path = "support/running.rs"]
mod running;
mod support;
#[path = "support/watch.rs"]
mod watch;

use std::sync::Arc;
use std::time::{Duration, Instant};

use events::id::{PostId, UserId};
use events::store::Log;
use futures::{StreamExt, stream};
use projectors::config::Config;
use projectors::feed::Feed;
use projectors::registry::{self, Generation};
use service::db::{self, Role};
use service::shutdown::Shutdown;
use sqlx::{AssertSqlSafe, PgPool};
use testing::bench::{Row, publish};
use testing::db::Database;
use uuid::Uuid;

use filling::fill;
use percentile::percentile;
use support::{World, keys, number};
use watch::{Watch, user};

const ROUNDS: u32 = 5;
/// While the others post, the star does so often, and so far apart.
const STAR_POSTS: u32 = 4;
const STAR_APART: Duration = Duration::from_secs(2);
const POSTS: u32 = 800;
const APART: Duration = Duration::from_millis(10);

#[tokio::main]
async fn main() {
    let followers = number("BENCH_FOLLOWERS", 100_000);
    let world = World::on(Database::migrated().await).await;
    registry::prepare(&world.owner).await.unwrap();
    let shutdown = Shutdown::new();
    let api = world.database.pool(Role::Api).await;
    let log = Log::open(api.clone(), keys(), &shutdown).await.unwrap();
    let watch = Watch::new(&log, &api).await;
    let follows = stream::iter(0..followers).for_each_concurrent(512, |n| {
        let watch = &watch;
        async move { watch.follow(user("follower", n), star()).await }
    });
    follows.await;
    let config = Config {
        feed_push_limit: u32::MAX,
        ..Config::default()
    };
    let name = registry::live(&world.owner).await.unwrap()["feed"].clone();
    let feed = Generation::new(name.clone(), Arc::new(Feed::new(&config)));
    fill(&world, &feed, 1).await;
    bare_table(&world.owner, &name).await;

    let (mut ours, mut bare) = (vec![], vec![]);
    for _ in 0..ROUNDS {
        let post = PostId(Uuid::now_v7());
        watch.publish(star(), post).await;
        let begun = Instant::now();
        fill(&world, &feed, 1).await;
        ours.push(begun.elapsed().as_secs_f64() * 1_000.0);
        bare.push(inserted(&world.owner, &name, post, followers).await);
    }
    meanwhile(&world, &config, &watch).await;
    shutdown.finish(Duration::from_secs(10)).await;
    let row = Row {
        case: "100k followers".to_owned(),
        unit: "ms",
        ours,
        peer: ("none", None),
        ceiling: ("INSERT … SELECT of its rows", Some(bare)),
    };
    println!("{}", publish("fanout", &[row]).unwrap());
}

fn star() -> UserId {
    user("star", 0)
}

async fn bare_table(owner: &PgPool, schema: &str) {
    sqlx::raw_sql(AssertSqlSafe(format!(
        "CREATE TABLE public.bare_entry (LIKE {schema}.feed_entry INCLUDING ALL);
         CREATE TABLE public.pushed (LIKE {schema}.feed_entry);"
    )))
    .execute(owner)
    .await
    .unwrap();
}

/// How long one statement takes for the entries of `post`, in ms.
async fn inserted(owner: &PgPool, schema: &str, post: PostId, followers: u32) -> f64 {
    let copy = format!(
        "INSERT INTO public.pushed SELECT * FROM {schema}.feed_entry WHERE position = (SELECT position FROM {schema}.post WHERE post = $1)"
    );
    sqlx::query("TRUNCATE public.pushed")
        .execute(owner)
        .await
        .unwrap();
    let copied = sqlx::query(AssertSqlSafe(copy))
        .bind(post)
        .execute(owner)
        .await;
    assert_eq!(copied.unwrap().rows_affected(), u64::from(followers));
    let begun = Instant::now();
    let mut tx = db::begin(owner, "BEGIN").await.unwrap();
    // As projectors commit.
    for sql in [
        "SET LOCAL synchronous_commit = off",
        "INSERT INTO public.bare_entry SELECT * FROM public.pushed",
    ] {
        sqlx::query(sql).execute(&mut *tx).await.unwrap();
    }
    tx.commit().await.unwrap();
    begun.elapsed().as_secs_f64() * 1_000.0
}

async fn meanwhile(world: &World, config: &Config, watch: &Watch) {
    let shutdown = Shutdown::new();
    running::keep(world, config, None, &shutdown).await;
    // Not counted: what is read first comes from disk.
    watch.watch(100, APART).await;
    let quiet = watch.watch(POSTS, APART).await;
    let posting = async {
        for _ in 0..STAR_POSTS {
            watch.publish(star(), PostId(Uuid::now_v7())).await;
            tokio::time::sleep(STAR_APART).await;
        }
    };
    let (busy, ()) = tokio::join!(watch.watch(POSTS, APART), posting);
    for (when, waits) in [("in a quiet time", quiet), ("meanwhile", busy)] {
        println!(
            "posts of others {when}: p50 {:.0} ms, p99 {:.0} ms until they are in a feed",
            percentile(&waits, 50),
            percentile(&waits, 99)
        );
    }
    shutdown.finish(Duration::from_secs(10)).await;
}
