//! Children in a stranger's hands. A shell script plays the child, or does to an honest child's work what only an
//! intruder would: the parent takes none of it.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant};

use testing::clip;
use tokio_util::sync::CancellationToken;
use transcoder::error::{JobError, Kind};
use transcoder::limits::Limits;
use transcoder::profile::Profile;
use transcoder::run::{CpuTime, Runner};
use transcoder::sandbox::Level;

/// Does what is asked of it, in all honesty.
const HONEST: &str = "\"$child\" stage-child \"$1\"";

/// Has a script for a child: `sh stage-child FD`, in the folder where the child's files are to be.
fn run(script: &str, limits: Limits) -> (JobError, tempfile::TempDir) {
    let scratch = tempfile::tempdir().unwrap();
    let child = env!("CARGO_BIN_EXE_cinelog-transcoder");
    // An honest child hears the request itself; nobody writes to one that has died before.
    let hear = if script.starts_with(HONEST) {
        ""
    } else {
        "read -r request"
    };
    fs::write(
        scratch.path().join("stage-child"),
        format!("child='{child}'\n{hear}\n{script}\n"),
    )
    .unwrap();
    let runner = Runner {
        exe: "/bin/sh".into(),
        sandbox: Level::Require,
        limits,
    };
    let input = File::open(clip::tone(1)).unwrap();
    let cancel = CancellationToken::new();
    let ended = runner.run_job(
        &input,
        Profile::Fast1,
        scratch.path(),
        &mut |_| (),
        &CpuTime::default(),
        &cancel,
    );
    (ended.unwrap_err(), scratch)
}

#[track_caller]
fn check_within(limits: Limits, script: &str, kind: Kind, message: &str) {
    let start = Instant::now();
    let (error, _scratch) = run(script, limits);
    assert!(
        error.kind == kind && error.message.contains(message),
        "{script}: {error}"
    );
    assert!(
        start.elapsed() < Duration::from_secs(15),
        "{script}: {:?}",
        start.elapsed()
    );
}

#[track_caller]
fn check(script: &str, kind: Kind, message: &str) {
    check_within(Limits::default(), script, kind, message);
}

#[test]
fn a_child_that_hangs_or_eats_what_there_is_meets_its_limit() {
    let full = Limits::default();
    let patience = Limits {
        stall_seconds: 1,
        ..full
    };
    check_within(
        patience,
        "exec sleep 600",
        Kind::Limit,
        "no progress for 1 s",
    );
    let memory = Limits {
        max_resident_bytes: 64 << 20,
        ..full
    };
    check_within(
        memory,
        "exec tail /dev/zero",
        Kind::Limit,
        "more than 64 MiB of memory",
    );
    let disk = Limits {
        max_output_bytes: 1 << 20,
        ..full
    };
    let writes = "head -c 3000000 /dev/zero >mine; exec sleep 600";
    check_within(disk, writes, Kind::Limit, "its outputs grow too large");
}

#[test]
fn a_child_s_descendants_end_with_it() {
    let patience = Limits {
        stall_seconds: 1,
        ..Limits::default()
    };
    let (error, scratch) = run("sleep 600 & echo $! >pid; exit 0", patience);
    assert_eq!(error.kind, Kind::Limit, "{error}");
    let pid = fs::read_to_string(scratch.path().join("pid")).unwrap();
    let stat = Path::new("/proc").join(pid.trim()).join("stat");
    let deadline = Instant::now() + Duration::from_secs(10);
    // Dead, or gone where somebody has buried it.
    while fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z")) {
        assert!(Instant::now() < deadline, "it lives on");
        std::thread::yield_now();
    }
}

#[test]
fn a_death_says_whose_fault_it_was() {
    for (signal, kind) in [
        ("SEGV", Kind::Died),
        ("ABRT", Kind::Died),
        ("SYS", Kind::Died),
        ("KILL", Kind::Resource),
        ("XCPU", Kind::Limit),
        ("XFSZ", Kind::Limit),
    ] {
        check(&format!("ulimit -c 0; kill -{signal} $$"), kind, "");
    }
    check("exit 0", Kind::Died, "no answer");
    check("exit 3", Kind::Died, "no answer");
    check(
        "echo 'memory allocation of 9 bytes failed' >&2; ulimit -c 0; kill -ABRT $$",
        Kind::Resource,
        "",
    );
}

#[test]
fn a_child_s_words_are_heard_with_care() {
    check("exec yes", Kind::Died, "");
    check("exec tr '\\0' x </dev/zero", Kind::Died, "");
    check(
        "echo '{\"ready\": {\"layers\": []}}'",
        Kind::Infra,
        "not every layer",
    );
    check(&format!("{HONEST} | sed p"), Kind::Died, "says twice");
    check(
        &format!("{HONEST} | sed 's/\"made\"/\"sound\"/'"),
        Kind::Died,
        "",
    );
    check(
        &failed("cancelled", "you wanted so"),
        Kind::Died,
        "you wanted so",
    );
    let (error, _) = run(&failed("input", "\\u001b[2J\\nerror: "), Limits::default());
    assert_eq!((error.kind, &*error.message), (Kind::Input, "[2Jerror: "));
    let (error, _) = run(&failed("input", &"x".repeat(5000)), Limits::default());
    assert_eq!(error.message.len(), 300);
}

fn failed(kind: &str, message: &str) -> String {
    format!(
        "cat <<'END'\n{{\"failed\": {{\"kind\": \"{kind}\", \"message\": \"{message}\"}}}}\nEND"
    )
}

#[test]
fn what_a_child_leaves_is_taken_only_where_it_is_whole_and_plain() {
    for vandalism in [
        "rm waveform.dat",
        "rm waveform.dat; ln -s /etc/passwd waveform.dat",
        "rm waveform.dat; ln -s waveform.json waveform.dat",
        "ln waveform.dat other",
        "rm waveform.dat; mkfifo waveform.dat",
        "rm waveform.dat; mkdir waveform.dat",
        ": >waveform.dat",
        "head -c 100 /dev/zero >waveform.dat",
        "head -c 20 waveform.dat >other; mv other waveform.dat",
        "echo '{}' >waveform.json",
        "truncate -s 300M waveform.dat",
    ] {
        check(
            &format!("{HONEST}; {vandalism}"),
            Kind::Died,
            "the child answered with",
        );
    }
    for lie in [
        "s/waveform.dat/..\\/waveform.dat/",
        "s/waveform.dat/proxy.mov/",
        "s/waveform.json/waveform.dat/",
    ] {
        check(
            &format!("{HONEST} | sed '{lie}'"),
            Kind::Died,
            "the child answered with",
        );
    }
}
