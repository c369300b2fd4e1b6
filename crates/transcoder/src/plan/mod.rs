//! What a job will do with an input: a pure function of the facts. Written to the manifest, so that a person can read
//! why an output looks as it does.

mod edit;

use std::time::Duration;

use edit::edit_plan;
pub use edit::{EditPlan, EditSound};
use serde::{Deserialize, Serialize};

use crate::error::JobError;
use crate::probe::{Colour, Facts, Picture};
use crate::profile::{LONG_SIDE, Profile, SHORT_SIDE};
use crate::timeline::{Rate, origin};

/// Raised when the same input would be planned otherwise.
pub const VERSION: u32 = 1;

/// The plan of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The rules by which it was made ([`VERSION`]).
    pub version: u32,
    /// Start of the timeline on the container's clock.
    pub origin_ns: i64,
    /// What is done with the picture; absent without one.
    pub video: Option<VideoPlan>,
    /// What is done with the sound; absent without one.
    pub audio: Option<AudioPlan>,
    /// What is done for editing, where that is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edit: Option<EditPlan>,
}

/// What is done with the picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VideoPlan {
    /// Index of the stream in the container.
    pub stream: usize,
    /// Width as shown, rotation and pixel aspect applied.
    pub width: u32,
    /// Height as shown.
    pub height: u32,
    /// Rate of the proxy.
    pub rate: Rate,
    /// How the picture is turned.
    pub turn: Turn,
    /// Whether fields are woven into frames.
    pub deinterlace: bool,
    /// Whether it is laid on white: what shines through has no colour of its own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub flatten: bool,
    /// How colour is converted.
    pub colour: ColourPlan,
}

/// What is done with the sound.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AudioPlan {
    /// Index of the stream in the container.
    pub stream: usize,
    /// Channels of the proxy: 1 or 2.
    pub channels: u32,
    /// Whether more than two channels are mixed down.
    pub downmix: bool,
}

/// One of the eight ways a picture can lie, named as FFmpeg's filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Turn {
    /// As coded.
    None,
    /// Mirrored left to right.
    HFlip,
    /// Mirrored top to bottom.
    VFlip,
    /// By 180°.
    Half,
    /// By 90° clockwise.
    Clock,
    /// By 90° counter-clockwise.
    CounterClock,
    /// Along the falling diagonal.
    Diagonal,
    /// Along the rising diagonal.
    AntiDiagonal,
}

impl Turn {
    /// From the 2×2 part of a display matrix; anything that is not a multiple of 90° is upright.
    pub fn from_matrix([a, b, c, d]: [i32; 4]) -> Self {
        let axis = a.unsigned_abs().max(d.unsigned_abs());
        let cross = b.unsigned_abs().max(c.unsigned_abs());
        if axis == cross {
            return Self::None;
        }
        if axis > cross {
            return match (a < 0, d < 0) {
                (false, false) => Self::None,
                (true, false) => Self::HFlip,
                (false, true) => Self::VFlip,
                (true, true) => Self::Half,
            };
        }
        match (b < 0, c < 0) {
            (false, false) => Self::Diagonal,
            (false, true) => Self::Clock,
            (true, false) => Self::CounterClock,
            (true, true) => Self::AntiDiagonal,
        }
    }

    /// Whether width and height change places.
    pub fn swaps(self) -> bool {
        matches!(
            self,
            Self::Clock | Self::CounterClock | Self::Diagonal | Self::AntiDiagonal
        )
    }

    /// The filter that does it, if any.
    pub fn filter(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::HFlip => Some("hflip"),
            Self::VFlip => Some("vflip"),
            Self::Half => Some("hflip,vflip"),
            Self::Clock => Some("transpose=clock"),
            Self::CounterClock => Some("transpose=cclock"),
            Self::Diagonal => Some("transpose=cclock_flip"),
            Self::AntiDiagonal => Some("transpose=clock_flip"),
        }
    }
}

/// How colour becomes BT.709, limited range (or, in a JPEG, BT.601 full range).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColourPlan {
    /// The matrix we take the input to have, by the name of the filters.
    pub matrix: String,
    /// Whether the input uses the full range.
    pub full_range: bool,
    /// The transfer of an HDR input: it is tone-mapped.
    pub hdr: Option<String>,
    /// Whether primaries are those of BT.2020.
    pub wide: bool,
}

/// What a job may take however little there is to do, in seconds.
const LEAST_PATIENCE: f64 = 120.0;
/// No media has fewer bytes a second for long, as far as patience goes: headers that tell a duration may lie.
const THINNEST: f64 = 16_000.0;

