//! The folder store: what a signed request allows, and that it allows nothing else.

use std::time::Duration;

use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue};
use service::mac::MacKey;
use storage::{
    ByteRange, Checksum, Error, Expected, Folder, Presentation, SignatureError, SignedRequest,
    Store,
};
use tempfile::TempDir;
use tokio::io::AsyncReadExt;

use crate::{QUARTER_HOUR, bytes, config, deletes_under, key, now, replaces, terms};

struct Home {
    root: TempDir,
    store: Store,
}

impl Home {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open_or_make(&config(&root.path().display().to_string())).unwrap();
        Self {
            store: store.with_signing(&MacKey::new(b"secret")),
            root,
        }
    }

    fn folder(&self) -> &Folder {
        self.store.folder().unwrap()
    }

    /// Puts as the API does when a client sends `body` by the signed request.
    async fn put(&self, signed: &SignedRequest, body: &[u8]) -> Result<(), Error> {
        let (at, query, headers) = parts(signed);
        let (allowed, _) = self
            .folder()
            .check_put(&at, &query, &headers, now())
            .expect("the request is as signed");
        let mut incoming = self.folder().begin_put(allowed).await?;
        for piece in body.chunks(3) {
            incoming.write(piece).await?;
        }
        incoming.finish().await.map(drop)
    }

    fn files(&self) -> Vec<String> {
        let mut folders = vec![self.root.path().to_path_buf()];
        let mut files = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    files.push(path.display().to_string());
                }
            }
        }
        files
    }
}

fn parts(signed: &SignedRequest) -> (String, String, HeaderMap) {
    let at = signed
        .url
        .path()
        .strip_prefix("/storage/")
        .unwrap()
        .to_owned();
    let headers = signed
        .headers
        .iter()
        .map(|(n, v)| (n.parse().unwrap(), HeaderValue::from_str(v).unwrap()));
    (
        at,
        signed.url.query().unwrap().to_owned(),
        headers.collect(),
    )
}

#[tokio::test]
async fn what_was_signed_can_be_put_once_and_read_back() {
    let home = Home::new();
    let signed = home
        .store
        .sign_put(&terms("incoming/a/b", b"hello world"), QUARTER_HOUR, now())
        .unwrap();
    assert_eq!(
        (signed.method, signed.url.host_str()),
        ("PUT", Some("127.0.0.1"))
    );
    home.put(&signed, b"hello world").await.unwrap();

    let at = key("incoming/a/b");
    let facts = home
        .store
        .verify(&at, 11, &Checksum::of(b"hello world"), None)
        .await
        .unwrap();
    assert_eq!(
        home.store.head(&at).await.unwrap().unwrap().etag,
        facts.etag
    );
    assert!(matches!(
        home.put(&signed, b"hello world").await,
        Err(Error::Exists(_))
    ));
    assert_eq!(
        &home.store.read(&at, 100).await.unwrap()[..],
        b"hello world"
    );
    home.store.delete(&at).await.unwrap();
    home.store.delete(&at).await.unwrap();
    assert_eq!(home.store.head(&at).await.unwrap(), None);
    assert!(matches!(
        home.store.verify(&at, 1, &Checksum::of(b""), None).await,
        Err(Error::Missing(_))
    ));
}

#[tokio::test]
async fn a_changed_term_is_a_forgery() {
    let home = Home::new();
    let signed = home
        .store
        .sign_put(&terms("a/b", b"hello"), QUARTER_HOUR, now())
        .unwrap();
    let (at, query, headers) = parts(&signed);
    let check = |at: &str, query: &str| home.folder().check_put(at, query, &headers, now());
    let until = check(&at, &query).map(|(_, until)| until.timestamp());
    assert_eq!(until, Ok(signed.expires_at.timestamp()));
    assert_eq!(check("a/c", &query), Err(SignatureError::Forged));
    let other = Checksum::of(b"other").to_string();
    let hello = Checksum::of(b"hello").to_string();
    for (from, to) in [
        ("bytes=5", "bytes=6"),
        ("mp4", "mp3"),
        (&hello, &other),
        ("expires=", "expires=9"),
    ] {
        let changed = query.replace(from, to);
        assert_ne!(changed, query);
        assert_eq!(check(&at, &changed), Err(SignatureError::Forged), "{from}");
    }
    let (unsigned, _) = query.split_once("&signature").unwrap();
    assert_eq!(check(&at, unsigned), Err(SignatureError::Malformed));
    assert_eq!(
        check(&at, &format!("{query}&bytes=5")),
        Err(SignatureError::Malformed)
    );
    let get = home
        .store
        .sign_get(&key("a/b"), QUARTER_HOUR, now(), &Presentation::default())
        .unwrap();
    assert_eq!(
        check(&at, get.query().unwrap()),
        Err(SignatureError::Malformed)
    );

    let stranger = Store::open(&config(&home.root.path().display().to_string())).unwrap();
    assert!(matches!(
        stranger.sign_put(&terms("a/b", b""), QUARTER_HOUR, now()),
        Err(Error::Config(_))
    ));
    let stranger = stranger.with_signing(&MacKey::new(b"another secret"));
    let checked = stranger
        .folder()
        .unwrap()
        .check_put(&at, &query, &headers, now());
    assert_eq!(checked, Err(SignatureError::Forged));
}

