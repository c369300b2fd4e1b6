//! Whose job is next.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use events::decide::asset::delete;
use events::id::{AssetId, UserId};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use service::db::{self, Role};
use sqlx::PgPool;
use testing::db::Database;
use testing::wait;
use transcoder::job::{self, Class, End, Job, Jobs};
use uuid::Uuid;

use super::world::{LIMIT, World, claim};

fn user(name: &str) -> UserId {
    UserId::of("test", name)
}

/// A world with uploads of `owners`, each folded into one job for `fast@1`, and workers with so many slots.
async fn with_jobs(owners: &[(&str, usize)], slots: usize) -> (World, Jobs) {
    let world = World::new().await;
    let jobs = Jobs::new(world.pool.clone());
    jobs.present(Uuid::nil(), slots).await.unwrap();
    let fold = world.fold();
    for (name, number) in owners {
        for _ in 0..*number {
            world
                .upload_by(user(name), b"x".to_vec(), &["fast@1"])
                .await;
        }
    }
    world.folded().await;
    assert!(fold.finish(LIMIT).await);
    (world, jobs)
}

/// Whose job it is.
async fn whose(pool: &PgPool, job: &Job) -> UserId {
    sqlx::query_scalar("SELECT owner FROM jobs.jobs WHERE job_id = $1")
        .bind(job.id)
        .fetch_one(pool)
        .await
        .unwrap()
}

async fn done(pool: &PgPool, job: &Job) {
    let mut connection = pool.acquire().await.unwrap();
    assert!(
        job::end(&mut connection, job, End::Done, None)
            .await
            .unwrap()
    );
}

/// The owners of the next jobs, each of which ends before the next one is claimed.
async fn order(world: &World, jobs: &Jobs, number: usize) -> Vec<UserId> {
    let mut owners = vec![];
    for _ in 0..number {
        let job = claim(jobs, None).await.unwrap();
        owners.push(whose(&world.pool, &job).await);
        done(&world.pool, &job).await;
    }
    owners
}

/// How many of `claimed` are whose.
async fn shares(world: &World, claimed: &[Job]) -> BTreeMap<UserId, usize> {
    let mut shares = BTreeMap::new();
    for job in claimed {
        *shares.entry(whose(&world.pool, job).await).or_default() += 1;
    }
    shares
}

