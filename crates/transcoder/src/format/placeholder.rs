//! What is shown until a poster is there: its [ThumbHash](https://evanw.github.io/thumbhash/), some thirty bytes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The longest side of what is hashed: more changes nothing.
const SIDE: usize = 100;

/// A picture as JPEG has it: BT.601 in full range, colour at half the resolution.
#[derive(Debug, Clone, Copy)]
pub struct Planes<'a> {
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
    /// Light and the two of colour, each with the bytes from one of its lines to the next.
    pub planes: [(&'a [u8], usize); 3],
}

/// The ThumbHash in Base64; none if the planes are shorter than they should be.
pub fn thumbhash(picture: &Planes<'_>) -> Option<String> {
    let Planes { width, height, .. } = *picture;
    let longest = width.max(height);
    if width == 0 || height == 0 {
        return None;
    }
    let side = |whole: usize| (whole * SIDE.min(longest) / longest).max(1);
    let (columns, rows) = (side(width), side(height));
    let mut rgba = Vec::with_capacity(columns * rows * 4);
    for row in 0..rows {
        let lines = row * height / rows..((row + 1) * height).div_ceil(rows);
        for column in 0..columns {
            let pixels = column * width / columns..((column + 1) * width).div_ceil(columns);
            let light = mean(picture.planes[0], &pixels, &lines)?;
            let half = |range: &std::ops::Range<usize>| range.start / 2..range.end.div_ceil(2);
            let blue = mean(picture.planes[1], &half(&pixels), &half(&lines))? - 128.0;
            let red = mean(picture.planes[2], &half(&pixels), &half(&lines))? - 128.0;
            rgba.extend(rgb(light, blue, red));
            rgba.push(u8::MAX);
        }
    }
    let hash = ::thumbhash::rgba_to_thumb_hash(columns, rows, &rgba);
    Some(STANDARD.encode(hash))
}

type Range = std::ops::Range<usize>;

#[expect(clippy::cast_precision_loss, reason = "a few thousand bytes")]
fn mean((plane, stride): (&[u8], usize), pixels: &Range, lines: &Range) -> Option<f32> {
    let mut sum = 0_u64;
    for line in lines.clone() {
        let row = plane.get(line * stride + pixels.start..line * stride + pixels.end)?;
        sum += row.iter().map(|value| u64::from(*value)).sum::<u64>();
    }
    Some(sum as f32 / (pixels.len() * lines.len()).max(1) as f32)
}

/// ITU-T T.871, section 7.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast of a float saturates"
)]
fn rgb(light: f32, blue: f32, red: f32) -> [u8; 3] {
    [
        light + 1.402 * red,
        light - 0.344_136 * blue - 0.714_136 * red,
        light + 1.772 * blue,
    ]
    .map(|value| value.round() as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashed(width: usize, height: usize, [light, blue, red]: [u8; 3]) -> Option<Vec<u8>> {
        let half = width.div_ceil(2);
        let (bright, colour) = (vec![light; width * height], half * height.div_ceil(2));
        let (blue, red) = (vec![blue; colour], vec![red; colour]);
        let planes = [(&*bright, width), (&*blue, half), (&*red, half)];
        let hash = thumbhash(&Planes {
            width,
            height,
            planes,
        })?;
        Some(STANDARD.decode(hash).unwrap())
    }

    /// Pure red in BT.601.
    const RED: [u8; 3] = [76, 85, 255];

    #[test]
    fn a_red_wall_is_red_from_afar() {
        let hash = hashed(1280, 720, RED).unwrap();
        let (r, g, b, a) = ::thumbhash::thumb_hash_to_average_rgba(&hash).unwrap();
        assert!(r > 0.9 && g < 0.1 && b < 0.1 && a > 0.99, "{r} {g} {b} {a}");
    }

    #[test]
    fn its_shape_is_the_pictures() {
        for (width, height) in [(1280, 720), (720, 1280), (16, 16), (2, 4096)] {
            let hash = hashed(width, height, RED).unwrap();
            let ratio = ::thumbhash::thumb_hash_to_approximate_aspect_ratio(&hash).unwrap();
            assert_eq!(ratio > 1.0, width > height, "{width}×{height}: {ratio}");
        }
    }

    #[test]
    fn planes_that_are_too_short_have_none() {
        let planes = [(&[0_u8; 4][..], 4); 3];
        let (width, height) = (4, 4);
        assert_eq!(
            thumbhash(&Planes {
                width,
                height,
                planes
            }),
            None
        );
        assert_eq!(hashed(0, 0, RED), None);
    }
}
