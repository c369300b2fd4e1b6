//! What is kept about somebody, for themselves.

use std::time::Duration;

use api::auth::Role;
use events::fact::user::ProfileUpdated;
use events::id::{CommandId, StreamKey, UserId};
use events::store::{Command, Emit};
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::accounts::register;
use crate::app::{App, LONG, SOON, User, assert_problem};
use crate::sessions::log_out_everywhere;

async fn exports(user: &User<'_>, query: &str) -> Response {
    let path = format!("/v1/users/me/export{query}");
    user.request(Method::GET, &path).send().await.unwrap()
}

/// All lines of an export.
async fn lines(user: &User<'_>, query: &str) -> Vec<Value> {
    let answer = exports(user, query).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "application/x-ndjson");
    let text = answer.text().await.unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.collect()
}

fn of<'a>(lines: &'a [Value], kind: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["kind"] == kind).collect()
}

fn told(lines: &[Value]) -> Vec<(&str, bool)> {
    let facts = of(lines, "fact").into_iter();
    let told = facts.map(|fact| {
        (
            fact["type"].as_str().unwrap(),
            fact["own"].as_bool().unwrap(),
        )
    });
    told.collect()
}

/// What ana does, and what others do to her, and say.
async fn lived([ana, bo, zoe, mo]: [&mut User<'_>; 4]) {
    let name = json!({"name": "Ana", "bio": "Surf y gatos"});
    ana.does(Method::PATCH, "/v1/users/me", Some(name)).await;
    let post = ana.posts(
        "/v1/posts",
        json!({"text": "Hola, \"mundo\"", "place": "Cádiz"}),
    );
    let post = post.await["id"].as_str().unwrap().to_owned();
    zoe.posts("/v1/posts", json!({"text": "elsewhere"})).await;
    let comment = json!({"text": "of bo alone"});
    bo.posts(&format!("/v1/posts/{post}/comments"), comment)
        .await;
    bo.puts(&format!("/v1/users/{}/follow", ana.id)).await;
    for about in ["passes", "likes"] {
        bo.posts(&format!("/v1/matches/{about}"), json!({"user": ana.id}))
            .await;
    }
    bo.puts(&format!("/v1/users/{}/mute", ana.id)).await;
    ana.posts("/v1/matches/likes", json!({"user": bo.id})).await;
    bo.puts(&format!("/v1/users/{}/block", ana.id)).await;
    let suspend = json!({"user": ana.id, "reason": "spam"});
    mo.posts("/v1/moderation/suspend", suspend).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_reads_all_that_one_did_and_what_one_may_know_of_others() {
    let app = App::start().await;
    let ttl = Duration::from_mins(10);
    let (mut ana, mut bo) = (app.user("ana"), app.user("bo"));
    let mut zoe = app.user_of(app.second_tenant().await, "ana");
    let mut mo = app.bearer(app.tenant, "mo", &[Role::Moderator], ttl);
    lived([&mut ana, &mut bo, &mut zoe, &mut mo]).await;
    let all = lines(&ana, "").await;
    assert_eq!(
        told(&all),
        [
            ("user.registered", true),
            ("profile.updated", true),
            ("post.published", true),
            ("follow.started", false),
            ("like.given", true),
            ("match.made", true),
            ("account.suspended", false),
        ]
    );
    let facts = of(&all, "fact");
    assert_eq!(facts[0]["payload"]["account"], "ana");
    assert_eq!(facts[2]["payload"]["text"], "Hola, \"mundo\"");
    assert_eq!(facts[2]["payload"]["place"], "Cádiz");
    let text = serde_json::to_string(&all).unwrap();
    for secret in ["of bo alone", "elsewhere", "sealed", &mo.id.to_string()] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
    let positions: Vec<i64> = facts
        .iter()
        .map(|fact| fact["position"].as_i64().unwrap())
        .collect();
    assert!(positions.is_sorted(), "{positions:?}");
    let last = all.last().unwrap();
    assert_eq!(
        (&last["kind"], &last["position"]),
        (&json!("end"), &json!(app.head().await))
    );
    for kind in ["plan", "profile", "usage"] {
        assert_eq!(of(&all, kind).len(), 1, "{kind}");
    }
    assert_eq!(of(&all, "profile")[0]["bio"], "Surf y gatos");

    let rest = lines(&ana, &format!("?from={}", positions[3])).await;
    assert_eq!(of(&rest, "fact"), facts[3..]);
}

#[tokio::test]
async fn accounts_sessions_and_keys_are_in_it_without_what_proves_anything() {
    let app = App::start().await;
    let new =
        json!({"handle": "ana", "password": "correct horse battery", "email": "ana@example.org"});
    let request = app.http.post(format!("{}/v1/auth/register", app.url));
    let new: Value = request
        .json(&new)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let mut ana = app.with_token(new["access_token"].as_str().unwrap());
    let key = ana.posts("/v1/api-keys", json!({"name": "mine"})).await;
    let all = lines(&ana, "").await;
    let account = of(&all, "account")[0];
    assert_eq!(
        (&account["handle"], &account["has_email"]),
        (&json!("ana"), &json!(true))
    );
    assert_eq!(of(&all, "session").len(), 1);
    assert_eq!(of(&all, "api_key")[0]["name"], "mine");
    let text = serde_json::to_string(&all).unwrap();
    for secret in ["password", "secret", "argon2", key["key"].as_str().unwrap()] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
    let machine = app.with_token(key["key"].as_str().unwrap());
    assert_problem(exports(&machine, "").await, 403, "forbidden").await;
}

#[tokio::test]
async fn an_export_begins_at_any_position_that_there_is() {
    let app = App::start().await;
    let mut ana = app.user("ana");
    for n in 0..5 {
        ana.posts("/v1/posts", json!({"text": format!("{n}")}))
            .await;
    }
    for wrong in ["?from=0", "?from=x"] {
        assert_problem(exports(&ana, wrong).await, 422, "invalid-field").await;
    }
    let packed = ana
        .request(Method::GET, "/v1/users/me/export")
        .header("accept-encoding", "gzip");
    let packed = packed.send().await.unwrap();
    assert_eq!(packed.headers()["content-encoding"], "gzip");
    assert!(!packed.bytes().await.unwrap().is_empty());
    let beyond = lines(&ana, "?from=1000000").await;
    assert_eq!(of(&beyond, "fact").len(), 0);
    assert_eq!(of(&beyond, "end").len(), 1);
    sqlx::query("UPDATE log.log SET floor = 4")
        .execute(&app.owner)
        .await
        .unwrap();
    assert_problem(exports(&ana, "?from=3").await, 410, "position-too-old").await;
    assert_eq!(of(&lines(&ana, "?from=4").await, "end").len(), 1);
}

/// More than the sockets between take of an answer that nobody reads: so many facts of half a megabyte.
const MANY: usize = 48;

async fn wrote_much(app: &App, user: UserId) {
    let key = StreamKey::user(user);
    let profile = ProfileUpdated {
        user,
        name: None,
        bio: Some("x".repeat(1 << 19).into()),
        place: None,
        language: None,
        private: None,
    };
    for n in 0..MANY {
        let id = CommandId {
            tenant: app.tenant,
            actor: user,
            route: "write".to_owned(),
            key: n.to_string(),
        };
        let command = Command {
            id,
            body_hash: [0; 32],
            correlation: None,
            cause: None,
        };
        let facts = |_: &_| Ok(Emit::all(&key, vec![profile.clone().into()]));
        let written = app.log.execute(&command, std::slice::from_ref(&key), facts);
        written.await.unwrap();
    }
}

#[tokio::test]
async fn an_export_ends_with_the_session_that_asked_for_it() {
    let app = App::start().await;
    let new = register(&app, "ana").await;
    let ana = app.with_token(&new.access);
    assert!(app.projecting.finish(SOON).await);
    let user = new.body["user"].as_str().unwrap().parse().unwrap();
    wrote_much(&app, UserId(user)).await;
    let whole = async |answer: Response| {
        let text = tokio::time::timeout(LONG, answer.text()).await;
        text.expect("it ends").unwrap()
    };
    let all = whole(exports(&ana, "").await).await;
    // Who registers has a profile.
    assert_eq!(all.matches("profile.updated").count(), 1 + MANY);
    assert!(all.contains("\"kind\":\"end\""));
    let answer = exports(&ana, "").await;
    log_out_everywhere(&app, &new.cookie).await;
    let some = whole(answer).await;
    assert!(some.matches("profile.updated").count() < MANY);
    assert!(!some.contains("\"kind\":\"end\""));
}
