//! What the binding does not offer: a handful of reads and writes of libav's own structures, each behind a safe function.

use std::ffi::{CStr, CString};
use std::ptr;

use ffmpeg_next::codec::decoder::Opened;
use ffmpeg_next::ffi as av;
use ffmpeg_next::filter::Graph;
use ffmpeg_next::format::context::{Input, StreamIo};
use ffmpeg_next::format::stream::Stream;
use ffmpeg_next::{Dictionary, Error, frame};

use crate::limits::Limits;

/// Opens a container with one demuxer forced and one list of decoders, and reads stream information with one thread
/// and a bound on pixels per stream, which the binding cannot pass.
#[expect(
    unsafe_code,
    reason = "the binding passes no demuxer and no options per stream"
)]
pub(super) fn open(
    mut io: StreamIo,
    demuxer: &str,
    decoders: &str,
    limits: &Limits,
) -> Result<Input, Error> {
    let invalid = |_| Error::InvalidData;
    let name = CString::new(demuxer).map_err(invalid)?;
    let mut options = Dictionary::new();
    options.set("format_whitelist", demuxer);
    options.set("codec_whitelist", decoders);
    options.set("protocol_whitelist", "none");
    // One more than may be, so that too many are seen to be too many.
    options.set(
        "max_streams",
        &limits.max_streams.saturating_add(1).to_string(),
    );
    if matches!(demuxer, "wav" | "w64") {
        // 64 KiB at a time in place of four; the first 128, as ever, may turn out to be coded sound.
        options.set("max_size", "65536");
        options.set("max_probe_packets", "2");
    }
    // SAFETY: every pointer handed to libav lives until the call returns; on failure avformat_open_input frees the
    // context but not the custom I/O, which `io` owns; on success both move into `Input`.
    unsafe {
        let format = av::av_find_input_format(name.as_ptr());
        if format.is_null() {
            return Err(Error::DemuxerNotFound);
        }
        let mut context = av::avformat_alloc_context();
        if context.is_null() {
            return Err(Error::Other {
                errno: ffmpeg_next::error::ENOMEM,
            });
        }
        (*context).pb = io.as_mut_ptr();
        (*context).flags |= av::AVFMT_FLAG_CUSTOM_IO;
        let mut raw = options.disown();
        let opened = av::avformat_open_input(&raw mut context, ptr::null(), format, &raw mut raw);
        drop(Dictionary::own(raw));
        if opened < 0 {
            return Err(Error::from(opened));
        }
        let input = Input::wrap_with_custom_io(context, io);
        find_stream_info(context, limits)?;
        Ok(input)
    }
}

/// # Safety
/// `context` is an open input.
#[expect(unsafe_code, reason = "the binding passes no options per stream")]
unsafe fn find_stream_info(
    context: *mut av::AVFormatContext,
    limits: &Limits,
) -> Result<(), Error> {
    // SAFETY: one dictionary per stream that exists before the call, as libav demands; streams found later get none.
    unsafe {
        let mut options: Vec<*mut av::AVDictionary> = (0..(*context).nb_streams)
            .map(|_| {
                let mut options = Dictionary::new();
                options.set("max_pixels", &limits.padded_pixels().to_string());
                options.set("threads", "1");
                options.disown()
            })
            .collect();
        let found = av::avformat_find_stream_info(context, options.as_mut_ptr());
        for raw in options {
            drop(Dictionary::own(raw));
        }
        if found < 0 {
            Err(Error::from(found))
        } else {
            Ok(())
        }
    }
}

/// Tells the demuxer which packets of a stream to leave out.
#[expect(unsafe_code, reason = "the binding has no setter")]
pub(super) fn set_discard(input: &mut Input, stream: usize, discard: av::AVDiscard) {
    if let Some(mut stream) = input.stream_mut(stream) {
        // SAFETY: the stream belongs to the input that we hold exclusively.
        unsafe { (*stream.as_mut_ptr()).discard = discard }
    }
}

/// Makes a graph whose filters share their work among so many threads, not among as many as the machine has processors.
#[expect(unsafe_code, reason = "the binding has no setter")]
pub(super) fn graph(threads: i32) -> Graph {
    let mut graph = Graph::new();
    // SAFETY: we hold it exclusively, and it has no filter yet: each asks for the number when it is added.
    unsafe { (*graph.as_mut_ptr()).nb_threads = threads }
    graph
}

/// Fields of a stream's codec parameters that the binding hides. Enums are read as integers where a file may hold any.
pub(super) struct Parameters {
    pub(super) codec: String,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) pixel_aspect: (u32, u32),
    pub(super) format: String,
    pub(super) interlaced: bool,
    pub(super) matrix: String,
    pub(super) primaries: String,
    pub(super) transfer: String,
    pub(super) range: String,
    pub(super) sample_rate: u32,
    pub(super) channels: u32,
    pub(super) layout: String,
}

