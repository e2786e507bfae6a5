//! What the measuring commands share: prompts, the generator, β_r, judges, and the particulars that every result file
//! carries.

use std::path::{Path, PathBuf};

use anyhow::Context;
use indicatif::ProgressBar;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Usage;
use super::load::{open_slots, progress};
use crate::chat::Conversation;
use crate::config::{ArmSpec, Config};
use crate::engine::gguf::GgufFile;
use crate::eval::judges::{Client, Criterion};
use crate::eval::scorers::{Kind, ScorerSpec};
use crate::expert::Token;
use crate::files::conflict;
use crate::sampling::params::{RANDOM_SEED, SamplingParams};
use crate::session::{Prompt, Session, SessionGenerator};

/// How texts are made, and how many.
#[derive(Debug, Clone, clap::Args)]
pub struct TextArgs {
    /// Prompts: JSONL with a `prompt` per line, or plain text with one prompt per line
    #[arg(long, value_name = "FILE")]
    pub prompts: PathBuf,
    /// Take only the first N prompts
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub n_prompts: Option<u32>,
    /// Most tokens per text
    #[arg(long, short, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    pub n_predict: u32,
    /// Texts to generate at once
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub parallel: u32,
    /// Put each prompt to the models as a user's message, through their chat templates
    #[arg(long)]
    pub chat: bool,
}

/// How judges are asked.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Judges")]
pub struct JudgeArgs {
    /// What judge:URL looks at when it is called NAME: a sentence, as polite="The answer is polite."; helpful and
    /// harmless are known; repeatable
    #[arg(long = "criterion", value_name = "NAME=SENTENCE")]
    pub criteria: Vec<Criterion>,
    /// Take the mean score under the probabilities of the judge's first token: for small judges (the API must return
    /// top_logprobs)
    #[arg(long)]
    pub judge_logprobs: bool,
    /// Model name to request from judge:URL
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub judge_model: String,
    /// Environment variable with the key of the judge's API
    #[arg(long, value_name = "VARIABLE", default_value = "OPENAI_API_KEY")]
    pub judge_key: String,
    /// Parallel requests to a judge
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub judge_jobs: u16,
}

impl JudgeArgs {
    /// The client, without an address yet; its bar shows itself with the first questions.
    pub fn client(&self, asks: bool) -> Client {
        let key = std::env::var(&self.judge_key).ok().filter(|key| !key.is_empty());
        let (model, jobs) = (self.judge_model.clone(), self.judge_jobs.into());
        let progress = if asks { progress("asking the judge", 0) } else { ProgressBar::hidden() };
        let (criteria, logprobs) = (self.criteria.clone(), self.judge_logprobs);
        Client { model, key, jobs, progress, criteria, logprobs, ..Client::default() }
    }

    /// Refuses a judge of which nothing says what it looks at.
    pub fn check(&self, specs: &[ScorerSpec]) -> anyhow::Result<()> {
        let client = self.client(false);
        let judges = specs.iter().filter(|spec| matches!(spec.kind, Kind::Judge(_)));
        judges
            .map(|spec| &spec.name)
            .try_for_each(|name| client.criterion(name).map(drop).map_err(|error| Usage(error.to_string()).into()))
    }

    /// What a result file says of them.
    pub fn about(&self) -> Value {
        let criteria: Vec<_> = self.criteria.iter().map(|c| c.rate("PROMPT", "ANSWER", 10).user).collect();
        json!({"model": self.judge_model, "logprobs": self.judge_logprobs, "criteria": criteria})
    }
}

impl TextArgs {
    /// The prompts, at least one.
    pub fn read(&self) -> anyhow::Result<Vec<String>> {
        read_prompts(&self.prompts, self.n_prompts.map_or(usize::MAX, |n| n as usize))
    }

