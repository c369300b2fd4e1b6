//! Asking again for what was made before.

use std::num::NonZeroU32;

use events::decide::asset::{Rendered, delete, finish_job};
use events::fact::Fact;
use events::fact::asset::RenditionCompleted;
use events::id::{AssetId, JobId};
use testing::process::Child;
use testing::wait;
use transcoder::error::{JobError, Kind};
use transcoder::profile::Profile;
use transcoder::reprocess::{Asked, Wanted, ask};

use super::world::{BINARY, LIMIT, MASTER_KEY, World, owner};

/// An asset whose proxy is there, as far as the log knows.
async fn rendered(world: &World) -> AssetId {
    let asset = world.upload_for(b"x".to_vec(), &["proxy720@1"]).await;
    let uploaded = world.facts(asset).await[1].event_id;
    let job = JobId::of(uploaded, "proxy720@1");
    let made = RenditionCompleted {
        asset,
        job,
        profile: "proxy720@1".to_owned(),
        name: "proxy.mp4".to_owned(),
        storage_key: "out".to_owned(),
        media_type: "video/mp4".to_owned(),
        bytes: 1,
        sha256: "bb".to_owned(),
        width: None,
        height: None,
        duration_ms: None,
        cpu_ms: None,
    };
    let rendered = Rendered {
        made: vec![made],
        ..Rendered::default()
    };
    world
        .execute("finish", asset, |state| {
            finish_job(state, asset, job, rendered.clone())
        })
        .await;
    asset
}

fn all_proxies(run: &str, waiting: u32) -> Wanted {
    Wanted {
        asset: None,
        profile: Some("proxy720@1".to_owned()),
        instead: None,
        run: run.to_owned(),
        waiting: NonZeroU32::new(waiting).unwrap(),
    }
}

/// What runs have asked for, by asset: profile and run.
async fn requests(world: &World, asset: AssetId) -> Vec<(String, Option<String>)> {
    let facts = world.facts(asset).await.into_iter();
    facts
        .filter_map(|fact| match fact.fact {
            Fact::RenditionRequested(wanted) => Some((wanted.profile, wanted.run)),
            _ => None,
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_asks_once_for_each_and_comes_after_all_others() {
    let world = World::new().await;
    let (one, other, gone) = (
        rendered(&world).await,
        rendered(&world).await,
        rendered(&world).await,
    );
    world
        .execute("delete", gone, |state| delete(state, gone, owner()))
        .await;
    let fold = world.fold();
    world.folded().await;
    let run = async |wanted| {
        ask(&world.pool, &world.log, wanted, &world.shutdown)
            .await
            .unwrap()
    };
    let asked = |asked, skipped| Asked { asked, skipped };
    assert_eq!(run(all_proxies("new", 10)).await, asked(2, 1));
    world.folded().await;
    assert_eq!(run(all_proxies("new", 10)).await, asked(0, 1));
    assert_eq!(
        run(all_proxies("newer", 10)).await,
        asked(0, 3),
        "jobs are at it already"
    );
    let again = ("proxy720@1".to_owned(), Some("new".to_owned()));
    for asset in [one, other] {
        assert_eq!(requests(&world, asset).await, vec![again.clone(); 1]);
    }
    let queued: Vec<(i16, Option<String>)> =
        sqlx::query_as("SELECT class, run FROM jobs.jobs WHERE state = 'queued'")
            .fetch_all(&world.pool)
            .await
            .unwrap();
    assert_eq!(queued, vec![(3, Some("new".to_owned())); 2]);

    let instead = Wanted {
        asset: Some(one),
        instead: Some(Profile::Fast1),
        ..all_proxies("new", 10)
    };
    assert_eq!(run(instead).await, asked(1, 0));
    assert_eq!(requests(&world, one).await.len(), 2);
    assert!(fold.finish(LIMIT).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn few_wait_at_once_and_a_run_that_is_stopped_goes_on() {
    let world = World::new().await;
    let mut assets = vec![];
    for _ in 0..5 {
        assets.push(rendered(&world).await);
    }
    let fold = world.fold();
    world.folded().await;
    let (pool, log) = (world.pool.clone(), world.log.clone());
    let stop = world.shutdown.child();
    let stopped = stop.clone();
    let first = world
        .shutdown
        .spawn(async move { ask(&pool, &log, all_proxies("new", 2), &stopped).await });
    let queued = async || -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM jobs.jobs WHERE state = 'queued'")
            .fetch_one(&world.pool)
            .await
            .unwrap()
    };
    wait::until_true(LIMIT, "two wait", async || queued().await == 2).await;
    world.folded().await;
    assert_eq!(queued().await, 2);
    stop.cancel();
    let error = first.await.unwrap().unwrap_err();
    let error: JobError = error.downcast().unwrap();
    assert_eq!(error.kind, Kind::Cancelled);
    assert_eq!(
        error.message,
        "stopped after 2 renditions; the same command goes on from here"
    );

    let (pool, log, end) = (
        world.pool.clone(),
        world.log.clone(),
        world.shutdown.clone(),
    );
    let second = world
        .shutdown
        .spawn(async move { ask(&pool, &log, all_proxies("new", 2), &end).await });
    wait::until_true(LIMIT, "it has asked for the rest", async || {
        assert!(queued().await <= 2);
        // As a worker would.
        sqlx::query("UPDATE jobs.jobs SET state = 'done' WHERE state = 'queued'")
            .execute(&world.pool)
            .await
            .unwrap();
        second.is_finished()
    })
    .await;
    let asked = second.await.unwrap().unwrap();
    assert_eq!(
        asked,
        Asked {
            asked: 3,
            skipped: 0
        }
    );
    for asset in assets {
        assert_eq!(requests(&world, asset).await.len(), 1);
    }
    assert!(fold.finish(LIMIT).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_says_what_it_did_and_what_it_does_not_know() {
    let world = World::new().await;
    let asset = rendered(&world).await;
    let fold = world.fold();
    world.folded().await;
    let start = |options: &[&str]| {
        Child::start(
            BINARY,
            &[&["reprocess"], options].concat(),
            &[
                ("DATABASE_URL", world.database.url().expose()),
                ("MASTER_KEY", MASTER_KEY),
            ],
        )
    };
    let asset = asset.to_string();
    let ended = start(&[&asset]).finish(LIMIT).await;
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(ended.stdout, "renditions asked for: 1; skipped: 0\n");
    let unknown = start(&["--profile", "proxy9@1"]).finish(LIMIT).await;
    assert_eq!(unknown.status.code(), Some(2), "{unknown:?}");
    let nothing = start(&[]).finish(LIMIT).await;
    assert_eq!(nothing.status.code(), Some(2), "{nothing:?}");
    assert!(fold.finish(LIMIT).await);
}
