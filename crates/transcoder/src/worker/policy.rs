//! How long each stage of an attempt may take, and what is tried again, how often and when: one table of values.

use std::time::Duration;

use service::retry::Backoff;

use crate::error::Kind;

/// A stage of an attempt. Rendering is not among them: its deadline depends on what is rendered.
pub(super) struct Stage {
    pub(super) doing: &'static str,
    /// How long one try may take.
    pub(super) limit: Duration,
    /// Tries within an attempt.
    pub(super) tries: usize,
}

pub(super) const FETCH: Stage = Stage {
    doing: "fetch the original",
    limit: Duration::from_hours(1),
    tries: 1,
};
pub(super) const STORE: Stage = Stage {
    doing: "store the outputs",
    limit: Duration::from_hours(1),
    tries: 1,
};
/// Longer than waiting for a lock may take, so that only a silent connection runs into it; and again, when others change the
/// asset, or Postgres does not answer.
pub(super) const RECORD: Stage = Stage {
    doing: "record the job's end",
    limit: Duration::from_secs(15),
    tries: 8,
};

/// Attempts at a job that fails in a certain way, and the wait between them. What is not here is not tried again.
struct Policy {
    kind: Kind,
    /// Of one that died: deaths, whatever else it failed of.
    attempts: i32,
    first: Duration,
    most: Duration,
}

const POLICIES: [Policy; 3] = [
    Policy {
        kind: Kind::Infra,
        attempts: 6,
        first: Duration::from_secs(2),
        most: Duration::from_mins(5),
    },
    Policy {
        kind: Kind::Resource,
        attempts: 4,
        first: Duration::from_secs(30),
        most: Duration::from_mins(10),
    },
    Policy {
        kind: Kind::Died,
        attempts: 2,
        first: Duration::from_secs(1),
        most: Duration::from_secs(1),
    },
];

/// A job that was begun more often than this ended its workers, or they ended for reasons that do not go away.
pub(super) const MOST_ATTEMPTS: i32 = 10;

/// How long to wait before the next attempt; none: `attempts` were enough, or another one changes nothing.
pub(super) fn wait_after(kind: Kind, attempts: i32) -> Option<Duration> {
    let policy = POLICIES.iter().find(|policy| policy.kind == kind)?;
    if attempts >= policy.attempts {
        return None;
    }
    let mut backoff = Backoff::new(policy.first, policy.most);
    (0..attempts.max(1)).map(|_| backoff.next_wait()).last()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_input_s_fault_is_final() {
        assert_eq!(wait_after(Kind::Input, 1), None);
        assert_eq!(wait_after(Kind::Limit, 1), None);
    }

    #[test]
    fn one_death_may_be_chance_and_two_are_not() {
        assert!(wait_after(Kind::Died, 1).is_some());
        assert_eq!(wait_after(Kind::Died, 2), None);
    }

    #[test]
    fn waits_grow_until_there_are_no_more() {
        let waits: Vec<_> = (1..=6).map(|n| wait_after(Kind::Infra, n)).collect();
        assert!(waits[0] <= Some(Duration::from_secs(2)));
        assert!(waits[4] >= Some(Duration::from_secs(16)));
        assert_eq!(waits[5], None);
    }
}
