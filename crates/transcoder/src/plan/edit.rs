//! What `edit@1` does with an input: the source again, smaller, so that an editing program may put one in the other's place.

use serde::{Deserialize, Serialize};

use super::{Survey, Turn};
use crate::error::JobError;
use crate::probe::{Colour, Facts, Picture, Track};
use crate::timeline::Rate;

/// The least picture that DNxHR takes.
const LEAST: (u32, u32) = (256, 120);
/// Channels of a track: libav has no layout for more.
const MOST_CHANNELS: u32 = 64;
/// Lines from which on a quarter is made, not half.
const QUARTERED: u32 = 2000;

/// What is done for editing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EditPlan {
    /// Index of the picture's stream in the container.
    pub stream: usize,
    /// Width as stored, after it is turned.
    pub width: u32,
    /// Height as stored, after it is turned.
    pub height: u32,
    /// Width of a pixel over its height.
    pub pixel_aspect: (u32, u32),
    /// The rate of the source.
    pub rate: Rate,
    /// How the picture is turned.
    pub turn: Turn,
    /// Whether lines are those of two fields, which stay.
    pub interlaced: bool,
    /// Ten bits, in DNxHR HQX; else eight, in DNxHR LB.
    pub deep: bool,
    /// Whether the input uses the full range; what is made does not.
    pub full_range: bool,
    /// The source's tags; `gbr` is any kind of red, green and blue, which become BT.709.
    pub colour: Colour,
    /// The tracks of sound.
    pub sounds: Vec<EditSound>,
    /// Of the first picture, where the file tells.
    pub timecode: Option<String>,
}

/// A track of sound, as PCM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EditSound {
    /// Index of the stream in the container.
    pub stream: usize,
    /// The rate of the source.
    pub rate: u32,
    /// The channels of the source.
    pub channels: u32,
    /// libav's name of the source's layout.
    pub layout: String,
    /// 24 bits; else 16.
    pub deep: bool,
}

/// Makes the plan, or refuses what has no place on a grid of frames.
pub(super) fn edit_plan(facts: &Facts, survey: &Survey) -> Result<EditPlan, JobError> {
    let unsupported = |why: &str| JobError::input(format!("unsupported for editing: {why}"));
    let track = facts.video.map(|at| &facts.tracks[at]);
    let (track, picture) = track
        .and_then(|track| Some((track, track.picture.as_ref()?)))
        .ok_or_else(|| unsupported("there is no picture"))?;
    let rate = survey.rate.filter(|_| survey.steady);
    let rate = rate.ok_or_else(|| {
        unsupported("its frame rate varies, or is none that editing programs know")
    })?;
    let turn = picture.matrix.map_or(Turn::None, Turn::from_matrix);
    let (width, height) = size(picture).ok_or_else(|| {
        unsupported(&format!(
            "its picture is smaller than {}×{}",
            LEAST.0, LEAST.1
        ))
    })?;
    let (x, y) = picture.pixel_aspect;
    let pixel_aspect = if x == 0 || y == 0 { (1, 1) } else { (x, y) };
    let swapped = |(a, b): (u32, u32)| if turn.swaps() { (b, a) } else { (a, b) };
    let (width, height) = swapped((width, height));
    let deep = ["p10", "p12", "p14", "p16"]
        .iter()
        .any(|bits| picture.format.contains(bits));
    let rgb = ["rgb", "bgr", "gbr", "argb", "abgr", "0rgb", "0bgr"]
        .iter()
        .any(|name| picture.format.starts_with(name));
    let mut colour = picture.colour.clone();
    if rgb {
        "gbr".clone_into(&mut colour.matrix);
    }
    let sounds: Vec<EditSound> = facts.tracks.iter().filter_map(sound).collect();
    if let Some(many) = sounds.iter().find(|sound| sound.channels > MOST_CHANNELS) {
        return Err(unsupported(&format!(
            "a track of {} channels",
            many.channels
        )));
    }
    Ok(EditPlan {
        stream: track.index,
        width,
        height,
        pixel_aspect: swapped(pixel_aspect),
        rate,
        turn,
        interlaced: picture.interlaced,
        deep: deep
            || matches!(
                picture.colour.transfer.as_str(),
                "smpte2084" | "arib-std-b67"
            ),
        full_range: picture.colour.range == "pc" || picture.format.starts_with("yuvj"),
        colour,
        sounds,
        timecode: facts.timecode.clone().or_else(|| survey.timecode.clone()),
    })
}