/// How long a job may take: by how long the input lasts, if its header tells, or its size, and how large and many its pictures are;
/// the profile's limit at most.
#[expect(clippy::cast_precision_loss, reason = "an estimate")]
pub fn patience(profile: Profile, facts: &Facts) -> Duration {
    let most = profile.deadline();
    let Some(told_ms) = facts.duration_ms else {
        return most;
    };
    let seconds = (told_ms as f64 / 1000.0).max(facts.bytes as f64 / THINNEST);
    let weight = facts.picture().map_or(0.0, |picture| {
        let claimed = picture.rate.filter(|(num, den)| *num > 0 && *den > 0);
        let rate = claimed.map_or(60.0, |(num, den)| f64::from(num) / f64::from(den));
        let pixels = f64::from(picture.width) * f64::from(picture.height);
        pixels * rate.min(60.0) / (1920.0 * 1080.0 * 30.0)
    });
    let wanted = LEAST_PATIENCE + seconds * profile.pace() * weight.max(0.25);
    Duration::try_from_secs_f64(wanted)
        .unwrap_or(most)
        .min(most)
}

/// Where the colour goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// BT.709, limited range, 4:2:0: the proxy.
    Video,
    /// BT.601, full range, 4:2:0: what JPEG means by YCbCr.
    Jpeg,
}

impl VideoPlan {
    /// The chain of filters from decoded pictures to the target. Scaling comes first but for deinterlacing, so that all
    /// else, buffering above all, sees small pictures.
    pub fn filters(&self, target: Target) -> String {
        let (width, height) = if self.turn.swaps() {
            (self.height, self.width)
        } else {
            (self.width, self.height)
        };
        let mut chain = Vec::new();
        if self.deinterlace {
            chain.push("bwdif=mode=send_frame:parity=auto:deint=interlaced".to_owned());
        }
        let colour = &self.colour;
        let range = if colour.full_range { "pc" } else { "tv" };
        if self.flatten && colour.hdr.is_none() && !colour.wide {
            // Each colour times its opacity, and as much white as light shines through.
            chain.push(format!(
                "scale=in_color_matrix={}:in_range={range},format=gbrap,premultiply=inplace=1,lutrgb=a=maxval-val,\
                 colorchannelmixer=ra=1:ga=1:ba=1,format=gbrp",
                colour.matrix
            ));
        }
        let (matrix, out_range, format) = match target {
            Target::Video => ("bt709", "tv", "yuv420p"),
            Target::Jpeg => ("bt601", "pc", "yuvj420p"),
        };
        let scale = format!("scale={width}:{height}:flags=bicubic:in_range={range}");
        if colour.hdr.is_some() || colour.wide {
            let transfer = colour.hdr.as_deref().unwrap_or("bt709");
            let zmatrix = match target {
                Target::Video => "709",
                Target::Jpeg => "170m",
            };
            chain.push(format!("{scale}:out_range={range},format=yuv420p10le"));
            chain.push(format!("zscale=tin={transfer}:min=2020_ncl:pin=2020:rin={range}:t=linear:npl=100,format=gbrpf32le"));
            chain.push("zscale=p=709".to_owned());
            if colour.hdr.is_some() {
                chain.push("tonemap=hable:desat=0".to_owned());
            }
            chain.push(format!(
                "zscale=t=709:m={zmatrix}:r={out_range},format=yuv420p"
            ));
            if target == Target::Jpeg {
                chain.push("scale=in_range=pc:out_range=pc,format=yuvj420p".to_owned());
            }
        } else {
            chain.push(format!(
                "{scale}:in_color_matrix={}:out_color_matrix={matrix}:out_range={out_range},format={format}",
                colour.matrix
            ));
        }
        chain.extend(self.turn.filter().map(str::to_owned));
        chain.push("setsar=1".to_owned());
        chain.join(",")
    }
}

/// The chain of filters from the proxy's pictures to small ones for a JPEG.
pub fn shrunk((width, height): (u32, u32)) -> String {
    format!(
        "scale={width}:{height}:flags=bicubic:in_range=tv:in_color_matrix=bt709:out_color_matrix=bt601:out_range=pc,\
         format=yuvj420p"
    )
}

