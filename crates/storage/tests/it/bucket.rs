//! A bucket, on a real S3 server.

use std::io::{Read, Write};
use std::time::Duration;

use reqwest::{Client, Response, StatusCode};
use storage::{Checksum, Config, Error, Expected, Presentation, SignedRequest, Store};
use testing::s3::S3Server;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::{QUARTER_HOUR, bytes, config, deletes_under, key, now, replaces, terms};

pub(crate) struct Cloud {
    server: S3Server,
    pub(crate) store: Store,
    http: Client,
}

impl Cloud {
    pub(crate) async fn new() -> Self {
        let server = S3Server::start().await;
        let store = Store::open(&with_keys(&server, &server.storage_url())).unwrap();
        Self {
            server,
            store,
            http: Client::new(),
        }
    }

    pub(crate) async fn put(&self, signed: &SignedRequest, body: &[u8]) -> Response {
        self.put_with(signed, body, |_, value| value.to_owned())
            .await
    }

    /// Puts with each header's value as `change` makes it.
    pub(crate) async fn put_with(
        &self,
        signed: &SignedRequest,
        body: &[u8],
        change: impl Fn(&str, &str) -> String,
    ) -> Response {
        let mut request = self.http.put(signed.url.clone()).body(body.to_vec());
        for (name, value) in &signed.headers {
            request = request.header(name, change(name, value));
        }
        request.send().await.unwrap()
    }
}

fn with_keys(server: &S3Server, storage_url: &str) -> Config {
    Config {
        aws_access_key_id: Some(server.access_key.clone()),
        aws_secret_access_key: Some(service::secret::Secret::new(server.secret_key.clone())),
        ..config(storage_url)
    }
}

