//! Uploads, from the intent to the bytes, over a folder and over S3.

use events::decide::asset::{AssetState, Rendered, finish_job};
use events::fact::asset::RenditionCompleted;
use events::id::{AssetId, CommandId, JobId, StreamKey};
use events::store::{Command, Emit};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use service::db;
use testing::db::locked_out;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;

use crate::app::{App, User, assert_problem, sha256};

const CLIP: &[u8] = b"not really a clip";

pub(crate) fn file(bytes: &[u8]) -> Value {
    json!({"name": "a.mp4", "type": "video/mp4", "bytes": bytes.len(), "sha256": sha256(bytes)})
}

/// Does what the ticket says, with this body.
pub(crate) async fn put(app: &App, ticket: &Value, body: &'static [u8]) -> Response {
    let mut request = app.http.put(ticket["url"].as_str().unwrap());
    for (name, value) in ticket["headers"].as_object().unwrap() {
        // The client sets the length of what it sends.
        if name != "content-length" {
            request = request.header(name, value.as_str().unwrap());
        }
    }
    request.body(body).send().await.unwrap()
}

pub(crate) async fn complete(user: &User<'_>, ticket: &Value) -> Response {
    let path = format!("/v1/uploads/{}/complete", ticket["id"].as_str().unwrap());
    user.request(Method::POST, &path).send().await.unwrap()
}

async fn an_upload_begins_its_jobs_once(app: App) {
    let mut ana = app.user("ana");
    let ticket = ana.posts("/v1/uploads", file(CLIP)).await;
    let id = ticket["id"].as_str().unwrap();
    assert_eq!(ticket["method"], "PUT");
    let head = app.head().await;
    assert_problem(complete(&ana, &ticket).await, 409, "upload-missing").await;
    assert_eq!(app.head().await, head);
    let stored = put(&app, &ticket, CLIP).await;
    assert!(stored.status().is_success(), "{:?}", stored.text().await);
    assert_eq!(
        ana.reads(&format!("/v1/uploads/{id}")).await["state"],
        "waiting"
    );

    let done = complete(&ana, &ticket).await;
    assert_eq!(done.status(), StatusCode::ACCEPTED);
    let location = done.headers()["location"].to_str().unwrap().to_owned();
    let done: Value = done.json().await.unwrap();
    assert_eq!(
        location,
        format!("/v1/jobs/{}", done["job"].as_str().unwrap())
    );
    assert_eq!(done["jobs"].as_array().unwrap().len(), 2);
    let head = app.head().await;
    let again = complete(&ana, &ticket).await;
    assert_eq!(again.status(), StatusCode::ACCEPTED);
    assert_eq!(again.json::<Value>().await.unwrap()["job"], done["job"]);
    assert_eq!(app.head().await, head);
    let job = |job: &Value| job["state"] == "queued" && job["profile"] == "proxy720@1";
    testing::wait::until_true(crate::app::SOON, "the job is there", async || {
        let response = ana.request(Method::GET, &location).send().await.unwrap();
        response.status() == StatusCode::OK && job(&response.json().await.unwrap())
    })
    .await;
    assert_eq!(
        ana.reads(&format!("/v1/assets/{id}")).await["state"],
        "preparing"
    );
    assert_eq!(ana.reads("/v1/assets").await["items"][0]["name"], "a.mp4");
}

#[tokio::test]
async fn an_upload_to_a_folder_begins_its_jobs_once() {
    an_upload_begins_its_jobs_once(App::start().await).await;
}

#[tokio::test]
async fn an_upload_to_a_bucket_begins_its_jobs_once() {
    an_upload_begins_its_jobs_once(App::start_on_s3().await).await;
}

