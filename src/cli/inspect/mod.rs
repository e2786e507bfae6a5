//! `genarm inspect`

mod translation;

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use indicatif::HumanBytes;
use serde::Serialize;

use self::translation::TranslationReport;
use super::Usage;
use super::download::find_file;
use super::load::ConfigArgs;
use super::sample::SAMPLE;
use crate::brief::Short;
use crate::config::ExpertSpec;
use crate::engine::fit::{Fit, fit};
use crate::engine::gguf::{GgufFile, ModelKind, Parm, Value};
use crate::engine::kernels::{Kernels, Slow};
use crate::engine::memory::MemoryNeed;
use crate::session::context_params;

/// Show what GGUF files contain, whether they fit together, and how much memory they need
///
/// The first file is the base; the vocabulary of every other file is checked against it. With --plan, other models are
/// ARMs, and adapters are LoRA ARMs on the base.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// GGUF files, or names of models; with --plan, a configuration may name them instead
    files: Vec<PathBuf>,
    /// Show where everything would go and whether it fits; nothing is loaded
    #[arg(long)]
    plan: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Compare vocabularies on this text [default: 200 words of English]
    #[arg(long, value_name = "FILE", conflicts_with = "plan")]
    text: Option<PathBuf>,
    /// Show all metadata
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Serialize)]
struct Inspection {
    path: PathBuf,
    kind: String,
    architecture: Option<String>,
    name: Option<String>,
    bytes: u64,
    parameters: u64,
    quantisation: Option<&'static str>,
    n_ctx_train: Option<u64>,
    n_vocab: Option<usize>,
    tokenizer: Option<String>,
    chat_template: Option<String>,
    /// The contract with the first file; absent for the first one and for files without a vocabulary.
    vocabulary: Option<String>,
    fits_first: Option<bool>,
    /// What it would take to guide the first file across vocabularies, where they differ.
    #[serde(skip_serializing_if = "Option::is_none")]
    translation: Option<TranslationReport>,
    memory: Option<MemoryNeed>,
    n_ctx: Option<u32>,
    /// The objectives of an adapter that has several.
    #[serde(skip_serializing_if = "Option::is_none")]
    parm: Option<Parm>,
    /// Where most of its weights have no fast kernels for batches on this processor.
    slow_batches: Option<Slow>,
    metadata: serde_json::Map<String, serde_json::Value>,
}

/// Prints what the files hold.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let files = args.files.iter().map(|file| find_file(file)).collect::<anyhow::Result<Vec<_>>>()?;
    if args.plan {
        return super::plan::run(&files, &args.config, args.json);
    }
    if args.files.is_empty() {
        return Err(Usage("no file to inspect; give GGUF files, or --plan with a configuration".into()).into());
    }
    let files = files.iter().map(GgufFile::open).collect::<Result<Vec<_>, _>>()?;
    let sample =
        args.text.as_ref().map(|path| std::fs::read_to_string(path).with_context(|| path.display().to_string()));
    let sample = sample.transpose()?;
    let sample = sample.as_deref().unwrap_or(SAMPLE);
    let inspections: Vec<_> =
        files.iter().enumerate().map(|(i, file)| inspect(file, &files[0], (i > 0).then_some(sample), args)).collect();
    if args.json {
        return super::output::print(&format!("{}\n", serde_json::to_string_pretty(&inspections)?));
    }
    let text: Vec<_> = inspections.iter().map(|inspection| describe(inspection, args.all)).collect();
    super::output::print(&text.join("\n"))
}

/// `sample` is what its vocabulary is compared with the first file's on.
fn inspect(file: &GgufFile, first: &GgufFile, sample: Option<&str>, args: &Args) -> Inspection {
    let compared = sample.and_then(|sample| Some((fit(first, file)?, sample)));
    let fits_first = compared.as_ref().map(|(fit, _)| matches!(fit, Fit::Same(_)));
    let (vocabulary, translation) = compared.map(|(fit, sample)| compare(fit, first, file, sample)).unzip();
    let spec = ExpertSpec::new(file.path().to_owned(), Vec::new(), &args.config.overrides.engine);
    let params = context_params(&spec, file);
    let metadata = file.metadata().iter().map(|(key, value)| (key.clone(), shown(value))).collect();
    Inspection {
        path: file.path().to_owned(),
        kind: format!("{:?}", file.kind()).to_lowercase(),
        architecture: file.architecture().map(str::to_owned),
        name: file.str("general.name").map(str::to_owned),
        bytes: file.size(),
        parameters: file.n_params(),
        quantisation: file.file_type(),
        n_ctx_train: file.n_ctx_train(),
        n_vocab: file.vocabulary().map(|v| v.n_tokens()),
        tokenizer: file.vocabulary().map(|v| v.tokenizer_model().to_owned()),
        chat_template: file.chat_template().map(str::to_owned),
        fits_first,
        vocabulary,
        translation: translation.flatten(),
        memory: (file.kind() == ModelKind::Model).then(|| MemoryNeed::of(file, &params)),
        n_ctx: (file.kind() == ModelKind::Model).then_some(params.n_ctx),
        parm: file.parm(),
        slow_batches: (file.kind() == ModelKind::Model).then(|| Kernels::here().slow(file)).flatten(),
        metadata,
    }
}

