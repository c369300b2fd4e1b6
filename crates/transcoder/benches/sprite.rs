//! Sprites of a minute of 1080p with a keyframe each second, from keyframes alone, beside `ffmpeg` decoding everything for
//! tiles of the same size. Ours makes the waveform, loudness and the poster with them.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]
#![expect(clippy::print_stdout, reason = "its table is for people")]

mod support;

use testing::bench::{Row, publish};

use support::{cost, minute, transcoder};

const ROUNDS: usize = 7;

fn main() {
    let clip = minute();
    let clip = clip.to_str().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ours = format!("rm -rf made; {} run {clip} --out made --profile fast@1", transcoder());
    let theirs = format!(
        "ffmpeg -nostdin -v error -y -threads 4 -i {clip} -an -vf fps=1,scale=160:90:flags=bicubic,format=yuvj420p,tile=10x10 \
         -frames:v 1 -q:v 5 sprite.jpg"
    );
    let (mut us, mut them) = (vec![], vec![]);
    for _ in 0..ROUNDS {
        us.push(cost(folder.path(), &ours).wall);
        them.push(cost(folder.path(), &theirs).wall);
    }
    assert!(folder.path().join("made/sprite-001.jpg").exists());
    let row = Row {
        case: "1 s tiles".to_owned(),
        unit: "s",
        ours: us,
        peer: ("ffmpeg, every picture decoded", Some(them)),
        ceiling: ("none", None),
    };
    println!("{}", publish("sprite", &[row]).unwrap());
}
