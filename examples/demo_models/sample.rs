//! Sampling at temperature 1 from a base, alone or guided by ARMs: many sequences a batch.

use anyhow::{Context, ensure};
use genarm::engine::llama::backend;
use genarm::eval::gold::{Gold, Lexicon};
use genarm::eval::stats::Mean;
use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::vocab::LlamaVocab;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use std::io::Write;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

/// Sequences decoded together.
const ROWS: usize = 64;
/// Room for prompt and continuation of a row, in tokens.
const ROW_CTX: usize = 128;

#[derive(Debug, clap::Args)]
pub struct PairArgs {
    /// GGUF to sample from
    #[arg(long)]
    base: PathBuf,
    /// JSONL with a `text` a line, whose openings are the prompts
    #[arg(long)]
    texts: PathBuf,
    /// Opinion words
    #[arg(long)]
    lexicon: PathBuf,
    /// Folder to write one cheerful.jsonl, talkative.jsonl, plain.jsonl to
    #[arg(long)]
    out: PathBuf,
    #[arg(long, default_value_t = 2000)]
    n_prompts: usize,
    /// Continuations of each prompt
    #[arg(long, default_value_t = 8)]
    n_samples: usize,
    #[arg(long, default_value_t = 64)]
    n_predict: usize,
    #[arg(long, default_value_t = 2)]
    seed: u64,
}

#[derive(Debug, clap::Args)]
pub struct ScoreArgs {
    /// GGUF to guide, MODEL[+LORA]
    #[arg(long)]
    base: String,
    /// MODEL[+LORA]=WEIGHT, repeatable
    #[arg(long = "arm")]
    arms: Vec<String>,
    /// JSONL with a `prompt` a line
    #[arg(long)]
    prompts: PathBuf,
    /// Opinion words
    #[arg(long)]
    lexicon: PathBuf,
    #[arg(long, default_value_t = 200)]
    n_prompts: usize,
    #[arg(long, default_value_t = 64)]
    n_predict: usize,
    #[arg(long, default_value_t = 3)]
    seed: u64,
    /// Draw this many from the base alone and keep the one that the ARMs score highest
    #[arg(long)]
    best_of: Option<usize>,
    /// Measure the divergence to this model, not to the base: for a base that was itself trained
    #[arg(long)]
    kl_to: Option<PathBuf>,
    /// First column of the output [default: the ARMs]
    #[arg(long)]
    label: Option<String>,
    /// Print the first few continuations too
    #[arg(long, default_value_t = 0)]
    show: usize,
}

/// A sampled text and how far guidance moved it.
struct Sample {
    text: String,
    /// Prompt and continuation.
    tokens: Vec<LlamaToken>,
    /// Tokens of the prompt.
    n_prompt: usize,
    /// Σ log p_guided − log p_base over its tokens, in nats.
    kl: f64,
}

/// A model that takes part, with its weight (1 for the base).
struct Member {
    model: LlamaModel,
    lora: Option<llama_cpp_2::model::LlamaLoraAdapter>,
    weight: f32,
}

impl Member {
    fn load(model: &Path, lora: Option<&Path>, weight: f32) -> anyhow::Result<Self> {
        ensure!(model.exists(), "{} does not exist", model.display());
        let mut model = LlamaModel::load_from_file(
            backend().context("llama.cpp is already in use")?,
            model,
            &LlamaModelParams::default(),
        )?;
        let lora = lora.map(|path| model.lora_adapter_init(path)).transpose()?;
        Ok(Self { model, lora, weight })
    }

    /// From `MODEL[+LORA]=WEIGHT`.
    fn parse(text: &str) -> anyhow::Result<Self> {
        let (files, weight) = text.rsplit_once('=').context("an ARM is MODEL[+LORA]=WEIGHT")?;
        Self::of_files(files, weight.parse()?)
    }

    /// From `MODEL[+LORA]`.
    fn of_files(files: &str, weight: f32) -> anyhow::Result<Self> {
        let (model, lora) = files.split_once('+').map_or((files, None), |(m, l)| (m, Some(Path::new(l))));
        Self::load(Path::new(model), lora, weight)
    }
}

impl Member {
    /// A context with room for [`ROWS`] sequences.
    fn context(&mut self) -> anyhow::Result<(LlamaVocab<'_>, LlamaContext<'_>)> {
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as i32);
        let params = LlamaContextParams::default()
            .with_n_ctx(NonZeroU32::new((ROWS * ROW_CTX) as u32))
            .with_n_batch((ROWS * ROW_CTX) as u32)
            .with_n_seq_max(ROWS as u32)
            .with_n_threads(threads)
            .with_n_threads_batch(threads)
            .with_kv_unified(false);
        let Self { model, lora, .. } = self;
        let model: &LlamaModel = model;
        let mut context = model.new_context(backend().context("llama.cpp is already in use")?, params)?;
        if let Some(lora) = lora {
            context.lora_adapter_set(lora, 1.0)?;
        }
        Ok((model.vocab(), context))
    }

    /// Σ log π of each continuation given its prompt.
    fn log_probs(&mut self, samples: &[Sample]) -> anyhow::Result<Vec<f64>> {
        let (_, mut context) = self.context()?;
        let mut out = Vec::with_capacity(samples.len());
        for chunk in samples.chunks(ROWS) {
            context.clear_kv_cache();
            let mut batch = LlamaBatch::new(ROWS * ROW_CTX, 1);
            for (row, sample) in chunk.iter().enumerate() {
                batch.add_sequence(&sample.tokens, row as i32, true)?;
            }
            context.decode(&mut batch)?;
            let mut start = 0;
            for sample in chunk {
                let scored = sample.n_prompt..sample.tokens.len();
                let log_p =
                    |i: usize| log_prob(context.get_logits_ith((start + i - 1) as i32), sample.tokens[i].0 as usize);
                out.push(scored.map(log_p).sum());
                start += sample.tokens.len();
            }
        }
        Ok(out)
    }
}

