//! What an asset's owner wants rendered, again or not at all; and what players draw of it.

use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::app::{App, SOON, User, assert_problem};
use crate::parts::allows;
use crate::uploads::{complete, file, put, render};

/// audiowaveform's format, version 1: eight bits, 48,000 samples a second, 480 in each of two pairs.
pub(crate) const WAVEFORM: &[u8] = &[
    1, 0, 0, 0, 1, 0, 0, 0, 0x80, 0xBB, 0, 0, 0xE0, 1, 0, 0, 2, 0, 0, 0, 0x80, 0x20, 0xF0, 0x40,
];

/// An upload whose jobs wait, and they by profile.
pub(crate) async fn uploaded(app: &App, ana: &mut User<'_>) -> (String, Value) {
    let ticket = ana.posts("/v1/uploads", file(WAVEFORM)).await;
    assert!(put(app, &ticket, WAVEFORM).await.status().is_success());
    let done: Value = complete(ana, &ticket).await.json().await.unwrap();
    let asset = ticket["id"].as_str().unwrap().to_owned();
    ana.sees(&format!("/v1/assets/{asset}"), "the jobs wait", |asset| {
        asset["jobs"].as_array().unwrap().len() == 2
    })
    .await;
    let jobs = done["jobs"].as_array().unwrap().iter();
    let jobs = jobs.map(|job| {
        (
            job["profile"].as_str().unwrap().to_owned(),
            job["id"].clone(),
        )
    });
    (asset, Value::Object(jobs.collect()))
}

async fn post(user: &User<'_>, path: &str) -> Response {
    user.request(Method::POST, path).send().await.unwrap()
}

async fn wants(user: &User<'_>, asset: &str, profile: &str) -> Response {
    let request = user.request(Method::POST, &format!("/v1/assets/{asset}/renditions"));
    request
        .json(&json!({ "profile": profile }))
        .send()
        .await
        .unwrap()
}

async fn has_state(user: &User<'_>, job: &str, state: &str) {
    let path = format!("/v1/jobs/{job}");
    testing::wait::until_true(SOON, state, async || {
        let answer = user.request(Method::GET, &path).send().await.unwrap();
        answer.status() == StatusCode::OK && answer.json::<Value>().await.unwrap()["state"] == state
    })
    .await;
}

#[tokio::test]
async fn a_job_is_given_up_and_tried_again_by_its_owner() {
    let app = App::start().await;
    let (mut ana, bo) = (app.user("ana"), app.user("bo"));
    let (_, jobs) = uploaded(&app, &mut ana).await;
    let job = jobs["proxy720@1"].as_str().unwrap();
    let (retry, cancel) = (
        format!("/v1/jobs/{job}/retry"),
        format!("/v1/jobs/{job}/cancel"),
    );
    for path in [&retry, &cancel] {
        assert_problem(post(&bo, path).await, 404, "job-not-found").await;
    }
    assert_eq!(
        post(&ana, &retry).await.status(),
        StatusCode::NO_CONTENT,
        "it is under way"
    );
    for _ in 0..2 {
        assert_eq!(post(&ana, &cancel).await.status(), StatusCode::NO_CONTENT);
    }
    has_state(&ana, job, "cancelled").await;
    let again = post(&ana, &retry).await;
    assert_eq!(again.status(), StatusCode::ACCEPTED);
    let location = again.headers()["location"].to_str().unwrap().to_owned();
    let again: Value = again.json().await.unwrap();
    let new = again["job"].as_str().unwrap();
    assert_ne!(new, job);
    assert_eq!(
        (&again["profile"], location),
        (&json!("proxy720@1"), format!("/v1/jobs/{new}"))
    );
    has_state(&ana, new, "queued").await;
    assert_eq!(
        post(&ana, &retry).await.status(),
        StatusCode::NO_CONTENT,
        "another one is at it"
    );
}

#[tokio::test]
async fn who_has_no_bytes_left_gets_no_more_of_an_asset() {
    let app = App::start().await;
    let mut ana = app.user("ana");
    let (asset, jobs) = uploaded(&app, &mut ana).await;
    let taken = |usage: &Value| usage["original_bytes"] == WAVEFORM.len();
    ana.sees("/v1/usage", "it is counted", taken).await;
    let path = format!("/v1/assets/{asset}/renditions");
    let wants = async || {
        let request = ana.request(Method::POST, &path);
        let request = request.header("idempotency-key", "once");
        let wanted = json!({ "profile": "edit@1" });
        request.json(&wanted).send().await.unwrap()
    };
    allows(&app, 1).await;
    let refused = assert_problem(wants().await, 403, "quota-reached").await;
    let why = "the plan free allows 1 bytes, of which 24 are taken";
    assert_eq!(refused["detail"], why);
    let job = jobs["proxy720@1"].as_str().unwrap();
    for (step, status) in [("cancel", 204), ("retry", 403)] {
        let answer = post(&ana, &format!("/v1/jobs/{job}/{step}")).await;
        assert_eq!(answer.status(), status, "{step}");
    }
    allows(&app, 1000).await;
    let accepted: Value = wants().await.json().await.unwrap();
    // What was accepted is answered again, whatever came in between.
    allows(&app, 1).await;
    let again = wants().await;
    assert_eq!(again.status(), StatusCode::ACCEPTED);
    assert_eq!(again.json::<Value>().await.unwrap(), accepted);
}

