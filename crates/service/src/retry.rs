//! When to try again: one answer for every loop in the system.

use std::time::Duration;

use rand::Rng;

/// What a caller does with a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The same call may pass later.
    Later,
    /// The same call will fail again.
    Never,
}

/// Exponential back-off with full jitter, from `first` up to `most`.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    tried: u32,
}

impl Backoff {
    /// Starts at `first` and doubles up to `most`.
    pub fn new(first: Duration, most: Duration) -> Self {
        Self {
            first,
            most,
            tried: 0,
        }
    }

    /// How long to wait before the next try: a random time in the upper half of the current bound.
    pub fn next_wait(&mut self) -> Duration {
        let bound = self
            .first
            .saturating_mul(1 << self.tried.min(16))
            .min(self.most);
        self.tried += 1;
        bound.mul_f64(rand::rng().random_range(0.5..=1.0))
    }

    /// Begins anew after a success.
    pub fn reset(&mut self) {
        self.tried = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_bound_and_no_further() {
        let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(100));
        let waits: Vec<_> = (0..20).map(|_| backoff.next_wait()).collect();
        assert!(waits[0] <= Duration::from_millis(10));
        assert!(waits.iter().all(|w| *w <= Duration::from_millis(100)));
        assert!(waits[10] >= Duration::from_millis(50));
    }
}
