//! From samples to peaks.
//!
//! The rules are audiowaveform's: peaks are of 16 bit samples; a mix is the sum over channels divided by their number, truncated
//! toward zero; every `samples_per_pixel` moments make a point, and so does what is left at the end.

use super::waveform::{Bits, Waveform};

/// Builds a waveform from samples.
#[derive(Debug)]
pub struct Peaks {
    waveform: Waveform,
    /// Of the point under way, per channel: minimum and maximum.
    point: Vec<(i16, i16)>,
    /// Moments in it.
    filled: u32,
}

const EMPTY: (i16, i16) = (i16::MAX, i16::MIN);

impl Peaks {
    /// Starts an empty waveform of 16 bits with so many channels; a point has at least two moments.
    pub fn new(sample_rate: u32, samples_per_pixel: u32, channels: u32) -> Self {
        let waveform = Waveform {
            sample_rate,
            samples_per_pixel: samples_per_pixel.max(2),
            bits: Bits::Sixteen,
            channels: channels.max(1),
            data: Vec::new(),
        };
        Self {
            point: vec![EMPTY; waveform.channels as usize],
            waveform,
            filled: 0,
        }
    }

    /// Adds samples, moment by moment, `width` of them in each. They are as many as the waveform's channels, or are mixed
    /// to its one.
    ///
    /// # Panics
    ///
    /// When there are several channels, and not `width` of them.
    pub fn push(&mut self, mut samples: &[i16], width: usize) {
        let width = width.max(1);
        assert!(self.point.len() == 1 || self.point.len() == width);
        while samples.len() >= width {
            let room = (self.waveform.samples_per_pixel - self.filled) as usize;
            let take = room.min(samples.len() / width);
            let (now, later) = samples.split_at(take * width);
            let apart = self.point.len() == width;
            // Where the width is a constant, the processor takes many samples at once.
            match width {
                1 => self.widen(now.iter().copied(), 0),
                2 if !apart => {
                    let (moments, _) = now.as_chunks();
                    self.widen(moments.iter().map(|[one, other]| one.midpoint(*other)), 0);
                }
                2 => {
                    let (moments, _) = now.as_chunks();
                    self.widen(moments.iter().map(|[one, _]| *one), 0);
                    self.widen(moments.iter().map(|[_, other]| *other), 1);
                }
                _ if !apart => self.widen(now.chunks_exact(width).map(mix), 0),
                _ => {
                    for channel in 0..width {
                        self.widen(now[channel..].iter().step_by(width).copied(), channel);
                    }
                }
            }
            samples = later;
            self.filled += u32::try_from(take).unwrap_or(u32::MAX);
            if self.filled == self.waveform.samples_per_pixel {
                self.emit();
            }
        }
    }

    /// Adds silence, in time that depends on the points only.
    pub fn push_silence(&mut self, mut moments: u64) {
        while moments > 0 {
            let room = u64::from(self.waveform.samples_per_pixel - self.filled);
            let take = room.min(moments);
            for peak in &mut self.point {
                *peak = widened(*peak, 0);
            }
            moments -= take;
            self.filled += u32::try_from(take).unwrap_or(u32::MAX);
            if take == room {
                self.emit();
            }
        }
    }

    /// Ends the last point.
    pub fn finish(mut self) -> Waveform {
        if self.filled > 0 {
            self.emit();
        }
        self.waveform
    }

    fn widen(&mut self, samples: impl Iterator<Item = i16>, channel: usize) {
        self.point[channel] = samples.fold(self.point[channel], widened);
    }

    fn emit(&mut self) {
        for (min, max) in &mut self.point {
            self.waveform.data.extend([*min, *max]);
            (*min, *max) = EMPTY;
        }
        self.filled = 0;
    }
}

fn widened((min, max): (i16, i16), sample: i16) -> (i16, i16) {
    (min.min(sample), max.max(sample))
}

fn mix(moment: &[i16]) -> i16 {
    let sum: i32 = moment.iter().map(|sample| i32::from(*sample)).sum();
    let channels = i32::try_from(moment.len()).unwrap_or(i32::MAX);
    i16::try_from(sum / channels).expect("a mean lies between the samples")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn points_are_of_zoom_samples_and_the_rest_counts() {
        let mut peaks = Peaks::new(8000, 4, 1);
        peaks.push(&[1, -5, 3, 2, 7], 1);
        assert_eq!(peaks.finish().data, [-5, 3, 7, 7]);
    }

    #[test]
    fn a_mix_truncates_toward_zero() {
        let mut peaks = Peaks::new(8000, 2, 1);
        peaks.push(&[-3, 0, 3, 0], 2);
        assert_eq!(peaks.finish().data, [-1, 1]);
    }

    #[test]
    fn channels_can_stay_apart() {
        let mut peaks = Peaks::new(8000, 2, 2);
        peaks.push(&[-3, 7, 3, 1], 2);
        assert_eq!(peaks.finish().data, [-3, 3, 1, 7]);
    }

    proptest! {
        #[test]
        fn two_channels_mix_as_any_number_does(moment in any::<[i16; 2]>()) {
            prop_assert_eq!(moment[0].midpoint(moment[1]), mix(&moment));
        }

        #[test]
        fn channels_that_stay_apart_have_the_peaks_that_each_has_alone(
            samples in prop::collection::vec(any::<i16>(), 0..100), width in 1_usize..4, zoom in 2_u32..9,
        ) {
            let moments = samples.len() / width;
            let mut together = Peaks::new(48_000, zoom, u32::try_from(width).unwrap());
            together.push(&samples[..moments * width], width);
            let together = together.finish().data;
            for channel in 0..width {
                let mine: Vec<i16> = samples[..moments * width].iter().skip(channel).step_by(width).copied().collect();
                let expected: Vec<i16> = mine
                    .chunks(zoom as usize)
                    .flat_map(|point| [*point.iter().min().unwrap(), *point.iter().max().unwrap()])
                    .collect();
                let pairs = together.chunks(2 * width).flat_map(|point| point[2 * channel..][..2].to_vec());
                prop_assert_eq!(pairs.collect::<Vec<_>>(), expected);
            }
        }

        #[test]
        fn peaks_do_not_depend_on_how_samples_come(
            samples in prop::collection::vec(any::<i16>(), 0..300), width in 1_usize..4, zoom in 2_u32..9,
            cuts in prop::collection::vec(0_usize..100, 0..6), apart in any::<bool>(), silence in 0_u64..40,
        ) {
            let channels = if apart { u32::try_from(width).unwrap() } else { 1 };
            let whole = &samples[..samples.len() / width * width];
            let (mut at_once, mut cut_up) = (Peaks::new(48_000, zoom, channels), Peaks::new(48_000, zoom, channels));
            at_once.push_silence(silence);
            at_once.push(whole, width);
            cut_up.push(&vec![0; usize::try_from(silence).unwrap() * width], width);
            let mut rest = whole;
            for cut in cuts {
                let (now, later) = rest.split_at((cut * width).min(rest.len()));
                cut_up.push(now, width);
                rest = later;
            }
            cut_up.push(rest, width);
            prop_assert_eq!(at_once.finish(), cut_up.finish());
        }
    }
}
