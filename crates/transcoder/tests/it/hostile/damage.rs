//! Small clips, damaged: cut at every twentieth, and with bits flipped as a seed says.
//!
//! FLIPS is how many are flipped, SEED where chance begins. What breaks the law is kept in `target/hostile`.

use std::fs;
use std::path::Path;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use testing::{clip, environment};

use super::{judge, two_at_a_time};

const FAST: &[&str] = &["--profile", "fast@1"];
const EVERY: &[&str] = &[];

/// A clip that is still whole.
struct Clip {
    extension: &'static str,
    bytes: Vec<u8>,
}

const PICTURE: &str = "-f lavfi -i testsrc2=size=64x48:rate=10:duration=1";
const SOUND: &str = "-f lavfi -i sine=frequency=440:sample_rate=16000:duration=1";
const H264: &str = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p -g 5 -threads 1";
const VP9: &str = "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 5 -threads 1";

/// One of each kind.
fn clips() -> Vec<Clip> {
    let made: [(_, &[&str]); 8] = [
        (
            "mp4",
            &[PICTURE, SOUND, H264, "-c:a aac -movflags +faststart"],
        ),
        ("mkv", &[PICTURE, SOUND, VP9, "-c:a libopus"]),
        ("wav", &[SOUND]),
        ("flac", &[SOUND]),
        ("mp3", &[SOUND]),
        ("png", &[PICTURE, "-frames:v 1"]),
        ("jpg", &[PICTURE, "-frames:v 1"]),
        ("ts", &[PICTURE, SOUND, H264, "-c:a aac"]),
    ];
    let made = made.map(|(extension, args)| {
        let args: Vec<_> = args.iter().flat_map(|part| part.split(' ')).collect();
        Clip {
            extension,
            bytes: fs::read(clip::make(extension, &args)).unwrap(),
        }
    });
    made.into()
}

/// A damaged clip and what is asked of it.
struct Damaged {
    /// Says how to make it again.
    name: String,
    bytes: Vec<u8>,
    options: &'static [&'static str],
}

#[test]
fn clips_cut_anywhere_end_in_whole_outputs_or_one_typed_error() {
    let cut = |clip: &Clip, twentieths: usize| Damaged {
        name: format!("{}-percent.{}", twentieths * 5, clip.extension),
        bytes: clip.bytes[..clip.bytes.len() * twentieths / 20].to_vec(),
        options: if twentieths.is_multiple_of(5) {
            EVERY
        } else {
            FAST
        },
    };
    let clips = clips();
    let all: Vec<_> = clips
        .iter()
        .flat_map(|clip| (1..20).map(move |at| cut(clip, at)))
        .collect();
    check(&all);
}

#[test]
fn clips_with_flipped_bits_end_in_whole_outputs_or_one_typed_error() {
    let (clips, count, seed) = (clips(), number("FLIPS", 200), number("SEED", 1));
    let flipped = |index: u64| {
        let at = usize::try_from(index).unwrap();
        let clip = &clips[at % clips.len()];
        Damaged {
            name: format!("seed-{seed}-flip-{index}.{}", clip.extension),
            bytes: flip(
                &clip.bytes,
                &mut StdRng::seed_from_u64(seed.wrapping_add(index)),
            ),
            // Few: a proxy takes as long as all the rest.
            options: if at / clips.len() % 10 == 0 {
                EVERY
            } else {
                FAST
            },
        }
    };
    check(&(0..count).map(flipped).collect::<Vec<_>>());
}

fn flip(clip: &[u8], chance: &mut StdRng) -> Vec<u8> {
    let mut bytes = clip.to_vec();
    // Half of the clips in their head alone, where the tables are.
    let reach = if chance.random_bool(0.5) {
        bytes.len().min(512)
    } else {
        bytes.len()
    };
    for _ in 0..chance.random_range(1..=16) {
        let bit = chance.random_range(0..reach * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    bytes
}

fn check(all: &[Damaged]) {
    let folder = tempfile::tempdir().unwrap();
    let broken = two_at_a_time(all, |damaged| {
        let file = folder.path().join(&damaged.name);
        fs::write(&file, &damaged.bytes).unwrap();
        let wrong = judge(&file, damaged.options).err()?;
        Some(format!("{} breaks the law, {}", keep(damaged), wrong))
    });
    let broken: Vec<_> = broken.into_iter().flatten().collect();
    assert!(
        broken.is_empty(),
        "{} of {}:\n{}",
        broken.len(),
        all.len(),
        broken.join("\n")
    );
}

fn keep(damaged: &Damaged) -> String {
    let folder = Path::new("target/hostile");
    let kept = environment::root().join(folder);
    fs::create_dir_all(&kept).unwrap();
    fs::write(kept.join(&damaged.name), &damaged.bytes).unwrap();
    folder.join(&damaged.name).display().to_string()
}

fn number(name: &str, usual: u64) -> u64 {
    environment::optional(name).map_or(usual, |text| text.parse().unwrap())
}
