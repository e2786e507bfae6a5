//! `genarm accuracy`

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;
use serde_json::json;

use super::generate::print;
use super::load::{ConfigArgs, catch_interrupts, open, progress};
use super::measure::{beta_r, need_arms, provenance, table, write_whole};
use crate::config::Config;
use crate::eval::accuracy::{Bucket, PairScore, Reliability, accuracy, by_length, reliability};
use crate::eval::plots::{ReliabilityChart, write};
use crate::eval::score::log_prob_of;
use crate::eval::stats::Share;
use crate::expert::{Expert, Token};
use crate::session::{Prompts, Session};
use crate::train::pairs::{self, Counts, Example};
use crate::train::render;
use crate::train::settings::{Overlong, Settings, Wire};

/// Measure how often each ARM ranks preference pairs as people did
///
/// Pairs are read as `genarm train` reads them. The base stands in the table too: what an ARM adds is what it has learned.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Preference pairs: JSONL (or .gz) in any of the forms that `genarm train` reads
    #[arg(long, value_name = "FILE")]
    pairs: PathBuf,
    /// Do not score the end-of-sequence token after the responses
    #[arg(long)]
    no_eos: bool,
    /// Leave malformed lines out, and count them
    #[arg(long)]
    skip_bad: bool,
    /// Longest prompt, in tokens
    #[arg(long, value_name = "N", default_value_t = 512)]
    max_prompt: usize,
    /// What becomes of longer pairs
    #[arg(long, value_name = "RULE", default_value = "drop")]
    overlong: Overlong,
    /// How conversations are rendered: auto (as in chat: each model's own template), a built-in name, a file, or inline Jinja
    #[arg(long, value_name = "TEMPLATE", default_value = "auto")]
    template: String,
    /// Draw the reliability curves: FILE.svg and FILE.png
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Write the score of each pair: JSONL
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigArgs,
}

/// A model's row.
#[derive(Serialize)]
struct Row {
    name: String,
    counts: Counts,
    by_sum: Share,
    by_mean: Share,
    by_length: Vec<Bucket>,
    reliability: Option<Reliability>,
}

/// Measures and prints.
pub fn run(args: Args) -> anyhow::Result<()> {
    let config = args.config.resolve()?;
    need_arms(&config)?;
    let about = provenance(
        "accuracy",
        &[&config],
        json!({"pairs": args.pairs, "eos": !args.no_eos, "template": args.template}),
    )?;
    catch_interrupts()?;
    let mut session = open(config.clone())?;
    let (mut rows, mut scores) = (Vec::new(), Vec::new());
    for model in 0..=config.arms.len() {
        let (name, pairs, counts) = score_model(&mut session, &config, model, &args)?;
        let beta = model.checked_sub(1).and_then(|arm| beta_r(&config.arms[arm]));
        rows.push(Row {
            counts,
            by_sum: accuracy(&pairs, false),
            by_mean: accuracy(&pairs, true),
            by_length: by_length(&pairs, false),
            reliability: beta.map(|beta| reliability(&pairs, beta)),
            name: name.clone(),
        });
        scores.push((name, pairs));
    }
    if let Some(path) = &args.out {
        let line = |(name, pairs): &(String, Vec<PairScore>)| {
            let one = |(i, pair): (usize, &PairScore)| {
                Ok(format!("{}\n", json!({"model": name, "pair": i, "score": serde_json::to_value(pair)?})))
            };
            pairs.iter().enumerate().map(one).collect::<anyhow::Result<String>>()
        };
        let lines = scores.iter().map(line).collect::<anyhow::Result<String>>()?;
        write_whole(path, &format!("{about}\n{lines}"))?;
    }
    if let Some(stem) = &args.plot {
        let curves =
            rows.iter().filter_map(|row| Some((row.name.clone(), row.reliability.clone()?))).collect::<Vec<_>>();
        write(&ReliabilityChart(&curves), stem).map_err(|e| anyhow::anyhow!("{}: {e}", stem.display()))?;
    }
    if args.json {
        return print(&format!("{}\n", serde_json::to_string_pretty(&json!({"about": about, "models": rows}))?));
    }
    print(&text(&rows))
}

