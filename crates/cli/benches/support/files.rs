//! Open files, of which every connection is one on each side.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that a process has open besides.
pub(crate) const OTHERS: u64 = 500;

/// Allows this process, and those that it starts, so many connections each.
pub(crate) fn allow(connections: usize) {
    let wanted = connections as u64 + OTHERS;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return;
    }
    let more = Rlimit {
        current: Some(wanted),
        // Only who runs everything may have more than the maximum.
        maximum: limit.maximum.map(|maximum| maximum.max(wanted)),
    };
    setrlimit(Resource::Nofile, more).unwrap_or_else(|error| {
        panic!("{connections} connections take {wanted} open files, see `ulimit -n`: {error}")
    });
}
