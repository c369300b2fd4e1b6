//! Encoders and the one container we write: H.264 and AAC in MP4, and JPEG.

use std::collections::VecDeque;

use ffmpeg_next::codec::{Context, Flags};
use ffmpeg_next::color;
use ffmpeg_next::encoder;
use ffmpeg_next::error::EAGAIN;
use ffmpeg_next::format::context::Output;
use ffmpeg_next::format::{Pixel, Sample, sample};
use ffmpeg_next::{ChannelLayout, Dictionary, Error, Packet, Rational, frame, picture};

use super::Still;
use crate::error::{JobError, Kind};
use crate::plan::VideoPlan;
use crate::profile::{AUDIO_BIT_RATE, AUDIO_RATE, X264};
use crate::timeline::Rate;

/// An MP4 file under way.
pub(crate) struct Movie {
    output: Output,
    started: bool,
}

/// Our side failed while writing; memory and size keep their meaning.
fn broken(doing: &str, error: Error) -> JobError {
    if error == Error::External {
        // An encoder with settings that never change fails for want of memory only.
        return JobError::new(Kind::Resource, format!("{doing}: {error}"));
    }
    let error = super::fault(doing, error);
    if error.kind == Kind::Input {
        JobError::new(Kind::Infra, error.message)
    } else {
        error
    }
}

impl Movie {
    /// Creates the file in the working directory.
    pub(crate) fn create(name: &str) -> Result<Self, JobError> {
        let output = ffmpeg_next::format::output_as(name, "mp4")
            .map_err(|error| broken("create the output", error))?;
        Ok(Self {
            output,
            started: false,
        })
    }

    /// Writes the header, once all encoders are there.
    pub(crate) fn start(&mut self) -> Result<(), JobError> {
        let mut options = Dictionary::new();
        options.set("movflags", "+faststart");
        self.output
            .write_header_with(options)
            .map_err(|error| broken("write the header", error))?;
        self.started = true;
        Ok(())
    }

    /// Writes the index and moves it to the front.
    pub(crate) fn finish(mut self) -> Result<(), JobError> {
        self.output
            .write_trailer()
            .map_err(|error| broken("finish the output", error))
    }

    fn add(
        &mut self,
        codec: ffmpeg_next::Codec,
        encoder: &impl AsRef<Context>,
        base: Rational,
    ) -> Result<usize, JobError> {
        let mut stream = self
            .output
            .add_stream(codec)
            .map_err(|error| broken("add a stream", error))?;
        stream.set_parameters(encoder);
        stream.set_time_base(base);
        Ok(stream.index())
    }

    fn write(&mut self, mut packet: Packet, stream: usize, base: Rational) -> Result<(), JobError> {
        let target = self
            .output
            .stream(stream)
            .map_or(base, |stream| stream.time_base());
        packet.set_stream(stream);
        packet.rescale_ts(base, target);
        packet
            .write_interleaved(&mut self.output)
            .map_err(|error| broken("write the output", error))
    }
}

fn find(name: &str) -> Result<ffmpeg_next::Codec, JobError> {
    encoder::find_by_name(name)
        .ok_or_else(|| JobError::infra("encode", format!("this FFmpeg has no {name}")))
}

/// The proxy's pictures.
pub(crate) struct VideoEncoder {
    encoder: encoder::video::Encoder,
    stream: usize,
    base: Rational,
    next: i64,
}

impl VideoEncoder {
    /// Opens the encoder and gives the movie its stream.
    pub(crate) fn open(movie: &mut Movie, plan: &VideoPlan) -> Result<Self, JobError> {
        let codec = find("libx264")?;
        let Rate { num, den } = plan.rate;
        let whole = |value: u32| i32::try_from(value).unwrap_or(i32::MAX);
        let base = Rational::new(whole(den), whole(num));
        let mut context = Context::new_with_codec(codec);
        context.set_flags(Flags::GLOBAL_HEADER);
        let mut encoder = context
            .encoder()
            .video()
            .map_err(|error| broken("set up the encoder", error))?;
        encoder.set_width(plan.width);
        encoder.set_height(plan.height);
        encoder.set_format(Pixel::YUV420P);
        encoder.set_time_base(base);
        encoder.set_frame_rate(Some(base.invert()));
        encoder.set_aspect_ratio((1, 1));
        encoder.set_colorspace(color::Space::BT709);
        encoder.set_color_range(color::Range::MPEG);
        encoder.set_color_primaries(color::Primaries::BT709);
        encoder.set_color_transfer_characteristic(color::TransferCharacteristic::BT709);
        encoder.set_gop(plan.rate.gop());
        let mut options = Dictionary::new();
        for (key, value) in X264 {
            options.set(key, value);
        }
        options.set("keyint_min", &plan.rate.gop().to_string());
        let encoder = encoder
            .open_as_with(codec, options)
            .map_err(|error| broken("open the H.264 encoder", error))?;
        let stream = movie.add(codec, &encoder, base)?;
        Ok(Self {
            encoder,
            stream,
            base,
            next: 0,
        })
    }

