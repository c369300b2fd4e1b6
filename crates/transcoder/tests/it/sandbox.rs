//! What a child can no longer do once it is confined: each thing is tried, by a process that confines itself first.

use std::fs::{self, File};
use std::io;
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// What is in the folder beside the child's own.
const SECRET: &str = "secret";

/// The example `confined`, which `cargo test` builds.
fn confined() -> PathBuf {
    let here = std::env::current_exe().unwrap();
    here.ancestors().nth(2).unwrap().join("examples/confined")
}

struct Place {
    outer: tempfile::TempDir,
    input: File,
}

impl Place {
    fn new() -> Self {
        let outer = tempfile::tempdir().unwrap();
        fs::write(outer.path().join(SECRET), "of another job").unwrap();
        fs::write(outer.path().join("input"), "read only").unwrap();
        fs::create_dir(outer.path().join("own")).unwrap();
        let input = File::open(outer.path().join("input")).unwrap();
        Self { outer, input }
    }

    fn path(&self, name: &str) -> String {
        self.outer.path().join(name).to_str().unwrap().to_owned()
    }

    fn attempt(&self, act: &[&str]) -> Output {
        self.attempt_with(&[&self.input], &[], act)
    }

    /// The same with these inputs, while others are left open too.
    #[expect(unsafe_code, reason = "a closure between fork and exec")]
    fn attempt_with(&self, inputs: &[&File], others: &[&File], act: &[&str]) -> Output {
        let own = self.outer.path().join("own");
        transcoder::sandbox::process::give(&own).unwrap();
        let numbers: Vec<String> = inputs.iter().map(|input| number(input)).collect();
        let left = inputs.iter().chain(others).map(|file| file.as_raw_fd());
        let left: Vec<_> = left.collect();
        let mut command = Command::new(confined());
        command.arg(numbers.join(",")).args(act).current_dir(own);
        // SAFETY: async-signal-safe calls.
        unsafe {
            command.pre_exec(move || {
                left.iter()
                    .try_for_each(|fd| match libc::fcntl(*fd, libc::F_SETFD, 0) {
                        -1 => Err(io::Error::last_os_error()),
                        _ => Ok(()),
                    })
            });
        }
        command.output().unwrap()
    }

    #[track_caller]
    fn can(&self, act: &[&str]) {
        let tried = self.attempt(act);
        let said = String::from_utf8_lossy(&tried.stdout);
        assert_eq!(said, "did it\n", "{act:?}: {tried:?}");
    }

    #[track_caller]
    fn is_refused(&self, act: &[&str]) {
        let tried = self.attempt(act);
        let said = String::from_utf8_lossy(&tried.stdout);
        assert!(said.starts_with("refused: "), "{act:?}: {tried:?}");
    }

    /// Nothing but an intruder does it: that is the end.
    #[track_caller]
    fn dies_of(&self, act: &[&str]) {
        let tried = self.attempt(act);
        assert_eq!(
            tried.status.signal(),
            Some(libc::SIGSYS),
            "{act:?}: {tried:?}"
        );
    }
}

fn number(file: &File) -> String {
    file.as_raw_fd().to_string()
}

#[test]
fn a_confined_child_does_its_work() {
    let place = Place::new();
    place.can(&["input", &number(&place.input)]);
    for act in ["own-file", "thread"] {
        place.can(&[act]);
    }
}

#[test]
fn of_the_descriptors_that_were_left_open_a_confined_child_has_its_inputs() {
    let place = Place::new();
    let open = || File::open(place.path(SECRET)).unwrap();
    let files: Vec<File> = (0..6).map(|_| open()).collect();
    let [before, one, between, other, next, after] = &files[..] else {
        panic!("six were opened");
    };
    let attempt = |file: &File| {
        let act = ["input", &number(file)];
        let tried = place.attempt_with(&[other, one, next], &[before, between, after], &act);
        String::from_utf8_lossy(&tried.stdout).into_owned()
    };
    for input in [one, other, next] {
        assert_eq!(attempt(input), "did it\n");
    }
    for closed in [before, between, after] {
        assert!(attempt(closed).starts_with("refused: "));
    }
}

#[test]
fn a_confined_child_opens_and_makes_nothing_beyond_its_folder() {
    let place = Place::new();
    let secret = place.path(SECRET);
    for path in [
        &*secret,
        "../secret",
        &place.path("input"),
        "/etc/passwd",
        "/proc/self/environ",
        "/proc/1/environ",
        "/proc/self/mem",
        "/dev/null",
        &*confined().to_string_lossy(),
    ] {
        place.is_refused(&["open", path]);
    }
    for path in [
        "../made",
        &place.path("made"),
        "/tmp/made-by-confined",
        &secret,
    ] {
        place.is_refused(&["create", path]);
    }
    for path in [".", "..", "/", "/proc/self/fd"] {
        place.is_refused(&["list", path]);
    }
    place.is_refused(&["folder"]);
    place.is_refused(&["own-file-unasked"]);
    for act in [&["symlink"][..], &["fifo"], &["hard-link", &secret]] {
        place.dies_of(act);
    }
    let made: Vec<_> = fs::read_dir(place.path("own")).unwrap().collect();
    assert!(made.is_empty(), "{made:?}");
    assert_eq!(fs::read(secret).unwrap(), b"of another job");
    assert!(!Path::new("/tmp/made-by-confined").exists());
}

#[test]
fn a_confined_child_reaches_no_network_and_no_process() {
    let place = Place::new();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let unix = place.path("socket");
    let _listening = UnixListener::bind(&unix).unwrap();
    place.dies_of(&["listen"]);
    place.dies_of(&["connect", &tcp.local_addr().unwrap().to_string()]);
    place.dies_of(&["connect-unix", &unix]);
    place.dies_of(&["exec", "/bin/true"]);
    place.dies_of(&["signal", &std::process::id().to_string()]);
    place.dies_of(&["signal", "1"]);
}

#[test]
fn a_confined_child_gets_no_more_rights() {
    let place = Place::new();
    place.is_refused(&["more-memory"]);
    place.is_refused(&["run-memory"]);
    for call in [
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_io_uring_setup,
        libc::SYS_mount,
        libc::SYS_unshare,
        libc::SYS_setuid,
        libc::SYS_bpf,
        libc::SYS_userfaultfd,
        libc::SYS_pidfd_open,
        libc::SYS_memfd_create,
        libc::SYS_clone,
    ] {
        place.dies_of(&["call", &call.to_string()]);
    }
    for command in [libc::F_SETOWN, libc::F_SETFL, libc::F_SETLEASE] {
        place.is_refused(&["descriptor", &command.to_string()]);
    }
    // The C library makes a thread without it.
    for call in [
        libc::SYS_clone3,
        libc::SYS_chdir,
        libc::SYS_setpriority,
        libc::SYS_renameat2,
    ] {
        place.is_refused(&["call", &call.to_string()]);
    }
}
