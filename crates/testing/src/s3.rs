//! A real S3 server over a folder: s3s-fs, in this process or as the `s3-server` binary.
//!
//! Where it differs from a real store (0.14.1, each held by a test of the storage crate): a PUT whose body does not
//! match its signed `x-amz-checksum-sha256` is answered 400, yet the wrong bytes stay at the key; and `if-none-match: *`
//! is looked at before the body comes in, so two simultaneous PUTs may both pass.

mod server;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use service::shutdown::Shutdown;
use tempfile::TempDir;
use tokio::net::TcpListener;

use self::server::Server;

/// How long open requests may take to end when the server stops.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// Serves the buckets (sub-folders) of `root` on `listener` until `shutdown`, making `bucket` if it is not there.
pub async fn serve(
    listener: TcpListener,
    root: &Path,
    bucket: &str,
    keys: (&str, &str),
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    std::fs::create_dir_all(root.join(bucket)).context("make the bucket's folder")?;
    let files = FileSystem::new(root)
        .map_err(|error| anyhow::anyhow!("open {}: {error:?}", root.display()))?;
    let mut builder = S3ServiceBuilder::new(Server::new(files));
    builder.set_auth(SimpleAuth::from_single(keys.0, keys.1));
    accept(listener, builder.build(), &shutdown).await
}

async fn accept(
    listener: TcpListener,
    service: S3Service,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    let server = auto::Builder::new(TokioExecutor::new());
    let open = GracefulShutdown::new();
    loop {
        let (socket, _) = tokio::select! {
            socket = listener.accept() => socket.context("accept a connection")?,
            () = shutdown.cancelled() => break,
        };
        // Without it, small answers wait 40 ms for the client's delayed ACK.
        socket.set_nodelay(true)?;
        let connection = server.serve_connection(TokioIo::new(socket), service.clone());
        let connection = open.watch(connection.into_owned());
        shutdown.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended");
            }
        });
    }
    let _ = tokio::time::timeout(STOP_LIMIT, open.shutdown()).await;
    Ok(())
}

/// A server of a test's own, with an empty bucket. It ends, and its objects go, when this is dropped.
#[derive(Debug)]
pub struct S3Server {
    /// Where it listens: `http://127.0.0.1:PORT`.
    pub endpoint: String,
    /// Its bucket.
    pub bucket: String,
    /// The key it accepts.
    pub access_key: String,
    /// The secret of that key.
    pub secret_key: String,
    root: TempDir,
    shutdown: Shutdown,
}

impl S3Server {
    /// Starts one on a free port.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    pub async fn start() -> Self {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
            .await
            .expect("a free port");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let server = Self {
            endpoint: format!("http://{address}"),
            bucket: "cinelog-test".into(),
            access_key: "test-key".into(),
            secret_key: "test-secret".into(),
            root: TempDir::new().expect("a temporary folder"),
            shutdown: Shutdown::new(),
        };
        // Before any request: the folder is the bucket.
        std::fs::create_dir(server.bucket_folder()).expect("the bucket's folder");
        let (root, bucket) = (server.root.path().to_path_buf(), server.bucket.clone());
        let (key, secret, shutdown) = (
            server.access_key.clone(),
            server.secret_key.clone(),
            server.shutdown.clone(),
        );
        server.shutdown.spawn(async move {
            if let Err(error) = serve(listener, &root, &bucket, (&key, &secret), shutdown).await {
                tracing::error!(?error, "the test's S3 server ended");
            }
        });
        server
    }

    /// The bucket as `STORAGE_URL` names it.
    pub fn storage_url(&self) -> String {
        format!(
            "s3://{}?endpoint={}&region=us-east-1",
            self.bucket, self.endpoint
        )
    }

    /// The folder whose files are the bucket's objects, to tamper with them behind the server's back.
    pub fn bucket_folder(&self) -> std::path::PathBuf {
        self.root.path().join(&self.bucket)
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}