    /// Opens the models with room for the texts at once.
    pub fn generator(
        &self,
        mut config: Config,
        prompts: &[String],
        params: SamplingParams,
    ) -> anyhow::Result<SessionGenerator> {
        self.fit(&mut config, prompts);
        let session = open_slots(config, self.parallel as usize)?;
        let tokens =
            prompts.iter().map(|text| read_prompt(&session, text, self.chat)).collect::<Result<Vec<_>, _>>()?;
        Ok(SessionGenerator::new(session, params, tokens, self.n_predict as usize))
    }

    /// Where nothing says how long a context is: as long as these texts may be, and not the model's own, which many
    /// texts at once would multiply. A byte is a token at most; templates take some more.
    pub fn fit(&self, config: &mut Config, prompts: &[String]) {
        let longest = prompts.iter().map(String::len).max().unwrap_or(0);
        let persona =
            |arm: &ArmSpec| [&arm.reading.system, &arm.reading.prefix].into_iter().flatten().map(String::len).max();
        let personas = config.arms.iter().filter_map(persona);
        let system = config.prompt.system.as_ref().map(String::len).into_iter().chain(personas).max().unwrap_or(0);
        let needed =
            u32::try_from(longest + system).unwrap_or(u32::MAX).saturating_add(self.n_predict).saturating_add(256);
        for spec in config.specs_mut() {
            if spec.n_ctx.is_none() {
                let trained = GgufFile::open_model(&spec.model).ok().and_then(|file| file.n_ctx_train());
                spec.n_ctx = Some(needed.min(trained.map_or(4096, |n| u32::try_from(n).unwrap_or(u32::MAX)).max(1)));
            }
        }
    }

    /// What of it a result file says.
    pub fn about(&self, prompts: &[String]) -> Value {
        let digest = prompts.iter().fold(Sha256::new(), |hash, prompt| hash.chain_update(prompt).chain_update([0]));
        json!({
            "prompts": {"file": self.prompts, "n": prompts.len(), "sha256": hex(&digest.finalize())},
            "n_predict": self.n_predict, "parallel": self.parallel, "chat": self.chat,
        })
    }
}

/// The first `n` prompts of a file, at least one.
pub fn read_prompts(path: &Path, n: usize) -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let text = crate::chat::source::plain(&text);
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).take(n);
    let prompts: Vec<String> = lines
        .map(|(i, line)| prompt(line).with_context(|| format!("{}:{}", path.display(), i + 1)))
        .collect::<anyhow::Result<_>>()?;
    if prompts.is_empty() {
        anyhow::bail!("{}: contains no prompts; write one per line", path.display());
    }
    Ok(prompts)
}

/// A prompt, as the models of a session read it.
pub fn read_prompt(session: &Session, text: &str, chat: bool) -> anyhow::Result<Prompt> {
    match chat {
        true => Ok(session.chat_prompt(&conversation(session, text))?),
        false => Ok(session.text_prompt(text)?),
    }
}

/// A prompt and a response to it, as the models of a session read them.
pub fn read_response(
    session: &Session,
    text: &str,
    response: &str,
    chat: bool,
) -> anyhow::Result<(Prompt, Vec<Token>)> {
    match chat {
        true => Ok(session.prompts().chat_response(&conversation(session, text).messages(), response)?),
        false => Ok(session.prompts().text_response(text, response)?),
    }
}

/// A prompt as a user's message.
fn conversation(session: &Session, text: &str) -> Conversation {
    let mut conversation = Conversation::new(session.config().prompt.system.clone());
    conversation.push_user(text);
    conversation
}

fn prompt(line: &str) -> anyhow::Result<String> {
    if !line.trim_start().starts_with('{') {
        return Ok(line.to_owned());
    }
    let value: Value = serde_json::from_str(line).context("not JSON")?;
    value["prompt"].as_str().map(str::to_owned).context("the string field `prompt` is missing")
}

/// β_r of an ARM's training: of the configuration, else of its file's metadata.
pub fn beta_r(arm: &ArmSpec) -> Option<f64> {
    let file = arm.spec.lora.first().map_or(&arm.spec.model, |lora| &lora.path);
    let written = || GgufFile::open(file).ok().and_then(|file| file.get("genarm.beta").and_then(|v| v.as_f64()));
    arm.beta_r.map(f64::from).or_else(written)
}

