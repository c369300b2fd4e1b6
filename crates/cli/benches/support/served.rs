//! The API as in production: a process of its own, with what it says of each request written where nobody reads it.

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use events::id::TenantId;
use rustix::process::Signal;
use service::clock::Clock;
use service::secret::Secret;
use tempfile::TempDir;
use testing::process::Child;
use tokio::process::Command;

use crate::support::{MASTER, World};

const SECRET: &str = "a secret that only the benches have";
/// What one user may ask for in a minute is not what is measured.
const UNLIMITED: &str = "off";
/// How long starting and ending may take.
const LIMIT: Duration = Duration::from_mins(1);
/// How long a token holds: longer than any bench.
const TOKEN: Duration = Duration::from_hours(24);

/// An API over a bench's database.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    /// Its process.
    pub(crate) api: Child,
    tenant: TenantId,
    _objects: TempDir,
}

impl Served {
    /// It, with these options besides.
    pub(crate) async fn start(world: &World, options: &[&str]) -> Self {
        Self::limited(world, UNLIMITED, options).await
    }

    /// It, with these rates.
    pub(crate) async fn limited(world: &World, rates: &str, options: &[&str]) -> Self {
        let objects = TempDir::new().unwrap();
        let folder = objects.path().to_str().unwrap();
        let mut arguments = vec!["api", "--listen", "127.0.0.1:0", "--secret-key", SECRET];
        arguments.extend(["--storage-url", folder, "--rate-limits", rates]);
        arguments.extend(options);
        let mut api = cinelog(world, &arguments);
        let line = api.line("the API is on http://", LIMIT).await;
        let (_, address) = line.rsplit_once('/').unwrap();
        let tenant = sqlx::query_scalar("SELECT tenant FROM log.tenants WHERE name = 'default'")
            .fetch_one(&world.owner)
            .await
            .unwrap();
        Self {
            address: address.parse().unwrap(),
            api,
            tenant,
            _objects: objects,
        }
    }

    /// A token by which `account` calls.
    pub(crate) fn token(&self, account: &str) -> String {
        let (secret, now) = (Secret::new(SECRET), Clock::System.now());
        api::auth::issue(&secret, self.tenant, account, &[], TOKEN, now)
    }

    /// Ends it, as an operator does.
    pub(crate) async fn stop(self) {
        self.api.signal(Signal::TERM);
        let finished = self.api.finish(LIMIT).await;
        assert!(finished.status.success(), "{}", finished.status);
    }
}

/// A process of ours on the bench's database.
pub(crate) fn cinelog(world: &World, arguments: &[&str]) -> Child {
    let mut command = Command::new("sh");
    // A pipe would make it wait for us.
    command.args(["-c", "exec \"$0\" \"$@\" 2>/dev/null"]);
    command.arg(env!("CARGO_BIN_EXE_cinelog")).args(arguments);
    command.env("DATABASE_URL", world.database.url().expose());
    command.env("MASTER_KEY", BASE64.encode(MASTER));
    command.env_remove("KAFKA_BROKERS");
    Child::spawn(command)
}
