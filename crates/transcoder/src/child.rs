//! The child: one request, one task, one answer. It reads strangers' bytes, so it gives up its rights first.

use std::io::{BufRead, Read, Write};
use std::os::fd::RawFd;
use std::process::ExitCode;
use std::sync::Mutex;

use crate::error::{JobError, Kind};
use crate::sandbox::{Level, process};
use crate::stage::{self, Desk};
use crate::wire::{Message, Request, Task};

/// Runs one request from stdin. Must be the first thing in `main`, before any thread.
pub fn main(input_fds: &[RawFd]) -> ExitCode {
    let result = serve(input_fds);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let code = error.kind.exit_code();
            say(&Message::Failed(error));
            ExitCode::from(code)
        }
    }
}

fn serve(input_fds: &[RawFd]) -> Result<(), JobError> {
    let mut line = String::new();
    let broken = |error: &dyn std::fmt::Display| JobError::infra("read the request", error);
    // Read byte-wise through a small buffer: what follows is the control pipe, which only ever ends.
    std::io::stdin()
        .lock()
        .take(1 << 16)
        .read_line(&mut line)
        .map_err(|error| broken(&error))?;
    let request: Request = serde_json::from_str(&line).map_err(|error| broken(&error))?;
    let (layers, failed) = process::confine(input_fds, &request.limits, request.task.writes());
    if let (Level::Require, Some((layer, error))) = (request.sandbox, failed.first()) {
        return Err(JobError::infra(
            &format!(
                "confine the child ({layer:?}; run as another user than root, or go without by `--sandbox best-effort`)"
            ),
            error,
        ));
    }
    say(&Message::Ready { layers });
    let inputs = input_fds.iter().map(|fd| process::inherited(*fd));
    let inputs = inputs
        .collect::<std::io::Result<Vec<_>>>()
        .map_err(|error| JobError::infra("take the input", error))?;
    let [input, ..] = &inputs[..] else {
        return Err(JobError::infra("take the input", "there is none"));
    };
    end_with_parent();
    crate::media::init()?;
    let desk = Desk {
        input,
        request: &request,
        say: &say,
    };
    let answer = match &request.task {
        Task::Probe => Message::Probed(Box::new(stage::probe(&desk)?)),
        Task::Make(profile) => Message::Made(Box::new(stage::make(&desk, *profile)?)),
        Task::Waveform(drawing) => Message::Made(Box::new(stage::only_waveform(&desk, *drawing)?)),
        Task::Check(expected) => {
            stage::check(&inputs, expected, &request.limits).map(|()| Message::Sound)?
        }
        Task::Formats => Message::Formats(crate::media::formats()),
    };
    say(&answer);
    Ok(())
}

/// The parent holds the other end of stdin: when it closes, nobody wants the result.
fn end_with_parent() {
    std::thread::spawn(|| {
        let mut rest = [0; 64];
        while matches!(std::io::stdin().read(&mut rest), Ok(count) if count > 0) {}
        std::process::exit(i32::from(Kind::Cancelled.exit_code()));
    });
}

/// Writes one line. A parent that no longer reads ends us by the control pipe.
fn say(message: &Message) {
    static STDOUT: Mutex<()> = Mutex::new(());
    let Ok(mut line) = serde_json::to_vec(message) else {
        return;
    };
    line.push(b'\n');
    if let Ok(_guard) = STDOUT.lock() {
        let mut out = std::io::stdout();
        drop(out.write_all(&line).and_then(|()| out.flush()));
    }
}
