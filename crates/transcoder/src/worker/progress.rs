//! How far a job is, as people see it: one number that never falls, however many stages there are.

use std::time::{Duration, Instant};

use crate::profile::Profile;
use crate::run::Progress;

/// What is known of a job's progress.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Meter {
    /// The stage that runs.
    pub(super) stage: String,
    /// Of the whole job, 0 to 1, never falling.
    pub(super) done: f64,
    since: Instant,
}

impl Meter {
    /// Nothing is done yet.
    pub(super) fn start(now: Instant) -> Self {
        Self {
            stage: "fetch".to_owned(),
            done: 0.0,
            since: now,
        }
    }

    /// Takes a stage's word. Each stage of the profile has an equal share; one that is skipped counts as done.
    pub(super) fn take(&mut self, profile: Profile, said: Progress) {
        let stages: &[&str] = match profile {
            Profile::Fast1 => &["waveform", "poster", "sprite"],
            Profile::Proxy720V1 => &["proxy"],
            Profile::Edit1 => &["edit"],
        };
        let (mut before, mut all) = (0.0, 0.0);
        for stage in stages {
            if *stage == said.stage {
                before = all;
            }
            all += 1.0;
        }
        self.done = ((before + said.fraction) / all).clamp(self.done, 1.0);
        self.stage = said.stage;
    }

    /// How long the rest will take if it goes on like this; none while that cannot be said.
    pub(super) fn left(&self, now: Instant) -> Option<Duration> {
        let spent = now.saturating_duration_since(self.since);
        (self.done >= 0.05).then(|| spent.mul_f64((1.0 - self.done) / self.done))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(stage: &str, fraction: f64) -> Progress {
        Progress {
            stage: stage.to_owned(),
            fraction,
        }
    }

    #[test]
    fn it_never_falls_when_the_next_stage_begins() {
        let now = Instant::now();
        let mut meter = Meter::start(now);
        let mut seen = vec![];
        for (stage, fraction) in [
            ("waveform", 0.5),
            ("waveform", 1.0),
            ("poster", 0.1),
            ("waveform", 0.2),
            ("poster", 1.0),
            ("sprite", 1.0),
        ] {
            meter.take(Profile::Fast1, said(stage, fraction));
            seen.push(meter.done);
        }
        assert_eq!(
            seen,
            [0.5 / 3.0, 1.0 / 3.0, 1.1 / 3.0, 1.1 / 3.0, 2.0 / 3.0, 1.0]
        );
    }

    #[test]
    fn the_rest_takes_as_long_as_what_is_done_did() {
        let now = Instant::now();
        let mut meter = Meter::start(now);
        let later = now + Duration::from_secs(10);
        assert_eq!(meter.left(later), None);
        meter.take(Profile::Proxy720V1, said("proxy", 0.5));
        assert_eq!(meter.left(later), Some(Duration::from_secs(10)));
    }
}
