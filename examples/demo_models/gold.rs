//! The gold rewards: open functions of a text, standing in for human preference.

use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

/// Opinion words, from the Opinion Lexicon by Bing Liu (CC BY 4.0), as far as the corpus uses them.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Lexicon {
    positive: HashSet<String>,
    negative: HashSet<String>,
}

/// The rewards by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Gold {
    /// Positive less negative opinion words
    Cheerful,
    /// Double quotation marks
    Talkative,
    /// Minus the mean letters of a word, minus a fifth of the mean words of a sentence
    Plain,
}

impl Gold {
    pub const ALL: [Self; 3] = [Self::Cheerful, Self::Talkative, Self::Plain];

    pub fn reward(self, text: &str, lexicon: &Lexicon) -> f64 {
        let words = || text.split(|c: char| !c.is_ascii_alphabetic() && c != '\'').filter(|w| !w.is_empty());
        match self {
            Self::Cheerful => words()
                .map(str::to_lowercase)
                .map(|w| f64::from(lexicon.positive.contains(&w)) - f64::from(lexicon.negative.contains(&w)))
                .sum(),
            Self::Talkative => text.matches('"').count() as f64,
            Self::Plain => {
                let n = words().count().max(1) as f64;
                let letters: usize = words().map(str::len).sum();
                let sentences = text.matches(['.', '!', '?']).count().max(1) as f64;
                -(letters as f64 / n) - n / sentences / 5.0
            }
        }
    }
}

impl Lexicon {
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        serde_saphyr::from_str(&text).with_context(|| path.display().to_string())
    }
}

#[derive(Debug, clap::Args)]
pub struct LexiconArgs {
    /// Positive words, one a line
    #[arg(long)]
    positive: PathBuf,
    /// Negative words, one a line
    #[arg(long)]
    negative: PathBuf,
    /// JSONL with a `text` a line
    #[arg(long)]
    texts: PathBuf,
    /// YAML file to write
    #[arg(long)]
    out: PathBuf,
}

/// Keeps the words that occur at least three times in the corpus.
pub fn lexicon(args: &LexiconArgs) -> anyhow::Result<()> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for text in super::blank::texts(&args.texts)? {
        for word in text.split(|c: char| !c.is_ascii_alphabetic() && c != '\'') {
            *counts.entry(word.to_lowercase()).or_default() += 1;
        }
    }
    let mut out = String::from(
        "# Opinion words that the story corpus uses, a selection from the Opinion Lexicon by Minqing Hu\n\
         # and Bing Liu (KDD 2004), licence CC BY 4.0. Defines the gold reward `cheerful`.\n",
    );
    for (key, path) in [("positive", &args.positive), ("negative", &args.negative)] {
        let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
        let text = String::from_utf8_lossy(&bytes);
        let all: HashSet<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with(';')).collect();
        let words: Vec<&String> =
            counts.iter().filter(|(w, n)| **n >= 3 && all.contains(w.as_str())).map(|(w, _)| w).collect();
        out += &format!("{key}:\n");
        for line in words.chunks(12) {
            for word in line {
                out += &format!("  - \"{word}\"\n");
            }
        }
    }
    std::fs::write(&args.out, out)?;
    Ok(())
}
