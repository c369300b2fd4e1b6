//! `cinelog doctor`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use service::clock::Clock;
use service::db::Role;
use service::shutdown::Shutdown;
use storage::{Checksum, Key, PART_MIN, PutTerms, Store};
use uuid::Uuid;

use crate::data::DataFolder;
use crate::out::say;
use crate::stack::Database;

/// How long one look may take.
const LIMIT: Duration = Duration::from_mins(1);
/// The oldest Postgres that we know to do, as it numbers itself.
const POSTGRES: i32 = 150_000;
const WORDS: &[u8] = b"cinelog doctor was here\n";

/// Looks at the database and the store that are configured, as the other commands would use them: writes an object and takes it away,
/// and asks a bucket what browsers ask.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Doctor {
    #[command(flatten)]
    database: Database,
    #[command(flatten)]
    storage: storage::Config,
    /// Origins of pages that are to upload, e.g. `https://app.example.org`.
    #[arg(long, env = "CORS_ORIGINS", value_delimiter = ',')]
    cors_origins: Vec<String>,
    /// The data folder of a running `cinelog up`, for what is not configured.
    #[arg(long)]
    data: Option<PathBuf>,
}

const EXAMPLES: &str = "Examples:
  cinelog doctor --data ./data
  CORS_ORIGINS=https://app.example.org STORAGE_URL=s3://media cinelog doctor";

impl Doctor {
    pub(super) async fn run(self, shutdown: &Shutdown) -> anyhow::Result<()> {
        let folder = self.data.as_deref().map(DataFolder::look).transpose()?;
        let database = self.database.or_in(folder.as_ref());
        let mut ill = 0;
        let mut told = |what: &str, looked: anyhow::Result<String>| match looked {
            Ok(found) => say(format_args!("ok    {what}: {found}")),
            Err(error) => {
                ill += 1;
                say(format_args!("FAIL  {what}: {error:#}"));
            }
        };
        told("postgres", limited(shutdown, postgres(&database)).await);
        let store = Store::open(&self.storage).map_err(anyhow::Error::from);
        match store {
            Err(error) => told("storage", Err(error)),
            Ok(store) => {
                told("storage", limited(shutdown, objects(&store)).await);
                told("storage, in parts", limited(shutdown, parts(&store)).await);
                for origin in &self.cors_origins {
                    let looked = limited(shutdown, cors(&store, origin)).await;
                    told(&format!("storage, pages of {origin}"), looked);
                }
            }
        }
        ensure!(
            ill == 0,
            "{ill} of what was looked at is not as it should be"
        );
        Ok(())
    }
}

async fn limited(
    shutdown: &Shutdown,
    look: impl Future<Output = anyhow::Result<String>>,
) -> anyhow::Result<String> {
    tokio::select! {
        looked = look => looked,
        () = tokio::time::sleep(LIMIT) => bail!("no answer within {} s", LIMIT.as_secs()),
        () = shutdown.cancelled() => bail!("interrupted"),
    }
}

async fn postgres(database: &Database) -> anyhow::Result<String> {
    let owner = database.pool(Role::Owner).await?;
    let (number, name): (i32, String) = sqlx::query_as(
        "SELECT current_setting('server_version_num')::int, current_setting('server_version')",
    )
    .fetch_one(&owner)
    .await?;
    ensure!(
        number >= POSTGRES,
        "version {name}: 15 is the oldest that does"
    );
    let lacking = service::migrate::lacking(&owner).await?;
    ensure!(
        lacking == 0,
        "{lacking} migrations are missing: run `cinelog migrate`"
    );
    for role in [Role::Api, Role::Accounts, Role::Projector, Role::Transcoder] {
        let pool = database.few(role).await;
        let name = role.name().unwrap_or_default();
        let pool = pool.with_context(|| {
            format!("as {name}: the URL's user must be allowed to take that role")
        })?;
        pool.close().await;
    }
    Ok(format!("version {name}, all migrations, all roles"))
}

/// An object that only this run knows.
fn terms() -> anyhow::Result<PutTerms> {
    Ok(PutTerms {
        key: format!("doctor/{}", Uuid::new_v4()).parse::<Key>()?,
        bytes: WORDS.len() as u64,
        media_type: "text/plain".to_owned(),
        sha256: Checksum::of(WORDS),
    })
}

async fn objects(store: &Store) -> anyhow::Result<String> {
    let PutTerms {
        key, sha256, bytes, ..
    } = terms()?;
    store
        .put(&key, Bytes::from_static(WORDS), "text/plain")
        .await
        .context("put an object")?;
    let read = store
        .verify(&key, bytes, &sha256, None)
        .await
        .context("read it back");
    let again = store
        .put(&key, Bytes::from_static(b"other bytes"), "text/plain")
        .await;
    store.delete(&key).await.context("take it away")?;
    read?;
    ensure!(
        again.is_err(),
        "it let another object take the place of one that was there (If-None-Match)"
    );
    Ok("objects are put once, read and deleted".to_owned())
}

async fn parts(store: &Store) -> anyhow::Result<String> {
    let key = terms()?.key;
    let Some(upload) = store
        .begin_parts(&key, "text/plain")
        .await
        .context("begin")?
    else {
        return Ok("a folder takes them whole".to_owned());
    };
    let parts = storage::Parts {
        key: key.clone(),
        upload: upload.clone(),
        bytes: PART_MIN,
        part_bytes: PART_MIN,
    };
    let there = store.parts(&parts).await.context("list parts");
    store
        .give_up_parts(&key, &upload)
        .await
        .context("give up")?;
    ensure!(there?.is_empty(), "it has parts that nobody sent");
    Ok("begun, listed and given up".to_owned())
}

async fn cors(store: &Store, origin: &str) -> anyhow::Result<String> {
    let lacks = store
        .cors_lacks(origin, &terms()?, Clock::System.now())
        .await?;
    ensure!(
        lacks.is_empty(),
        "the bucket's CORS rules must also allow: {}",
        lacks.join(", ")
    );
    Ok("may put what is signed".to_owned())
}
