//! The recipe of the models in `models/`: corpus, tokenizer, blank models and labelled pairs.
//!
//! `scripts/make-models` calls these steps, with `genarm train` between them.

mod blank;
mod corpus;
mod lexicon;
mod sample;

use clap::Parser;
use std::path::PathBuf;

#[derive(Debug, Parser)]
#[command(about = "Steps of the demo models' recipe")]
enum Step {
    /// Split story files into training texts, held-out texts and held-out prompts
    Corpus {
        /// Text files; one without capitals gets them from what the others teach
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Folder to write stories.jsonl, held-out.jsonl and prompts.jsonl to
        #[arg(long)]
        out: PathBuf,
    },
    /// Train a byte-level BPE tokenizer
    Tokenizer {
        /// JSONL with a `text` a line
        #[arg(long)]
        texts: PathBuf,
        /// Tokens
        #[arg(long, default_value_t = 2048)]
        n_vocab: usize,
        /// tokenizer.json to write
        #[arg(long)]
        out: PathBuf,
    },
    /// Write a llama GGUF with random weights and a tokenizer
    Blank(blank::Args),
    /// Sample continuations and make preference pairs by a gold reward
    Pairs(sample::PairArgs),
    /// Print the mean gold rewards of continuations, guided or not
    Score(sample::ScoreArgs),
    /// List the opinion words that occur in the corpus, as YAML
    Lexicon(lexicon::Args),
}

fn main() -> anyhow::Result<()> {
    match Step::parse() {
        Step::Corpus { files, out } => corpus::run(&files, &out),
        Step::Tokenizer { texts, n_vocab, out } => blank::tokenizer(&texts, n_vocab, &out),
        Step::Blank(args) => blank::run(&args),
        Step::Pairs(args) => sample::pairs(&args),
        Step::Score(args) => sample::score(&args),
        Step::Lexicon(args) => lexicon::run(&args),
    }
}
