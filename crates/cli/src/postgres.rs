//! A private cluster of the installed Postgres, in the data folder, on a unix socket only.
//!
//! Run as root, the server runs as the user `postgres`, since it refuses root's rights.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, bail, ensure};
use service::secret::Secret;
use service::shutdown::Shutdown;
use tokio::process::Command;
use uuid::Uuid;

/// A unix socket's path may have 107 bytes; the socket's own name takes some.
const SOCKET_PATH_MAX: usize = 85;

/// Names the socket; nothing listens on a network.
const PORT: u16 = 5432;

/// A running private cluster.
#[derive(Debug)]
pub struct Cluster {
    programs: PathBuf,
    data: PathBuf,
    socket: PathBuf,
}

impl Cluster {
    /// Starts the cluster in `folder`, making it first when there is none. One that still runs, because its owner was
    /// killed, is taken over. A second signal stops it too.
    pub async fn start(folder: &Path, shutdown: &Shutdown) -> anyhow::Result<Self> {
        let data = folder.join("data");
        let cluster = Self {
            programs: programs(&data)?,
            socket: socket_folder(folder),
            data,
        };
        for made in [folder, &cluster.data, &cluster.socket] {
            fs::create_dir_all(made).with_context(|| format!("make {}", made.display()))?;
        }
        if as_root() {
            for owned in [&cluster.data, &cluster.socket] {
                run(Command::new("chown").arg("postgres").arg(owned)).await?;
            }
            cluster.reachable().await?;
        }
        for private in [&cluster.data, &cluster.socket] {
            fs::set_permissions(private, fs::Permissions::from_mode(0o700))?;
        }
        if !cluster.data.join("PG_VERSION").exists() {
            cluster.init().await?;
        }
        shutdown.on_second_signal(cluster.halt().into_std());
        if !cluster.runs().await {
            cluster.launch().await?;
        }
        Ok(cluster)
    }

    /// Its URL, with a superuser's rights; only who may enter the socket's folder can use it.
    pub fn url(&self) -> Secret {
        url(&self.socket)
    }

    /// The URL of the cluster in `folder`, whether or not it runs.
    pub fn url_in(folder: &Path) -> Secret {
        url(&socket_folder(folder))
    }

    /// Stops it, keeping its data.
    pub async fn stop(self) -> anyhow::Result<()> {
        let mut stop = self.program("pg_ctl");
        run(stop
            .arg("-D")
            .arg(&self.data)
            .args(["-w", "-s", "-m", "fast", "-t", "30", "stop"]))
        .await?;
        Ok(())
    }

    /// Stops it without waiting and without a word; it recovers at its next start.
    fn halt(&self) -> Command {
        let mut halt = self.program("pg_ctl");
        halt.arg("-D")
            .arg(&self.data)
            .args(["-W", "-s", "-m", "immediate", "stop"])
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        halt
    }

    async fn init(&self) -> anyhow::Result<()> {
        let mut init = self.program("initdb");
        init.arg("-D").arg(&self.data).args([
            "-A",
            "trust",
            "-U",
            "postgres",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
        ]);
        run(&mut init)
            .await
            .context("make the private Postgres")
            .map(drop)
    }

    async fn runs(&self) -> bool {
        run(self
            .program("pg_ctl")
            .arg("-D")
            .arg(&self.data)
            .arg("status"))
        .await
        .is_ok()
    }

    async fn launch(&self) -> anyhow::Result<()> {
        let options = format!(
            // The port too: PGPORT in our environment would name another socket. And tables that have grown are looked at within
            // seconds: plans that were made while they were empty are kept until then.
            "-c listen_addresses='' -c unix_socket_directories='{}' -c port={PORT} -c autovacuum_naptime=5s",
            self.socket.display()
        );
        let mut start = self.program("pg_ctl");
        start
            .arg("-D")
            .arg(&self.data)
            .arg("-l")
            .arg(self.data.join("server.log"));
        start.args(["-w", "-s", "-t", "60", "-o", &options, "start"]);
        run(&mut start)
            .await
            .with_context(|| format!("start Postgres; see {}/server.log", self.data.display()))?;
        Ok(())
    }