/// What every result says about itself: version, command, configuration with weights and seed, and the models' hashes.
pub fn provenance(command: &str, configs: &[&Config], more: Value) -> anyhow::Result<Value> {
    let mut files = Vec::new();
    for config in configs {
        for spec in config.specs() {
            files.push(spec.model.clone());
            files.extend(spec.lora.iter().map(|lora| lora.path.clone()));
        }
    }
    files.sort();
    files.dedup();
    let total: u64 = files.iter().filter_map(|file| Some(file.metadata().ok()?.len())).sum();
    let bar = (total > 1 << 30).then(|| progress("hashing the models", total));
    let hashes = files.iter().map(|file| Ok((file.display().to_string(), sha256(file, bar.as_ref())?.into())));
    let hashes = hashes.collect::<anyhow::Result<serde_json::Map<String, Value>>>()?;
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    let mut about = json!({"genarm": env!("CARGO_PKG_VERSION"), "command": command});
    about["config"] = match configs {
        [one] => serde_json::to_value(one)?,
        several => serde_json::to_value(several)?,
    };
    about["models"] = Value::Object(hashes);
    for (key, value) in more.as_object().into_iter().flatten() {
        about[key] = value.clone();
    }
    Ok(about)
}

fn sha256(path: &Path, bar: Option<&ProgressBar>) -> anyhow::Result<String> {
    struct Hashed<'a>(Sha256, Option<&'a ProgressBar>);
    impl std::io::Write for Hashed<'_> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.update(bytes);
            if let Some(bar) = self.1 {
                bar.inc(bytes.len() as u64);
            }
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut file = std::fs::File::open(path).with_context(|| path.display().to_string())?;
    let mut hashed = Hashed(Sha256::new(), bar);
    std::io::copy(&mut file, &mut hashed).with_context(|| path.display().to_string())?;
    Ok(hex(&hashed.0.finalize()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes a file whole or not at all.
pub fn write_whole(path: &Path, text: &str) -> anyhow::Result<()> {
    crate::files::write_whole(path, |temporary| std::fs::write(temporary, text))
        .with_context(|| path.display().to_string())
}

/// Refuses to write a result over an input: those that are named, the configurations, and the models of these.
pub fn guard(outputs: &[(&str, Option<&Path>)], inputs: &[(&str, &Path)], configs: &[&Config]) -> anyhow::Result<()> {
    let outputs: Vec<_> = outputs.iter().filter_map(|(name, path)| Some((*name, (*path)?))).collect();
    let mut inputs: Vec<_> = inputs.to_vec();
    for config in configs {
        inputs.extend(config.path.as_deref().map(|path| ("the configuration", path)));
        for spec in config.specs() {
            inputs.push(("a model", &spec.model));
            inputs.extend(spec.lora.iter().map(|lora| ("an adapter", lora.path.as_path())));
        }
    }
    match conflict(&outputs, &inputs) {
        Some(message) => Err(Usage(message).into()),
        None => Ok(()),
    }
}

/// Parameters with a seed: 1 where none is given, so that a command that is run again does the same.
pub fn seeded(params: &SamplingParams) -> SamplingParams {
    let seed = if params.seed == RANDOM_SEED { 1 } else { params.seed };
    SamplingParams { seed, ..params.clone() }
}

/// Refuses to measure ARMs where there are none.
pub fn need_arms(config: &Config) -> anyhow::Result<()> {
    if config.arms.is_empty() {
        return Err(Usage("there is no ARM; name some in the configuration, or with --arm NAME=FILE".into()).into());
    }
    Ok(())
}

/// A table, in Markdown: as good to read in a terminal as in a document.
pub fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::ASCII_MARKDOWN).set_header(header.to_vec());
    rows.into_iter().for_each(|row| {
        table.add_row(row);
    });
    format!("{table}\n")
}