#[tokio::test]
async fn what_was_signed_can_be_put_once_and_read_back() {
    let cloud = Cloud::new().await;
    let signed = cloud
        .store
        .sign_put(&terms("incoming/a/b", b"hello world"), QUARTER_HOUR, now())
        .unwrap();
    assert_eq!(
        cloud.put(&signed, b"hello world").await.status(),
        StatusCode::OK
    );
    assert_eq!(
        cloud.put(&signed, b"hello world").await.status(),
        StatusCode::PRECONDITION_FAILED
    );

    let at = key("incoming/a/b");
    let head = cloud.store.head(&at).await.unwrap().unwrap();
    assert_eq!(
        (head.bytes, head.sha256),
        (11, Some(Checksum::of(b"hello world"))),
        "the store attests the checksum"
    );
    assert_eq!(
        cloud
            .store
            .verify(&at, 11, &Checksum::of(b"hello world"), None)
            .await
            .unwrap(),
        head
    );

    let shown = Presentation {
        media_type: Some("video/mp4".into()),
        disposition: Some("attachment; filename=\"a b.mp4\"".into()),
    };
    let url = cloud
        .store
        .sign_get(&at, QUARTER_HOUR, now(), &shown)
        .unwrap();
    let range = cloud
        .http
        .get(url.clone())
        .header("range", "bytes=6-8")
        .send()
        .await
        .unwrap();
    assert_eq!(range.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(range.headers()["content-type"], "video/mp4");
    assert_eq!(
        range.headers()["content-disposition"],
        "attachment; filename=\"a b.mp4\""
    );
    assert_eq!(range.text().await.unwrap(), "wor");
    let forged = url.as_str().replace("a%20b", "c");
    assert_eq!(
        cloud.http.get(forged).send().await.unwrap().status(),
        StatusCode::FORBIDDEN
    );

    cloud.store.delete(&at).await.unwrap();
    cloud.store.delete(&at).await.unwrap();
    assert_eq!(cloud.store.head(&at).await.unwrap(), None);
}

#[tokio::test]
async fn a_changed_term_is_a_forgery() {
    let cloud = Cloud::new().await;
    let signed = cloud
        .store
        .sign_put(&terms("a/b", b"hello"), QUARTER_HOUR, now())
        .unwrap();

    let mut elsewhere = signed.clone();
    elsewhere.url.set_path("/cinelog-test/a/c");
    assert_eq!(
        cloud.put(&elsewhere, b"hello").await.status(),
        StatusCode::FORBIDDEN,
        "another key"
    );
    let longer =
        |name: &str, value: &str| if name == "content-length" { "6" } else { value }.to_owned();
    assert_eq!(
        cloud.put_with(&signed, b"hello!", longer).await.status(),
        StatusCode::FORBIDDEN,
        "another length"
    );
    let typed = |name: &str, value: &str| {
        if name == "content-type" {
            "text/html"
        } else {
            value
        }
        .to_owned()
    };
    assert_eq!(
        cloud.put_with(&signed, b"hello", typed).await.status(),
        StatusCode::FORBIDDEN,
        "another type"
    );
    let summed = |name: &str, value: &str| match name {
        "x-amz-checksum-sha256" => Checksum::of(b"other").base64(),
        _ => value.to_owned(),
    };
    assert_eq!(
        cloud.put_with(&signed, b"other", summed).await.status(),
        StatusCode::FORBIDDEN,
        "another checksum"
    );
    assert_eq!(cloud.store.head(&key("a/b")).await.unwrap(), None);
}

#[tokio::test]
async fn a_signature_ends_with_its_time() {
    let cloud = Cloud::new().await;
    let an_hour_ago = now() - Duration::from_hours(1);
    let put = cloud
        .store
        .sign_put(&terms("a/b", b"hello"), QUARTER_HOUR, an_hour_ago)
        .unwrap();
    assert_eq!(
        cloud.put(&put, b"hello").await.status(),
        StatusCode::FORBIDDEN
    );
    cloud
        .store
        .put(&key("a/b"), b"hello".as_slice().into(), "text/plain")
        .await
        .unwrap();
    let get = cloud
        .store
        .sign_get(
            &key("a/b"),
            QUARTER_HOUR,
            an_hour_ago,
            &Presentation::default(),
        )
        .unwrap();
    assert_eq!(
        cloud.http.get(get).send().await.unwrap().status(),
        StatusCode::FORBIDDEN
    );
}

/// What the server does here is its defect: it answers 400 and keeps the bytes. A real store does not keep them, others
/// do not look at the checksum at all. Verifying finds out in any case.
#[tokio::test]
async fn verifying_finds_bytes_that_the_store_should_not_have_kept() {
    let cloud = Cloud::new().await;
    let at = key("a/b");
    let signed = cloud
        .store
        .sign_put(&terms("a/b", b"hello"), QUARTER_HOUR, now())
        .unwrap();
    assert_eq!(
        cloud.put(&signed, b"Hello").await.status(),
        StatusCode::BAD_REQUEST
    );
    let kept = cloud
        .store
        .head(&at)
        .await
        .unwrap()
        .expect("if it is gone, the server has been repaired");
    assert_eq!((kept.bytes, kept.sha256), (5, None));
    assert!(matches!(
        cloud
            .store
            .verify(&at, 5, &Checksum::of(b"hello"), None)
            .await,
        Err(Error::ChecksumDiffers { .. })
    ));
    let differs = cloud
        .store
        .verify(&at, 6, &Checksum::of(b"hello!"), None)
        .await;
    assert!(matches!(
        differs,
        Err(Error::SizeDiffers {
            expected: 6,
            found: 5,
            ..
        })
    ));
    let missing = cloud
        .store
        .verify(&key("a/c"), 5, &Checksum::of(b"hello"), None)
        .await;
    assert!(matches!(missing, Err(Error::Missing(_))));
}

/// A bucket that answers as a test says.
fn over(listener: &TcpListener) -> Store {
    let address = listener.local_addr().unwrap();
    let mut config = config(&format!("s3://b?endpoint=http://{address}"));
    config.aws_access_key_id = Some("a".into());
    config.aws_secret_access_key = Some(service::secret::Secret::new("b"));
    Store::open(&config).unwrap()
}

#[tokio::test]
async fn what_is_there_already_is_seen_though_the_bucket_hangs_up_on_a_put() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (store, body) = (over(&listener), bytes(700_000));
    let sum = Checksum::of(&body).base64();
    let bucket = async {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut method = [0; 4];
            socket.read_exact(&mut method).await.unwrap();
            if method == *b"HEAD" {
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: 700000\r\nx-amz-checksum-sha256: {sum}\r\nconnection: close\r\n\r\n"
                );
                socket.write_all(head.as_bytes()).await.unwrap();
                let mut rest = vec![];
                socket.read_to_end(&mut rest).await.unwrap();
            }
        }
    };
    let at = key("a/b");
    let put = store.put(&at, body.into(), "video/mp4");
    let facts = tokio::select! {
        facts = put => facts.unwrap(),
        () = bucket => unreachable!("it listens for ever"),
    };
    assert_eq!(facts.bytes, 700_000);
}

