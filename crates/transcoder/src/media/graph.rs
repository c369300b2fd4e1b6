//! Filters. A [`Pipeline`] owns its graph and never lets a filter out of it: in the binding a filter may outlive the
//! graph it points into (its issue 281).

use std::ops::DerefMut;

use ffmpeg_next::error::EAGAIN;
use ffmpeg_next::filter::Graph;
use ffmpeg_next::{Error, Frame, Rational, frame};

use super::{Decoded, fault, ffi, to_ns};
use crate::error::JobError;
use crate::limits::{FILTER_THREADS, Limits};

/// A scaled picture.
pub(crate) type Still = frame::Video;

/// A graph with one input and one output, rebuilt when what comes in changes its shape.
pub(crate) struct Pipeline {
    spec: Spec,
    shape: String,
    graph: Option<Graph>,
    /// How often it may still be rebuilt.
    changes_left: u32,
}

enum Spec {
    Video(String),
    /// By the number of channels, and whether their layout is known.
    Audio(Box<dyn Fn(usize, bool) -> String + Send>),
}

/// Samples of one channel per row, float.
pub(crate) struct Samples {
    pub(crate) start_ns: Option<i64>,
    pub(crate) channels: Vec<Vec<f32>>,
}

/// Nanoseconds are the clock of every graph: streams' own are often too coarse for samples.
const CLOCK: &str = "time_base=1/1000000000";

impl Pipeline {
    /// A chain of video filters.
    pub(crate) fn video(filters: String, limits: &Limits) -> Self {
        Self::of(Spec::Video(filters), limits)
    }

    /// A chain of audio filters, given the number of channels and whether their layout is known.
    pub(crate) fn audio(
        filters: impl Fn(usize, bool) -> String + Send + 'static,
        limits: &Limits,
    ) -> Self {
        Self::of(Spec::Audio(Box::new(filters)), limits)
    }

    fn of(spec: Spec, limits: &Limits) -> Self {
        Self {
            spec,
            shape: String::new(),
            graph: None,
            changes_left: limits.max_changes,
        }
    }

    /// Sends a picture through and hands what comes out to `each`, with its time.
    pub(crate) fn picture(
        &mut self,
        mut decoded: Decoded<frame::Video>,
        each: &mut dyn FnMut(Still, Option<i64>) -> Result<(), JobError>,
    ) -> Result<(), JobError> {
        let picture = &decoded.frame;
        let format = picture
            .format()
            .descriptor()
            .map_or("", |descriptor| descriptor.name());
        let shape = format!(
            "video_size={}x{}:pix_fmt={format}:{CLOCK}:pixel_aspect=1/1",
            picture.width(),
            picture.height()
        );
        if self.graph.is_none() || shape != self.shape {
            self.end_pictures(each)?;
            self.build("buffer", shape, (0, true))?;
        }
        decoded.frame.set_pts(decoded.start_ns);
        self.send(Some(&decoded.frame))?;
        self.receive(frame::Video::empty, &mut |still, ns| each(still, ns))
    }

    /// Hands out the pictures that filters hold back.
    pub(crate) fn end_pictures(
        &mut self,
        each: &mut dyn FnMut(Still, Option<i64>) -> Result<(), JobError>,
    ) -> Result<(), JobError> {
        if self.graph.is_none() {
            return Ok(());
        }
        self.send(None)?;
        self.receive(frame::Video::empty, &mut |still, ns| each(still, ns))?;
        self.graph = None;
        Ok(())
    }

    /// Sends samples through and hands what comes out to `each`.
    pub(crate) fn sound(
        &mut self,
        mut decoded: Decoded<frame::Audio>,
        each: &mut dyn FnMut(Samples) -> Result<(), JobError>,
    ) -> Result<(), JobError> {
        let sound = &decoded.frame;
        let layout = match ffi::layout_mask(sound) {
            0 => format!("channels={}", ffi::channels(sound)),
            mask => format!("channel_layout=0x{mask:x}"),
        };
        let shape = format!(
            "sample_rate={}:sample_fmt={}:{layout}:{CLOCK}",
            sound.rate(),
            sound.format().name()
        );
        if self.graph.is_none() || shape != self.shape {
            self.end_sound(each)?;
            let channels = (ffi::channels(sound), ffi::layout_mask(sound) != 0);
            self.build("abuffer", shape, channels)?;
        }
        decoded.frame.set_pts(decoded.start_ns);
        self.send(Some(&decoded.frame))?;
        self.receive(frame::Audio::empty, &mut |frame, ns| each(rows(&frame, ns)))
    }

