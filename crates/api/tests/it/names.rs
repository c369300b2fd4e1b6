//! What files and outputs are called leads nowhere: the bytes are where ids say, and only what we signed opens them.

use reqwest::{Method, StatusCode, Url};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;

use crate::app::{App, SOON, User, assert_problem};
use crate::uploads::{complete, file, put, render};

const CLIP: &[u8] = b"not really a clip";
/// What files may be called.
const NAMES: [&str; 5] = [
    "../../etc/passwd",
    "a/b.mp4",
    "..\\x.mp4",
    "/etc/shadow",
    "%2e%2e%2fy.mp4",
];

fn called(name: &str) -> Value {
    let mut file = file(CLIP);
    file["name"] = json!(name);
    file
}

/// Of what is signed, `at` is what comes before the object's key.
async fn no_name_is_a_part_of_a_key(app: &App, at: &str) {
    let mut ana = app.user("ana");
    for name in NAMES {
        let ticket = ana.posts("/v1/uploads", called(name)).await;
        let id: Uuid = ticket["id"].as_str().unwrap().parse().unwrap();
        let key = format!("incoming/{}/{id}", app.tenant);
        let url = Url::parse(ticket["url"].as_str().unwrap()).unwrap();
        assert_eq!(url.path(), format!("{at}/{key}"), "{name}");
        let last = name.rsplit(['/', '\\']).next().unwrap();
        assert!(!ticket.to_string().contains(last), "{ticket}");
        assert!(!app.has(&key));
        let stored = put(app, &ticket, CLIP).await;
        assert!(stored.status().is_success(), "{:?}", stored.text().await);
        assert!(app.has(&key), "{name}");
        assert_eq!(complete(&ana, &ticket).await.status(), StatusCode::ACCEPTED);
        // It is still what the file is called.
        ana.sees("/v1/assets", "the asset is there", |page| {
            let asset = &page["items"][0];
            asset["id"] == id.to_string() && asset["name"] == name
        })
        .await;
    }
}

#[tokio::test]
async fn no_files_name_is_a_part_of_its_key_in_the_folder() {
    no_name_is_a_part_of_a_key(&App::start().await, "/storage").await;
}

#[tokio::test]
async fn no_files_name_is_a_part_of_its_key_in_the_bucket() {
    no_name_is_a_part_of_a_key(&App::start_on_s3().await, "/cinelog-test").await;
}

async fn uploads_reserved(app: &App) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM accounts.uploads")
        .fetch_one(&app.owner)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_name_with_a_nul_is_refused_and_reserves_nothing() {
    let app = App::start().await;
    let mut ana = app.user("ana");
    ana.posts("/v1/uploads", called("a.mp4")).await;
    let before = (app.head().await, uploads_reserved(&app).await);
    assert_eq!(before.1, 1);
    for name in ["a\0.mp4", "\0", "a.mp4\0../../x"] {
        let request = ana.request(Method::POST, "/v1/uploads").json(&called(name));
        assert_problem(request.send().await.unwrap(), 422, "invalid-field").await;
    }
    let after = (app.head().await, uploads_reserved(&app).await);
    assert_eq!(after, before);
}

/// An asset of `ana`'s with one output, `waveform.dat`.
async fn rendered(app: &App, ana: &mut User<'_>) -> String {
    let ticket = ana.posts("/v1/uploads", file(CLIP)).await;
    let id = ticket["id"].as_str().unwrap();
    assert!(put(app, &ticket, CLIP).await.status().is_success());
    let done: Value = complete(ana, &ticket).await.json().await.unwrap();
    render(app, ana, id, done["job"].as_str().unwrap(), CLIP).await;
    id.to_owned()
}

#[tokio::test]
async fn an_outputs_name_leads_to_that_output_only() {
    let app = App::start().await;
    let mut ana = app.user("ana");
    let id = rendered(&app, &mut ana).await;
    let get = async |name: &str| {
        let path = format!("/v1/assets/{id}/renditions/{name}");
        ana.request(Method::GET, &path).send().await.unwrap()
    };
    testing::wait::until_true(SOON, "the output is there", async || {
        get("waveform.dat").await.status() == StatusCode::TEMPORARY_REDIRECT
    })
    .await;
    for name in [
        "..%2f..%2fx",
        "..%2fwaveform.dat",
        "..%2frenditions%2fwaveform.dat",
        "..%5cwaveform.dat",
        "%2fetc%2fpasswd",
        "waveform.dat%00",
        "waveform.dat%2f..",
        "%2e%2e%2f..",
    ] {
        assert_problem(get(name).await, 404, "rendition-not-found").await;
    }
}

/// The answer to a request whose path is sent as it stands: other clients take dots out of it.
async fn answer(app: &App, method: &str, path: &str) -> String {
    let address = app.url.trim_start_matches("http://");
    let mut socket = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_key_that_the_folder_did_not_sign_leads_nowhere() {
    let app = App::start().await;
    let mut ana = app.user("ana");
    let ticket = ana.posts("/v1/uploads", file(CLIP)).await;
    let url = ticket["url"].as_str().unwrap();
    let (at, signed) = url.split_once('?').unwrap();
    let (terms, _) = signed.rsplit_once("signature=").unwrap();
    let garbage = format!("{terms}signature={}", "0".repeat(64));
    for key in [
        "..%2f..%2fetc%2fx",
        "..%2F..%2Fetc%2Fx",
        "%2fetc%2fx",
        "incoming%2f..%2f..%2fx",
        ".incoming%2fx",
        "..%5c..%5cx",
        "a%00",
    ] {
        for query in [&*garbage, signed, ""] {
            let url = format!("{}/storage/{key}?{query}", app.url);
            let sent = app.http.put(&url).body(CLIP).send().await.unwrap();
            assert_problem(sent, 400, "signed-url-malformed").await;
            let read = app.http.get(&url).send().await.unwrap();
            assert_problem(read, 400, "signed-url-malformed").await;
        }
    }
    for method in ["PUT", "GET"] {
        for path in ["/storage/../../etc/x", "/storage/incoming/../../x"] {
            let told = answer(&app, method, &format!("{path}?{garbage}")).await;
            assert!(told.starts_with("HTTP/1.1 400 "), "{path}: {told}");
            assert!(told.contains("/problems/signed-url-malformed"), "{told}");
        }
    }
    // The right key does not help either.
    let mut forged = ticket.clone();
    forged["url"] = json!(format!("{at}?{garbage}"));
    let refused = put(&app, &forged, CLIP).await;
    assert_problem(refused, 403, "signed-url-invalid").await;
    assert_eq!(app.incoming(), 0, "nothing has come in");
    assert_eq!(put(&app, &ticket, CLIP).await.status(), StatusCode::CREATED);
}
