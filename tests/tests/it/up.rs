//! `cinelog up` keeps what it was told, however it ends.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use reqwest::{Client, StatusCode};
use rustix::process::{Pid, Signal};
use serde_json::{Value, json};
use testing::process::Child;
use testing::wait;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::pipeline::folder;
use crate::program::{alone, alone_with, running};

const LIMIT: Duration = Duration::from_mins(1);

fn started(data: &Path, environment: &[(&str, &str)]) -> Child {
    let data = data.to_str().unwrap();
    let args = ["up", "--data", data, "--listen", "127.0.0.1:0"];
    alone(&args, environment)
}

/// Starts it on `data`, and returns where it listens.
pub(crate) async fn up(data: &Path) -> (Child, String) {
    // Another server's port, as a shell may have it, is not ours.
    let mut child = started(data, &[("PGPORT", "5433")]);
    let line = child.line("Cinelog is up on http://", LIMIT).await;
    let base = line
        .split_whitespace()
        .find(|word| word.starts_with("http://"));
    (child, base.unwrap().to_owned())
}

async fn token(data: &Path) -> String {
    let args = ["token", "--data", data.to_str().unwrap(), "--user", "ana"];
    let finished = alone(&args, &[]).finish(LIMIT).await;
    assert!(finished.status.success(), "{finished:?}");
    finished.stdout.trim().to_owned()
}

/// The machine's proxy, if it has one, is not asked for what is on the machine.
fn client() -> Client {
    Client::builder().no_proxy().build().unwrap()
}

async fn posts(base: &str, token: &str) -> Vec<Value> {
    let answer = client()
        .get(format!("{base}/v1/feed"))
        .bearer_auth(token)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let page: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    page["items"].as_array().unwrap().clone()
}

async fn post(base: &str, token: &str, text: &str) {
    let answer = client()
        .post(format!("{base}/v1/posts"))
        .bearer_auth(token)
        .json(&json!({ "text": text }))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::CREATED);
}

async fn shows(base: &str, token: &str, count: usize) {
    wait::until_true(LIMIT, "the feed shows every post", async || {
        posts(base, token).await.len() == count
    })
    .await;
}