#[tokio::test]
async fn other_bytes_than_promised_are_refused_by_the_folder() {
    let app = App::start().await;
    let mut ana = app.user("ana");
    let ticket = ana.posts("/v1/uploads", file(CLIP)).await;
    let head = app.head().await;
    assert_problem(
        put(&app, &ticket, b"too short").await,
        400,
        "signed-header-differs",
    )
    .await;
    assert_problem(
        put(&app, &ticket, b"NOT really a clip").await,
        422,
        "upload-checksum-differs",
    )
    .await;
    let mut forged = ticket.clone();
    forged["url"] = json!(
        ticket["url"]
            .as_str()
            .unwrap()
            .replace("bytes=17", "bytes=9")
    );
    assert_problem(
        put(&app, &forged, b"too short").await,
        403,
        "signed-url-invalid",
    )
    .await;
    assert_problem(complete(&ana, &ticket).await, 409, "upload-missing").await;
    assert_eq!(app.head().await, head);
    assert_eq!(put(&app, &ticket, CLIP).await.status(), StatusCode::CREATED);
    assert_problem(put(&app, &ticket, CLIP).await, 409, "object-exists").await;
}

#[tokio::test]
async fn other_bytes_than_promised_are_found_in_the_bucket() {
    let app = App::start_on_s3().await;
    let mut ana = app.user("ana");
    // Whatever the store lets pass: the object is put behind the API's back.
    for (bytes, slug) in [
        (b"too short".as_slice(), "upload-size-differs"),
        (b"NOT really a clip", "upload-checksum-differs"),
    ] {
        let ticket = ana.posts("/v1/uploads", file(CLIP)).await;
        let head = app.head().await;
        app.plant(
            &format!("incoming/{}/{}", app.tenant, ticket["id"].as_str().unwrap()),
            bytes,
        );
        assert_problem(complete(&ana, &ticket).await, 422, slug).await;
        assert_eq!(app.head().await, head);
        // Another object in its place is another matter.
        app.plant(
            &format!("incoming/{}/{}", app.tenant, ticket["id"].as_str().unwrap()),
            CLIP,
        );
        assert_eq!(complete(&ana, &ticket).await.status(), StatusCode::ACCEPTED);
    }
}

/// How many facts there are of this upload's completion.
async fn completions(app: &App, ticket: &Value) -> i64 {
    sqlx::query_scalar(
        "SELECT count(*) FROM log.events WHERE type = 'upload.completed' AND payload ->> 'asset' = $1",
    )
    .bind(ticket["id"].as_str())
    .fetch_one(&app.owner)
    .await
    .unwrap()
}

/// The job that a completion began, or none when another one was under way.
async fn job_of(response: Response) -> Option<Value> {
    if response.status() == StatusCode::CONFLICT {
        assert_problem(response, 409, "contended").await;
        return None;
    }
    assert_eq!(response.status(), StatusCode::ACCEPTED);
    Some(response.json::<Value>().await.unwrap()["job"].clone())
}

#[tokio::test]
async fn an_upload_that_many_complete_at_once_is_completed_once() {
    let app = App::start().await;
    let mut ana = app.user("ana");
    let ticket = ana.posts("/v1/uploads", file(CLIP)).await;
    assert!(put(&app, &ticket, CLIP).await.status().is_success());
    let many = futures::future::join_all((0..8).map(|_| complete(&ana, &ticket))).await;
    let jobs = futures::future::join_all(many.into_iter().map(job_of)).await;
    let jobs: Vec<Value> = jobs.into_iter().flatten().collect();
    assert!(
        !jobs.is_empty() && jobs.iter().all(|job| *job == jobs[0]),
        "{jobs:?}"
    );
    assert_eq!(completions(&app, &ticket).await, 1);
}

