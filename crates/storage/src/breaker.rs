//! A bucket that does not answer is left alone for a while: who asks is told at once instead of waiting for what will not come, and one
//! asks for all whether it is back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::Error;

/// So many operations in a row must find no answer, each of which has tried more than once.
const FAILURES: u32 = 5;
/// For how long nobody asks then.
const OPEN: Duration = Duration::from_secs(5);

/// Whether to ask a bucket; clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Breaker(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    open_until: Option<Instant>,
}

impl Breaker {
    /// Refuses while the bucket is left alone. The first to ask afterwards may; the others wait for what it finds.
    pub(crate) fn pass(&self, now: Instant) -> Result<(), Error> {
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

    /// What an operation found.
    pub(crate) fn saw<T>(&self, now: Instant, result: &Result<T, Error>) {
        let mut state = self.state();
        // Every other error is an answer.
        if !matches!(result, Err(Error::Unavailable(_))) {
            if state.open_until.is_some() {
                tracing::info!("the bucket answers again");
            }
            *state = State::default();
            return;
        }
        state.failures += 1;
        if state.failures >= FAILURES && state.open_until.is_none() {
            tracing::warn!("the bucket does not answer and is left alone for a while");
            state.open_until = Some(now + OPEN);
        }
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
    fn an_answer_is_an_answer_even_if_it_is_no() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..FAILURES * 2 {
            breaker.saw(now, &silence());
            breaker.saw::<()>(now, &Err(Error::Refused("no".into())));
        }
        assert!(breaker.pass(now).is_ok());
    }
}
