//! `genarm accuracy`

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use serde_json::json;

use super::load::{ConfigArgs, catch_interrupts, open, progress};
use super::measure::{beta_r, guard, need_arms, provenance, table, write_whole};
use super::output::print;
use crate::config::{ArmSpec, Config, Reference};
use crate::eval::accuracy::{Bucket, PairScore, Reliability, accuracy, by_length, reliability};
use crate::eval::plots::{ReliabilityChart, write};
use crate::eval::stats::Proportion;
use crate::expert::{Expert, ExpertError, Token};
use crate::files::appended;
use crate::guidance::score::log_prob_of;
use crate::session::{PromptRenderer, Session};
use crate::train::pairs::{self, Counts, Example};
use crate::train::render;
use crate::train::settings::{Overlong, Settings, Wire};

/// Measure how often each ARM ranks preference pairs as people did
///
/// Pairs are read as `genarm train` reads them. The table includes the base: what an ARM adds to it is what it has
/// learned.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Preference pairs: JSONL (or .gz) in any of the forms that `genarm train` reads
    #[arg(long, value_name = "FILE")]
    pairs: PathBuf,
    /// Do not score the end-of-sequence token after the responses
    #[arg(long)]
    no_eos: bool,
    /// Skip malformed lines, and count them
    #[arg(long)]
    skip_bad: bool,
    /// Longest prompt, in tokens
    #[arg(long, value_name = "N", default_value_t = 512)]
    max_prompt: usize,
    /// What to do with longer pairs
    #[arg(long, value_name = "RULE", default_value = "drop")]
    overlong: Overlong,
    /// How conversations are rendered: auto (as in chat: each model's own template), a built-in name, a file, or inline
    /// Jinja
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
struct ModelRow {
    name: String,
    counts: Counts,
    by_sum: Proportion,
    by_mean: Proportion,
    by_length: Vec<Bucket>,
    reliability: Option<Reliability>,
}

impl ModelRow {
    fn of(scored: &Scored, beta: Option<f64>) -> Self {
        let pairs = &scored.pairs;
        Self {
            name: scored.name.clone(),
            counts: scored.counts.clone(),
            by_sum: accuracy(pairs, false),
            by_mean: accuracy(pairs, true),
            by_length: by_length(pairs, false),
            reliability: beta.map(|beta| reliability(pairs, beta)),
        }
    }
}

/// What one model says of the pairs.
struct Scored {
    name: String,
    pairs: Vec<PairScore>,
    counts: Counts,
    /// Ctrl-C came before the last pair.
    stopped: bool,
}

/// Measures and prints. After Ctrl-C that is what was scored until then.
pub fn run(args: Args) -> anyhow::Result<()> {
    let config = args.config.resolve()?;
    need_arms(&config)?;
    let combined = |arm: &&ArmSpec| arm.reading.is_persona() || arm.reference != Reference::None;
    if let Some(arm) = config.arms.iter().find(combined) {
        let problem = "has a reference or a prompt of its own, and accuracy measures models alone; use genarm score";
        return Err(super::Usage(format!("ARM \"{}\" {problem}", arm.name)).into());
    }
    let mut about = provenance(
        "accuracy",
        &[&config],
        json!({"pairs": args.pairs, "eos": !args.no_eos, "template": args.template}),
    )?;
    let charts = [".svg", ".png"].map(|ending| Some(appended(args.plot.as_deref()?, ending)));
    let [svg, png] = charts.each_ref().map(Option::as_deref);
    let mut inputs = vec![("the pairs", args.pairs.as_path())];
    inputs.extend(Some(("the template", Path::new(&args.template))).filter(|(_, path)| path.is_file()));
    guard(&[("--out", args.out.as_deref()), ("--plot", svg), ("--plot", png)], &inputs, &[&config])?;
    catch_interrupts()?;
    let mut session = open(config.clone())?;
    let (mut rows, mut scores, mut stopped) = (Vec::new(), Vec::new(), false);
    for model in 0..=config.arms.len() {
        let scored = score_model(&mut session, &config, model, &args)?;
        let beta = model.checked_sub(1).and_then(|arm| beta_r(&config.arms[arm]));
        stopped = scored.stopped;
        if stopped {
            let (n, all) = (scored.pairs.len(), scored.counts.used);
            eprintln!("interrupted: {n} of {all} pairs scored with {}; what is known so far:", scored.name);
        }
        if !scored.pairs.is_empty() {
            rows.push(ModelRow::of(&scored, beta));
            scores.push((scored.name, scored.pairs));
        }
        if stopped {
            break;
        }
    }
    about["interrupted"] = stopped.into();
    show(&args, &about, &rows, &scores)?;
    if stopped { Err(super::Interrupted.into()) } else { Ok(()) }
}

/// Writes and prints what was measured.
fn show(
    args: &Args,
    about: &serde_json::Value,
    rows: &[ModelRow],
    scores: &[(String, Vec<PairScore>)],
) -> anyhow::Result<()> {
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
    print(&text(rows))
}

