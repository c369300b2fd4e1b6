//! An API of a test's own: a database, a store, all projectors, a listener.

use std::path::PathBuf;
use std::time::Duration;

use api::{ApiState, Config};
use axum::middleware::from_fn;
use clap::Parser;
use events::id::{TenantId, UserId};
use events::seal::Key;
use events::source::Source;
use events::store::{Keys, Log};
use events::subscription::{Options, Runner};
use projectors::registry;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;
use service::clock::Clock;
use service::db::{self, Role};
use service::secret::Secret;
use service::shutdown::Shutdown;
use sqlx::{AssertSqlSafe, PgPool, Postgres, Transaction};
use storage::Store;
use tempfile::TempDir;
use testing::db::Database;
use testing::s3::S3Server;
use uuid::Uuid;

use crate::documented;

pub(crate) const SECRET: &str = "a secret that only the tests of the API have";
/// Within which a read model must show what was written.
pub(crate) const SOON: Duration = Duration::from_secs(20);
/// Within which all of them must show all that was written, and for which tokens hold.
pub(crate) const LONG: Duration = Duration::from_mins(10);

#[derive(Parser)]
struct ApiArgs {
    #[command(flatten)]
    api: Config,
}

#[derive(Parser)]
struct StorageArgs {
    #[command(flatten)]
    storage: storage::Config,
}

/// Where a test's objects are; they go with the test.
enum Objects {
    Folder(TempDir),
    Bucket(S3Server),
}

pub(crate) struct App {
    pub(crate) url: String,
    pub(crate) tenant: TenantId,
    pub(crate) http: Client,
    pub(crate) owner: PgPool,
    pub(crate) log: Log,
    /// Of the projectors alone.
    pub(crate) projecting: Shutdown,
    pub(crate) shutdown: Shutdown,
    objects: Objects,
    pub(crate) database: Database,
}

impl App {
    /// Over a folder.
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Over a folder, with these options of the API.
    pub(crate) async fn start_with(options: &[&str]) -> Self {
        Self::start_by(options, Clock::System).await
    }

    /// Over a folder, with these options of the API and this clock.
    pub(crate) async fn start_by(options: &[&str], clock: Clock) -> Self {
        let folder = TempDir::new().unwrap();
        let url = folder.path().to_str().unwrap().to_owned();
        let storage = ["--storage-url", &url];
        Self::over(&storage, Objects::Folder(folder), options, clock).await
    }

    /// Over an S3 server.
    pub(crate) async fn start_on_s3() -> Self {
        Self::start_on_s3_with(&[]).await
    }

    /// Over an S3 server, with these options of the API.
    pub(crate) async fn start_on_s3_with(options: &[&str]) -> Self {
        Self::start_on_s3_by(options, Clock::System).await
    }

    /// Over an S3 server, with these options of the API and this clock.
    pub(crate) async fn start_on_s3_by(options: &[&str], clock: Clock) -> Self {
        let server = S3Server::start().await;
        let url = server.storage_url();
        let (key, secret) = (server.access_key.clone(), server.secret_key.clone());
        let arguments = [
            "--storage-url",
            &url,
            "--aws-access-key-id",
            &key,
            "--aws-secret-access-key",
            &secret,
        ];
        Self::over(&arguments, Objects::Bucket(server), options, clock).await
    }

    /// Over a bucket that does not answer, with these options of the API.
    pub(crate) async fn start_without_bucket(options: &[&str]) -> Self {
        let url = format!("s3://none?endpoint=http://{}", testing::port::free());
        let keys = ["--aws-access-key-id", "a", "--aws-secret-access-key", "b"];
        let arguments = [&["--storage-url", &url][..], &keys].concat();
        let nothing = Objects::Folder(TempDir::new().unwrap());
        Self::over(&arguments, nothing, options, Clock::System).await
    }