/// Scores all pairs under the base (0) or an ARM (from 1), each in its own words.
fn score_model(
    session: &mut Session,
    config: &Config,
    model: usize,
    args: &Args,
) -> anyhow::Result<(String, Vec<PairScore>, Counts)> {
    let hook = session.hook().clone();
    let prompts = Arc::clone(session.prompts());
    match model.checked_sub(1) {
        None => {
            let (examples, counts) = examples(config, &prompts, model, session.base().n_ctx(), args)?;
            Ok(("base".into(), score_pairs("base", session.base(), &examples)?, counts))
        }
        Some(i) => {
            let arm = &config.arms[i];
            hook.with_guide(|guide| {
                let expert = guide.arms()[i].expert();
                let (examples, counts) = examples(config, &prompts, model, expert.n_ctx(), args)?;
                Ok((arm.name.clone(), score_pairs(&arm.name, expert, &examples)?, counts))
            })
        }
    }
}

/// The pairs in the tokens of one model. Its template is that of the command line, else the one through which it is talked with.
fn examples(
    config: &Config,
    prompts: &Prompts,
    model: usize,
    n_ctx: usize,
    args: &Args,
) -> anyhow::Result<(Vec<Example>, Counts)> {
    let wire = Wire {
        backbone: Some(config.base.model.clone()),
        pairs: Some(args.pairs.clone()),
        out: Some(PathBuf::new()),
        no_eos: args.no_eos,
        skip_bad: args.skip_bad,
        max_prompt: Some(args.max_prompt),
        max_len: Some(n_ctx),
        overlong: Some(args.overlong),
        ..Wire::default()
    };
    let settings = Settings::try_from(wire)?;
    let template = render::template(&args.template, prompts.template(model).cloned())?;
    Ok(pairs::load(&settings, prompts.vocab(), &template, n_ctx)?)
}

fn score_pairs(name: &str, expert: &mut dyn Expert, examples: &[Example]) -> anyhow::Result<Vec<PairScore>> {
    let bar = progress(&format!("scoring with {name}"), examples.len() as u64);
    let tokens = |ids: &[u32]| ids.iter().map(|id| *id as Token).collect::<Vec<_>>();
    let mut scores = Vec::with_capacity(examples.len());
    for example in examples {
        let prompt = tokens(&example.prompt);
        let (chosen, rejected) = (tokens(&example.chosen), tokens(&example.rejected));
        scores.push(PairScore {
            chosen: log_prob_of(expert, &prompt, &chosen)?,
            rejected: log_prob_of(expert, &prompt, &rejected)?,
            n_chosen: chosen.len(),
            n_rejected: rejected.len(),
        });
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(scores)
}

fn text(rows: &[Row]) -> String {
    let row = |row: &Row| {
        let error =
            row.reliability.as_ref().map_or("–".into(), |r| format!("{:.3} (β_r {})", r.error, r.beta as f32));
        vec![row.name.clone(), row.counts.used.to_string(), row.by_sum.to_string(), row.by_mean.to_string(), error]
    };
    let header = ["model", "pairs", "accuracy [95 %]", "per token [95 %]", "calibration error"];
    let mut out = table(&header, rows.iter().map(row).collect());
    let Some(first) = rows.first() else { return out };
    let _ = writeln!(out, "\nby the longer response's tokens");
    let mut tops: Vec<usize> = rows.iter().flat_map(|row| row.by_length.iter().map(|b| b.to)).collect();
    tops.sort_unstable();
    tops.dedup();
    let names: Vec<&str> = std::iter::once("tokens").chain(rows.iter().map(|row| row.name.as_str())).collect();
    let line = |top: &usize| {
        let share = |row: &Row| {
            let bucket = row.by_length.iter().find(|b| b.to == *top);
            bucket.map_or("–".into(), |b| format!("{} of {}", b.accuracy, b.accuracy.n))
        };
        let from = if *top == 16 { 1 } else { top / 2 + 1 };
        std::iter::once(format!("{from}–{top}")).chain(rows.iter().map(share)).collect()
    };
    out += &table(&names, tops.iter().map(line).collect());
    let _ = writeln!(out, "\n{}", first.counts);
    for row in rows {
        let Some(curve) = &row.reliability else { continue };
        let _ = writeln!(out, "\nreliability of {} (confidence → share ranked rightly)", row.name);
        for bin in &curve.bins {
            let bar = "█".repeat((bin.accuracy.share * 40.0).round() as usize);
            let _ = writeln!(out, "  {:.2} → {:<18} {bar}", bin.confidence, bin.accuracy.to_string());
        }
    }
    out
}
