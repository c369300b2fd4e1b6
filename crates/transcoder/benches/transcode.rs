//! Everything that `fast@1` and `proxy720@1` make of a minute of 1080p, beside one `ffmpeg` command that decodes once for the
//! same outputs with the same settings, and beside a command for each output, of which the sprites' decodes everything.
//!
//! The commands make no peaks of the samples, no hash of the poster, check nothing that they made, and are not confined.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]
#![expect(clippy::print_stdout, reason = "its table is for people")]

#[path = "support/minute.rs"]
mod minute;
mod support;
#[path = "support/table.rs"]
mod table;

use std::path::Path;
use std::process::Command;

use testing::bench::publish;

use minute::minute;
use support::{Cost, cost, transcoder};
use table::rows;

const ROUNDS: usize = 7;

const PROXY: &str = "-c:v libx264 -preset veryfast -profile:v high -crf 23 -maxrate 4000000 -bufsize 8000000 -sc_threshold 0 \
                     -flags +cgop -threads 4 -g 25 -keyint_min 25 -c:a aac -b:a 128k -ar 48000 -movflags +faststart";
const SCALE: &str = "scale=1280:720:flags=bicubic,format=yuv420p";
const TILES: &str = "fps=1,scale=160:90:flags=bicubic,format=yuvj420p,tile=10x10";

fn main() {
    let clip = minute();
    let clip = clip.to_str().unwrap();
    let together = format!(
        "ffmpeg -nostdin -v error -y -threads 4 -i {clip} -filter_complex \"[0:v]split=3[v][s][t];[v]{SCALE}[p];[s]{TILES}[sheet];\
         [t]select='not(mod(n,125))',{SCALE},thumbnail=12[poster];[0:a]asplit=3[a][w][l];[w]aformat=sample_fmts=s16[pcm];\
         [l]ebur128=peak=true[loud]\" -map [p] -map [a] {PROXY} proxy.mp4 -map [poster] -frames:v 1 -q:v 3 poster.jpg \
         -map [sheet] -frames:v 1 -q:v 5 sprite.jpg -map [pcm] -f s16le pcm.raw -map [loud] -f null -"
    );
    let ffmpeg = format!("ffmpeg -nostdin -v error -y -threads 4 -i {clip}");
    let apart = [
        format!("{ffmpeg} -vf {SCALE} {PROXY} proxy.mp4"),
        format!(
            "ffmpeg -nostdin -v error -y -skip_frame nokey -i {clip} -vf \"{SCALE},thumbnail=12\" -frames:v 1 -q:v 3 poster.jpg"
        ),
        format!("{ffmpeg} -an -vf {TILES} -frames:v 1 -q:v 5 sprite.jpg"),
        format!("{ffmpeg} -vn -af ebur128=peak=true -f s16le pcm.raw"),
    ];
    let ours = format!("{} run {clip} --out made", transcoder());
    println!(
        "one command: {together}\nseparate: {}\nours: {ours}",
        apart.join("\n  ")
    );
    let (mut us, mut one, mut many) = (vec![], vec![], vec![]);
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..ROUNDS {
        us.push(cost(folder.path(), &format!("rm -rf made; {ours}")));
        one.push(cost(folder.path(), &together));
        let costs = apart.iter().map(|command| cost(folder.path(), command));
        many.push(costs.fold(Cost::default(), |sum, cost| sum + cost));
    }
    for (whose, proxy) in [("ours", "made/proxy.mp4"), ("ffmpeg's", "proxy.mp4")] {
        println!(
            "SSIM of {whose} proxy: {}",
            likeness(folder.path(), proxy, clip)
        );
    }
    for (whose, costs) in [("ours", &us), ("one command", &one), ("separate", &many)] {
        let busy = costs.iter().map(|cost| cost.cpu / cost.wall).sum::<f64>() / ROUNDS as f64;
        println!("processors that {whose} keeps busy: {busy:.2}");
    }
    let rows = [
        rows("one command", &us, "ffmpeg", Some(&one)),
        rows("separate", &us, "ffmpeg", Some(&many)),
    ];
    println!("{}", publish("transcode", rows.as_flattened()).unwrap());
}

/// Structural similarity to the source, in dB, as ffmpeg's filter sums it up.
fn likeness(folder: &Path, proxy: &str, clip: &str) -> String {
    let output = Command::new("ffmpeg")
        .args([
            "-nostdin",
            "-hide_banner",
            "-i",
            proxy,
            "-i",
            clip,
            "-lavfi",
        ])
        .arg(format!("[1:v]{SCALE}[b];[0:v][b]ssim"))
        .args(["-f", "null", "-"])
        .current_dir(folder)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = said
        .lines()
        .find(|line| line.contains("SSIM"))
        .unwrap_or_default();
    line.split("All:").nth(1).unwrap_or("unknown").to_owned()
}