    /// Hands out the samples that filters hold back.
    pub(crate) fn end_sound(
        &mut self,
        each: &mut dyn FnMut(Samples) -> Result<(), JobError>,
    ) -> Result<(), JobError> {
        if self.graph.is_none() {
            return Ok(());
        }
        self.send(None)?;
        self.receive(frame::Audio::empty, &mut |frame, ns| each(rows(&frame, ns)))?;
        self.graph = None;
        Ok(())
    }

    fn build(
        &mut self,
        source: &str,
        shape: String,
        (channels, known_layout): (usize, bool),
    ) -> Result<(), JobError> {
        if !self.shape.is_empty() && self.shape != shape {
            self.changes_left = self.changes_left.checked_sub(1).ok_or_else(|| {
                JobError::limit("its pictures or its sound change their shape too often")
            })?;
        }
        let (filters, sink, takes) = match &self.spec {
            Spec::Video(filters) => (filters.clone(), "buffersink", ""),
            // Also as many as no layout has.
            Spec::Audio(filters) => (
                filters(channels, known_layout),
                "abuffersink",
                "all_channel_counts=1",
            ),
        };
        let mut graph = ffi::graph(FILTER_THREADS);
        let built = (|| {
            let find = |name| ffmpeg_next::filter::find(name).ok_or(Error::FilterNotFound);
            graph.add(&find(source)?, "in", &shape)?;
            graph.add(&find(sink)?, "out", takes)?;
            graph.output("in", 0)?.input("out", 0)?.parse(&filters)?;
            graph.validate()
        })();
        built.map_err(|error| fault("set up the filters", error))?;
        (self.shape, self.graph) = (shape, Some(graph));
        Ok(())
    }

    fn send(&mut self, frame: Option<&Frame>) -> Result<(), JobError> {
        let mut input = self
            .graph
            .as_mut()
            .and_then(|graph| graph.get("in"))
            .ok_or_else(|| JobError::infra("filter", "no graph"))?;
        let sent = match frame {
            Some(frame) => input.source().add(frame),
            None => input.source().flush(),
        };
        sent.map_err(|error| fault("filter", error))
    }

    fn receive<F: DerefMut<Target = Frame>>(
        &mut self,
        blank: fn() -> F,
        each: &mut dyn FnMut(F, Option<i64>) -> Result<(), JobError>,
    ) -> Result<(), JobError> {
        let graph = self
            .graph
            .as_mut()
            .ok_or_else(|| JobError::infra("filter", "no graph"))?;
        let mut output = graph
            .get("out")
            .ok_or_else(|| JobError::infra("filter", "no output"))?;
        let base: Rational = output.sink().time_base();
        loop {
            let mut frame = blank();
            match output.sink().frame(&mut frame) {
                Ok(()) => {
                    let ns = frame.pts().and_then(|ts| to_ns(ts, base));
                    each(frame, ns)?;
                }
                Err(Error::Eof | Error::Other { errno: EAGAIN }) => return Ok(()),
                Err(error) => return Err(fault("filter", error)),
            }
        }
    }
}

/// Rows of floats from a planar float frame, which every audio chain ends in.
fn rows(frame: &frame::Audio, start_ns: Option<i64>) -> Samples {
    let count = frame.samples();
    let row = |channel| {
        let bytes = ffi::samples(frame, channel, count * 4);
        bytes
            .chunks_exact(4)
            .map(|b| f32::from_ne_bytes([b[0], b[1], b[2], b[3]]))
            .collect()
    };
    let planes = if frame.is_planar() {
        ffi::channels(frame)
    } else {
        1
    };
    Samples {
        start_ns,
        channels: (0..planes).map(row).collect(),
    }
}
