//! The programs under test, as `ops/dev/build` leaves them.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

use testing::process::Child;

/// The path of `cinelog` or `cinelog-transcoder`.
///
/// # Panics
///
/// When it was not built.
pub(crate) fn path(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    // target/<profile>/deps/<this test>
    let path = tests.ancestors().nth(2).unwrap().join(name);
    assert!(
        path.exists(),
        "{} is not there: run ops/dev/build first, as `make test` does",
        path.display()
    );
    path
}

/// Starts `cinelog`, which finds its transcoder beside itself.
pub(crate) fn cinelog(args: &[&str], environment: &[(&str, &str)]) -> Child {
    path("cinelog-transcoder");
    Child::start(path("cinelog"), args, environment)
}

/// Starts `cinelog` without the services that this test run has.
pub(crate) fn alone(args: &[&str], environment: &[(&str, &str)]) -> Child {
    let mut command = alone_with(args);
    command.envs(environment.iter().copied());
    Child::spawn(command)
}

/// How `cinelog` is started without the services that this test run has.
pub(crate) fn alone_with(args: &[&str]) -> tokio::process::Command {
    let mut command = without_services(path("cinelog"));
    command.args(args);
    command
}

/// How a program is started without the services that this test run has.
pub(crate) fn without_services(program: impl AsRef<OsStr>) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(program);
    for service in ["DATABASE_URL", "KAFKA_BROKERS", "STORAGE_URL"] {
        command.env_remove(service);
    }
    command
}

/// Runs one of the tools that look at results, and returns what it wrote to its standard output.
pub(crate) fn tool(name: &str, args: &[&str]) -> String {
    let output = Command::new(name).args(args).output();
    let output =
        output.unwrap_or_else(|error| panic!("{name}: {error}; ops/dev/setup installs it"));
    assert!(
        output.status.success(),
        "{name} {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What still runs and has `mark` in its command line or in the environment it was started with, or belongs to the
/// process group `group`.
pub(crate) fn running(mark: &str, group: u32) -> Vec<String> {
    let all = tool("ps", &["axeww", "-o", "pgid=,pid=,stat=,args="]);
    let group = group.to_string();
    all.lines()
        .filter(|line| {
            let mut fields = line.split_whitespace();
            let (of, state) = (fields.next(), fields.nth(1).unwrap_or_default());
            // What has ended and is not yet collected by its parent does not run.
            !state.starts_with('Z') && (of == Some(&*group) || line.contains(mark))
        })
        .map(|line| line.chars().take(200).collect())
        .collect()
}
