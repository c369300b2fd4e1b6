//! How loud a sound is, by EBU R 128 (ITU-R BS.1770-4, EBU Tech 3341 and 3342).

use ebur128::{Channel, EbuR128, Mode};
use serde::{Deserialize, Serialize};

/// Loudness of a whole programme, to a tenth.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Loudness {
    /// Integrated loudness, LUFS.
    pub integrated_lufs: f64,
    /// Loudness range, LU.
    pub range_lu: f64,
    /// The highest true peak of any channel, dBTP.
    pub true_peak_dbtp: f64,
}

/// Measures loudness while sound goes by.
pub struct Meter {
    meter: EbuR128,
}

impl Meter {
    /// A meter for sound whose layout has these bits, in libav's order; zero: an unknown layout. None where there is no
    /// way to measure such sound.
    pub fn new(rate: u32, channels: usize, layout: u64) -> Option<Self> {
        /// Sixteen channels at 192 kHz: beyond it the meter would take gigabytes.
        const MOST: u64 = 16 * 192_000;
        let count = u32::try_from(channels).ok()?;
        if u64::from(rate) * u64::from(count) > MOST {
            return None;
        }
        let mut meter = EbuR128::new(count, rate, Mode::I | Mode::LRA | Mode::TRUE_PEAK).ok()?;
        let map = places(layout);
        let unknown = vec![Channel::Center; channels];
        let map = if map.len() == channels {
            &map
        } else {
            &unknown
        };
        meter.set_channel_map(map).ok()?;
        Some(Self { meter })
    }

    /// Takes samples in ±1, moment by moment; what is no number counts as silence.
    pub fn add(&mut self, samples: &mut [f32]) {
        for sample in samples.iter_mut().filter(|sample| !sample.is_finite()) {
            *sample = 0.0;
        }
        // It refuses nothing but a count that is no multiple of the channels, which leaves it as it was.
        let _ = self.meter.add_frames_f32(samples);
    }

    /// What was measured; none if nothing was louder than −70 LUFS for 400 ms.
    pub fn finish(self) -> Option<Loudness> {
        let integrated = self.meter.loudness_global().ok()?;
        let peak = (0..self.meter.channels())
            .filter_map(|channel| self.meter.true_peak(channel).ok())
            .fold(0.0, f64::max);
        let loudness = Loudness {
            integrated_lufs: tenth(integrated),
            range_lu: tenth(self.meter.loudness_range().ok()?),
            true_peak_dbtp: tenth(20.0 * peak.log10()),
        };
        let known = loudness.integrated_lufs.is_finite() && loudness.true_peak_dbtp.is_finite();
        known.then_some(loudness)
    }
}

fn tenth(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// Where the loudspeakers of a layout stand, in the order of its bits. The back ones stand at ±110° where there are no
/// side ones (5.1), and at ±135° where there are (7.1).
fn places(layout: u64) -> Vec<Channel> {
    const SIDES: u64 = 1 << 9 | 1 << 10;
    let has_sides = layout & SIDES != 0;
    (0..64)
        .filter(|bit| layout >> bit & 1 == 1)
        .map(|bit| match bit {
            0 | 29 => Channel::Left,
            1 | 30 => Channel::Right,
            4 if has_sides => Channel::Mp135,
            5 if has_sides => Channel::Mm135,
            4 | 33 => Channel::LeftSurround,
            5 | 34 => Channel::RightSurround,
            6 => Channel::MpSC,
            7 => Channel::MmSC,
            8 => Channel::Mp180,
            9 => Channel::Mp090,
            10 => Channel::Mm090,
            11 => Channel::Tp000,
            12 => Channel::Up045,
            13 => Channel::Up000,
            14 => Channel::Um045,
            15 => Channel::Up135,
            16 => Channel::Up180,
            17 => Channel::Um135,
            31 => Channel::Mp060,
            32 => Channel::Mm060,
            36 => Channel::Up090,
            37 => Channel::Um090,
            // Low frequency effects have no weight.
            3 | 35 => Channel::Unused,
            // And all others that of the front.
            _ => Channel::Center,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEREO: u64 = 0b11;

    /// A sine of 997 Hz at so many dBFS, the same in each channel.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "a few seconds"
    )]
    fn sine(seconds: usize, channels: usize, dbfs: f64) -> Vec<f32> {
        let level = 10_f64.powf(dbfs / 20.0);
        (0..seconds * 48_000)
            .map(|at| level * (std::f64::consts::TAU * 997.0 * at as f64 / 48_000.0).sin())
            .flat_map(|value| std::iter::repeat_n(value as f32, channels))
            .collect()
    }

    fn measure(layout: u64, channels: usize, blocks: &[Vec<f32>]) -> Option<Loudness> {
        let mut meter = Meter::new(48_000, channels, layout).unwrap();
        for block in blocks {
            meter.add(&mut block.clone());
        }
        meter.finish()
    }

    /// Case 1 of EBU Tech 3341: a stereo sine of −23 dBFS measures −23 LUFS.
    #[test]
    fn the_sine_of_the_standard_measures_what_it_says() {
        let loudness = measure(STEREO, 2, &[sine(5, 2, -23.0)]).unwrap();
        assert!(
            (loudness.integrated_lufs + 23.0).abs() <= 0.1,
            "{loudness:?}"
        );
        assert!(
            (loudness.true_peak_dbtp + 23.0).abs() <= 0.2,
            "{loudness:?}"
        );
        assert!(loudness.range_lu < 0.1, "{loudness:?}");
    }

    /// Case 3 of EBU Tech 3341, but shorter: the quiet ends are gated out.
    #[test]
    fn quiet_ends_do_not_count() {
        let blocks = [sine(3, 2, -36.0), sine(30, 2, -23.0), sine(3, 2, -36.0)];
        let loudness = measure(STEREO, 2, &blocks).unwrap();
        assert!(
            (loudness.integrated_lufs + 23.0).abs() <= 0.1,
            "{loudness:?}"
        );
    }

    #[test]
    fn low_frequency_effects_do_not_count() {
        const LFE_ONLY: u64 = 0b1000;
        assert_eq!(measure(LFE_ONLY, 1, &[sine(5, 1, -10.0)]), None);
    }

    #[test]
    fn silence_and_nonsense_have_no_loudness() {
        assert_eq!(measure(STEREO, 2, &[vec![0.0; 96_000]]), None);
        assert_eq!(measure(STEREO, 2, &[vec![f32::NAN; 96_000]]), None);
        assert_eq!(measure(STEREO, 2, &[]), None);
    }
}
