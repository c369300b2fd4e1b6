//! The command line as users meet it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod doctor;
mod erasing;
mod health;
mod seed;

use std::fmt::Write;
use std::fs;
use std::process::Command as Process;

use clap::CommandFactory;
use cli::command::Cli;
use testing::environment;

fn cinelog(args: &[&str]) -> std::process::Output {
    let mut process = Process::new(env!("CARGO_BIN_EXE_cinelog"));
    for name in ["DATABASE_URL", "KAFKA_BROKERS", "STORAGE_URL", "SECRET_KEY"] {
        process.env_remove(name);
    }
    process.args(args).output().unwrap()
}

/// Every option of every subcommand, as `--help` tells it.
#[test]
fn the_generated_reference_of_options_is_up_to_date() {
    let mut text = "# Options of `cinelog`\n\nGenerated from the code; every option is a flag and an environment variable.\n".to_owned();
    // What this machine has set is not the reference's business.
    let mut cli = Cli::command()
        .mut_subcommands(|command| command.mut_args(|option| option.hide_env_values(true)));
    cli.build();
    for command in cli
        .get_subcommands_mut()
        .filter(|command| command.get_name() != "help")
    {
        let help = command.render_long_help().to_string();
        let help: Vec<&str> = help.lines().map(str::trim_end).collect();
        write!(
            text,
            "\n## {}\n\n```text\n{}\n```\n",
            command.get_name(),
            help.join("\n").trim_end()
        )
        .unwrap();
    }
    let path = environment::root().join("docs/reference/config.md");
    if environment::optional("UPDATE").is_some() {
        fs::write(&path, &text).unwrap();
    }
    assert_eq!(
        fs::read_to_string(&path).unwrap_or_default(),
        text,
        "out of date: run `make docs`"
    );
}

#[test]
fn the_command_line_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn wrong_usage_exits_2_and_says_what_to_do() {
    let output = cinelog(&["fly"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--help"));
    // Else an export of nothing would pass for complete.
    let output = cinelog(&["export", "--out", "nowhere", "--type", "post.publised"]);
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("post.published"), "{told}");
}

#[test]
fn a_missing_database_exits_1_and_says_what_to_set() {
    let output = cinelog(&["migrate"]);
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        told.lines()
            .last()
            .unwrap()
            .starts_with("error: set DATABASE_URL"),
        "{told}"
    );
}

#[test]
fn no_secret_shows_in_help() {
    let mut process = Process::new(env!("CARGO_BIN_EXE_cinelog"));
    let output = process
        .args(["up", "--help"])
        .env("SECRET_KEY", "hunter2hunter2")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.contains("SECRET_KEY") && !told.contains("hunter2"));
}