    async fn over(storage: &[&str], objects: Objects, options: &[&str], clock: Clock) -> Self {
        let database = Database::migrated().await;
        let owner = database.pool(Role::Owner).await;
        registry::prepare(&owner).await.unwrap();
        let shutdown = Shutdown::new();
        let keys = Keys::new(Key::from_bytes([7; 32]));
        let pool = database.pool(Role::Api).await;
        let log = Log::open(pool.clone(), keys.clone(), &shutdown)
            .await
            .unwrap();
        let projecting = Shutdown::new();
        project(&database, &log, &keys, &projecting).await;
        let listen = testing::port::free();
        let url = format!("http://{listen}");
        // Tests ask much; those of rates say which.
        let rates = if options.contains(&"--rate-limits") {
            [].as_slice()
        } else {
            &["--rate-limits", "off"]
        };
        let arguments = ["api", "--secret-key", SECRET]
            .into_iter()
            .chain(["--upload-max-bytes", "100000000"])
            .chain(rates.iter().copied())
            .chain(options.iter().copied());
        let config = ApiArgs::parse_from(arguments).api;
        let arguments = ["storage", "--public-url", &url]
            .into_iter()
            .chain(storage.iter().copied());
        let store = Store::open_or_make(&StorageArgs::parse_from(arguments).storage).unwrap();
        let state = ApiState::new(
            config,
            log.clone(),
            (pool, database.pool(Role::Accounts).await),
            store,
            clock,
            shutdown.clone(),
        )
        .await
        .unwrap();
        let listener = tokio::net::TcpListener::bind(listen).await.unwrap();
        let router = api::router(state, axum::Router::new()).layer(from_fn(documented::holds));
        service::http::serve(listener, router, &[], &shutdown);
        let tenant = log.default_tenant().await.unwrap();
        let http = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        Self {
            url,
            tenant,
            http,
            owner,
            log,
            projecting,
            shutdown,
            objects,
            database,
        }
    }

    /// Someone of the default tenant.
    pub(crate) fn user(&self, name: &str) -> User<'_> {
        self.user_of(self.tenant, name)
    }

    /// Someone of some tenant.
    pub(crate) fn user_of(&self, tenant: TenantId, name: &str) -> User<'_> {
        self.user_for(tenant, name, Duration::from_mins(10))
    }

    /// Someone whose token holds for `ttl`.
    pub(crate) fn user_for(&self, tenant: TenantId, name: &str, ttl: Duration) -> User<'_> {
        self.bearer(tenant, name, &[], ttl)
    }

    /// Someone of some tenant who may more than every user may.
    pub(crate) fn bearer(
        &self,
        tenant: TenantId,
        name: &str,
        roles: &[api::auth::Role],
        ttl: Duration,
    ) -> User<'_> {
        let token = api::auth::issue(
            &Secret::new(SECRET),
            tenant,
            name,
            roles,
            ttl,
            Clock::System.now(),
        );
        User {
            app: self,
            token,
            id: UserId::of(api::auth::ISSUER, name),
            position: None,
        }
    }

    /// Whoever has this token.
    pub(crate) fn with_token(&self, token: &str) -> User<'_> {
        User {
            app: self,
            token: token.to_owned(),
            id: UserId(Uuid::nil()),
            position: None,
        }
    }

    /// A tenant besides the default one.
    pub(crate) async fn second_tenant(&self) -> TenantId {
        let tenant = TenantId(Uuid::from_u128(2));
        sqlx::query("INSERT INTO log.tenants (tenant, name) VALUES ($1, 'second')")
            .bind(tenant)
            .execute(&self.owner)
            .await
            .unwrap();
        tenant
    }

    fn object(&self, key: &str) -> PathBuf {
        let root = match &self.objects {
            Objects::Folder(folder) => folder.path().to_owned(),
            Objects::Bucket(server) => server.bucket_folder(),
        };
        root.join(key)
    }

    /// Whether there is such an object in the store.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.object(key).exists()
    }

    /// Puts an object into the store behind everybody's back.
    pub(crate) fn plant(&self, key: &str, bytes: &[u8]) {
        let file = self.object(key);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, bytes).unwrap();
    }

    /// How many uploads to the folder are on their way.
    pub(crate) fn incoming(&self) -> usize {
        let Objects::Folder(folder) = &self.objects else {
            return 0;
        };
        let aside = folder.path().join(".incoming");
        std::fs::read_dir(aside).unwrap().count()
    }

    /// Position of the newest fact.
    pub(crate) async fn head(&self) -> i64 {
        sqlx::query_scalar("SELECT COALESCE(max(position), 0) FROM log.events")
            .fetch_one(&self.owner)
            .await
            .unwrap()
    }

    /// Holds a table, as `LOCK TABLE` says: `feed.post IN EXCLUSIVE MODE` is read, and not written.
    pub(crate) async fn locked(&self, table: &'static str) -> Transaction<'static, Postgres> {
        let mut held = db::begin(&self.owner, "BEGIN").await.unwrap();
        let lock = AssertSqlSafe(format!("LOCK TABLE {table}"));
        sqlx::query(lock).execute(&mut *held).await.unwrap();
        held
    }

    /// Waits until every read model has taken in every fact.
    pub(crate) async fn level(&self) {
        testing::wait::until_true(LONG, "the read models are level", async || {
            let mut connection = self.owner.acquire().await.unwrap();
            let lags = events::subscription::lag(&mut connection).await.unwrap();
            !lags.is_empty() && lags.iter().all(|lag| lag.lanes_behind == 0)
        })
        .await;
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.projecting.cancel();
        self.shutdown.cancel();
    }
}

