//! What the command line says over the file, or instead of one.

use std::path::PathBuf;

use super::sampling::SamplingOptions;
use super::settings::{CacheType, GpuLayers, OnError, Speculate, SplitMode, Switch};

/// Everything that the command line may say about experts, weights and sampling
///
/// A subcommand flattens this into its arguments. What is absent keeps the file's value.
#[derive(Debug, Clone, Default, PartialEq)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
pub struct Overrides {
    /// Base model: a GGUF file, or a name such as hf:USER/REPO:Q4_K_M or ollama:NAME
    #[cfg_attr(feature = "clap", arg(long, value_name = "FILE", help_heading = "Models"))]
    pub base: Option<PathBuf>,
    /// The base where neither `base` nor the file names one.
    #[cfg_attr(feature = "clap", arg(skip))]
    pub fallback_base: Option<PathBuf>,
    /// LoRA adapter on the base with its scale [default: 1], over those of the file; further ones after commas
    #[cfg_attr(feature = "clap", arg(long = "lora", value_name = "FILE[:SCALE],…", value_parser = parse_lora, value_delimiter = ',', help_heading = "Models"))]
    pub lora: Vec<LoraOverride>,
    /// Autoregressive reward model with its weight [default: 1]: a model, an adapter on the base (ADAPTER.gguf or
    /// +ADAPTER.gguf), or MODEL.gguf+ADAPTER.gguf; repeatable
    #[cfg_attr(feature = "clap", arg(long = "arm", value_name = "NAME=FILE[:WEIGHT]", value_parser = parse_arm, help_heading = "Models"))]
    pub arms: Vec<ArmOverride>,
    /// Weight of an ARM, negative to steer away from it; repeatable
    #[cfg_attr(feature = "clap", arg(long = "weight", short = 'w', value_name = "NAME=W", value_parser = parse_weight, help_heading = "Models"))]
    pub weights: Vec<(String, f32)>,
    /// The base under another system prompt, as an ARM [weight: 1]: it pulls towards what that prompt changes;
    /// repeatable
    #[cfg_attr(feature = "clap", arg(long = "persona", value_name = "NAME=TEXT", value_parser = parse_persona, help_heading = "Models"))]
    pub personas: Vec<PersonaOverride>,
    /// ARM that may have another vocabulary than the base: it guides across vocabularies; repeatable
    #[cfg_attr(feature = "clap", arg(long = "translate", value_name = "NAME", help_heading = "Models"))]
    pub translate: Vec<String>,
    /// Most nats by which guidance may leave the base at a step (KL), by scaling all weights down
    #[cfg_attr(
        feature = "clap",
        arg(long, value_name = "NATS", allow_negative_numbers = true, help_heading = "Models")
    )]
    pub max_kl: Option<f32>,
    /// Keep only tokens that the base gives at least this share of its best token's probability, such as 0.1
    #[cfg_attr(
        feature = "clap",
        arg(long, value_name = "SHARE", allow_negative_numbers = true, help_heading = "Models")
    )]
    pub plausible: Option<f32>,
    /// Set of weights from the file's `profiles:`
    #[cfg_attr(feature = "clap", arg(long, value_name = "NAME", help_heading = "Models"))]
    pub profile: Option<String>,
    /// System prompt
    #[cfg_attr(feature = "clap", arg(long, value_name = "TEXT", allow_hyphen_values = true, help_heading = "Prompt"))]
    pub system: Option<String>,
    /// Chat template of the base: auto (the file's own), a built-in name, a file, or inline Jinja
    #[cfg_attr(feature = "clap", arg(long, value_name = "TEMPLATE", help_heading = "Prompt"))]
    pub chat_template: Option<String>,
    /// Variables for the chat templates, as '{"enable_thinking": false}'; repeatable
    #[cfg_attr(feature = "clap", arg(long, value_name = "JSON", value_parser = parse_variables, help_heading = "Prompt"))]
    pub chat_template_kwargs: Vec<Variables>,
    /// What to do when an ARM fails during a text [default: base]
    #[cfg_attr(feature = "clap", arg(long, value_name = "WHAT", help_heading = "Engine"))]
    pub on_error: Option<OnError>,
    /// Drafter for lossless speculation: auto, off, backbone, draft:FILE, base, mtp, arm or arm:NAME or lookup
    /// [default: auto; with a seed auto drafts nothing, as the text would depend on measured times]
    #[cfg_attr(feature = "clap", arg(long, value_name = "DRAFTER", help_heading = "Engine"))]
    pub speculate: Option<Speculate>,
    /// Largest number of tokens drafted at once
    #[cfg_attr(feature = "clap", arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Engine"))]
    pub draft_max: Option<u32>,
    /// Decode base and LoRA ARMs in one batch [default: auto]
    #[cfg_attr(feature = "clap", arg(long, value_name = "WHEN", help_heading = "Engine"))]
    pub share_batch: Option<Switch>,
    /// ggml RPC servers that take the base's layers
    #[cfg_attr(
        feature = "clap",
        arg(long, value_name = "HOST:PORT,…", value_delimiter = ',', help_heading = "Engine")
    )]
    pub rpc: Vec<String>,
    /// Seconds that an RPC server may be silent before it counts as lost [default: 30]
    #[cfg_attr(feature = "clap", arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Engine"))]
    pub rpc_timeout: Option<u32>,
    /// Settings of every model's context.
    #[cfg_attr(feature = "clap", command(flatten))]
    pub engine: EngineOptions,
    /// Sampling parameters.
    #[cfg_attr(feature = "clap", command(flatten))]
    pub sampling: SamplingOptions,
    /// The model of a host, where the configuration guides one.
    #[cfg_attr(feature = "clap", arg(skip))]
    pub host: Option<HostModel>,
}

