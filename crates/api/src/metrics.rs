//! Names of the API's metrics.

/// Requests answered; labels `method`, `route` (the template; `unknown` where there is none, and of requests refused because too many were in progress), `status`.
pub const REQUESTS: &str = "cinelog_api_requests_total";
/// Time until an answer begins, seconds; labels `method`, `route`. Without those requests that were so refused.
pub const REQUEST_SECONDS: &str = "cinelog_api_request_seconds";
/// Reads that were served although their read model had not reached the wanted position; label `route`.
pub const STALE_READS: &str = "cinelog_api_stale_reads_total";
/// Requests refused because they came too often; label `rate`, a line of the table of rates.
pub const RATE_LIMITED: &str = "cinelog_api_rate_limited_total";

pub(crate) fn rate_limited(rate: &'static str) {
    ::metrics::counter!(RATE_LIMITED, "rate" => rate).increment(1);
}
