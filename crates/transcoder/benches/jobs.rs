//! How many jobs a second are claimed from a queue of a thousand and from one of a million, and how many are claimed and
//! finished with their facts.
//!
//! Four workers have eight slots each, as on sixteen cores. `claim`: each claims for all its slots at once, or (`singly`) for one;
//! half of the jobs belong to one of a hundred owners. The ceiling is the plainest queue that there can be, first in, first out,
//! in a table like ours and as long, of which as many are taken at once. `finish`: ten thousand jobs whose child does nothing, so
//! that those of all slots end together; each worker has a pool of its own. The ceiling is what four sessions commit that do
//! nothing but write a row.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]
#![expect(clippy::print_stdout, reason = "its table is for people")]

use std::collections::BTreeSet;
use std::process::Command as Program;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use events::decide::asset::{AssetState, Rendered, finish_job};
use events::fact::asset::{RenditionCompleted, UploadCompleted, UploadRequested};
use events::id::{AssetId, CommandId, StreamKey, TenantId, UserId};
use events::seal::Key;
use events::source::Source;
use events::store::{Append, Command, Expected, Keys, Log, Wake};
use events::subscription::{Options, Runner, lag};
use futures::future::join_all;
use futures::{StreamExt, stream};
use service::db::Role;
use service::shutdown::Shutdown;
use sqlx::PgPool;
use testing::bench::{Row, publish};
use testing::db::Database;
use testing::wait;
use transcoder::job::{End, Job, Jobs};
use transcoder::subscription::JobFold;
use transcoder::worker::{Ending, Recorder};
use uuid::Uuid;

const ROUNDS: usize = 5;
const WORKERS: usize = 4;
/// Jobs that a worker does at once.
const SLOTS: usize = 8;
/// Jobs that are claimed in a round: so few that no owner of the short queue is left alone.
const CLAIMS: usize = 256;
/// Jobs to finish in a round.
const JOBS: usize = 10_000;

#[tokio::main]
async fn main() {
    let (few, many) = (Queue::of(1_000).await, Queue::of(1_000_000).await);
    let cases = [
        ("claim 1k", &few, SLOTS),
        ("claim 1m", &many, SLOTS),
        ("claim 1k singly", &few, 1),
        ("claim 1m singly", &many, 1),
    ];
    let mut sides = cases.map(|_| (vec![], vec![]));
    for _ in 0..ROUNDS {
        for ((_, queue, most), (ours, bare)) in cases.iter().zip(&mut sides) {
            ours.push(queue.claim(*most).await);
            bare.push(queue.claim_bare(*most).await);
        }
    }
    println!("{}", many.explained());
    let mut rows = vec![];
    for ((case, ..), (ours, bare)) in cases.into_iter().zip(sides) {
        rows.push(row(case, ours, ("first in, first out", bare)));
    }
    let (mut ours, mut bare) = (vec![], vec![]);
    for _ in 0..ROUNDS {
        let world = World::with_jobs().await;
        ours.push(world.finish().await);
        bare.push(world.commit().await);
        world.shutdown.finish(Duration::from_secs(10)).await;
    }
    rows.push(row("finish 4 workers", ours, ("bare commits", bare)));
    println!("{}", publish("jobs", &rows).unwrap());
}

fn row(case: &str, ours: Vec<f64>, (name, bare): (&'static str, Vec<f64>)) -> Row {
    Row {
        case: case.to_owned(),
        unit: "jobs/s",
        ours,
        peer: ("none", None),
        ceiling: (name, Some(bare)),
    }
}

/// `each` on `WORKERS` tasks at once, which does `most` each time, until `times` are done together; how many a second.
async fn rate<F: Future<Output = ()> + Send + 'static>(
    times: usize,
    most: usize,
    each: impl Fn(usize) -> F + Clone + Send + 'static,
) -> f64 {
    let begun = Instant::now();
    let workers = (0..WORKERS).map(|worker| {
        let each = each.clone();
        async move {
            for _ in 0..(times / WORKERS).div_ceil(most) {
                each(worker).await;
            }
        }
    });
    let mut tasks = tokio::task::JoinSet::new();
    workers.for_each(|worker| {
        tasks.spawn(worker);
    });
    tasks.join_all().await;
    times as f64 / begun.elapsed().as_secs_f64()
}

/// A queue that holds nothing but waiting jobs, and a plain one beside it.
struct Queue {
    database: Database,
    pool: PgPool,
}

