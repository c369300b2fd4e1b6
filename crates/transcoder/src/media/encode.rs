//! Encoders and the one container we write, in its two dialects: H.264 and AAC in MP4, DNxHR in QuickTime; and JPEG.

use ffmpeg_next::codec::{Context, Flags};
use ffmpeg_next::color;
use ffmpeg_next::encoder;
use ffmpeg_next::error::EAGAIN;
use ffmpeg_next::format::Pixel;
use ffmpeg_next::format::context::Output;
use ffmpeg_next::{Dictionary, Error, Packet, Rational, frame, picture};

use super::Still;
use crate::error::{JobError, Kind};
use crate::plan::{EditPlan, VideoPlan};
use crate::probe::Colour;
use crate::profile::X264;
use crate::timeline::Rate;

/// An MP4 file under way.
pub(crate) struct Movie {
    output: Output,
    started: bool,
}

/// Our side failed while writing; memory and size keep their meaning.
pub(super) fn broken(doing: &str, error: Error) -> JobError {
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
    /// Creates the file in the working directory, in a dialect: `mp4` or `mov`.
    pub(crate) fn create(name: &str, dialect: &str) -> Result<Self, JobError> {
        let output = ffmpeg_next::format::output_as(name, dialect)
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

    pub(super) fn add(
        &mut self,
        codec: ffmpeg_next::Codec,
        encoder: &impl AsRef<Context>,
        base: Rational,
        metadata: &[(&str, &str)],
    ) -> Result<usize, JobError> {
        let mut stream = self
            .output
            .add_stream(codec)
            .map_err(|error| broken("add a stream", error))?;
        stream.set_parameters(encoder);
        stream.set_time_base(base);
        stream.set_metadata(metadata.iter().copied().collect());
        Ok(stream.index())
    }

    pub(super) fn write(
        &mut self,
        mut packet: Packet,
        stream: usize,
        base: Rational,
    ) -> Result<(), JobError> {
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

pub(super) fn find(name: &str) -> Result<ffmpeg_next::Codec, JobError> {
    encoder::find_by_name(name)
        .ok_or_else(|| JobError::infra("encode", format!("this FFmpeg has no {name}")))
}

/// How pictures are encoded.
pub(crate) struct Coding<'a> {
    codec: &'static str,
    format: Pixel,
    size: (u32, u32),
    pixel_aspect: (u32, u32),
    rate: Rate,
    options: Vec<(&'a str, String)>,
    metadata: Vec<(&'a str, &'a str)>,
}

impl<'a> Coding<'a> {
    /// As the proxy's are.
    pub(crate) fn proxy(plan: &VideoPlan) -> Self {
        let gop = plan.rate.gop().to_string();
        let options = X264.into_iter().map(|(key, value)| (key, value.to_owned()));
        let gop = [("g", gop.clone()), ("keyint_min", gop)];
        Self {
            codec: "libx264",
            format: Pixel::YUV420P,
            size: (plan.width, plan.height),
            pixel_aspect: (1, 1),
            rate: plan.rate,
            options: options.chain(gop).chain(colour(["bt709"; 3])).collect(),
            metadata: vec![],
        }
    }

    /// As editing programs want them, from this timecode on.
    pub(crate) fn edit(plan: &'a EditPlan, timecode: Option<&'a str>) -> Self {
        let (format, profile) = if plan.deep {
            (Pixel::YUV422P10LE, "dnxhr_hqx")
        } else {
            (Pixel::YUV422P, "dnxhr_lb")
        };
        let Colour {
            matrix,
            primaries,
            transfer,
            ..
        } = &plan.colour;
        let matrix = if matrix == "gbr" { "bt709" } else { matrix };
        let profile = [("profile", profile.to_owned()), ("threads", "4".to_owned())];
        Self {
            codec: "dnxhd",
            format,
            size: (plan.width, plan.height),
            pixel_aspect: plan.pixel_aspect,
            rate: plan.rate,
            options: profile
                .into_iter()
                .chain(colour([matrix, primaries, transfer]))
                .collect(),
            metadata: timecode
                .map(|timecode| ("timecode", timecode))
                .into_iter()
                .collect(),
        }
    }
}

/// Tags that files of today carry, as libav's options name them: two are called otherwise where it reads them.
const TAGS: [(&str, &[&str]); 3] = [
    (
        "colorspace",
        &[
            "bt709",
            "fcc",
            "bt470bg",
            "smpte170m",
            "smpte240m",
            "bt2020nc",
            "bt2020c",
        ],
    ),
    (
        "color_primaries",
        &[
            "bt709",
            "bt470m",
            "bt470bg",
            "smpte170m",
            "smpte240m",
            "film",
            "bt2020",
            "smpte431",
            "smpte432",
        ],
    ),
    (
        "color_trc",
        &[
            "bt709",
            "gamma22",
            "gamma28",
            "smpte170m",
            "smpte240m",
            "linear",
            "iec61966-2-4",
            "iec61966-2-1",
            "bt2020-10",
            "bt2020-12",
            "smpte2084",
            "arib-std-b67",
        ],
    ),
];

/// Matrix, primaries and transfer as options, and the limited range; what is not known stays untold.
fn colour<'a>([matrix, primaries, transfer]: [&str; 3]) -> Vec<(&'a str, String)> {
    let transfer = match transfer {
        "bt470m" => "gamma22",
        "bt470bg" => "gamma28",
        transfer => transfer,
    };
    let named = TAGS.into_iter().zip([matrix, primaries, transfer]);
    let named = named.filter(|((_, known), name)| known.contains(name));
    let named = named.map(|((tag, _), name)| (tag, name.to_owned()));
    named.chain([("color_range", "tv".to_owned())]).collect()
}

/// The pictures of a film.
pub(crate) struct VideoEncoder {
    encoder: encoder::video::Encoder,
    stream: usize,
    base: Rational,
    next: i64,
}

impl VideoEncoder {
    /// Opens the encoder and gives the movie its stream.
    pub(crate) fn open(movie: &mut Movie, coding: &Coding<'_>) -> Result<Self, JobError> {
        let codec = find(coding.codec)?;
        let Rate { num, den } = coding.rate;
        let whole = |value: u32| i32::try_from(value).unwrap_or(i32::MAX);
        let base = Rational::new(whole(den), whole(num));
        let mut context = Context::new_with_codec(codec);
        context.set_flags(Flags::GLOBAL_HEADER);
        let mut encoder = context
            .encoder()
            .video()
            .map_err(|error| broken("set up the encoder", error))?;
        encoder.set_width(coding.size.0);
        encoder.set_height(coding.size.1);
        encoder.set_format(coding.format);
        encoder.set_time_base(base);
        encoder.set_frame_rate(Some(base.invert()));
        let (x, y) = coding.pixel_aspect;
        encoder.set_aspect_ratio((whole(x), whole(y)));
        let mut options = Dictionary::new();
        for (key, value) in &coding.options {
            options.set(key, value);
        }
        let encoder = encoder
            .open_as_with(codec, options)
            .map_err(|error| broken("open the encoder of pictures", error))?;
        let stream = movie.add(codec, &encoder, base, &coding.metadata)?;
        // Without it no timecode is written.
        if let Some(mut stream) = movie.output.stream_mut(stream) {
            stream.set_avg_frame_rate(base.invert());
        }
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

/// A track of sound under way.
pub(crate) trait SoundEncoder: Send {
    /// Adds silence.
    fn silence(&mut self, movie: &mut Movie, samples: u64) -> Result<(), JobError>;

    /// Adds samples, a row for each channel, without the first `skip`.
    fn add(&mut self, movie: &mut Movie, channels: &[Vec<f32>], skip: u64) -> Result<(), JobError>;

    /// Writes what is left.
    fn finish(&mut self, movie: &mut Movie) -> Result<(), JobError>;
}

/// Gives samples to an encoder of sound (none: there are no more) and writes what comes of it.
pub(super) fn send(
    encoder: &mut encoder::audio::Encoder,
    samples: Option<&frame::Audio>,
    movie: &mut Movie,
    (stream, base): (usize, Rational),
) -> Result<(), JobError> {
    let sent = match samples {
        Some(samples) => encoder.send_frame(samples),
        None => encoder.send_eof(),
    };
    sent.map_err(|error| broken("encode sound", error))?;
    while let Some(packet) = receive(encoder)? {
        movie.write(packet, stream, base)?;
    }
    Ok(())
}

pub(super) fn receive(encoder: &mut encoder::Encoder) -> Result<Option<Packet>, JobError> {
    let mut packet = Packet::empty();
    match encoder.receive_packet(&mut packet) {
        Ok(()) => Ok(Some(packet)),
        Err(Error::Eof | Error::Other { errno: EAGAIN }) => Ok(None),
        Err(error) => Err(broken("encode", error)),
    }
}

/// A picture as JPEG; `quality` is libav's scale, from 2 (best) to 31.
pub(crate) fn jpeg(still: &Still, quality: i32) -> Result<Vec<u8>, JobError> {
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
        &(quality * ffmpeg_next::ffi::FF_QP2LAMBDA).to_string(),
    );
    let mut encoder = encoder
        .open_as_with(codec, options)
        .map_err(|error| broken("open the JPEG encoder", error))?;
    encoder
        .send_frame(still)
        .map_err(|error| broken("encode a JPEG", error))?;
    encoder
        .send_eof()
        .map_err(|error| broken("encode a JPEG", error))?;
    let packet = receive(&mut encoder)?
        .ok_or_else(|| JobError::infra("encode a JPEG", "the encoder gave nothing"))?;
    Ok(packet.data().unwrap_or_default().to_vec())
}
