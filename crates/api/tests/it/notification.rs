//! The inbox, what is read of it, and what one is told.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::app::{App, User, assert_problem};

const INBOX: &str = "/v1/notifications";

async fn read_up_to(user: &User<'_>, position: &Value) -> reqwest::Response {
    let request = user.request(Method::POST, "/v1/notifications/read");
    let body = json!({"position": position});
    request.json(&body).send().await.unwrap()
}

/// Who did what, in the order of the inbox.
fn told(page: &Value) -> Vec<(String, Vec<String>)> {
    let items = page["items"].as_array().unwrap().iter();
    let name = |actor: &Value| actor["name"].as_str().unwrap_or("?").to_owned();
    items
        .map(|item| {
            let actors = item["actors"].as_array().unwrap().iter();
            let kind = item["kind"].as_str().unwrap().to_owned();
            (kind, actors.map(name).collect())
        })
        .collect()
}

fn item(kind: &str, actors: &[&str]) -> (String, Vec<String>) {
    let actors = actors.iter().map(|&actor| actor.to_owned()).collect();
    (kind.to_owned(), actors)
}

async fn named<'a>(app: &'a App, name: &str) -> User<'a> {
    let mut user = app.user(name);
    let profile = Some(json!({"name": name}));
    user.does(Method::PATCH, "/v1/users/me", profile).await;
    user
}

#[tokio::test]
async fn what_others_do_is_told_until_it_is_taken_back() {
    let app = App::start().await;
    let (mut ana, mut bo, mut cy) = (
        named(&app, "ana").await,
        named(&app, "bo").await,
        named(&app, "cy").await,
    );
    let post = ana.posts("/v1/posts", json!({"text": "Hola"})).await;
    let path = format!("/v1/posts/{}", post["id"].as_str().unwrap());
    assert_eq!(
        ana.reads(INBOX).await,
        json!({"items": [], "next": null, "unread": 0})
    );

    let comments = format!("{path}/comments");
    let comment = bo.posts(&comments, json!({"text": "¡Hola!"})).await["id"].clone();
    let answer = json!({"text": "¿qué tal?", "parent": comment});
    cy.posts(&comments, answer).await;
    ana.knows(&cy);
    let page = ana.reads(INBOX).await;
    assert_eq!(told(&page), [item("comment", &["cy", "bo"])]);
    let first = &page["items"][0];
    assert_eq!(
        (&first["post"], &first["comment"]),
        (&post["id"], &Value::Null)
    );
    assert_eq!(
        (&first["count"], &first["read"]),
        (&json!(2), &json!(false))
    );
    bo.knows(&cy);
    let page = bo.reads(INBOX).await;
    assert_eq!(told(&page), [item("reply", &["cy"])]);
    assert_eq!(page["items"][0]["comment"], comment);
    assert_eq!(cy.reads(INBOX).await["items"], json!([]));

    cy.puts(&format!("{path}/reactions/love")).await;
    ana.knows(&cy);
    assert_eq!(told(&ana.reads(INBOX).await)[0], item("reaction", &["cy"]));
    cy.deletes(&format!("{path}/reactions/love")).await;
    bo.deletes(&format!("/v1/comments/{}", comment.as_str().unwrap()))
        .await;
    ana.knows(&bo);
    let only_cy = |page: &Value| told(page) == [item("comment", &["cy"])];
    ana.sees(INBOX, "what was taken back is gone", only_cy)
        .await;
}

#[tokio::test]
async fn followers_and_matches_are_told() {
    let app = App::start().await;
    let (mut ana, mut bo, mut cy) = (
        named(&app, "ana").await,
        named(&app, "bo").await,
        named(&app, "cy").await,
    );
    bo.puts(&format!("/v1/users/{}/follow", ana.id)).await;
    ana.knows(&bo);
    assert_eq!(told(&ana.reads(INBOX).await), [item("follow", &["bo"])]);
    let private = Some(json!({"private": true}));
    ana.does(Method::PATCH, "/v1/users/me", private).await;
    cy.puts(&format!("/v1/users/{}/follow", ana.id)).await;
    ana.knows(&cy);
    assert_eq!(
        told(&ana.reads(INBOX).await)[0],
        item("follow_request", &["cy"])
    );
    ana.puts(&format!("/v1/follow-requests/{}", cy.id)).await;
    assert_eq!(told(&ana.reads(INBOX).await), [item("follow", &["bo"])]);
    cy.knows(&ana);
    assert_eq!(
        told(&cy.reads(INBOX).await),
        [item("follow_accepted", &["ana"])]
    );

    let like = json!({"user": ana.id, "kind": "super"});
    bo.posts("/v1/matches/likes", like).await;
    ana.knows(&bo);
    assert_eq!(
        told(&ana.reads(INBOX).await)[0],
        item("super_like", &["bo"])
    );
    ana.posts("/v1/matches/likes", json!({"user": bo.id})).await;
    assert_eq!(told(&ana.reads(INBOX).await)[0], item("match", &["bo"]));
    bo.knows(&ana);
    assert_eq!(told(&bo.reads(INBOX).await), [item("match", &["ana"])]);
}

