//! What those see who run the platform: everything counted, over all tenants, and nobody's words.

use std::time::Duration;

use api::auth::Role;
use reqwest::Method;
use serde_json::{Value, json};
use service::db::{self, TenantTx};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::app::{App, User, assert_problem};
use crate::uploads::{complete, file, put};

const ROUTES: [&str; 7] = [
    "status", "lag", "scaling", "parked", "rebuilds", "jobs", "storage",
];

fn operator(app: &App) -> User<'_> {
    app.bearer(
        app.tenant,
        "olga",
        &[Role::Operator],
        Duration::from_mins(10),
    )
}

async fn posts(user: &mut User<'_>, count: usize) {
    for n in 0..count {
        let post = json!({"text": format!("secret {n}"), "visibility": "public"});
        user.posts("/v1/posts", post).await;
    }
}

/// The one of `list` whose `field` is `value`.
fn the<'a>(list: &'a Value, field: &str, value: &str) -> &'a Value {
    let mut list = list.as_array().unwrap().iter();
    list.find(|one| one[field] == value)
        .unwrap_or_else(|| panic!("no {value}"))
}

#[tokio::test]
async fn only_operators_see_the_platform() {
    let app = App::start().await;
    let others = [Role::Member, Role::Moderator, Role::Data, Role::DataGlobal];
    let other = app.bearer(app.tenant, "bo", &others, Duration::from_mins(10));
    let olga = operator(&app);
    for route in ROUTES {
        let path = format!("/v1/admin/{route}");
        let answer = other.request(Method::GET, &path).send().await.unwrap();
        assert_problem(answer, 403, "forbidden").await;
        olga.reads(&path).await;
    }
}