#[tokio::test]
async fn one_more_profile_is_asked_for_one_job_at_a_time() {
    let app = App::start().await;
    let (mut ana, bo) = (app.user("ana"), app.user("bo"));
    let (asset, jobs) = uploaded(&app, &mut ana).await;
    let edit = wants(&ana, &asset, "edit@1").await;
    assert_eq!(edit.status(), StatusCode::ACCEPTED);
    let edit: Value = edit.json().await.unwrap();
    has_state(&ana, edit["job"].as_str().unwrap(), "queued").await;
    assert_problem(wants(&ana, &asset, "edit@1").await, 409, "wrong-state").await;
    assert_problem(wants(&ana, &asset, "fast@1").await, 409, "wrong-state").await;
    assert_problem(wants(&bo, &asset, "fast@1").await, 404, "asset-not-found").await;
    assert_problem(wants(&ana, &asset, "film@9").await, 422, "invalid-field").await;
    render(
        &app,
        &ana,
        &asset,
        jobs["fast@1"].as_str().unwrap(),
        WAVEFORM,
    )
    .await;
    assert_eq!(
        wants(&ana, &asset, "fast@1").await.status(),
        StatusCode::ACCEPTED
    );
}

#[tokio::test]
async fn players_are_given_numbers_to_draw() {
    let app = App::start().await;
    let (mut ana, bo) = (app.user("ana"), app.user("bo"));
    let (asset, jobs) = uploaded(&app, &mut ana).await;
    let path = format!("/v1/assets/{asset}/waveform?format=wavesurfer");
    let early = ana.request(Method::GET, &path).send().await.unwrap();
    assert_problem(early, 404, "rendition-not-found").await;
    render(
        &app,
        &ana,
        &asset,
        jobs["fast@1"].as_str().unwrap(),
        WAVEFORM,
    )
    .await;
    ana.sees(&format!("/v1/assets/{asset}"), "the waveform", |asset| {
        asset["renditions"] != json!([])
    })
    .await;
    assert_eq!(
        ana.reads(&path).await,
        json!({"peaks": [[-1.0, 0.5]], "duration": 0.02})
    );
    assert_eq!(
        ana.reads(&format!("{path}&points=1")).await["peaks"],
        json!([[-1.0]])
    );
    let other = path.replace("wavesurfer", "dat");
    for (path, points) in [(&path, "0"), (&path, "20001"), (&other, "0")] {
        let wrong = ana
            .request(Method::GET, &format!("{path}&points={points}"))
            .send()
            .await
            .unwrap();
        assert_problem(wrong, 422, "invalid-field").await;
    }
    let strange = bo.request(Method::GET, &path).send().await.unwrap();
    assert_problem(strange, 404, "rendition-not-found").await;
}

#[tokio::test]
async fn a_job_that_was_asked_for_a_moment_ago_is_never_said_to_be_none() {
    let app = App::start().await;
    let mut ana = app.user("ana");
    let (asset, _) = uploaded(&app, &mut ana).await;
    app.level().await;
    // It is read, and not written.
    let held = app.locked("media.job IN EXCLUSIVE MODE").await;
    let asked = wants(&ana, &asset, "edit@1").await;
    assert_eq!(asked.status(), StatusCode::ACCEPTED);
    let job: Value = asked.json().await.unwrap();
    let cancel = format!("/v1/jobs/{}/cancel", job["job"].as_str().unwrap());
    assert_problem(post(&ana, &cancel).await, 503, "overloaded").await;
    held.rollback().await.unwrap();
    testing::wait::until_true(SOON, "it is given up", async || {
        match post(&ana, &cancel).await.status() {
            StatusCode::NO_CONTENT => true,
            status => {
                assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
                false
            }
        }
    })
    .await;
    let none = format!("/v1/jobs/{asset}/cancel");
    app.level().await;
    assert_problem(post(&ana, &none).await, 404, "job-not-found").await;
}