/// Continues every prompt once; rows that end early stay idle.
fn sample(members: &mut [Member], prompts: &[String], n_predict: usize, seed: u64) -> anyhow::Result<Vec<Sample>> {
    let mut out = Vec::with_capacity(prompts.len());
    let weights: Vec<f32> = members.iter().map(|m| m.weight).collect();
    let mut contexts: Vec<LlamaContext<'_>> = Vec::new();
    let mut vocab = None;
    for member in members.iter_mut() {
        let (own, context) = member.context()?;
        vocab.get_or_insert(own);
        contexts.push(context);
    }
    let vocab = vocab.context("no model")?;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    for chunk in prompts.chunks(ROWS) {
        contexts.iter_mut().for_each(LlamaContext::clear_kv_cache);
        out.extend(batch(&vocab, &mut contexts, &weights, chunk, n_predict, &mut rng)?);
    }
    Ok(out)
}

fn batch(
    vocab: &LlamaVocab<'_>,
    contexts: &mut [LlamaContext<'_>],
    weights: &[f32],
    prompts: &[String],
    n_predict: usize,
    rng: &mut ChaCha8Rng,
) -> anyhow::Result<Vec<Sample>> {
    let mut batch = LlamaBatch::new(ROWS * ROW_CTX, 1);
    let mut rows: Vec<(Vec<LlamaToken>, usize, f64, bool)> = Vec::new();
    for (row, prompt) in prompts.iter().enumerate() {
        let tokens = vocab.tokenize(prompt.as_bytes(), true, false);
        ensure!(tokens.len() + n_predict <= ROW_CTX, "prompt too long: {prompt}");
        batch.add_sequence(&tokens, row as i32, false)?;
        rows.push((tokens.clone(), tokens.len(), 0.0, true));
    }
    // Which batch entry holds the logits of each row.
    let mut places: Vec<i32> = rows
        .iter()
        .scan(0, |at, r| {
            *at += r.0.len() as i32;
            Some(*at - 1)
        })
        .collect();
    for _ in 0..n_predict {
        for context in contexts.iter_mut() {
            context.decode(&mut batch)?;
        }
        batch.clear();
        for (row, state) in rows.iter_mut().enumerate().filter(|(_, r)| r.3) {
            let base = contexts[0].get_logits_ith(places[row]);
            let mut guided = base.to_vec();
            for (context, weight) in contexts.iter().zip(weights).skip(1) {
                for (g, l) in guided.iter_mut().zip(context.get_logits_ith(places[row])) {
                    *g += weight * l;
                }
            }
            let (token, log_p) = draw(&guided, rng);
            if contexts.len() > 1 {
                state.2 += log_p - log_prob(base, token);
            }
            if vocab.is_eog(LlamaToken(token as i32)) {
                state.3 = false;
                continue;
            }
            places[row] = batch.n_tokens();
            batch.add(LlamaToken(token as i32), state.0.len() as i32, &[row as i32], true)?;
            state.0.push(LlamaToken(token as i32));
        }
        if batch.n_tokens() == 0 {
            break;
        }
    }
    let text = |r: &(Vec<LlamaToken>, usize, f64, bool)| {
        String::from_utf8_lossy(&vocab.detokenize(&r.0[r.1..], false, false)).into_owned()
    };
    Ok(rows.iter().map(|r| Sample { text: text(r), tokens: r.0.clone(), n_prompt: r.1, kl: r.2 }).collect())
}

fn log_prob(logits: &[f32], token: usize) -> f64 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|l| f64::from(l - max).exp()).sum();
    f64::from(logits[token] - max) - sum.ln()
}

/// One token from the softmax of `logits`, and its log-probability.
fn draw(logits: &[f32], rng: &mut ChaCha8Rng) -> (usize, f64) {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let p: Vec<f32> = logits.iter().map(|l| (l - max).exp()).collect();
    let sum: f32 = p.iter().sum();
    let mut left = rng.random::<f32>() * sum;
    let token = p
        .iter()
        .position(|p| {
            left -= p;
            left < 0.0
        })
        .unwrap_or(p.len() - 1);
    (token, f64::from((p[token] / sum).ln()))
}

