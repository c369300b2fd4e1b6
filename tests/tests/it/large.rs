//! A file too large to be sent again: it comes in parts, its client goes away twice, and the API is killed once.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use testing::report::tell;
use testing::{clip, environment, wait};

use crate::program::tool;
use crate::world::{World, end};

/// Until which all of it is rendered.
const LIMIT: Duration = Duration::from_mins(10);

/// The size of the file, and of its parts; with LONG=1 what takes a while: 6 GB.
fn sizes() -> (u64, u64) {
    match environment::optional("LONG") {
        Some(_) => (6_000_000_000, 64 << 20),
        None => (64_000_000, 8 << 20),
    }
}

/// The sample clip with a box behind it that says nothing, and takes no room on this disk: `bytes` in all.
fn large(folder: &Path, bytes: u64) -> PathBuf {
    let file = folder.join("large.mp4");
    fs::copy(clip::sample(), &file).unwrap();
    let mut large = File::options().append(true).open(&file).unwrap();
    let left = bytes - large.metadata().unwrap().len();
    // A size of 1 says that the size follows the type, in 64 bits: ISO/IEC 14496-12, 4.2.
    large
        .write_all(&[&1_u32.to_be_bytes()[..], b"free", &left.to_be_bytes()].concat())
        .unwrap();
    large.set_len(bytes).unwrap();
    file
}

/// Somebody who uploads, from one machine after the other.
struct Uploader<'a> {
    http: Client,
    url: String,
    token: &'a str,
    file: &'a Path,
}

impl Uploader<'_> {
    async fn asks(&self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let request = self.http.request(method, format!("{}/v1{path}", self.url));
        let mut request = request.bearer_auth(self.token).timeout(LIMIT);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        (response.status(), response.json().await.unwrap_or_default())
    }

    /// Puts parts that are not there yet, at most so many; which it put.
    async fn goes_on(&self, id: &str, most: usize) -> Vec<u64> {
        let path = format!("/uploads/{id}");
        let (status, upload) = self.asks(Method::GET, &path, None).await;
        assert!(upload["parts"].is_object(), "{status} {upload}");
        let parts = &upload["parts"];
        let there: Vec<u64> = serde_json::from_value(parts["there"].clone()).unwrap();
        let missing =
            (1..=parts["count"].as_u64().unwrap()).filter(|number| !there.contains(number));
        let missing: Vec<u64> = missing.take(most).collect();
        for some in missing.chunks(100) {
            let wanted = Some(json!({"numbers": some}));
            let (status, signed) = self
                .asks(Method::POST, &format!("/uploads/{id}/parts"), wanted)
                .await;
            assert_eq!(status, StatusCode::OK, "{signed}");
            for part in signed["parts"].as_array().unwrap() {
                let put = self.http.put(part["url"].as_str().unwrap());
                let put = put.body(self.piece(
                    part["number"].as_u64().unwrap(),
                    parts["bytes"].as_u64().unwrap(),
                ));
                assert_eq!(put.send().await.unwrap().status(), StatusCode::OK);
            }
        }
        missing
    }

    fn piece(&self, number: u64, size: u64) -> Vec<u8> {
        let mut file = File::open(self.file).unwrap();
        file.seek(SeekFrom::Start((number - 1) * size)).unwrap();
        let mut piece = vec![];
        file.take(size).read_to_end(&mut piece).unwrap();
        piece
    }

    /// Says that all is there, and waits until it is rendered.
    async fn is_rendered(&self, id: &str) {
        let complete = format!("/uploads/{id}/complete");
        let (status, done) = self.asks(Method::POST, &complete, None).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{done}");
        wait::until_true(LIMIT, "the asset is ready", async || {
            let (_, asset) = self.asks(Method::GET, &format!("/assets/{id}"), None).await;
            assert!(asset["state"] != "failed", "{asset}");
            asset["state"] == "ready"
        })
        .await;
    }

    /// Goes away in the middle of a part.
    async fn goes_away(&self, id: &str) {
        let wanted = Some(json!({"numbers": [1]}));
        let (_, signed) = self
            .asks(Method::POST, &format!("/uploads/{id}/parts"), wanted)
            .await;
        let part = &signed["parts"][0];
        let url = part["url"].as_str().unwrap();
        let length = part["headers"]["content-length"].as_str().unwrap();
        let first = futures::stream::once(async { Ok::<_, std::io::Error>(vec![0; 1 << 20]) });
        let body = reqwest::Body::wrap_stream(futures::StreamExt::chain(
            first,
            futures::stream::pending(),
        ));
        let put = self
            .http
            .put(url)
            .header("content-length", length)
            .body(body)
            .send();
        assert!(
            tokio::time::timeout(Duration::from_secs(1), put)
                .await
                .is_err(),
            "it was still sending"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_file_is_interrupted_twice_and_ends_ready() {
    environment::required("STORAGE_URL");
    let (bytes, part) = sizes();
    let folder = TempDir::new().unwrap();
    let file = large(folder.path(), bytes);
    let sum = tool("sha256sum", &[file.to_str().unwrap()]);
    let sha256 = sum.split(' ').next().unwrap();
    let world = World::new(None, 26).await;
    let plan = world
        .start(&["plan", "set", "free", "10000000000"])
        .finish(LIMIT)
        .await;
    assert!(plan.status.success(), "{plan:?}");
    let (part, scratch) = (part.to_string(), folder.path().join("scratch"));
    fs::create_dir(&scratch).unwrap();
    let parts = [("UPLOAD_PART_BYTES", part.as_str())];
    let (projectors, worker) = (
        world.start(&["projectors"]),
        world
            .programs
            .worker(&[("TMPDIR", scratch.to_str().unwrap())]),
    );
    let token = world.programs.token("ana", "member").await;
    let (api, url) = world.programs.api(&parts).await;
    let uploader = |url: String| Uploader {
        http: Client::builder().no_proxy().build().unwrap(),
        url,
        token: &token,
        file: &file,
    };
    let first = uploader(url);
    let intent =
        json!({"name": "large.mp4", "type": "video/mp4", "bytes": bytes, "sha256": sha256});
    let (status, ticket) = first.asks(Method::POST, "/uploads", Some(intent)).await;
    assert_eq!(status, StatusCode::CREATED, "{ticket}");
    let id = ticket["id"].as_str().unwrap();
    let count = usize::try_from(ticket["parts"]["count"].as_u64().unwrap()).unwrap();
    first.goes_away(id).await;
    let mut put = first.goes_on(id, count / 3).await;
    drop(first);
    // The API is killed; its successor knows as much as it did.
    api.kill();
    let (api, url) = world.programs.api(&parts).await;
    put.extend(uploader(url.clone()).goes_on(id, count / 3).await);
    let last = uploader(url);
    let (_, early) = last
        .asks(Method::POST, &format!("/uploads/{id}/complete"), None)
        .await;
    assert_eq!(early["type"], "/problems/upload-missing", "{early}");
    put.extend(last.goes_on(id, count).await);
    assert_eq!(
        put,
        (1..=count as u64).collect::<Vec<_>>(),
        "each part came once"
    );
    last.is_rendered(id).await;
    tell(format_args!(
        "{bytes} bytes in {count} parts, interrupted twice: ready"
    ));
    for program in [api, projectors, worker] {
        end(program).await;
    }
}
