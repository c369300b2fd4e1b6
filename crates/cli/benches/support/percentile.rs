//! Of many waits, the one that counts.

use std::time::Duration;

/// So many hundredths of waits are shorter, in ms.
pub(crate) fn percentile(waits: &[Duration], hundredths: usize) -> f64 {
    let mut waits = waits.to_vec();
    waits.sort_unstable();
    let place = (waits.len() * hundredths / 100).min(waits.len() - 1);
    waits[place].as_secs_f64() * 1_000.0
}