/// Samples continuations of story openings; of each prompt the best and the worst by each reward make a pair.
pub fn pairs(args: &PairArgs) -> anyhow::Result<()> {
    let lexicon = Lexicon::load(&args.lexicon)?;
    let texts = super::blank::texts(&args.texts)?;
    let mut rng = ChaCha8Rng::seed_from_u64(args.seed);
    let openings: Vec<String> = (0..args.n_prompts)
        .map(|_| super::corpus::opening(&texts[rng.random_range(0..texts.len())], rng.random_range(3..24)))
        .collect();
    let prompts: Vec<String> = openings.iter().flat_map(|o| std::iter::repeat_n(o.clone(), args.n_samples)).collect();
    let mut members = [Member::load(&args.base, None, 1.0)?];
    let samples = sample(&mut members, &prompts, args.n_predict, args.seed)?;
    std::fs::create_dir_all(&args.out)?;
    for gold in Gold::ALL {
        let name = format!("{}.jsonl", gold.name());
        let mut file = std::io::BufWriter::new(std::fs::File::create(args.out.join(name))?);
        let mut n = 0;
        for (prompt, group) in openings.iter().zip(samples.chunks(args.n_samples)) {
            let mut ranked: Vec<(f64, &str)> =
                group.iter().map(|s| (gold.reward(&s.text, &lexicon), s.text.as_str())).collect();
            ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
            // The two outermost pairs, where the reward tells them clearly apart.
            let margin = if gold == Gold::Plain { 0.3 } else { 1.5 };
            for i in 0..2.min(ranked.len() / 2) {
                let (best, worst) = (ranked[i], ranked[ranked.len() - 1 - i]);
                if best.0 - worst.0 >= margin && !worst.1.is_empty() {
                    writeln!(file, "{}", json!({"prompt": prompt, "chosen": best.1, "rejected": worst.1}))?;
                    n += 1;
                }
            }
        }
        eprintln!("{gold:?}: {n} pairs");
    }
    Ok(())
}

/// Prints mean and standard error of each gold reward, and the mean KL to the base.
pub fn score(args: &ScoreArgs) -> anyhow::Result<()> {
    let lexicon = Lexicon::load(&args.lexicon)?;
    let file = std::fs::read_to_string(&args.prompts).with_context(|| args.prompts.display().to_string())?;
    let mut prompts = Vec::new();
    for line in file.lines().take(args.n_prompts) {
        let value: serde_json::Value = serde_json::from_str(line)?;
        prompts.push(value["prompt"].as_str().context("a line has no `prompt`")?.to_string());
    }
    let mut members = vec![Member::of_files(&args.base, 1.0)?];
    for arm in &args.arms {
        members.push(Member::parse(arm)?);
    }
    let mut samples = match args.best_of {
        Some(n) => best_of(&mut members, &prompts, n, args)?,
        None => sample(&mut members, &prompts, args.n_predict, args.seed)?,
    };
    if let Some(reference) = &args.kl_to {
        let theirs = Member::load(reference, None, 1.0)?.log_probs(&samples)?;
        let ours = members[0].log_probs(&samples)?;
        for (sample, (ours, theirs)) in samples.iter_mut().zip(ours.into_iter().zip(theirs)) {
            sample.kl += ours - theirs;
        }
    }
    for (prompt, sample) in prompts.iter().zip(&samples).take(args.show) {
        println!("{prompt}|{}\n", sample.text);
    }
    let label = args.label.clone().unwrap_or_else(|| args.arms.join(" "));
    let mut line = format!("| {label}");
    for gold in Gold::ALL {
        let rewards: Vec<f64> = samples.iter().map(|s| gold.reward(&s.text, &lexicon)).collect();
        line += &format!(" | {}", Mean::of(&rewards));
    }
    let kl: Vec<f64> = samples.iter().map(|s| s.kl).collect();
    println!("{line} | {:.2} |", Mean::of(&kl).mean);
    Ok(())
}

/// Of `n` continuations by the base alone, the one with the highest Σ weight · reward of the ARMs.
fn best_of(members: &mut [Member], prompts: &[String], n: usize, args: &ScoreArgs) -> anyhow::Result<Vec<Sample>> {
    let prompts: Vec<String> = prompts.iter().flat_map(|p| std::iter::repeat_n(p.clone(), n)).collect();
    let mut samples = sample(&mut members[..1], &prompts, args.n_predict, args.seed)?;
    let mut scores = vec![0.0; samples.len()];
    for arm in &mut members[1..] {
        for (score, log_p) in scores.iter_mut().zip(arm.log_probs(&samples)?) {
            *score += f64::from(arm.weight) * log_p;
        }
    }
    let best = scores.chunks(n).enumerate().map(|(i, group)| {
        let best = (0..n).max_by(|a, b| group[*a].total_cmp(&group[*b])).unwrap_or(0);
        i * n + best
    });
    let keep: std::collections::HashSet<usize> = best.collect();
    let mut index = 0;
    samples.retain(|_| {
        index += 1;
        keep.contains(&(index - 1))
    });
    // The divergence of best-of-n from its base is at most this, whatever the scores.
    let kl = (n as f64).ln() - (n as f64 - 1.0) / n as f64;
    samples.iter_mut().for_each(|s| s.kl = kl);
    Ok(samples)
}
