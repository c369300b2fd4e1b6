//! Facts as columns. One schema for all facts: the envelope, and the payload as JSON text. A row group is a stretch of
//! positions, and its statistics say which, so that a reader of a few positions, types or tenants skips the rest.

use std::io::Write;
use std::sync::{Arc, LazyLock};

use ::parquet::basic::{Compression, Encoding, ZstdLevel};
use ::parquet::data_type::{ByteArray, ByteArrayType, DataType, Int32Type, Int64Type};
use ::parquet::errors::{ParquetError, Result};
use ::parquet::file::metadata::SortingColumn;
use ::parquet::file::properties::{
    EnabledStatistics, WriterProperties, WriterPropertiesPtr, WriterVersion,
};
use ::parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use ::parquet::schema::parser::parse_message_type;
use ::parquet::schema::types::{ColumnPath, TypePtr};

use super::{ZSTD_LEVEL, writer};
use crate::envelope::Sealed;

const SCHEMA: &str = "message fact {
    REQUIRED INT64 position;
    REQUIRED INT32 lane (INTEGER(16, true));
    REQUIRED BYTE_ARRAY tenant (STRING);
    REQUIRED BYTE_ARRAY stream (STRING);
    REQUIRED INT64 version;
    REQUIRED BYTE_ARRAY subject (STRING);
    REQUIRED BYTE_ARRAY type (STRING);
    REQUIRED INT32 schema_version (INTEGER(16, true));
    REQUIRED BYTE_ARRAY payload (JSON);
    REQUIRED BYTE_ARRAY actor (STRING);
    REQUIRED BYTE_ARRAY command (STRING);
    OPTIONAL BYTE_ARRAY correlation (STRING);
    OPTIONAL BYTE_ARRAY cause (STRING);
    REQUIRED BYTE_ARRAY event_id (STRING);
    REQUIRED INT64 recorded_at (TIMESTAMP(MICROS, true));
}";

/// Rows in a row group, at most: enough for a reader to work in parallel, few enough to be held in memory.
const GROUP_ROWS: usize = 1 << 16;
/// Bytes of text in a row group, at which it ends: facts may be large.
const GROUP_BYTES: usize = 24 << 20;

static SCHEMA_TYPE: LazyLock<TypePtr> =
    LazyLock::new(|| Arc::new(parse_message_type(SCHEMA).expect("a constant that parses")));

/// A segment in the making.
pub(super) struct Columns<W: Write + Send> {
    out: SerializedFileWriter<W>,
    group: Group,
}

impl<W: Write + Send> Columns<W> {
    pub(super) fn new(out: W) -> Result<Self> {
        Ok(Self {
            out: SerializedFileWriter::new(out, SCHEMA_TYPE.clone(), properties()?)?,
            group: Group::default(),
        })
    }