/// So many jobs, at most `most` with one claim.
async fn claims(jobs: &Jobs, number: usize, most: usize) -> Vec<Job> {
    let claims = (0..number / most).map(|_| jobs.claim(None, most));
    let claimed = futures::future::join_all(claims).await;
    claimed.into_iter().flat_map(Result::unwrap).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_with_two_jobs_does_not_wait_for_one_with_fifty() {
    let (world, jobs) = with_jobs(&[("ana", 50), ("bo", 2)], 4).await;
    let (ana, bo) = (user("ana"), user("bo"));
    assert_eq!(
        order(&world, &jobs, 7).await,
        [ana, bo, ana, bo, ana, ana, ana]
    );

    // Who comes later waits for one of each who was there, however long they have been.
    let fold = world.fold();
    for _ in 0..2 {
        world
            .upload_by(user("cy"), b"x".to_vec(), &["fast@1"])
            .await;
    }
    world.folded().await;
    assert_eq!(
        order(&world, &jobs, 4).await,
        [ana, user("cy"), ana, user("cy")]
    );
    assert!(fold.finish(LIMIT).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_has_more_than_half_of_the_slots_while_another_waits() {
    for most in [1, 3] {
        nobody_has_more_than_half(most).await;
    }
}

async fn nobody_has_more_than_half(most: usize) {
    let (world, jobs) = with_jobs(&[("ana", 20), ("bo", 3)], 6).await;
    let (ana, bo) = (user("ana"), user("bo"));
    let claimed = claims(&jobs, 6, most).await;
    assert_eq!(
        shares(&world, &claimed).await,
        BTreeMap::from([(ana, 3), (bo, 3)])
    );
    // Bo waits for nothing any more, so all that is free is Ana's.
    for job in &claimed {
        if whose(&world.pool, job).await == bo {
            done(&world.pool, job).await;
        }
    }
    let more = claims(&jobs, 3, most).await;
    assert_eq!(shares(&world, &more).await, BTreeMap::from([(ana, 3)]));

    // Cy comes, and Ana has more than her share: she gets nothing until Cy has what he wants.
    let fold = world.fold();
    for _ in 0..2 {
        world
            .upload_by(user("cy"), b"x".to_vec(), &["fast@1"])
            .await;
    }
    world.folded().await;
    for job in &more {
        done(&world.pool, job).await;
    }
    let next = claims(&jobs, 3, most).await;
    assert_eq!(
        shares(&world, &next).await,
        BTreeMap::from([(ana, 1), (user("cy"), 2)])
    );
    assert!(fold.finish(LIMIT).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_of_a_lower_class_wait_for_the_others_and_not_for_ever() {
    let (world, jobs) = with_jobs(&[("ana", 2)], 4).await;
    // The places that they had are left behind, as after a change of classes.
    sqlx::query("UPDATE jobs.jobs SET class = $1, ready = false")
        .bind(Class::Bulk.number())
        .execute(&world.pool)
        .await
        .unwrap();
    let fold = world.fold();
    for _ in 0..4 {
        world
            .upload_by(user("bo"), b"x".to_vec(), &["proxy720@1"])
            .await;
    }
    world.folded().await;
    let (ana, bo) = (user("ana"), user("bo"));
    assert_eq!(order(&world, &jobs, 2).await, [bo, bo]);
    sqlx::query(
        "WITH old AS (
             UPDATE jobs.jobs SET asked_on = now() - interval '2 h'
             WHERE job_id = (SELECT job_id FROM jobs.jobs WHERE class = 2 ORDER BY asked_at LIMIT 1) RETURNING *)
         UPDATE jobs.turns t SET asked_on = old.asked_on FROM old WHERE t.owner = old.owner AND t.class = 2",
    )
    .execute(&world.pool)
    .await
    .unwrap();
    // Bo is in front of the class that the old job comes into; the young one comes last.
    assert_eq!(order(&world, &jobs, 4).await, [bo, ana, bo, ana]);
    assert!(claim(&jobs, None).await.is_none());
    assert!(fold.finish(LIMIT).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_of_one_class_takes_no_other_s_jobs() {
    let world = World::new().await;
    let jobs = Jobs::new(world.pool.clone());
    let fold = world.fold();
    world.upload(b"x".to_vec()).await;
    world.folded().await;
    assert!(claim(&jobs, Some(Class::Bulk)).await.is_none());
    let job = claim(&jobs, Some(Class::Default)).await.unwrap();
    assert_eq!(job.profile, "proxy720@1");
    assert!(claim(&jobs, Some(Class::Default)).await.is_none());
    assert!(!jobs.is_empty(Some(Class::Default)).await.unwrap());
    done(&world.pool, &job).await;
    assert!(jobs.is_empty(Some(Class::Default)).await.unwrap());
    assert!(!jobs.is_empty(None).await.unwrap());
    assert!(fold.finish(LIMIT).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_whose_jobs_are_gone_is_in_nobody_s_way() {
    let (world, jobs) = with_jobs(&[("ana", 1), ("bo", 1)], 4).await;
    let first: AssetId =
        sqlx::query_scalar("SELECT asset FROM jobs.jobs ORDER BY asked_at LIMIT 1")
            .fetch_one(&world.pool)
            .await
            .unwrap();
    let fold = world.fold();
    world
        .execute("delete", first, |state| delete(state, first, user("ana")))
        .await;
    world.folded().await;
    assert_eq!(order(&world, &jobs, 1).await, [user("bo")]);
    assert!(claim(&jobs, None).await.is_none());
    let places: i64 = sqlx::query_scalar("SELECT count(*) FROM jobs.turns")
        .fetch_one(&world.pool)
        .await
        .unwrap();
    assert_eq!(places, 0);
    assert!(fold.finish(LIMIT).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_job_is_left_behind_where_claims_and_the_fold_meet() {
    const UPLOADS: usize = 25;
    let world = World::new().await;
    let jobs = Jobs::new(world.pool.clone());
    jobs.present(Uuid::nil(), 4).await.unwrap();
    let fold = world.fold();
    let (world, jobs) = (&world, &jobs);
    let uploads = ["ana", "bo", "cy"].map(async |name| {
        for _ in 0..UPLOADS {
            world
                .upload_by(user(name), b"x".to_vec(), &["fast@1"])
                .await;
        }
    });
    let ended = AtomicUsize::new(0);
    let ended = &ended;
    // Each finds a place whose last job it takes while the fold adds to it.
    let claims = (0..4).map(async |_| {
        wait::until_true(LIMIT, "all jobs have ended", async || {
            while let Some(job) = claim(jobs, None).await {
                done(&world.pool, &job).await;
                ended.fetch_add(1, Ordering::Relaxed);
            }
            ended.load(Ordering::Relaxed) == 3 * UPLOADS
        })
        .await;
    });
    futures::future::join(
        futures::future::join_all(uploads),
        futures::future::join_all(claims),
    )
    .await;
    assert!(fold.finish(LIMIT).await);
}

/// Something that happens to a queue.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// An owner asks for so many.
    Ask(u8, usize),
    /// So many are claimed at once and done.
    Claim(usize),
    /// One is claimed, given back, and claimed again by the next.
    GiveBack,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        2 => (0..5_u8, 1..4_usize).prop_map(|(owner, jobs)| Act::Ask(owner, jobs)),
        5 => (1..5_usize).prop_map(Act::Claim),
        1 => Just(Act::GiveBack),
    ]
}

/// Owners who wait, each with the numbers of its jobs: what the queue is meant to be.
#[derive(Debug, Default)]
struct Line {
    places: VecDeque<(u8, BTreeSet<i64>)>,
    /// Given back, by number; the next claim finds them.
    later: BTreeMap<i64, u8>,
}

impl Line {
    fn ask(&mut self, owner: u8, job: i64) {
        match self.places.iter_mut().find(|(other, _)| *other == owner) {
            Some((_, jobs)) => drop(jobs.insert(job)),
            None => self.places.push_back((owner, [job].into())),
        }
    }

    fn next(&mut self) -> Option<(u8, i64)> {
        for (job, owner) in std::mem::take(&mut self.later) {
            self.ask(owner, job);
        }
        let (owner, mut jobs) = self.places.pop_front()?;
        let job = jobs.pop_first()?;
        if !jobs.is_empty() {
            self.places.push_back((owner, jobs));
        }
        Some((owner, job))
    }
}

/// A queue of jobs that no fact has asked for.
struct Queue {
    pool: PgPool,
    jobs: Jobs,
    asked: i64,
    line: Line,
}

impl Queue {
    async fn act(&mut self, act: Act) {
        match act {
            Act::Ask(owner, number) => {
                for _ in 0..number {
                    self.ask(owner).await;
                }
            }
            Act::Claim(most) => {
                for job in self.claim(most).await {
                    done(&self.pool, &job).await;
                }
            }
            Act::GiveBack => {
                let expected = self.line.next();
                let job = claim(&self.jobs, None).await;
                assert_eq!(job.is_some(), expected.is_some());
                if let (Some(job), Some((owner, number))) = (job, expected) {
                    self.jobs
                        .give_back(&job, Duration::ZERO, false)
                        .await
                        .unwrap();
                    self.line.later.insert(number, owner);
                }
            }
        }
    }

    async fn ask(&mut self, owner: u8) {
        self.asked += 1;
        self.line.ask(owner, self.asked);
        let mut tx = db::begin(&self.pool, "BEGIN").await.unwrap();
        let job: Uuid = sqlx::query_scalar(
            "INSERT INTO jobs.jobs (job_id, tenant, asset, owner, profile, class, source_key, source_bytes, source_sha256,
                                    asked_at, ready)
             VALUES (gen_random_uuid(), $1, gen_random_uuid(), $2, 'fast@1', 0, 'key', 1, 'sha', $3, true)
             RETURNING job_id",
        )
        .bind(Uuid::nil())
        .bind(Uuid::from_u128(owner.into()))
        .bind(self.asked)
        .fetch_one(&mut *tx)
        .await
        .unwrap();
        sqlx::query("SELECT jobs.lock_line()")
            .execute(&mut *tx)
            .await
            .unwrap();
        sqlx::query("SELECT jobs.line_up($1)")
            .bind([job])
            .execute(&mut *tx)
            .await
            .unwrap();
        tx.commit().await.unwrap();
    }

    /// Claims so many, which must be those that the line says.
    async fn claim(&mut self, most: usize) -> Vec<Job> {
        let claimed = self.jobs.claim(None, most).await.unwrap();
        let ids: Vec<_> = claimed.iter().map(|job| job.id).collect();
        let numbers: Vec<i64> = sqlx::query_scalar(
            "SELECT asked_at FROM jobs.jobs WHERE job_id = ANY ($1) ORDER BY asked_at",
        )
        .bind(ids)
        .fetch_all(&self.pool)
        .await
        .unwrap();
        let expected: BTreeSet<_> = (0..most).map_while(|_| self.line.next()).collect();
        let mut expected: Vec<_> = expected.into_iter().map(|(_, job)| job).collect();
        expected.sort_unstable();
        assert_eq!(numbers, expected);
        claimed
    }
}

#[test]
fn owners_take_turns_whatever_happens() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (database, pool) = runtime.block_on(async {
        let database = Database::migrated().await;
        let pool = database.pool(Role::Transcoder).await;
        (database, pool)
    });
    let config = Config {
        cases: 24,
        failure_persistence: None,
        ..Config::default()
    };
    let acts = proptest::collection::vec(act(), 1..40);
    let ran = TestRunner::new(config).run(&acts, |acts| {
        runtime.block_on(async {
            sqlx::raw_sql("DELETE FROM jobs.jobs; DELETE FROM jobs.turns")
                .execute(&pool)
                .await
                .unwrap();
            let mut queue = Queue {
                pool: pool.clone(),
                jobs: Jobs::new(pool.clone()),
                asked: 0,
                line: Line::default(),
            };
            queue.jobs.present(Uuid::nil(), 100).await.unwrap();
            for act in acts {
                queue.act(act).await;
            }
            while !queue.claim(1).await.is_empty() {}
        });
        Ok(())
    });
    runtime.block_on(pool.close());
    drop(database);
    ran.unwrap();
}
