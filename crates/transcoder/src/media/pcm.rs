//! Sound as PCM, for editing.

use ffmpeg_next::codec::Context;
use ffmpeg_next::encoder;
use ffmpeg_next::format::{Sample, sample};
use ffmpeg_next::{ChannelLayout, Rational, frame};

use super::encode::{Movie, SoundEncoder, broken, find, send};
use super::ffi;
use crate::error::JobError;
use crate::plan::EditSound;

/// Samples in a packet.
const BLOCK: usize = 4096;
/// What a float of 1 is in 24 bits, which stand in the upper ones of 32.
const FULL: f32 = 8_388_608.0;

/// One track of sound as it was, in 16 or 24 bits.
pub(crate) struct PcmEncoder {
    encoder: encoder::audio::Encoder,
    stream: usize,
    layout: ChannelLayout,
    channels: usize,
    rate: u32,
    deep: bool,
    waiting: Vec<Vec<f32>>,
    next: i64,
}

impl PcmEncoder {
    /// Opens the encoder and gives the movie its stream.
    pub(crate) fn open(movie: &mut Movie, plan: &EditSound) -> Result<Self, JobError> {
        let codec = find(if plan.deep { "pcm_s24le" } else { "pcm_s16le" })?;
        let layout = layout(plan);
        let mut encoder = Context::new_with_codec(codec)
            .encoder()
            .audio()
            .map_err(|error| broken("set up the encoder", error))?;
        encoder.set_rate(plan.rate.cast_signed());
        encoder.set_format(format(plan.deep));
        encoder.set_channel_layout(layout);
        encoder.set_time_base((1, plan.rate.cast_signed()));
        let encoder = encoder
            .open_as(codec)
            .map_err(|error| broken("open the PCM encoder", error))?;
        let base = Rational::new(1, plan.rate.cast_signed());
        let stream = movie.add(codec, &encoder, base, &[])?;
        let channels = plan.channels as usize;
        Ok(Self {
            encoder,
            stream,
            layout,
            channels,
            rate: plan.rate,
            deep: plan.deep,
            waiting: vec![Vec::new(); channels],
            next: 0,
        })
    }

    fn encode(&mut self, movie: &mut Movie, last: bool) -> Result<(), JobError> {
        let ready = self.waiting[0].len();
        let whole = if last { ready } else { ready / BLOCK * BLOCK };
        for start in (0..whole).step_by(BLOCK) {
            let end = whole.min(start + BLOCK);
            let mut frame = frame::Audio::new(format(self.deep), end - start, self.layout);
            frame.set_rate(self.rate);
            frame.set_pts(Some(self.next));
            let moments = frame.data_mut(0);
            for (at, row) in self.waiting.iter().enumerate() {
                let samples = row[start..end].iter().enumerate();
                for (moment, sample) in samples {
                    put(moments, moment * self.channels + at, *sample, self.deep);
                }
            }
            self.next += i64::try_from(end - start).unwrap_or(0);
            self.send(Some(&frame), movie)?;
        }
        for row in &mut self.waiting {
            row.drain(..whole);
        }
        Ok(())
    }

    fn send(&mut self, samples: Option<&frame::Audio>, movie: &mut Movie) -> Result<(), JobError> {
        let place = (self.stream, Rational::new(1, self.rate.cast_signed()));
        send(&mut self.encoder, samples, movie, place)
    }
}

impl SoundEncoder for PcmEncoder {
    fn silence(&mut self, movie: &mut Movie, mut samples: u64) -> Result<(), JobError> {
        while samples > 0 {
            let block = samples.min(BLOCK as u64);
            for row in &mut self.waiting {
                row.resize(row.len() + usize::try_from(block).unwrap_or(BLOCK), 0.0);
            }
            self.encode(movie, false)?;
            samples -= block;
        }
        Ok(())
    }

    fn add(&mut self, movie: &mut Movie, channels: &[Vec<f32>], skip: u64) -> Result<(), JobError> {
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        let count = channels.first().map_or(0, Vec::len).saturating_sub(skip);
        for (at, row) in self.waiting.iter_mut().enumerate() {
            let end = row.len() + count;
            row.extend(
                channels
                    .get(at)
                    .and_then(|channel| channel.get(skip..))
                    .unwrap_or_default(),
            );
            row.resize(end, 0.0);
        }
        self.encode(movie, false)
    }

    fn finish(&mut self, movie: &mut Movie) -> Result<(), JobError> {
        self.encode(movie, true)?;
        self.send(None, movie)
    }
}

/// The layout of the source, or the usual one for so many channels; where there is none, as many loudspeakers as there are
/// channels.
fn layout(plan: &EditSound) -> ChannelLayout {
    let usual = ChannelLayout::default(plan.channels.cast_signed());
    let own = ffi::layout_named(&plan.layout).map(ChannelLayout::from_bits_retain);
    let fits = |layout: &ChannelLayout| layout.channels() == plan.channels.cast_signed();
    own.into_iter()
        .chain([usual])
        .find(fits)
        .unwrap_or_else(|| {
            ChannelLayout::from_bits_retain(u64::MAX >> (64 - plan.channels.clamp(1, 64)))
        })
}

fn format(deep: bool) -> Sample {
    if deep {
        Sample::I32(sample::Type::Packed)
    } else {
        Sample::I16(sample::Type::Packed)
    }
}

/// Puts a sample at its place. What was 16 or 24 bits as a float is the same again.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a cast of a float saturates; of NaN it is zero"
)]
fn put(moments: &mut [u8], at: usize, sample: f32, deep: bool) {
    if deep {
        let value = (sample * FULL).round().clamp(-FULL, FULL - 1.0) as i32;
        if let Some(to) = moments.get_mut(at * 4..at * 4 + 4) {
            to.copy_from_slice(&(value << 8).to_ne_bytes());
        }
    } else if let Some(to) = moments.get_mut(at * 2..at * 2 + 2) {
        to.copy_from_slice(&((sample * 32_768.0).round() as i16).to_ne_bytes());
    }
}
