//! From what was written to what is meant: [`ConfigWire`] and [`Overrides`] become a [`Config`].

mod arms;
mod files;
mod hosts;
mod pattern;

pub use hosts::{HostName, host_names, host_source};
pub use pattern::pattern_spellings;

use std::io;
use std::path::{Path, PathBuf};

use files::{Fault, Locator};

use super::error::{ConfigError, Place, Problem, Source};
use super::overrides::{EngineOptions, LoraOverride, Overrides, check_endpoint};
use super::settings::Speculate;
use super::types::{ArmSpec, Config, ExpertSpec, GuidanceSpec, LoraSpec, PromptSpec};
use super::wire::{BaseWire, ConfigWire, HostWire, LoraWire};
use crate::chat::template::TemplateRef;
use crate::guidance::{Gate, Limits};
use crate::nearest::suggestion;
use crate::sampling::params::{RANDOM_SEED, SamplingParams};

impl Config {
    /// Reads a file, if there is one, and lays the command line over it.
    ///
    /// # Errors
    ///
    /// [`ConfigError`]: one line with file, line, column, key and the nearest valid name.
    pub fn load(file: Option<&Path>, overrides: &Overrides) -> Result<Self, ConfigError> {
        let locator = Locator::Stores;
        match file {
            Some(file) => parse(&read(file)?, file, overrides, locator),
            None => {
                let folder = PathBuf::new();
                Resolver { source: None, folder, host: None, overrides, locator }.resolve(&ConfigWire::default())
            }
        }
    }

    /// Does [`load`](Self::load)'s work for a command that opens no model: names stay in place of their files.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    #[doc(hidden)]
    pub fn load_unopened(file: &Path, overrides: &Overrides) -> Result<Self, ConfigError> {
        parse_unopened(&read(file)?, file, overrides)
    }

    /// Does [`load`](Self::load)'s work on a text; `file` is its name in errors, and its folder is where its paths
    /// start.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    pub fn parse(text: &str, file: &Path, overrides: &Overrides) -> Result<Self, ConfigError> {
        parse(text, file, overrides, Locator::Stores)
    }
}

/// As [`Config::parse`], for what opens no model: names stay in place of their files.
pub(super) fn parse_unopened(text: &str, file: &Path, overrides: &Overrides) -> Result<Config, ConfigError> {
    parse(text, file, overrides, Locator::Nothing)
}

fn parse(text: &str, file: &Path, overrides: &Overrides, locator: Locator) -> Result<Config, ConfigError> {
    let (source, wire) = read_wire(text, file)?;
    let resolver = Resolver { source: Some(&source), folder: folder_of(file), host: None, overrides, locator };
    let config = match overrides.host.as_ref().and_then(|host| host.entry.as_deref()) {
        Some(name) => resolver.resolve_host(name, &wire)?,
        None => {
            resolver.check_hosts(&wire)?;
            resolver.resolve(&wire)?
        }
    };
    Ok(Config { path: Some(file.to_owned()), ..config })
}

/// A text as it is written, with the positions in it.
fn read_wire<'a>(text: &str, file: &'a Path) -> Result<(Source<'a>, ConfigWire), ConfigError> {
    let source = Source::parse(text, file)?;
    let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
    let wire = serde_saphyr::from_str_with_options(text, options).map_err(|error| source.wire_error(&error))?;
    Ok((source, wire))
}

/// Where the relative paths of a file start.
fn folder_of(file: &Path) -> PathBuf {
    file.parent().unwrap_or(Path::new("")).to_owned()
}

fn read(file: &Path) -> Result<String, ConfigError> {
    let fail =
        |reason: String| ConfigError { place: Place::File(file.to_owned()), problem: Box::new(Problem::Read(reason)) };
    let bytes = std::fs::read(file).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => fail("no such file".to_owned()),
        io::ErrorKind::IsADirectory => fail("it is a directory, name a YAML file in it".to_owned()),
        _ => fail(error.to_string()),
    })?;
    if bytes.starts_with(b"GGUF") {
        return Err(fail("it is a GGUF model and not a YAML file, pass it with --base".to_owned()));
    }
    String::from_utf8(bytes).map_err(|_| fail("it is not UTF-8 text".to_owned()))
}

/// An error about a flag.
fn typed_wrong(flag: &str, problem: impl Into<Fault>) -> ConfigError {
    ConfigError::usage(problem.into().under(flag.to_owned()))
}

