//! Names of what this crate measures.

/// Facts that readers skipped because their type is unknown; counter.
pub const FACTS_SKIPPED: &str = "cinelog_facts_skipped_total";
/// Commands in one append, by group commit; histogram.
pub const APPEND_BATCH: &str = "cinelog_append_batch_commands";
/// From a command's arrival at the writer to its verdict; histogram, seconds.
pub const APPEND_SECONDS: &str = "cinelog_append_seconds";
/// Commands turned away because too many were waiting; counter.
pub const APPEND_OVERLOADED: &str = "cinelog_append_overloaded_total";
/// Facts that a subscription has applied, labelled by `subscription`; counter.
pub const FACTS_APPLIED: &str = "cinelog_facts_applied_total";
/// Batches that a subscription could not apply and tries again, labelled by `subscription`; counter.
pub const APPLY_FAILED: &str = "cinelog_apply_failed_total";
/// Lanes that this process works on, labelled by `subscription`; gauge.
pub const LANES_HELD: &str = "cinelog_lanes_held";