#[tokio::test]
async fn two_who_both_found_the_bytes_complete_an_upload_once() {
    let app = App::start().await;
    let mut ana = app.user("ana");
    let ticket = ana.posts("/v1/uploads", file(CLIP)).await;
    assert!(put(&app, &ticket, CLIP).await.status().is_success());
    // Nothing more is written to the asset's stream for now.
    let mut held = db::begin(&app.owner, "BEGIN").await.unwrap();
    let stream = sqlx::query("SELECT FROM log.streams WHERE stream_id LIKE '%' || $1 FOR UPDATE");
    let stream = stream.bind(ticket["id"].as_str()).fetch_all(&mut *held);
    assert_eq!(stream.await.unwrap().len(), 1);
    let second = async {
        testing::wait::until_true(crate::app::SOON, "the first one writes", async || {
            locked_out(&app.owner, "%").await > 0
        })
        .await;
        let mut second = std::pin::pin!(complete(&ana, &ticket));
        let soon = std::time::Duration::from_millis(500);
        let waits = tokio::time::timeout(soon, &mut second).await.is_err();
        assert!(waits, "the second one has found the bytes too, and waits");
        held.rollback().await.unwrap();
        second.await
    };
    let (first, second) = tokio::join!(complete(&ana, &ticket), second);
    let (first, second) = (job_of(first).await, job_of(second).await);
    assert_eq!(first, second);
    assert!(first.is_some());
    assert_eq!(completions(&app, &ticket).await, 1);
}

#[tokio::test]
async fn who_asks_to_complete_and_goes_away_has_it_completed() {
    let app = App::start().await;
    let mut ana = app.user("ana");
    let ticket = ana.posts("/v1/uploads", file(CLIP)).await;
    assert!(put(&app, &ticket, CLIP).await.status().is_success());
    let mut held = db::begin(&app.owner, "BEGIN").await.unwrap();
    sqlx::query("LOCK TABLE accounts.uploads")
        .execute(&mut *held)
        .await
        .unwrap();
    let path = format!("/v1/uploads/{}", ticket["id"].as_str().unwrap());
    let mut socket = TcpStream::connect(app.url.trim_start_matches("http://"))
        .await
        .unwrap();
    let head = format!(
        "POST {path}/complete HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\ncontent-length: 0\r\n\r\n",
        ana.token
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    testing::wait::until_true(crate::app::SOON, "it is looked at", async || {
        locked_out(&app.owner, "%").await > 0
    })
    .await;
    socket.shutdown().await.unwrap();
    let mut answer = vec![];
    socket.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"", "the server saw that they have gone");
    held.rollback().await.unwrap();
    ana.sees(&path, "it is complete", |upload| {
        upload["state"] == "complete"
    })
    .await;
}

#[tokio::test]
async fn an_upload_given_up_has_ended() {
    let app = App::start().await;
    let mut ana = app.user("ana");
    let ticket = ana.posts("/v1/uploads", file(CLIP)).await;
    let path = format!("/v1/uploads/{}", ticket["id"].as_str().unwrap());
    ana.deletes(&path).await;
    assert_eq!(ana.reads(&path).await["state"], "ended");
    assert_problem(complete(&ana, &ticket).await, 409, "wrong-state").await;
    // What was signed before is good for nothing any more.
    assert_problem(put(&app, &ticket, CLIP).await, 409, "upload-ended").await;
}

#[tokio::test]
async fn an_upload_given_up_is_not_signed_again() {
    let app = App::start().await;
    let mut ana = app.user("ana");
    let ask = async || {
        let request = app.user("ana").request(Method::POST, "/v1/uploads");
        let request = request.header("idempotency-key", "k1").json(&file(CLIP));
        request.send().await.unwrap()
    };
    let ticket: Value = ask().await.json().await.unwrap();
    assert_eq!(ask().await.status(), StatusCode::CREATED);
    ana.deletes(&format!("/v1/uploads/{}", ticket["id"].as_str().unwrap()))
        .await;
    assert_problem(ask().await, 409, "upload-ended").await;
}

