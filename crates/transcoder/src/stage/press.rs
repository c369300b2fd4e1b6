//! The writing half of a film: while one thread reads, decodes and filters, another encodes and writes.
//!
//! One queue holds the work of all tracks in the order in which it was read, so a film has the same bytes as if one thread
//! made it, and how tracks lie in the source does not matter.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use super::{joined, spawned};
use crate::error::{JobError, Kind};
use crate::media::{Movie, SoundEncoder, Still, VideoEncoder};

/// Pieces of work that wait at most. Each may be a picture as large as the film's.
const WAITING: usize = 4;

/// A film under way, with the encoders of its tracks.
pub(super) struct Press {
    pub(super) movie: Movie,
    pub(super) pictures: Option<VideoEncoder>,
    pub(super) sounds: Vec<Box<dyn SoundEncoder>>,
}

enum Work {
    Picture(Still, u64),
    Silence(usize, u64),
    Sound(usize, Vec<Vec<f32>>, u64),
}

/// Where the reading thread puts what is to be encoded.
pub(super) struct Queue(SyncSender<Work>);

impl Queue {
    /// Shows a picture for some frames.
    pub(super) fn picture(&self, still: Still, frames: u64) -> Result<(), JobError> {
        self.put(Work::Picture(still, frames))
    }

    /// Adds silence to a track of sound.
    pub(super) fn silence(&self, track: usize, samples: u64) -> Result<(), JobError> {
        self.put(Work::Silence(track, samples))
    }

    /// Adds samples to a track of sound, without the first `skip`.
    pub(super) fn sound(
        &self,
        track: usize,
        channels: Vec<Vec<f32>>,
        skip: u64,
    ) -> Result<(), JobError> {
        self.put(Work::Sound(track, channels, skip))
    }

    fn put(&self, work: Work) -> Result<(), JobError> {
        // Why it stopped is the error of `run`, and this one is not seen.
        let stopped = |_| JobError::infra("encode", "the encoding thread has stopped");
        self.0.send(work).map_err(stopped)
    }
}

impl Press {
    /// A film without tracks.
    pub(super) fn new(movie: Movie) -> Self {
        Self {
            movie,
            pictures: None,
            sounds: Vec::new(),
        }
    }

    /// Writes the header, then all that `read` puts into the queue.
    pub(super) fn run<T>(
        &mut self,
        read: impl FnOnce(&Queue) -> Result<T, JobError>,
    ) -> Result<T, JobError> {
        self.movie.start()?;
        thread::scope(|threads| {
            let (queue, work) = sync_channel(WAITING);
            let pressing = spawned(threads, || self.press(work))?;
            let queue = Queue(queue);
            let result = read(&queue);
            drop(queue);
            match (joined(pressing), result) {
                // What is wrong with the source is so whatever became of the writing.
                (Err(pressed), Err(error))
                    if pressed.kind == Kind::Infra && error.kind != Kind::Infra =>
                {
                    Err(error)
                }
                (pressed, result) => pressed.and(result),
            }
        })
    }

    fn press(&mut self, work: Receiver<Work>) -> Result<(), JobError> {
        let Self {
            movie,
            pictures,
            sounds,
        } = self;
        for work in work {
            match work {
                Work::Picture(mut still, frames) => {
                    if let Some(pictures) = pictures {
                        pictures.show(movie, &mut still, frames)?;
                    }
                }
                Work::Silence(track, samples) => sounds[track].silence(movie, samples)?,
                Work::Sound(track, channels, skip) => sounds[track].add(movie, &channels, skip)?,
            }
        }
        Ok(())
    }

    /// Writes what the encoders hold back, and the index.
    pub(super) fn finish(mut self) -> Result<(), JobError> {
        if let Some(pictures) = &mut self.pictures {
            pictures.finish(&mut self.movie)?;
        }
        for sound in &mut self.sounds {
            sound.finish(&mut self.movie)?;
        }
        self.movie.finish()
    }
}