/// Half of the picture's sides, or a quarter; all of a picture whose half is too small.
fn size(picture: &Picture) -> Option<(u32, u32)> {
    let by = |part: u32| {
        let side = |whole: u32| (whole / part).div_ceil(2) * 2;
        (side(picture.width), side(picture.height))
    };
    let usual = if picture.width.min(picture.height) >= QUARTERED {
        4
    } else {
        2
    };
    let fits = |(width, height): &(u32, u32)| *width >= LEAST.0 && *height >= LEAST.1;
    [by(usual), by(1)].into_iter().find(fits)
}

fn sound(track: &Track) -> Option<EditSound> {
    const SIXTEEN: [&str; 4] = ["pcm_s16", "pcm_u8", "pcm_alaw", "pcm_mulaw"];
    let sound = track.sound.as_ref().filter(|_| track.decodable)?;
    Some(EditSound {
        stream: track.index,
        rate: sound.rate,
        channels: sound.channels,
        layout: sound.layout.clone(),
        deep: !SIXTEEN.iter().any(|name| track.codec.starts_with(name)),
    })
    .filter(|sound| sound.rate > 0 && sound.channels > 0)
}

impl EditPlan {
    /// The chain of filters from decoded pictures to what is encoded: fields are scaled apart, colour keeps its matrix.
    pub fn filters(&self) -> String {
        let (width, height) = if self.turn.swaps() {
            (self.height, self.width)
        } else {
            (self.width, self.height)
        };
        let (fields, range) = (
            u8::from(self.interlaced),
            if self.full_range { "pc" } else { "tv" },
        );
        let format = if self.deep { "yuv422p10le" } else { "yuv422p" };
        let matrix = if self.colour.matrix == "gbr" {
            ":out_color_matrix=bt709"
        } else {
            ""
        };
        let scale = format!(
            "scale={width}:{height}:flags=bicubic:interl={fields}:in_range={range}:out_range=tv{matrix},format={format}"
        );
        let turn = self.turn.filter().map(|turn| format!(",{turn}"));
        format!("{scale}{},setsar=1", turn.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(size: (u32, u32), expected: Option<(u32, u32)>) {
        let (width, height) = size;
        let picture = Picture {
            width,
            height,
            ..Picture::default()
        };
        assert_eq!(super::size(&picture), expected);
    }

    #[test]
    fn hd_is_halved_and_uhd_quartered() {
        check((1920, 1080), Some((960, 540)));
        check((1280, 720), Some((640, 360)));
        check((3840, 2160), Some((960, 540)));
        check((4096, 2160), Some((1024, 540)));
    }

    #[test]
    fn what_would_be_too_small_stays_or_is_refused() {
        check((320, 180), Some((320, 180)));
        check((160, 90), None);
    }

    #[test]
    fn a_rate_that_varies_is_refused() {
        let picture = Picture {
            width: 1920,
            height: 1080,
            ..Picture::default()
        };
        let track = Track {
            decodable: true,
            picture: Some(picture),
            ..Track::default()
        };
        let facts = Facts {
            tracks: vec![track],
            video: Some(0),
            ..Facts::default()
        };
        let rate = Some(Rate { num: 25, den: 1 });
        let steady = Survey {
            rate,
            steady: true,
            ..Survey::default()
        };
        assert!(edit_plan(&facts, &steady).is_ok());
        let error = edit_plan(
            &facts,
            &Survey {
                steady: false,
                ..steady
            },
        )
        .unwrap_err();
        assert!(error.message.contains("varies"), "{error}");
    }
}