#[tokio::test]
async fn the_inbox_has_pages_and_remembers_what_was_read() {
    let app = App::start().await;
    let (mut ana, mut bo) = (named(&app, "ana").await, named(&app, "bo").await);
    for n in 0..3 {
        let post = ana
            .posts("/v1/posts", json!({"text": format!("{n}")}))
            .await;
        let path = format!("/v1/posts/{}", post["id"].as_str().unwrap());
        bo.puts(&format!("{path}/reactions/wow")).await;
    }
    ana.sees(INBOX, "all three are told", |page| page["unread"] == 3)
        .await;
    let (mut path, mut positions) = (format!("{INBOX}?limit=2"), vec![]);
    loop {
        let page = ana.reads(&path).await;
        let items = page["items"].as_array().unwrap().clone();
        positions.extend(items.iter().map(|item| item["position"].clone()));
        let Some(next) = page["next"].as_str() else {
            break;
        };
        path = next.to_owned();
    }
    assert_eq!(positions.len(), 3);
    assert!(
        positions
            .windows(2)
            .all(|two| two[0].as_i64() > two[1].as_i64())
    );

    let head = app.head().await;
    for position in [&positions[1], &positions[2]] {
        let answer = read_up_to(&ana, position).await;
        assert_eq!(answer.status(), StatusCode::NO_CONTENT);
        let page = ana.reads(INBOX).await;
        assert_eq!(page["unread"], 1, "what was read stays read");
        let read: Vec<_> = page["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["read"].clone())
            .collect();
        assert_eq!(read, [json!(false), json!(true), json!(true)]);
    }
    assert_eq!(app.head().await, head, "reading is no history");
    // Another's mark is another's.
    assert_eq!(
        read_up_to(&bo, &json!(i64::MAX)).await.status(),
        StatusCode::NO_CONTENT
    );
    assert_eq!(ana.reads(INBOX).await["unread"], 1);
    for (wrong, pointer) in [
        (json!(0), "/position"),
        (json!("x"), "/position"),
        (Value::Null, "/position"),
    ] {
        let problem = assert_problem(read_up_to(&ana, &wrong).await, 422, "invalid-field").await;
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{wrong}");
    }
}

#[tokio::test]
async fn nobody_is_told_what_they_do_not_want_to_hear() {
    let app = App::start().await;
    let (mut ana, mut bo) = (named(&app, "ana").await, named(&app, "bo").await);
    let prefer = |kind: &str, on: bool| Some(json!({"notifications": {kind: on}}));
    let all = ana.reads("/v1/preferences").await["notifications"].clone();
    assert_eq!(all.as_object().unwrap().len(), 8);
    assert!(all.as_object().unwrap().values().all(|on| *on == true));
    ana.does(Method::PUT, "/v1/preferences", prefer("follow", false))
        .await;
    let head = app.head().await;
    ana.does(Method::PUT, "/v1/preferences", prefer("follow", false))
        .await;
    assert_eq!(app.head().await, head);
    let chosen = ana.reads("/v1/preferences").await["notifications"].clone();
    assert_eq!(
        (&chosen["follow"], &chosen["match"]),
        (&json!(false), &json!(true))
    );

    bo.puts(&format!("/v1/users/{}/follow", ana.id)).await;
    ana.knows(&bo);
    assert_eq!(
        ana.reads(INBOX).await,
        json!({"items": [], "next": null, "unread": 0})
    );
    ana.does(Method::PUT, "/v1/preferences", prefer("follow", true))
        .await;
    assert_eq!(told(&ana.reads(INBOX).await), [item("follow", &["bo"])]);
    let unknown = ana.request(Method::PUT, "/v1/preferences");
    let unknown = unknown.json(&json!({"notifications": {"storm": true}}));
    assert_problem(unknown.send().await.unwrap(), 422, "invalid-field").await;
}

#[tokio::test]
async fn another_tenant_has_another_inbox() {
    let app = App::start().await;
    let second = app.second_tenant().await;
    let (mut ana, mut bo) = (named(&app, "ana").await, named(&app, "bo").await);
    bo.puts(&format!("/v1/users/{}/follow", ana.id)).await;
    ana.knows(&bo);
    assert_eq!(ana.reads(INBOX).await["unread"], 1);
    ana.does(
        Method::PUT,
        "/v1/preferences",
        Some(json!({"notifications": {"match": false}})),
    )
    .await;
    let elsewhere = app.user_of(second, "ana");
    let inbox = elsewhere.reads(INBOX).await;
    assert_eq!(inbox, json!({"items": [], "next": null, "unread": 0}));
    let all = elsewhere.reads("/v1/preferences").await;
    assert_eq!(all["notifications"]["match"], true);
    read_up_to(&elsewhere, &json!(i64::MAX)).await;
    assert_eq!(ana.reads(INBOX).await["unread"], 1);
}
