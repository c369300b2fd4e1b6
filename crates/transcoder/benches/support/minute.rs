//! A clip long enough to measure.

use std::path::PathBuf;

use testing::clip;

/// A minute of the sample clip at 1080p, a keyframe each second, with its sound.
pub(crate) fn minute() -> PathBuf {
    let sample = clip::sample();
    clip::make(
        "mp4",
        &[
            "-stream_loop",
            "12",
            "-i",
            sample.to_str().unwrap(),
            "-t",
            "60",
            "-vf",
            "scale=1920:1080:flags=bicubic",
            "-c:v",
            "libx264",
            "-preset",
            "veryfast",
            "-crf",
            "20",
            "-g",
            "25",
            "-pix_fmt",
            "yuv420p",
            "-c:a",
            "aac",
            "-ac",
            "2",
            "-b:a",
            "160k",
        ],
    )
}