#[tokio::test]
async fn a_signature_ends_with_its_time() {
    let home = Home::new();
    let at = now();
    let put = home
        .store
        .sign_put(&terms("a/b", b"hello"), QUARTER_HOUR, at)
        .unwrap();
    let get = home
        .store
        .sign_get(&key("a/b"), QUARTER_HOUR, at, &Presentation::default())
        .unwrap();
    let (path, query, headers) = parts(&put);
    for (later, expected) in [(898, None), (900, Some(SignatureError::Expired))] {
        let later = at + Duration::from_secs(later);
        assert_eq!(
            home.folder()
                .check_put(&path, &query, &headers, later)
                .err(),
            expected
        );
        assert_eq!(
            home.folder()
                .check_get("a/b", get.query().unwrap(), later)
                .err(),
            expected
        );
    }
}

#[tokio::test]
async fn headers_must_announce_what_was_signed() {
    let home = Home::new();
    let signed = home
        .store
        .sign_put(&terms("a/b", b"hello"), QUARTER_HOUR, now())
        .unwrap();
    let (at, query, headers) = parts(&signed);
    let check = |headers: HeaderMap| home.folder().check_put(&at, &query, &headers, now()).err();
    let with = |name, value| {
        let mut changed = headers.clone();
        changed.insert(name, HeaderValue::from_static(value));
        changed
    };
    assert_eq!(
        check(with(CONTENT_LENGTH, "6")),
        Some(SignatureError::LengthDiffers)
    );
    assert_eq!(
        check(with(CONTENT_TYPE, "text/html")),
        Some(SignatureError::TypeDiffers)
    );
    let mut chunked = headers.clone();
    chunked.remove(CONTENT_LENGTH);
    assert_eq!(check(chunked), Some(SignatureError::LengthDiffers));
}

#[tokio::test]
async fn a_body_that_differs_leaves_nothing() {
    let home = Home::new();
    let signed = home
        .store
        .sign_put(&terms("a/b", b"hello"), QUARTER_HOUR, now())
        .unwrap();
    assert!(matches!(
        home.put(&signed, b"hell").await,
        Err(Error::SizeDiffers { found: 4, .. })
    ));
    assert!(matches!(
        home.put(&signed, b"hello!").await,
        Err(Error::SizeDiffers { found: 6, .. })
    ));
    assert!(matches!(
        home.put(&signed, b"Hello").await,
        Err(Error::ChecksumDiffers { .. })
    ));
    assert_eq!(home.files(), Vec::<String>::new());
    home.put(&signed, b"hello").await.unwrap();
}

#[tokio::test]
async fn of_two_puts_at_once_one_wins() {
    let home = Home::new();
    let terms = terms("a/b", b"hello");
    let mut one = home.folder().begin_put(terms.clone()).await.unwrap();
    let mut two = home.folder().begin_put(terms).await.unwrap();
    one.write(b"hello").await.unwrap();
    two.write(b"hello").await.unwrap();
    one.finish().await.unwrap();
    assert!(matches!(two.finish().await, Err(Error::Exists(_))));
    assert_eq!(home.files().len(), 1);
}

#[tokio::test]
async fn keys_that_climb_are_not_keys() {
    let home = Home::new();
    let signed = home
        .store
        .sign_put(&terms("a/b", b"hello"), QUARTER_HOUR, now())
        .unwrap();
    let (_, query, headers) = parts(&signed);
    for at in [
        "../a/b",
        "a/../../b",
        "/etc/passwd",
        "a/..",
        ".incoming/x",
        "a//b",
        "a/%2e%2e/b",
        "",
        "a\\..\\b",
    ] {
        let put = home.folder().check_put(at, &query, &headers, now());
        assert_eq!(put, Err(SignatureError::Malformed), "{at}");
        let get = home.folder().check_get(at, &query, now());
        assert_eq!(get, Err(SignatureError::Malformed), "{at}");
    }
}