    /// Whether the user `postgres` gets to its folders.
    async fn reachable(&self) -> anyhow::Result<()> {
        for folder in [&self.data, &self.socket] {
            let reached = run(as_server("test").arg("-w").arg(folder)).await;
            ensure!(
                reached.is_ok(),
                "the user `postgres` cannot reach {}: choose another --data, e.g. `make up DATA=/var/lib/cinelog`",
                folder.display()
            );
        }
        Ok(())
    }

    fn program(&self, name: &str) -> Command {
        as_server(self.programs.join(name))
    }
}

fn url(socket: &Path) -> Secret {
    Secret::new(format!(
        "postgres://postgres@localhost:{PORT}/postgres?host={}",
        socket.display()
    ))
}

/// Where the socket is: with the data, unless that path is too long for one.
fn socket_folder(folder: &Path) -> PathBuf {
    let beside = folder.join("socket");
    if beside.as_os_str().len() <= SOCKET_PATH_MAX {
        return beside;
    }
    let name = Uuid::new_v5(&Uuid::NAMESPACE_OID, folder.as_os_str().as_encoded_bytes());
    std::env::temp_dir().join(format!("cinelog-{}", name.simple()))
}

/// The server programs that can run the cluster in `data`: those of its own version, or for a new one the newest.
fn programs(data: &Path) -> anyhow::Result<PathBuf> {
    let own: Option<u32> = fs::read_to_string(data.join("PG_VERSION"))
        .ok()
        .and_then(|text| text.trim().parse().ok());
    let installed = installed();
    let Some(own) = own else {
        let newest = installed.into_iter().max_by_key(|bin| version(bin));
        return newest.or_else(on_path).context(
            "Postgres is not installed: run ops/dev/setup, or set DATABASE_URL to a server",
        );
    };
    // Programs on the PATH do not tell their version by their place; they are asked only where there are no others.
    let found = if installed.is_empty() {
        on_path()
    } else {
        installed.into_iter().find(|bin| version(bin) == own)
    };
    found.with_context(|| {
        format!(
            "the data in {} is Postgres {own}'s: install the package postgresql-{own}",
            data.display()
        )
    })
}

/// Where packages put server programs.
fn installed() -> Vec<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let debian = versions.map(|entry| entry.path().join("bin"));
    let brew = [
        "/opt/homebrew/opt/postgresql@17/bin",
        "/usr/local/opt/postgresql@17/bin",
    ]
    .map(PathBuf::from);
    debian
        .chain(brew)
        .filter(|bin| bin.join("initdb").exists())
        .collect()
}

fn on_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).find(|bin| bin.join("initdb").exists())
}

/// The version of programs in `/usr/lib/postgresql/17/bin` or `…/postgresql@17/bin`.
fn version(bin: &Path) -> u32 {
    bin.parent()
        .and_then(|folder| {
            folder
                .file_name()?
                .to_str()?
                .rsplit('@')
                .next()?
                .parse()
                .ok()
        })
        .unwrap_or_default()
}

fn as_root() -> bool {
    // The process's own entry is always readable on Linux; elsewhere nobody runs this as root.
    fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0)
}

/// A command with the server's rights, in a folder that exists for it.
fn as_server(program: impl AsRef<std::ffi::OsStr>) -> Command {
    if !as_root() {
        return Command::new(program);
    }
    let mut command = Command::new("runuser");
    command
        .args(["-u", "postgres", "--"])
        .arg(program)
        .current_dir("/");
    command
}

async fn run(command: &mut Command) -> anyhow::Result<String> {
    // A terminal's Ctrl-C is for us; the server ends when we say so.
    let output = command
        .process_group(0)
        .stdin(Stdio::null())
        .output()
        .await?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    bail!("{}", String::from_utf8_lossy(&output.stderr).trim())
}
