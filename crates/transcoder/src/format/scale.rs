//! How much sound a point of a waveform stands for, and how high it is drawn.

use serde::{Deserialize, Serialize};

use super::waveform::{Bits, Waveform};

/// Samples per point, as it can be asked for. Fewer than two make no point.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Scale {
    /// So many.
    Zoom(u32),
    /// So many points for a second.
    PerSecond(u32),
    /// So many points for all of it.
    Whole(u32),
    /// So many points for so many seconds.
    Span(f64, u32),
}

impl Scale {
    /// Samples per point, of sound with `rate` samples a second and `samples` of them in all.
    pub fn samples_per_pixel(self, rate: u32, samples: u64) -> u32 {
        let of = |seconds: f64, points: u32| {
            let samples = whole(seconds * f64::from(rate));
            u32::try_from(samples / u64::from(points.max(1))).unwrap_or(u32::MAX)
        };
        match self {
            Self::Zoom(samples) => samples,
            Self::PerSecond(points) => rate / points.max(1),
            Self::Whole(points) => of(samples as f64 / f64::from(rate.max(1)), points),
            Self::Span(seconds, points) => of(seconds, points),
        }
    }

    /// Whether it depends on how long the sound is.
    pub fn needs_length(self) -> bool {
        matches!(self, Self::Whole(_))
    }
}

/// A waveform finer than it is asked to be can be made coarser; the reverse is not there.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("it has {has} samples to a point: {wanted} would be finer")]
pub struct TooFine {
    /// What it has.
    pub has: u32,
    /// What was asked for.
    pub wanted: u32,
}

impl Waveform {
    /// The same with 16 bits per value.
    #[must_use]
    pub fn to_sixteen_bits(mut self) -> Self {
        if self.bits == Bits::Eight {
            self.data.iter_mut().for_each(|value| *value *= 256);
            self.bits = Bits::Sixteen;
        }
        self
    }

    /// What every value is multiplied by so that the highest fills the range, as audiowaveform has it: the smaller quotient of
    /// 32767 and the maximum or the minimum, signs included, so that the minimum decides where it is below zero.
    pub fn full_scale(&self) -> f64 {
        let unit = if self.bits == Bits::Eight { 256 } else { 1 };
        let of = |value: Option<&i16>| match value {
            None | Some(0) => 1.0,
            Some(value) => 32767.0 / f64::from(i32::from(*value) * unit),
        };
        of(self.data.iter().max())
            .min(of(self.data.iter().min()))
            .abs()
    }

    /// Every value multiplied, truncated toward zero and clamped.
    #[must_use]
    pub fn scaled(self, factor: f64) -> Self {
        let bits = self.bits;
        let mut scaled = self.to_sixteen_bits();
        for value in &mut scaled.data {
            *value = times(*value, factor);
        }
        match bits {
            Bits::Eight => scaled.to_eight_bits(),
            Bits::Sixteen => scaled,
        }
    }

    /// The same with more samples to a point.
    pub fn coarser(&self, samples_per_pixel: u32) -> Result<Self, TooFine> {
        let (has, wanted) = (self.samples_per_pixel, samples_per_pixel);
        if wanted < has {
            return Err(TooFine { has, wanted });
        }
        let channels = self.channels as usize;
        let first = |point: usize| point * wanted as usize / has as usize;
        let mut data = Vec::new();
        for point in 0.. {
            let (from, to) = (first(point), first(point + 1).min(self.len()));
            if from >= to {
                break;
            }
            for channel in 0..channels {
                let mine = |at: usize| (at * channels + channel) * 2;
                let lows = (from..to).map(|at| self.data[mine(at)]);
                let highs = (from..to).map(|at| self.data[mine(at) + 1]);
                data.extend([lows.min().unwrap_or(0), highs.max().unwrap_or(0)]);
            }
        }
        Ok(Self {
            samples_per_pixel: wanted,
            data,
            ..*self
        })
    }

