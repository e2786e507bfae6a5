//! Tables: Parquet, as model hubs serve data sets, and CSV. Each row becomes the JSON object that a line of JSONL would
//! hold.

use super::limits::{Each, INFLATED_MAX, INFLATED_MIN, LINE_MAX};
use crate::train::TrainError;
use parquet::basic::LogicalType;
use parquet::file::reader::{FileReader, Length, SerializedFileReader};
use parquet::record::{Field, Row};
use serde_json::{Map, Value};
use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// The rows of a CSV, or, with `\t` as the delimiter, of a TSV. The first row names the columns.
///
/// # Errors
///
/// As [`super::read::each_value`]'s.
pub(super) fn each_csv_row(
    path: &Path,
    reader: impl io::Read,
    delimiter: u8,
    each: &mut Each<'_>,
) -> Result<(), TrainError> {
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(Limited { inner: reader, since: 0 });
    let data = |line, reason| TrainError::Data { path: path.into(), line, reason };
    let names = reader.headers().map_err(|e| csv_error(path, 1, e))?.clone();
    if names.is_empty() || names.iter().all(str::is_empty) {
        return Err(data(1, "the first row must name the columns".to_owned()));
    }
    if let Some(twice) = (1..names.len()).find(|i| names.iter().take(*i).any(|name| name == &names[*i])) {
        return Err(data(1, format!("two columns are called `{}`", &names[twice])));
    }
    let mut row = csv::StringRecord::new();
    loop {
        let line = reader.position().line() as usize;
        reader.get_mut().since = 0;
        match reader.read_record(&mut row) {
            Ok(false) => return Ok(()),
            Ok(true) => {
                // The position stands after the blank lines that were skipped.
                let line = row.position().map_or(line, |position| position.line() as usize);
                each(line, object(&names, &row))?;
            }
            Err(e) if e.is_io_error() => return Err(csv_error(path, line, e)),
            Err(e) => {
                let reason = match e.kind() {
                    csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                        format!("{len} cells, where the first row names {expected_len} columns")
                    }
                    csv::ErrorKind::Utf8 { .. } => "not UTF-8".to_owned(),
                    _ => e.to_string(),
                };
                each(e.position().map_or(line, |position| position.line() as usize), Err(reason))?;
            }
        }
    }
}

fn csv_error(path: &Path, line: usize, error: csv::Error) -> TrainError {
    match error.into_kind() {
        csv::ErrorKind::Io(source) => TrainError::Io { path: path.into(), source },
        csv::ErrorKind::Utf8 { .. } => TrainError::Data { path: path.into(), line, reason: "not UTF-8".into() },
        other => TrainError::Data { path: path.into(), line, reason: format!("{other:?}") },
    }
}

/// An empty cell is an empty text. A list or an object is written as JSON.
fn object(names: &csv::StringRecord, row: &csv::StringRecord) -> Result<Value, String> {
    let cell = |(name, cell): (&str, &str)| Ok((name.to_owned(), value(name, cell)?));
    names
        .iter()
        .zip(row)
        .filter(|(name, _)| !name.is_empty())
        .map(cell)
        .collect::<Result<Map<_, _>, String>>()
        .map(Value::Object)
}

fn value(name: &str, cell: &str) -> Result<Value, String> {
    let list = ["[{", "[[", "[\"", "{\"", "['", "{'"].iter().any(|start| {
        let mut rest = cell.chars().filter(|c| !c.is_whitespace());
        start.chars().all(|c| rest.next() == Some(c))
    });
    if !list {
        return Ok(Value::String(cell.to_owned()));
    }
    // A text may begin like a list, too.
    match serde_json::from_str(cell) {
        Ok(value) => Ok(value),
        Err(_) if cell.trim_end().ends_with([']', '}']) && (cell.contains("'role'") || cell.contains("'from'")) => {
            Err(format!(
                "column `{name}` has a list as Python prints it; write JSON into the cell, or save as Parquet or JSONL"
            ))
        }
        Err(_) => Ok(Value::String(cell.to_owned())),
    }
}

/// Stops at a row of more than [`LINE_MAX`] bytes: a lost quote makes one row of the rest of the file.
struct Limited<R> {
    inner: R,
    since: u64,
}

impl<R: io::Read> io::Read for Limited<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(out)?;
        self.since += n as u64;
        if self.since > LINE_MAX {
            let reason = format!("a row is longer than {} MiB; is a quote missing?", LINE_MAX >> 20);
            return Err(io::Error::other(reason));
        }
        Ok(n)
    }
}

/// The rows of a Parquet file, counted from 1.
///
/// # Errors
///
/// [`TrainError::Io`] for a file that cannot be read to its end, and what `each` returns.
pub(super) fn each_parquet_row(path: &Path, file: File, each: &mut Each<'_>) -> Result<(), TrainError> {
    let broken = |reason: String| TrainError::Io { path: path.into(), source: io::Error::other(reason) };
    let bytes = file.len();
    // The reader checks most of what it reads, but not all: a damaged file must not end the program.
    let caught = catch_unwind(AssertUnwindSafe(|| {
        let reader = SerializedFileReader::new(file).map_err(|e| broken(format!("a broken Parquet file ({e})")))?;
        let metadata = reader.metadata();
        let inflated: i64 = metadata.row_groups().iter().map(|group| group.total_byte_size()).sum();
        if inflated < 0 || inflated as u64 > bytes.saturating_mul(INFLATED_MAX).max(INFLATED_MIN) {
            return Err(broken(format!("inflates to more than {INFLATED_MAX} times its size; look at what it is")));
        }
        if let Some(column) = metadata
            .file_metadata()
            .schema_descr()
            .columns()
            .iter()
            .find(|column| matches!(column.logical_type_ref(), Some(LogicalType::Variant { .. })))
        {
            return Err(broken(format!("column `{}` has a type that cannot be read", column.path())));
        }
        let rows = reader.get_row_iter(None).map_err(|e| broken(format!("a broken Parquet file ({e})")))?;
        for (i, row) in rows.enumerate() {
            match row {
                Ok(row) => each(i + 1, Ok(row_value(&row)))?,
                // Nothing after it can be read.
                Err(e) => return Err(broken(format!("row {}: {e}", i + 1))),
            }
        }
        Ok(())
    }));
    caught.unwrap_or_else(|_| Err(broken("a broken Parquet file".into())))
}

fn row_value(row: &Row) -> Value {
    Value::Object(row.get_column_iter().map(|(name, field)| (name.clone(), field_value(field))).collect())
}

fn field_value(field: &Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Bool(x) => (*x).into(),
        Field::Byte(x) => (*x).into(),
        Field::Short(x) => (*x).into(),
        Field::Int(x) => (*x).into(),
        Field::Long(x) => (*x).into(),
        Field::UByte(x) => (*x).into(),
        Field::UShort(x) => (*x).into(),
        Field::UInt(x) => (*x).into(),
        Field::ULong(x) => (*x).into(),
        Field::Float(x) => f64::from(*x).into(),
        Field::Double(x) => (*x).into(),
        Field::Str(x) => x.as_str().into(),
        Field::Group(row) => row_value(row),
        Field::ListInternal(list) => Value::Array(list.elements().iter().map(field_value).collect()),
        Field::MapInternal(map) => {
            let entry = |(key, value): &(Field, Field)| (key.to_string(), field_value(value));
            Value::Object(map.entries().iter().map(entry).collect())
        }
        other => other.to_string().into(),
    }
}