/// A model that a host runs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HostModel {
    /// Its name under `hosts:`; `None` takes the file as it is.
    pub entry: Option<String>,
    /// Its path or name. It is the base where the configuration names none.
    pub model: PathBuf,
}

/// Settings of a llama.cpp context, as far as they are given
///
/// From the command line they hold for the base and for every ARM.
#[derive(Debug, Clone, Default, PartialEq)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[cfg_attr(feature = "clap", command(next_help_heading = "Engine"))]
pub struct EngineOptions {
    /// Context size in tokens, 0 for the model's own [default: the model's own, at most 4096]
    #[cfg_attr(feature = "clap", arg(long = "n-ctx", short = 'c', visible_alias = "ctx-size", value_name = "N"))]
    pub n_ctx: Option<u32>,
    /// Layers on the GPU: a number, auto or all [default: auto]
    #[cfg_attr(
        feature = "clap",
        arg(long, alias = "ngl", visible_alias = "gpu-layers", value_name = "N", allow_negative_numbers = true)
    )]
    pub n_gpu_layers: Option<GpuLayers>,
    /// Threads that generate, -1 for all that the hardware has [default: the physical cores, fewer while other processes
    /// compete for them]
    #[cfg_attr(
        feature = "clap",
        arg(long, short = 't', value_name = "N", value_parser = parse_threads, allow_negative_numbers = true)
    )]
    pub threads: Option<u32>,
    /// Threads that read prompts, -1 for all that the hardware has [default: as --threads]
    #[cfg_attr(
        feature = "clap",
        arg(long, value_name = "N", value_parser = parse_threads, allow_negative_numbers = true)
    )]
    pub threads_batch: Option<u32>,
    /// Largest logical batch, in tokens
    #[cfg_attr(feature = "clap", arg(long, visible_alias = "batch-size", value_name = "N", value_parser = clap::value_parser!(u32).range(1..)))]
    pub n_batch: Option<u32>,
    /// Largest physical batch, in tokens
    #[cfg_attr(feature = "clap", arg(long, visible_alias = "ubatch-size", value_name = "N", value_parser = clap::value_parser!(u32).range(1..)))]
    pub n_ubatch: Option<u32>,
    /// Type of the K cache [default: f16]
    #[cfg_attr(feature = "clap", arg(long, value_name = "TYPE"))]
    pub cache_type_k: Option<CacheType>,
    /// Type of the V cache [default: f16]
    #[cfg_attr(feature = "clap", arg(long, value_name = "TYPE"))]
    pub cache_type_v: Option<CacheType>,
    /// Flash attention [default: auto]
    #[cfg_attr(feature = "clap", arg(long, value_name = "WHEN"))]
    pub flash_attn: Option<Switch>,
    /// Whether layers with a sliding window keep all tokens, so that any number can be taken back; auto: they do, except
    /// in generate [default: auto]
    #[cfg_attr(feature = "clap", arg(long, value_name = "WHEN", num_args = 0..=1, require_equals = true, default_missing_value = "on"))]
    pub swa_full: Option<Switch>,
    /// Map the files into memory instead of reading them [default: true]
    #[cfg_attr(feature = "clap", arg(long = "mmap", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true"))]
    pub use_mmap: Option<bool>,
    /// Keep the models in RAM, never swapped [default: false]
    #[cfg_attr(feature = "clap", arg(long = "mlock", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true"))]
    pub use_mlock: Option<bool>,
    /// Device to run on, as `genarm devices` names it; separate several with commas; cpu or none: no device
    #[cfg_attr(feature = "clap", arg(long, value_name = "NAME"))]
    pub device: Option<String>,
    /// How several devices share a model [default: layer]
    #[cfg_attr(feature = "clap", arg(long, value_name = "HOW"))]
    pub split_mode: Option<SplitMode>,
    /// Device for --split-mode none: its index in the list [default: 0]
    #[cfg_attr(feature = "clap", arg(long, value_name = "I"))]
    pub main_gpu: Option<u32>,
    /// Shares of the devices, such as 3,1 [default: by free memory]
    #[cfg_attr(feature = "clap", arg(long, value_name = "SHARES", value_parser = parse_shares))]
    pub tensor_split: Option<Shares>,
}

