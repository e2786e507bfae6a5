//! One prompt under several weights of one reward model, side by side, and what the weights do on average.
//!
//! The seed is the same in every column. Below the texts stand the mean gold rewards (open functions of a text, see
//! models/README.md) over a small batch of held-out prompts.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Parser;
use comfy_table::presets::UTF8_FULL;
use comfy_table::{ContentArrangement, Table};
use genarm::config::{Config, Overrides};
use genarm::decode::text_generator::{TextGenerator, TextRequest, seed_of};
use genarm::eval::gold::{Gold, Lexicon};
use genarm::eval::stats::Mean;
use genarm::sampling::params::SamplingParams;
use genarm::session::{Session, SessionGenerator};

#[derive(Debug, Parser)]
#[command(about = "Continue one prompt under several weights, side by side")]
struct Args {
    /// What to continue
    #[arg(default_value = "Once upon a time, there was a little girl named Lily.")]
    prompt: String,
    /// Configuration
    #[arg(long, default_value = "models/demo.yaml")]
    config: PathBuf,
    /// JSONL with a `prompt` a line, to average over
    #[arg(long, default_value = "models/prompts.jsonl")]
    prompts: PathBuf,
    /// ARM whose weight is turned
    #[arg(long, default_value = "cheerful")]
    arm: String,
    /// Weights, one a column
    #[arg(long, value_delimiter = ',', allow_negative_numbers = true, default_values_t = [0.0, 0.5, 1.0, 2.0])]
    weights: Vec<f32>,
    /// Prompts to average over
    #[arg(long, default_value_t = 16)]
    batch: usize,
    /// Tokens of a text at most
    #[arg(long, short, default_value_t = 64)]
    n_predict: usize,
    /// Seed of all draws
    #[arg(long, default_value_t = 1)]
    seed: u32,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let config = Config::load(Some(&args.config), &Overrides::default())?;
    let arm = config.arm_index(&args.arm)?;
    let n_arms = config.arms.len();
    let session = Session::open_slots(config, 32, &mut |_, _| true)?;

    let mut texts = vec![args.prompt.clone()];
    texts.extend(prompts(&args.prompts, args.batch)?);
    let tokens = texts.iter().map(|text| session.text_prompt(text)).collect::<Result<Vec<_>, _>>()?;
    // Nothing but temperature 1: the distribution that the law describes.
    let params = SamplingParams { temp: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, ..SamplingParams::default() };
    let mut generator = SessionGenerator::new(session, params, tokens, args.n_predict);

    let request = |weight: f32, prompt: usize| {
        let mut weights = vec![0.0; n_arms];
        weights[arm] = weight;
        TextRequest { prompt, weights, seed: seed_of(args.seed, prompt, 0), candidates: None }
    };
    let of_weight = |weight: &f32| (0..texts.len()).map(|prompt| request(*weight, prompt)).collect::<Vec<_>>();
    let requests: Vec<_> = args.weights.iter().flat_map(of_weight).collect();
    let made = generator.generate(&requests, &mut || ())?;
    let columns: Vec<Vec<String>> =
        made.chunks(texts.len()).map(|column| column.iter().map(|text| text.text.clone()).collect()).collect();
    println!("{}\n{}", args.prompt, table(&args, &columns));
    println!(
        "mean gold rewards ± standard error over {} held-out prompts, temperature 1, seed {}",
        args.batch, args.seed
    );
    Ok(())
}

fn prompts(path: &Path, n: usize) -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let prompt = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line)?;
        value["prompt"].as_str().map(str::to_owned).context("a line has no `prompt`")
    };
    text.lines().take(n).map(prompt).collect()
}

/// One column per weight: the text, then the rewards. The first text of a column continues the prompt, the others are
/// the batch.
fn table(args: &Args, columns: &[Vec<String>]) -> Table {
    let lexicon = Lexicon::default();
    let width = terminal_size::terminal_size().map_or(100, |(width, _)| width.0);
    let mut table = Table::new();
    table.load_style(UTF8_FULL).set_content_arrangement(ContentArrangement::DynamicFullWidth).set_width(width);
    let title = |weight: &f32| match *weight {
        0.0 => "the base alone".to_owned(),
        weight => format!("{} = {weight}", args.arm),
    };
    table.set_header(args.weights.iter().map(title));
    table.add_row(columns.iter().map(|column| column[0].trim().replace('\n', " ")));
    let rewards = |column: &Vec<String>| {
        let mean =
            |gold: Gold| Mean::of(&column[1..].iter().map(|text| gold.reward(text, &lexicon)).collect::<Vec<_>>());
        Gold::ALL.map(|gold| format!("{:<10}{}", gold.name(), mean(gold))).join("\n")
    };
    table.add_row(columns.iter().map(rewards));
    table
}
