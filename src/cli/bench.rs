//! `genarm bench`

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Serialize;

use super::Usage;
use super::load::{ConfigArgs, catch_interrupts, open};
use crate::config::{ArmOverride, Overrides};
use crate::eval::synthetic::{Quantization, Shape, SyntheticModel, SyntheticVocabulary, parse_shapes};
use crate::eval::timing::{Repeat, Timings, time_expert, time_guided};
use crate::expert::Token;
use crate::session::{Session, with_known_seed};

/// Measure what guidance costs
///
/// Base alone, each ARM alone and guided decoding take turns, so that a noisy machine slows all of them alike.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Make random-weight models of these sizes, such as base=1.2B,arm=180M, instead of using models
    #[arg(long, value_name = "NAME=SIZE,…")]
    synthetic: Option<String>,
    /// Quantisation of synthetic models, Q4_0 or Q4_K_M
    #[arg(long, value_name = "TYPE", default_value = "Q4_0", requires = "synthetic")]
    quantization: Quantization,
    /// GGUF whose vocabulary synthetic models have [default: 128256 tokens of bytes]
    #[arg(long, value_name = "FILE", requires = "synthetic")]
    vocabulary: Option<PathBuf>,
    /// Keep the synthetic models in this folder, as NAME.gguf
    #[arg(long, value_name = "FOLDER", requires = "synthetic")]
    keep_models: Option<PathBuf>,
    /// Tokens in the context before the measured ones
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    n_prompt: u32,
    /// Tokens to measure in each turn
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..))]
    n_gen: u32,
    /// Turns
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    repeats: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Serialize)]
struct Results {
    version: &'static str,
    threads: u32,
    n_vocab: usize,
    n_prompt: u32,
    n_gen: u32,
    repeats: u32,
    arms: Vec<String>,
    seconds_per_token: Timings,
}

/// Measures and prints.
pub fn run(mut args: Args) -> anyhow::Result<()> {
    // Lives until the measurement is over, and takes the models with it.
    let folder = tempfile::tempdir()?;
    if let Some(shapes) = args.synthetic.clone() {
        let kept = args.keep_models.clone();
        if let Some(kept) = &kept {
            std::fs::create_dir_all(kept).with_context(|| format!("cannot make the folder {}", kept.display()))?;
        }
        synthesise(&mut args, &shapes, kept.as_deref().unwrap_or(folder.path()))?;
    }
    let config = args.config.resolve()?;
    let threads = config.base.threads.unwrap_or_else(crate::engine::memory::n_physical_cores);
    catch_interrupts()?;
    let mut session = open(config)?;
    let needed = (args.n_prompt + args.n_gen) as usize;
    if needed > session.n_ctx() {
        return Err(
            Usage(format!("--n-prompt and --n-gen take {needed} tokens, the context has {}", session.n_ctx())).into()
        );
    }
    let repeats = (0..args.repeats).map(|i| measure(&mut session, &args, i)).collect::<Result<Vec<_>, _>>()?;
    let results = Results {
        version: env!("CARGO_PKG_VERSION"),
        threads,
        n_vocab: session.vocab().n_tokens(),
        n_prompt: args.n_prompt,
        n_gen: args.n_gen,
        repeats: args.repeats,
        arms: session.weights().names().to_vec(),
        seconds_per_token: Timings::of(&repeats),
    };
    let text = if args.json { serde_json::to_string_pretty(&results)? + "\n" } else { table(&results) };
    super::generate::print(&text)
}

