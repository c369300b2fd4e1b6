//! Names of what this crate measures.

/// Facts that readers skipped because their type is unknown; counter.
pub const FACTS_SKIPPED: &str = "cinelog_facts_skipped_total";
/// Commands in one append, by group commit; histogram.
pub const APPEND_BATCH: &str = "cinelog_append_batch_commands";
/// How long the oldest command of a batch had waited when the batch was gathered; histogram, seconds.
pub const APPEND_WAIT_SECONDS: &str = "cinelog_append_wait_seconds";
/// From a command's arrival at the writer to its verdict; histogram, seconds.
pub const APPEND_SECONDS: &str = "cinelog_append_seconds";
/// Commands turned away because too many were waiting; counter.
pub const APPEND_OVERLOADED: &str = "cinelog_append_overloaded_total";
/// Looks that commands share, in one statement; histogram.
pub const LOOK_BATCH: &str = "cinelog_look_batch_looks";
/// From asking how streams stand to knowing; histogram, seconds.
pub const LOOK_SECONDS: &str = "cinelog_look_seconds";
/// Looks that came to nothing together with others, or not in time, and were made alone; counter.
pub const LOOKS_ALONE: &str = "cinelog_looks_alone_total";
/// Facts that a subscription has applied, labelled by `subscription`; counter.
pub const FACTS_APPLIED: &str = "cinelog_facts_applied_total";
/// Batches that a subscription could not apply and tries again, labelled by `subscription`; counter.
pub const APPLY_FAILED: &str = "cinelog_apply_failed_total";
/// Subjects of this process's lanes whose facts wait because one of them cannot be taken in, labelled by `subscription`; gauge.
pub const SUBJECTS_PARKED: &str = "cinelog_subjects_parked";
/// Age of the oldest fact that a subscription has not taken in, labelled by `subscription`; gauge, seconds. Every process of projectors
/// and of the API tells the same.
pub const BEHIND_SECONDS: &str = "cinelog_subscription_behind_seconds";
/// Lanes that have such facts, told likewise; gauge.
pub const LANES_BEHIND: &str = "cinelog_subscription_lanes_behind";
/// Lanes that this process works on, labelled by `subscription`; gauge.
pub const LANES_HELD: &str = "cinelog_lanes_held";
/// Whether this process is the one that relays; gauge, 0 or 1.
pub const RELAY_LEADS: &str = "cinelog_relay_leads";
/// Facts relayed to Kafka; counter.
pub const RELAY_FACTS: &str = "cinelog_relay_facts_total";
/// Facts in Postgres that are not in Kafka yet, told by the process that relays, also while the brokers are away; gauge.
pub const RELAY_BACKLOG: &str = "cinelog_relay_backlog_facts";
/// Age of the oldest fact that is not in Kafka yet, told likewise; gauge, seconds.
pub const RELAY_AGE: &str = "cinelog_relay_age_seconds";
/// Facts in one transaction to Kafka; histogram.
pub const RELAY_TRANSACTION_FACTS: &str = "cinelog_relay_transaction_facts";
/// From a transaction's begin to its commit; histogram, seconds.
pub const RELAY_TRANSACTION_SECONDS: &str = "cinelog_relay_transaction_seconds";