/// What two vocabularies are to each other, in words.
fn compare(fit: Fit, first: &GgufFile, file: &GgufFile, sample: &str) -> (String, Option<TranslationReport>) {
    let hopeless =
        |mismatch, why: &dyn std::fmt::Display| (format!("{mismatch}; nor can it be translated: {why}"), None);
    match fit {
        Fit::Same(contract) => (contract.to_string(), None),
        Fit::Hopeless(mismatch, why) => hopeless(mismatch, &why),
        Fit::Translatable(mismatch) => match translation::report(first, file, sample) {
            Ok(report) => {
                let advice = "give --translate NAME, or `vocabulary: translate` in a configuration";
                (format!("{}; {advice}, to guide across vocabularies", mismatch.summary()), Some(report))
            }
            Err(why) => hopeless(mismatch, &why),
        },
    }
}

/// A value as JSON; long arrays by their length.
fn shown(value: &Value) -> serde_json::Value {
    match value {
        Value::Bool(b) => (*b).into(),
        Value::Array(array) => format!("{} items", array.len()).into(),
        value => match (value.as_str(), value.as_u64(), value.as_f64()) {
            (Some(text), _, _) => text.into(),
            (_, Some(n), _) => n.into(),
            (_, _, Some(x)) => x.into(),
            _ => format!("{value:?}").into(),
        },
    }
}

/// A text with its control characters escaped: a file's text may hold what a terminal obeys.
fn plain(text: &str) -> String {
    text.chars().fold(String::new(), |mut out, c| {
        if c.is_control() && c != '\t' {
            out.extend(c.escape_default())
        } else {
            out.push(c)
        }
        out
    })
}

fn describe(file: &Inspection, all: bool) -> String {
    let mut out = format!("{}\n", file.path.display());
    let mut line = |name: &str, value: String| {
        let _ = writeln!(out, "  {name:<14} {value}");
    };
    line("kind", format!("{} ({})", file.kind, Short(file.architecture.as_deref().unwrap_or("?"))));
    if let Some(name) = &file.name {
        line("name", Short(name).to_string());
    }
    line("parameters", indicatif::HumanCount(file.parameters).to_string());
    line("quantisation", format!("{}, {} on disk", file.quantisation.unwrap_or("?"), HumanBytes(file.bytes)));
    if let Some(n) = file.n_ctx_train {
        line("context", format!("{n} tokens in training"));
    }
    if let (Some(n), Some(tokenizer)) = (file.n_vocab, &file.tokenizer) {
        line("vocabulary", format!("{n} tokens ({})", Short(tokenizer)));
    }
    match (&file.chat_template, file.kind.as_str()) {
        (Some(template), _) if all => {
            let lines: Vec<_> = template.lines().map(plain).collect();
            line("chat template", lines.join("\n"));
        }
        (Some(template), _) => {
            line("chat template", format!("{} characters (--all shows it)", template.chars().count()))
        }
        (None, "model") => line("chat template", "none".to_owned()),
        (None, _) => {}
    }
    if let (Some(need), Some(n_ctx)) = (&file.memory, file.n_ctx) {
        let (weights, kv, compute) = (HumanBytes(need.weights), HumanBytes(need.kv), HumanBytes(need.compute));
        line("memory", format!("weights {weights}, context of {n_ctx} tokens {kv}, buffers about {compute}"));
    }
    if let Some(slow) = &file.slow_batches {
        line("batches", slow.to_string());
    }
    if let (Some(contract), Some(fits)) = (&file.vocabulary, file.fits_first) {
        let verdict = match (fits, &file.translation) {
            (true, _) => "yes",
            (false, Some(_)) => "translatable",
            (false, None) => "no",
        };
        line("with the first", format!("{verdict}: {contract}"));
    }
    if let Some(report) = &file.translation {
        let percent = |share: f64| format!("{:.1} %", 100.0 * share);
        let (all, used) = (percent(report.same_bytes), percent(report.same_bytes_in_use));
        line("same bytes", format!("{all} of the first file's tokens, {used} of those in a sample text"));
        let (n, ms) = (report.arm_tokens_per_token, report.step_ms);
        line("a step", format!("{n:.2} tokens read per token of the first file, and {ms:.2} ms for the translation"));
    }
    if let Some(Parm { objectives, ranks, range: [low, high] }) = &file.parm {
        let of_objectives = objectives.iter().zip(&ranks[1..]).map(|(name, rank)| format!("{rank} for {name}"));
        line("objectives", objectives.join(", "));
        line("preferences", format!("{low} to {high} each"));
        line("ranks", format!("{} always, {}", ranks[0], of_objectives.collect::<Vec<_>>().join(", ")));
    }
    let keys = file.metadata.iter().filter(|(key, _)| all || !key.starts_with("genarm.parm."));
    let keys = keys.filter(|(key, _)| all || key.starts_with("genarm.") || key.starts_with("adapter."));
    for (key, value) in keys.filter(|(key, _)| *key != "tokenizer.chat_template") {
        let value = value.as_str().map_or_else(|| value.to_string(), |text| text.replace('\n', " "));
        line(&plain(key), plain(&value));
    }
    out
}
