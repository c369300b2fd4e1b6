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
    /// Bytes of the input.
    pub max_input_bytes: u64,
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

impl Limits {
    /// Seconds that the smallest file may last …
    const FREE_SECONDS: u64 = 600;
    /// … and bytes that each one more takes. Silence in the sparsest format takes twice as many.
    const BYTES_PER_SECOND: u64 = 10;

    /// Pixels of a picture as libav counts them while it has memory for one: with lines that are longer than what is shown.
    /// What comes out is held to [`max_pixels`](Self::max_pixels).
    #[must_use]
    pub fn padded_pixels(&self) -> u64 {
        self.max_pixels.saturating_add(self.max_pixels / 8)
    }

    /// The budget of an input this large: a few bytes may claim half a day of stillness, which costs what half a day of
    /// film does.
    #[must_use]
    pub fn for_input(self, bytes: u64) -> Self {
        let seconds = Self::FREE_SECONDS + bytes / Self::BYTES_PER_SECOND;
        Self {
            max_seconds: self.max_seconds.min(seconds),
            ..self
        }
    }
}

/// Threads of the decoder; the encoder's are pinned in the profile. The same on every machine, so that a job's memory is.
pub const DECODER_THREADS: usize = 4;
/// Threads of a chain of filters, which has one thread of the job's for itself: on two cores four took 3 to 10 % more CPU
/// time, and saved none of the wall's.
pub const FILTER_THREADS: i32 = 1;

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
            max_input_bytes: 256 * GIB,
            max_output_bytes: 24 * GIB,
            memory_bytes: 2 * GIB + 160 * MIB * 16,
            max_resident_bytes: 3 * GIB,
            cpu_seconds: 8 * 3600,
            stall_seconds: 120,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_file_may_last_minutes_and_a_large_one_half_a_day() {
        let seconds = |bytes| Limits::default().for_input(bytes).max_seconds;
        assert_eq!(seconds(0), 600);
        assert_eq!(seconds(20_000), 2600);
        assert_eq!(seconds(1 << 30), 12 * 3600);
    }
}
