//! A fresh database per test, copied from a template that is migrated once per set of migrations.

use std::process::Command;

use anyhow::Context;
use service::db::Role;
use service::secret::Secret;
use sha2::{Digest, Sha256};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};
use uuid::Uuid;

use crate::environment;

/// Connections of each pool of a test: tests run side by side on one server.
const CONNECTIONS: u32 = 8;

/// How many sessions of the database wait for a lock, with a statement like `statement`, in which `%` is anything.
///
/// # Panics
///
/// When Postgres does not tell.
pub async fn locked_out(pool: &PgPool, statement: &str) -> i64 {
    sqlx::query_scalar(
        "SELECT count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE $1",
    )
    .bind(statement)
    .fetch_one(pool)
    .await
    .expect("Postgres tells who waits")
}

/// A database of a test's own, dropped when this is dropped.
#[derive(Debug)]
pub struct Database {
    server: String,
    name: String,
    url: Secret,
}

impl Database {
    /// A database with Cinelog's own migrations.
    ///
    /// # Panics
    ///
    /// When the tests were started without Postgres, or it cannot be made.
    pub async fn migrated() -> Self {
        Self::create("", async |pool| Ok(service::migrate::run(pool).await?)).await
    }

    /// The same on the server at `server`, which is a test's own.
    ///
    /// # Panics
    ///
    /// When it cannot be made.
    pub async fn migrated_on(server: &str) -> Self {
        Self::create_on(server.to_owned(), "", async |pool| {
            Ok(service::migrate::run(pool).await?)
        })
        .await
        .unwrap_or_else(|error| panic!("make a database: {error:#}"))
    }

    /// A database on the server at `DATABASE_URL` with all that `migrate` makes. `set` names what that is; `migrate`
    /// runs only when there is no template of that set and of the migrations compiled in.
    ///
    /// # Panics
    ///
    /// When the tests were started without Postgres, or it cannot be made.
    pub async fn create(
        set: &str,
        migrate: impl AsyncFnOnce(&PgPool) -> anyhow::Result<()>,
    ) -> Self {
        let server = environment::required("DATABASE_URL");
        Self::create_on(server, set, migrate)
            .await
            .unwrap_or_else(|error| panic!("make a database: {error:#}"))
    }

    async fn create_on(
        server: String,
        set: &str,
        migrate: impl AsyncFnOnce(&PgPool) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let name = format!("{set} {:016x}", service::migrate::fingerprint());
        let template = format!(
            "cinelog_template_{}",
            hex::encode(&Sha256::digest(name)[..8])
        );
        let mut admin = PgConnection::connect(&server)
            .await
            .context("connect to DATABASE_URL")?;
        make_template(&mut admin, &server, &template, migrate).await?;
        let name = format!("cinelog_test_{}", Uuid::now_v7().simple());
        execute(
            &mut admin,
            format!("CREATE DATABASE {name} TEMPLATE {template}"),
        )
        .await?;
        admin.close().await?;
        let url = Secret::new(url_of(&server, &name)?);
        Ok(Self { server, name, url })
    }

    /// Its URL, with the rights of `DATABASE_URL`'s user.
    pub fn url(&self) -> &Secret {
        &self.url
    }

    /// All that is in it, as a backup has it.
    ///
    /// # Panics
    ///
    /// When `pg_dump` fails.
    pub fn dump(&self) -> Dump {
        let file = tempfile::NamedTempFile::new().expect("make a temporary file");
        tool("pg_dump", |command| {
            command
                .args(["--format=custom", "--file"])
                .arg(file.path())
                .arg(self.url.expose())
        });
        Dump(file)
    }

    /// Another database, restored from `dump`.
    ///
    /// # Panics
    ///
    /// When it cannot be made, or `pg_restore` fails.
    pub async fn restored(dump: &Dump) -> Self {
        let server = environment::required("DATABASE_URL");
        let name = format!("cinelog_test_{}", Uuid::now_v7().simple());
        let made = async {
            let mut admin = PgConnection::connect(&server).await?;
            execute(&mut admin, format!("CREATE DATABASE {name}")).await?;
            admin.close().await?;
            url_of(&server, &name)
        };
        let url = made.await.expect("make a database");
        tool("pg_restore", |command| {
            command
                .args(["--exit-on-error", "--dbname", &url])
                .arg(dump.0.path())
        });
        let url = Secret::new(url);
        Self { server, name, url }
    }

    /// A pool with the rights of `role`.
    ///
    /// # Panics
    ///
    /// When it cannot be opened, e.g. because the migrations did not make the role.
    pub async fn pool(&self, role: Role) -> PgPool {
        service::db::connect(&self.url, role, CONNECTIONS)
            .await
            .expect("connect to the test's own database")
    }
}

/// A backup of a database.
#[derive(Debug)]
pub struct Dump(tempfile::NamedTempFile);

#[track_caller]
fn tool(name: &str, with: impl FnOnce(&mut Command) -> &mut Command) {
    let output = with(&mut Command::new(name)).output();
    let output = output.unwrap_or_else(|error| panic!("{name}: {error}"));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {told}");
}

impl Drop for Database {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        // A thread with a runtime of its own: drop is not async, and the test's runtime may be ending.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                let mut admin = PgConnection::connect(&server).await?;
                execute(
                    &mut admin,
                    format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"),
                )
                .await?;
                anyhow::Ok(admin.close().await?)
            })
        });
        // The server is private to the run: a database left behind costs disk until it stops, not correctness.
        if let Ok(Err(error)) = dropping.join() {
            tracing::warn!(%error, "a test database was left behind");
        }
    }
}

/// Makes `template` unless it is there, alone among all processes. The template flag is set last: a database of that
/// name without it is the remains of an interrupted attempt.
async fn make_template(
    admin: &mut PgConnection,
    server: &str,
    template: &str,
    migrate: impl AsyncFnOnce(&PgPool) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    sqlx::query("SELECT pg_advisory_lock(hashtext('cinelog test templates'))")
        .execute(&mut *admin)
        .await?;
    let made: Option<bool> =
        sqlx::query_scalar("SELECT datistemplate FROM pg_database WHERE datname = $1")
            .bind(template)
            .fetch_optional(&mut *admin)
            .await?;
    if made != Some(true) {
        execute(
            admin,
            format!("DROP DATABASE IF EXISTS {template} WITH (FORCE)"),
        )
        .await?;
        execute(admin, format!("CREATE DATABASE {template}")).await?;
        let pool = PgPool::connect(&url_of(server, template)?).await?;
        migrate(&pool).await.context("migrate the template")?;
        pool.close().await;
        // Nobody may connect: CREATE DATABASE refuses a template in use.
        execute(
            admin,
            format!("ALTER DATABASE {template} WITH IS_TEMPLATE true ALLOW_CONNECTIONS false"),
        )
        .await?;
    }
    sqlx::query("SELECT pg_advisory_unlock(hashtext('cinelog test templates'))")
        .execute(admin)
        .await?;
    Ok(())
}

/// Runs a statement that takes no parameters. Its names are made in this module, of lower-case letters, digits and `_`.
async fn execute(connection: &mut PgConnection, statement: String) -> anyhow::Result<()> {
    sqlx::query(AssertSqlSafe(statement.clone()))
        .execute(connection)
        .await
        .context(statement)?;
    Ok(())
}

fn url_of(server: &str, name: &str) -> anyhow::Result<String> {
    let mut url = url::Url::parse(server).context("DATABASE_URL")?;
    url.set_path(name);
    Ok(url.into())
}
