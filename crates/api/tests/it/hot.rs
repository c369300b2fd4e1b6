//! Posts that many look at at once: they see the same, and each of them no more than they may.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::app::{App, assert_problem};

#[tokio::test]
async fn a_post_that_many_look_at_is_one_and_each_sees_what_they_may() {
    let app = App::start().await;
    let (mut ana, mut bo, mut cleo) = (app.user("ana"), app.user("bo"), app.user("cleo"));
    let post = ana.posts("/v1/posts", json!({"text": "first"})).await;
    let path = format!("/v1/posts/{}", post["id"].as_str().unwrap());
    cleo.does(Method::PATCH, "/v1/users/me", Some(json!({"name": "Cleo"})))
        .await;
    bo.knows(&ana);
    bo.puts(&format!("{path}/reactions/like")).await;
    // Those who did nothing themselves look without a position, and all at once.
    let read = async |name: &str| -> Value { app.user(name).reads(&path).await };
    bo.reads(&path).await;
    let (a, b, c) = tokio::join!(read("bo"), read("cleo"), read("dora"));
    assert_eq!(a["counts"]["mine"], "like");
    for other in [&b, &c] {
        assert_eq!(other["counts"]["mine"], Value::Null);
        assert_eq!(
            (&other["text"], &other["counts"]["reactions"]["like"]),
            (&json!("first"), &json!(1))
        );
    }
    // Who has written, or waits for what was written, sees it at once.
    ana.does(Method::PATCH, &path, Some(json!({"text": "second"})))
        .await;
    cleo.knows(&ana);
    assert_eq!(cleo.reads(&path).await["text"], "second");
    // And nobody sees what they may not, however hot it is.
    read("cleo").await;
    let of_cleo = format!("/v1/users/{}/block", cleo.id);
    ana.puts(&of_cleo).await;
    cleo.knows(&ana);
    cleo.sees("/v1/feed", "the block is known", |_| true).await;
    let blocked = app
        .user("cleo")
        .request(Method::GET, &path)
        .send()
        .await
        .unwrap();
    assert_problem(blocked, 404, "post-not-found").await;
    assert_eq!(
        app.user("dora")
            .request(Method::GET, &path)
            .send()
            .await
            .unwrap()
            .status(),
        StatusCode::OK
    );
    ana.deletes(&path).await;
    cleo.knows(&ana);
    cleo.sees("/v1/feed", "the end is known", |_| true).await;
    let gone = app
        .user("dora")
        .request(Method::GET, &path)
        .send()
        .await
        .unwrap();
    assert_problem(gone, 404, "post-not-found").await;
}
