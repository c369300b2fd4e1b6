//! What proves who somebody is: for how long it does, and as what it is kept.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use reqwest::StatusCode;
use serde_json::{Value, json};
use service::clock::Clock;
use sha2::{Digest, Sha256};
use sqlx::{AssertSqlSafe, PgPool};
use tempfile::TempDir;

use crate::accounts::{In, PASSWORD, let_in, login, mails_left, refresh, register, sent};
use crate::app::{App, SOON};

/// The longest that an access token of ours holds, seconds.
const ACCESS: i64 = 600;

fn assert_is_brief(who: &In, how: &str) {
    let claims = who.access.split('.').nth(1).unwrap();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    let left = claims["exp"].as_i64().unwrap() - Clock::System.now().timestamp();
    assert!((1..=ACCESS).contains(&left), "{how}: {left} s");
    let told = who.body["expires_in"].as_i64().unwrap();
    assert!((left..=ACCESS).contains(&told), "{how}: {told} s are told");
}

#[tokio::test]
async fn an_access_token_holds_for_ten_minutes_at_most() {
    let app = App::start().await;
    let registered = register(&app, "ana").await;
    assert_is_brief(&registered, "registered");
    let logged_in = let_in(login(&app, "ana", PASSWORD).await).await;
    assert_is_brief(&logged_in, "logged in");
    let gone_on = let_in(refresh(&app, &registered.cookie).await).await;
    assert_is_brief(&gone_on, "gone on");
}

/// In what forms a table would give an address away. Rows as text have their bytes in hex.
fn telling(address: &str) -> Vec<String> {
    let lower = address.to_lowercase();
    let mut telling = vec![lower.clone()];
    for written in [address, &lower] {
        let hash = Sha256::digest(written);
        telling.extend([hex::encode(written), hex::encode(hash)]);
        for bytes in [written.as_bytes(), &hash] {
            telling.push(STANDARD.encode(bytes).to_lowercase());
            telling.push(URL_SAFE_NO_PAD.encode(bytes).to_lowercase());
        }
    }
    telling
}

/// The tables that give an address away, of all that there are.
async fn tables_that_tell(owner: &PgPool, address: &str) -> Vec<String> {
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind IN ('r', 'm') AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'
         ORDER BY 1",
    )
    .fetch_all(owner)
    .await
    .unwrap();
    assert!(tables.contains(&"accounts.logins".to_owned()), "{tables:?}");
    let (telling, mut tell) = (telling(address), vec![]);
    for table in tables {
        let rows = format!("SELECT lower(string_agg(t::text, ' ')) FROM {table} t");
        let rows: Option<String> = sqlx::query_scalar(AssertSqlSafe(rows))
            .fetch_one(owner)
            .await
            .unwrap();
        let rows = rows.unwrap_or_default();
        if telling.iter().any(|form| rows.contains(form)) {
            tell.push(table);
        }
    }
    tell
}

#[tokio::test]
async fn an_address_is_kept_nowhere_so_that_it_could_be_told() {
    let folder = TempDir::new().unwrap();
    let app = App::start_with(&["--mail", folder.path().to_str().unwrap()]).await;
    let address = "Ana@Example.org";
    let body = json!({"handle": "ana", "password": PASSWORD, "email": address});
    let_in(sent(&app, "register", body).await).await;
    let_in(login(&app, address, PASSWORD).await).await;
    let reset = sent(&app, "reset", json!({"email": address})).await;
    assert_eq!(reset.status(), StatusCode::ACCEPTED);
    testing::wait::until_true(SOON, "no mail is left", async || {
        mails_left(&app.owner).await == 0
    })
    .await;
    let (email, password): (Vec<u8>, String) =
        sqlx::query_as("SELECT email, password FROM accounts.logins")
            .fetch_one(&app.owner)
            .await
            .unwrap();
    assert_eq!(email.len(), 32);
    assert!(password.starts_with("$argon2id$"), "{password}");
    let none: [&str; 0] = [];
    assert_eq!(tables_that_tell(&app.owner, address).await, none);

    // Were it kept as it is, or under no key, that would be seen.
    let hash = Sha256::digest("ana@example.org").to_vec();
    for told in [b"ana@example.org".to_vec(), hash] {
        sqlx::query("UPDATE accounts.logins SET email = $1")
            .bind(told)
            .execute(&app.owner)
            .await
            .unwrap();
        let tell = tables_that_tell(&app.owner, address).await;
        assert_eq!(tell, ["accounts.logins"]);
    }
}
