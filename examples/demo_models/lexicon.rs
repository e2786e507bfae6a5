//! The opinion words that a corpus uses.

use anyhow::Context;
use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct Args {
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
pub fn run(args: &Args) -> anyhow::Result<()> {
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
