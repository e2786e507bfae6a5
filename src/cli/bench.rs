//! `genarm bench`

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Serialize;

use super::Usage;
use super::bench_drafters::DrafterRuns;
use super::load::{ConfigArgs, catch_interrupts, open};
use super::sample::SAMPLE;
use crate::bench::inflate::{Inflated, inflate_adapter};
use crate::bench::synthetic::{
    Architecture, ModelRequest, Quantization, Shape, Size, SyntheticLora, SyntheticModel, SyntheticVocabulary,
    parse_shapes,
};
use crate::bench::timing::{Repeat, StepTimes, median, own_text, time_expert, time_guided};
use crate::config::{ArmSpec, Config, LoraSpec, Speculate, Switch};
use crate::expert::Token;
use crate::guidance::Arm;
use crate::session::{Session, with_known_seed};

/// Measure what guidance costs
///
/// Base alone, each ARM alone and guided decoding take turns, so that a noisy machine slows all of them alike. Experts
/// on the same weights are measured in contexts of their own, as rows of one batch, and as a batch of as many rows
/// without adapters.
///
/// With --drafters, or where the configuration has a gate, texts are generated: plainly, with the gate, and with each
/// drafter. The gate is approximate, so what it loses (KL to exact guidance) stands below the speeds.
///
/// With --noise, nothing is timed: a text is read in all ways in which texts are batched, with and without flash
/// attention, and the differences of the base's logits are printed. ARMs that share the base's batches are rows beside
/// it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Make random-weight models of these sizes, such as base=1.2B,arm=180M, instead of using models; r8 is a LoRA of
    /// rank 8 on the base
    #[arg(long, value_name = "NAME=SIZE,…")]
    synthetic: Option<String>,
    /// Quantisation of synthetic models, Q4_0 or Q4_K_M
    #[arg(long, value_name = "TYPE", default_value = "Q4_0", requires = "synthetic")]
    quantization: Quantization,
    /// Architecture of synthetic models, llama or lfm2 (a hybrid)
    #[arg(long, value_name = "NAME", default_value = "llama", requires = "synthetic")]
    architecture: Architecture,
    /// GGUF whose vocabulary the synthetic models get [default: 128256 tokens of bytes]
    #[arg(long, value_name = "FILE", requires = "synthetic")]
    vocabulary: Option<PathBuf>,
    /// Grow the models of --from to these sizes, such as base=1.1B,arm=125M (arm is every ARM without a size of its
    /// own): they compute what they did at a large model's cost. ARMs with weight 0 are left out
    #[arg(long, value_name = "NAME=SIZE,…", requires = "from", conflicts_with = "synthetic")]
    inflate: Option<String>,
    /// Preferences whose llama models are grown
    #[arg(long, value_name = "FILE", requires = "inflate")]
    from: Option<PathBuf>,
    /// Compare drafters instead: words of --speculate, such as off,auto,backbone,lookup. Each continues every --prompt
    #[arg(long, value_name = "WORD,…", value_delimiter = ',')]
    drafters: Vec<Speculate>,
    /// Prompt of the drafters' texts; repeatable
    #[arg(long, value_name = "TEXT", requires = "drafters")]
    prompt: Vec<String>,
    /// Measure instead how far logits depend on the way in which this text is batched
    #[arg(long, value_name = "FILE", conflicts_with_all = ["drafters", "synthetic", "inflate"])]
    noise: Option<PathBuf>,
    /// Tokens of that text at most
    #[arg(
        long,
        value_name = "N",
        default_value_t = 2048,
        requires = "noise",
        value_parser = clap::value_parser!(u32).range(1..),
    )]
    noise_tokens: u32,
    /// Keep the models that are made in this folder
    #[arg(long, value_name = "FOLDER")]
    keep_models: Option<PathBuf>,
    /// Prompt tokens
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    n_prompt: u32,
    /// Tokens to generate per turn
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
    seconds_per_token: StepTimes,
    #[serde(skip_serializing_if = "Option::is_none")]
    shared_batch: Option<SharedTimings>,
}