#[tokio::test]
async fn a_deleted_asset_is_gone_for_its_owner_too() {
    let app = App::start().await;
    let mut ana = app.user("ana");
    let ticket = ana.posts("/v1/uploads", file(CLIP)).await;
    let id = ticket["id"].as_str().unwrap();
    assert!(put(&app, &ticket, CLIP).await.status().is_success());
    let done: Value = complete(&ana, &ticket).await.json().await.unwrap();
    render(&app, &ana, id, done["job"].as_str().unwrap(), CLIP).await;
    let path = format!("/v1/assets/{id}");
    let there = |asset: &Value| asset["renditions"] != json!([]);
    ana.sees(&path, "the rendition is there", there).await;
    ana.deletes(&path).await;
    testing::wait::until_true(crate::app::SOON, "the asset is gone", async || {
        let response = ana.request(Method::GET, &path).send().await.unwrap();
        response.status() == StatusCode::NOT_FOUND
    })
    .await;
    let get = async |path: String| ana.request(Method::GET, &path).send().await.unwrap();
    assert_problem(get(path.clone()).await, 404, "asset-not-found").await;
    let bytes = get(format!("{path}/waveform")).await;
    assert_problem(bytes, 404, "rendition-not-found").await;
}

#[tokio::test]
async fn a_rendition_redirects_to_its_bytes() {
    let app = App::start().await;
    let mut ana = app.user("ana");
    let ticket = ana.posts("/v1/uploads", file(CLIP)).await;
    let id = ticket["id"].as_str().unwrap();
    assert!(put(&app, &ticket, CLIP).await.status().is_success());
    let done: Value = complete(&ana, &ticket).await.json().await.unwrap();
    let fast = done["jobs"]
        .as_array()
        .unwrap()
        .iter()
        .find(|job| job["profile"] == "fast@1")
        .unwrap();
    render(&app, &ana, id, fast["id"].as_str().unwrap(), CLIP).await;

    let there = |asset: &Value| asset["renditions"] != json!([]);
    let asset = ana
        .sees(&format!("/v1/assets/{id}"), "the rendition is there", there)
        .await;
    assert_eq!(
        asset["renditions"][0]["url"],
        format!("/v1/assets/{id}/renditions/waveform.dat")
    );
    let redirect = ana
        .request(Method::GET, &format!("/v1/assets/{id}/waveform?format=dat"))
        .send()
        .await
        .unwrap();
    assert_eq!(redirect.status(), StatusCode::TEMPORARY_REDIRECT);
    assert_eq!(redirect.headers()["cache-control"], "no-store");
    let url = redirect.headers()["location"].to_str().unwrap();
    serves_whole_and_in_parts(&app, url).await;
    let json = ana
        .request(
            Method::GET,
            &format!("/v1/assets/{id}/waveform?format=json"),
        )
        .send()
        .await
        .unwrap();
    assert_problem(json, 404, "rendition-not-found").await;
}

/// The signature alone opens it.
async fn serves_whole_and_in_parts(app: &App, url: &str) {
    let whole = app.http.get(url).send().await.unwrap();
    assert_eq!(whole.headers()["x-content-type-options"], "nosniff");
    assert_eq!(whole.headers()["content-type"], "application/octet-stream");
    assert!(
        whole.headers()["content-disposition"]
            .to_str()
            .unwrap()
            .starts_with("attachment")
    );
    assert!(
        whole.headers()["content-security-policy"]
            .to_str()
            .unwrap()
            .contains("sandbox")
    );
    assert_eq!(whole.bytes().await.unwrap(), CLIP);
    let part = app
        .http
        .get(url)
        .header("range", "bytes=4-9")
        .send()
        .await
        .unwrap();
    assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(part.headers()["content-range"], "bytes 4-9/17");
    let etag = part.headers()["etag"].clone();
    assert_eq!(part.bytes().await.unwrap(), &CLIP[4..10]);
    // Of what has become something else, all of it is wanted.
    for (kept, status) in [(etag.to_str().unwrap(), 206), ("\"another\"", 200)] {
        let part = app.http.get(url).header("range", "bytes=4-9");
        let part = part.header("if-range", kept).send().await.unwrap();
        assert_eq!(part.status(), status, "{kept}");
    }
    let known = app.http.get(url).header("if-none-match", &etag);
    assert_eq!(known.send().await.unwrap().status(), 304);
    let unsigned = url.replace("octet-stream", "html");
    let unsigned = app.http.get(unsigned).header("if-none-match", etag);
    assert_eq!(unsigned.send().await.unwrap().status(), 403);
    let beyond = app
        .http
        .get(url)
        .header("range", "bytes=17-")
        .send()
        .await
        .unwrap();
    assert_eq!(beyond.headers()["content-range"], "bytes */17");
    assert_problem(beyond, 416, "range-unsatisfiable").await;
    let forged = app
        .http
        .get(url.replace("octet-stream", "html"))
        .send()
        .await
        .unwrap();
    assert_problem(forged, 403, "signed-url-invalid").await;
}