impl Queue {
    async fn of(jobs: i64) -> Self {
        let database = Database::migrated().await;
        let owner = database.pool(Role::Owner).await;
        sqlx::query(
            "INSERT INTO jobs.jobs (job_id, tenant, asset, owner, profile, class, source_key, source_bytes, source_sha256,
                                    asked_at, ready)
             SELECT gen_random_uuid(), md5('tenant')::uuid, gen_random_uuid(),
                    md5(CASE WHEN n % 2 = 0 THEN 0 ELSE n % 100 END::text)::uuid,
                    CASE WHEN n % 4 < 2 THEN 'fast@1' ELSE 'proxy720@1' END, n % 4 / 2, 'key', 1, 'sha', n, true
             FROM generate_series(1, $1) n",
        )
        .bind(jobs)
        .execute(&owner)
        .await
        .unwrap();
        sqlx::raw_sql(
            "SELECT jobs.line_up(array_agg(job_id)) FROM jobs.jobs;
             CREATE TABLE jobs.bare (LIKE jobs.jobs INCLUDING ALL);
             INSERT INTO jobs.bare SELECT * FROM jobs.jobs ORDER BY asked_at;
             CREATE INDEX ON jobs.bare (asked_at) WHERE state = 'queued';
             GRANT ALL ON jobs.bare TO cinelog_transcoder",
        )
        .execute(&owner)
        .await
        .unwrap();
        sqlx::raw_sql("VACUUM ANALYZE")
            .execute(&owner)
            .await
            .unwrap();
        let pool = database.pool(Role::Transcoder).await;
        let jobs = Jobs::new(pool.clone());
        // As many slots as there will be jobs at once.
        jobs.present(Uuid::nil(), CLAIMS * ROUNDS).await.unwrap();
        Self { database, pool }
    }

    async fn claim(&self, most: usize) -> f64 {
        let jobs = Jobs::new(self.pool.clone());
        jobs.present(Uuid::nil(), CLAIMS * 2).await.unwrap();
        let each = jobs.clone();
        let claims = rate(CLAIMS, most, move |_| {
            let jobs = each.clone();
            async move { assert_eq!(jobs.claim(None, most).await.unwrap().len(), most) }
        })
        .await;
        self.restore(
            "UPDATE jobs.jobs SET state = 'queued', token = NULL, lease_until = NULL, not_before = now()
             WHERE state = 'running'",
        )
        .await;
        self.restore("SELECT jobs.ripen(clock_timestamp(), NULL)")
            .await;
        claims
    }

    async fn claim_bare(&self, most: usize) -> f64 {
        let pool = self.pool.clone();
        let claims = rate(CLAIMS, most, move |_| {
            let pool = pool.clone();
            async move {
                let claimed = sqlx::query(
                    "UPDATE jobs.bare
                     SET state = 'running', token = gen_random_uuid(), attempts = attempts + 1,
                         lease_until = clock_timestamp() + interval '30 s'
                     WHERE job_id = ANY (ARRAY(
                         SELECT job_id FROM jobs.bare WHERE state = 'queued'
                         ORDER BY asked_at LIMIT $1 FOR UPDATE SKIP LOCKED))",
                )
                .bind(i32::try_from(most).unwrap())
                .execute(&pool)
                .await
                .unwrap();
                assert_eq!(claimed.rows_affected(), most as u64);
            }
        })
        .await;
        self.restore("UPDATE jobs.bare SET state = 'queued' WHERE state = 'running'")
            .await;
        claims
    }

    async fn restore(&self, sql: &'static str) {
        sqlx::query(sql).execute(&self.pool).await.unwrap();
    }

    /// How Postgres runs the statements of one claim.
    fn explained(&self) -> String {
        let script = "LOAD 'auto_explain'; SET auto_explain.log_min_duration = 0;
            SET auto_explain.log_nested_statements = on; SET auto_explain.log_analyze = on;
            SET client_min_messages = log;
            SELECT job_id FROM jobs.claim(NULL, '{fast@1,proxy720@1}', 8, '30 s', '1 h');
            ROLLBACK";
        let told = Program::new("psql")
            .args(["-X", "-q", "-c", "BEGIN", "-c", script])
            .arg(self.database.url().expose())
            .output()
            .unwrap();
        assert!(told.status.success(), "{told:?}");
        String::from_utf8_lossy(&told.stderr).into_owned()
    }
}

/// A log and a queue with jobs that a child does nothing for.
struct World {
    _database: Database,
    shutdown: Shutdown,
    /// One for each worker, as a process has them.
    workers: Arc<Vec<(Jobs, Log, Recorder)>>,
}

