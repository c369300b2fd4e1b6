//! The data folder of a single machine: secrets, the private Postgres, stored objects.

use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rand::RngCore;
use service::secret::Secret;

/// A data folder, open for one process.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    /// Held while this lives, by the process that runs on the folder.
    lock: Option<File>,
}

impl DataFolder {
    /// Opens the folder for the process that runs on it; made when there is none.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(path)
            .with_context(|| format!("make the data folder {}", path.display()))?;
        let path = fs::canonicalize(path)?;
        let lock = File::create(path.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                path,
                lock: Some(lock),
            }),
            Err(TryLockError::WouldBlock) => {
                bail!("another `cinelog up` runs on {}", path.display())
            }
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }

    /// Looks into a folder that another process may run on.
    pub fn look(path: &Path) -> anyhow::Result<Self> {
        let path = fs::canonicalize(path).with_context(|| {
            format!(
                "no data folder at {}: start `cinelog up` there first",
                path.display()
            )
        })?;
        Ok(Self { path, lock: None })
    }

    /// The private Postgres's folder.
    pub fn postgres(&self) -> PathBuf {
        self.path.join("postgres")
    }

    /// The folder store.
    pub fn storage(&self) -> PathBuf {
        self.path.join("storage")
    }

    /// Where mails are put that no server is configured for.
    pub fn mail(&self) -> PathBuf {
        self.path.join("mail")
    }

    /// Where jobs work; emptied, since what a killed worker left there is of no use.
    pub fn empty_scratch(&self) -> anyhow::Result<PathBuf> {
        let scratch = self.path.join("scratch");
        match fs::remove_dir_all(&scratch) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            _ => fs::create_dir(&scratch)?,
        }
        Ok(scratch)
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What tokens, cursors and URLs are signed with; made on first use.
    pub fn secret_key(&self) -> anyhow::Result<Secret> {
        self.secret("secret.key")
    }

    /// What wraps the keys of persons; made on first use. Losing it loses every person's texts.
    pub fn master_key(&self) -> anyhow::Result<Secret> {
        self.secret("master.key")
    }

    /// The secret in `name`. Only the process that runs on the folder makes one, whole or not at all.
    fn secret(&self, name: &str) -> anyhow::Result<Secret> {
        let path = self.path.join(name);
        match fs::read_to_string(&path) {
            Ok(text) => return Ok(Secret::new(text.trim())),
            Err(error) if error.kind() == ErrorKind::NotFound && self.lock.is_some() => {}
            Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
        }
        let mut bytes = [0; 32];
        rand::rng().fill_bytes(&mut bytes);
        let text = BASE64.encode(bytes);
        // Readable by its owner only, as temporary files are.
        let mut file = tempfile::NamedTempFile::new_in(&self.path)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist_noclobber(&path)
            .with_context(|| format!("write {}", path.display()))?;
        File::open(&self.path)?.sync_all()?;
        Ok(Secret::new(text))
    }
}
