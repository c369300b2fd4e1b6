//! disintegrate's listener behind the requests of ../common.mjs: `fill` and `rebuild`. `DATABASE_URL` is a database of its own.
//!
//! Appending needs Postgres 16, because one function of its SQL writes a number in hexadecimal; reading does not, and this
//! only reads. What it makes before that function is all that its listener needs.

use std::io::{BufRead, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use async_trait::async_trait;
use disintegrate::serde::json::Json;
use disintegrate::{Event, EventListener, PersistedEvent, StreamQuery, query};
use disintegrate_postgres::{PgEventId, PgEventListener, PgEventListenerConfig, PgEventStore};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::sync::Notify;
use uuid::Uuid;

#[derive(Clone, Debug, PartialEq, Eq, Event, Serialize, Deserialize)]
enum Fact {
    ReactionAdded {
        post: Uuid,
        user: Uuid,
        kind: String,
    },
}

/// Reactions by post. It is handed one event at a time.
struct Tally {
    query: StreamQuery<PgEventId, Fact>,
    pool: PgPool,
    left: AtomicI64,
    done: Arc<Notify>,
}

#[async_trait]
impl EventListener<PgEventId, Fact> for Tally {
    type Error = sqlx::Error;

    fn id(&self) -> &'static str {
        "tally"
    }

    fn query(&self) -> &StreamQuery<PgEventId, Fact> {
        &self.query
    }

    async fn handle(&self, event: PersistedEvent<PgEventId, Fact>) -> Result<(), sqlx::Error> {
        let id = event.id();
        let Fact::ReactionAdded { post, .. } = event.into_inner();
        // Events may come again: each is taken in once by its id, as its own examples do.
        sqlx::query(
            "INSERT INTO tally VALUES ($1, 1, $2)
             ON CONFLICT (post) DO UPDATE SET reactions = tally.reactions + 1, last = EXCLUDED.last
             WHERE tally.last < EXCLUDED.last",
        )
        .bind(post)
        .bind(id)
        .execute(&self.pool)
        .await?;
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.done.notify_one();
        }
        Ok(())
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("DATABASE_URL").context("set DATABASE_URL")?;
    let pool = PgPoolOptions::new()
        .max_connections(8)
        .connect(&url)
        .await?;
    let store = match PgEventStore::try_new(pool.clone(), Json::default()).await {
        Ok(store) => store,
        Err(_) => PgEventStore::new_uninitialized(pool.clone(), Json::default()),
    };
    sqlx::query(
        "CREATE TABLE tally (post uuid PRIMARY KEY, reactions bigint NOT NULL, last bigint NOT NULL) WITH (fillfactor = 50)",
    )
    .execute(&pool)
    .await?;
    say(&json!({"name": "disintegrate-postgres", "version": "4.0.1"}))?;
    for line in std::io::stdin().lock().lines() {
        let request: Value = serde_json::from_str(&line?)?;
        let number = |name: &str| request[name].as_i64().context("a number is missing");
        let (facts, rows) = (number("facts")?, number("rows")?);
        match request["do"].as_str() {
            Some("fill") => fill(&pool, facts, rows).await?,
            Some("rebuild") => say(&json!(rebuild(&pool, &store, facts, rows).await?))?,
            _ => bail!("unknown request {request}"),
        }
    }
    Ok(())
}

fn say(answer: &Value) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{answer}")?;
    out.flush()
}

async fn fill(pool: &PgPool, facts: i64, rows: i64) -> anyhow::Result<()> {
    sqlx::query(
        "INSERT INTO event (event_type, payload)
         SELECT 'ReactionAdded', convert_to(json_build_object('ReactionAdded', json_build_object(
             'post', md5((g % $2)::text)::uuid, 'user', md5(g::text)::uuid, 'kind', repeat('x', 186)))::text, 'UTF8')
         FROM generate_series(1, $1) g",
    )
    .bind(facts)
    .bind(rows)
    .execute(pool)
    .await?;
    Ok(say(&json!(facts))?)
}

async fn rebuild(
    pool: &PgPool,
    store: &PgEventStore<Fact, Json<Fact>>,
    facts: i64,
    rows: i64,
) -> anyhow::Result<f64> {
    for sql in ["TRUNCATE tally", "DROP TABLE IF EXISTS event_listener"] {
        sqlx::query(sql).execute(pool).await?;
    }
    let done = Arc::new(Notify::new());
    let tally = Tally {
        query: query!(Fact),
        pool: pool.clone(),
        left: AtomicI64::new(facts),
        done: done.clone(),
    };
    let config = PgEventListenerConfig::poller(Duration::from_millis(50));
    let listener = PgEventListener::builder(store.clone()).register_listener(tally, config);
    let begun = Instant::now();
    let ended = Arc::new(Notify::new());
    let end = ended.clone();
    let running = tokio::spawn(listener.start_with_shutdown(async move { end.notified().await }));
    done.notified().await;
    let seconds = begun.elapsed().as_secs_f64();
    ended.notify_one();
    running.await??;
    let found: (i64, i64) = sqlx::query_as("SELECT count(*), sum(reactions)::bigint FROM tally")
        .fetch_one(pool)
        .await?;
    ensure!(found == (rows, facts), "rebuilt to {found:?}");
    Ok(facts as f64 / seconds)
}