impl World {
    async fn with_jobs() -> Self {
        let database = Database::migrated().await;
        let shutdown = Shutdown::new();
        let keys = Keys::new(Key::from_bytes([7; 32]));
        let workers = join_all((0..WORKERS).map(async |_| {
            let pool = database.pool(Role::Transcoder).await;
            let log = Log::open(pool.clone(), keys.clone(), &shutdown).await;
            (Jobs::new(pool), log.unwrap(), Recorder::default())
        }))
        .await;
        let (jobs, log, _) = &workers[0];
        let tenant = log.default_tenant().await.unwrap();
        stream::iter(0..JOBS)
            .for_each_concurrent(64, |n| upload(log, tenant, n))
            .await;
        let pool = jobs.pool().clone();
        let wake = Wake::start(pool.clone(), &shutdown);
        let source = Source::postgres(&pool, wake);
        let reader = Runner::new(
            Arc::new(JobFold),
            pool.clone(),
            source,
            keys,
            Options::default(),
        );
        let end = shutdown.clone();
        shutdown.spawn(async move { reader.run(&end).await });
        wait::until_true(Duration::from_mins(5), "the queue is full", async || {
            let lags = lag(&mut pool.acquire().await.unwrap()).await.unwrap();
            lags.iter()
                .any(|lag| lag.subscription == JobFold::NAME && lag.lanes_behind == 0)
        })
        .await;
        Self {
            _database: database,
            shutdown,
            workers: Arc::new(workers),
        }
    }

    /// Jobs a second that are claimed and finished, while the fold reads of their ends.
    async fn finish(&self) -> f64 {
        let workers = self.workers.clone();
        rate(JOBS, SLOTS, move |worker| {
            let workers = workers.clone();
            async move {
                let (jobs, log, recorder) = &workers[worker];
                let claimed = jobs.claim(None, SLOTS).await.unwrap();
                let ends = claimed
                    .into_iter()
                    .map(|job| recorder.record(jobs, log, ending(job)));
                for recorded in join_all(ends).await {
                    assert!(recorded.unwrap());
                }
            }
        })
        .await
    }

    async fn commit(&self) -> f64 {
        let workers = self.workers.clone();
        rate(JOBS / 5, 1, move |worker| {
            let workers = workers.clone();
            async move {
                let pool = workers[worker].0.pool();
                sqlx::query(
                    "INSERT INTO jobs.turns (owner, class, profile, level, tag, asked_on)
                     VALUES ($1, -1, 'none', -1, 0, now())",
                )
                .bind(Uuid::now_v7())
                .execute(pool)
                .await
                .unwrap();
            }
        })
        .await
    }
}

/// An asset with one job, of one of a hundred owners.
async fn upload(log: &Log, tenant: TenantId, n: usize) {
    let (asset, owner) = (
        AssetId(Uuid::now_v7()),
        UserId::of("bench", &(n % 100).to_string()),
    );
    let requested = UploadRequested {
        asset,
        owner,
        file_name: "clip.mp4".into(),
        media_type: "video/mp4".to_owned(),
        bytes: 1,
        sha256: "aa".to_owned(),
        storage_key: "k".to_owned(),
        expires_at: DateTime::<Utc>::MAX_UTC,
    };
    let completed = UploadCompleted {
        asset,
        owner,
        storage_key: "k".to_owned(),
        bytes: 1,
        sha256: "aa".to_owned(),
        etag: None,
        media_type: "video/mp4".to_owned(),
        profiles: vec!["fast@1".to_owned()],
    };
    let command = Command {
        id: CommandId {
            tenant,
            actor: owner,
            route: "bench".to_owned(),
            key: n.to_string(),
        },
        body_hash: [0; 32],
        correlation: None,
        cause: None,
    };
    let append = Append {
        stream: StreamKey::asset(asset),
        expected: Expected::NoStream,
        facts: vec![requested.into(), completed.into()],
    };
    log.append(&command, vec![append]).await.unwrap();
}

fn ending(job: Job) -> Ending {
    let (asset, id) = (job.asset, job.id);
    let rendered = Rendered {
        made: vec![made(&job)],
        ..Rendered::default()
    };
    Ending {
        job,
        end: End::Done,
        error: None,
        keys: BTreeSet::new(),
        decide: Box::new(move |state: &AssetState| finish_job(state, asset, id, rendered.clone())),
    }
}

fn made(job: &Job) -> RenditionCompleted {
    RenditionCompleted {
        asset: job.asset,
        job: job.id,
        profile: job.profile.clone(),
        name: "poster.jpg".to_owned(),
        storage_key: "out".to_owned(),
        media_type: "image/jpeg".to_owned(),
        bytes: 1,
        sha256: "bb".to_owned(),
        width: None,
        height: None,
        duration_ms: None,
        cpu_ms: None,
    }
}