/// Writes the models and puts them into the command line, as if the user had named them.
fn synthesise(args: &mut Args, shapes: &str, folder: &Path) -> anyhow::Result<()> {
    let overrides = &mut args.config.overrides;
    if args.config.config.is_some() || overrides.base.is_some() || !overrides.arms.is_empty() {
        return Err(Usage("--synthetic makes its own models; leave out --config, --base and --arm".into()).into());
    }
    let vocabulary = match &args.vocabulary {
        Some(path) => SyntheticVocabulary::from_gguf(path)?,
        None => SyntheticVocabulary::byte_level(128_256),
    };
    for (seed, request) in parse_shapes(shapes).map_err(|e| Usage(e.to_string()))?.into_iter().enumerate() {
        let path = folder.join(format!("{}.gguf", request.name));
        eprintln!("making {} …", request.name);
        let model = SyntheticModel {
            name: &request.name,
            shape: Shape::of_size(request.n_params, vocabulary.n_tokens() as u64)?,
            quantization: args.quantization,
            vocabulary: &vocabulary,
            n_ctx_train: 2048,
            seed: seed as u64,
        };
        model.write(&path)?;
        add(overrides, request.name, path);
    }
    Ok(())
}

fn add(overrides: &mut Overrides, name: String, model: PathBuf) {
    if name == "base" {
        overrides.base = Some(model);
    } else {
        overrides.arms.push(ArmOverride { name, model, weight: Some(1.0) });
    }
}

fn measure(session: &mut Session, args: &Args, turn: u32) -> anyhow::Result<Repeat> {
    let params = with_known_seed(&session.config().sampling);
    let mut sampler = session.sampler(&params)?;
    let n_prompt = args.n_prompt as usize;
    let n_tokens = session.vocab().n_tokens() as u32;
    // A text without meaning, other in each turn; ids from the middle of the vocabulary are ordinary tokens.
    let token = |i: u32| (n_tokens / 2 + (i * 7919 + turn * 104_729) % (n_tokens / 4)) as Token;
    let text: Vec<_> = (0..args.n_prompt + args.n_gen).map(token).collect();
    let hook = session.hook().clone();
    let n_arms = session.weights().names().len();

    let base = time_expert(session.base(), &text, n_prompt)?;
    let arm = |i: usize| hook.with_guide(|guide| time_expert(guide.arms()[i].expert(), &text, n_prompt));
    let arms = (0..n_arms).map(arm).collect::<Result<Vec<_>, _>>()?;
    // The prompts are read again, so that the guided turn starts as the others did.
    let before = hook.with_guide(|guide| guide.timing().arms);
    let guided = time_guided(session.base(), &mut sampler, &text, n_prompt)?;
    let in_arms = hook.with_guide(|guide| guide.timing().arms) - before;
    let n = f64::from(args.n_gen);
    // The first draw, after the prompt, is in the sampler's time and not in the guided one: one in n_gen + 1.
    let overhead = sampler.elapsed().saturating_sub(in_arms).as_secs_f64() / (n + 1.0);
    Ok(Repeat { base, arms, guided: guided.as_secs_f64() / n, overhead })
}

fn table(results: &Results) -> String {
    let times = &results.seconds_per_token;
    let mut out = String::new();
    let mut row = |name: &str, seconds: f64| {
        let _ = writeln!(out, "{name:<28} {:>9.2} tokens/s {:>9.3} ms", 1.0 / seconds, seconds * 1e3);
    };
    row("base alone", times.base);
    for (name, seconds) in results.arms.iter().zip(&times.arms) {
        row(&format!("ARM {name} alone"), *seconds);
    }
    row("serial ideal", times.base + times.arms.iter().sum::<f64>());
    row("guided", times.guided);
    let _ = writeln!(out, "{:<28} {:>9.3}", "guided / ideal", times.guided_to_ideal);
    let (micros, share) = (times.overhead * 1e6, times.overhead_share * 100.0);
    let _ = writeln!(out, "{:<28} {micros:>9.0} µs a token, {share:.2} % of the guided time", "combination + sampling");
    let Results { repeats, n_gen, n_prompt, threads, n_vocab, .. } = results;
    let _ = writeln!(
        out,
        "\nmedians of {repeats} interleaved turns of {n_gen} tokens after {n_prompt}; {threads} threads, {n_vocab} tokens"
    );
    out
}
