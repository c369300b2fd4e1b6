//! A bucket that does not answer is left alone for a while: who asks is told at once instead of waiting for what will not come, and one
//! asks for all whether it is back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::Error;

/// So many operations in a row must find no answer, each of which has tried more than once.
const FAILURES: u32 = 5;
/// For how long nobody asks then.
const OPEN: Duration = Duration::from_secs(5);
/// An operation that its caller gave up after so long found no answer either: not everybody waits for all of our tries.
const SILENCE: Duration = Duration::from_secs(10);
/// What takes longer with a bucket that answers, in proportion to bytes or objects. Each wait within has a limit of its own.
const LONG: [&str; 5] = ["hash", "download", "upload", "join_parts", "delete_under"];

/// Whether to ask a bucket; clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Breaker(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    open_until: Option<Instant>,
}

/// An operation under way. Dropped before it found anything, it was given up.
pub(crate) struct Asking {
    breaker: Breaker,
    since: Instant,
    long: bool,
}

impl Asking {
    /// What the operation found.
    pub(crate) fn saw<T>(mut self, now: Instant, result: &Result<T, Error>) {
        // Nothing is left to tell.
        self.long = true;
        self.breaker.saw(now, result);
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        if !self.long && self.since.elapsed() >= SILENCE {
            self.breaker.state().silence(Instant::now());
        }
    }
}

impl State {
    fn silence(&mut self, now: Instant) {
        self.failures += 1;
        if self.failures >= FAILURES && self.open_until.is_none() {
            tracing::warn!("the bucket does not answer and is left alone for a while");
            self.open_until = Some(now + OPEN);
        }
    }
}

impl Breaker {
    /// An operation that begins now, unless the bucket is left alone.
    pub(crate) fn ask(&self, operation: &str, now: Instant) -> Result<Asking, Error> {
        self.pass(now)?;
        Ok(Asking {
            breaker: self.clone(),
            since: now,
            long: LONG.contains(&operation),
        })
    }

    /// Refuses while the bucket is left alone. The first to ask afterwards may; the others wait for what it finds.
    fn pass(&self, now: Instant) -> Result<(), Error> {
        let mut state = self.state();
        match state.open_until {
            Some(until) if until > now => {
                Err(Error::Unavailable("it did not answer a moment ago".into()))
            }
            Some(_) => {
                state.open_until = Some(now + OPEN);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn saw<T>(&self, now: Instant, result: &Result<T, Error>) {
        let mut state = self.state();
        // Every other error is an answer.
        if !matches!(result, Err(Error::Unavailable(_))) {
            if state.open_until.is_some() {
                tracing::info!("the bucket answers again");
            }
            *state = State::default();
            return;
        }
        state.silence(now);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Whole after each step, whatever panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn silence() -> Result<(), Error> {
        Err(Error::Unavailable("silence".into()))
    }

    #[test]
    fn a_bucket_is_left_alone_and_asked_again_by_one() {
        let (breaker, mut now) = (Breaker::default(), Instant::now());
        for _ in 0..FAILURES {
            assert!(breaker.pass(now).is_ok());
            breaker.saw(now, &silence());
        }
        assert!(breaker.pass(now).is_err());
        now += OPEN;
        assert!(breaker.pass(now).is_ok(), "one asks");
        assert!(breaker.pass(now).is_err(), "the others wait");
        breaker.saw(now, &silence());
        assert!(breaker.pass(now).is_err());
        now += OPEN;
        assert!(breaker.pass(now).is_ok());
        breaker.saw(now, &Ok(()));
        assert!(breaker.pass(now).is_ok() && breaker.pass(now).is_ok());
    }

    #[test]
    fn who_gives_up_after_a_long_silence_found_none() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        let long_ago = now.checked_sub(SILENCE).unwrap();
        for _ in 0..FAILURES {
            drop(breaker.ask("head", now).unwrap());
            drop(breaker.ask("hash", long_ago).unwrap());
        }
        assert!(breaker.pass(now).is_ok());
        for _ in 0..FAILURES {
            drop(breaker.ask("head", long_ago).unwrap());
        }
        assert!(breaker.pass(Instant::now()).is_err());
    }

    #[test]
    fn an_answer_is_an_answer_even_if_it_is_no() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..FAILURES * 2 {
            breaker.saw(now, &silence());
            breaker.saw::<()>(now, &Err(Error::Refused("no".into())));
        }
        assert!(breaker.pass(now).is_ok());
    }
}