#[tokio::test]
async fn a_signed_get_opens_the_object_or_a_range_of_it() {
    let home = Home::new();
    let at = key("t/a/proxy720@1/x.mp4");
    home.store
        .put(&at, bytes(1000).into(), "video/mp4")
        .await
        .unwrap();
    let shown = Presentation {
        media_type: Some("video/mp4".into()),
        disposition: Some("attachment; filename=\"a b.mp4\"".into()),
    };
    let url = home
        .store
        .sign_get(&at, QUARTER_HOUR, now(), &shown)
        .unwrap();
    let path = url.path().strip_prefix("/storage/").unwrap();
    let (checked, presentation) = home
        .folder()
        .check_get(path, url.query().unwrap(), now())
        .unwrap();
    assert_eq!((&checked, &presentation), (&at, &shown));
    let forged = url.query().unwrap().replace("mp4", "mp3");
    assert_eq!(
        home.folder().check_get(path, &forged, now()),
        Err(SignatureError::Forged)
    );

    for (header, expected) in [
        (None, 0..1000),
        (Some("bytes=100-199"), 100..200),
        (Some("bytes=-1"), 999..1000),
    ] {
        let object = home.folder().open(&checked).await.unwrap();
        assert_eq!(object.bytes, 1000);
        let range = ByteRange::parse(header, object.bytes).unwrap();
        let mut read = Vec::new();
        object
            .read(&range)
            .await
            .unwrap()
            .read_to_end(&mut read)
            .await
            .unwrap();
        assert_eq!(read, bytes(1000)[expected]);
    }
    assert!(matches!(
        home.folder().open(&key("t/a")).await,
        Err(Error::Missing(_))
    ));
}

#[tokio::test]
async fn files_go_up_and_come_down_checked() {
    let home = Home::new();
    let scratch = tempfile::tempdir().unwrap();
    let (from, to) = (scratch.path().join("from"), scratch.path().join("to"));
    std::fs::write(&from, bytes(700_000)).unwrap();
    let at = key("t/a/x.bin");
    let up = home
        .store
        .upload_file(&at, &from, "application/octet-stream")
        .await
        .unwrap();
    let again = home
        .store
        .upload_file(&at, &from, "application/octet-stream")
        .await
        .unwrap();
    assert_eq!(again.etag, up.etag);
    assert!(matches!(
        home.store
            .put(&at, b"other".as_slice().into(), "text/plain")
            .await,
        Err(Error::Exists(_))
    ));

    let expected = Expected {
        etag: up.etag,
        sha256: up.sha256,
    };
    let down = home
        .store
        .download(&at, &to, 700_000, &expected)
        .await
        .unwrap();
    assert_eq!((down.bytes, down.sha256), (700_000, expected.sha256));
    assert_eq!(std::fs::read(&to).unwrap(), bytes(700_000));
    std::fs::remove_file(&to).unwrap();

    let too_small = home.store.download(&at, &to, 699_999, &expected).await;
    assert!(matches!(
        too_small,
        Err(Error::LimitReached { limit: 699_999, .. })
    ));
    let other = Expected {
        sha256: Some(Checksum::of(b"")),
        etag: None,
    };
    assert!(matches!(
        home.store.download(&at, &to, 700_000, &other).await,
        Err(Error::ChecksumDiffers { .. })
    ));
    let other = Expected {
        etag: Some("\"other\"".into()),
        sha256: None,
    };
    assert!(matches!(
        home.store.download(&at, &to, 700_000, &other).await,
        Err(Error::Changed(_))
    ));
    assert!(!to.exists());
}

/// As the API and the worker do: a future that is not `Send` would not compile here.
#[tokio::test]
async fn work_may_be_a_task_of_its_own() {
    let home = Home::new();
    let (store, tasks) = (home.store.clone(), service::shutdown::Shutdown::new());
    let scratch = home.root.path().join("scratch");
    let task = tasks.spawn(async move {
        let at = key("a/b");
        let put = store
            .put(&at, b"hello".as_slice().into(), "text/plain")
            .await?;
        store
            .verify(&at, put.bytes, &Checksum::of(b"hello"), None)
            .await?;
        let expected = Expected {
            etag: put.etag,
            sha256: put.sha256,
        };
        store.download(&at, &scratch, 5, &expected).await?;
        store
            .upload_file(&key("a/c"), &scratch, "text/plain")
            .await?;
        store.delete(&at).await
    });
    task.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_object_that_says_how_far_something_has_come_is_replaced() {
    let home = Home::new();
    replaces(&home.store).await;
    assert_eq!(home.files().len(), 1, "nothing is left aside");
}

#[tokio::test]
async fn a_folders_objects_go_together() {
    let home = Home::new();
    deletes_under(&home.store).await;
}
