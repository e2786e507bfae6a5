//! q of every token of a base, exactly: what translated guidance is measured by.
//!
//!     cargo run --release --example exact_translation -- --base gemma-3-270m.gguf --arm SmolLM2-135M.gguf \
//!         --prompt "Once upon a time" --response ", there was a"
//!
//! q is the probability that the base's own tokens of the ARM's text go on with this one, found by a search over the
//! ARM's texts. One answer takes some hundred decodes.

mod answer;
mod answers;
mod base_row;
mod compare;
mod contexts;
mod models;
mod path;
mod prospects;
mod question;
mod reading;
mod report;
mod search;
mod token_bytes;
mod tree;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use clap::Parser;
use genarm::Token;
use genarm::engine::Sequence;
use genarm::engine::llama::{Model, Vocab};

use self::answer::Answer;
use self::answers::{Answers, Asked};
use self::base_row::BaseRow;
use self::compare::Models;
use self::contexts::{Case, Place};
use self::models::Spelling;
use self::question::{Limits, Question};
use self::reading::{CONTINUATIONS, Reader};
use self::report::Outcome;
use self::search::search;
use self::token_bytes::TokenBytes;

#[derive(Debug, Parser)]
#[command(about = "Find what an ARM of another vocabulary gives each token of a base, exactly")]
struct Args {
    /// The base: only its vocabulary is used
    #[arg(long, value_name = "FILE")]
    base: PathBuf,
    /// The ARM
    #[arg(long, value_name = "FILE")]
    arm: PathBuf,
    /// JSONL of contexts, each with `name`, `prompt`, `response` and perhaps `ahead`
    #[arg(long, value_name = "FILE", conflicts_with_all = ["prompt", "response"])]
    contexts: Option<PathBuf>,
    /// Only contexts whose names contain this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// The ARM's prompt
    #[arg(long, default_value = "")]
    prompt: String,
    /// The response so far
    #[arg(long, default_value = "")]
    response: String,
    /// What the response went on with when the base's tokens of it were chosen
    #[arg(long, value_name = "TEXT", default_value = "")]
    ahead: String,
    /// The base's tokens of the response, instead of it
    #[arg(long, value_name = "IDS", value_delimiter = ',', conflicts_with = "response")]
    response_tokens: Vec<i32>,
    /// The share of the probability that may stay open
    #[arg(long, value_name = "P", default_value_t = 1e-4)]
    rest: f64,
    /// The share of the probability that may be wrong, by the search's own estimate
    #[arg(long, value_name = "P", default_value_t = 1e-3)]
    doubt: f64,
    /// Decodes before that estimate counts
    #[arg(long, value_name = "N", default_value_t = 400)]
    min_decodes: usize,
    /// Decodes at most
    #[arg(long, value_name = "N", default_value_t = 2000)]
    max_decodes: usize,
    /// Paths with a smaller share are not extended
    #[arg(long, value_name = "P", default_value_t = 1e-6)]
    grain: f64,
    /// Threads
    #[arg(long, value_name = "N", default_value_t = 2)]
    threads: u32,
    /// Tokens to print
    #[arg(long, value_name = "N", default_value_t = 20)]
    top: usize,
    /// Compare guided distributions with the exact one, under these weights
    #[arg(long, value_name = "W", value_delimiter = ',', num_args = 0.., default_missing_value = "0.5,1")]
    compare: Vec<f32>,
    /// Keep the answers in this file, and do not search for those that are there
    #[arg(long, value_name = "FILE")]
    answers: Option<PathBuf>,
    /// Keep what the two vocabularies are to each other in this file, for the next run
    #[arg(long, value_name = "FILE", requires = "compare")]
    lexicon: Option<PathBuf>,
    /// Print the tokens that differ most from the exact distribution under the first weight
    #[arg(long, value_name = "N", default_value_t = 0, requires = "compare")]
    explain: usize,
    /// Print a line of JSON for each context
    #[arg(long)]
    json: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let [base, arm] = [models::open(&args.base)?, models::open(&args.arm)?];
    let [base_vocab, arm_vocab] = [base.vocab(), arm.vocab()];
    let base_vocabulary = models::token_bytes(&base_vocab);
    let mut base_sequence = models::sequence(&base, args.threads)?;
    let mut searcher = Searcher::new(&args, &arm)?;
    let mut models = match args.compare.is_empty() {
        true => None,
        false => Some(Models::new(&base, &arm, args.threads, args.lexicon.as_deref())?),
    };
    let mut all = Vec::new();
    for case in cases(&args)? {
        let begun = Instant::now();
        let place = match Place::of(&case, &base_vocab) {
            Err(problem) if args.contexts.is_some() => {
                eprintln!("left out: {problem}");
                continue;
            }
            place => place?,
        };
        let base_prompt = base_vocab.tokenize_prompt(&case.prompt, &[])?;
        let row = models::row(&mut base_sequence, &[&base_prompt[..], &place.chosen].concat())?;
        let row = BaseRow::new(row, &base_vocabulary);
        let usual = arm_vocab.tokenize(place.whole_characters(), false, false)?;
        let asked = Asked { prompt: arm_vocab.tokenize_prompt(&case.prompt, &[])?, chosen: place.chosen.clone() };
        let answer = searcher.answer(&asked, &place, &usual, &base_vocab, &row)?;
        let compared = match &mut models {
            Some(models) => Some(models.compare(&asked, &usual, row.logits, &answer)?),
            None => None,
        };
        let texts = |vocab: &Vocab, tokens: &[Token]| tokens.iter().map(|token| vocab.text(&[*token], true)).collect();
        let outcome = Outcome {
            case: &case,
            tokens: [texts(&base_vocab, &place.chosen), texts(&arm_vocab, &usual)],
            answer: &answer,
            seconds: begun.elapsed().as_secs_f64(),
            divergences: compared.iter().flat_map(|c| args.compare.iter().map(|w| c.divergences(*w))).collect(),
            differences: compared
                .iter()
                .flat_map(|c| args.compare.first().map(|w| c.differences(*w, args.explain)))
                .flatten()
                .collect(),
        };
        match args.json {
            true => println!("{}", outcome.json(&base_vocab, args.top)),
            false => outcome.print(&base_vocab, args.top),
        }
        all.push((case.name.clone(), outcome.divergences));
    }
    if !args.json && models.is_some() {
        report::print_means(&all);
    }
    Ok(())
}

