//! A file of results that grows while the work goes on, and from which interrupted work goes on.
//!
//! The first line says what is being done; every other line is a record. Records come in units of a fixed number of
//! lines, and a unit counts only when it is whole: what a killed process has left behind it is cut off.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Why results cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResultsError {
    /// The system refuses.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it says.
        source: std::io::Error,
    },
    /// The file is something else.
    #[error("{}:{line}: not a result file ({reason}); name another --out, or remove it", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The file belongs to other work.
    #[error("{} holds the results of other work (its \"{key}\" is another); name another --out, or remove it", path.display())]
    Different {
        /// The file.
        path: PathBuf,
        /// The first key of the first line that differs.
        key: String,
    },
}

/// An open file of results.
#[derive(Debug)]
pub struct Results {
    path: PathBuf,
    file: File,
}

impl Results {
    /// Opens or begins the file of the work that `header` describes, in units of `unit` of `total` records; returns
    /// what is done.
    ///
    /// # Errors
    ///
    /// [`ResultsError`]; a file of other work is left as it is.
    pub fn open<T: DeserializeOwned>(
        path: &Path,
        header: &Value,
        unit: usize,
        total: usize,
    ) -> Result<(Self, Vec<T>), ResultsError> {
        let io = |source| ResultsError::Io { path: path.to_owned(), source };
        let done = match File::open(path) {
            Ok(mut file) => {
                let mut text = String::new();
                file.read_to_string(&mut text).map_err(io)?;
                whole(path, &text, header, unit, total)?
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => return Err(io(e)),
        };
        let (records, n_bytes) = match done {
            Some(done) => done,
            None => (Vec::new(), begin(path, header).map_err(io)?),
        };
        let file = OpenOptions::new().append(true).open(path).map_err(io)?;
        file.set_len(n_bytes as u64).map_err(io)?;
        Ok((Self { path: path.to_owned(), file }, records))
    }

    /// The first line and the whole records of a file that is only read.
    ///
    /// # Errors
    ///
    /// [`ResultsError`].
    pub fn read<T: DeserializeOwned>(path: &Path) -> Result<(Value, Vec<T>), ResultsError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ResultsError::Io { path: path.to_owned(), source })?;
        let invalid = |line: usize, reason: String| ResultsError::Invalid { path: path.to_owned(), line, reason };
        let mut lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n')).zip(1..);
        let (first, _) = lines.next().ok_or_else(|| invalid(1, "its first line has no end".to_owned()))?;
        let header = serde_json::from_str(first).map_err(|e| invalid(1, e.to_string()))?;
        let record = |(text, line)| serde_json::from_str(text).map_err(|e| invalid(line, e.to_string()));
        Ok((header, lines.map(record).collect::<Result<_, _>>()?))
    }

    /// Adds a unit. It is on disk when this returns.
    ///
    /// # Errors
    ///
    /// [`ResultsError::Io`].
    pub fn append<T: Serialize>(&mut self, unit: &[T]) -> Result<(), ResultsError> {
        let io = |source| ResultsError::Io { path: self.path.clone(), source };
        let mut text = String::new();
        for record in unit {
            text += &serde_json::to_string(record).map_err(|e| io(e.into()))?;
            text.push('\n');
        }
        self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_data()).map_err(io)
    }
}

/// Writes the first line, whole or not at all.
fn begin(path: &Path, header: &Value) -> std::io::Result<usize> {
    let line = format!("{header}\n");
    crate::files::write_whole(path, |temporary| std::fs::write(temporary, &line))?;
    Ok(line.len())
}

/// The records of whole units, and the bytes up to their end; `None` for a file that ends within its first line.
fn whole<T: DeserializeOwned>(
    path: &Path,
    text: &str,
    header: &Value,
    unit: usize,
    total: usize,
) -> Result<Option<(Vec<T>, usize)>, ResultsError> {
    let mut lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let Some(first) = lines.next() else {
        // The file has no header, for example because it is empty. Anything longer is not ours to overwrite.
        let reason = "its first line has no end".to_owned();
        let invalid = ResultsError::Invalid { path: path.to_owned(), line: 1, reason };
        return if text.is_empty() { Ok(None) } else { Err(invalid) };
    };
    let invalid = |line: usize, e: serde_json::Error| ResultsError::Invalid {
        path: path.to_owned(),
        line,
        reason: e.to_string(),
    };
    let there: Value = serde_json::from_str(first).map_err(|e| invalid(1, e))?;
    if there != *header {
        let keys = header.as_object().into_iter().flatten().map(|(key, _)| key);
        let key =
            keys.clone().find(|key| there.get(key) != header.get(key)).cloned().unwrap_or_else(|| "header".into());
        return Err(ResultsError::Different { path: path.to_owned(), key });
    }
    let lines: Vec<&str> = lines.collect();
    let n = if lines.len() >= total { total } else { lines.len() / unit * unit };
    let records =
        lines[..n].iter().enumerate().map(|(i, line)| serde_json::from_str(line).map_err(|e| invalid(i + 2, e)));
    let n_bytes = first.len() + lines[..n].iter().map(|line| line.len()).sum::<usize>();
    Ok(Some((records.collect::<Result<_, _>>()?, n_bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_was_cut_off_is_done_again_and_the_file_ends_as_if_nothing_had_happened() {
        let folder = tempfile::tempdir().unwrap();
        let header = json!({"seed": 1});
        let all: Vec<usize> = (0..7).collect();
        let path = folder.path().join("whole.jsonl");
        let (mut results, done) = Results::open::<usize>(&path, &header, 3, 7).unwrap();
        assert!(done.is_empty());
        all.chunks(3).for_each(|unit| results.append(unit).unwrap());
        let expected = std::fs::read(&path).unwrap();
        // Killed after any byte beyond the first line.
        for cut in 11..=expected.len() {
            let path = folder.path().join("cut.jsonl");
            std::fs::write(&path, &expected[..cut]).unwrap();
            let (mut results, done) = Results::open::<usize>(&path, &header, 3, 7).unwrap();
            assert!(done.len() % 3 == 0 || done.len() == 7, "{done:?}");
            assert_eq!(done, all[..done.len()]);
            all[done.len()..].chunks(3).for_each(|unit| results.append(unit).unwrap());
            assert!(std::fs::read(&path).unwrap() == expected, "cut at {cut}");
        }
    }

    #[test]
    fn a_file_of_other_work_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.jsonl");
        for (content, part) in [
            ("{\"seed\":2}\n1\n", "\"seed\" is another"),
            ("hello\n", ":1: not a result file"),
            ("half a line", "no end"),
            ("{\"seed\":1}\nx\n", ":2: not a result file"),
        ] {
            std::fs::write(&path, content).unwrap();
            let error = Results::open::<usize>(&path, &json!({"seed": 1}), 1, 9).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
        }
    }
}