    /// Shows a picture for some frames.
    pub(crate) fn show(
        &mut self,
        movie: &mut Movie,
        still: &mut Still,
        frames: u64,
    ) -> Result<(), JobError> {
        still.set_kind(picture::Type::None);
        for _ in 0..frames {
            still.set_pts(Some(self.next));
            self.next += 1;
            self.encoder
                .send_frame(still)
                .map_err(|error| broken("encode a picture", error))?;
            self.write(movie)?;
        }
        Ok(())
    }

    /// Frames shown so far.
    pub(crate) fn frames(&self) -> i64 {
        self.next
    }

    /// Writes what the encoder holds back.
    pub(crate) fn finish(&mut self, movie: &mut Movie) -> Result<(), JobError> {
        self.encoder
            .send_eof()
            .map_err(|error| broken("encode a picture", error))?;
        self.write(movie)
    }

    fn write(&mut self, movie: &mut Movie) -> Result<(), JobError> {
        while let Some(mut packet) = receive(&mut self.encoder)? {
            // Without it the last frame of the file would last no time at all.
            packet.set_duration(1);
            movie.write(packet, self.stream, self.base)?;
        }
        Ok(())
    }
}

/// The proxy's sound.
pub(crate) struct AudioEncoder {
    encoder: encoder::audio::Encoder,
    stream: usize,
    waiting: Vec<VecDeque<f32>>,
    next: i64,
}

const AUDIO_BASE: Rational = Rational(1, AUDIO_RATE.cast_signed());

impl AudioEncoder {
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
        let stream = movie.add(codec, &encoder, AUDIO_BASE)?;
        Ok(Self {
            encoder,
            stream,
            waiting: vec![VecDeque::new(); if mono { 1 } else { 2 }],
            next: 0,
        })
    }

    /// Adds silence.
    pub(crate) fn silence(&mut self, movie: &mut Movie, mut samples: u64) -> Result<(), JobError> {
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

    /// Adds samples, without the first `skip`.
    pub(crate) fn add(
        &mut self,
        movie: &mut Movie,
        channels: &[Vec<f32>],
        skip: u64,
    ) -> Result<(), JobError> {
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        for (at, row) in self.waiting.iter_mut().enumerate() {
            if let Some(channel) = channels.get(at).or(channels.first()) {
                row.extend(
                    channel
                        .iter()
                        .skip(skip)
                        .map(|value| if value.is_finite() { *value } else { 0.0 }),
                );
            }
        }
        self.encode(movie, false)
    }

    /// Writes what is left.
    pub(crate) fn finish(&mut self, movie: &mut Movie) -> Result<(), JobError> {
        self.encode(movie, true)?;
        self.encoder
            .send_eof()
            .map_err(|error| broken("encode sound", error))?;
        self.write(movie)
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
            self.encoder
                .send_frame(&frame)
                .map_err(|error| broken("encode sound", error))?;
            self.write(movie)?;
        }
        Ok(())
    }

    fn write(&mut self, movie: &mut Movie) -> Result<(), JobError> {
        while let Some(packet) = receive(&mut self.encoder)? {
            movie.write(packet, self.stream, AUDIO_BASE)?;
        }
        Ok(())
    }
}

fn receive(encoder: &mut encoder::Encoder) -> Result<Option<Packet>, JobError> {
    let mut packet = Packet::empty();
    match encoder.receive_packet(&mut packet) {
        Ok(()) => Ok(Some(packet)),
        Err(Error::Eof | Error::Other { errno: EAGAIN }) => Ok(None),
        Err(error) => Err(broken("encode", error)),
    }
}

/// A picture as JPEG.
pub(crate) fn jpeg(still: &Still) -> Result<Vec<u8>, JobError> {
    let codec = find("mjpeg")?;
    let mut encoder = Context::new_with_codec(codec)
        .encoder()
        .video()
        .map_err(|error| broken("set up the encoder", error))?;
    encoder.set_width(still.width());
    encoder.set_height(still.height());
    encoder.set_format(Pixel::YUVJ420P);
    encoder.set_color_range(color::Range::JPEG);
    encoder.set_time_base((1, 25));
    let mut options = Dictionary::new();
    options.set("flags", "+qscale");
    options.set(
        "global_quality",
        &(3 * ffmpeg_next::ffi::FF_QP2LAMBDA).to_string(),
    );
    let mut encoder = encoder
        .open_as_with(codec, options)
        .map_err(|error| broken("open the JPEG encoder", error))?;
    encoder
        .send_frame(still)
        .map_err(|error| broken("encode the poster", error))?;
    encoder
        .send_eof()
        .map_err(|error| broken("encode the poster", error))?;
    let packet = receive(&mut encoder)?
        .ok_or_else(|| JobError::infra("encode the poster", "the encoder gave nothing"))?;
    Ok(packet.data().unwrap_or_default().to_vec())
}