/// Reads a stream's codec parameters.
#[expect(unsafe_code, reason = "the binding hides these fields")]
pub(super) fn parameters(stream: &Stream<'_>) -> Parameters {
    // SAFETY: codecpar is never null in a stream of an open input, and libav's name functions return static text or null.
    unsafe {
        let par = &*(*stream.as_ptr()).codecpar;
        let video = par.codec_type == av::AVMediaType::AVMEDIA_TYPE_VIDEO;
        let format = if video {
            av::av_get_pix_fmt_name(std::mem::transmute::<i32, av::AVPixelFormat>(par.format))
        } else {
            ptr::null()
        };
        let mut layout = [0; 64];
        let described = av::av_channel_layout_describe(
            &raw const par.ch_layout,
            layout.as_mut_ptr(),
            layout.len(),
        );
        let positive = |value: i32| u32::try_from(value).unwrap_or(0);
        let aspect = par.sample_aspect_ratio;
        Parameters {
            codec: text(av::avcodec_get_name(par.codec_id)),
            width: positive(par.width),
            height: positive(par.height),
            pixel_aspect: (positive(aspect.num), positive(aspect.den)),
            format: text(format),
            interlaced: !matches!(
                par.field_order,
                av::AVFieldOrder::AV_FIELD_UNKNOWN | av::AVFieldOrder::AV_FIELD_PROGRESSIVE
            ),
            matrix: text(av::av_color_space_name(par.color_space)),
            primaries: text(av::av_color_primaries_name(par.color_primaries)),
            transfer: text(av::av_color_transfer_name(par.color_trc)),
            range: text(av::av_color_range_name(par.color_range)),
            sample_rate: positive(par.sample_rate),
            channels: positive(par.ch_layout.nb_channels),
            layout: if described > 0 {
                text(layout.as_ptr())
            } else {
                String::new()
            },
        }
    }
}

/// # Safety
/// `name` is null or ends with a zero byte.
#[expect(unsafe_code, reason = "reads a C string")]
unsafe fn text(name: *const std::ffi::c_char) -> String {
    if name.is_null() {
        return String::new();
    }
    // SAFETY: by this function's contract.
    unsafe { CStr::from_ptr(name) }
        .to_string_lossy()
        .into_owned()
}

/// Name of a decoder that takes the stream's codec.
#[expect(
    unsafe_code,
    reason = "the binding's codec ids panic on one that it does not know"
)]
pub(super) fn decoder_name(stream: &Stream<'_>) -> Option<String> {
    // SAFETY: as in `parameters`; a decoder is static.
    unsafe {
        let codec = av::avcodec_find_decoder((*(*stream.as_ptr()).codecpar).codec_id);
        (!codec.is_null()).then(|| text((*codec).name))
    }
}

/// One plane's samples as bytes: of a planar frame one channel, of a packed frame all.
#[expect(unsafe_code, reason = "the binding reaches eight planes at most")]
pub(super) fn samples(audio: &frame::Audio, plane: usize, bytes: usize) -> &[u8] {
    let planes = if audio.is_planar() {
        channels(audio)
    } else {
        1
    };
    assert!(plane < planes, "a frame has one plane per channel");
    // SAFETY: libav allocates `linesize[0]` bytes for every plane of an audio frame, and extended_data has them all.
    unsafe {
        let raw = &*audio.as_ptr();
        let size = usize::try_from(raw.linesize[0]).unwrap_or(0);
        std::slice::from_raw_parts(*raw.extended_data.add(plane), bytes.min(size))
    }
}

/// Channels of a frame, whatever their layout.
#[expect(
    unsafe_code,
    reason = "the binding reads a field that decoders no longer fill for unknown layouts"
)]
pub(super) fn channels(audio: &frame::Audio) -> usize {
    // SAFETY: plain field of a frame we hold.
    unsafe { usize::try_from((*audio.as_ptr()).ch_layout.nb_channels).unwrap_or(0) }
}

/// Bits of a frame's layout, or of the usual layout for its number of channels; zero if there is none.
#[expect(
    unsafe_code,
    reason = "the binding has no default layout before FFmpeg 7"
)]
pub(super) fn layout_mask(audio: &frame::Audio) -> u64 {
    // SAFETY: `u.mask` is the active field of native order only; a default layout owns no memory.
    unsafe {
        let mut layout = (*audio.as_ptr()).ch_layout;
        if layout.order != av::AVChannelOrder::AV_CHANNEL_ORDER_NATIVE {
            layout = std::mem::zeroed();
            av::av_channel_layout_default(&raw mut layout, (*audio.as_ptr()).ch_layout.nb_channels);
        }
        if layout.order == av::AVChannelOrder::AV_CHANNEL_ORDER_NATIVE {
            layout.u.mask
        } else {
            0
        }
    }
}

