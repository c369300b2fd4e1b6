//! Sound as AAC, for the proxy.

use std::collections::VecDeque;

use ffmpeg_next::codec::{Context, Flags};
use ffmpeg_next::encoder;
use ffmpeg_next::format::{Sample, sample};
use ffmpeg_next::{ChannelLayout, Rational, frame};

use super::encode::{Movie, SoundEncoder, broken, find, send};
use crate::error::JobError;
use crate::profile::{AUDIO_BIT_RATE, AUDIO_RATE};

/// The proxy's sound.
pub(crate) struct AacEncoder {
    encoder: encoder::audio::Encoder,
    stream: usize,
    waiting: Vec<VecDeque<f32>>,
    next: i64,
}

/// 36 dB above full scale: far beyond it libav's encoder gives up.
const LOUDEST: f32 = 64.0;
const AUDIO_BASE: Rational = Rational(1, AUDIO_RATE.cast_signed());

impl AacEncoder {
    /// Opens the encoder and gives the movie its stream.
    pub(crate) fn open(movie: &mut Movie, channels: u32) -> Result<Self, JobError> {
        let codec = find("aac")?;
        let mono = channels == 1;
        let mut context = Context::new_with_codec(codec);
        context.set_flags(Flags::GLOBAL_HEADER);
        let mut encoder = context
            .encoder()
            .audio()
            .map_err(|error| broken("set up the encoder", error))?;
        encoder.set_rate(AUDIO_RATE.cast_signed());
        encoder.set_format(Sample::F32(sample::Type::Planar));
        encoder.set_channel_layout(if mono {
            ChannelLayout::MONO
        } else {
            ChannelLayout::STEREO
        });
        encoder.set_bit_rate(AUDIO_BIT_RATE);
        encoder.set_time_base(AUDIO_BASE);
        let encoder = encoder
            .open_as(codec)
            .map_err(|error| broken("open the AAC encoder", error))?;
        let stream = movie.add(codec, &encoder, AUDIO_BASE, &[])?;
        Ok(Self {
            encoder,
            stream,
            waiting: vec![VecDeque::new(); if mono { 1 } else { 2 }],
            next: 0,
        })
    }

    fn encode(&mut self, movie: &mut Movie, last: bool) -> Result<(), JobError> {
        let size = self.encoder.frame_size().max(1) as usize;
        while self.waiting[0].len() >= size || (last && !self.waiting[0].is_empty()) {
            let count = size.min(self.waiting[0].len());
            let layout = if self.waiting.len() == 1 {
                ChannelLayout::MONO
            } else {
                ChannelLayout::STEREO
            };
            let mut frame = frame::Audio::new(Sample::F32(sample::Type::Planar), count, layout);
            frame.set_rate(AUDIO_RATE);
            frame.set_pts(Some(self.next));
            for (channel, row) in self.waiting.iter_mut().enumerate() {
                let taken = row.drain(..count);
                frame
                    .plane_mut::<f32>(channel)
                    .iter_mut()
                    .zip(taken)
                    .for_each(|(to, from)| *to = from);
            }
            self.next += i64::try_from(count).unwrap_or(0);
            self.send(Some(&frame), movie)?;
        }
        Ok(())
    }

    fn send(&mut self, samples: Option<&frame::Audio>, movie: &mut Movie) -> Result<(), JobError> {
        let place = (self.stream, AUDIO_BASE);
        send(&mut self.encoder, samples, movie, place)
    }
}

impl SoundEncoder for AacEncoder {
    fn silence(&mut self, movie: &mut Movie, mut samples: u64) -> Result<(), JobError> {
        while samples > 0 {
            let block = samples.min(u64::from(AUDIO_RATE));
            for row in &mut self.waiting {
                row.extend(std::iter::repeat_n(
                    0.0,
                    usize::try_from(block).unwrap_or(0),
                ));
            }
            self.encode(movie, false)?;
            samples -= block;
        }
        Ok(())
    }

    fn add(&mut self, movie: &mut Movie, channels: &[Vec<f32>], skip: u64) -> Result<(), JobError> {
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        for (at, row) in self.waiting.iter_mut().enumerate() {
            if let Some(channel) = channels.get(at).or(channels.first()) {
                row.extend(channel.iter().skip(skip).map(|value| {
                    if value.is_finite() {
                        value.clamp(-LOUDEST, LOUDEST)
                    } else {
                        0.0
                    }
                }));
            }
        }
        self.encode(movie, false)
    }

    fn finish(&mut self, movie: &mut Movie) -> Result<(), JobError> {
        self.encode(movie, true)?;
        self.send(None, movie)
    }
}
