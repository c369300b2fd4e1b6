//! The table of jobs: folded, claimed, given back.

use std::time::Duration;

use events::decide::asset::{delete, request_rendition};
use service::db::Role;
use testing::{clip, wait};
use transcoder::job::{Class, Jobs};

use super::world::{LIMIT, World, claim, owner, read};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_queue_folded_again_from_nothing_is_the_same() {
    let world = World::new().await;
    let bad = world.upload(b"hello, world".to_vec()).await;
    let worker = world.work();
    world.settled(bad).await;
    let ready = world.upload_for(read(&clip::tone(1)), &["fast@1"]).await;
    world.settled(ready).await;
    world.folded().await;
    assert!(worker.finish(LIMIT).await);
    world
        .execute("more", ready, |state| {
            request_rendition(state, ready, owner(), "edit@1")
        })
        .await;
    let waiting = world.upload_for(b"still here".to_vec(), &["fast@1"]).await;
    let deleted = world.upload(b"soon gone".to_vec()).await;
    world
        .execute("delete", deleted, |state| delete(state, deleted, owner()))
        .await;

    let fold = world.fold();
    world.folded().await;
    let before = world.rows().await;
    assert!(fold.finish(LIMIT).await);
    let states: Vec<String> = world
        .states()
        .await
        .into_iter()
        .map(|(_, state, _)| state)
        .collect();
    let expected = [
        "failed",
        "failed",
        "done",
        "queued",
        "queued",
        "cancelled",
        "cancelled",
    ];
    assert_eq!(states, expected);

    let owner_pool = world.database.pool(Role::Owner).await;
    sqlx::raw_sql("TRUNCATE jobs.jobs; UPDATE subscription.checkpoints SET position = 0 WHERE subscription = 'jobs'")
        .execute(&owner_pool)
        .await
        .unwrap();
    let fold = world.fold();
    world.folded().await;
    assert_eq!(world.rows().await, before);
    assert!(fold.finish(LIMIT).await);

    // Folded once more over what is there: nothing comes back to life.
    sqlx::query("UPDATE subscription.checkpoints SET position = 0 WHERE subscription = 'jobs'")
        .execute(&owner_pool)
        .await
        .unwrap();
    let fold = world.fold();
    world.folded().await;
    assert_eq!(world.rows().await, before);
    assert!(fold.finish(LIMIT).await);
    let _ = waiting;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_ended_before_its_end_was_folded_again_is_not_done_again() {
    let world = World::new().await;
    let worker = world.work();
    let asset = world.upload_for(read(&clip::tone(1)), &["fast@1"]).await;
    let facts = world.settled(asset).await;
    world.folded().await;
    // As a replay that has come to the upload but not to its end.
    sqlx::query("UPDATE jobs.jobs SET state = 'queued'")
        .execute(&world.pool)
        .await
        .unwrap();
    wait::until_true(LIMIT, "the job is settled", async || {
        world.states().await == [("fast@1".to_owned(), "done".to_owned(), 2)]
    })
    .await;
    assert_eq!(world.settled(asset).await, facts);
    assert!(worker.finish(LIMIT).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_are_exclusive_and_the_urgent_come_first() {
    let world = World::new().await;
    for _ in 0..6 {
        world.upload(b"anything".to_vec()).await;
    }
    let fold = world.fold();
    world.folded().await;
    let jobs = Jobs::new(world.pool.clone());
    let claims = (0..20).map(|n| jobs.claim(None, n % 3 + 1));
    let claimed = futures::future::join_all(claims).await;
    let claimed: Vec<_> = claimed.into_iter().flat_map(Result::unwrap).collect();
    let mut ids: Vec<_> = claimed.iter().map(|job| job.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((claimed.len(), ids.len()), (12, 12));
    let first_six: Vec<_> = claimed
        .iter()
        .filter(|job| job.profile == "fast@1")
        .collect();
    assert_eq!(first_six.len(), 6);

    jobs.give_back(&claimed[0], Duration::ZERO, true)
        .await
        .unwrap();
    assert!(
        !jobs.hold(&claimed[0]).await.unwrap(),
        "given back is not ours"
    );
    assert!(claim(&jobs, Some(Class::Bulk)).await.is_none());
    let again = claim(&jobs, None).await.unwrap();
    assert_eq!((again.id, again.attempts), (claimed[0].id, 2));
    jobs.give_back(&again, Duration::from_hours(1), true)
        .await
        .unwrap();
    assert!(claim(&jobs, None).await.is_none(), "it waits first");

    let held = &claimed[1];
    assert!(jobs.hold(held).await.unwrap());
    world
        .execute("delete", held.asset, |state| {
            delete(state, held.asset, owner())
        })
        .await;
    world.folded().await;
    assert!(
        !jobs.hold(held).await.unwrap(),
        "a deleted asset's jobs are nobody's"
    );
    assert!(fold.finish(LIMIT).await);
}