#[tokio::test]
async fn a_bucket_that_hangs_is_left_alone_however_patient_its_callers_are() {
    let hangs = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (store, at) = (over(&hangs), key("a/b"));
    // Less than one of our own tries.
    let give_up = || tokio::time::timeout(Duration::from_secs(11), store.head(&at));
    let given_up = futures::future::join_all((0..5).map(|_| give_up())).await;
    assert!(given_up.iter().all(Result::is_err));
    let refused = give_up().await.expect("it is refused at once");
    assert!(matches!(refused, Err(Error::Unavailable(_))));
}

#[tokio::test]
async fn files_go_up_and_come_down_checked() {
    let cloud = Cloud::new().await;
    let scratch = tempfile::tempdir().unwrap();
    let (from, to) = (scratch.path().join("from"), scratch.path().join("to"));
    std::fs::write(&from, bytes(700_000)).unwrap();
    let at = key("t/a/proxy720@1/x.mp4");
    let up = cloud
        .store
        .upload_file(&at, &from, "video/mp4")
        .await
        .unwrap();
    assert_eq!(
        cloud
            .store
            .upload_file(&at, &from, "video/mp4")
            .await
            .unwrap(),
        up
    );
    assert!(matches!(
        cloud
            .store
            .put(&at, b"other".as_slice().into(), "text/plain")
            .await,
        Err(Error::Exists(_))
    ));

    let expected = Expected {
        etag: up.etag,
        sha256: up.sha256,
    };
    cloud
        .store
        .download(&at, &to, 700_000, &expected)
        .await
        .unwrap();
    assert_eq!(std::fs::read(&to).unwrap(), bytes(700_000));
    std::fs::remove_file(&to).unwrap();

    let too_small = cloud.store.download(&at, &to, 699_999, &expected).await;
    assert!(matches!(too_small, Err(Error::LimitReached { .. })));
    // Replaced behind our back, as someone with the bucket's keys could.
    std::fs::write(
        cloud.server.bucket_folder().join("t/a/proxy720@1/x.mp4"),
        b"replaced",
    )
    .unwrap();
    let by_sum = Expected {
        etag: None,
        sha256: expected.sha256,
    };
    assert!(matches!(
        cloud.store.download(&at, &to, 700_000, &by_sum).await,
        Err(Error::ChecksumDiffers { .. })
    ));
    let other = Expected {
        etag: Some("\"other\"".into()),
        sha256: None,
    };
    assert!(matches!(
        cloud.store.download(&at, &to, 700_000, &other).await,
        Err(Error::Changed(_))
    ));
    assert!(!to.exists());
}

#[tokio::test]
async fn a_large_file_goes_up_in_parts() {
    let cloud = Cloud::new().await;
    let scratch = tempfile::tempdir().unwrap();
    let from = scratch.path().join("from");
    let large = bytes(17 * 1024 * 1024 + 1);
    std::fs::write(&from, &large).unwrap();
    let at = key("t/a/large.bin");
    let up = cloud
        .store
        .upload_file(&at, &from, "video/mp4")
        .await
        .unwrap();
    assert_eq!(
        (up.bytes, up.sha256),
        (large.len() as u64, Some(Checksum::of(&large)))
    );
    assert!(
        up.etag.as_ref().is_some_and(|etag| etag.contains('-')),
        "the ETag of parts: {up:?}"
    );
    assert_eq!(
        cloud
            .store
            .upload_file(&at, &from, "video/mp4")
            .await
            .unwrap()
            .etag,
        up.etag
    );
    assert!(cloud.store.read(&at, up.bytes).await.unwrap() == large);
}