#[tokio::test]
async fn progress_is_pushed_until_the_asset_is_settled() {
    let app = App::start().await;
    let mut ana = app.user("ana");
    let ticket = ana.posts("/v1/uploads", file(CLIP)).await;
    let id = ticket["id"].as_str().unwrap();
    assert!(put(&app, &ticket, CLIP).await.status().is_success());
    let done: Value = complete(&ana, &ticket).await.json().await.unwrap();
    let preparing = |asset: &Value| asset["state"] == "preparing";
    ana.sees(&format!("/v1/assets/{id}"), "the jobs wait", preparing)
        .await;
    let mut live = ana
        .request(Method::GET, &format!("/v1/assets/{id}/live"))
        .send()
        .await
        .unwrap();
    assert_eq!(live.headers()["content-type"], "text/event-stream");
    let first = String::from_utf8(live.chunk().await.unwrap().unwrap().to_vec()).unwrap();
    let (id_of, first) = first.split_once("\ndata: {").unwrap();
    assert!(id_of.starts_with("event: asset\nid: "), "{id_of} {first}");
    for job in done["jobs"].as_array().unwrap() {
        render(&app, &ana, id, job["id"].as_str().unwrap(), CLIP).await;
    }
    let rest = tokio::time::timeout(crate::app::SOON, live.text())
        .await
        .expect("the stream ends")
        .unwrap();
    assert!(
        rest.trim_end()
            .lines()
            .last()
            .unwrap()
            .contains("\"state\":\"ready\""),
        "{rest}"
    );
}

/// Appends what a transcoder would: one output, whose bytes are those of the upload.
pub(crate) async fn render(app: &App, owner: &User<'_>, asset: &str, job: &str, bytes: &[u8]) {
    let (asset, job) = (
        AssetId(asset.parse().unwrap()),
        JobId(job.parse::<Uuid>().unwrap()),
    );
    let key = StreamKey::asset(asset);
    let id = CommandId {
        tenant: app.tenant,
        actor: owner.id,
        route: "render".to_owned(),
        key: job.to_string(),
    };
    let made = RenditionCompleted {
        asset,
        job,
        profile: "fast@1".to_owned(),
        name: "waveform.dat".to_owned(),
        storage_key: format!("incoming/{}/{asset}", app.tenant),
        media_type: "application/octet-stream".to_owned(),
        bytes: bytes.len() as u64,
        sha256: sha256(bytes),
        width: None,
        height: None,
        duration_ms: None,
        cpu_ms: None,
    };
    let command = Command {
        id,
        body_hash: [0; 32],
        correlation: None,
        cause: None,
    };
    let decide = |streams: &events::store::Streams| {
        let rendered = Rendered {
            made: vec![made.clone()],
            ..Rendered::default()
        };
        Ok(Emit::all(
            &key,
            finish_job(&streams.get::<AssetState>(&key), asset, job, rendered)?,
        ))
    };
    app.log
        .execute(&command, std::slice::from_ref(&key), decide)
        .await
        .unwrap();
}