impl AudioPlan {
    /// The chain of filters from decoded samples to the proxy's: float, 48 kHz, mono or stereo.
    ///
    /// More than two channels become Lo/Ro (1, .707, .707), lowered by 3 dB, below a limiter at −1 dB; the low
    /// frequency effects are left out. The resampler that libav puts between the two formats mixes so by itself, as
    /// both sides are float (integers it would scale down).
    ///
    /// The number of channels may change on the way, the proxy's does not.
    pub fn filters(&self, channels: usize, known_layout: bool) -> String {
        let floats = "aresample=48000:osf=fltp,aformat=sample_fmts=fltp";
        let stereo = match (channels, known_layout) {
            (0..=2, _) => floats.to_owned(),
            (_, true) => format!(
                "{floats},aformat=sample_fmts=fltp:channel_layouts=stereo,volume=0.7071,{LIMITER}"
            ),
            (_, false) => format!("{floats},pan=stereo|c0=c0|c1=c1,{LIMITER}"),
        };
        if self.channels == 1 && channels > 1 {
            format!("{stereo},pan=mono|c0=0.5*c0+0.5*c1")
        } else {
            stereo
        }
    }
}

const LIMITER: &str = "alimiter=limit=0.891251:level=disabled:attack=5:release=50:latency=1,aformat=sample_fmts=fltp:channel_layouts=stereo";

/// What the first seconds are, whatever the header says.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Survey {
    /// A picture that does not move, by its container.
    pub still: bool,
    /// Rate by the intervals of packets, if there are any.
    pub rate: Option<Rate>,
    /// Whether all intervals are whole frames of that rate.
    pub steady: bool,
    /// The earliest picture, on the container's clock; for editing, the first that decodes.
    pub first_ns: Option<i64>,
    /// The earliest sample that comes out of the decoder.
    pub sound_ns: Option<i64>,
    /// The timecode that the first picture carries, looked for where it is edited.
    pub timecode: Option<String>,
}

/// Makes the plan, or refuses what cannot be shown right.
pub fn plan(profile: Profile, facts: &Facts, survey: &Survey) -> Result<Plan, JobError> {
    let video = facts.video.map(|at| &facts.tracks[at]);
    let audio = facts.audio.map(|at| &facts.tracks[at]);
    let video = match video.and_then(|track| Some((track, track.picture.as_ref()?))) {
        Some((track, picture)) => Some((track.start_ns, video_plan(track.index, picture, survey)?)),
        None => None,
    };
    let audio_start = audio.map(|track| survey.sound_ns.or(track.start_ns).unwrap_or(0));
    let video_start = video
        .as_ref()
        .map(|(start, plan)| (survey.first_ns.or(*start).unwrap_or(0), plan.rate));
    let edited = profile == Profile::Edit1 && !survey.still;
    let edit = edited.then(|| edit_plan(facts, survey)).transpose()?;
    // The timeline of editing begins with the first picture: frames and timecodes are counted from it.
    let first_ns = survey.first_ns.filter(|_| edited);
    Ok(Plan {
        version: VERSION,
        origin_ns: first_ns.unwrap_or_else(|| origin(video_start, audio_start)),
        video: video.map(|(_, plan)| plan),
        audio: audio
            .and_then(|track| Some((track, track.sound.as_ref()?)))
            .map(|(track, sound)| AudioPlan {
                stream: track.index,
                channels: sound.channels.min(2),
                downmix: sound.channels > 2,
            }),
        edit,
    })
}

fn video_plan(stream: usize, picture: &Picture, survey: &Survey) -> Result<VideoPlan, JobError> {
    if picture.dolby_vision == Some(5) {
        return Err(JobError::input(
            "unsupported: Dolby Vision profile 5 has no picture that other players can show",
        ));
    }
    let turn = picture.matrix.map_or(Turn::None, Turn::from_matrix);
    let (width, height) = fit(picture, turn);
    let claimed = picture.rate.filter(|(num, den)| *num > 0 && *den > 0);
    let claimed = claimed.map(|(num, den)| Rate::snap(f64::from(num) / f64::from(den)));
    Ok(VideoPlan {
        stream,
        width,
        height,
        rate: survey.rate.or(claimed).unwrap_or(Rate { num: 25, den: 1 }),
        turn,
        deinterlace: picture.interlaced,
        flatten: is_transparent(&picture.format),
        colour: colour_plan(&picture.colour, &picture.format, picture.height),
    })
}

/// The size as shown: square pixels, turned, at most [`SHORT_SIDE`] × [`LONG_SIDE`], never larger than the source, even.
fn fit(picture: &Picture, turn: Turn) -> (u32, u32) {
    let (num, den) = picture.pixel_aspect;
    let plausible = num > 0 && den > 0 && num / den < 16 && den / num < 16;
    let aspect = if plausible {
        f64::from(num) / f64::from(den)
    } else {
        1.0
    };
    let (wide, high) = (f64::from(picture.width) * aspect, f64::from(picture.height));
    let (wide, high) = if turn.swaps() {
        (high, wide)
    } else {
        (wide, high)
    };
    let shrink = (f64::from(SHORT_SIDE) / wide.min(high))
        .min(f64::from(LONG_SIDE) / wide.max(high))
        .min(1.0);
    (even(wide * shrink), even(high * shrink))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "bounded by LONG_SIDE and by 2"
)]
fn even(side: f64) -> u32 {
    ((side / 2.0).round() as u32 * 2).max(2)
}

