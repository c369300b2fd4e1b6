//! The worker against a real log, a real queue and a real store: every job ends once, whoever dies on the way.

mod crash;
mod deaths;
mod objects;
mod queue;
mod reprocess;
mod turns;
mod world;

use std::path::Path;

use events::fact::Fact;
use storage::{Checksum, Key};
use testing::clip;
use testing::s3::S3Server;
use testing::wait;

use self::world::{LIMIT, World, assert_whole, outline, read};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_becomes_outputs_in_the_bucket_and_one_ready_asset() {
    let server = S3Server::start().await;
    let world = World::on(&server).await;
    let worker = world.work();
    let asset = world.upload(read(&clip::video(320, 180, "25", 2))).await;
    let facts = world.settled(asset).await;
    assert_whole(&facts);
    for job in ["fast@1", "proxy720@1"] {
        let told = facts.iter().filter_map(|fact| match fact {
            Fact::RenditionCompleted(made) if made.profile == job => made.cpu_ms,
            _ => None,
        });
        let told: Vec<u64> = told.collect();
        assert!(told.len() == 1 && told[0] > 0, "{job}: {told:?}");
    }
    for fact in &facts {
        match fact {
            Fact::RenditionCompleted(made) => {
                let key: Key = made.storage_key.parse().unwrap();
                let bytes = world.store.read(&key, 1 << 24).await.unwrap();
                assert_eq!(
                    Checksum::of(&bytes).to_string(),
                    made.sha256,
                    "{}",
                    made.name
                );
                assert_eq!(bytes.len() as u64, made.bytes, "{}", made.name);
            }
            Fact::AssetProbed(probed) => {
                let media = &probed.media;
                assert_eq!((media.width, media.height), (Some(320), Some(180)));
                let rate = media.frame_rate.map(|rate| (rate.num, rate.den.get()));
                assert_eq!(rate, Some((25, 1)));
                assert_eq!(media.video_codec.as_deref(), Some("h264"));
                assert_eq!(
                    (media.audio_codec.as_deref(), media.channels),
                    (Some("aac"), Some(1))
                );
                assert!(media.duration_ms.unwrap().abs_diff(2000) < 50, "{media:?}");
            }
            _ => {}
        }
    }
    world.folded().await;
    let done = |profile: &str| (profile.to_owned(), "done".to_owned(), 1);
    assert_eq!(world.states().await, [done("fast@1"), done("proxy720@1")]);
    let progress: i64 = sqlx::query_scalar("SELECT count(*) FROM jobs.progress")
        .fetch_one(&world.pool)
        .await
        .unwrap();
    assert_eq!(progress, 0, "an ended job has no progress");
    assert!(worker.finish(LIMIT).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_media_fails_once_per_job_and_is_not_tried_again() {
    let world = World::new().await;
    let worker = world.work();
    let text = world
        .upload(b"To be, or not to be: that is the question.\n".repeat(200))
        .await;
    let silent = world.upload(vec![0; 64]).await;
    for asset in [text, silent] {
        let facts = world.settled(asset).await;
        assert_eq!(
            outline(&facts),
            ["rendition.failed", "rendition.failed", "asset.failed"]
        );
        for fact in &facts {
            if let Fact::RenditionFailed(failed) = fact {
                assert_eq!(failed.error.kind, "input");
                assert!(failed.error.message.contains("not media"), "{failed:?}");
                assert!(!failed.error.retryable);
            }
        }
    }
    world.folded().await;
    assert!(
        world
            .states()
            .await
            .iter()
            .all(|(_, state, attempts)| state == "failed" && *attempts == 1)
    );
    let dated: bool = sqlx::query_scalar("SELECT bool_and(ended_on IS NOT NULL) FROM jobs.jobs")
        .fetch_one(&world.pool)
        .await
        .unwrap();
    assert!(dated, "each tells when it ended");
    assert!(worker.finish(LIMIT).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_are_not_those_that_were_uploaded_are_the_input_s_fault() {
    let world = World::new().await;
    let asset = world.upload(read(&clip::tone(1))).await;
    let other = read(&clip::tone(2));
    let folder = Path::new(world.storage.storage_url.as_deref().unwrap());
    let key = Key::original(world.tenant.0, asset.0);
    std::fs::write(folder.join(key.as_str()), other).unwrap();

    let worker = world.work();
    let facts = world.settled(asset).await;
    let Some(Fact::AssetFailed(failed)) = facts.last() else {
        panic!("{facts:?}");
    };
    assert_eq!(failed.error.kind, "input");
    assert_eq!(
        failed.error.message,
        "the stored object is not what was uploaded"
    );
    assert!(worker.finish(LIMIT).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_original_is_tried_again_and_comes_out_whole_once_it_is_back() {
    let world = World::new().await;
    let bytes = read(&clip::tone(3));
    let asset = world.upload_for(bytes.clone(), &["fast@1"]).await;
    let key = Key::original(world.tenant.0, asset.0);
    world.store.delete(&key).await.unwrap();
    let worker = world.work();
    wait::until_true(LIMIT, "the job was tried and waits", async || {
        world.states().await == [("fast@1".to_owned(), "queued".to_owned(), 1)]
    })
    .await;
    assert_eq!(world.facts(asset).await.len(), 2, "nobody is told yet");
    world
        .store
        .put(&key, bytes.into(), "audio/wav")
        .await
        .unwrap();
    let facts = world.settled(asset).await;
    assert!(
        matches!(facts.last(), Some(Fact::AssetReady(_))),
        "{facts:?}"
    );
    assert!(worker.finish(LIMIT).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_is_not_mounted_is_not_taken_for_an_empty_store() {
    let mut world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    for place in [folder.path().join("nowhere"), folder.path().to_owned()] {
        world.storage.storage_url = place.to_str().map(str::to_owned);
        let ended = world.start(&["--exit-when-idle"], "").finish(LIMIT).await;
        assert_eq!(ended.status.code(), Some(6), "{ended:?}");
        let last = ended.stderr.lines().last().unwrap();
        assert!(
            last.starts_with("error: infra: ") && last.contains("is not a store"),
            "{ended:?}"
        );
    }
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sound_alone_is_ready_with_a_waveform_and_says_nothing_of_posters() {
    let world = World::new().await;
    let worker = world.work();
    let asset = world.upload(read(&clip::tone(1))).await;
    let facts = world.settled(asset).await;
    let mut outline = outline(&facts);
    outline.sort();
    assert!(
        outline.contains(&"fast@1 waveform.dat".to_owned()),
        "{outline:?}"
    );
    assert!(outline.contains(&"asset.ready".to_owned()), "{outline:?}");
    assert!(
        !outline.contains(&"rendition.failed".to_owned()),
        "{outline:?}"
    );
    assert!(worker.finish(LIMIT).await);
}
