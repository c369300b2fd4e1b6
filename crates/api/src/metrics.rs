//! Names of the API's metrics.

/// Requests answered; labels `method`, `route` (the template), `status`.
pub const REQUESTS: &str = "cinelog_api_requests_total";
/// Time until an answer begins, seconds; labels `method`, `route`.
pub const REQUEST_SECONDS: &str = "cinelog_api_request_seconds";
/// Reads that were served although their read model had not reached the wanted position; label `route`.
pub const STALE_READS: &str = "cinelog_api_stale_reads_total";
