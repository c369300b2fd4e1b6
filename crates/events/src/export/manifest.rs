//! The manifest: what an export is to hold, and what of it is there. It is written first, after each segment, and once
//! more at the end, when `complete` becomes true.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::plan::{Plan, Request, Span};
use super::{ExportError, writer};
use crate::id::Position;

/// Its name.
pub const NAME: &str = "manifest.json";

/// `manifest.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// What wrote it.
    pub writer: String,
    /// What the export holds.
    pub plan: Plan,
    /// Whether all of it is there.
    pub complete: bool,
    /// Facts in the segments.
    pub rows: i64,
    /// The segments that are there, in order.
    pub segments: Vec<Segment>,
}

/// A segment that is there and will not change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Its name, beside the manifest.
    pub name: String,
    /// The first position it is about.
    pub first: Position,
    /// The last one.
    pub last: Position,
    /// Facts in it; without a filter, as many as positions.
    pub rows: i64,
    /// Its size.
    pub bytes: u64,
    /// Its checksum, hex digits.
    pub sha256: String,
}

impl Manifest {
    /// Of an export that begins.
    pub fn begin(plan: Plan) -> Self {
        Self {
            writer: writer(),
            plan,
            complete: false,
            rows: 0,
            segments: vec![],
        }
    }

    /// From its text.
    pub fn parse(text: &[u8]) -> Result<Self, ExportError> {
        let read: Self = serde_json::from_slice(text)
            .map_err(|error| ExportError::Manifest(error.to_string()))?;
        let spans = read.plan.spans().map(|span| span.name(read.plan.format));
        let planned: Vec<String> = spans.take(read.segments.len()).collect();
        if read
            .segments
            .iter()
            .map(|segment| &segment.name)
            .eq(&planned)
        {
            Ok(read)
        } else {
            Err(ExportError::Manifest(
                "its segments are not those of its plan".to_owned(),
            ))
        }
    }

    /// Its text.
    ///
    /// # Panics
    ///
    /// Never: it has no map whose keys are not texts.
    pub fn text(&self) -> String {
        serde_json::to_string_pretty(self).expect("a manifest serialises") + "\n"
    }

    /// Refuses to go on with what was begun otherwise. A request without an end asks for the end that was pinned.
    pub fn accepts(&self, request: &Request, log_id: Uuid) -> Result<(), ExportError> {
        let there = &self.plan;
        let asked = request.plan(log_id, request.to.unwrap_or(there.to));
        let tenant = |plan: &Plan| {
            plan.tenant
                .map_or("all".to_owned(), |tenant| tenant.to_string())
        };
        let types = |plan: &Plan| match plan.types.as_slice() {
            [] => "all".to_owned(),
            some => some.join(","),
        };
        let rows = [
            ("log id", there.log_id.to_string(), log_id.to_string()),
            ("format", there.format.to_string(), asked.format.to_string()),
            ("writer", self.writer.clone(), writer()),
            ("--from", there.from.to_string(), asked.from.to_string()),
            ("--to", there.to.to_string(), asked.to.to_string()),
            ("--type", types(there), types(&asked)),
            ("--tenant", tenant(there), tenant(&asked)),
            (
                "--segment-rows",
                there.segment_rows.to_string(),
                asked.segment_rows.to_string(),
            ),
        ];
        match rows.into_iter().find(|(_, there, asked)| there != asked) {
            Some((what, there, asked)) => Err(ExportError::Other { what, there, asked }),
            None => Ok(()),
        }
    }

    /// The segments that are not there yet.
    pub fn missing(&self) -> Vec<Span> {
        self.plan.spans().skip(self.segments.len()).collect()
    }

    /// Takes the next segment in.
    pub fn add(&mut self, segment: Segment) {
        self.rows += segment.rows;
        self.segments.push(segment);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::Format;

    fn request() -> Request {
        Request {
            format: Format::Ndjson,
            from: Position(1),
            to: None,
            types: vec![],
            tenant: None,
            segment_rows: 10,
        }
    }

    fn begun() -> Manifest {
        let mut manifest = Manifest::begin(request().plan(Uuid::nil(), Position(25)));
        manifest.add(Segment {
            name: "facts-000000000001-000000000010.ndjson.zst".to_owned(),
            first: Position(1),
            last: Position(10),
            rows: 10,
            bytes: 5,
            sha256: "00".to_owned(),
        });
        manifest
    }

    #[test]
    fn it_comes_back_from_its_text_and_knows_what_is_missing() {
        let read = Manifest::parse(begun().text().as_bytes()).unwrap();
        assert_eq!(read, begun());
        let missing: Vec<_> = read.missing().iter().map(|span| span.first.0).collect();
        assert_eq!(missing, [11, 21]);
    }

    #[test]
    fn what_was_begun_otherwise_is_refused_by_name() {
        let begun = begun();
        begun.accepts(&request(), Uuid::nil()).unwrap();
        let other = Request {
            to: Some(Position(24)),
            ..request()
        };
        let told = begun.accepts(&other, Uuid::nil()).unwrap_err().to_string();
        assert!(told.contains("--to 25") && told.contains("24"), "{told}");
        let told = begun
            .accepts(&request(), Uuid::max())
            .unwrap_err()
            .to_string();
        assert!(told.contains("log id"), "{told}");
        let other = Request {
            types: vec!["post.published".to_owned()],
            ..request()
        };
        let told = begun.accepts(&other, Uuid::nil()).unwrap_err().to_string();
        assert!(told.contains("--type all"), "{told}");
    }

    #[test]
    fn a_manifest_whose_segments_were_tampered_with_is_refused() {
        let text = begun().text().replace("-000000000010", "-000000000011");
        assert!(Manifest::parse(text.as_bytes()).is_err());
        assert!(Manifest::parse(b"{").is_err());
    }
}
