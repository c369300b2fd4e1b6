//! Confines itself as a child does, in the working directory, and then tries one thing. For the tests of the sandbox.
//!
//!   confined FD ACT [ARGUMENT]
//!
//! FD is the descriptor that stays open. Prints `did it` or `refused: …`.

#![cfg_attr(
    target_os = "linux",
    expect(clippy::print_stdout, reason = "a test reads it")
)]

#[cfg(target_os = "linux")]
mod linux {
    use std::fs::{self, File, OpenOptions};
    use std::io::{self, Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::RawFd;
    use std::os::unix::net::UnixStream;
    use std::process::Command;

    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use rustix::process::{Pid, Resource, Rlimit, setrlimit, test_kill_process};
    use transcoder::limits::Limits;
    use transcoder::sandbox::process;

    pub(crate) fn main() {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let [input, act, rest @ ..] = &arguments[..] else {
            panic!("confined FD[,FD…] ACT [ARGUMENT]");
        };
        let inputs = input.split(',').map(|fd| fd.parse().expect("a descriptor"));
        let inputs: Vec<RawFd> = inputs.collect();
        let argument = rest.first().map_or("", String::as_str);
        let failed = process::confine(&inputs, &Limits::default(), act != "own-file-unasked").1;
        assert!(failed.is_empty(), "{failed:?}");
        match attempt(act, argument) {
            Ok(()) => println!("did it"),
            Err(error) => println!("refused: {error}"),
        }
    }

    fn attempt(act: &str, argument: &str) -> io::Result<()> {
        match act {
            "input" => process::inherited(argument.parse().expect("a descriptor"))?
                .read(&mut [0; 4])
                .map(drop),
            "own-file" | "own-file-unasked" => own_file(),
            "thread" => std::thread::Builder::new()
                .name("named".to_owned())
                .spawn(|| ())?
                .join()
                .map_err(|_| io::Error::other("it panicked")),
            "open" => File::open(argument).map(drop),
            "create" => File::create(argument).map(drop),
            "list" => fs::read_dir(argument).map(drop),
            "folder" => fs::create_dir("made"),
            "symlink" => std::os::unix::fs::symlink("/etc/passwd", "made"),
            "hard-link" => fs::hard_link(argument, "made"),
            "fifo" => mknodat(CWD, "made", FileType::Fifo, Mode::RWXU, 0).map_err(Into::into),
            "listen" => TcpListener::bind("127.0.0.1:0").map(drop),
            "connect" => TcpStream::connect(argument).map(drop),
            "connect-unix" => UnixStream::connect(argument).map(drop),
            "exec" => Command::new(argument).status().map(drop),
            "signal" => test_kill_process(pid(argument)).map_err(Into::into),
            "more-memory" => {
                let more = Rlimit {
                    current: None,
                    maximum: None,
                };
                setrlimit(Resource::As, more).map_err(Into::into)
            }
            "run-memory" => run_memory(),
            "descriptor" => descriptor(argument.parse().expect("a command of fcntl")),
            "call" => call(argument.parse().expect("a number")),
            other => panic!("no act {other}"),
        }
    }

    fn own_file() -> io::Result<()> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open("made")?;
        file.write_all(b"whole")?;
        file.set_len(2)?;
        file.sync_all()?;
        fs::read("made").map(drop)
    }

    fn pid(text: &str) -> Pid {
        Pid::from_raw(text.parse().expect("a process")).expect("a process")
    }

    #[expect(unsafe_code, reason = "memory that can be written and run")]
    fn run_memory() -> io::Result<()> {
        let rights = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: asks for new memory; nothing is done with it.
        let mapped = unsafe { libc::mmap(std::ptr::null_mut(), 4096, rights, flags, -1, 0) };
        if mapped == libc::MAP_FAILED {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }

    #[expect(unsafe_code, reason = "calls that have no other name here")]
    fn call(number: i64) -> io::Result<()> {
        // SAFETY: every argument is zero: no pointer, no descriptor but stdin.
        match unsafe { libc::syscall(number, 0, 0, 0, 0, 0, 0) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }

    #[expect(unsafe_code, reason = "commands that have no other name here")]
    fn descriptor(command: i32) -> io::Result<()> {
        // SAFETY: numbers only.
        match unsafe { libc::fcntl(1, command, 1) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }
}

#[cfg(target_os = "linux")]
use linux::main;

#[cfg(not(target_os = "linux"))]
fn main() {}
