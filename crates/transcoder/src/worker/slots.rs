//! How many jobs a worker does at once: as many as its cores and its memory allow, and fewer for a while after memory ran out.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What a large job takes: 4K HDR takes 1 GiB, and half of that is kept for what is odd.
const MEMORY_PER_JOB: u64 = 3 << 29;
/// After so long without another failure there may be twice as many again.
const REST: Duration = Duration::from_mins(5);

/// The slots of a worker.
#[derive(Debug)]
pub(super) struct Slots {
    all: usize,
    /// How many there were after the last failure, and when it was.
    lowered: Mutex<Option<(usize, Instant)>>,
}

impl Slots {
    pub(super) fn new(all: usize) -> Self {
        Self {
            all,
            lowered: Mutex::new(None),
        }
    }

    /// How many may have a job now.
    pub(super) fn open(&self, now: Instant) -> usize {
        let lowered = *self.lowered.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((left, since)) = lowered else {
            return self.all;
        };
        let rests = now.saturating_duration_since(since).as_secs() / REST.as_secs();
        let doubled = u32::try_from(rests)
            .ok()
            .and_then(|rests| 1_usize.checked_shl(rests))
            .unwrap_or(usize::MAX);
        left.saturating_mul(doubled).min(self.all)
    }

    /// Memory ran out: half as many from now on. What runs goes on.
    pub(super) fn lower(&self, now: Instant) {
        let left = (self.open(now) / 2).max(1);
        *self.lowered.lock().unwrap_or_else(PoisonError::into_inner) = Some((left, now));
    }
}

/// How many slots this machine is good for.
pub(super) fn by_machine() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    by(cores, memory())
}

fn by(cores: usize, memory: Option<u64>) -> usize {
    let by_memory = memory.map_or(usize::MAX, |bytes| {
        usize::try_from(bytes / MEMORY_PER_JOB).unwrap_or(usize::MAX)
    });
    (cores / 2).min(by_memory).max(1)
}

/// What memory there is for us: the machine's, or less where a control group of ours says so. None: it cannot be told.
fn memory() -> Option<u64> {
    let read = |path: &Path| std::fs::read_to_string(path).ok();
    let machine = read(Path::new("/proc/meminfo")).and_then(|text| total(&text));
    let groups = Path::new("/sys/fs/cgroup");
    let ours = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let ours = ours.lines().find_map(|line| line.strip_prefix("0::/"));
    let folder = groups.join(ours.unwrap_or_default());
    // A limit holds for all groups below.
    let limits = folder
        .ancestors()
        .take_while(|folder| folder.starts_with(groups))
        .filter_map(|folder| read(&folder.join("memory.max"))?.trim().parse().ok());
    limits.chain(machine).min()
}

/// The machine's memory, as the kernel tells it.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn there_are_as_many_as_cores_and_memory_allow_and_one_at_least() {
        assert_eq!(by(16, Some(64 * GIB)), 8);
        assert_eq!(by(16, Some(6 * GIB)), 4);
        assert_eq!(by(16, None), 8);
        assert_eq!(by(1, Some(GIB)), 1);
    }

    #[test]
    fn the_kernel_s_word_on_memory_is_understood() {
        let text = "MemTotal:       16318412 kB\nMemFree:         1 kB\n";
        assert_eq!(total(text), Some(16_318_412 << 10));
        assert_eq!(total("MemFree: 1 kB"), None);
        if cfg!(target_os = "linux") {
            assert!(memory().is_some());
        }
    }

    #[test]
    fn they_are_halved_by_a_failure_and_come_back_with_time() {
        let (slots, now) = (Slots::new(6), Instant::now());
        assert_eq!(slots.open(now), 6);
        slots.lower(now);
        assert_eq!(slots.open(now), 3);
        slots.lower(now);
        assert_eq!(slots.open(now), 1);
        slots.lower(now);
        assert_eq!(slots.open(now), 1);
        assert_eq!(slots.open(now + REST), 2);
        assert_eq!(slots.open(now + REST * 2), 4);
        assert_eq!(slots.open(now + REST * 3), 6);
        assert_eq!(slots.open(now + REST * 1000), 6);
    }
}
