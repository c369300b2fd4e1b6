//! `given(facts).when(decider).then(facts)`.

use super::*;
use crate::decide::testing::given;
use uuid::Uuid;

fn asset() -> AssetId {
    AssetId(Uuid::from_u128(5))
}

fn owner() -> UserId {
    UserId(Uuid::from_u128(1))
}

fn requested() -> Fact {
    UploadRequested {
        asset: asset(),
        owner: owner(),
        file_name: "gato.mp4".into(),
        media_type: "video/mp4".to_owned(),
        bytes: 10,
        sha256: "aa".to_owned(),
        storage_key: "k".to_owned(),
        expires_at: DateTime::UNIX_EPOCH,
    }
    .into()
}

fn completion(bytes: u64) -> UploadCompleted {
    UploadCompleted {
        asset: asset(),
        owner: owner(),
        storage_key: "k".to_owned(),
        bytes,
        sha256: "aa".to_owned(),
        etag: None,
        media_type: "video/mp4".to_owned(),
        profiles: vec!["fast@1".to_owned(), "proxy720@1".to_owned()],
    }
}

/// `given` numbers its facts from 1, and the completion is always the second.
fn job(profile: &str) -> JobId {
    JobId::of(EventId(Uuid::from_u128(2)), profile)
}

fn made(profile: &str, name: &str) -> RenditionCompleted {
    RenditionCompleted {
        asset: asset(),
        job: job(profile),
        profile: profile.to_owned(),
        name: name.to_owned(),
        storage_key: "out".to_owned(),
        media_type: "x".to_owned(),
        bytes: 1,
        sha256: "bb".to_owned(),
        width: None,
        height: None,
        duration_ms: None,
    }
}

fn failure(profile: &str) -> RenditionFailed {
    let error = MediaError {
        kind: "input".to_owned(),
        message: "not media".to_owned(),
        retryable: false,
    };
    RenditionFailed {
        asset: asset(),
        job: job(profile),
        profile: profile.to_owned(),
        name: None,
        error,
    }
}

fn rendered(profile: &str, name: &str) -> Rendered {
    Rendered {
        made: vec![made(profile, name)],
        ..Rendered::default()
    }
}

#[test]
fn an_upload_completes_once_and_only_with_what_was_promised() {
    given::<AssetState>([requested()])
        .when(|s| complete_upload(s, completion(10), DateTime::UNIX_EPOCH))
        .then([completion(10).into()]);
    given::<AssetState>([requested(), completion(10).into()])
        .when(|s| complete_upload(s, completion(10), DateTime::UNIX_EPOCH))
        .then([]);
    given::<AssetState>([requested()])
        .when(|s| complete_upload(s, completion(11), DateTime::UNIX_EPOCH))
        .refused(Refusal::WrongState(
            "the stored bytes are not those that were promised",
        ));
    let stranger = UploadCompleted {
        owner: UserId(Uuid::from_u128(2)),
        ..completion(10)
    };
    given::<AssetState>([requested()])
        .when(|s| complete_upload(s, stranger, DateTime::UNIX_EPOCH))
        .refused(Refusal::NotFound("asset"));
}

#[test]
fn an_upload_that_expired_is_not_completed() {
    let late = DateTime::UNIX_EPOCH + chrono::Duration::seconds(1);
    given::<AssetState>([requested()])
        .when(|s| complete_upload(s, completion(10), late))
        .refused(Refusal::WrongState(
            "this upload has expired: begin a new one",
        ));
}

#[test]
fn the_asset_is_ready_with_its_last_job() {
    let history = [requested(), completion(10).into()];
    let fast = rendered("fast@1", "poster.jpg");
    given::<AssetState>(history.clone())
        .when(|s| finish_job(s, asset(), job("fast@1"), fast))
        .then([made("fast@1", "poster.jpg").into()]);
    let proxy = rendered("proxy720@1", "proxy.mp4");
    given::<AssetState>(
        history
            .into_iter()
            .chain([made("fast@1", "poster.jpg").into()]),
    )
    .when(|s| finish_job(s, asset(), job("proxy720@1"), proxy))
    .then([
        made("proxy720@1", "proxy.mp4").into(),
        AssetReady { asset: asset() }.into(),
    ]);
}

#[test]
fn a_job_ends_once() {
    let history = [
        requested(),
        completion(10).into(),
        made("fast@1", "poster.jpg").into(),
    ];
    given::<AssetState>(history)
        .when(|s| finish_job(s, asset(), job("fast@1"), rendered("fast@1", "poster.jpg")))
        .then([]);
}

#[test]
fn an_asset_whose_jobs_all_failed_has_failed() {
    let history = [requested(), completion(10).into(), failure("fast@1").into()];
    let fact: Fact = AssetFailed {
        asset: asset(),
        error: failure("x").error,
    }
    .into();
    given::<AssetState>(history)
        .when(|s| fail_job(s, failure("proxy720@1")))
        .then([failure("proxy720@1").into(), fact]);
}

#[test]
fn an_unknown_job_is_refused() {
    given::<AssetState>([requested(), completion(10).into()])
        .when(|s| fail_job(s, failure("edit@1")))
        .refused(Refusal::NotFound("job"));
}

#[test]
fn an_upload_expires_after_its_time_only() {
    let late = DateTime::UNIX_EPOCH + chrono::Duration::seconds(1);
    let expired: Fact = UploadExpired { asset: asset() }.into();
    given::<AssetState>([requested()])
        .when(|s| expire_upload(s, asset(), late))
        .then([expired]);
    given::<AssetState>([requested()])
        .when(|s| expire_upload(s, asset(), DateTime::UNIX_EPOCH))
        .then([]);
}
