//! Passwords: Argon2id with the parameters of RFC 9106's second choice as OWASP gives them (19 MiB, 2 passes), on threads that may
//! take long, so many at once and no more.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use service::secret::Secret;
use tokio::sync::Semaphore;

use crate::Error;

/// Who waits longer for their turn is told to come again.
const PATIENCE: Duration = Duration::from_secs(2);
/// Who may wait for a turn, besides those who have one.
const WAITING: usize = 64;

/// What is checked where there is no account, so that the time taken does not tell.
static NOBODY: LazyLock<Option<String>> = LazyLock::new(|| hash("nobody's password"));

fn hash(password: &str) -> Option<String> {
    let hash: Result<PasswordHash, _> = Argon2::default().hash_password(password.as_bytes());
    hash.ok().map(|hash| hash.to_string())
}

fn fits(password: &str, hash: &str) -> bool {
    let parsed = PasswordHash::new(hash);
    parsed.is_ok_and(|parsed| {
        Argon2::default()
            .verify_password(password.as_bytes(), &parsed)
            .is_ok()
    })
}

pub(crate) struct Passwords {
    turns: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl Passwords {
    pub(crate) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            turns: Arc::new(Semaphore::new(cores)),
            waiting: Arc::new(Semaphore::new(cores + WAITING)),
        }
    }

    /// What is kept of a password.
    pub(crate) async fn hash(&self, password: &Secret) -> Result<String, Error> {
        let password = password.clone();
        let hash = self.in_turn(move || hash(password.expose())).await?;
        hash.ok_or(Error::Busy)
    }

    /// Whether `password` is that of which `hash` was kept; none: nobody's, which takes as long.
    pub(crate) async fn fits(
        &self,
        password: &Secret,
        hash: Option<String>,
    ) -> Result<bool, Error> {
        let password = password.clone();
        self.in_turn(move || {
            if let Some(hash) = hash {
                return fits(password.expose(), &hash);
            }
            let nobody = NOBODY.as_deref().map(|hash| fits(password.expose(), hash));
            std::hint::black_box(nobody);
            false
        })
        .await
    }

    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let _place = Arc::clone(&self.waiting)
            .try_acquire_owned()
            .map_err(|_| Error::Busy)?;
        let turn = Arc::clone(&self.turns).acquire_owned();
        let turn = tokio::time::timeout(PATIENCE, turn).await;
        let turn = turn.map_err(|_| Error::Busy)?.map_err(|_| Error::Busy)?;
        // A caller that stops waiting does not free the core.
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(turn);
            done
        });
        done.await.map_err(|_| Error::Busy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_password_itself_fits_and_nobodys_never() {
        let passwords = Passwords::new();
        let kept = passwords.hash(&Secret::new("correct horse")).await.unwrap();
        assert!(
            kept.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{kept}"
        );
        assert!(
            passwords
                .fits(&Secret::new("correct horse"), Some(kept.clone()))
                .await
                .unwrap()
        );
        assert!(
            !passwords
                .fits(&Secret::new("correct horse "), Some(kept))
                .await
                .unwrap()
        );
        assert!(
            !passwords
                .fits(&Secret::new("nobody's password"), None)
                .await
                .unwrap()
        );
    }

    #[tokio::test]
    async fn it_takes_as_long_where_there_is_nobody() {
        let passwords = Passwords::new();
        let password = Secret::new("correct horse");
        let kept = passwords.hash(&password).await.unwrap();
        // The shortest of some: what else runs only makes it longer.
        let shortest = async |hash: Option<&String>| {
            let mut shortest = Duration::MAX;
            for _ in 0..5 {
                let begun = tokio::time::Instant::now();
                passwords.fits(&password, hash.cloned()).await.unwrap();
                shortest = shortest.min(begun.elapsed());
            }
            shortest
        };
        let (somebody, nobody) = (shortest(Some(&kept)).await, shortest(None).await);
        assert!(nobody * 2 > somebody, "{nobody:?}, {somebody:?}");
    }
}
