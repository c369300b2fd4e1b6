//! Small pictures: put together to sheets, and looked at from afar.

use ffmpeg_next::format::Pixel;
use ffmpeg_next::frame;

use super::Still;
use crate::format::placeholder::Planes;

/// Planes of a picture as JPEG has it: bits by which their sides are smaller than the picture's.
const SHRINK: [usize; 3] = [0, 1, 1];
/// Black in each of them.
const BLACK: [u8; 3] = [0, 128, 128];

/// The planes of a picture as JPEG has it.
pub(crate) fn planes(still: &Still) -> Planes<'_> {
    Planes {
        width: still.width() as usize,
        height: still.height() as usize,
        planes: [0, 1, 2].map(|plane| (still.data(plane), still.stride(plane))),
    }
}

/// A sheet with these pictures, each with the place of its upper left corner; all numbers are even. What is outside the sheet is
/// left out, what nothing lies on is black.
pub(crate) fn sheet((width, height): (u32, u32), pictures: &[(&Still, (usize, usize))]) -> Still {
    let mut sheet = frame::Video::new(Pixel::YUVJ420P, width, height);
    for plane in 0..SHRINK.len() {
        let stride = sheet.stride(plane);
        let paper = sheet.data_mut(plane);
        paper.fill(BLACK[plane]);
        for (still, (x, y)) in pictures {
            let (x, y) = (x >> SHRINK[plane], y >> SHRINK[plane]);
            let wide = still.width() as usize >> SHRINK[plane];
            let high = still.height() as usize >> SHRINK[plane];
            let lines = still
                .data(plane)
                .chunks(still.stride(plane).max(1))
                .take(high);
            for (line, at) in lines.zip(y..) {
                let start = at * stride + x;
                if let (Some(to), Some(from)) =
                    (paper.get_mut(start..start + wide), line.get(..wide))
                {
                    to.copy_from_slice(from);
                }
            }
        }
    }
    sheet
}