struct Resolver<'a> {
    /// The file, for the positions in errors.
    source: Option<&'a Source<'a>>,
    /// Where the file's relative paths start.
    folder: PathBuf,
    /// The entry of `hosts:` that is resolved, and its name: what it says stands there in the file.
    host: Option<(&'a str, &'a HostWire)>,
    overrides: &'a Overrides,
    /// How models by name become files.
    locator: Locator,
}

impl Resolver<'_> {
    fn resolve(&self, wire: &ConfigWire) -> Result<Config, ConfigError> {
        let base = self.base(wire)?;
        let mut arms = self.arms(wire, &base)?;
        let profiles = self.profiles(wire, &arms)?;
        let sampling = self.sampling(wire)?;
        let guidance = self.guidance(wire)?;
        let speculate = self.speculate(wire, &arms, &sampling)?;
        let draft_max = self.overrides.draft_max.or(wire.draft_max);
        if draft_max == Some(0) {
            return Err(self.wrong(&["draft_max"], "must be at least 1, got 0"));
        }
        let own = |(name, value): (&String, &serde_json::Value)| (name.clone(), value.clone());
        let prompt = PromptSpec {
            chat_template: match &self.overrides.chat_template {
                Some(template) => Some(self.template(template, Path::new(""), &["--chat-template"], true)?),
                None => self.file_template(wire.prompt.chat_template.as_deref(), &["prompt", "chat_template"])?,
            },
            system: self.overrides.system.clone().or_else(|| wire.prompt.system.clone()),
            variables: self.overrides.chat_template_kwargs.iter().flatten().map(own).collect(),
        };
        self.set_weights(&mut arms, &profiles)?;
        Ok(Config {
            base,
            arms,
            sampling,
            profiles,
            prompt,
            on_error: self.overrides.on_error.or(wire.on_error).unwrap_or_default(),
            speculate,
            draft_max,
            share_batch: self.overrides.share_batch.or(wire.share_batch).unwrap_or_default(),
            guidance,
            path: None,
        })
    }

    /// An error about a key of the file.
    fn wrong(&self, path: &[&str], problem: impl Into<Fault>) -> ConfigError {
        match self.source {
            Some(source) => {
                let path = &self.place(path);
                source.at_value(path, problem.into().under(source.key(path)))
            }
            None => ConfigError::usage(problem.into().under(path.join("."))),
        }
    }

    fn unknown(&self, path: &[&str], what: &'static str, name: &str, suggestion: String) -> ConfigError {
        let path = &self.place(path);
        let problem = Problem::UnknownName { key: path.join("."), what, name: name.to_owned(), suggestion };
        match self.source {
            Some(source) => source.at_key(path, problem),
            None => ConfigError::usage(problem),
        }
    }

    fn base(&self, wire: &ConfigWire) -> Result<ExpertSpec, ConfigError> {
        let given = wire.base.clone().unwrap_or_default();
        let model = match (&self.overrides.base, &given.model) {
            (Some(path), _) if path.as_os_str().is_empty() => {
                return Err(ConfigError::usage(Problem::NoBase("--base is empty, pass the path of a GGUF file")));
            }
            (Some(path), _) => self.typed_file("--base", path)?,
            (None, Some(path)) => self.file_path(path, &["base", "model"])?,
            (None, None) => match (&self.overrides.host, &self.overrides.fallback_base) {
                (Some(host), _) => self.typed_file("the host's model", &host.model)?,
                (None, Some(path)) => self.typed_file("the base that the environment names", path)?,
                (None, None) => return Err(self.no_base(wire)),
            },
        };
        let engine = self.checked(given.engine(), &["base"])?;
        let mut lora = self.lora(&given.lora, &["base", "lora"])?;
        for LoraOverride { path, scale } in &self.overrides.lora {
            lora.push(LoraSpec { path: self.typed_file("--lora", path)?, scale: *scale });
        }
        let mut base = ExpertSpec::new(model, lora, &self.overrides.engine.or(&engine));
        base.rpc = self.rpc(&given)?;
        base.rpc_timeout = self.overrides.rpc_timeout.or(given.rpc_timeout);
        if base.rpc_timeout == Some(0) {
            return Err(self.wrong(&["base", "rpc_timeout"], "must be at least 1 second, got 0"));
        }
        Ok(base)
    }

    fn rpc(&self, base: &BaseWire) -> Result<Vec<String>, ConfigError> {
        if !self.overrides.rpc.is_empty() {
            let wrong = |problem| ConfigError::usage(Problem::Invalid { key: "--rpc".to_owned(), problem });
            return self.overrides.rpc.iter().map(|endpoint| check_endpoint(endpoint).map_err(wrong)).collect();
        }
        let one = |(i, endpoint): (usize, &String)| {
            check_endpoint(endpoint).map_err(|problem| self.wrong(&["base", "rpc", &i.to_string()], problem))
        };
        base.rpc.iter().enumerate().map(one).collect()
    }

    fn no_base(&self, wire: &ConfigWire) -> ConfigError {
        let advice = match wire.hosts.is_empty() {
            true => "write `base: {model: FILE}`, or pass --base FILE",
            false => "`hosts:` is for genarm run; write `base: {model: FILE}`, or pass --base FILE",
        };
        match self.source {
            Some(source) => {
                ConfigError { place: Place::File(source.file.to_owned()), problem: Box::new(Problem::NoBase(advice)) }
            }
            None => ConfigError::usage(Problem::NoBase("pass --base FILE, or a YAML file that names one")),
        }
    }

    /// Counts that llama.cpp would take for something else when they are 0.
    fn checked(&self, engine: EngineOptions, path: &[&str]) -> Result<EngineOptions, ConfigError> {
        let counts = [
            ("threads", engine.threads),
            ("threads_batch", engine.threads_batch),
            ("n_batch", engine.n_batch),
            ("n_ubatch", engine.n_ubatch),
        ];
        if let Some(shares) = &engine.tensor_split
            && !(shares.iter().all(|x| x.is_finite() && *x >= 0.0) && shares.iter().sum::<f32>() > 0.0)
        {
            return Err(
                self.wrong(&[path, &["tensor_split"]].concat(), "must be numbers of at least 0, such as [3, 1]")
            );
        }
        match counts.iter().find(|(_, n)| *n == Some(0)) {
            Some((key, _)) => Err(self.wrong(&[path, &[key]].concat(), "must be at least 1, got 0")),
            None => Ok(engine),
        }
    }

    fn lora(&self, wire: &[LoraWire], path: &[&str]) -> Result<Vec<LoraSpec>, ConfigError> {
        let one = |(i, lora): (usize, &LoraWire)| {
            let i = i.to_string();
            self.finite(lora.scale, &[path, &[&i, "scale"]].concat())?;
            Ok(LoraSpec { path: self.file_path(&lora.path, &[path, &[&i, "path"]].concat())?, scale: lora.scale })
        };
        wire.iter().enumerate().map(one).collect()
    }

    /// Checks the file's parameters before the command line's, so that an error names the one at fault.
    fn sampling(&self, wire: &ConfigWire) -> Result<SamplingParams, ConfigError> {
        let mut params = SamplingParams::default();
        if let Some(seed) = wire.sampling.seed
            && !(-1..=i64::from(u32::MAX)).contains(&seed)
        {
            return Err(self.wrong(&["sampling", "seed"], format!("must be between -1 and 4294967295, got {seed}")));
        }
        wire.sampling.apply(&mut params);
        params.validate().map_err(|error| self.wrong(&["sampling", error.field], error.problem))?;
        self.overrides.sampling.apply(&mut params);
        // As in llama.cpp's tools: this word asks for no breakers at all.
        if self.overrides.sampling.dry_sequence_breakers.as_ref().is_some_and(|all| all.iter().any(|one| one == "none"))
        {
            params.dry_sequence_breakers.retain(|one| one != "none");
        }
        params
            .validate()
            .map_err(|error| ConfigError::usage(Problem::Invalid { key: flag(error.field), problem: error.problem }))?;
        Ok(params)
    }

    fn guidance(&self, wire: &ConfigWire) -> Result<GuidanceSpec, ConfigError> {
        let gate = wire.guidance.gate;
        let (key, problem) = match gate {
            Some(Gate::Entropy(x)) if !(x.is_finite() && x >= 0.0) => {
                ("entropy", format!("must be at least 0, got {x}"))
            }
            Some(Gate::TopP(x)) if !(0.0..=1.0).contains(&x) => ("top_p", format!("must be between 0 and 1, got {x}")),
            _ => return Ok(GuidanceSpec { gate, limits: self.limits(wire)? }),
        };
        Err(self.wrong(&["guidance", "gate", key], problem))
    }

    fn limits(&self, wire: &ConfigWire) -> Result<Limits, ConfigError> {
        let given = Limits { max_kl: wire.guidance.max_kl, plausible: wire.guidance.plausible };
        given.check().map_err(|(key, problem)| self.wrong(&["guidance", key], problem))?;
        let typed = Limits { max_kl: self.overrides.max_kl, plausible: self.overrides.plausible };
        typed.check().map_err(|(key, problem)| typed_wrong(&flag(key), problem))?;
        Ok(typed.or(given))
    }

    fn speculate(
        &self,
        wire: &ConfigWire,
        arms: &[ArmSpec],
        sampling: &SamplingParams,
    ) -> Result<Speculate, ConfigError> {
        let (drafter, from_file) = match (&self.overrides.speculate, &wire.speculate) {
            (Some(drafter), _) => (drafter, false),
            (None, Some(drafter)) => (drafter, true),
            (None, None) => (&Speculate::Auto, false),
        };
        match drafter {
            Speculate::Draft(file) if from_file => Ok(Speculate::Draft(self.file_path(file, &["speculate"])?)),
            Speculate::Draft(file) => Ok(Speculate::Draft(self.typed_file("--speculate", file)?)),
            Speculate::Arm(Some(name)) if !arms.iter().any(|arm| arm.name == *name) => {
                let near = suggestion(name, arms.iter().map(|arm| arm.name.as_str()));
                if from_file {
                    return Err(self.unknown(&["speculate"], "ARM", name, near));
                }
                let key = "--speculate".to_owned();
                Err(ConfigError::usage(Problem::UnknownName { key, what: "ARM", name: name.clone(), suggestion: near }))
            }
            // At temperature 0 too: batches of other sizes round otherwise.
            other if sampling.seed != RANDOM_SEED => Ok(other.clone().under_a_seed()),
            other => Ok(other.clone()),
        }
    }

    fn finite(&self, x: f32, path: &[&str]) -> Result<(), ConfigError> {
        if x.is_finite() { Ok(()) } else { Err(self.wrong(path, format!("must be a finite number, got {x}"))) }
    }

    fn file_path(&self, path: &Path, key: &[&str]) -> Result<PathBuf, ConfigError> {
        if path.as_os_str().is_empty() {
            return Err(self.wrong(key, "is empty, write the path of a GGUF file"));
        }
        Ok(self.folder.join(self.locator.file(path).map_err(|fault| self.wrong(key, fault))?))
    }

    /// A file that a flag names.
    fn typed_file(&self, flag: &str, path: &Path) -> Result<PathBuf, ConfigError> {
        self.locator.file(path).map_err(|fault| typed_wrong(flag, fault))
    }

    fn file_template(&self, template: Option<&str>, key: &[&str]) -> Result<Option<String>, ConfigError> {
        template.map(|template| self.template(template, &self.folder, key, false)).transpose()
    }

    /// Makes a template's file path independent of where it was written, and refuses a built-in name that does not
    /// exist.
    fn template(&self, template: &str, folder: &Path, key: &[&str], flag: bool) -> Result<String, ConfigError> {
        match TemplateRef::parse(template, folder) {
            Ok(TemplateRef::File(path)) => path
                .into_os_string()
                .into_string()
                .map_err(|path| self.wrong(key, format!("the path {} is not UTF-8", path.display()))),
            Ok(_) => Ok(template.to_owned()),
            Err(problem) if flag => {
                Err(ConfigError::usage(Problem::Invalid { key: key.join("."), problem: problem.to_string() }))
            }
            Err(problem) => Err(self.wrong(key, problem.to_string())),
        }
    }
}

