//! Data files, one example at a time: JSONL, a JSON array, a table or plain text, gzipped or not, in bounded memory.

use super::limits::{Each, INFLATED_MAX, INFLATED_MIN, LINE_MAX};
use super::tables::{each_csv_row, each_parquet_row};
use crate::train::TrainError;
use flate2::read::MultiGzDecoder;
use serde::Deserializer;
use serde::de::{SeqAccess, Visitor};
use serde_json::{Value, json};
use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;

/// Calls `each` with line (or element) number and value of every example of a file. A byte-order mark and the ends of
/// Windows' lines change nothing.
///
/// # Errors
///
/// [`TrainError::Io`] for a file that cannot be read to its end, [`TrainError::Data`] for one that is no text, and what
/// `each` returns.
pub(super) fn each_value(path: &Path, each: &mut Each<'_>) -> Result<(), TrainError> {
    let io = |e| TrainError::io(path)(e);
    let file = File::open(path).map_err(io)?;
    let size = file.metadata().map_err(io)?.len();
    let mut file = BufReader::new(file);
    if file.fill_buf().map_err(io)?.starts_with(b"PAR1") {
        // A table keeps its particulars at its end: it is read through the file, not from its beginning.
        return each_parquet_row(path, file.into_inner(), each);
    }
    let reader: Box<dyn Read> = if file.fill_buf().map_err(io)?.starts_with(&[0x1f, 0x8b]) {
        let most = size.saturating_mul(INFLATED_MAX).max(INFLATED_MIN);
        Box::new(Inflated { inner: MultiGzDecoder::new(file), left: most })
    } else {
        Box::new(file)
    };
    let mut reader = BufReader::with_capacity(1 << 16, reader);
    let mut start = Vec::new();
    reader.by_ref().take(4).read_to_end(&mut start).map_err(io)?;
    if let Some(reason) = no_text(&start) {
        return Err(TrainError::Io { path: path.into(), source: io::Error::other(reason) });
    }
    if start.starts_with("\u{feff}".as_bytes()) {
        start.drain(..3);
    }
    let mut reader = BufReader::with_capacity(1 << 16, Cursor::new(start).chain(reader));
    let name = path.to_string_lossy().to_lowercase();
    if name.ends_with(".txt") || name.ends_with(".txt.gz") {
        return each_paragraph(path, reader, each);
    }
    for (ending, delimiter) in [(".csv", b','), (".tsv", b'\t')] {
        if name.strip_suffix(".gz").unwrap_or(&name).ends_with(ending) {
            return each_csv_row(path, reader, delimiter, each);
        }
    }
    // `chain` hands out what was read above first; the next buffer begins after it.
    let mut blank = Vec::new();
    loop {
        let buffer = reader.fill_buf().map_err(io)?;
        let n = buffer.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        let (found, end) = (buffer.get(n).copied(), buffer.is_empty());
        if found.is_none() && !end && (blank.len() as u64) < LINE_MAX {
            blank.extend_from_slice(buffer);
            let n = buffer.len();
            reader.consume(n);
            continue;
        }
        let all = Cursor::new(blank).chain(reader);
        return if found == Some(b'[') {
            each_element(path, all, each)
        } else {
            each_line(path, BufReader::new(all), each)
        };
    }
}

/// Formats that are taken for text now and then.
fn no_text(start: &[u8]) -> Option<&'static str> {
    let known: [(&[u8], &str); 5] = [
        (&[0xff, 0xfe], "the text is UTF-16; save it as UTF-8"),
        (&[0xfe, 0xff], "the text is UTF-16; save it as UTF-8"),
        (b"PK\x03\x04", "a zip archive; unpack it first"),
        (&[0x28, 0xb5, 0x2f, 0xfd], "compressed with zstd; unpack it, or use gzip"),
        (b"BZh", "compressed with bzip2; unpack it, or use gzip"),
    ];
    known.iter().find(|(magic, _)| start.starts_with(magic)).map(|(_, reason)| *reason)
}

/// What a compressed file holds, as long as it stays in proportion: a few kilobytes of zeros can inflate to terabytes.
struct Inflated<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Inflated<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(out)?;
        match self.left.checked_sub(n as u64) {
            Some(left) => self.left = left,
            None => {
                let reason =
                    format!("inflates to more than {INFLATED_MAX} times its size; unpack it, and look at what it is");
                return Err(io::Error::other(reason));
            }
        }
        Ok(n)
    }
}

