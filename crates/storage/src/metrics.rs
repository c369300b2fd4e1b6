//! The names of this crate's metrics, and the one place that records them.

use std::time::Instant;

use crate::error::Error;

/// Storage operations done, by `operation` and `outcome`.
pub const OPERATIONS: &str = "cinelog_storage_operations_total";
/// Seconds a storage operation took, by `operation`.
pub const SECONDS: &str = "cinelog_storage_operation_seconds";
/// Bytes moved, by `direction` (`in`, `out`), as far as they passed through this process.
pub const BYTES: &str = "cinelog_storage_bytes_total";

/// Runs `work` and records how it went.
pub(crate) async fn observed<T>(
    operation: &'static str,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let started = Instant::now();
    let result = work.await;
    let outcome = result.as_ref().map_or_else(Error::outcome, |_| "done");
    ::metrics::counter!(OPERATIONS, "operation" => operation, "outcome" => outcome).increment(1);
    ::metrics::histogram!(SECONDS, "operation" => operation).record(started.elapsed());
    result
}

/// Records bytes that passed through this process.
pub(crate) fn moved(direction: &'static str, bytes: usize) {
    ::metrics::counter!(BYTES, "direction" => direction).increment(bytes as u64);
}