#[tokio::test]
async fn a_prefix_holds_all_keys() {
    let server = S3Server::start().await;
    let url = server.storage_url().replace('?', "/team/one?");
    let store = Store::open(&with_keys(&server, &url)).unwrap();
    store
        .put(&key("a/b"), b"hello".as_slice().into(), "text/plain")
        .await
        .unwrap();
    assert!(server.bucket_folder().join("team/one/a/b").exists());
    assert_eq!(&store.read(&key("a/b"), 5).await.unwrap()[..], b"hello");
    let url = store
        .sign_get(&key("a/b"), QUARTER_HOUR, now(), &Presentation::default())
        .unwrap();
    assert_eq!(
        reqwest::get(url).await.unwrap().text().await.unwrap(),
        "hello"
    );
}

#[tokio::test]
async fn failures_say_whether_to_try_again() {
    let cloud = Cloud::new().await;
    let mut wrong = with_keys(&cloud.server, &cloud.server.storage_url());
    wrong.aws_secret_access_key = Some(service::secret::Secret::new("wrong"));
    let refused = Store::open(&wrong)
        .unwrap()
        .put(&key("a"), b"x".as_slice().into(), "text/plain")
        .await
        .unwrap_err();
    assert!(matches!(refused, Error::Refused(_)), "{refused:?}");

    let nobody = format!("s3://b?endpoint=http://{}", testing::port::free());
    let away = Store::open(&with_keys(&cloud.server, &nobody))
        .unwrap()
        .head(&key("a"))
        .await
        .unwrap_err();
    assert_eq!(away.retry(), service::retry::Retry::Later, "{away:?}");
    assert!(!format!("{away:?}").contains("X-Amz-Signature"), "{away:?}");

    let keyless = Store::open(&config(&cloud.server.storage_url())).unwrap_err();
    assert!(
        keyless.to_string().contains("AWS_ACCESS_KEY_ID"),
        "{keyless}"
    );
}

#[tokio::test]
async fn an_object_that_says_how_far_something_has_come_is_replaced() {
    let cloud = Cloud::new().await;
    replaces(&cloud.store).await;
}

#[tokio::test]
async fn a_folders_objects_go_together() {
    let cloud = Cloud::new().await;
    deletes_under(&cloud.store).await;
}

/// A bucket that answers so to one preflight.
fn with_rules(rules: &'static str) -> Store {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let _ = socket.read(&mut vec![0; 16 * 1024]);
        let answer = format!("HTTP/1.1 200 OK\r\n{rules}content-length: 0\r\n\r\n");
        socket.write_all(answer.as_bytes()).unwrap();
    });
    let config = Config {
        aws_access_key_id: Some("key".to_owned()),
        aws_secret_access_key: Some(service::secret::Secret::new("secret".to_owned())),
        ..config(&format!("s3://media?endpoint=http://{address}"))
    };
    Store::open(&config).unwrap()
}

#[tokio::test]
async fn what_a_bucket_does_not_let_pages_do_is_told() {
    let page = "https://app.example.org";
    let lacks = async |store: &Store| {
        let terms = terms("incoming/a/b", b"hello");
        store.cors_lacks(page, &terms, now()).await.unwrap()
    };
    let all = "access-control-allow-origin: https://app.example.org\r\naccess-control-allow-methods: GET, PUT\r\n\
        access-control-allow-headers: Content-Type, If-None-Match, X-Amz-Checksum-Sha256\r\n";
    assert_eq!(lacks(&with_rules(all)).await, [""; 0]);
    let some = "access-control-allow-origin: https://other.example\r\naccess-control-allow-methods: PUT\r\n\
        access-control-allow-headers: content-type\r\n";
    let missing = [
        "origin https://app.example.org",
        "header if-none-match",
        "header x-amz-checksum-sha256",
    ];
    assert_eq!(lacks(&with_rules(some)).await, missing);
    // A server without rules.
    let none = lacks(&Cloud::new().await.store).await;
    assert!(none.len() >= 4, "{none:?}");
}