/// Guided decoding with the experts as rows of one batch.
#[derive(Serialize)]
struct SharedTimings {
    /// Seconds a token.
    guided: f64,
    /// The same rows without adapters: what the batch itself costs.
    plain_rows: f64,
    /// How many times as fast as with contexts of their own; the median of the turns' ratios.
    speedup: f64,
    /// The cost of the adapters; the median of the turns' ratios.
    to_plain_rows: f64,
}

/// Measures and prints.
pub fn run(args: Args) -> anyhow::Result<()> {
    // Lives until the measurement is over, and takes the models with it.
    let folder = tempfile::tempdir()?;
    if let Some(kept) = &args.keep_models {
        std::fs::create_dir_all(kept).with_context(|| format!("cannot create the folder {}", kept.display()))?;
    }
    let made = args.keep_models.as_deref().unwrap_or(folder.path());
    let config = match (args.synthetic.clone(), &args.inflate) {
        (Some(shapes), _) => synthesise(&args, &shapes, made)?,
        (None, Some(sizes)) => inflated(&args, sizes, made)?,
        (None, None) => args.config.resolve()?,
    };
    let threads = config.base.threads.unwrap_or_else(crate::engine::threads::n_cores);
    catch_interrupts()?;
    if let Some(text) = &args.noise {
        return super::bench_noise::run(&config, text, args.noise_tokens as usize, args.json);
    }
    if !args.drafters.is_empty() || config.guidance.gate.is_some() {
        let plan =
            DrafterRuns { words: &args.drafters, prompts: &args.prompt, n_gen: args.n_gen, repeats: args.repeats };
        return super::bench_drafters::run(config, &plan, args.json);
    }
    let mut apart = open(Config { share_batch: Switch::Off, ..config.clone() })?;
    let needed = (args.n_prompt + args.n_gen) as usize;
    if needed > apart.n_ctx() {
        return Err(
            Usage(format!("--n-prompt and --n-gen take {needed} tokens, the context has {}", apart.n_ctx())).into()
        );
    }
    let mut shared = if apart.shared().is_empty() { None } else { Some(open_shared(&config)?) };
    let (mut repeats, mut rows) = (Vec::new(), Vec::new());
    for turn in 0..args.repeats {
        let repeat = measure(&mut apart, &args, turn)?;
        if let Some([together, plain]) = &mut shared {
            let (guided, _) = measure_guided(together, &args, turn)?;
            let (plain, _) = measure_guided(plain, &args, turn)?;
            rows.push([guided, plain, repeat.guided / guided, guided / plain]);
        }
        repeats.push(repeat);
    }
    let over = |i: usize| median(rows.iter().map(|row| row[i]).collect());
    let shared_batch = (!rows.is_empty()).then(|| SharedTimings {
        guided: over(0),
        plain_rows: over(1),
        speedup: over(2),
        to_plain_rows: over(3),
    });
    let results = Results {
        version: env!("CARGO_PKG_VERSION"),
        threads,
        n_vocab: apart.vocab().n_tokens(),
        n_prompt: args.n_prompt,
        n_gen: args.n_gen,
        repeats: args.repeats,
        arms: apart.hook().with_guide(|guide| guide.experts().iter().map(|expert| expert.name().to_owned()).collect()),
        seconds_per_token: StepTimes::of(&repeats),
        shared_batch,
    };
    let text = if args.json { serde_json::to_string_pretty(&results)? + "\n" } else { table(&results) };
    super::output::print(&text)
}

/// Two sessions whose experts are rows of one batch: as they are, and without their adapters.
fn open_shared(config: &Config) -> anyhow::Result<[Session; 2]> {
    let shared = Config { share_batch: Switch::On, ..config.clone() };
    let mut plain = shared.clone();
    plain.base.lora.clear();
    // Spare: without its adapter an ARM would be the base itself, and not be evaluated.
    plain.arms.iter_mut().for_each(|arm| (arm.spec.lora, arm.spare) = (Vec::new(), true));
    Ok([open(shared)?, open(plain)?])
}