#[tokio::test]
async fn the_status_tells_what_answers_and_how_far_the_log_is() {
    let app = App::start().await;
    posts(&mut app.user("ana"), 2).await;
    let status = operator(&app).reads("/v1/admin/status").await;
    assert_eq!(status["log"]["head"], app.head().await);
    assert_eq!(status["log"]["id"], app.log.id().to_string());
    assert_eq!(status["log"]["floor"], 1);
    for is in ["database", "storage"] {
        assert_eq!(status[is], true, "{is}");
    }
    assert_eq!(status["kafka"], false);
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    sqlx::query("UPDATE subscription.checkpoints SET kafka_offset = 7 WHERE lane = 1")
        .execute(&app.owner)
        .await
        .unwrap();
    let status = operator(&app).reads("/v1/admin/status").await;
    assert_eq!(status["kafka"], true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_behind_is_counted_lane_by_lane_and_wants_processes() {
    let app = App::start().await;
    let olga = operator(&app);
    let (mut ana, mut zoe) = (
        app.user("ana"),
        app.user_of(app.second_tenant().await, "zoe"),
    );
    posts(&mut ana, 3).await;
    let level = |lag: &Value| the(&lag["subscriptions"], "subscription", "feed_g1")["behind"] == 0;
    let lag = olga.sees("/v1/admin/lag", "the feed is level", level).await;
    let feed = the(&lag["subscriptions"], "subscription", "feed_g1");
    assert_eq!(
        (&feed["lanes"], &feed["seconds"]),
        (&json!([]), &json!(0.0))
    );

    let works = |scaling: &Value| {
        let feed = the(&scaling["projections"], "projection", "feed");
        feed["processes"] == 1 && feed["behind"] == 0
    };
    let scaling = olga
        .sees("/v1/admin/scaling", "one process works", works)
        .await;
    assert_eq!(scaling["wanted"], 1);
    let feed = the(&scaling["projections"], "projection", "feed");
    assert_eq!((&feed["lanes"], &feed["wanted"]), (&json!(0), &json!(1)));

    assert!(app.projecting.finish(Duration::from_secs(10)).await);
    let head = app.head().await;
    posts(&mut ana, 3).await;
    posts(&mut zoe, 2).await;
    let news = app.head().await - head;
    let lag = olga.reads("/v1/admin/lag").await;
    let feed = the(&lag["subscriptions"], "subscription", "feed_g1");
    assert_eq!(feed["behind"], news);
    let lanes = feed["lanes"].as_array().unwrap();
    let sum: i64 = lanes
        .iter()
        .map(|lane| lane["behind"].as_i64().unwrap())
        .sum();
    assert_eq!(sum, news);
    assert!(feed["seconds"].as_f64().unwrap() > 0.0, "{feed}");
    let scaling = olga.reads("/v1/admin/scaling").await;
    let scaled = the(&scaling["projections"], "projection", "feed");
    assert_eq!(scaled["behind"], news);
    assert_eq!(scaled["lanes"], lanes.len());
}

#[tokio::test]
async fn parked_subjects_are_counted_and_named_without_what_they_say() {
    let app = App::start().await;
    for n in 1..=25 {
        sqlx::query(
            "WITH parked AS (
                INSERT INTO subscription.parked (subscription, tenant, subject, lane, error)
                VALUES ('feed_g1', $1, 'post-' || $2, 0, 'it says secret') RETURNING *)
            INSERT INTO subscription.parked_facts (subscription, position, tenant, subject)
            SELECT subscription, $2 * 10 + n, tenant, subject FROM parked, generate_series(1, 2) n",
        )
        .bind(app.tenant)
        .bind(n)
        .execute(&app.owner)
        .await
        .unwrap();
    }
    let parked = operator(&app).reads("/v1/admin/parked").await;
    assert!(!parked.to_string().contains("secret"), "{parked}");
    let of = &parked["subscriptions"][0];
    assert_eq!(
        (&of["subscription"], &of["subjects"], &of["facts"]),
        (&json!("feed_g1"), &json!(25), &json!(50))
    );
    let newest = of["newest"].as_array().unwrap();
    assert_eq!(newest.len(), 20);
    assert_eq!(newest[0]["subject"], "post-25");
    assert_eq!(
        (&newest[0]["position"], &newest[0]["facts"]),
        (&json!(251), &json!(2))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn builds_tell_what_they_are_for_and_how_far_they_are() {
    let app = App::start().await;
    posts(&mut app.user("ana"), 3).await;
    let usage = projectors::usage::Usage;
    projectors::generation::fresh_generation(&app.owner, &usage)
        .await
        .unwrap();
    let olga = operator(&app);
    let done = |told: &Value| the(&told["builds"], "name", "feed_g1")["done"] == 1.0;
    let told = olga
        .sees("/v1/admin/rebuilds", "the feed is done", done)
        .await;
    assert_eq!(told["head"], app.head().await);
    assert_eq!(the(&told["builds"], "name", "feed_g1")["state"], "read");
    let fresh = the(&told["builds"], "name", "usage_g2");
    assert_eq!(
        (&fresh["projection"], &fresh["state"]),
        (&json!("usage"), &json!("unread"))
    );
    assert_eq!(
        (&fresh["position"], &fresh["done"]),
        (&json!(0), &json!(0.0))
    );
    sqlx::query(
        "UPDATE projection.generations SET building = true, paused = true WHERE generation = 2",
    )
    .execute(&app.owner)
    .await
    .unwrap();
    let told = olga.reads("/v1/admin/rebuilds").await;
    assert_eq!(the(&told["builds"], "name", "usage_g2")["state"], "paused");
}

/// A job of anybody's.
async fn job(app: &App, class: i16, state: &str, ended: Option<i32>, cause: Option<&str>) {
    sqlx::query(
        "INSERT INTO jobs.jobs (job_id, tenant, asset, owner, profile, class, source_key, source_bytes, source_sha256, asked_at,
            state, error, ended_on)
        VALUES ($1, $1, $1, $1, 'proxy720@1', $2, '', 1, '', 1, $3, jsonb_build_object('type', $4::text),
            now() - $5 * interval '1 minute')",
    )
    .bind(Uuid::new_v4())
    .bind(class)
    .bind(state)
    .bind(cause)
    .bind(ended)
    .execute(&app.owner)
    .await
    .unwrap();
}

#[tokio::test]
async fn jobs_are_counted_by_class_and_state_and_failures_by_cause() {
    let app = App::start().await;
    for _ in 0..2 {
        job(&app, 0, "queued", None, None).await;
        job(&app, 1, "failed", Some(5), Some("input")).await;
    }
    job(&app, 1, "failed", Some(5), Some("limit")).await;
    job(&app, 1, "failed", Some(90), Some("input")).await;
    let told = operator(&app).reads("/v1/admin/jobs").await;
    let counted: Vec<_> = told["counted"].as_array().unwrap().iter().collect();
    assert_eq!(counted.len(), 2, "{told}");
    assert_eq!(the(&told["counted"], "class", "interactive")["jobs"], 2);
    assert_eq!(the(&told["counted"], "class", "default")["jobs"], 4);
    assert!(told["oldest_waiting"].is_string(), "{told}");
    let causes = told["failures"].as_array().unwrap().iter();
    let causes: Vec<_> = causes.map(|one| (&one["cause"], &one["jobs"])).collect();
    assert_eq!(
        causes,
        [(&json!("input"), &json!(2)), (&json!("limit"), &json!(1))]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn storage_is_summed_over_all_tenants_and_owners_see_only_their_own() {
    const CLIP: &[u8] = b"not really a clip";
    let app = App::start().await;
    let (mut ana, mut zoe) = (
        app.user("ana"),
        app.user_of(app.second_tenant().await, "zoe"),
    );
    for user in [&mut ana, &mut zoe] {
        let ticket = user.posts("/v1/uploads", file(CLIP)).await;
        put(&app, &ticket, CLIP).await;
        assert_eq!(complete(user, &ticket).await.status(), 202);
    }
    zoe.posts("/v1/uploads", file(CLIP)).await;
    let both = |told: &Value| told["assets"] == 2;
    let told = operator(&app)
        .sees("/v1/admin/storage", "both are counted", both)
        .await;
    let one = CLIP.len();
    assert_eq!(told["original_bytes"], 2 * one);
    let open = told["open_uploads"].as_u64().unwrap();
    assert!((1..=3).contains(&open), "{told}");
    assert_eq!(told["reserved_bytes"], open * one as u64);
    assert_eq!(ana.reads("/v1/usage").await["original_bytes"], one);
}

#[tokio::test]
async fn what_operators_see_nobody_else_does_whatever_a_query_asks_for() {
    let app = App::start().await;
    job(&app, 1, "failed", Some(5), Some("input")).await;
    sqlx::query("INSERT INTO usage.total VALUES ($1, $2, 0, 1, 1, 1, 1)")
        .bind(app.tenant)
        .bind(Uuid::from_u128(7))
        .execute(&app.owner)
        .await
        .unwrap();
    let pool = app.database.pool(db::Role::Api).await;
    for (operator, rows) in [(false, 0i64), (true, 1)] {
        let mut tx = TenantTx::begin(&pool, app.tenant.0, Uuid::from_u128(8))
            .await
            .unwrap();
        if operator {
            tx.as_operator().await.unwrap();
        }
        for table in ["jobs.counted", "jobs.failing", "usage.total"] {
            let count = format!("SELECT count(*) FROM {table}");
            let seen: i64 = sqlx::query_scalar(AssertSqlSafe(count))
                .fetch_one(&mut *tx)
                .await
                .unwrap();
            assert_eq!(seen, rows, "{table}, operator: {operator}");
        }
    }
    for table in ["jobs.jobs", "usage.asset", "accounts.uploads"] {
        let mut tx = TenantTx::begin(&pool, app.tenant.0, Uuid::from_u128(8))
            .await
            .unwrap();
        tx.as_operator().await.unwrap();
        let count = format!("SELECT count(*) FROM {table}");
        let seen = sqlx::query_scalar::<_, i64>(AssertSqlSafe(count)).fetch_one(&mut *tx);
        assert!(
            matches!(seen.await, Ok(0) | Err(sqlx::Error::Database(_))),
            "{table}"
        );
    }
}
