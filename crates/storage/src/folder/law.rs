//! What holds of signed URLs, whatever they permit and whatever is done to them: they permit that, until then, by the one
//! method, and nothing else. Tried on chance here, and by a fuzzer in `fuzz/fuzz_targets`.

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue};
use service::mac::MacKey;
use testing::damage::{damaged, halves};
use url::{Url, form_urlencoded};
use uuid::Uuid;

use super::sign::{SignatureError, Signer};
use crate::checksum::Checksum;
use crate::key::Key;
use crate::terms::{Presentation, PutTerms};

const NOW: DateTime<Utc> = DateTime::UNIX_EPOCH;

fn signer() -> Signer {
    Signer::new(MacKey::new(b"a secret that only laws have"))
}

fn at(key: &Key) -> Url {
    let url = format!("http://127.0.0.1/storage/{key}");
    url.parse().expect("keys need no escaping")
}

/// Key and query of a URL, as the router tells them.
fn parts(url: &str) -> (&str, &str) {
    let path = url.trim_start_matches("http://127.0.0.1/storage/");
    path.split_once('?').unwrap_or((path, ""))
}

fn field(query: &str, name: &str) -> Option<String> {
    let mut fields = form_urlencoded::parse(query.as_bytes());
    fields.find_map(|(found, value)| (found == name).then(|| value.into_owned()))
}

/// Hex digits are the same in either case.
fn signature(query: &str) -> Option<String> {
    field(query, "signature").map(|text| text.to_lowercase())
}

fn until(content: &[u8]) -> DateTime<Utc> {
    NOW + TimeDelta::seconds(1 + i64::from(content.first().copied().unwrap_or_default()))
}

/// Of permissions to put.
pub(crate) fn put(bytes: &[u8]) {
    let (content, changes) = halves(bytes);
    // A header's value, as callers promise.
    let media_type = content.iter().map(|byte| char::from(byte % 95 + 32));
    let media_type = media_type.collect::<String>().trim().to_owned();
    let terms = PutTerms {
        key: Key::original(Uuid::from_u128(1), Uuid::from_u128(2)),
        bytes: content.len() as u64,
        media_type,
        sha256: Checksum::of(content),
    };
    let (signer, until) = (signer(), until(content));
    let signed = signer.put(at(&terms.key), &terms, until);
    let mut headers = HeaderMap::new();
    let value = HeaderValue::from_str(&terms.media_type).expect("visible characters");
    headers.insert(CONTENT_TYPE, value);
    headers.insert(CONTENT_LENGTH, content.len().into());
    let (key, query) = parts(signed.url.as_str());
    let check = |key: &str, query: &str, now| signer.check_put(key, query, &headers, now);
    let permitted = Ok((terms, until));
    assert_eq!(check(key, query, NOW), permitted);
    assert_eq!(check(key, query, until), Err(SignatureError::Expired));
    assert!(signer.check_get(key, query, NOW).is_err());
    let changed = damaged(signed.url.as_str(), changes);
    let (key, query) = parts(&changed);
    let found = check(key, query, NOW);
    assert!(found.is_err() || found == permitted, "{changed}");
    // A fuzzer copies what it saw us compare: what is permitted then is what we would sign.
    let text = String::from_utf8_lossy(bytes);
    if let Ok((terms, until)) = check(key, &text, NOW) {
        let again = signer.put(at(&terms.key), &terms, until);
        assert_eq!(signature(&text), signature(parts(again.url.as_str()).1));
    }
}

/// Of permissions to get.
pub(crate) fn get(bytes: &[u8]) {
    let (content, changes) = halves(bytes);
    let (media_type, disposition) = halves(content);
    let text = |bytes| Some(String::from_utf8_lossy(bytes).into_owned());
    let shown = Presentation {
        media_type: text(media_type).filter(|text| !text.is_empty()),
        disposition: text(disposition).filter(|text| !text.is_empty()),
    };
    let key = Key::original(Uuid::from_u128(1), Uuid::from_u128(2));
    let (signer, until) = (signer(), until(content));
    let signed = signer.get(at(&key), &key, &shown, until);
    let permitted = Ok((key, shown));
    let (key, query) = parts(signed.as_str());
    assert_eq!(signer.check_get(key, query, NOW), permitted);
    let late = signer.check_get(key, query, until);
    assert_eq!(late, Err(SignatureError::Expired));
    let nothing = HeaderMap::new();
    assert!(signer.check_put(key, query, &nothing, NOW).is_err());
    let changed = damaged(signed.as_str(), changes);
    let (key, query) = parts(&changed);
    let found = signer.check_get(key, query, NOW);
    assert!(found.is_err() || found == permitted, "{changed}");
    let text = String::from_utf8_lossy(bytes);
    if let Ok((key, shown)) = signer.check_get(key, &text, NOW) {
        let until = field(&text, "expires").and_then(|text| text.parse().ok());
        let until = DateTime::from_timestamp(until.expect("it was read"), 0);
        let again = signer.get(at(&key), &key, &shown, until.expect("a time"));
        assert_eq!(signature(&text), signature(parts(again.as_str()).1));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_signed_url_permits_what_was_signed_and_nothing_else(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            super::put(&bytes);
            super::get(&bytes);
        }
    }
}