async fn nothing_runs(data: &Path, group: u32) {
    // Whatever is told to stop at once still takes its moment.
    wait::until_true(LIMIT, "nothing runs any more", async || {
        running(data.to_str().unwrap(), group).is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_takes_up_its_data_after_a_stop_and_after_a_kill() {
    let folder = folder();
    let data = folder.path().join("data");
    let (first, base) = up(&data).await;
    let token = token(&data).await;
    post(&base, &token, "uno").await;
    shows(&base, &token, 1).await;
    let group = first.id();
    first.signal(Signal::TERM);
    let ended = first.finish(LIMIT).await;
    assert!(ended.status.success(), "{ended:?}");
    nothing_runs(&data, group).await;

    let (second, base) = up(&data).await;
    shows(&base, &token, 1).await;
    post(&base, &token, "dos").await;
    second.kill();
    second.finish(LIMIT).await;

    // Its Postgres still runs, which the next one takes over.
    let (third, base) = up(&data).await;
    shows(&base, &token, 2).await;
    third.signal(Signal::TERM);
    assert!(third.finish(LIMIT).await.status.success());
    nothing_runs(&data, group).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_that_are_away_hold_it_up_for_a_moment_only() {
    let folder = folder();
    let data = folder.path().join("data");
    let nobody = testing::port::free().to_string();
    let mut child = started(&data, &[("KAFKA_BROKERS", &nobody)]);
    child.line("Cinelog is up on http://", LIMIT).await;
    wait::until_true(LIMIT, "it says so", async || {
        child.stderr().contains("nothing is known of the topic yet")
    })
    .await;
    child.signal(Signal::TERM);
    child.finish(LIMIT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_outlives_a_hang_up_or_a_second_signal() {
    let folder = folder();
    let data = folder.path().join("data");
    let (first, _) = up(&data).await;
    let group = first.id();
    first.signal(Signal::HUP);
    let ended = first.finish(LIMIT).await;
    assert!(ended.status.success(), "{ended:?}");
    nothing_runs(&data, group).await;

    let (second, _) = up(&data).await;
    let group = second.id();
    second.signal(Signal::INT);
    wait::until_true(LIMIT, "it has heard the first signal", async || {
        second.stderr().contains("a second signal")
    })
    .await;
    second.signal(Signal::INT);
    second.finish(LIMIT).await;
    nothing_runs(&data, group).await;
}

#[tokio::test]
async fn it_stops_though_nobody_reads_its_log_any_more() {
    let data = folder();
    let mut child = alone_with(&["up", "--listen", "127.0.0.1:0", "--data"])
        .arg(data.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let up = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains("Cinelog is up on") {
                return;
            }
        }
        panic!("it ended");
    };
    tokio::time::timeout(LIMIT, up).await.unwrap();
    drop((lines, child.stderr.take()));
    let group = child.id().unwrap();
    let id = Pid::from_raw(group.cast_signed()).unwrap();
    rustix::process::kill_process(id, Signal::TERM).unwrap();
    let ended = tokio::time::timeout(LIMIT, child.wait()).await;
    assert!(ended.unwrap().unwrap().success());
    nothing_runs(data.path(), group).await;
}

/// Whoever asks to be forgotten is, without anybody else's doing.
async fn is_forgotten_on_request(base: &str, token: &str) {
    let asked = client().delete(format!("{base}/v1/users/me"));
    let asked = asked.bearer_auth(token).send().await.unwrap();
    assert_eq!(asked.status(), StatusCode::ACCEPTED);
    let state = asked.headers()["location"].to_str().unwrap().to_owned();
    wait::until_true(LIMIT, "it is done", async || {
        let told = client().get(format!("{base}{state}")).send().await.unwrap();
        told.json::<Value>().await.unwrap()["state"] == "done"
    })
    .await;
}

/// What a route of accounts answers.
async fn auth(base: &str, route: &str, body: Value) -> (StatusCode, Value) {
    let request = client().post(format!("{base}/v1/auth/{route}")).json(&body);
    let answer = request.send().await.unwrap();
    let status = answer.status();
    (status, answer.json().await.unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_is_granted_roles_and_ends_with_its_user() {
    let folder = folder();
    let data = folder.path().join("data");
    let (running, base) = up(&data).await;
    let cinelog = async |arguments: &[&str]| {
        let at = ["--data", data.to_str().unwrap()];
        alone(&[arguments, &at].concat(), &[]).finish(LIMIT).await
    };
    let known = json!({"login": "ana", "password": "correct horse battery"});
    let new =
        json!({"handle": "ana", "password": "correct horse battery", "email": "ana@example.org"});
    let (status, registered) = auth(&base, "register", new).await;
    assert_eq!(status, StatusCode::CREATED, "{registered}");
    let mails = wait::until(LIMIT, "a mail in the data folder", async || {
        std::fs::read_dir(data.join("mail")).unwrap().next()
    });
    mails.await.unwrap();

    let granted = cinelog(&["grant", "ana", "--role", "moderator"]).await;
    assert_eq!(granted.stdout.trim(), "ana has moderator");
    let nobody = cinelog(&["grant", "nobody", "--role", "moderator"]).await;
    assert!(
        nobody.stderr.contains("there is no account nobody"),
        "{nobody:?}"
    );
    let (status, moderates) = auth(&base, "login", known.clone()).await;
    assert_eq!(
        (status, &moderates["roles"]),
        (StatusCode::OK, &json!(["moderator"]))
    );
    let queue = client().get(format!("{base}/v1/moderation/queue"));
    let queue = queue
        .bearer_auth(moderates["access_token"].as_str().unwrap())
        .send()
        .await
        .unwrap();
    assert_eq!(queue.status(), StatusCode::OK);

    let new = json!({"handle": "bo", "password": "correct horse battery"});
    let (_, bo) = auth(&base, "register", new).await;
    is_forgotten_on_request(&base, bo["access_token"].as_str().unwrap()).await;
    let erased = cinelog(&["erase", registered["user"].as_str().unwrap(), "--yes"]).await;
    assert!(erased.stdout.contains("account      gone"), "{erased:?}");
    let (status, _) = auth(&base, "login", known).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    running.signal(Signal::TERM);
    assert!(running.finish(LIMIT).await.status.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_one_listener_tells_that_it_is_ready_and_no_figures() {
    let folder = folder();
    let (running, base) = up(&folder.path().join("data")).await;
    let ask = async |path: &str| {
        let answer = client().get(format!("{base}{path}")).send().await.unwrap();
        let status = answer.status();
        (status, answer.json::<Value>().await.unwrap())
    };
    assert_eq!(
        ask("/health").await,
        (StatusCode::OK, json!({"status": "ok"}))
    );
    let ready = json!({"ready": true, "away": []});
    assert_eq!(ask("/ready").await, (StatusCode::OK, ready));
    let (status, problem) = ask("/metrics").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(problem["type"], "/problems/route-not-found");
    running.signal(Signal::TERM);
    assert!(running.finish(LIMIT).await.status.success());
}