impl EngineOptions {
    /// What `self` leaves out is taken from `fallback`.
    #[must_use]
    pub fn or(&self, fallback: &Self) -> Self {
        Self {
            n_ctx: self.n_ctx.or(fallback.n_ctx),
            n_gpu_layers: self.n_gpu_layers.or(fallback.n_gpu_layers),
            threads: self.threads.or(fallback.threads),
            threads_batch: self.threads_batch.or(fallback.threads_batch),
            n_batch: self.n_batch.or(fallback.n_batch),
            n_ubatch: self.n_ubatch.or(fallback.n_ubatch),
            cache_type_k: self.cache_type_k.or(fallback.cache_type_k),
            cache_type_v: self.cache_type_v.or(fallback.cache_type_v),
            flash_attn: self.flash_attn.or(fallback.flash_attn),
            swa_full: self.swa_full.or(fallback.swa_full),
            use_mmap: self.use_mmap.or(fallback.use_mmap),
            use_mlock: self.use_mlock.or(fallback.use_mlock),
            device: self.device.clone().or_else(|| fallback.device.clone()),
            split_mode: self.split_mode.or(fallback.split_mode),
            main_gpu: self.main_gpu.or(fallback.main_gpu),
            tensor_split: self.tensor_split.clone().or_else(|| fallback.tensor_split.clone()),
        }
    }
}

/// `--arm NAME=FILE[:WEIGHT]`: a model, an adapter on the base, or `MODEL.gguf+ADAPTER.gguf`.
#[derive(Debug, Clone, PartialEq)]
pub struct ArmOverride {
    /// The ARM's name.
    pub name: String,
    /// Its GGUF or GGUFs, relative to the working directory.
    pub model: PathBuf,
    /// Its weight, if given.
    pub weight: Option<f32>,
}

/// Reads `NAME=FILE[:WEIGHT]`.
///
/// The text after the last colon is a weight if it is a number, so that the colon of a Windows drive and colons in
/// file names stay part of the path.
///
/// # Errors
///
/// One line that says what is expected.
pub fn parse_arm(s: &str) -> Result<ArmOverride, String> {
    let (name, rest) = s.split_once('=').ok_or_else(|| format!("expected NAME=FILE[:WEIGHT], got \"{s}\""))?;
    check_arm_name(name)?;
    let (file, weight) = match rest.rsplit_once(':') {
        // "arm.gguf:heavy" is a wrong weight rather than a file of that name.
        Some((file, tail))
            if !is_drive(file) && (tail.parse::<f32>().is_ok() || file.to_ascii_lowercase().ends_with(".gguf")) =>
        {
            (file, Some(parse_finite(tail)?))
        }
        _ => (rest, None),
    };
    if matches!(file, "" | "+") {
        return Err(format!("expected NAME=FILE[:WEIGHT], got \"{s}\" without a file"));
    }
    Ok(ArmOverride { name: name.to_owned(), model: file.into(), weight })
}

/// `--lora FILE[:SCALE]`.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraOverride {
    /// The adapter's GGUF, relative to the working directory.
    pub path: PathBuf,
    /// Factor on the adapter.
    pub scale: f32,
}

/// Reads `FILE[:SCALE]`. What stands after the last colon is a scale if it is a number.
///
/// # Errors
///
/// One line that says what is expected.
#[cfg(feature = "clap")]
pub fn parse_lora(s: &str) -> Result<LoraOverride, String> {
    let (file, scale) = match s.rsplit_once(':') {
        Some((file, tail))
            if !is_drive(file) && (tail.parse::<f32>().is_ok() || file.to_ascii_lowercase().ends_with(".gguf")) =>
        {
            let scale = tail.parse().ok().filter(|scale: &f32| scale.is_finite());
            (file, scale.ok_or_else(|| format!("a scale must be a finite number, got \"{tail}\""))?)
        }
        _ => (s, 1.0),
    };
    if file.is_empty() {
        return Err(format!("expected FILE[:SCALE], got \"{s}\" without a file"));
    }
    Ok(LoraOverride { path: file.into(), scale })
}

