//! Objects that come in parts, on a real S3 server.

use reqwest::StatusCode;
use storage::{Checksum, Error, PART_MIN, Parts};

use crate::bucket::Cloud;
use crate::{QUARTER_HOUR, key, now};

/// Two whole parts and a short one.
fn body() -> Vec<u8> {
    let bytes = PART_MIN * 2 + 7;
    (0..bytes).map(|n| u8::try_from(n % 251).unwrap()).collect()
}

async fn begun(cloud: &Cloud, body: &[u8]) -> Parts {
    let key = key("incoming/a/large");
    let upload = cloud.store.begin_parts(&key, "video/mp4").await.unwrap();
    Parts {
        key,
        upload: upload.unwrap(),
        bytes: body.len() as u64,
        part_bytes: PART_MIN,
    }
}

/// Puts the part as signed, or these bytes in its place.
async fn put(cloud: &Cloud, parts: &Parts, number: u32, body: &[u8]) -> StatusCode {
    let signed = cloud.store.sign_part(parts, number, QUARTER_HOUR, now());
    cloud.put(&signed.unwrap(), body).await.status()
}

fn piece<'a>(parts: &Parts, number: u32, body: &'a [u8]) -> &'a [u8] {
    let from = usize::try_from(u64::from(number - 1) * parts.part_bytes).unwrap();
    &body[from..from + usize::try_from(parts.bytes_of(number).unwrap()).unwrap()]
}

async fn there(cloud: &Cloud, parts: &Parts) -> Vec<u32> {
    cloud.store.parts(parts).await.unwrap()
}

#[tokio::test]
async fn parts_come_in_any_order_and_make_one_object() {
    let (cloud, body) = (Cloud::new().await, body());
    let parts = begun(&cloud, &body).await;
    assert_eq!(there(&cloud, &parts).await, [0; 0]);
    for number in [3, 1] {
        let status = put(&cloud, &parts, number, piece(&parts, number, &body)).await;
        assert_eq!(status, StatusCode::OK);
    }
    assert_eq!(there(&cloud, &parts).await, [1, 3]);
    let missing = cloud.store.join_parts(&parts).await.unwrap_err();
    assert!(
        matches!(&missing, Error::PartsMissing { missing, .. } if missing == &[2]),
        "{missing}"
    );
    put(&cloud, &parts, 2, piece(&parts, 2, &body)).await;
    cloud.store.join_parts(&parts).await.unwrap();
    cloud.store.join_parts(&parts).await.unwrap();
    assert_eq!(there(&cloud, &parts).await, [1, 2, 3]);
    let facts = cloud
        .store
        .verify(&parts.key, parts.bytes, &Checksum::of(&body), None)
        .await;
    assert!(facts.unwrap().etag.is_some());
}

#[tokio::test]
async fn a_part_of_another_size_is_refused() {
    let (cloud, body) = (Cloud::new().await, body());
    let parts = begun(&cloud, &body).await;
    let signed = cloud.store.sign_part(&parts, 1, QUARTER_HOUR, now());
    let short = cloud
        .put_with(&signed.unwrap(), b"short", |_, _| "5".to_owned())
        .await;
    assert_eq!(short.status(), StatusCode::FORBIDDEN);
    assert_eq!(there(&cloud, &parts).await, [0; 0]);
    for number in [0, 4, 70_000] {
        let signed = cloud.store.sign_part(&parts, number, QUARTER_HOUR, now());
        assert!(signed.is_err(), "{number}");
    }
}

#[tokio::test]
async fn what_is_given_up_is_gone() {
    let (cloud, body) = (Cloud::new().await, body());
    let parts = begun(&cloud, &body).await;
    put(&cloud, &parts, 1, piece(&parts, 1, &body)).await;
    let give_up = || cloud.store.give_up_parts(&parts.key, &parts.upload);
    give_up().await.unwrap();
    assert_eq!(there(&cloud, &parts).await, [0; 0]);
    assert!(cloud.store.join_parts(&parts).await.is_err());
    assert_eq!(cloud.store.head(&parts.key).await.unwrap(), None);
    let late = put(&cloud, &parts, 2, piece(&parts, 2, &body)).await;
    assert!(late.is_client_error(), "{late}");
}

#[tokio::test]
async fn more_parts_than_fit_a_page_are_all_found() {
    let cloud = Cloud::new().await;
    let mut parts = begun(&cloud, &body()).await;
    // Small ones: the server looks at sizes only when it joins.
    (parts.part_bytes, parts.bytes) = (1, 1003);
    for number in 1..=1003 {
        assert_eq!(put(&cloud, &parts, number, b"x").await, StatusCode::OK);
    }
    assert_eq!(there(&cloud, &parts).await.len(), 1003);
}
