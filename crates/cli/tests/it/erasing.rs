//! Who asked to be erased is, beside others who did.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use events::decide::user;
use events::id::{CommandId, StreamKey, TenantId, UserId};
use events::seal::Key;
use events::store::{Command, Emit, Keys, Log, Streams};
use projectors::registry;
use service::db::{self, Role};
use service::shutdown::Shutdown;
use sqlx::PgPool;
use testing::db::{Database, locked_out};
use testing::process::Child;
use testing::wait::until_true;
use uuid::Uuid;

const LIMIT: Duration = Duration::from_mins(1);

/// Somebody of whom there are facts.
async fn registered(log: &Log, tenant: TenantId, name: &str) -> Uuid {
    let user = UserId::of("cinelog", name);
    let key = StreamKey::user(user);
    let command = Command {
        id: CommandId {
            tenant,
            actor: user,
            route: "test".to_owned(),
            key: name.to_owned(),
        },
        body_hash: [0; 32],
        correlation: None,
        cause: None,
    };
    let register = |streams: &Streams| {
        let registered = user::register(&streams.get(&key), "cinelog", name)?;
        Ok(Emit::all(&key, registered))
    };
    log.execute(&command, std::slice::from_ref(&key), register)
        .await
        .unwrap();
    user.0
}

async fn asks(owner: &PgPool, tenant: Uuid, person: Uuid) {
    sqlx::query(
        "INSERT INTO accounts.erasures (tenant, owner, erasure, asked_at, next_at) VALUES ($1, $2, $2, now(), now())",
    )
    .bind(tenant)
    .bind(person)
    .execute(owner)
    .await
    .unwrap();
}

async fn is_erased(credentials: &PgPool, person: Uuid) -> bool {
    let done =
        sqlx::query_scalar("SELECT done_at IS NOT NULL FROM accounts.erasures WHERE owner = $1");
    done.bind(person).fetch_one(credentials).await.unwrap()
}

#[tokio::test]
async fn one_erasure_that_takes_long_holds_up_no_other() {
    let database = Database::migrated().await;
    let (owner, credentials) = (
        database.pool(Role::Owner).await,
        database.pool(Role::Accounts).await,
    );
    registry::prepare(&owner).await.unwrap();
    let (shutdown, keys) = (Shutdown::new(), Keys::new(Key::from_bytes([7; 32])));
    let pool = database.pool(Role::Api).await;
    let log = Log::open(pool, keys, &shutdown).await.unwrap();
    let tenant = log.default_tenant().await.unwrap();
    let slow = registered(&log, tenant, "slow").await;
    let other = registered(&log, tenant, "other").await;
    let tenant = tenant.0;
    let mut held = db::begin(&owner, "BEGIN").await.unwrap();
    sqlx::query("SELECT log.erase_person($1, $2)")
        .bind(tenant)
        .bind(slow)
        .execute(&mut *held)
        .await
        .unwrap();
    let environment = [
        ("DATABASE_URL", database.url().expose()),
        ("MASTER_KEY", &*BASE64.encode([7; 32])),
    ];
    let _projectors = Child::start(env!("CARGO_BIN_EXE_cinelog"), &["projectors"], &environment);
    asks(&credentials, tenant, slow).await;
    until_true(LIMIT, "its key is being destroyed", async || {
        locked_out(&owner, "%erase_person%").await > 0
    })
    .await;
    asks(&credentials, tenant, other).await;
    until_true(LIMIT, "the other one is erased", async || {
        is_erased(&credentials, other).await
    })
    .await;
    assert!(!is_erased(&credentials, slow).await);
    held.rollback().await.unwrap();
    until_true(LIMIT, "the slow one is too", async || {
        is_erased(&credentials, slow).await
    })
    .await;
    shutdown.cancel();
}
