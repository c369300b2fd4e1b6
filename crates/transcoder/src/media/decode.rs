//! Packets in, pictures or samples out. What does not decode is counted and skipped; budgets end the job.

use std::ops::DerefMut;

use ffmpeg_next::codec::decoder::Opened;
use ffmpeg_next::codec::{Context, threading};
use ffmpeg_next::error::{EAGAIN, ENOMEM};
use ffmpeg_next::{Dictionary, Error, Frame, Rational, frame};

use super::source::{DECODERS, Packet, Source};
use super::{fault, ffi, to_ns};
use crate::error::JobError;
use crate::limits::Limits;

/// A decoded frame and when it is shown, on the container's clock.
pub(crate) struct Decoded<F> {
    pub(crate) frame: F,
    pub(crate) start_ns: Option<i64>,
    /// Zero if unknown.
    pub(crate) duration_ns: i64,
}

impl Decoded<frame::Video> {
    /// The timecode that the picture carries; whether there are more than 30 a second.
    pub(crate) fn timecode(&self, fast: bool) -> Option<String> {
        ffi::timecode(&self.frame, fast)
    }

    /// How the picture lies by its own word: a value of EXIF's tag `Orientation`.
    pub(crate) fn orientation(&self) -> Option<u8> {
        let told = self.frame.metadata();
        told.get("Orientation")?.trim().parse().ok()
    }
}

/// A decoder of pictures.
pub(crate) type VideoDecoder = Decoder<frame::Video>;
/// A decoder of samples.
pub(crate) type AudioDecoder = Decoder<frame::Audio>;

/// One stream's decoder.
pub(crate) struct Decoder<F> {
    opened: Opened,
    base: Rational,
    max_frames: u64,
    max_pixels: u64,
    pixels: fn(&F) -> u64,
    blank: fn() -> F,
    /// Frames that came out.
    pub(crate) frames: u64,
    /// Packets or frames that did not decode.
    pub(crate) errors: u64,
}

impl VideoDecoder {
    pub(crate) fn video(
        source: &Source,
        stream: usize,
        threads: usize,
        limits: &Limits,
    ) -> Result<Self, JobError> {
        let none = Dictionary::new();
        let mut decoder = Self::open(source, stream, threads, frame::Video::empty, none, limits)?;
        decoder.max_frames = limits.max_frames;
        decoder.pixels = |picture| u64::from(picture.width()) * u64::from(picture.height());
        Ok(decoder)
    }
}

/// What becomes of the samples that coders put before and behind the sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trim {
    /// They are left out.
    Done,
    /// They are there, and frames tell how many come before ([`Decoded::skip`]).
    Told,
}

impl AudioDecoder {
    pub(crate) fn audio(source: &Source, stream: usize, limits: &Limits) -> Result<Self, JobError> {
        Self::trimmed(source, stream, Trim::Done, limits)
    }

    pub(crate) fn trimmed(
        source: &Source,
        stream: usize,
        trim: Trim,
        limits: &Limits,
    ) -> Result<Self, JobError> {
        let mut options = Dictionary::new();
        if trim == Trim::Told {
            options.set("flags2", "+skip_manual");
        }
        Self::open(source, stream, 1, frame::Audio::empty, options, limits)
    }
}

/// Opens a stream's decoder, if it is one that we run; and the stream's clock.
pub(super) fn open(
    source: &Source,
    stream: usize,
    threads: Option<threading::Config>,
    mut options: Dictionary<'_>,
) -> Result<(Opened, Rational), JobError> {
    let stream = source
        .input
        .stream(stream)
        .ok_or_else(|| JobError::input("a stream is gone"))?;
    let name = ffi::decoder_name(&stream).unwrap_or_default();
    let codec = ffmpeg_next::decoder::find_by_name(&name)
        .ok_or_else(|| JobError::input("no decoder for this codec"))?;
    let mut context = Context::from_parameters(stream.parameters())
        .map_err(|error| fault("set up the decoder", error))?;
    if let Some(threads) = threads {
        context.set_threading(threads);
    }
    let mut decoder = context.decoder();
    decoder.set_packet_time_base(stream.time_base());
    options.set("codec_whitelist", DECODERS);
    let opened = decoder
        .open_as_with(codec, options)
        .map_err(|error| fault(&format!("open the {name} decoder"), error))?;
    Ok((opened, stream.time_base()))
}

impl<F: DerefMut<Target = Frame>> Decoder<F> {
    fn open(
        source: &Source,
        stream: usize,
        threads: usize,
        blank: fn() -> F,
        mut options: Dictionary<'_>,
        limits: &Limits,
    ) -> Result<Self, JobError> {
        options.set("max_pixels", &limits.padded_pixels().to_string());
        let threads = threading::Config {
            kind: threading::Type::Frame,
            count: threads,
            ..Default::default()
        };
        let (opened, base) = open(source, stream, Some(threads), options)?;
        Ok(Self {
            opened,
            base,
            max_frames: u64::MAX,
            max_pixels: limits.max_pixels,
            pixels: |_| 0,
            blank,
            frames: 0,
            errors: 0,
        })
    }

    /// Decodes one packet (none: what is left) and hands every frame to `each`.
    pub(crate) fn feed(
        &mut self,
        packet: Option<&Packet>,
        each: &mut dyn FnMut(Decoded<F>) -> Result<(), JobError>,
    ) -> Result<(), JobError> {
        loop {
            let sent = match packet {
                Some(packet) => self.opened.send_packet(packet),
                None => self.opened.send_eof(),
            };
            let full = sent == Err(Error::Other { errno: EAGAIN });
            match sent {
                Err(error @ Error::Other { errno: ENOMEM }) => return Err(fault("decode", error)),
                Err(Error::Eof) | Ok(()) => {}
                Err(_) if full => {}
                Err(_) => self.errors += 1,
            }
            let received = self.drain(each)?;
            if !full || received == 0 {
                return Ok(());
            }
        }
    }

    /// Forgets what is under way, after a seek.
    pub(crate) fn flush(&mut self) {
        self.opened.flush();
    }

    fn drain(
        &mut self,
        each: &mut dyn FnMut(Decoded<F>) -> Result<(), JobError>,
    ) -> Result<u64, JobError> {
        let (mut received, mut failed) = (0, 0);
        loop {
            let mut frame = (self.blank)();
            match self.opened.receive_frame(&mut frame) {
                Ok(()) => received += 1,
                Err(error @ Error::Other { errno: ENOMEM }) => return Err(fault("decode", error)),
                Err(Error::Eof | Error::Other { errno: EAGAIN }) => return Ok(received),
                Err(_) if failed < 100 => {
                    failed += 1;
                    self.errors += 1;
                    continue;
                }
                Err(_) => return Ok(received),
            }
            self.frames += 1;
            if self.frames > self.max_frames {
                return Err(JobError::limit(format!(
                    "more than {} pictures",
                    self.max_frames
                )));
            }
            let pixels = (self.pixels)(&frame);
            if pixels > self.max_pixels {
                return Err(JobError::limit(format!(
                    "a picture of {pixels} pixels, {} are allowed",
                    self.max_pixels
                )));
            }
            let start_ns = frame.timestamp().and_then(|ts| to_ns(ts, self.base));
            let duration_ns = to_ns(frame.packet().duration, self.base)
                .unwrap_or(0)
                .max(0);
            each(Decoded {
                frame,
                start_ns,
                duration_ns,
            })?;
        }
    }
}
