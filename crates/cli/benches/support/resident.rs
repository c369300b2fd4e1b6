//! What another process takes now.

/// A process's resident memory, in kB; 0 where there is no `/proc`.
pub(crate) fn resident_kb(process: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kb = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok());
    kb.unwrap_or_default()
}
