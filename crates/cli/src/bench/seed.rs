//! A made-up history, appended as users' commands are: each by the log's one way in, with a name of its own.
//!
//! The last step of a stretch goes alone, after all others of it: where it is in the log, the stretch is. So a run that was
//! stopped, or killed, goes on where it was, and one of a history that is all there appends nothing.

use std::time::Duration;

use anyhow::{Context, bail};
use events::store::{Command, ExecuteError, Log};
use futures::{StreamExt, TryStreamExt, stream};
use service::retry::{Backoff, Retry};
use service::shutdown::Shutdown;

use super::history::{History, Step};

/// Commands at once: some batches of the writer.
const AT_ONCE: usize = 1_024;
/// How often a command is tried that the log has no time for.
const TRIES: u32 = 12;

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Facts that were appended now.
    pub facts: u64,
    /// About how many there were to append.
    pub about: u64,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seeded {
    /// Facts that were appended now.
    pub facts: u64,
    /// Stretches that were there before.
    pub before: u64,
}

/// Appends what of `history` is not in the log yet, a stretch at a time.
pub async fn seed(
    log: &Log,
    history: &History,
    progress: &(dyn Fn(Progress) + Sync),
    end: &Shutdown,
) -> anyhow::Result<Seeded> {
    let before = first_missing(log, history).await?;
    let (about, mut facts) = (history.about(before)?, 0);
    for n in before..history.stretches() {
        progress(Progress { facts, about });
        tokio::select! {
            appended = append(log, history.stretch(n)?) => facts += appended?,
            () = end.cancelled() => bail!("stopped before it was done: run it again, it goes on"),
        }
    }
    Ok(Seeded { facts, before })
}

/// The first stretch that is not all in the log; none after it are.
async fn first_missing(log: &Log, history: &History) -> anyhow::Result<u64> {
    let (mut there, mut missing) = (0, history.stretches());
    while there < missing {
        let middle = there + (missing - there) / 2;
        let last = history.stretch(middle)?.pop();
        let last = last.context("a stretch has steps")?;
        let stream = &last.append.stream.stream;
        let row = log.stream(history.tenant(), stream).await?;
        if row.is_some_and(|row| row.version >= last.version()) {
            there = middle + 1;
        } else {
            missing = middle;
        }
    }
    Ok(missing)
}

async fn append(log: &Log, mut steps: Vec<Step>) -> anyhow::Result<u64> {
    let last = steps.pop();
    let appended = stream::iter(steps)
        .map(|step| append_one(log, step))
        .buffer_unordered(AT_ONCE)
        .try_fold(0, async |sum, facts| Ok(sum + facts))
        .await?;
    match last {
        Some(last) => Ok(appended + append_one(log, last).await?),
        None => Ok(appended),
    }
}

/// Appends one step, unless it is there; how many facts.
async fn append_one(log: &Log, step: Step) -> anyhow::Result<u64> {
    let version = step.version();
    let command = Command {
        id: step.id,
        // The name says all that the command asks.
        body_hash: [0; 32],
        correlation: None,
        cause: None,
    };
    let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(5));
    for tries in 1.. {
        match log.append(&command, vec![step.append.clone()]).await {
            Ok(accepted) if accepted.repeated => return Ok(0),
            Ok(accepted) => return Ok(accepted.facts.len() as u64),
            // Its acceptance is forgotten after a while; what it appended is not.
            Err(ExecuteError::Conflict { actual, .. }) if actual >= version => return Ok(0),
            Err(error) if error.retry() == Retry::Later && tries < TRIES => {
                tokio::time::sleep(backoff.next_wait()).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
    unreachable!("it is tried until there is an answer")
}