/// The flag of a sampling parameter.
fn flag(field: &str) -> String {
    match field {
        "dry_sequence_breakers" => "--dry-sequence-breaker".to_owned(),
        _ => format!("--{}", field.replace('_', "-")),
    }
}

impl ExpertSpec {
    /// A model with its adapters; what `engine` leaves out has its default.
    pub fn new(model: PathBuf, lora: Vec<LoraSpec>, engine: &EngineOptions) -> Self {
        Self {
            model,
            lora,
            n_ctx: engine.n_ctx,
            n_gpu_layers: engine.n_gpu_layers.unwrap_or_default(),
            threads: engine.threads,
            threads_batch: engine.threads_batch,
            n_batch: engine.n_batch,
            n_ubatch: engine.n_ubatch,
            cache_type_k: engine.cache_type_k.unwrap_or_default(),
            cache_type_v: engine.cache_type_v.unwrap_or_default(),
            flash_attn: engine.flash_attn.unwrap_or_default(),
            swa_full: engine.swa_full.unwrap_or_default(),
            use_mmap: engine.use_mmap.unwrap_or(true),
            use_mlock: engine.use_mlock.unwrap_or(false),
            device: engine.device.clone(),
            split_mode: engine.split_mode.unwrap_or_default(),
            main_gpu: engine.main_gpu.unwrap_or(0),
            tensor_split: engine.tensor_split.clone().unwrap_or_default(),
            rpc: Vec::new(),
            rpc_timeout: None,
        }
    }
}