/// Scores all pairs under the base (0) or an ARM (from 1), each in its own words.
fn score_model(session: &mut Session, config: &Config, model: usize, args: &Args) -> anyhow::Result<Scored> {
    let hook = session.hook().clone();
    let prompts = Arc::clone(session.prompts());
    match model.checked_sub(1) {
        None => {
            let (examples, counts) = examples(config, &prompts, model, session.base().n_ctx(), args)?;
            score_pairs("base", session.base(), &examples, counts)
        }
        Some(i) => {
            let arm = &config.arms[i];
            let Some(at) = hook.with_guide(|guide| guide.expert_of(i)) else {
                // The ARM is the base itself.
                let (examples, counts) = examples(config, &prompts, model, session.base().n_ctx(), args)?;
                return score_pairs(&arm.name, session.base(), &examples, counts);
            };
            hook.with_guide(|guide| {
                let expert = guide.experts()[at].expert();
                let (examples, counts) = examples(config, &prompts, model, expert.n_ctx(), args)?;
                score_pairs(&arm.name, expert, &examples, counts)
            })
        }
    }
}

/// The pairs in the tokens of one model. Its template is that of the command line, else the one through which it is
/// talked with.
fn examples(
    config: &Config,
    prompts: &PromptRenderer,
    model: usize,
    n_ctx: usize,
    args: &Args,
) -> anyhow::Result<(Vec<Example>, Counts)> {
    let wire = Wire {
        backbone: Some(config.base.model.clone()),
        pairs: Some(vec![args.pairs.clone().into()]),
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
    Ok(pairs::load(&settings, prompts.vocab_of(model), &template, n_ctx)?)
}

fn score_pairs(name: &str, expert: &mut dyn Expert, examples: &[Example], counts: Counts) -> anyhow::Result<Scored> {
    let bar = progress(&format!("scoring with {name}"), examples.len() as u64);
    let mut scored =
        Scored { name: name.to_owned(), pairs: Vec::with_capacity(examples.len()), counts, stopped: false };
    for (i, example) in examples.iter().enumerate() {
        match score_pair(expert, example) {
            Ok(pair) => scored.pairs.push(pair),
            Err(ExpertError::Interrupted) => {
                scored.stopped = true;
                break;
            }
            Err(e) => return Err(anyhow::Error::from(e).context(format!("{name}, pair {}", i + 1))),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(scored)
}

fn score_pair(expert: &mut dyn Expert, example: &Example) -> Result<PairScore, ExpertError> {
    let tokens = |ids: &[u32]| ids.iter().map(|id| *id as Token).collect::<Vec<_>>();
    let (prompt, chosen, rejected) = (tokens(&example.prompt), tokens(&example.chosen), tokens(&example.rejected));
    Ok(PairScore {
        chosen: log_prob_of(expert, &prompt, &chosen)?,
        rejected: log_prob_of(expert, &prompt, &rejected)?,
        n_chosen: chosen.len(),
        n_rejected: rejected.len(),
    })
}

fn text(rows: &[ModelRow]) -> String {
    let row = |row: &ModelRow| {
        let error =
            row.reliability.as_ref().map_or("–".into(), |r| format!("{:.3} (β_r {})", r.error, r.beta as f32));
        vec![row.name.clone(), row.by_sum.n.to_string(), row.by_sum.to_string(), row.by_mean.to_string(), error]
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
        let share = |row: &ModelRow| {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TableExpert;

    /// An expert of three tokens that is stopped, or gives no numbers, after some calls.
    struct Spoilt {
        inner: TableExpert,
        good_calls: usize,
        stopped: bool,
    }

    impl Expert for Spoilt {
        fn n_vocab(&self) -> usize {
            self.inner.n_vocab()
        }

        fn n_ctx(&self) -> usize {
            self.inner.n_ctx()
        }

        fn advance(&mut self, history: &[Token], k: usize) -> Result<&[f32], ExpertError> {
            match self.good_calls.checked_sub(1) {
                Some(left) => self.good_calls = left,
                None if self.stopped => return Err(ExpertError::Interrupted),
                None => self.inner = TableExpert::new(3, 100, |_, logits| logits.fill(f32::NAN)),
            }
            self.inner.advance(history, k)
        }

        fn prepare(&mut self, history: &[Token], k: usize) {
            self.inner.prepare(history, k);
        }

        fn start(&mut self) -> bool {
            self.inner.start()
        }

        fn n_cached(&self, history: &[Token]) -> usize {
            self.inner.n_cached(history)
        }

        fn read(&mut self) -> Result<(), ExpertError> {
            self.inner.read()
        }

        fn forget(&mut self) {
            self.inner.forget();
        }

        fn n_decoded(&self) -> u64 {
            self.inner.n_decoded()
        }
    }

    fn score(good_calls: usize, stopped: bool) -> anyhow::Result<Scored> {
        let inner = TableExpert::new(3, 100, |_, logits| logits.copy_from_slice(&[0.0, 1.0, 2.0]));
        let mut expert = Spoilt { inner, good_calls, stopped };
        let (chosen, rejected) = (vec![2], vec![1]);
        let examples = vec![Example { prompt: vec![0], chosen, rejected, adapted_from: 0, signs: Vec::new() }; 4];
        score_pairs("kind", &mut expert, &examples, Counts::default())
    }

    #[test]
    fn what_was_scored_before_ctrl_c_is_kept() {
        let scored = score(5, true).unwrap();
        assert_eq!((scored.pairs.len(), scored.stopped), (2, true), "two calls for a pair");
        assert_eq!(ModelRow::of(&scored, Some(1.0)).by_sum.n, 2);
        let whole = score(8, true).unwrap();
        assert_eq!((whole.pairs.len(), whole.stopped), (4, false));
    }

    #[test]
    fn a_model_that_gives_no_numbers_is_named() {
        let message = format!("{:#}", score(2, false).err().unwrap());
        assert!(message.starts_with("kind, pair 2: its logits hold NaN"), "{message}");
    }
}