    /// The point that a time in seconds falls into.
    pub fn point_at(&self, seconds: f64) -> usize {
        let samples = whole(seconds * f64::from(self.sample_rate));
        usize::try_from(samples / u64::from(self.samples_per_pixel.max(1))).unwrap_or(usize::MAX)
    }

    /// The points from one time to another.
    #[must_use]
    pub fn between(mut self, start: f64, end: Option<f64>) -> Self {
        let values = 2 * self.channels as usize;
        let end = end.map_or(usize::MAX, |end| self.point_at(end).saturating_add(1));
        let start = self.point_at(start).min(self.len());
        let points = end.min(self.len()).saturating_sub(start);
        self.data.drain(..start * values);
        self.data.truncate(points * values);
        self
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast of a float saturates; less than nothing is nothing"
)]
fn whole(value: f64) -> u64 {
    value as u64
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a cast of a float saturates"
)]
fn times(value: i16, factor: f64) -> i16 {
    (f64::from(value) * factor) as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waveform(data: &[i16]) -> Waveform {
        Waveform {
            sample_rate: 8000,
            samples_per_pixel: 4,
            bits: Bits::Sixteen,
            channels: 1,
            data: data.to_vec(),
        }
    }

    #[test]
    fn a_scale_is_samples_per_point() {
        assert_eq!(Scale::Zoom(256).samples_per_pixel(44_100, 9), 256);
        assert_eq!(Scale::PerSecond(100).samples_per_pixel(44_100, 9), 441);
        assert_eq!(Scale::PerSecond(0).samples_per_pixel(44_100, 9), 44_100);
        assert_eq!(Scale::Whole(800).samples_per_pixel(48_000, 96_001), 120);
        assert_eq!(Scale::Span(2.5, 800).samples_per_pixel(48_000, 9), 150);
    }

    #[test]
    fn the_minimum_decides_where_it_is_below_zero() {
        assert!((waveform(&[-100, 32_767]).full_scale() - 327.67).abs() < 1e-9);
        assert!((waveform(&[1, 100]).full_scale() - 327.67).abs() < 1e-9);
        assert!((waveform(&[0, 0]).full_scale() - 1.0).abs() < 1e-9);
        let eight = waveform(&[-256, 256]).to_eight_bits();
        assert!((eight.full_scale() - 32_767.0 / 256.0).abs() < 1e-9);
    }

    #[test]
    fn scaled_values_are_truncated_and_clamped() {
        let scaled = waveform(&[-30_000, -3, 3, 30_000]).scaled(1.5);
        assert_eq!(scaled.data, [-32_768, -4, 4, 32_767]);
    }

    #[test]
    fn eight_bits_are_scaled_with_their_full_precision() {
        let scaled = waveform(&[-25_600, 512]).to_eight_bits().scaled(2.0);
        assert_eq!(
            (scaled.bits, &scaled.data[..]),
            (Bits::Eight, &[-128, 4][..])
        );
    }

    #[test]
    fn coarser_points_hold_the_peaks_of_finer_ones() {
        let fine = waveform(&[-1, 1, -5, 2, -2, 9, -3, 3, -4, 4]);
        assert_eq!(fine.coarser(8).unwrap().data, [-5, 2, -3, 9, -4, 4]);
        assert_eq!(fine.coarser(6).unwrap().data, [-1, 1, -5, 9, -3, 3, -4, 4]);
        assert_eq!(fine.coarser(4).unwrap(), fine);
        assert_eq!(fine.coarser(3), Err(TooFine { has: 4, wanted: 3 }));
    }

    #[test]
    fn a_stretch_holds_the_points_that_its_ends_fall_into() {
        let fine = waveform(&[0, 0, 1, 1, 2, 2, 3, 3]);
        let second_and_third = fine.clone().between(0.0006, Some(0.0012));
        assert_eq!(second_and_third.data, [1, 1, 2, 2]);
        assert_eq!(fine.clone().between(0.0015, None).data, [3, 3]);
        assert_eq!(fine.clone().between(9.0, None).data, [] as [i16; 0]);
        assert_eq!(fine.between(0.001, Some(0.0)).data, [] as [i16; 0]);
    }
}
