//! An input: a read-only descriptor behind libav's custom I/O, one demuxer, and what the container claims.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ffmpeg_next::codec::packet::side_data::Type as SideData;
use ffmpeg_next::ffi::AVDiscard;
use ffmpeg_next::format::context::{Input, StreamIo};
use ffmpeg_next::format::stream::{Disposition, Stream};
use ffmpeg_next::{Error, media};

use super::clock::Clock;
use super::{fault, ffi, from_ns, to_ns};
use crate::error::JobError;
use crate::limits::Limits;
use crate::probe::{Colour, Facts, Picture, Sound, Track, choose};

/// The decoders we run. Old and rare ones are where libav's bugs live.
pub(super) const DECODERS: &str = "h264,hevc,libdav1d,libaom-av1,av1,vp8,vp9,libvpx,libvpx-vp9,mpeg4,mpeg2video,mpeg1video,\
    h263,theora,prores,dnxhd,ffv1,huffyuv,ffvhuff,utvideo,mjpeg,gif,png,webp,bmp,rawvideo,v210,wmv1,wmv2,wmv3,vc1,flv,\
    msmpeg4,msmpeg4v2,dvvideo,qtrle,wrapped_avframe,\
    aac,aac_latm,mp3float,mp3,mp2float,mp2,mp1float,ac3,eac3,dca,opus,libopus,vorbis,flac,alac,wmav1,wmav2,wmapro,amrnb,amrwb,\
    adpcm_ms,adpcm_ima_wav,adpcm_ima_qt,pcm_s16le,pcm_s16be,pcm_s24le,pcm_s24be,pcm_s32le,pcm_s32be,pcm_f32le,\
    pcm_f32be,pcm_f64le,pcm_f64be,pcm_u8,pcm_s8,pcm_alaw,pcm_mulaw,pcm_bluray,pcm_dvd,\
    subrip,srt,ass,ssa,mov_text,webvtt,text";

/// Containers whose clock may begin anew in the middle.
const JUMPY: [&str; 2] = ["mpegts", "mpeg"];

/// Packets in a row that may fail to parse before the rest is given up.
const MAX_BAD_PACKETS: u32 = 1000;

/// A packet, with the index of its stream in it.
pub(crate) type Packet = ffmpeg_next::Packet;

/// An open input.
pub(crate) struct Source {
    pub(super) input: Input,
    /// Where the container's own clock may begin anew.
    clock: Option<Clock>,
    /// The picture and the sound that make that clock.
    clocks: [Option<usize>; 2],
    /// The streams that are asked for; none: all.
    kept: Option<Vec<usize>>,
    read_to: Arc<AtomicU64>,
    bytes: u64,
    /// Packets the demuxer could not read.
    pub(crate) bad_packets: u64,
}

impl Source {
    /// Opens a descriptor with one demuxer. Every source has a position of its own.
    pub(crate) fn open(file: &File, demuxer: &str, limits: &Limits) -> Result<Self, JobError> {
        let file = file
            .try_clone()
            .map_err(|error| JobError::infra("keep the input open", error))?;
        let bytes = file
            .metadata()
            .map_err(|error| JobError::infra("look at the input", error))?
            .len();
        let read_to = Arc::new(AtomicU64::new(0));
        let reader = Window {
            file,
            at: 0,
            bytes,
            read_to: Arc::clone(&read_to),
        };
        let io = StreamIo::from_read_seek_with_capacity(reader, 1 << 18)
            .map_err(|error| fault("open the input", error))?;
        let input = ffi::open(io, demuxer, DECODERS, limits).map_err(|error| match error {
            // Nothing is decoded yet: it is a table of the container that claims so much.
            Error::Other {
                errno: ffmpeg_next::error::ENOMEM,
            } => JobError::limit("its tables ask for more memory than a job may have"),
            error => fault("not readable as media", error),
        })?;
        if input.nb_streams() > limits.max_streams {
            return Err(JobError::limit(format!(
                "{} streams, {} are allowed",
                input.nb_streams(),
                limits.max_streams
            )));
        }
        let clocks = if JUMPY.contains(&demuxer) {
            chosen(&input)
        } else {
            [None; 2]
        };
        let clock = clocks.iter().any(Option::is_some);
        let clock = clock.then(|| Clock::new(clocks[0]));
        Ok(Self {
            clock,
            clocks,
            kept: None,
            input,
            read_to,
            bytes,
            bad_packets: 0,
        })
    }

    /// What the container claims.
    pub(crate) fn facts(&self) -> Facts {
        let tracks: Vec<_> = self.input.streams().map(|stream| track(&stream)).collect();
        let (video, audio) = choose(&tracks);
        let duration = u64::try_from(self.input.duration())
            .ok()
            .map(|micros| micros / 1000);
        let container = self.input.format().name().to_owned();
        Facts {
            container,
            bytes: self.bytes,
            duration_ms: duration,
            timecode: self.timecode(video.map(|at| tracks[at].index)),
            tracks,
            video,
            audio,
        }
    }

