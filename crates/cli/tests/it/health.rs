//! What a process tells of itself: that it lives, whether it is ready, and figures, which are not for everybody.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::StatusCode;
use serde_json::{Value, json};
use service::db::Role;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tempfile::TempDir;
use testing::db::Database;
use testing::process::Child;
use testing::{environment, port, wait};

const LIMIT: Duration = Duration::from_mins(1);

/// Who lets nobody into a database, or everybody again.
struct Doorkeeper {
    /// To another database of the server.
    admin: PgConnection,
    database: String,
}

impl Doorkeeper {
    async fn of(database: &Database) -> Self {
        let owner = database.pool(Role::Owner).await;
        let name = sqlx::query_scalar("SELECT current_database()::text")
            .fetch_one(&owner)
            .await
            .unwrap();
        owner.close().await;
        let server = environment::required("DATABASE_URL");
        Self {
            admin: PgConnection::connect(&server).await.unwrap(),
            database: name,
        }
    }

    async fn lets_in(&mut self, everybody: bool) {
        let allow = format!(
            "ALTER DATABASE {} ALLOW_CONNECTIONS {everybody}",
            self.database
        );
        sqlx::query(AssertSqlSafe(allow))
            .execute(&mut self.admin)
            .await
            .unwrap();
    }

    async fn throws_out_all(&mut self) {
        sqlx::query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1")
            .bind(&self.database)
            .execute(&mut self.admin)
            .await
            .unwrap();
    }
}

async fn get(url: &str) -> (StatusCode, String) {
    let answer = reqwest::get(url).await.unwrap();
    (answer.status(), answer.text().await.unwrap())
}

async fn lives(admin: &str) {
    let (status, told) = get(&format!("{admin}/health")).await;
    assert_eq!((status, &*told), (StatusCode::OK, r#"{"status":"ok"}"#));
}

/// Whether it tells that it is ready, or that it is not for want of Postgres.
async fn tells(admin: &str, ready: bool) -> bool {
    let (status, told) = get(&format!("{admin}/ready")).await;
    let told: Value = serde_json::from_str(&told).unwrap();
    if ready {
        status == StatusCode::OK && told == json!({"ready": true, "away": []})
    } else {
        status == StatusCode::SERVICE_UNAVAILABLE
            && told == json!({"ready": false, "away": ["postgres"]})
    }
}

/// An API, where everybody reaches it, and where those who run it do.
async fn started(database: &Database, store: &TempDir) -> (Child, String, String) {
    let admin = port::free().to_string();
    let environment = [
        ("DATABASE_URL", database.url().expose()),
        ("STORAGE_URL", store.path().to_str().unwrap()),
        ("MASTER_KEY", &*BASE64.encode([7; 32])),
        ("SECRET_KEY", "a secret that only these tests have"),
        ("LISTEN", "127.0.0.1:0"),
        ("ADMIN_LISTEN", &admin),
    ];
    let mut api = Child::start(env!("CARGO_BIN_EXE_cinelog"), &["api"], &environment);
    let line = api.line("the API is on http://", LIMIT).await;
    let (_, public) = line.rsplit_once(' ').unwrap();
    (api, public.to_owned(), format!("http://{admin}"))
}

#[tokio::test]
async fn figures_are_for_those_who_run_it() {
    let (database, store) = (Database::migrated().await, TempDir::new().unwrap());
    let (_api, public, admin) = started(&database, &store).await;
    let (status, told) = get(&format!("{public}/metrics")).await;
    let problem: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(status, StatusCode::NOT_FOUND, "{problem}");
    assert_eq!(problem["type"], "/problems/route-not-found");
    let (status, figures) = get(&format!("{admin}/metrics")).await;
    assert_eq!(status, StatusCode::OK, "{figures}");
    // That somebody asked for them in vain is one of them.
    let mut lines = figures.lines();
    let asked = lines.find(|line| line.starts_with("cinelog_api_requests_total{"));
    let asked = asked.expect(&figures);
    assert!(
        asked.contains("status=\"404\"") && asked.ends_with(" 1"),
        "{asked}"
    );
}

#[tokio::test]
async fn it_lives_without_postgres_but_is_not_ready_until_that_is_back() {
    let (database, store) = (Database::migrated().await, TempDir::new().unwrap());
    let mut door = Doorkeeper::of(&database).await;
    let (_api, _, admin) = started(&database, &store).await;
    assert!(tells(&admin, true).await);
    lives(&admin).await;

    door.lets_in(false).await;
    wait::until_true(LIMIT, "it is not ready", async || {
        door.throws_out_all().await;
        lives(&admin).await;
        tells(&admin, false).await
    })
    .await;
    assert!(tells(&admin, false).await, "nor when it is asked again");
    lives(&admin).await;

    door.lets_in(true).await;
    wait::until_true(LIMIT, "it is ready again", async || {
        lives(&admin).await;
        tells(&admin, true).await
    })
    .await;
}
