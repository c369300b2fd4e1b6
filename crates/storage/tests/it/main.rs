//! Storage against a real S3 server and a real folder.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends at the first thing that is not as it must be"
)]

mod bucket;
mod folder;
mod parts;

use std::time::Duration;

use chrono::{DateTime, Utc};
use service::clock::Clock;
use storage::{Checksum, Config, Key, PutTerms, Store};

const QUARTER_HOUR: Duration = Duration::from_mins(15);

fn now() -> DateTime<Utc> {
    Clock::System.now()
}

fn config(storage_url: &str) -> Config {
    Config {
        storage_url: Some(storage_url.to_owned()),
        aws_access_key_id: None,
        aws_secret_access_key: None,
        public_url: None,
    }
}

fn key(text: &str) -> Key {
    text.parse().unwrap()
}

fn terms(at: &str, bytes: &[u8]) -> PutTerms {
    PutTerms {
        key: key(at),
        bytes: bytes.len() as u64,
        media_type: "video/mp4".into(),
        sha256: Checksum::of(bytes),
    }
}

/// Bytes that do not repeat within a part.
fn bytes(count: usize) -> Vec<u8> {
    let words = (0u64..).flat_map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    words.take(count).collect()
}

/// What any store does: a replacement is there at once and leaves nothing of what was before; creating still is once.
async fn replaces(store: &Store) {
    let at = key("exports/manifest.json");
    for text in ["the first, which is longer", "second", "second"] {
        store.replace(&at, text.into(), "text/plain").await.unwrap();
        assert_eq!(store.read(&at, 100).await.unwrap(), text);
    }
    let created = store.put(&at, "third".into(), "text/plain").await;
    assert!(matches!(created, Err(storage::Error::Exists(_))));
}

/// What any store does: a folder goes with all that is under it, and nothing beside it.
async fn deletes_under(store: &Store) {
    for at in ["t/asset/a", "t/asset/fast@1/b", "t/asset-2/c", "t/d"] {
        store.put(&key(at), "x".into(), "text/plain").await.unwrap();
    }
    assert_eq!(store.delete_under(&key("t/asset")).await.unwrap(), 2);
    assert_eq!(store.delete_under(&key("t/asset")).await.unwrap(), 0);
    for (at, there) in [
        ("t/asset/a", false),
        ("t/asset/fast@1/b", false),
        ("t/asset-2/c", true),
        ("t/d", true),
    ] {
        assert_eq!(store.head(&key(at)).await.unwrap().is_some(), there, "{at}");
    }
}