    /// Of the picture's track, else of any track, else of the container.
    fn timecode(&self, video: Option<usize>) -> Option<String> {
        let own = video.and_then(|index| self.input.stream(index));
        let tracks = own.into_iter().chain(self.input.streams());
        let told = tracks.filter_map(|stream| stream.metadata().get("timecode").map(str::to_owned));
        let told = told.chain(self.input.metadata().get("timecode").map(str::to_owned));
        let mut told = told.filter(|text| is_timecode(text));
        told.next()
    }

    /// Reads only these streams. Where the container's clock may begin anew, sound and picture are read on: they make one
    /// clock, the same for whoever reads.
    pub(crate) fn keep(&mut self, streams: &[usize]) {
        for index in 0..self.input.nb_streams() as usize {
            let discard = if streams.contains(&index) || self.clocks.contains(&Some(index)) {
                AVDiscard::AVDISCARD_DEFAULT
            } else {
                AVDiscard::AVDISCARD_ALL
            };
            ffi::set_discard(&mut self.input, index, discard);
        }
        self.kept = Some(streams.to_vec());
    }

    /// Reads only keyframes of one stream, by the container's own clock.
    pub(crate) fn keep_keyframes(&mut self, stream: usize) {
        (self.clock, self.clocks) = (None, [None; 2]);
        self.keep(&[stream]);
        ffi::set_discard(&mut self.input, stream, AVDiscard::AVDISCARD_NONKEY);
    }

    /// The next packet, or none at the end of what is readable.
    pub(crate) fn next(&mut self) -> Result<Option<Packet>, JobError> {
        loop {
            let packet = self.read_on()?;
            let asked = |packet: &Packet| {
                let kept = self.kept.as_ref();
                kept.is_none_or(|kept| kept.contains(&packet.stream()))
            };
            if packet.as_ref().is_none_or(asked) {
                return Ok(packet);
            }
        }
    }

    fn read_on(&mut self) -> Result<Option<Packet>, JobError> {
        let mut packet = Packet::empty();
        for _ in 0..MAX_BAD_PACKETS {
            match packet.read(&mut self.input) {
                Ok(()) => {
                    self.place(&mut packet);
                    return Ok(Some(packet));
                }
                Err(Error::Eof) => return Ok(None),
                Err(
                    error @ Error::Other {
                        errno: ffmpeg_next::error::ENOMEM,
                    },
                ) => return Err(fault("read the input", error)),
                Err(
                    Error::InvalidData
                    | Error::Other {
                        errno: ffmpeg_next::error::EAGAIN,
                    },
                ) => self.bad_packets += 1,
                Err(_) => break,
            }
        }
        self.bad_packets += 1;
        Ok(None)
    }

    /// Puts a packet of a part that begins anew behind those before it.
    fn place(&mut self, packet: &mut Packet) {
        let stream = self.input.stream(packet.stream());
        let (Some(clock), Some(stream)) = (&mut self.clock, stream) else {
            return;
        };
        let base = stream.time_base();
        let at = packet.dts().or(packet.pts());
        let offset = match at.and_then(|ts| to_ns(ts, base)) {
            Some(at) if self.clocks.contains(&Some(packet.stream())) => {
                let lasts = to_ns(packet.duration().max(0), base).unwrap_or(0);
                clock.place(packet.stream(), at, lasts)
            }
            _ => clock.offset(),
        };
        if offset != 0 {
            let moved = |ts: i64| ts.saturating_add(from_ns(offset, base));
            packet.set_pts(packet.pts().map(moved));
            packet.set_dts(packet.dts().map(moved));
        }
    }

    /// How often the container's clock began anew or jumped; what comes after was put behind what came before.
    pub(crate) fn jumps(&self) -> u64 {
        self.clock.as_ref().map_or(0, |clock| clock.jumps)
    }

    /// Whether a packet is decoded but not shown: an edit list cuts it off.
    pub(crate) fn discarded(packet: &Packet) -> bool {
        ffi::discarded(packet)
    }

    /// Goes to the last keyframe at or before a time on the container's clock; whether it could.
    pub(crate) fn seek(&mut self, ns: i64) -> bool {
        self.input.seek(ns / 1000, ..ns / 1000).is_ok()
    }

    /// When a packet is shown, on the container's clock.
    pub(crate) fn time_ns(&self, packet: &Packet) -> Option<i64> {
        let base = self.input.stream(packet.stream())?.time_base();
        to_ns(packet.pts().or(packet.dts())?, base)
    }

    /// When a packet ends, on the container's clock.
    pub(crate) fn end_ns(&self, packet: &Packet) -> Option<i64> {
        let base = self.input.stream(packet.stream())?.time_base();
        let begins = packet.pts().or(packet.dts())?;
        to_ns(begins.saturating_add(packet.duration().max(0)), base)
    }

