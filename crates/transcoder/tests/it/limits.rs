//! What a file may cost, and that nobody is left behind.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use testing::clip;
use tokio_util::sync::CancellationToken;
use transcoder::error::{JobError, Kind};
use transcoder::limits::Limits;
use transcoder::profile::Profile;
use transcoder::run::{CpuTime, JobOutcome, Runner};
use transcoder::sandbox::Level;

use crate::transcoder;

fn job(
    limits: Limits,
    profile: Profile,
    cancel: &CancellationToken,
) -> Result<JobOutcome, JobError> {
    job_over(&clip::video(640, 360, "25", 4), limits, profile, cancel)
}

fn job_over(
    clip: &Path,
    limits: Limits,
    profile: Profile,
    cancel: &CancellationToken,
) -> Result<JobOutcome, JobError> {
    let runner = Runner {
        exe: env!("CARGO_BIN_EXE_cinelog-transcoder").into(),
        sandbox: Level::Require,
        limits,
    };
    let scratch = tempfile::tempdir().unwrap();
    let input = File::open(clip).unwrap();
    runner.run_job(
        &input,
        profile,
        scratch.path(),
        &mut |_| (),
        &CpuTime::default(),
        cancel,
    )
}

#[track_caller]
fn check(limits: Limits, profile: Profile, kind: Kind) {
    check_over(&clip::video(640, 360, "25", 4), limits, profile, kind);
}

#[track_caller]
fn check_over(clip: &Path, limits: Limits, profile: Profile, kind: Kind) {
    let error = job_over(clip, limits, profile, &CancellationToken::new()).unwrap_err();
    assert_eq!(error.kind, kind, "{error}");
}

#[test]
fn each_budget_ends_the_job() {
    let full = Limits::default();
    check(
        Limits {
            max_pixels: 100_000,
            ..full
        },
        Profile::Fast1,
        Kind::Limit,
    );
    check(
        Limits {
            max_seconds: 2,
            ..full
        },
        Profile::Proxy720V1,
        Kind::Limit,
    );
    check(
        Limits {
            max_seconds: 2,
            ..full
        },
        Profile::Fast1,
        Kind::Limit,
    );
    check(
        Limits {
            max_frames: 20,
            ..full
        },
        Profile::Proxy720V1,
        Kind::Limit,
    );
    check(
        Limits {
            max_streams: 1,
            ..full
        },
        Profile::Fast1,
        Kind::Limit,
    );
    check(
        Limits {
            max_output_bytes: 20_000,
            ..full
        },
        Profile::Proxy720V1,
        Kind::Limit,
    );
    check(
        Limits {
            max_resident_bytes: 10 << 20,
            ..full
        },
        Profile::Proxy720V1,
        Kind::Limit,
    );
}

#[test]
fn a_second_of_cpu_time_is_a_limit_of_its_own() {
    let limits = Limits {
        cpu_seconds: 1,
        ..Limits::default()
    };
    let clip = clip::video(1280, 720, "25", 20);
    check_over(&clip, limits, Profile::Proxy720V1, Kind::Limit);
}

#[test]
fn a_picture_may_change_its_size_a_number_of_times() {
    let part = |width| {
        let picture = format!("testsrc2=size={width}x180:rate=25:duration=1");
        let codec = [
            "-c:v",
            "libx264",
            "-preset",
            "ultrafast",
            "-pix_fmt",
            "yuv420p",
        ];
        let input = ["-f", "lavfi", "-i", &picture];
        std::fs::read(clip::make("ts", &[&input[..], &codec[..]].concat())).unwrap()
    };
    let folder = tempfile::tempdir().unwrap();
    let clip = folder.path().join("changing.ts");
    std::fs::write(&clip, [part(320), part(240), part(320)].concat()).unwrap();
    let with = |max_changes| {
        let limits = Limits {
            max_changes,
            ..Limits::default()
        };
        job_over(
            &clip,
            limits,
            Profile::Proxy720V1,
            &CancellationToken::new(),
        )
    };
    let error = with(1).unwrap_err();
    assert_eq!(error.kind, Kind::Limit, "{error}");
    assert_eq!(with(2).unwrap().outputs.len(), 1);
}

#[test]
fn too_little_memory_is_the_machines_fault_not_the_inputs() {
    // The program and its libraries begin with some 310 MiB of addresses, and a picture of this size wants several
    // hundred more: between the two there is room for other builds of both.
    let clip = clip::video(2560, 1440, "25", 1);
    let limits = Limits {
        memory_bytes: 400 << 20,
        ..Limits::default()
    };
    check_over(&clip, limits, Profile::Proxy720V1, Kind::Resource);
}

#[test]
fn a_cancelled_job_ends_at_once() {
    let cancel = CancellationToken::new();
    cancel.cancel();
    let error = job(Limits::default(), Profile::Proxy720V1, &cancel).unwrap_err();
    assert_eq!(error.kind, Kind::Cancelled);
}

#[test]
fn a_child_dies_with_its_parent_and_the_folder_stays_empty() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let clip = clip::video(1280, 720, "25", 20);
    let mut parent = transcoder()
        .arg("run")
        .arg(clip)
        .arg("--out")
        .arg(&out)
        .args(["--json", "--profile", "proxy720@1"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(parent.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert!(line.contains("progress"), "{line}");
    let children = children_of(parent.id());
    assert_eq!(children.len(), 1);
    parent.kill().unwrap();
    parent.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while children.iter().any(|child| alive(child)) {
        assert!(Instant::now() < deadline, "the child lives on");
        std::thread::yield_now();
    }
    assert!(!out.exists());
}

#[test]
fn a_run_that_is_asked_to_end_leaves_nothing_behind() {
    for signal in ["-TERM", "-HUP", "-INT"] {
        let folder = tempfile::tempdir().unwrap();
        let mut run = transcoder()
            .arg("run")
            .arg(clip::video(1280, 720, "25", 20))
            .arg("--out")
            .arg(folder.path().join("out"))
            .args(["--json", "--profile", "proxy720@1"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut told = BufReader::new(run.stdout.take().unwrap());
        told.read_line(&mut String::new()).unwrap();
        let killed = Command::new("kill")
            .args([signal, &run.id().to_string()])
            .status()
            .unwrap();
        assert!(killed.success());
        assert_eq!(run.wait().unwrap().code(), Some(6), "{signal}");
        let left = std::fs::read_dir(&folder).unwrap().count();
        assert_eq!(left, 0, "{signal} leaves something");
    }
}

fn children_of(pid: u32) -> Vec<String> {
    let mut found = Vec::new();
    for thread in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let children =
            std::fs::read_to_string(thread.unwrap().path().join("children")).unwrap_or_default();
        found.extend(children.split_whitespace().map(str::to_owned));
    }
    found
}

fn alive(pid: &str) -> bool {
    let stat =
        std::fs::read_to_string(Path::new("/proc").join(pid).join("stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with('Z'))
}
