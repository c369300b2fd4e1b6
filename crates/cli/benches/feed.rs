//! How many first pages of a feed a second four clients get, 20 posts each, of a made-up history: `feed::query::page` over a
//! pool of four connections, each page in a transaction of its viewer's. The ceiling is pgbench with four clients, which sends
//! the very statements that such a page was seen to send, and looks at no answer.
//!
//! `BENCH_USERS` (10,000) and `BENCH_POSTS` (100,000) are the size of the history, `BENCH_SECONDS` (5) that of a round.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]
#![expect(clippy::print_stdout, reason = "its table is for people")]

#[path = "support/filling.rs"]
mod filling;
#[path = "support/live.rs"]
mod live;
#[path = "support/seeded.rs"]
mod seeded;
mod support;

use std::fmt::Write;
use std::time::{Duration, Instant};

use cli::bench::History;
use projectors::feed::query::page;
use projectors::page::Viewer;
use service::db::{self, Role, TenantTx};
use sqlx::PgPool;
use tempfile::TempPath;
use testing::bench::{Row, publish};
use tokio::process::Command;
use tokio::task::JoinSet;

use live::viewer;
use support::{World, number};

const CLIENTS: u32 = 4;
const LIMIT: u32 = 20;
const VIEWERS: usize = 64;
const ROUNDS: usize = 5;

#[tokio::main]
async fn main() {
    let (world, history) = seeded::seeded().await;
    live::fill(&world, &["feed"]).await;
    let seconds = number("BENCH_SECONDS", 5);
    let pool = db::connect(world.database.url(), Role::Api, CLIENTS)
        .await
        .unwrap();
    let viewers = viewers(&pool, &history).await;
    let scripts = scripts(&world, &viewers).await;
    let (mut ours, mut bare) = (vec![], vec![]);
    for _ in 0..ROUNDS {
        ours.push(pages(&pool, &viewers, Duration::from_secs(seconds.into())).await);
        bare.push(pgbench(&world, &scripts, seconds).await);
    }
    let row = Row {
        case: "first page".to_owned(),
        unit: "requests/s",
        ours,
        peer: ("none", None),
        ceiling: ("pgbench", Some(bare)),
    };
    println!("{}", publish("feed", &[row]).unwrap());
}

/// Some whose feed has more than a page.
async fn viewers(pool: &PgPool, history: &History) -> Vec<Viewer> {
    let mut found = vec![];
    for n in 0..history.size().users.into() {
        let viewer = viewer(history, history.user(n));
        if first_page(pool, viewer).await {
            found.push(viewer);
        }
        if found.len() == VIEWERS {
            break;
        }
    }
    assert!(!found.is_empty(), "nobody's feed has a page");
    found
}

/// Gets a page as the API does; whether there is another behind it.
async fn first_page(pool: &PgPool, viewer: Viewer) -> bool {
    let mut tx = TenantTx::begin(pool, viewer.tenant.0, viewer.user.0)
        .await
        .unwrap();
    let page = page(&mut tx, viewer, None, LIMIT).await.unwrap();
    page.next.is_some()
}

async fn pages(pool: &PgPool, viewers: &[Viewer], time: Duration) -> f64 {
    let begun = Instant::now();
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS as usize {
        let (pool, viewers) = (pool.clone(), viewers.to_vec());
        clients.spawn(async move {
            let mut pages = 0;
            while begun.elapsed() < time {
                let viewer = viewers[(client + pages * 7) % viewers.len()];
                assert!(first_page(&pool, viewer).await);
                pages += 1;
            }
            pages
        });
    }
    let pages: usize = clients.join_all().await.into_iter().sum();
    pages as f64 / begun.elapsed().as_secs_f64()
}

/// A file for each viewer with what a first page sends.
async fn scripts(world: &World, viewers: &[Viewer]) -> Vec<TempPath> {
    let statements = sent(world, viewers[0]).await;
    let mut scripts = vec![];
    for viewer in viewers {
        let (tenant, user) = (viewer.tenant, viewer.user);
        let mut script = format!(
            "BEGIN;\nSELECT set_config('app.tenant', '{tenant}', true), set_config('app.user', '{user}', true);\n"
        );
        for (statement, types) in &statements {
            writeln!(script, "{};", bound(statement, types, *viewer)).unwrap();
        }
        script.push_str("ROLLBACK;\n");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), script).unwrap();
        scripts.push(file.into_temp_path());
    }
    scripts
}

/// The statements of a first page, with the types of their parameters: on a fresh connection, those that are prepared after it.
async fn sent(world: &World, viewer: Viewer) -> Vec<(String, Vec<String>)> {
    let pool = db::connect(world.database.url(), Role::Api, 1)
        .await
        .unwrap();
    assert!(first_page(&pool, viewer).await);
    sqlx::query_as(
        "SELECT statement, parameter_types::text[] FROM pg_prepared_statements
         WHERE statement NOT LIKE '%pg_prepared_statements%' ORDER BY prepare_time",
    )
    .fetch_all(&pool)
    .await
    .unwrap()
}

/// A statement with its parameters in place: tenant and user, and where the page begins and how long it is.
fn bound(statement: &str, types: &[String], viewer: Viewer) -> String {
    let (tenant, user) = (format!("'{}'", viewer.tenant), format!("'{}'", viewer.user));
    let mut ids = [tenant, user].into_iter();
    let mut numbers = [i64::MAX.to_string(), (LIMIT + 1).to_string()].into_iter();
    let mut text = statement.to_owned();
    for (n, sort) in types.iter().enumerate() {
        let value = if sort == "bigint" {
            numbers.next()
        } else {
            ids.next()
        };
        let value = value.expect("the page's statements take what this bench knows of");
        text = text.replace(&format!("${}", n + 1), &format!("{value}::{sort}"));
    }
    assert!(!text.contains('$'), "{text}");
    text
}

async fn pgbench(world: &World, scripts: &[TempPath], seconds: u32) -> f64 {
    let mut command = Command::new("pgbench");
    command.args(["--no-vacuum", "--protocol=prepared", "--jobs=2"]);
    command.arg(format!("--client={CLIENTS}"));
    command.arg(format!("--time={seconds}"));
    for path in scripts {
        command.arg("--file").arg(path);
    }
    command.arg(world.database.url().expose());
    command.env("PGOPTIONS", "-c role=cinelog_api -c jit=off");
    let output = command.output().await.unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}{failed}");
    let rate = told.lines().find_map(|line| line.strip_prefix("tps = "));
    let rate = rate.and_then(|line| line.split(' ').next()?.parse().ok());
    rate.unwrap_or_else(|| panic!("{told}"))
}