async fn project(database: &Database, log: &Log, keys: &Keys, shutdown: &Shutdown) {
    let pool = database.pool(Role::Projector).await;
    let wake = events::store::Wake::start(pool.clone(), shutdown);
    for subscriber in registry::subscribers(&pool, &projectors::config::Config::default())
        .await
        .unwrap()
    {
        let source = Source::open(None, &pool, &wake, log.id(), subscriber.name()).unwrap();
        let runner = Runner::new(
            subscriber,
            pool.clone(),
            source,
            keys.clone(),
            Options::default(),
        );
        let ending = shutdown.clone();
        shutdown.spawn(async move { runner.run(&ending).await });
    }
}

/// Someone who uses the API, and reads what they wrote.
#[derive(Clone)]
pub(crate) struct User<'a> {
    app: &'a App,
    pub(crate) token: String,
    pub(crate) id: UserId,
    position: Option<String>,
}

impl User<'_> {
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self
            .app
            .http
            .request(method, format!("{}{path}", self.app.url))
            .bearer_auth(&self.token);
        match &self.position {
            Some(position) => request.header("cinelog-min-position", position),
            None => request,
        }
    }

    /// A command that must succeed; later reads wait for it.
    pub(crate) async fn does(&mut self, method: Method, path: &str, body: Option<Value>) -> Value {
        let mut request = self.request(method, path);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        if let Some(position) = response.headers().get("cinelog-position") {
            self.position = Some(position.to_str().unwrap().to_owned());
        }
        let (status, text) = (response.status(), response.text().await.unwrap());
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    /// Later reads wait for what `other` did last.
    pub(crate) fn knows(&mut self, other: &Self) {
        self.position.clone_from(&other.position);
    }

    pub(crate) async fn posts(&mut self, path: &str, body: Value) -> Value {
        self.does(Method::POST, path, Some(body)).await
    }

    pub(crate) async fn puts(&mut self, path: &str) -> Value {
        self.does(Method::PUT, path, None).await
    }

    pub(crate) async fn deletes(&mut self, path: &str) {
        self.does(Method::DELETE, path, None).await;
    }

    /// What a read gives, which must succeed.
    pub(crate) async fn reads(&self, path: &str) -> Value {
        let response = self.request(Method::GET, path).send().await.unwrap();
        let (status, text) = (response.status(), response.text().await.unwrap());
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// What a read gives once `fits` holds of it.
    pub(crate) async fn sees(
        &self,
        path: &str,
        what: &str,
        fits: impl Fn(&Value) -> bool,
    ) -> Value {
        testing::wait::until(SOON, what, async || {
            Some(self.reads(path).await).filter(&fits)
        })
        .await
    }
}

/// Asserts that `response` is a whole problem of this status and type, and returns it.
#[track_caller]
pub(crate) fn assert_problem(
    response: Response,
    status: u16,
    slug: &str,
) -> impl Future<Output = Value> {
    let at = std::panic::Location::caller();
    let slug = slug.to_owned();
    async move {
        let (found, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.unwrap();
        assert_eq!(
            found,
            StatusCode::from_u16(status).unwrap(),
            "at {at}: {text}"
        );
        assert_eq!(
            headers["content-type"], "application/problem+json",
            "at {at}"
        );
        let problem: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            problem["type"],
            format!("/problems/{slug}"),
            "at {at}: {text}"
        );
        assert_eq!(problem["status"], status, "at {at}");
        assert!(
            problem["title"]
                .as_str()
                .is_some_and(|title| !title.is_empty()),
            "at {at}"
        );
        assert_eq!(
            problem["request_id"],
            headers["x-request-id"].to_str().unwrap(),
            "at {at}"
        );
        problem
    }
}

/// The SHA-256 of `bytes`, as uploads give it.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    storage::Checksum::of(bytes).to_string()
}
