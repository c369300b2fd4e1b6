//! Large files, which come in parts, and what a plan allows.

use std::time::Duration;

use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use service::clock::Clock;
use testing::wait;

use crate::app::{App, SOON, User, assert_problem};
use crate::notices::{becomes, sweep};
use crate::uploads::{complete, file, put};

const PART: usize = 5 << 20;

/// Two whole parts and a short one.
fn body() -> Vec<u8> {
    (0..=250_u8).cycle().take(2 * PART + 9).collect()
}

async fn app() -> App {
    app_by(Clock::System).await
}

async fn app_by(clock: Clock) -> App {
    App::start_on_s3_by(&["--upload-part-bytes", &PART.to_string()], clock).await
}

async fn puts(app: &App, part: &Value, body: &[u8]) -> StatusCode {
    let number = usize::try_from(part["number"].as_u64().unwrap()).unwrap();
    let piece = body.chunks(PART).nth(number - 1).unwrap().to_vec();
    let request = app.http.put(part["url"].as_str().unwrap()).body(piece);
    request.send().await.unwrap().status()
}

async fn signs(user: &User<'_>, id: &str, numbers: Value) -> Response {
    let request = user.request(Method::POST, &format!("/v1/uploads/{id}/parts"));
    let request = request.json(&json!({"numbers": numbers}));
    request.send().await.unwrap()
}

#[tokio::test]
async fn a_large_file_comes_in_parts_and_goes_on_where_it_stopped() {
    let (app, body) = (app().await, body());
    let mut ana = app.user("ana");
    let ticket = ana.posts("/v1/uploads", file(&body)).await;
    let id = ticket["id"].as_str().unwrap();
    assert!(ticket.get("url").is_none(), "{ticket}");
    assert_eq!(
        (&ticket["parts"]["bytes"], &ticket["parts"]["count"]),
        (&json!(PART), &json!(3))
    );
    assert_eq!(
        puts(&app, &ticket["parts"]["signed"][0], &body).await,
        StatusCode::OK
    );
    assert_problem(complete(&ana, &ticket).await, 409, "upload-missing").await;

    // Another client goes on: what is there is told, and the others are signed again.
    let path = format!("/v1/uploads/{id}");
    assert_eq!(
        ana.reads(&path).await["parts"],
        json!({"bytes": PART, "count": 3, "there": [1]})
    );
    let signed: Value = signs(&ana, id, json!([3, 2])).await.json().await.unwrap();
    for part in signed["parts"].as_array().unwrap() {
        assert_eq!(puts(&app, part, &body).await, StatusCode::OK);
    }
    let done = complete(&ana, &ticket).await;
    assert_eq!(done.status(), StatusCode::ACCEPTED);
    let job = done.json::<Value>().await.unwrap()["job"].clone();
    let again: Value = complete(&ana, &ticket).await.json().await.unwrap();
    assert_eq!(again["job"], job);
    assert_eq!(ana.reads(&path).await["state"], "complete");
    assert!(ana.reads(&path).await.get("parts").is_none());
    assert_problem(signs(&ana, id, json!([1])).await, 409, "upload-ended").await;
}

#[tokio::test]
async fn only_parts_that_there_are_can_be_signed_and_only_by_their_owner() {
    let (app, body) = (app().await, body());
    let (mut ana, bo) = (app.user("ana"), app.user("bo"));
    let ticket = ana.posts("/v1/uploads", file(&body)).await;
    let id = ticket["id"].as_str().unwrap();
    for numbers in [
        json!([]),
        json!([0]),
        json!([4]),
        json!([1, 4]),
        json!([u32::MAX]),
    ] {
        assert_problem(signs(&ana, id, numbers).await, 422, "invalid-field").await;
    }
    assert_problem(signs(&bo, id, json!([1])).await, 404, "upload-not-found").await;
    let small = ana.posts("/v1/uploads", file(b"small")).await;
    let id = small["id"].as_str().unwrap();
    assert_problem(
        signs(&ana, id, json!([1])).await,
        409,
        "upload-not-in-parts",
    )
    .await;
}

#[tokio::test]
async fn parts_of_other_bytes_are_refused_when_they_are_together() {
    let (app, mut body) = (app().await, body());
    let mut ana = app.user("ana");
    let ticket = ana.posts("/v1/uploads", file(&body)).await;
    body[PART] ^= 1;
    for part in ticket["parts"]["signed"].as_array().unwrap() {
        puts(&app, part, &body).await;
    }
    let id = ticket["id"].as_str().unwrap();
    // The second time it is known by its entity tag, and not read: else it would be found to be right now.
    for _ in 0..2 {
        let refused = complete(&ana, &ticket).await;
        assert_problem(refused, 422, "upload-checksum-differs").await;
        body[PART] ^= 1;
        app.plant(&format!("incoming/{}/{id}", app.tenant), &body);
    }
}

