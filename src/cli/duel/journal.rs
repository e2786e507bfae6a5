//! The file of choices: a line per choice, on disk as soon as it is made. `genarm train` reads it as it is.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::duel::{Choice, Choices};

/// An open file of choices.
pub struct Journal {
    path: PathBuf,
    file: File,
    /// The bytes before each choice, and those of all.
    ends: Vec<u64>,
}

impl Journal {
    /// Opens the file, or begins it, and adds what it holds to `choices`. A last line that a killed process has left
    /// without its end is cut off.
    pub fn open(path: &Path, choices: &mut Choices) -> anyhow::Result<Self> {
        let name = || path.display().to_string();
        let text = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            read => read.with_context(name)?,
        };
        let mut ends = vec![0];
        for (line, n) in text.split_inclusive('\n').filter(|line| line.ends_with('\n')).zip(1..) {
            let choice = serde_json::from_str::<Choice>(line).map_err(|error| error.to_string());
            if let Err(reason) = choice.and_then(|choice| choices.add(&choice)) {
                bail!("{}:{n}: not a choice of these duels: {reason}; name another --choices", name());
            }
            ends.push(ends[ends.len() - 1] + line.len() as u64);
        }
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(name)?;
        }
        // Not `append`: what is written next stands where the last choice was taken back.
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path).with_context(name)?;
        let mut journal = Self { path: path.to_owned(), file, ends };
        journal.end_at(journal.end())?;
        Ok(journal)
    }

    /// Adds a choice.
    pub fn push(&mut self, line: &Value) -> anyhow::Result<()> {
        let line = format!("{line}\n");
        let written = self.file.write_all(line.as_bytes()).and_then(|()| self.file.sync_data());
        written.with_context(|| self.path.display().to_string())?;
        self.ends.push(self.end() + line.len() as u64);
        Ok(())
    }

    /// Takes the last choice back.
    pub fn pop(&mut self) -> anyhow::Result<()> {
        if self.ends.len() > 1 {
            self.ends.pop();
        }
        self.end_at(self.end())
    }

    fn end(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    fn end_at(&mut self, end: u64) -> anyhow::Result<()> {
        use std::io::Seek;
        let cut = self.file.set_len(end).and_then(|()| self.file.seek(std::io::SeekFrom::Start(end)));
        cut.map(drop).with_context(|| self.path.display().to_string())
    }
}
