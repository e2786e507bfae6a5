//! Tables: Parquet, as model hubs serve data sets, and CSV. Each row becomes the JSON object that a line of JSONL would
//! hold.

use super::limits::{Each, INFLATED_MAX, INFLATED_MIN, LINE_MAX};
use crate::train::TrainError;
use parquet::file::reader::{FileReader, Length, SerializedFileReader};
use parquet::record::reader::RowIter;
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
    let named = |i: &usize| !names[*i].is_empty() && names.iter().take(*i).any(|name| name == &names[*i]);
    if let Some(twice) = (1..names.len()).find(named) {
        return Err(data(1, format!("two columns are called `{}`", &names[twice])));
    }
    // Rows are counted as a spreadsheet counts them: the names are the first one.
    let mut row = csv::StringRecord::new();
    for at in 2.. {
        reader.get_mut().since = 0;
        match reader.read_record(&mut row) {
            Ok(false) => break,
            Ok(true) => each(at, object(&names, &row))?,
            Err(e) if e.is_io_error() => return Err(csv_error(path, at, e)),
            Err(e) => {
                let reason = match e.kind() {
                    csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                        format!("{len} cells, where the first row names {expected_len} columns")
                    }
                    csv::ErrorKind::Utf8 { .. } => "not UTF-8".to_owned(),
                    _ => e.to_string(),
                };
                each(at, Err(reason))?;
            }
        }
    }
    Ok(())
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
    let mut rows = caught(|| open_rows(file, bytes)).map_err(&broken)?;
    for at in 1.. {
        match caught(|| rows.next().transpose().map_err(|e| e.to_string()))
            .map_err(|e| broken(format!("row {at}: {e}")))?
        {
            Some(row) => each(at, row_value(&row))?,
            None => break,
        }
    }
    Ok(())
}

/// What `read` returns; a panic in it is an error.
fn caught<T>(read: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| Err("a broken Parquet file".to_owned()))
}

/// The rows of a file of `bytes` bytes.
fn open_rows(file: File, bytes: u64) -> Result<RowIter<'static>, String> {
    let broken = |e: parquet::errors::ParquetError| format!("a broken Parquet file ({e})");
    let reader = SerializedFileReader::new(file).map_err(broken)?;
    let metadata = reader.metadata();
    let inflated: i64 = metadata.row_groups().iter().map(|group| group.total_byte_size()).sum();
    if inflated < 0 || inflated as u64 > bytes.saturating_mul(INFLATED_MAX).max(INFLATED_MIN) {
        return Err(format!("inflates to more than {INFLATED_MAX} times its size; look at what it is"));
    }
    Ok(RowIter::from_file_into(Box::new(reader)))
}

fn row_value(row: &Row) -> Result<Value, String> {
    let cell = |(name, field): (&String, &Field)| {
        let value = field_value(field).map_err(|reason| format!("column `{name}`: {reason}"))?;
        Ok((name.clone(), value))
    };
    row.get_column_iter().map(cell).collect::<Result<_, String>>().map(Value::Object)
}

fn field_value(field: &Field) -> Result<Value, String> {
    Ok(match field {
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
        // Some writers do not say that their texts are texts.
        Field::Bytes(x) => std::str::from_utf8(x.data()).map_err(|_| "bytes that are no text (not UTF-8)")?.into(),
        Field::Group(row) => row_value(row)?,
        Field::ListInternal(list) => list.elements().iter().map(field_value).collect::<Result<_, _>>()?,
        Field::MapInternal(map) => {
            let entry = |(key, value): &(Field, Field)| {
                let key = field_value(key)?;
                Ok((key.as_str().map_or_else(|| key.to_string(), str::to_owned), field_value(value)?))
            };
            Value::Object(map.entries().iter().map(entry).collect::<Result<_, String>>()?)
        }
        // Dates and decimals play no part in a pair.
        other => other.to_string().into(),
    })
}