#[tokio::test]
async fn a_repeat_has_the_same_upload_and_parts() {
    let (app, body) = (app().await, body());
    let ana = app.user("ana");
    let ask = async || {
        let request = ana
            .request(Method::POST, "/v1/uploads")
            .header("idempotency-key", "one");
        request
            .json(&file(&body))
            .send()
            .await
            .unwrap()
            .json::<Value>()
            .await
            .unwrap()
    };
    let first = ask().await;
    puts(&app, &first["parts"]["signed"][0], &body).await;
    let second = ask().await;
    assert_eq!(second["id"], first["id"]);
    puts(&app, &second["parts"]["signed"][1], &body).await;
    let path = format!("/v1/uploads/{}", first["id"].as_str().unwrap());
    assert_eq!(ana.reads(&path).await["parts"]["there"], json!([1, 2]));
}

#[tokio::test]
async fn parts_that_could_not_be_begun_are_begun_when_they_are_to_be_signed() {
    let (app, body) = (app().await, body());
    let mut ana = app.user("ana");
    let ticket = ana.posts("/v1/uploads", file(&body)).await;
    // As if the process had died right after the permission.
    sqlx::query("UPDATE accounts.uploads SET upload = NULL")
        .execute(&app.owner)
        .await
        .unwrap();
    let id = ticket["id"].as_str().unwrap();
    let signed: Value = signs(&ana, id, json!([1, 2, 3]))
        .await
        .json()
        .await
        .unwrap();
    for part in signed["parts"].as_array().unwrap() {
        assert_eq!(puts(&app, part, &body).await, StatusCode::OK);
    }
    let done = complete(&ana, &ticket).await;
    assert_eq!(done.status(), StatusCode::ACCEPTED);
}

#[tokio::test]
async fn parts_that_have_all_come_are_put_together_for_who_does_not_come_back() {
    let (app, body) = (app().await, body());
    let mut ana = app.user("ana");
    let ticket = ana.posts("/v1/uploads", file(&body)).await;
    let parts = ticket["parts"]["signed"].as_array().unwrap();
    for part in &parts[..2] {
        assert_eq!(puts(&app, part, &body).await, StatusCode::OK);
    }
    sweep(&app).await;
    becomes(&ana, &ticket, "waiting").await;
    assert_eq!(puts(&app, &parts[2], &body).await, StatusCode::OK);
    sweep(&app).await;
    becomes(&ana, &ticket, "complete").await;
}

#[tokio::test]
async fn parts_of_what_is_given_up_or_expires_go_from_the_bucket() {
    let clock = Clock::fixed(Clock::System.now());
    let (app, body) = (app_by(clock.clone()).await, body());
    let mut ana = app.user("ana");
    let mut begun = vec![];
    for _ in 0..2 {
        let ticket = ana.posts("/v1/uploads", file(&body)).await;
        let first = &ticket["parts"]["signed"][0];
        assert_eq!(puts(&app, first, &body).await, StatusCode::OK);
        begun.push(ticket);
    }
    let takes = async |ticket: &Value| {
        let second = &ticket["parts"]["signed"][1];
        puts(&app, second, &body).await.is_success()
    };
    let path = format!("/v1/uploads/{}", begun[0]["id"].as_str().unwrap());
    ana.deletes(&path).await;
    let gone = async || !takes(&begun[0]).await;
    wait::until_true(SOON, "what is given up takes no part", gone).await;
    assert!(takes(&begun[1]).await, "the other one does");
    let gone = async || {
        clock.advance(chrono::Duration::hours(1));
        !takes(&begun[1]).await
    };
    // The sweeper comes twice: it expires, and then it goes.
    let twice = Duration::from_mins(1);
    wait::until_true(twice, "what has expired takes no part", gone).await;
}

#[tokio::test]
async fn nothing_is_begun_in_the_bucket_for_what_a_plan_does_not_allow() {
    // There is none: whoever asked it would not be answered.
    let app = App::start_without_bucket(&["--upload-part-bytes", &PART.to_string()]).await;
    allows(&app, 100).await;
    let ask = app.user("ana").request(Method::POST, "/v1/uploads");
    let refused = ask.json(&file(&body())).send().await.unwrap();
    assert_problem(refused, 403, "quota-reached").await;
}