/// Writes the models, and makes the configuration that names them.
fn synthesise(args: &Args, shapes: &str, folder: &Path) -> anyhow::Result<Config> {
    let mut overrides = args.config.overrides.clone();
    if args.config.names_models() || !overrides.arms.is_empty() {
        return Err(Usage("--synthetic makes its own models; leave out --config, --base and --arm".into()).into());
    }
    let vocabulary = match &args.vocabulary {
        Some(path) => SyntheticVocabulary::from_gguf(&args.config.hub.file(path)?)?,
        None => SyntheticVocabulary::byte_level(128_256),
    };
    let n_vocab = vocabulary.n_tokens() as u64;
    let requests = parse_shapes(shapes).map_err(|e| Usage(e.to_string()))?;
    let base = requests.iter().find(|request| request.name == "base");
    let base_shape = match base.map(|request| request.size) {
        Some(Size::Params(n)) => Shape::of_size(n, n_vocab)?.with_architecture(args.architecture),
        _ => unreachable!("parse_shapes demands a base"),
    };
    overrides.base = Some(folder.join("base.gguf"));
    let mut arms = Vec::new();
    for (seed, request) in requests.into_iter().enumerate() {
        let (path, seed) = (folder.join(format!("{}.gguf", request.name)), seed as u64);
        eprintln!("making {} …", request.name);
        match request.size {
            Size::Params(n_params) => {
                let (name, quantization) = (request.name.as_str(), args.quantization);
                let shape = Shape::of_size(n_params, n_vocab)?.with_architecture(args.architecture);
                let model =
                    SyntheticModel { name, shape, quantization, vocabulary: &vocabulary, n_ctx_train: 2048, seed };
                model.write(&path)?;
            }
            Size::Rank(rank) => drop(SyntheticLora { shape: base_shape, rank, seed }.write(&path)?),
        }
        if request.name != "base" {
            arms.push((request, path));
        }
    }
    let mut config = Config::load(None, &overrides)?;
    config.arms = arms.into_iter().map(|(request, path)| synthetic_arm(&config, request, path)).collect();
    Ok(config)
}

/// The vocabulary of grown models: that of Llama 2, a usual size.
const N_VOCAB_INFLATED: usize = 32_000;

/// Grows the models of a configuration into `folder`, and puts them in their places.
fn inflated(args: &Args, sizes: &str, folder: &Path) -> anyhow::Result<Config> {
    let mut from = args.config.clone();
    if args.from.is_some() {
        from.config.clone_from(&args.from);
    }
    let mut config = from.resolve()?;
    let sizes = parse_shapes(sizes).map_err(|e| Usage(e.to_string()))?;
    let size = |name: &str| {
        sizes.iter().find(|request| request.name == name).and_then(|request| match request.size {
            Size::Params(n) => Some(n),
            Size::Rank(_) => None,
        })
    };
    let of_base = size("base").unwrap_or_default();
    config.arms.retain(|arm| arm.weight != 0.0);
    let mut inflated = Inflated::default();
    eprintln!("growing models …");
    let base = config.base.model.clone();
    let (path, _) = inflated.model(&base, folder, of_base, N_VOCAB_INFLATED)?;
    config.base.model = path;
    for arm in &mut config.arms {
        let name = arm.name.clone();
        for (n, spec) in arm.specs_mut().enumerate() {
            let n_params = if spec.model == base { Some(of_base) } else { size(&name).or_else(|| size("arm")) };
            let n_params = n_params.ok_or_else(|| Usage(format!("--inflate has no size for ARM \"{name}\"")))?;
            let (path, growth) = inflated.model(&spec.model, folder, n_params, N_VOCAB_INFLATED)?;
            spec.model = path;
            for (i, lora) in spec.lora.iter_mut().enumerate() {
                let path = folder.join(format!("{name}-{n}-{i}.gguf"));
                inflate_adapter(&lora.path, &path, &growth)?;
                lora.path = path;
            }
        }
    }
    config.profiles.clear();
    Ok(config)
}

