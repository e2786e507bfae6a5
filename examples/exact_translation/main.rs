//! q of every token of a base, exactly: what translated guidance is measured by.
//!
//!     cargo run --release --example exact_translation -- --base gemma-3-270m.gguf --arm SmolLM2-135M.gguf \
//!         --prompt "Once upon a time" --response ", there was a"
//!
//! q is the probability that the base's own tokens of the ARM's text go on with this one, found by a search over the ARM's
//! texts. One answer takes some hundred decodes.

mod answer;
mod contexts;
mod models;
mod question;
mod reading;
mod search;
mod token_bytes;
mod tree;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Parser;
use genarm::Token;
use genarm::engine::llama::Vocab;
use serde_json::json;

use self::answer::Answer;
use self::contexts::{Case, Place};
use self::models::{Sequences, Spelling};
use self::question::{Limits, Question};
use self::reading::{CONTINUATIONS, Next, Reader};
use self::search::search;

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
    /// Decodes at most
    #[arg(long, value_name = "N", default_value_t = 1000)]
    max_decodes: usize,
    /// Paths with a smaller share are not extended
    #[arg(long, value_name = "P", default_value_t = 1e-6)]
    grain: f64,
    /// Paths that are decoded together
    #[arg(long, value_name = "N", default_value_t = 8)]
    batch: usize,
    /// Threads
    #[arg(long, value_name = "N", default_value_t = 2)]
    threads: u32,
    /// Tokens to print
    #[arg(long, value_name = "N", default_value_t = 20)]
    top: usize,
    /// Print a line of JSON for each context
    #[arg(long)]
    json: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let [base, arm] = [models::open(&args.base)?, models::open(&args.arm)?];
    let [base_vocab, arm_vocab] = [base.vocab(), arm.vocab()];
    let vocabulary = models::token_bytes(&arm_vocab);
    let mut sequences = Sequences::new(&arm, 512, args.batch, args.threads)?;
    let limits = Limits { rest: args.rest, max_decodes: args.max_decodes, batch: args.batch, grain: args.grain };
    for case in cases(&args)? {
        let begun = Instant::now();
        let place = match Place::of(&case, &base_vocab) {
            Err(problem) if args.contexts.is_some() => {
                eprintln!("left out: {problem}");
                continue;
            }
            place => place?,
        };
        let whole_characters = place.whole_characters();
        let prompt = arm_vocab.tokenize_prompt(&case.prompt, &[])?;
        let usual = arm_vocab.tokenize(whole_characters, false, false)?;
        let spelling = Spelling::new(&base_vocab, whole_characters)?;
        let spell = |text: &str| spelling.tokens(text);
        let mut reader = Reader::new(&spell, &place.chosen, &CONTINUATIONS);
        let question = Question { vocabulary: &vocabulary, prompt: &prompt, text: &place.bytes, usual: &usual };
        let mut decoding = Duration::ZERO;
        let mut rows = |histories: &[Vec<Token>]| {
            let begun = Instant::now();
            let rows = sequences.rows(histories);
            decoding += begun.elapsed();
            rows
        };
        let answer = search(&question, &mut reader, &mut rows, &limits)?;
        if !args.json {
            let tokens = |vocab: &Vocab, tokens: &[Token]| -> Vec<_> {
                tokens.iter().map(|token| vocab.text(&[*token], true)).collect()
            };
            println!("base {:?}\nARM  {:?}", tokens(&base_vocab, &place.chosen), tokens(&arm_vocab, &usual));
        }
        report(&args, &case, &answer, &base_vocab, [begun.elapsed(), decoding]);
    }
    Ok(())
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

fn report(args: &Args, case: &Case, answer: &Answer, vocab: &Vocab, took: [Duration; 2]) {
    let text = |next: &Next| match next {
        Next::Token(token) => vocab.text(&[*token], true),
        Next::End => "(end)".to_owned(),
    };
    let id = |next: &Next| match next {
        Next::Token(token) => Some(*token),
        Next::End => None,
    };
    let [seconds, decoding] = took.map(|time| time.as_secs_f64());
    let q: Vec<_> = answer.q().into_iter().take(args.top).collect();
    if args.json {
        let q: Vec<_> = q.iter().map(|(next, q)| json!({"token": id(next), "text": text(next), "q": q})).collect();
        let line = json!({
            "name": case.name, "ln_text": answer.ln_text, "rest": answer.rest(), "unread": answer.unread,
            "disagree": answer.disagree, "control": answer.control, "changed": answer.changed, "decodes": answer.n_decodes, "seconds": seconds,
            "decoding": decoding,            "q": q,
        });
        println!("{line}");
        return;
    }
    println!("{}: {:?} {:?}", case.name, case.prompt, case.response);
    println!(
        "ln P {:.3}, rest {:.1e} (unread {:.1e}), changed {:.1e}, disagree {:.1e}, {} decodes, {seconds:.1} s ({decoding:.1} s in the ARM)",
        answer.ln_text,
        answer.rest(),
        answer.unread,
        answer.changed,
        answer.disagree,
        answer.n_decodes
    );
    for (next, q) in &q {
        let id = id(next).map_or(String::new(), |id| id.to_string());
        println!("{q:12.8} {id:>7} {:?}", text(next));
    }
    println!();
}
