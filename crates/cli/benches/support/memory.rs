//! What other processes take.

/// A process's resident memory at its highest, in MB; 0 where there is no `/proc`.
pub(crate) fn peak_mb(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kb = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kb.unwrap_or_default() / 1024
}