/// Reads a line without its end into `bytes`. A longer one than [`LINE_MAX`] is passed over, and an error.
fn read_line(reader: &mut impl BufRead, bytes: &mut Vec<u8>) -> io::Result<Option<Result<(), String>>> {
    bytes.clear();
    if reader.by_ref().take(LINE_MAX + 1).read_until(b'\n', bytes)? == 0 {
        return Ok(None);
    }
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    } else if bytes.len() as u64 > LINE_MAX {
        bytes.clear();
        reader.skip_until(b'\n')?;
        return Ok(Some(Err(format!("longer than {} MiB", LINE_MAX >> 20))));
    }
    Ok(Some(Ok(())))
}

fn each_line(path: &Path, mut reader: impl BufRead, each: &mut Each<'_>) -> Result<(), TrainError> {
    let mut bytes = Vec::new();
    for line in 1.. {
        let Some(read) = read_line(&mut reader, &mut bytes).map_err(TrainError::io(path))? else { break };
        let value = match read {
            Ok(()) if bytes.trim_ascii().is_empty() => continue,
            Ok(()) => std::str::from_utf8(&bytes)
                .map_err(|_| "not UTF-8".to_owned())
                .and_then(|text| serde_json::from_str(text).map_err(|e| format!("not JSON ({e})"))),
            Err(reason) => Err(reason),
        };
        each(line, value)?;
    }
    Ok(())
}

/// Plain text: paragraphs with blank lines between them. One of more than [`LINE_MAX`] is cut at the end of a line.
fn each_paragraph(path: &Path, mut reader: impl BufRead, each: &mut Each<'_>) -> Result<(), TrainError> {
    let (mut bytes, mut paragraph) = (Vec::new(), String::new());
    let mut whole = |line, paragraph: &mut String| match std::mem::take(paragraph) {
        text if text.is_empty() => Ok(()),
        text => each(line, Ok(json!({"text": text.trim_end()}))),
    };
    for line in 1.. {
        let Some(read) = read_line(&mut reader, &mut bytes).map_err(TrainError::io(path))? else {
            return whole(line, &mut paragraph);
        };
        let text = read.and_then(|()| std::str::from_utf8(&bytes).map_err(|_| "not UTF-8".to_owned()));
        let text = match text {
            Ok(text) => text,
            Err(reason) => return Err(TrainError::Data { path: path.into(), line, reason }),
        };
        if text.trim().is_empty() || (paragraph.len() + text.len()) as u64 > LINE_MAX {
            whole(line, &mut paragraph)?;
        }
        if !text.trim().is_empty() {
            paragraph += text;
            paragraph.push('\n');
        }
    }
    Ok(())
}

/// Counts the bytes since the last element, and stops at a longer one than [`LINE_MAX`].
struct Measured<'a, R> {
    inner: R,
    since: &'a Cell<u64>,
}

impl<R: Read> Read for Measured<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(out)?;
        self.since.set(self.since.get() + n as u64);
        if self.since.get() > LINE_MAX {
            return Err(io::Error::other(format!("longer than {} MiB", LINE_MAX >> 20)));
        }
        Ok(n)
    }
}

/// Streams the elements of one JSON array.
fn each_element(path: &Path, reader: impl Read, each: &mut Each<'_>) -> Result<(), TrainError> {
    struct Elements<'a, 'b> {
        each: &'a mut Each<'b>,
        failure: &'a mut Option<TrainError>,
        index: &'a mut usize,
        since: &'a Cell<u64>,
    }
    impl<'de> Visitor<'de> for Elements<'_, '_> {
        type Value = ();

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a JSON array of examples")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
            while let Some(value) = seq.next_element::<Value>()? {
                *self.index += 1;
                self.since.set(0);
                if let Err(e) = (self.each)(*self.index, Ok(value)) {
                    *self.failure = Some(e);
                    return Err(serde::de::Error::custom("stopped"));
                }
            }
            Ok(())
        }
    }
    let (mut failure, mut index, since) = (None, 0, Cell::new(0));
    let visitor = Elements { each, failure: &mut failure, index: &mut index, since: &since };
    // One byte at a time is what serde_json asks for: the buffer is in front of the counter.
    let reader = Measured { inner: BufReader::new(reader), since: &since };
    let mut json = serde_json::Deserializer::from_reader(reader);
    let done = json.deserialize_seq(visitor).and_then(|()| json.end());
    match (failure, done) {
        (Some(e), _) => Err(e),
        (None, Err(e)) if e.is_io() => {
            let reason = io::Error::other(format!("element {}: {e}", index + 1));
            Err(TrainError::Io { path: path.into(), source: reason })
        }
        (None, Err(e)) => {
            Err(TrainError::Data { path: path.into(), line: e.line(), reason: format!("not JSON ({e})") })
        }
        (None, Ok(())) => Ok(()),
    }
}
