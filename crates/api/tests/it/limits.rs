//! How much one caller gets at once.

use std::convert::Infallible;

use futures::channel::mpsc;
use reqwest::{Body, Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};

use crate::app::{App, SOON, User, assert_problem, sha256};

const CLIP: &[u8] = b"not really a clip";

async fn ticket(user: &mut User<'_>) -> Value {
    let file =
        json!({"name": "a.mp4", "type": "video/mp4", "bytes": CLIP.len(), "sha256": sha256(CLIP)});
    user.posts("/v1/uploads", file).await
}

fn put(app: &App, ticket: &Value) -> RequestBuilder {
    app.http
        .put(ticket["url"].as_str().unwrap())
        .header("content-type", "video/mp4")
        .header("content-length", CLIP.len())
}

async fn get(user: &User<'_>, path: &str) -> Response {
    user.request(Method::GET, path).send().await.unwrap()
}

#[tokio::test]
async fn an_upload_is_alone_and_in_nobodys_way() {
    let app = App::start_with(&["--max-in-flight", "1"]).await;
    let mut ana = app.user("ana");
    let ticket = ticket(&mut ana).await;
    let (body, pieces) = mpsc::unbounded::<Result<&[u8], Infallible>>();
    let slow = put(&app, &ticket).body(Body::wrap_stream(pieces)).send();
    let meanwhile = async {
        testing::wait::until_true(SOON, "the upload has begun", async || app.incoming() == 1).await;
        assert_eq!(get(&ana, "/v1/feed").await.status(), StatusCode::OK);
        let again = put(&app, &ticket).body(CLIP).send().await.unwrap();
        assert!(again.headers().contains_key("retry-after"));
        assert_problem(again, 409, "contended").await;
        body.unbounded_send(Ok(CLIP)).unwrap();
        drop(body);
    };
    let (stored, ()) = tokio::join!(slow, meanwhile);
    assert_eq!(stored.unwrap().status(), StatusCode::CREATED);
}

#[tokio::test]
async fn one_user_follows_only_so_much_at_once() {
    let app = App::start().await;
    let (mut ana, mut bo) = (app.user("ana"), app.user("bo"));
    let mut live = vec![];
    for user in [&mut ana, &mut bo] {
        let ticket = ticket(user).await;
        let path = format!("/v1/assets/{}", ticket["id"].as_str().unwrap());
        testing::wait::until_true(SOON, "the asset is there", async || {
            get(user, &path).await.status() == StatusCode::OK
        })
        .await;
        live.push(path + "/live");
    }
    let mut streams = vec![];
    for _ in 0..8 {
        let stream = get(&ana, &live[0]).await;
        assert_eq!(stream.status(), StatusCode::OK);
        streams.push(stream);
    }
    let refused = get(&ana, &live[0]).await;
    assert!(refused.headers().contains_key("retry-after"));
    assert_problem(refused, 503, "overloaded").await;
    assert_eq!(get(&bo, &live[1]).await.status(), StatusCode::OK);
    streams.pop();
    testing::wait::until_true(SOON, "a stream that ended is not counted", async || {
        get(&ana, &live[0]).await.status() == StatusCode::OK
    })
    .await;
}

#[tokio::test]
async fn an_upload_that_expired_is_refused_before_its_bytes_are_read() {
    let app = App::start_with(&["--upload-seconds", "3"]).await;
    let mut ana = app.user("ana");
    let ticket = ticket(&mut ana).await;
    let path = format!("/v1/uploads/{}", ticket["id"].as_str().unwrap());
    let ended = |upload: &Value| upload["state"] == "ended";
    ana.sees(&path, "the upload has expired", ended).await;
    let complete = ana.request(Method::POST, &format!("{path}/complete"));
    // Were storage asked first, the bytes would be missing.
    assert_problem(complete.send().await.unwrap(), 409, "wrong-state").await;
}