/// Searches, or finds the answer among those that were kept.
struct Searcher {
    vocabulary: TokenBytes,
    sequence: Sequence,
    limits: Limits,
    answers: Option<Answers>,
}

impl Searcher {
    fn new(args: &Args, arm: &Arc<Model>) -> Result<Self> {
        Ok(Self {
            vocabulary: models::token_bytes(&arm.vocab()),
            sequence: models::sequence(arm, args.threads)?,
            limits: Limits {
                rest: args.rest,
                doubt: args.doubt,
                min_decodes: args.min_decodes,
                max_decodes: args.max_decodes,
                batch: 16,
                grain: args.grain,
            },
            answers: args.answers.as_deref().map(Answers::open).transpose()?,
        })
    }

    fn answer(&mut self, asked: &Asked, place: &Place, usual: &[Token], base: &Vocab, row: &BaseRow) -> Result<Answer> {
        if let Some(answer) = self.answers.as_ref().and_then(|answers| answers.get(asked)) {
            return Ok(answer);
        }
        let spelling = Spelling::new(base, place.whole_characters())?;
        let spell = |text: &str| spelling.tokens(text);
        let mut reader = Reader::new(row.vocabulary, &spell, &place.chosen, &CONTINUATIONS);
        let question = Question {
            vocabulary: &self.vocabulary,
            prompt: &asked.prompt,
            text: &place.bytes,
            usual,
            base: &|bytes| row.going_on(bytes),
        };
        let sequence = &mut self.sequence;
        let mut decode = |history: &[Token]| models::row(sequence, history);
        let answer = search(&question, &mut reader, &mut decode, &self.limits)?;
        if let Some(answers) = &mut self.answers {
            answers.keep(asked, &answer)?;
        }
        Ok(answer)
    }
}

fn cases(args: &Args) -> Result<Vec<Case>> {
    let Some(file) = &args.contexts else {
        return Ok(vec![Case {
            name: "context".to_owned(),
            prompt: args.prompt.clone(),
            response: args.response.clone(),
            ahead: args.ahead.clone(),
            drop: 0,
            response_tokens: args.response_tokens.clone(),
        }]);
    };
    let mut cases = contexts::load(file)?;
    cases.retain(|case| args.only.as_ref().is_none_or(|part| case.name.contains(part)));
    Ok(cases)
}
