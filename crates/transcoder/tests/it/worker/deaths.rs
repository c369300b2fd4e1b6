//! Children that die, by whose fault, and what comes of it.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use events::decide::asset::retry_job;
use events::fact::Fact;
use events::fact::asset::{AssetQuarantined, RenditionFailed};
use events::id::{AssetId, JobId};
use testing::{clip, wait};
use transcoder::worker::Config;

use super::world::{LIMIT, World, owner, read};

/// A child that hears what it shall do and dies of a signal.
fn that_dies_of(signal: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("child");
    std::fs::write(
        &program,
        format!("#!/bin/sh\nread request\nkill -{signal} $$\n"),
    )
    .unwrap();
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&program, executable.clone()).unwrap();
    std::fs::set_permissions(folder.path(), executable).unwrap();
    (folder, program)
}

async fn last(world: &World, asset: AssetId) -> Option<Fact> {
    world.facts(asset).await.pop().map(|fact| fact.fact)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_input_that_kills_two_children_is_quarantined() {
    let world = World::new().await;
    let (_folder, child) = that_dies_of("SEGV");
    let worker = world.work_by(&child, Config::default());
    let asset = world.upload(read(&clip::tone(1))).await;
    wait::until_true(LIMIT, "the asset is quarantined", async || {
        matches!(last(&world, asset).await, Some(Fact::AssetQuarantined(_)))
    })
    .await;
    world.folded().await;
    let facts = world.facts(asset).await;
    let Some(Fact::AssetQuarantined(AssetQuarantined { reason, .. })) =
        facts.last().map(|fact| &fact.fact)
    else {
        panic!("{facts:?}");
    };
    assert_eq!(reason, "the child died of signal 11");
    let failed: Vec<&RenditionFailed> = facts
        .iter()
        .filter_map(|fact| match &fact.fact {
            Fact::RenditionFailed(failed) => Some(failed),
            _ => None,
        })
        .collect();
    assert_eq!(failed.len(), 1, "{facts:?}");
    assert_eq!(failed[0].error.kind, "died");
    assert!(!failed[0].error.retryable);
    let mut states: Vec<String> = world.states().await.into_iter().map(|row| row.1).collect();
    states.sort();
    assert_eq!(states, ["cancelled", "failed"]);
    assert!(worker.finish(LIMIT).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_that_the_kernel_kills_is_tried_again_with_fewer_at_once() {
    let world = World::new().await;
    let (_folder, child) = that_dies_of("KILL");
    let worker = world.work_by(&child, Config::default());
    let asset = world.upload_for(read(&clip::tone(1)), &["fast@1"]).await;
    wait::until_true(LIMIT, "the job waits", async || {
        world.states().await == [("fast@1".to_owned(), "queued".to_owned(), 1)]
    })
    .await;
    wait::until_true(LIMIT, "there is one slot fewer", async || {
        let slots: Option<i32> = sqlx::query_scalar("SELECT slots FROM jobs.workers")
            .fetch_optional(&world.pool)
            .await
            .unwrap();
        slots == Some(1)
    })
    .await;
    assert_eq!(world.facts(asset).await.len(), 2, "nobody is told yet");
    assert!(worker.finish(LIMIT).await);
    let workers: i64 = sqlx::query_scalar("SELECT count(*) FROM jobs.workers")
        .fetch_one(&world.pool)
        .await
        .unwrap();
    assert_eq!(workers, 0, "one that has ended has no slots");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_failed_can_be_retried_and_makes_the_asset_ready() {
    let world = World::new().await;
    let (_folder, child) = that_dies_of("XCPU");
    let worker = world.work_by(&child, Config::default());
    let asset = world.upload_for(read(&clip::tone(1)), &["fast@1"]).await;
    let facts = world.settled(asset).await;
    let Some(Fact::AssetFailed(failed)) = facts.last() else {
        panic!("{facts:?}");
    };
    assert_eq!(failed.error.kind, "limit");
    assert!(worker.finish(LIMIT).await);

    let uploaded = world.facts(asset).await[1].event_id;
    let job = JobId::of(uploaded, "fast@1");
    world
        .execute("retry", asset, |state| {
            retry_job(state, asset, owner(), job)
        })
        .await;
    let worker = world.work();
    wait::until_true(LIMIT, "the asset is ready", async || {
        matches!(last(&world, asset).await, Some(Fact::AssetReady(_)))
    })
    .await;
    world.folded().await;
    let states = [
        ("fast@1".to_owned(), "failed".to_owned(), 1),
        ("fast@1".to_owned(), "done".to_owned(), 1),
    ];
    assert_eq!(world.states().await, states);
    assert!(worker.finish(LIMIT).await);
}