    pub(super) fn push(&mut self, facts: Vec<Sealed>) -> Result<()> {
        for fact in facts {
            self.group.push(fact);
            if self.group.position.len() >= GROUP_ROWS || self.group.bytes >= GROUP_BYTES {
                self.end_group()?;
            }
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<()> {
        if !self.group.position.is_empty() {
            self.end_group()?;
        }
        self.out.close().map(drop)
    }

    fn end_group(&mut self) -> Result<()> {
        let group = std::mem::take(&mut self.group);
        let mut out = self.out.next_row_group()?;
        group.write(&mut out)?;
        out.close().map(drop)
    }
}

fn properties() -> Result<WriterPropertiesPtr> {
    let position = SortingColumn {
        column_idx: 0,
        descending: false,
        nulls_first: false,
    };
    let mut properties = WriterProperties::builder()
        // The pages that every reader knows.
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_created_by(writer())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_sorting_columns(Some(vec![position]));
    for column in ["position", "recorded_at"] {
        let column = ColumnPath::from(column);
        properties = properties
            .set_column_dictionary_enabled(column.clone(), false)
            .set_column_encoding(column, Encoding::DELTA_BINARY_PACKED);
    }
    // Every value is another one.
    for column in ["payload", "event_id", "command"] {
        properties = properties.set_column_dictionary_enabled(ColumnPath::from(column), false);
    }
    // A smallest and a largest payload say nothing.
    properties = properties
        .set_column_statistics_enabled(ColumnPath::from("payload"), EnabledStatistics::None);
    Ok(Arc::new(properties.build()))
}

/// A row group in the making, column by column.
#[derive(Default)]
struct Group {
    bytes: usize,
    position: Vec<i64>,
    lane: Vec<i32>,
    tenant: Vec<ByteArray>,
    stream: Vec<ByteArray>,
    version: Vec<i64>,
    subject: Vec<ByteArray>,
    fact_type: Vec<ByteArray>,
    schema_version: Vec<i32>,
    payload: Vec<ByteArray>,
    actor: Vec<ByteArray>,
    command: Vec<ByteArray>,
    correlation: Optional,
    cause: Optional,
    event_id: Vec<ByteArray>,
    recorded_at: Vec<i64>,
}

/// A column that may lack values: those there are, and for each row whether there is one.
#[derive(Default)]
struct Optional {
    values: Vec<ByteArray>,
    there: Vec<i16>,
}

impl Optional {
    fn push(&mut self, value: Option<ByteArray>) {
        self.there.push(value.is_some().into());
        self.values.extend(value);
    }
}

impl Group {
    fn push(&mut self, fact: Sealed) {
        let mut text = |text: String| {
            self.bytes += text.len();
            ByteArray::from(text.into_bytes())
        };
        self.tenant.push(text(fact.tenant.to_string()));
        self.stream.push(text(fact.stream));
        self.subject.push(text(fact.subject));
        self.fact_type.push(text(fact.fact_type));
        self.payload.push(text(fact.payload));
        self.actor.push(text(fact.meta.actor.to_string()));
        self.command.push(text(fact.meta.command));
        self.correlation.push(fact.meta.correlation.map(&mut text));
        let cause = fact.meta.cause.map(|cause| text(cause.to_string()));
        self.cause.push(cause);
        self.event_id.push(text(fact.event_id.to_string()));
        self.position.push(fact.position.0);
        self.lane.push(fact.lane.number().into());
        self.version.push(fact.version);
        self.schema_version.push(fact.schema_version.into());
        self.recorded_at.push(fact.recorded_at.timestamp_micros());
    }

    /// The columns in the order of the schema. Each is let go once it is written.
    fn write<W: Write + Send>(self, out: &mut SerializedRowGroupWriter<'_, W>) -> Result<()> {
        column::<Int64Type, W>(out, self.position, None)?;
        column::<Int32Type, W>(out, self.lane, None)?;
        column::<ByteArrayType, W>(out, self.tenant, None)?;
        column::<ByteArrayType, W>(out, self.stream, None)?;
        column::<Int64Type, W>(out, self.version, None)?;
        column::<ByteArrayType, W>(out, self.subject, None)?;
        column::<ByteArrayType, W>(out, self.fact_type, None)?;
        column::<Int32Type, W>(out, self.schema_version, None)?;
        column::<ByteArrayType, W>(out, self.payload, None)?;
        column::<ByteArrayType, W>(out, self.actor, None)?;
        column::<ByteArrayType, W>(out, self.command, None)?;
        for optional in [self.correlation, self.cause] {
            column::<ByteArrayType, W>(out, optional.values, Some(&optional.there))?;
        }
        column::<ByteArrayType, W>(out, self.event_id, None)?;
        column::<Int64Type, W>(out, self.recorded_at, None)
    }
}

fn column<T: DataType, W: Write + Send>(
    out: &mut SerializedRowGroupWriter<'_, W>,
    values: Vec<T::T>,
    there: Option<&[i16]>,
) -> Result<()> {
    let mut column = out
        .next_column()?
        .ok_or_else(|| ParquetError::General("the schema has fewer columns".to_owned()))?;
    column.typed::<T>().write_batch(&values, there, None)?;
    drop(values);
    column.close()
}

#[cfg(test)]
mod tests {
    use ::parquet::file::metadata::RowGroupMetaData;
    use ::parquet::file::reader::{FileReader, SerializedFileReader};
    use ::parquet::file::statistics::Statistics;
    use ::parquet::record::RowAccessor;

    use super::*;
    use crate::export::sample::sample;

    fn made(facts: &[Sealed], piece: usize) -> Vec<u8> {
        let mut bytes = vec![];
        let mut columns = Columns::new(&mut bytes).unwrap();
        for piece in facts.chunks(piece) {
            columns.push(piece.to_vec()).unwrap();
        }
        columns.finish().unwrap();
        bytes
    }

    fn read(bytes: Vec<u8>) -> SerializedFileReader<bytes::Bytes> {
        SerializedFileReader::new(bytes.into()).unwrap()
    }

    #[test]
    fn a_row_group_is_a_stretch_of_positions_and_says_which() {
        let facts: Vec<_> = (1..=70_000).map(sample).collect();
        let file = read(made(&facts, 10_000));
        let stretches: Vec<_> = file
            .metadata()
            .row_groups()
            .iter()
            .map(|group| match group.column(0).statistics() {
                Some(Statistics::Int64(stretch)) => (
                    *stretch.min_opt().unwrap(),
                    *stretch.max_opt().unwrap(),
                    group.num_rows(),
                ),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(stretches, [(1, 65_536, 65_536), (65_537, 70_000, 4_464)]);
    }

    #[test]
    fn large_facts_make_small_row_groups() {
        let large = |n| Sealed {
            payload: format!("\"{}\"", "x".repeat(1 << 20)),
            ..sample(n)
        };
        let facts: Vec<_> = (1..=50).map(large).collect();
        let file = read(made(&facts, 50));
        let rows: Vec<_> = file
            .metadata()
            .row_groups()
            .iter()
            .map(RowGroupMetaData::num_rows)
            .collect();
        assert_eq!(rows, [24, 24, 2]);
    }

    #[test]
    fn a_fact_comes_back_whole_and_pieces_do_not_show() {
        let with_cause = |n| {
            let mut fact = sample(n);
            fact.meta.cause = (n % 2 == 0).then(|| uuid::Uuid::from_u128(9));
            fact
        };
        let facts: Vec<_> = (1..=3_000).map(with_cause).collect();
        let bytes = made(&facts, 3_000);
        assert_eq!(bytes, made(&facts, 17));
        let file = read(bytes);
        let rows: Vec<_> = file
            .get_row_iter(None)
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert_eq!(rows.len(), 3_000);
        let (first, second) = (&rows[0], &rows[1]);
        assert_eq!(first.get_long(0).unwrap(), 1);
        assert_eq!(first.get_short(1).unwrap(), 3);
        assert_eq!(first.get_string(8).unwrap(), r#"{"n": 1}"#);
        assert_eq!(
            first.get_timestamp_micros(14).unwrap(),
            1_700_000_000_000_100
        );
        assert!(first.get_string(12).is_err(), "no cause");
        assert_eq!(
            second.get_string(12).unwrap(),
            "00000000-0000-0000-0000-000000000009"
        );
    }

    #[test]
    fn a_segment_without_facts_is_a_file_without_rows() {
        let file = read(made(&[], 1));
        assert_eq!(file.metadata().file_metadata().num_rows(), 0);
        assert_eq!(
            file.metadata().file_metadata().schema_descr().num_columns(),
            15
        );
    }
}
