//! Names of what the worker measures.

/// Attempts that ended, labelled by `profile` and by `how` (`done`, `failed`, `again`, `lost`, `released`); counter.
pub const ATTEMPTS: &str = "cinelog_job_attempts_total";
/// From a job's claim to its end in this attempt, labelled by `profile`; histogram, seconds.
pub const ATTEMPT_SECONDS: &str = "cinelog_job_attempt_seconds";
/// CPU time of an attempt's children, labelled by `profile`; histogram, seconds.
pub const CPU_SECONDS: &str = "cinelog_job_cpu_seconds";
/// Slots that have a job; gauge.
pub const SLOTS_BUSY: &str = "cinelog_slots_busy";