    /// The resolution of a stream's clock.
    pub(crate) fn tick_ns(&self, stream: usize) -> i64 {
        self.input
            .stream(stream)
            .and_then(|stream| to_ns(1, stream.time_base()))
            .unwrap_or(0)
            .max(1)
    }

    /// How far into the file was read last, and its size, in bytes.
    pub(crate) fn read(&self) -> (u64, u64) {
        (self.read_to.load(Ordering::Relaxed), self.bytes)
    }
}

/// The picture and the sound that a job is about.
fn chosen(input: &Input) -> [Option<usize>; 2] {
    let tracks: Vec<_> = input.streams().map(|stream| track(&stream)).collect();
    let (video, audio) = choose(&tracks);
    [video, audio].map(|at| Some(tracks[at?].index))
}

/// The descriptor with a position of its own: the parent and other sources share the file's.
struct Window {
    file: File,
    at: u64,
    bytes: u64,
    read_to: Arc<AtomicU64>,
}

impl Read for Window {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.at)?;
        self.at += count as u64;
        self.read_to.store(self.at, Ordering::Relaxed);
        Ok(count)
    }
}

impl Seek for Window {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.bytes.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

fn track(stream: &Stream<'_>) -> Track {
    let par = ffi::parameters(stream);
    let medium = stream.parameters().medium();
    let base = stream.time_base();
    let decoder = ffi::decoder_name(stream);
    let mut track = Track {
        index: stream.index(),
        kind: kind(medium).to_owned(),
        codec: par.codec,
        decodable: decoder.is_some_and(|name| DECODERS.split(',').any(|known| known == name)),
        language: stream.metadata().get("language").map(str::to_owned),
        disposition: dispositions(stream.disposition()),
        start_ns: Some(stream.start_time())
            .filter(|ts| *ts != ffmpeg_next::ffi::AV_NOPTS_VALUE)
            .and_then(|ts| to_ns(ts, base)),
        duration_ms: Some(stream.duration())
            .filter(|ts| *ts > 0)
            .and_then(|ts| to_ns(ts, base))
            .map(|ns| ns.unsigned_abs() / 1_000_000),
        ..Track::default()
    };
    if medium == media::Type::Video {
        let rate = stream.avg_frame_rate();
        let positive = |value: i32| u32::try_from(value).ok().filter(|value| *value > 0);
        track.picture = Some(Picture {
            width: par.width,
            height: par.height,
            pixel_aspect: par.pixel_aspect,
            format: par.format,
            matrix: side_data(stream, SideData::DisplayMatrix)
                .as_deref()
                .and_then(display_matrix),
            interlaced: par.interlaced,
            colour: Colour {
                matrix: par.matrix,
                primaries: par.primaries,
                transfer: par.transfer,
                range: par.range,
            },
            rate: positive(rate.numerator()).zip(positive(rate.denominator())),
            dolby_vision: side_data(stream, SideData::DOVI_CONF)
                .and_then(|bytes| bytes.get(2).copied()),
        });
    }
    if medium == media::Type::Audio {
        track.sound = Some(Sound {
            rate: par.sample_rate,
            channels: par.channels,
            layout: par.layout,
        });
    }
    track
}

fn kind(medium: media::Type) -> &'static str {
    match medium {
        media::Type::Video => "video",
        media::Type::Audio => "audio",
        media::Type::Subtitle => "subtitle",
        media::Type::Data => "data",
        media::Type::Attachment => "attachment",
        media::Type::Unknown => "unknown",
    }
}

fn dispositions(flags: Disposition) -> Vec<String> {
    flags
        .iter_names()
        .map(|(name, _)| name.to_lowercase())
        .collect()
}

fn side_data(stream: &Stream<'_>, kind: SideData) -> Option<Vec<u8>> {
    stream
        .side_data()
        .find(|data| data.kind() == kind)
        .map(|data| data.data().to_vec())
}

/// `hh:mm:ss:ff`, with `;` or `.` before the frames where some numbers are left out.
fn is_timecode(text: &str) -> bool {
    let shape = text
        .bytes()
        .map(|byte| if byte.is_ascii_digit() { b'0' } else { byte });
    let shape: Vec<u8> = shape.collect();
    matches!(&shape[..], b"00:00:00:00" | b"00:00:00;00" | b"00:00:00.00")
}

/// Nine native integers, of which the upper left 2×2 turn the picture.
fn display_matrix(bytes: &[u8]) -> Option<[i32; 4]> {
    let at = |index: usize| {
        Some(i32::from_ne_bytes(
            bytes.get(index * 4..index * 4 + 4)?.try_into().ok()?,
        ))
    };
    Some([at(0)?, at(1)?, at(3)?, at(4)?])
}

/// Codecs we decode, of those this build of libav has.
pub(crate) fn formats() -> Vec<String> {
    DECODERS
        .split(',')
        .filter(|name| ffmpeg_next::decoder::find_by_name(name).is_some())
        .map(str::to_owned)
        .collect()
}