fn synthetic_arm(config: &Config, request: ModelRequest, path: PathBuf) -> ArmSpec {
    let mut spec = config.base.clone();
    match request.size {
        Size::Params(_) => spec.model = path,
        Size::Rank(_) => spec.lora = vec![LoraSpec { path, scale: 1.0 }],
    }
    ArmSpec::new(request.name, spec, 1.0)
}

/// A text without meaning, other in each turn; ids from the middle of the vocabulary are ordinary tokens. A translated
/// ARM has many readings of what no one would write, so there the text is English.
fn text(session: &Session, args: &Args, turn: u32) -> anyhow::Result<Vec<Token>> {
    let n = args.n_prompt + args.n_gen;
    if session.hook().with_guide(|guide| guide.experts().iter().any(Arm::is_translated)) {
        let sample = session.vocab().tokenize(SAMPLE, true, false)?;
        return Ok(sample.into_iter().cycle().skip(7 * turn as usize).take(n as usize).collect());
    }
    let n_tokens = session.vocab().n_tokens() as u32;
    let token = |i: u32| (n_tokens / 2 + (i * 7919 + turn * 104_729) % (n_tokens / 4)) as Token;
    Ok((0..n).map(token).collect())
}

fn measure(session: &mut Session, args: &Args, turn: u32) -> anyhow::Result<Repeat> {
    let text = text(session, args, turn)?;
    let n_prompt = args.n_prompt as usize;
    let hook = session.hook().clone();
    let n_arms = hook.with_guide(|guide| guide.experts().len());
    let base = time_expert(session.base(), &text, n_prompt)?;
    let arm = |i: usize| {
        hook.with_guide(|guide| {
            let expert = guide.experts()[i].expert();
            let text = own_text(&text, expert.n_vocab());
            time_expert(expert, &text, n_prompt)
        })
    };
    let arms = (0..n_arms).map(arm).collect::<Result<Vec<_>, _>>()?;
    // The prompts are read again, so that the guided turn starts as the others did.
    let (guided, overhead) = measure_guided(session, args, turn)?;
    Ok(Repeat { base, arms, guided, overhead })
}

/// Seconds a token of guided decoding, and of combination and sampling within it.
fn measure_guided(session: &mut Session, args: &Args, turn: u32) -> anyhow::Result<(f64, f64)> {
    let text = text(session, args, turn)?;
    let hook = session.hook().clone();
    let mut sampler = session.sampler(&with_known_seed(&session.config().sampling))?;
    let before = hook.with_guide(|guide| guide.timing().arms);
    let guided = time_guided(session.base(), &mut sampler, &text, args.n_prompt as usize)?;
    let in_arms = hook.with_guide(|guide| guide.timing().arms) - before;
    let n = f64::from(args.n_gen);
    // The first draw, after the prompt, is in the sampler's time and not in the guided one: one in n_gen + 1.
    let overhead = sampler.elapsed().saturating_sub(in_arms).as_secs_f64() / (n + 1.0);
    Ok((guided.as_secs_f64() / n, overhead))
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
    if let Some(shared) = &results.shared_batch {
        row("guided, shared batch", shared.guided);
        row("its rows without adapters", shared.plain_rows);
    }
    let _ = writeln!(out, "{:<28} {:>9.3}", "guided / ideal", times.guided_to_ideal);
    if let Some(shared) = &results.shared_batch {
        let _ = writeln!(out, "{:<28} {:>9.3}", "shared batch / guided", shared.speedup);
        let _ = writeln!(out, "{:<28} {:>9.3}", "cost of rows / no adapters", shared.to_plain_rows);
    }
    let (micros, share) = (times.overhead * 1e6, times.overhead_share * 100.0);
    let _ = writeln!(out, "{:<28} {micros:>9.0} µs a token, {share:.2} % of the guided time", "combination + sampling");
    let Results { repeats, n_gen, n_prompt, threads, n_vocab, .. } = results;
    let _ = writeln!(
        out,
        "\nmedians of {repeats} interleaved turns of {n_gen} tokens after {n_prompt}; {threads} threads, {n_vocab} tokens"
    );
    out
}