#[tokio::test]
async fn what_a_bucket_may_still_take_stays_reserved() {
    let app = App::start_on_s3().await;
    allows(&app, 100).await;
    let sixty: &'static [u8] = &[7; 60];
    let mut ana = app.user("ana");
    let ticket = ana.posts("/v1/uploads", file(sixty)).await;
    let id = ticket["id"].as_str().unwrap();
    ana.deletes(&format!("/v1/uploads/{id}")).await;
    assert!(put(&app, &ticket, sixty).await.status().is_success());
    let ask = async || {
        let ask = ana.request(Method::POST, "/v1/uploads").json(&file(sixty));
        ask.send().await.unwrap()
    };
    assert_problem(ask().await, 403, "quota-reached").await;
    sqlx::query("UPDATE accounts.uploads SET expires_at = now(), next_at = now()")
        .execute(&app.owner)
        .await
        .unwrap();
    wait::until_true(SOON, "there is room again", async || {
        ask().await.status() == StatusCode::CREATED
    })
    .await;
    assert!(!app.has(&format!("incoming/{}/{id}", app.tenant)));
}

/// Has the plan that everybody has allow so many bytes.
pub(crate) async fn allows(app: &App, bytes: i64) {
    sqlx::query("UPDATE accounts.plans SET bytes = $1 WHERE plan = 'free'")
        .bind(bytes)
        .execute(&app.owner)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_plan_counts_what_is_there_and_what_is_promised_once() {
    let app = App::start().await;
    allows(&app, 100).await;
    let mut ana = app.user("ana");
    let sixty: &'static [u8] = &[7; 60];
    let wants = |bytes: usize| json!({"name": "a.mp4", "type": "video/mp4", "bytes": bytes, "sha256": "0".repeat(64)});
    let ask = |bytes: usize| {
        ana.request(Method::POST, "/v1/uploads")
            .json(&wants(bytes))
            .send()
    };
    let refused = assert_problem(ask(101).await.unwrap(), 403, "quota-reached").await;
    assert_eq!(
        refused["detail"],
        "the plan free allows 100 bytes, of which 0 are taken or reserved"
    );
    // Promised, given up, promised again, there: sixty each time.
    let ticket = ana.clone().posts("/v1/uploads", file(sixty)).await;
    assert_problem(ask(41).await.unwrap(), 403, "quota-reached").await;
    ana.clone()
        .deletes(&format!("/v1/uploads/{}", ticket["id"].as_str().unwrap()))
        .await;
    let ticket = ana.clone().posts("/v1/uploads", file(sixty)).await;
    put(&app, &ticket, sixty).await;
    complete(&ana, &ticket).await;
    assert_problem(ask(41).await.unwrap(), 403, "quota-reached").await;
    ana.sees("/v1/usage", "it is counted", |usage| {
        usage["original_bytes"] == 60
    })
    .await;
    assert_problem(ask(41).await.unwrap(), 403, "quota-reached").await;
    assert_eq!(
        ana.reads("/v1/usage").await["plan"],
        json!({"name": "free", "bytes": 100})
    );
    assert_eq!(ask(40).await.unwrap().status(), StatusCode::CREATED);
    // Others have plans of their own.
    assert_eq!(
        app.user("bo").posts("/v1/uploads", wants(100)).await["method"],
        "PUT"
    );
    // What is deleted is free again.
    ana.deletes(&format!("/v1/assets/{}", ticket["id"].as_str().unwrap()))
        .await;
    wait::until_true(SOON, "there is room again", async || {
        let request = ana.request(Method::POST, "/v1/uploads").json(&wants(60));
        request.send().await.unwrap().status() == StatusCode::CREATED
    })
    .await;
}

#[tokio::test]
async fn two_at_once_do_not_share_what_is_left() {
    let app = App::start().await;
    allows(&app, 100).await;
    let ana = app.user("ana");
    let ask = || {
        ana.request(Method::POST, "/v1/uploads")
            .json(&file(&[7; 60]))
            .send()
    };
    let answers = tokio::join!(ask(), ask(), ask(), ask());
    let statuses =
        [answers.0, answers.1, answers.2, answers.3].map(|answer| answer.unwrap().status());
    assert_eq!(
        statuses.iter().filter(|status| status.is_success()).count(),
        1,
        "{statuses:?}"
    );
    assert!(
        statuses
            .iter()
            .all(|status| status.as_u16() == 201 || status.as_u16() == 403)
    );
}
