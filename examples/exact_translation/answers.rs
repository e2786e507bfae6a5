//! Answers that are kept, so that another version of translation is measured without a new search.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use genarm::Token;

use super::answer::Answer;

/// What an answer depends on, apart from the models.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Asked {
    /// The ARM's prompt.
    pub prompt: Vec<Token>,
    /// The base's tokens of the response.
    pub chosen: Vec<Token>,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Kept {
    asked: Asked,
    answer: Answer,
}

/// A file of answers for one base and one ARM: a line of JSON each.
pub struct Answers {
    file: PathBuf,
    kept: Vec<Kept>,
}

impl Answers {
    pub fn open(file: &Path) -> Result<Self> {
        let text = if file.exists() { std::fs::read_to_string(file)? } else { String::new() };
        let kept = text.lines().map(serde_json::from_str).collect::<Result<_, _>>();
        Ok(Self { file: file.to_owned(), kept: kept.with_context(|| file.display().to_string())? })
    }

    pub fn get(&self, asked: &Asked) -> Option<Answer> {
        self.kept.iter().find(|kept| kept.asked == *asked).map(|kept| kept.answer.clone())
    }

    pub fn keep(&mut self, asked: &Asked, answer: &Answer) -> Result<()> {
        let kept = Kept { asked: asked.clone(), answer: answer.clone() };
        let mut file = OpenOptions::new().create(true).append(true).open(&self.file)?;
        writeln!(file, "{}", serde_json::to_string(&kept)?)?;
        self.kept.push(kept);
        Ok(())
    }
}
