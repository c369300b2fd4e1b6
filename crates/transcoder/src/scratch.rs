//! Folders to work in. One goes with its owner; where the owner is killed, the next one made beside it takes it away. A living
//! owner is told by a lock on its folder, which the kernel frees with the process.

use std::fs::{self, DirEntry, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use tempfile::TempDir;

/// How often a folder is made anew when someone took it away before it was locked.
const TRIES: usize = 10;

/// An empty folder of its owner's own.
#[derive(Debug)]
pub(crate) struct Scratch {
    folder: TempDir,
    /// After the folder, so that it goes first.
    _lock: Option<File>,
}

impl Scratch {
    /// Makes one in `parent` whose name begins with `prefix`, and takes away those there that nobody holds any more.
    pub(crate) fn make(parent: &Path, prefix: &str) -> io::Result<Self> {
        sweep(parent, prefix);
        for _ in 0..TRIES {
            let folder = tempfile::Builder::new().prefix(prefix).tempdir_in(parent)?;
            let lock = match hold(folder.path()) {
                Ok(None) => continue,
                Ok(lock) => lock,
                // Nobody will take it away.
                Err(error) if has_no_locks(&error) => None,
                Err(error) => return Err(error),
            };
            return Ok(Self {
                folder,
                _lock: lock,
            });
        }
        Err(io::Error::other("every new folder was taken away"))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Whether the file system cannot lock.
fn has_no_locks(error: &io::Error) -> bool {
    let codes = [
        libc::ENOLCK,
        libc::ENOSYS,
        libc::EOPNOTSUPP,
        libc::EINVAL,
        libc::EBADF,
    ];
    error
        .raw_os_error()
        .is_some_and(|code| codes.contains(&code))
}

/// Takes away what dead owners left. What cannot be is left: someone else's, or on a file system without locks.
fn sweep(parent: &Path, prefix: &str) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let named = entry
            .file_name()
            .to_str()
            .is_some_and(|name| name.starts_with(prefix));
        if named && is_our_folder(&entry) {
            let folder = entry.path().display().to_string();
            match take_away(&entry.path()) {
                Ok(true) => tracing::info!(folder, "removed what a killed process left"),
                Ok(false) => {}
                Err(error) => tracing::debug!(%error, folder, "left where it is"),
            }
        }
    }
}

fn is_our_folder(entry: &DirEntry) -> bool {
    let us = rustix::process::geteuid().as_raw();
    // Of the entry itself: a link is not followed.
    entry
        .metadata()
        .is_ok_and(|found| found.is_dir() && found.uid() == us)
}

/// Removes a folder that nobody holds; false: someone does.
fn take_away(folder: &Path) -> io::Result<bool> {
    let Some(_lock) = hold(folder)? else {
        return Ok(false);
    };
    fs::remove_dir_all(folder)?;
    Ok(true)
}

/// Locks a folder; none: another has, or it is gone.
fn hold(folder: &Path) -> io::Result<Option<File>> {
    let opened = match File::open(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    match opened.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    // It may have been taken away before it was locked.
    let ours = opened.metadata()?;
    let there = fs::symlink_metadata(folder);
    let same = there.is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino()));
    Ok(same.then_some(opened))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(parent: &Path) -> Vec<String> {
        let entries = fs::read_dir(parent).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_held_stays_and_what_nobody_holds_goes() {
        let parent = tempfile::tempdir().unwrap();
        let held = Scratch::make(parent.path(), "job-").unwrap();
        fs::write(held.path().join("half.mp4"), "x").unwrap();
        let dead = parent.path().join("job-dead");
        fs::create_dir_all(dead.join("out")).unwrap();
        fs::write(dead.join("out/half.mp4"), "x").unwrap();
        for other in ["jobs", "other-job-1"] {
            fs::create_dir(parent.path().join(other)).unwrap();
        }
        fs::write(parent.path().join("job-file"), "not a folder").unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), parent.path().join("job-link")).unwrap();

        let next = Scratch::make(parent.path(), "job-").unwrap();
        assert!(held.path().join("half.mp4").exists());
        assert!(!dead.exists());
        assert!(elsewhere.path().exists());
        drop((held, next));
        assert_eq!(
            names(parent.path()),
            ["job-file", "job-link", "jobs", "other-job-1"]
        );
    }

    #[test]
    fn many_at_once_have_one_each() {
        let parent = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let scratch = Scratch::make(parent.path(), "job-").unwrap();
                        fs::write(scratch.path().join("alone"), "").unwrap();
                        assert_eq!(names(scratch.path()), ["alone"]);
                    }
                });
            }
        });
        assert_eq!(names(parent.path()), [""; 0]);
    }
}