/// Variables for the chat templates.
pub type Variables = serde_json::Map<String, serde_json::Value>;

/// Reads a JSON object of variables.
///
/// # Errors
///
/// One line that says what is expected, or which variable cannot be set.
#[cfg(feature = "clap")]
pub fn parse_variables(s: &str) -> Result<Variables, String> {
    let variables: Variables = serde_json::from_str(s).map_err(|e| format!("not a JSON object: {e}"))?;
    match crate::chat::own_variable(&variables) {
        Some(name) => Err(format!("{name} cannot be set: it is the conversation's")),
        None => Ok(variables),
    }
}

/// `--persona NAME=TEXT`.
#[derive(Debug, Clone, PartialEq)]
pub struct PersonaOverride {
    /// The ARM's name.
    pub name: String,
    /// Its system prompt.
    pub system: String,
}

/// Reads `NAME=TEXT`.
///
/// # Errors
///
/// One line that says what is expected.
#[cfg(feature = "clap")]
pub fn parse_persona(s: &str) -> Result<PersonaOverride, String> {
    let (name, system) = s.split_once('=').ok_or_else(|| format!("expected NAME=TEXT, got \"{s}\""))?;
    check_arm_name(name)?;
    if system.trim().is_empty() {
        return Err(format!("expected NAME=TEXT, got \"{s}\" without a text"));
    }
    Ok(PersonaOverride { name: name.to_owned(), system: system.to_owned() })
}

/// Reads `NAME=W`.
///
/// # Errors
///
/// One line that says what is expected.
pub fn parse_weight(s: &str) -> Result<(String, f32), String> {
    let (name, weight) = s.split_once('=').ok_or_else(|| format!("expected NAME=W, got \"{s}\""))?;
    check_arm_name(name)?;
    Ok((name.to_owned(), parse_finite(weight)?))
}

/// Checks that `name` can be written as the NAME of `NAME=W`.
pub(crate) fn check_arm_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.trim() != name || name.contains(|c: char| c == '=' || c.is_control()) {
        return Err(format!("\"{}\" cannot name an ARM: use letters, digits, - and _", name.escape_debug()));
    }
    Ok(())
}

/// Reads a number of threads. As in llama.cpp's tools, one below 1 stands for all that the hardware has.
///
/// # Errors
///
/// One line that says what is expected.
#[cfg(feature = "clap")]
pub fn parse_threads(s: &str) -> Result<u32, String> {
    let n: i64 = s.parse().map_err(|_| format!("expected a number of threads, or -1 for all, got \"{s}\""))?;
    if n < 1 {
        let all = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        return Ok(u32::try_from(all).unwrap_or(u32::MAX));
    }
    u32::try_from(n).map_err(|_| format!("must be at most {}, got {n}", u32::MAX))
}

/// Shares of devices. The name hides from clap that it is a list: one flag takes all of them.
pub type Shares = Vec<f32>;

/// Reads `3,1`, and `3/1` as llama.cpp's tools do.
///
/// # Errors
///
/// One line that says what is expected.
#[cfg(feature = "clap")]
pub fn parse_shares(s: &str) -> Result<Shares, String> {
    let share = |part: &str| part.trim().parse().ok().filter(|x: &f32| x.is_finite() && *x >= 0.0);
    let shares: Option<Shares> = s.split([',', '/']).map(share).collect();
    shares
        .filter(|shares| shares.iter().sum::<f32>() > 0.0)
        .ok_or_else(|| format!("expected numbers of at least 0, such as 3,1, got \"{s}\""))
}

/// Checks that `endpoint` is `host:port`, and returns it in the one spelling that errors name it by.
pub(crate) fn check_endpoint(endpoint: &str) -> Result<String, String> {
    let parts = endpoint.split_once(':').filter(|(host, _)| !host.is_empty() && !host.contains(char::is_whitespace));
    let port = |port: &str| port.parse::<u16>().ok().filter(|port| *port > 0);
    match parts.and_then(|(host, p)| Some((host, port(p)?))) {
        Some((host, port)) => Ok(format!("{host}:{port}")),
        None => Err(format!("expected host:port, such as 127.0.0.1:50052, got \"{endpoint}\"")),
    }
}

fn parse_finite(s: &str) -> Result<f32, String> {
    s.trim()
        .parse()
        .ok()
        .filter(|w: &f32| w.is_finite())
        .ok_or_else(|| format!("a weight must be a finite number, got \"{s}\""))
}

/// On Windows a single letter before a colon is a drive, not a file.
fn is_drive(file: &str) -> bool {
    cfg!(windows) && file.len() == 1 && file.as_bytes()[0].is_ascii_alphabetic()
}
