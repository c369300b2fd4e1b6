//! Sprites of a minute of 1080p with a keyframe each second, from keyframes alone, beside `ffmpeg` decoding everything for
//! tiles of the same size. Ours makes a poster with them, checks what it made and is confined; neither has sound to hear.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]
#![expect(clippy::print_stdout, reason = "its table is for people")]

#[path = "support/minute.rs"]
mod minute;
mod support;

use testing::bench::{Row, publish};
use testing::clip;

use minute::minute;
use support::{Cost, cost, transcoder};

const ROUNDS: usize = 7;

fn main() {
    let minute = minute();
    let silent = ["-i", minute.to_str().unwrap(), "-an", "-c", "copy"];
    let clip = clip::make("mp4", &silent);
    let clip = clip.to_str().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ours = format!(
        "rm -rf made; {} run {clip} --out made --profile fast@1",
        transcoder()
    );
    let theirs = format!(
        "ffmpeg -nostdin -v error -y -threads 4 -i {clip} -an -vf fps=1,scale=160:90:flags=bicubic,format=yuvj420p,tile=10x10 \
         -frames:v 1 -q:v 5 sprite.jpg"
    );
    let (mut us, mut them) = (vec![], vec![]);
    for _ in 0..ROUNDS {
        us.push(cost(folder.path(), &ours));
        them.push(cost(folder.path(), &theirs));
    }
    assert!(folder.path().join("made/sprite-001.jpg").exists());
    let seconds = |costs: &[Cost], of: fn(&Cost) -> f64| costs.iter().map(of).collect::<Vec<_>>();
    let cpu = |costs: &[Cost]| seconds(costs, |cost| cost.cpu);
    println!(
        "seconds of processor: ours {:.2?}, ffmpeg {:.2?}",
        cpu(&us),
        cpu(&them)
    );
    let wall = |costs: &[Cost]| seconds(costs, |cost| cost.wall);
    let row = Row {
        case: "1 s tiles".to_owned(),
        unit: "s",
        ours: wall(&us),
        peer: ("ffmpeg, every picture decoded", Some(wall(&them))),
        ceiling: ("none", None),
    };
    println!("{}", publish("sprite", &[row]).unwrap());
}
