//! What lies in storage: all that is named and, in the end, nothing else.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use events::decide::asset::{
    abort_upload, complete_upload, delete, request_rendition, request_upload,
};
use events::fact::Fact;
use events::fact::asset::{UploadCompleted, UploadRequested};
use events::id::AssetId;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use service::clock::Clock;
use service::db::Role;
use storage::{Checksum, Key};
use testing::{clip, environment, wait};
use transcoder::objects::sweep;
use uuid::Uuid;

use super::world::{LIMIT, World, owner, read};

const DAY: Duration = Duration::from_hours(24);

impl World {
    async fn swept(&self, spare: Duration) -> u64 {
        sweep(&self.pool, &self.store, spare).await.unwrap()
    }

    /// Keys of all that lies in the folder.
    fn stored(&self) -> BTreeSet<String> {
        let root = Path::new(self.storage.storage_url.as_deref().unwrap());
        let (mut folders, mut keys) = (vec![root.to_owned()], BTreeSet::new());
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let key = path.strip_prefix(root).unwrap().to_str().unwrap();
                match path.is_dir() {
                    true if key == ".incoming" => {}
                    true => folders.push(path),
                    false => drop(keys.insert(key.to_owned())),
                }
            }
        }
        keys
    }

    /// Keys that the facts of these assets name, deleted ones aside: the latest for each name.
    async fn named(&self, assets: &[AssetId]) -> BTreeSet<String> {
        let mut named = BTreeSet::new();
        for asset in assets {
            let mut renditions = std::collections::BTreeMap::new();
            for recorded in self.facts(*asset).await {
                let (name, key) = match recorded.fact {
                    Fact::UploadCompleted(fact) => (String::new(), fact.storage_key),
                    Fact::RenditionCompleted(fact) => (fact.name, fact.storage_key),
                    Fact::AssetDeleted(_) => {
                        renditions.clear();
                        continue;
                    }
                    _ => continue,
                };
                renditions.insert(name, key);
            }
            named.extend(renditions.into_values());
        }
        named
    }

    /// What has no name has had none for days, and who took it on is long silent.
    #[cfg(feature = "failpoints")]
    async fn days_go_by(&self) {
        sqlx::query(
            "UPDATE jobs.objects SET since = since - interval '3 days', doomed_at = doomed_at - interval '3 days'
             WHERE names = '{}'",
        )
        .execute(&self.pool)
        .await
        .unwrap();
    }

    async fn request(&self, expires_at: DateTime<Utc>) -> AssetId {
        let asset = AssetId(Uuid::now_v7());
        let key = Key::original(self.tenant.0, asset.0);
        let requested = UploadRequested {
            asset,
            owner: owner(),
            file_name: "gato.mp4".into(),
            media_type: "video/mp4".to_owned(),
            bytes: 4,
            sha256: Checksum::of(b"gato").to_string(),
            storage_key: key.as_str().to_owned(),
            expires_at,
        };
        self.execute("request", asset, |state| {
            request_upload(state, requested.clone())
        })
        .await;
        self.store
            .put(&key, "gato".into(), "video/mp4")
            .await
            .unwrap();
        asset
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_deleted_asset_had_is_taken_away_and_others_keep_theirs() {
    let world = World::new().await;
    let worker = world.work();
    let bytes = read(&clip::tone(1));
    let kept = world.upload_for(bytes.clone(), &["fast@1"]).await;
    let deleted = world.upload_for(bytes, &["fast@1"]).await;
    for asset in [kept, deleted] {
        world.settled(asset).await;
    }
    world.folded().await;
    assert_eq!(world.stored(), world.named(&[kept, deleted]).await);
    assert_eq!(world.swept(Duration::ZERO).await, 0, "all has a name");

    world
        .execute("delete", deleted, |state| delete(state, deleted, owner()))
        .await;
    world.folded().await;
    assert_eq!(
        world.swept(DAY).await,
        0,
        "whoever sees it has time to go on"
    );
    assert!(world.swept(Duration::ZERO).await > 1);
    assert_eq!(world.stored(), world.named(&[kept]).await);
    assert!(worker.finish(LIMIT).await);
}

/// Killed before or after objects were taken away, a sweep is ended by a later one.
#[cfg(feature = "failpoints")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_that_is_killed_is_ended_by_a_later_one() {
    let world = World::new().await;
    let worker = world.work();
    let asset = world.upload_for(read(&clip::tone(1)), &["fast@1"]).await;
    world.settled(asset).await;
    world
        .execute("delete", asset, |state| delete(state, asset, owner()))
        .await;
    world.folded().await;
    assert!(worker.finish(LIMIT).await);
    let had = world.stored().len();
    assert!(had > 1);
    let gone = async || -> usize {
        let gone: Vec<String> =
            sqlx::query_scalar("SELECT storage_key FROM jobs.objects WHERE gone")
                .fetch_all(&world.pool)
                .await
                .unwrap();
        gone.len()
    };
    for (point, left) in [("sweep.before_delete", had), ("sweep.after_delete", 0)] {
        world.days_go_by().await;
        let killed = world
            .start(&[], &format!("{point}=kill"))
            .finish(LIMIT)
            .await;
        assert!(!killed.status.success(), "{point}: {killed:?}");
        assert_eq!((world.stored().len(), gone().await), (left, 0), "{point}");
    }
    world.days_go_by().await;
    let last = world.start(&[], "");
    wait::until_true(LIMIT, "it is noted", async || gone().await >= had).await;
    last.kill();
    assert_eq!(world.stored(), BTreeSet::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_never_completed_is_taken_away_after_its_time() {
    let world = World::new().await;
    let fold = world.fold();
    let hour = TimeDelta::hours(1);
    let over = world.request(Clock::System.now() - hour).await;
    let open = world.request(Clock::System.now() + hour).await;
    let given_up = world.request(Clock::System.now() + hour).await;
    world
        .execute("abort", given_up, |state| {
            abort_upload(state, given_up, owner())
        })
        .await;
    world.folded().await;
    assert_eq!(world.swept(Duration::from_hours(2)).await, 0);
    assert_eq!(world.swept(Duration::ZERO).await, 1);
    let key = |asset: AssetId| Key::original(world.tenant.0, asset.0).as_str().to_owned();
    // Whoever gave it up may still be sending.
    assert_eq!(world.stored(), [key(open), key(given_up)].into());
    assert!(!world.stored().contains(&key(over)));
    assert!(fold.finish(LIMIT).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_log_is_closed_nothing_is_taken_away_nor_soon_after() {
    let world = World::new().await;
    let fold = world.fold();
    world
        .request(Clock::System.now() - TimeDelta::days(2))
        .await;
    world.folded().await;
    let owner = world.database.pool(Role::Owner).await;
    for change in ["REVOKE", "GRANT"] {
        let to = if change == "GRANT" { "TO" } else { "FROM" };
        let sql = format!("{change} EXECUTE ON FUNCTION log.append {to} cinelog_transcoder");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
            .execute(&owner)
            .await
            .unwrap();
        assert_eq!(world.swept(DAY).await, 0, "{change}");
    }
    sqlx::raw_sql("UPDATE jobs.sweeps SET spared_until = now()")
        .execute(&world.pool)
        .await
        .unwrap();
    assert_eq!(world.swept(DAY).await, 1);
    assert!(fold.finish(LIMIT).await);
}

/// As where a backup was restored that lacks what names them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_pause_nothing_is_taken_away_at_once() {
    let world = World::new().await;
    let fold = world.fold();
    let long_ago = Clock::System.now() - TimeDelta::days(2);
    world.request(long_ago).await;
    let marked = world.request(long_ago).await;
    world.folded().await;
    let run = async |sql: &'static str| {
        sqlx::raw_sql(sql).execute(&world.pool).await.unwrap();
    };
    let key = Key::original(world.tenant.0, marked.0);
    sqlx::query(
        "UPDATE jobs.objects SET doomed_at = now() - interval '1 day' WHERE storage_key = $1",
    )
    .bind(key.as_str())
    .execute(&world.pool)
    .await
    .unwrap();
    run("UPDATE jobs.sweeps SET at = now() - interval '3 hours'").await;
    for _ in 0..2 {
        assert_eq!(world.swept(DAY).await, 0);
    }
    // What is imported meanwhile brings even a marked object back to life.
    let completed = UploadCompleted {
        asset: marked,
        owner: owner(),
        storage_key: key.as_str().to_owned(),
        bytes: 4,
        sha256: Checksum::of(b"gato").to_string(),
        etag: None,
        media_type: "video/mp4".to_owned(),
        profiles: vec![],
    };
    world
        .execute("complete", marked, |state| {
            complete_upload(state, completed.clone(), long_ago)
        })
        .await;
    world.folded().await;
    run("UPDATE jobs.sweeps SET spared_until = now()").await;
    assert_eq!(world.swept(DAY).await, 1);
    assert_eq!(world.stored(), [key.as_str().to_owned()].into());
    assert!(fold.finish(LIMIT).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_facts_are_not_folded_nothing_is_nobody_s() {
    let world = World::new().await;
    let worker = world.work();
    let asset = world.upload_for(read(&clip::tone(1)), &["fast@1"]).await;
    world.settled(asset).await;
    world.folded().await;
    assert!(worker.finish(LIMIT).await);
    // As after a rebuild that has come as far as nothing.
    sqlx::raw_sql(
        "UPDATE jobs.objects SET names = '{}', since = 'epoch';
         UPDATE subscription.checkpoints SET position = 0 WHERE subscription = 'objects'",
    )
    .execute(&world.pool)
    .await
    .unwrap();
    let before = world.stored();
    assert_eq!(world.swept(Duration::ZERO).await, 0);
    assert_eq!(world.stored(), before);
    let fold = world.fold();
    world.folded().await;
    assert_eq!(world.swept(Duration::ZERO).await, 0);
    assert_eq!(world.stored(), before);
    assert!(fold.finish(LIMIT).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_puts_anything_where_something_is_being_taken_away() {
    let world = World::new().await;
    let worker = world.work();
    let asset = world.upload_for(read(&clip::tone(1)), &["fast@1"]).await;
    world.settled(asset).await;
    world.folded().await;
    let mark = "UPDATE jobs.objects SET names = '{}', doomed_at = clock_timestamp() WHERE names = '{waveform.dat}'";
    let marked = sqlx::query(mark).execute(&world.pool).await.unwrap();
    assert_eq!(marked.rows_affected(), 1);

    world
        .execute("again", asset, |state| {
            request_rendition(state, asset, owner(), "fast@1")
        })
        .await;
    wait::until_true(LIMIT, "the job is done", async || {
        let all_done = "SELECT count(*) = 2 AND bool_and(state = 'done') FROM jobs.jobs";
        sqlx::query_scalar(all_done)
            .fetch_one(&world.pool)
            .await
            .unwrap()
    })
    .await;
    // Whoever was taking it away died; the others lost their names to the second job's.
    sqlx::raw_sql(
        "UPDATE jobs.objects SET doomed_at = now() - interval '1 hour' WHERE doomed_at IS NOT NULL",
    )
    .execute(&world.pool)
    .await
    .unwrap();
    world.folded().await;
    let named = world.named(&[asset]).await;
    assert!(
        named
            .iter()
            .any(|key| key.contains(".dat") && key.matches('.').count() == 2),
        "{named:?}"
    );
    assert!(world.swept(Duration::ZERO).await >= 1);
    assert_eq!(world.stored(), named);
    assert!(worker.finish(LIMIT).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_announced_too_long_ago_is_not_recorded_but_made_again() {
    let world = World::new().await;
    // Marked as soon as it is announced, as if a day had gone by.
    sqlx::raw_sql(
        "CREATE FUNCTION jobs.doom() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN NEW.doomed_at := now(); RETURN NEW; END $$;
         CREATE TRIGGER doom BEFORE INSERT ON jobs.objects FOR EACH ROW
             WHEN (NEW.storage_key ~ '/[0-9a-f]{64}[.]dat$') EXECUTE FUNCTION jobs.doom()",
    )
    .execute(&world.database.pool(Role::Owner).await)
    .await
    .unwrap();
    let worker = world.work();
    let asset = world.upload_for(read(&clip::tone(1)), &["fast@1"]).await;
    let facts = world.settled(asset).await;
    assert!(
        matches!(facts.last(), Some(Fact::AssetReady(_))),
        "{facts:?}"
    );
    world.folded().await;
    assert_eq!(
        world.states().await,
        [("fast@1".to_owned(), "done".to_owned(), 2)]
    );
    let named = world.named(&[asset]).await;
    assert!(named.is_subset(&world.stored()), "{named:?}");
    assert!(
        named
            .iter()
            .all(|key| !key.contains(".dat") || key.matches('.').count() == 2),
        "{named:?}"
    );
    assert!(worker.finish(LIMIT).await);
}

/// `JOBS` and `KILLS` make it longer, `SEED` another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_killed_at_random_end_every_job_once_and_leave_nothing() {
    let number = |name: &str, default: u64| {
        environment::optional(name).map_or(default, |text| text.parse().unwrap())
    };
    let (jobs, kills, seed) = (number("JOBS", 16), number("KILLS", 4), number("SEED", 31));
    let mut random = StdRng::seed_from_u64(seed);
    let world = World::new().await;
    let scratch = tempfile::tempdir().unwrap();
    let options = ["--scratch", scratch.path().to_str().unwrap()];
    let mut assets = vec![];
    for n in 0..jobs {
        let file = match n % 4 {
            0 => clip::video(320, 180, "25", 1),
            _ => clip::tone(1),
        };
        assets.push(world.upload_for(read(&file), &["fast@1"]).await);
    }
    for _ in 0..kills {
        let worker = world.start(&options, "");
        tokio::time::sleep(Duration::from_millis(random.random_range(200..2000))).await;
        worker.kill();
        drop(worker.finish(LIMIT).await);
        world.outlive_leases().await;
    }
    let last = world
        .start(&[&options[..], &["--exit-when-idle"]].concat(), "")
        .finish(LIMIT)
        .await;
    assert!(last.status.success(), "seed {seed}: {last:?}");
    let fold = world.fold();
    assert_once(&world, &assets, seed).await;
    world.folded().await;
    let garbage = world.swept(Duration::ZERO).await;
    assert_eq!(
        world.stored(),
        world.named(&assets).await,
        "seed {seed}, {garbage} taken away"
    );
    assert_eq!(
        std::fs::read_dir(scratch.path()).unwrap().count(),
        0,
        "seed {seed}"
    );
    assert!(fold.finish(LIMIT).await);
}

/// Asserts that each job ended once, with each of its outputs once, and that the outputs are what the facts say.
async fn assert_once(world: &World, assets: &[AssetId], seed: u64) {
    for asset in assets {
        let (mut names, mut ends) = (BTreeSet::new(), 0);
        for recorded in world.facts(*asset).await {
            match recorded.fact {
                Fact::RenditionCompleted(made) => {
                    assert!(
                        names.insert(made.name.clone()),
                        "seed {seed}: {} twice",
                        made.name
                    );
                    let key: Key = made.storage_key.parse().unwrap();
                    let bytes = world.store.read(&key, 1 << 24).await.unwrap();
                    assert_eq!(
                        Checksum::of(&bytes).to_string(),
                        made.sha256,
                        "seed {seed}: {key}"
                    );
                }
                Fact::AssetReady(_) => ends += 1,
                Fact::AssetFailed(failed) => panic!("seed {seed}: {failed:?}"),
                _ => {}
            }
        }
        assert_eq!(ends, 1, "seed {seed}");
        assert!(
            names.contains("waveform.dat") && names.contains("manifest-fast-1.json"),
            "seed {seed}: {names:?}"
        );
    }
}