/// Whether pixels of a format, as libav names it, have an opacity.
fn is_transparent(format: &str) -> bool {
    const OPACITY: [&str; 9] = [
        "rgba", "bgra", "argb", "abgr", "ya", "yuva", "gbrap", "pal8", "ayuv",
    ];
    OPACITY.iter().any(|name| format.starts_with(name))
}

fn colour_plan(colour: &Colour, format: &str, height: u32) -> ColourPlan {
    let matrix = match colour.matrix.as_str() {
        "bt709" => "bt709",
        "smpte170m" | "bt470bg" => "bt601",
        "fcc" => "fcc",
        "smpte240m" => "smpte240m",
        "bt2020nc" | "bt2020c" => "bt2020",
        _ if height > 576 => "bt709",
        _ => "bt601",
    };
    let hdr = match colour.transfer.as_str() {
        transfer @ ("smpte2084" | "arib-std-b67") => Some(transfer.to_owned()),
        _ => None,
    };
    ColourPlan {
        matrix: matrix.to_owned(),
        full_range: colour.range == "pc" || format.starts_with("yuvj"),
        hdr,
        wide: colour.primaries == "bt2020" && matrix == "bt2020",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_fit(size: (u32, u32), pixel_aspect: (u32, u32), turn: Turn, expected: (u32, u32)) {
        let picture = Picture {
            width: size.0,
            height: size.1,
            pixel_aspect,
            ..Picture::default()
        };
        assert_eq!(fit(&picture, turn), expected);
    }

    #[test]
    fn pictures_shrink_to_the_short_side_and_never_grow() {
        check_fit((1920, 1080), (1, 1), Turn::None, (1280, 720));
        check_fit((1920, 1080), (1, 1), Turn::Clock, (720, 1280));
        check_fit((640, 272), (0, 1), Turn::None, (640, 272));
        check_fit((1, 1), (1, 1), Turn::None, (2, 2));
        check_fit((400, 281), (1, 1), Turn::None, (400, 282));
    }

    #[test]
    fn pixels_become_square_and_absurd_aspects_are_ignored() {
        check_fit((720, 576), (64, 45), Turn::None, (1024, 576));
        check_fit((176, 144), (128, 117), Turn::None, (192, 144));
        check_fit((640, 480), (4000, 1), Turn::None, (640, 480));
        check_fit((20_000, 1000), (1, 1), Turn::None, (4096, 204));
    }

    #[test]
    fn a_matrix_is_one_of_eight_turns() {
        let one = 65536;
        assert_eq!(Turn::from_matrix([one, 0, 0, one]), Turn::None);
        assert_eq!(Turn::from_matrix([0, one, -one, 0]), Turn::Clock);
        assert_eq!(Turn::from_matrix([0, -one, one, 0]), Turn::CounterClock);
        assert_eq!(Turn::from_matrix([-one, 0, 0, -one]), Turn::Half);
        assert_eq!(Turn::from_matrix([-one, 0, 0, one]), Turn::HFlip);
    }

    #[test]
    fn untagged_small_pictures_are_bt601_and_large_ones_bt709() {
        let untagged = Colour::default();
        assert_eq!(colour_plan(&untagged, "yuv420p", 480).matrix, "bt601");
        assert_eq!(colour_plan(&untagged, "yuv420p", 1080).matrix, "bt709");
        assert!(colour_plan(&untagged, "yuvj420p", 480).full_range);
    }

    #[test]
    fn patience_grows_with_what_there_is_to_do_up_to_the_profile_s() {
        let of = |seconds: Option<u64>, bytes| {
            let facts = Facts {
                duration_ms: seconds.map(|seconds| seconds * 1000),
                bytes,
                ..Facts::default()
            };
            patience(Profile::Proxy720V1, &facts).as_secs()
        };
        let most = Profile::Proxy720V1.deadline().as_secs();
        assert_eq!(of(Some(60), 1), 240);
        assert_eq!((of(None, 1), of(Some(u64::MAX / 2000), 1)), (most, most));
        assert!(
            of(Some(1), 160_000_000) > 10_000,
            "a header that tells too little"
        );
    }

    #[test]
    fn dolby_vision_profile_5_is_refused() {
        let picture = Picture {
            width: 64,
            height: 64,
            dolby_vision: Some(5),
            ..Picture::default()
        };
        assert!(video_plan(0, &picture, &Survey::default()).is_err());
    }
}
