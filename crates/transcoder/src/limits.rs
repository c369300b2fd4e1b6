//! How much one input may cost. Counted while decoding: headers lie.

use serde::{Deserialize, Serialize};

/// The budget of one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Pixels in one decoded picture; 8K UHD fits, 16384×8640 does not.
    pub max_pixels: u64,
    /// Decoded pictures.
    pub max_frames: u64,
    /// Seconds of presented time.
    pub max_seconds: u64,
    /// Streams in the container.
    pub max_streams: u32,
    /// How often pictures may change their size or format, and sound its rate or channels.
    pub max_changes: u32,
    /// Bytes of all outputs together, and so of one (`RLIMIT_FSIZE` of the child).
    pub max_output_bytes: u64,
    /// Address space of the child (`RLIMIT_AS`): 2 GiB and 160 MiB per thread.
    pub memory_bytes: u64,
    /// Memory of the child that is in use at once, watched by the parent.
    pub max_resident_bytes: u64,
    /// CPU seconds of the child (`RLIMIT_CPU`).
    pub cpu_seconds: u64,
    /// Wall seconds without any sign of progress before the child is killed.
    pub stall_seconds: u64,
}

/// Threads of the decoder; the encoder's are pinned in the profile.
pub const DECODER_THREADS: usize = 4;

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_pixels: 36_000_000,
            max_frames: 12 * 3600 * 60,
            max_seconds: 12 * 3600,
            max_streams: 64,
            max_changes: 1000,
            max_output_bytes: 24 * GIB,
            memory_bytes: 2 * GIB + 160 * MIB * 16,
            max_resident_bytes: 3 * GIB,
            cpu_seconds: 8 * 3600,
            stall_seconds: 120,
        }
    }
}