/// Bits of a layout by its name.
#[expect(unsafe_code, reason = "the binding has no layouts by name")]
pub(super) fn layout_named(name: &str) -> Option<u64> {
    let name = CString::new(name).ok()?;
    // SAFETY: `layout` is written before it is read; `u.mask` is the active field of native order, which owns no memory, and any
    // other is given back.
    unsafe {
        let mut layout: av::AVChannelLayout = std::mem::zeroed();
        if av::av_channel_layout_from_string(&raw mut layout, name.as_ptr()) < 0 {
            return None;
        }
        let native = layout.order == av::AVChannelOrder::AV_CHANNEL_ORDER_NATIVE;
        let mask = native.then_some(layout.u.mask);
        av::av_channel_layout_uninit(&raw mut layout);
        mask
    }
}

/// Whether a packet is decoded but not shown.
#[expect(unsafe_code, reason = "the binding drops this flag")]
pub(super) fn discarded(packet: &ffmpeg_next::Packet) -> bool {
    use ffmpeg_next::packet::Ref;
    // SAFETY: plain field of a packet we hold.
    unsafe { (*packet.as_ptr()).flags & av::AV_PKT_FLAG_DISCARD != 0 }
}

/// What a packet of subtitles decodes to.
#[derive(Default)]
pub(super) struct Subtitle {
    /// Lines of Advanced SubStation Alpha.
    pub(super) lines: Vec<String>,
    /// Milliseconds from the packet's time on.
    pub(super) start_ms: u32,
    /// The same; zero or the largest number: unknown.
    pub(super) end_ms: u32,
}

/// Decodes a packet of subtitles.
#[expect(
    unsafe_code,
    reason = "the binding never frees a decoded subtitle and believes its text to be UTF-8"
)]
pub(super) fn decode_subtitle(
    decoder: &mut Opened,
    packet: &ffmpeg_next::Packet,
) -> Result<Subtitle, Error> {
    use ffmpeg_next::packet::Ref;
    // SAFETY: libav writes `decoded` only, and does not change the packet although its type says so; `rects` holds `num_rects`
    // pointers, each to a rectangle whose `ass` is null or ends with a zero byte, until avsubtitle_free.
    unsafe {
        let mut decoded: av::AVSubtitle = std::mem::zeroed();
        let mut got = 0;
        let done = av::avcodec_decode_subtitle2(
            decoder.as_mut_ptr(),
            &raw mut decoded,
            &raw mut got,
            packet.as_ptr().cast_mut(),
        );
        if done < 0 {
            return Err(Error::from(done));
        }
        if got == 0 {
            return Ok(Subtitle::default());
        }
        let lines = (0..decoded.num_rects as usize)
            .map(|at| text((**decoded.rects.add(at)).ass))
            .collect();
        let subtitle = Subtitle {
            lines,
            start_ms: decoded.start_display_time,
            end_ms: decoded.end_display_time,
        };
        av::avsubtitle_free(&raw mut decoded);
        Ok(subtitle)
    }
}

/// The timecode that a picture carries, as SMPTE 12M writes it: four bytes, binary coded decimals, frames first. Above 30 frames a
/// second (`fast`) two frames share a number, and a bit tells them apart.
pub(super) fn timecode(picture: &frame::Video, fast: bool) -> Option<String> {
    use ffmpeg_next::frame::side_data::Type;
    let told = picture.side_data(Type::S12M_TIMECODE)?;
    let words: Vec<u32> = told
        .data()
        .chunks_exact(4)
        .map(|word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]]))
        .collect();
    // The first word counts the others, of which the first is this picture's.
    let word = *words
        .get(1)
        .filter(|_| words.first().is_some_and(|count| *count > 0))?;
    let pair = |byte: u32, tens: u32| (byte >> 4 & tens) * 10 + (byte & 0xf);
    let (frames, seconds) = (pair(word >> 24, 0x3), pair(word >> 16 & 0xff, 0x7));
    let second = u32::from(word & (1 << 7 | 1 << 23) != 0);
    let frames = if fast { frames * 2 + second } else { frames };
    let (minutes, hours) = (pair(word >> 8 & 0xff, 0x7), pair(word & 0xff, 0x3));
    let drops = if word >> 30 & 1 == 1 { ';' } else { ':' };
    Some(format!(
        "{hours:02}:{minutes:02}:{seconds:02}{drops}{frames:02}"
    ))
}
