//! A waveform as a PNG: the geometry of audiowaveform without its axis.
//!
//! Point `n` is column `n`. A channel has a row of its own, one line higher than the picture divided by their number; the last
//! has what is left. In a row of `h` lines whose first is `t`, a value `v` of 16 bits lies on line
//! `t + h − 1 − (v + 32768) · h / 65536`, in whole numbers.

use std::str::FromStr;

use super::waveform::Waveform;

/// Width of a picture that nobody has given one.
pub const WIDTH: u32 = 800;
/// Height of a picture that nobody has given one.
pub const HEIGHT: u32 = 250;
/// The longest side that is drawn.
pub const MAX_SIDE: u32 = 16_384;

/// Red, green, blue.
type Rgb = [u8; 3];

/// The colours of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Colours {
    /// Behind.
    pub background: Rgb,
    /// The waveform.
    pub waveform: Rgb,
}

impl Colours {
    /// Those that Audacity has, the usual ones.
    pub const AUDACITY: Self = Self {
        background: [214, 214, 214],
        waveform: [63, 77, 155],
    };
    /// Those that Audition has.
    pub const AUDITION: Self = Self {
        background: [0, 63, 34],
        waveform: [134, 252, 199],
    };
}

impl FromStr for Colours {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str =
            "audacity, audition, or two colours as rrggbb,rrggbb: behind, and the waveform";
        let colour = |text: &str| {
            let mut colour = [0; 3];
            hex::decode_to_slice(text, &mut colour).map_err(|_| FORM)?;
            Ok::<Rgb, &'static str>(colour)
        };
        match text.split_once(',') {
            Some((background, waveform)) => Ok(Self {
                background: colour(background)?,
                waveform: colour(waveform)?,
            }),
            None if text == "audacity" => Ok(Self::AUDACITY),
            None if text == "audition" => Ok(Self::AUDITION),
            None => Err(FORM),
        }
    }
}

/// Draws the points of a waveform from its first on, as far as there is room.
///
/// # Errors
///
/// When a side is zero or longer than [`MAX_SIDE`].
pub fn png(
    waveform: &Waveform,
    (width, height): (u32, u32),
    colours: Colours,
) -> Result<Vec<u8>, png::EncodingError> {
    let sides = 1..=MAX_SIDE;
    if !sides.contains(&width) || !sides.contains(&height) {
        let bound = format!("a side of a picture has 1 to {MAX_SIDE} pixels");
        return Err(std::io::Error::other(bound).into());
    }
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_palette([colours.background, colours.waveform].concat());
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&drawn(waveform, width as usize, height as usize))?;
    writer.finish()?;
    Ok(bytes)
}

/// A byte for each pixel: 0 behind, 1 the waveform.
fn drawn(waveform: &Waveform, width: usize, height: usize) -> Vec<u8> {
    let waveform = waveform.clone().to_sixteen_bits();
    let channels = waveform.channels as usize;
    let mut pixels = vec![0; width * height];
    let row = height / channels;
    // Below the last line there is nothing to draw, however many channels a file says it has.
    for channel in 0..channels.min(height) {
        let top = channel * (row + 1);
        let lines = if channel == channels - 1 {
            height.saturating_sub(top)
        } else {
            row + 1
        };
        let line = |value: i16| {
            let above_lowest = usize::try_from(i32::from(value) + 32_768).unwrap_or(0);
            (top + lines - 1).checked_sub(above_lowest * lines / 65_536)
        };
        if lines == 0 {
            break;
        }
        for (x, point) in waveform
            .data
            .chunks_exact(2 * channels)
            .take(width)
            .enumerate()
        {
            let (low, high) = (line(point[2 * channel]), line(point[2 * channel + 1]));
            for y in high.unwrap_or(0)..=low.unwrap_or(0).min(height - 1) {
                pixels[y * width + x] = 1;
            }
        }
    }
    pixels
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::waveform::Bits;

    fn waveform(channels: u32, data: &[i16]) -> Waveform {
        Waveform {
            sample_rate: 8000,
            samples_per_pixel: 4,
            bits: Bits::Sixteen,
            channels,
            data: data.to_vec(),
        }
    }

    #[track_caller]
    fn check(waveform: &Waveform, width: usize, expected: &[&str]) {
        let pixels = drawn(waveform, width, expected.len());
        let line = |line: &[u8]| {
            line.iter()
                .map(|p| if *p == 1 { '#' } else { '.' })
                .collect::<String>()
        };
        let lines: Vec<_> = pixels.chunks(width).map(line).collect();
        assert_eq!(lines, expected);
    }

    #[test]
    fn values_lie_where_audiowaveform_draws_them() {
        let all_half_and_nothing = [-32_768, 32_767, 0, 16_384, 0, 0];
        check(
            &waveform(1, &all_half_and_nothing),
            4,
            &["##..", "###.", "#...", "#..."],
        );
    }

    #[test]
    fn each_channel_has_its_row() {
        check(
            &waveform(2, &[-32_768, 32_767, -32_768, -32_768]),
            2,
            &["#.", "#.", "#.", "..", "#."],
        );
    }

    #[test]
    fn no_height_is_too_little_for_many_channels() {
        drawn(&waveform(8, &[0; 32]), 3, 2);
        drawn(&waveform(u32::MAX, &[]), 3, 2);
    }

    #[test]
    fn colours_are_named_or_given() {
        assert_eq!("audacity".parse(), Ok(Colours::AUDACITY));
        let given = Colours {
            background: [255, 255, 255],
            waveform: [1, 2, 3],
        };
        assert_eq!("ffffff,010203".parse(), Ok(given));
        assert!("ffffff".parse::<Colours>().is_err());
        assert!("ffffff,red".parse::<Colours>().is_err());
    }

    #[test]
    fn a_picture_reads_back_with_its_size_and_has_bounds() {
        let made = png(&waveform(1, &[-9, 9]), (5, 3), Colours::AUDITION).unwrap();
        let read = png::Decoder::new(std::io::Cursor::new(made))
            .read_info()
            .unwrap();
        assert_eq!((read.info().width, read.info().height), (5, 3));
        assert!(png(&waveform(1, &[]), (0, 3), Colours::AUDACITY).is_err());
        assert!(png(&waveform(1, &[]), (5, MAX_SIDE + 1), Colours::AUDACITY).is_err());
    }
}
