//! Decoded sound as samples: of 16 bits, as waveforms want them, and as floats.

use ffmpeg_next::format::Sample;
use ffmpeg_next::frame;
use ffmpeg_next::frame::side_data::Type;

use super::{Decoded, ffi};

/// Full scale of 32 bits.
const FULL: f32 = 2_147_483_648.0;

/// A block of samples as decoded.
pub(crate) type Sound = frame::Audio;

impl Decoded<Sound> {
    /// Samples per second.
    pub(crate) fn rate(&self) -> u32 {
        self.frame.rate()
    }

    /// Samples per channel.
    pub(crate) fn count(&self) -> u64 {
        self.frame.samples() as u64
    }

    /// Channels.
    pub(crate) fn channels(&self) -> usize {
        ffi::channels(&self.frame)
    }

    /// Samples that a coder has put before the sound, where they are still there ([`Trim::Told`](super::Trim::Told)).
    pub(crate) fn skip(&self) -> u64 {
        let told = self.frame.side_data(Type::SkipSamples);
        let bytes = told.and_then(|told| told.data().first_chunk::<4>().copied());
        u64::from(bytes.map_or(0, u32::from_le_bytes))
    }

    /// Every sample as 16 bits in `out`, moment by moment.
    ///
    /// Integers keep their upper 16 bits. Floats beyond ±1 are clamped; their rounding follows audiowaveform, see
    /// [`Rounding`].
    pub(crate) fn to_sixteen(&self, rounding: Rounding, out: &mut Vec<i16>) {
        out.clear();
        out.resize(self.channels() * self.frame.samples(), 0);
        match self.frame.format() {
            Sample::U8(_) => self.fill(out, |[byte]: [u8; 1]| (i16::from(byte) - 128) * 256),
            Sample::I16(_) => self.fill(out, i16::from_ne_bytes),
            Sample::I32(_) => self.fill(out, |bytes| {
                let [high, low, ..] = i32::from_ne_bytes(bytes).to_be_bytes();
                i16::from_be_bytes([high, low])
            }),
            Sample::F32(_) => self.fill(out, |bytes| {
                rounding.to_sixteen(f64::from(f32::from_ne_bytes(bytes)))
            }),
            Sample::F64(_) => {
                self.fill(out, |bytes| rounding.to_sixteen(f64::from_ne_bytes(bytes)));
            }
            // No decoder of ours gives them.
            Sample::I64(_) | Sample::None => {}
        }
    }

    /// Every sample as a float in `out`, moment by moment; ±1 is full scale.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "a float has 24 bits of them, which is enough for loudness"
    )]
    pub(crate) fn to_floats(&self, out: &mut Vec<f32>) {
        out.clear();
        out.resize(self.channels() * self.frame.samples(), 0.0);
        match self.frame.format() {
            Sample::U8(_) => self.fill(out, |[byte]: [u8; 1]| (f32::from(byte) - 128.0) / 128.0),
            Sample::I16(_) => {
                self.fill(out, |bytes| f32::from(i16::from_ne_bytes(bytes)) / 32768.0);
            }
            Sample::I32(_) => self.fill(out, |bytes| i32::from_ne_bytes(bytes) as f32 / FULL),
            Sample::F32(_) => self.fill(out, f32::from_ne_bytes),
            Sample::F64(_) => self.fill(out, |bytes| f64::from_ne_bytes(bytes) as f32),
            // No decoder of ours gives them.
            Sample::I64(_) | Sample::None => {}
        }
    }

    /// Bits of the layout, or of the usual one for so many channels; zero if there is none.
    pub(crate) fn layout(&self) -> u64 {
        ffi::layout_mask(&self.frame)
    }

    fn fill<T, const WIDTH: usize>(&self, out: &mut [T], read: impl Fn([u8; WIDTH]) -> T) {
        let (planes, each) = if self.frame.is_planar() {
            (self.channels(), self.frame.samples())
        } else {
            (1, out.len())
        };
        if each == 0 {
            return;
        }
        for plane in 0..planes {
            let (samples, _) = ffi::samples(&self.frame, plane, each * WIDTH).as_chunks();
            // One by one and two by two, the processor takes many at once.
            let read = samples.iter().map(|sample| read(*sample));
            match planes {
                1 => put(out.iter_mut(), read),
                2 => {
                    let (moments, _) = out.as_chunks_mut::<2>();
                    put(moments.iter_mut().map(|moment| &mut moment[plane]), read);
                }
                _ => put(out[plane..].iter_mut().step_by(planes), read),
            }
        }
    }
}

fn put<'a, T: 'a>(places: impl Iterator<Item = &'a mut T>, samples: impl Iterator<Item = T>) {
    for (place, sample) in places.zip(samples) {
        *place = sample;
    }
}

/// How a float becomes 16 bits.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Rounding {
    /// Toward zero, at 32767: PCM.
    Truncate,
    /// To the nearest, at 32767: coded sound.
    Nearest,
    /// Down, at 32768: MP3.
    Floor,
}

impl Rounding {
    /// The rounding for a codec.
    pub(crate) fn of(codec: &str) -> Self {
        match codec {
            "mp3" => Self::Floor,
            codec if codec.starts_with("pcm") => Self::Truncate,
            _ => Self::Nearest,
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "a cast of a float saturates; of NaN it is zero"
    )]
    fn to_sixteen(self, value: f64) -> i16 {
        let value = match self {
            // In single precision, as audiowaveform: a product just below a whole number is rounded up to it.
            Self::Truncate => f64::from((value as f32 * 32767.0).trunc()),
            Self::Nearest => (value * 32767.0).round(),
            Self::Floor => (value * 32768.0).clamp(-32767.0, 32767.0).floor(),
        };
        value as i16
    }
}
