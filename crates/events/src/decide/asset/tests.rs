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
        cpu_ms: None,
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
        cpu_ms: None,
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

fn asked(profile: &str, run: Option<&str>) -> Fact {
    RenditionRequested {
        asset: asset(),
        profile: profile.to_owned(),
        run: run.map(str::to_owned),
    }
    .into()
}

fn gone(job: JobId, profile: &str) -> Fact {
    RenditionCancelled {
        asset: asset(),
        job,
        profile: profile.to_owned(),
    }
    .into()
}

fn ready() -> Fact {
    AssetReady { asset: asset() }.into()
}

/// One job done, and the other failed.
fn half_done() -> Vec<Fact> {
    let failed = AssetFailed {
        asset: asset(),
        error: failure("x").error,
    };
    vec![
        requested(),
        completion(10).into(),
        made("fast@1", "poster.jpg").into(),
        failure("proxy720@1").into(),
        failed.into(),
    ]
}

#[test]
fn what_a_job_failed_to_make_can_be_asked_for_again() {
    let retry = |s: &AssetState, profile| retry_job(s, asset(), owner(), job(profile));
    let again = || asked("proxy720@1", None);
    given::<AssetState>(half_done())
        .when(|s| retry(s, "proxy720@1"))
        .then([again()]);
    given::<AssetState>(half_done())
        .when(|s| retry(s, "fast@1"))
        .refused(Refusal::WrongState("the job is done"));
    given::<AssetState>(half_done().into_iter().chain([again()]))
        .when(|s| retry(s, "proxy720@1"))
        .then([]);
    given::<AssetState>(half_done())
        .when(|s| retry_job(s, asset(), UserId(Uuid::nil()), job("proxy720@1")))
        .refused(Refusal::NotFound("asset"));
}

#[test]
fn an_asset_is_ready_once_a_retry_has_made_what_was_missing() {
    let retried = JobId::of(EventId(Uuid::from_u128(6)), "proxy720@1");
    let proxy = RenditionCompleted {
        job: retried,
        ..made("proxy720@1", "proxy.mp4")
    };
    let rendered = Rendered {
        made: vec![proxy.clone()],
        ..Rendered::default()
    };
    given::<AssetState>(half_done().into_iter().chain([asked("proxy720@1", None)]))
        .when(|s| finish_job(s, asset(), retried, rendered))
        .then([proxy.into(), ready()]);
}

#[test]
fn a_reprocessing_that_fails_takes_nothing_away() {
    let reprocessed = JobId::of(EventId(Uuid::from_u128(5)), "proxy720@1");
    let failed = RenditionFailed {
        job: reprocessed,
        ..failure("proxy720@1")
    };
    let history = [
        requested(),
        completion(10).into(),
        made("fast@1", "poster.jpg").into(),
        made("proxy720@1", "proxy.mp4").into(),
        asked("proxy720@1", Some("new")),
    ];
    given::<AssetState>(history.clone())
        .when(|s| reprocess(s, asset(), "proxy720@1", "new"))
        .then([]);
    given::<AssetState>(history[..4].to_vec())
        .when(|s| reprocess(s, asset(), "proxy720@1", "new"))
        .then([asked("proxy720@1", Some("new"))]);
    given::<AssetState>(history)
        .when(|s| fail_job(s, failed.clone()))
        .then([failed.clone().into(), ready()]);
}

#[test]
fn a_cancelled_job_is_not_waited_for() {
    let uploaded = vec![requested(), completion(10).into()];
    let cancel = |s: &AssetState| cancel_job(s, asset(), owner(), job("proxy720@1"));
    let proxy = || gone(job("proxy720@1"), "proxy720@1");
    given::<AssetState>(uploaded.clone())
        .when(cancel)
        .then([proxy()]);
    let fast = made("fast@1", "poster.jpg").into();
    given::<AssetState>(uploaded.iter().cloned().chain([fast]))
        .when(cancel)
        .then([proxy(), ready()]);
    given::<AssetState>(uploaded.into_iter().chain([proxy()]))
        .when(cancel)
        .then([]);
}

#[test]
fn what_kills_its_renderers_is_quarantined_with_all_its_jobs() {
    let uploaded = vec![requested(), completion(10).into()];
    let reason = failure("x").error.message;
    let facts = [
        failure("fast@1").into(),
        gone(job("proxy720@1"), "proxy720@1"),
        AssetQuarantined {
            asset: asset(),
            reason,
        }
        .into(),
    ];
    given::<AssetState>(uploaded.clone())
        .when(|s| quarantine(s, failure("fast@1")))
        .then(facts.clone());
    let refused = || Refusal::WrongState("the asset is quarantined: it killed its renderers");
    let after = || given::<AssetState>(uploaded.iter().cloned().chain(facts.clone()));
    after()
        .when(|s| quarantine(s, failure("proxy720@1")))
        .then([]);
    after()
        .when(|s| request_rendition(s, asset(), owner(), "edit@1"))
        .refused(refused());
    after()
        .when(|s| retry_job(s, asset(), owner(), job("fast@1")))
        .refused(refused());
    after()
        .when(|s| reprocess(s, asset(), "fast@1", "new"))
        .refused(refused());
}
