//! The models that are guided: all, or those under `hosts:`, found on this machine before the tool starts.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::brief;
use crate::cli::download::HubArgs;
use crate::config::{Config, HostName, Overrides, host_names, host_source, pattern_spellings};
use crate::session::ArmModels;
use crate::stores::{CLOSED, FindError, ModelName, Pick, Stores, ollama};

/// What a configuration guides.
#[derive(Debug, Default)]
pub(super) struct Guided {
    /// The models under `hosts:`, for the preload (vendor/preload/model.c says how); `None` guides every model.
    pub models: Option<OsString>,
    /// Models that are not on this machine yet, and when they will be guided.
    pub missing: Vec<(String, &'static str)>,
    /// What a user should know before the tool starts.
    pub notes: Vec<String>,
    /// What the tool will read, without its own model.
    pub files: Vec<PathBuf>,
}

/// Where a model under `hosts:` is.
enum Found {
    /// In this file.
    File(PathBuf),
    /// Wherever the pattern fits.
    Pattern,
    /// Nowhere yet: the problem with what is there instead, and what to do.
    Missing { problem: String, then: &'static str },
}

/// A model under `hosts:` as the preload finds it: kinds and what they compare.
struct Model {
    lines: Vec<(&'static str, OsString)>,
    found: Found,
}

/// What stands for a model that is not known yet; nothing opens it.
const UNKNOWN: &str = "the model";

/// Checks a configuration with all that it names.
pub(super) fn resolve(file: &Path, overrides: &Overrides) -> anyhow::Result<Guided> {
    let file = &std::path::absolute(file)?;
    let names = host_names(file)?;
    let mut guided = Guided { files: vec![file.clone()], ..Guided::default() };
    if names.is_empty() {
        let config = load(file, overrides)?;
        guided.read(&config);
        return Ok(guided);
    }
    let folder = file.parent().unwrap_or(Path::new("/"));
    let (mut lines, mut needs, mut known) = (OsString::new(), Vec::new(), Vec::<(PathBuf, &str)>::new());
    for (name, meaning) in &names {
        let at = || format!("hosts.{name}");
        let model = find(meaning, folder);
        for (kind, what) in &model.lines {
            if what.as_encoded_bytes().iter().any(|byte| b"\t\n".contains(byte)) {
                bail!("{}: its path has a tab or a line break, which cannot be passed to the tool", at());
            }
            lines.push(format!("{kind}\t"));
            lines.push(what);
            lines.push(format!("\t{name}\n"));
        }
        let path = match &model.found {
            Found::File(path) => Some(path.clone()),
            Found::Pattern => None,
            Found::Missing { problem, then } => {
                guided.missing.push((format!("{}: {problem}", at()), then));
                None
            }
        };
        let (source, of_host) = host_source(file, name, path.as_deref().unwrap_or(Path::new(UNKNOWN)), overrides)?;
        let config = load(&source, &of_host)?;
        if config.arms.is_empty() {
            bail!("{}: {} has no ARMs; write `arms:` there", at(), source.display());
        }
        let need = ArmModels::check(&config, path.is_some()).with_context(at)?;
        let per_text = need.kv + need.compute;
        // What is on a base that is not known yet has no size yet.
        if per_text > 0 {
            needs.push(format!("{name} {} and {} per text", brief::bytes(need.weights), brief::bytes(per_text)));
        }
        guided.files.push(source);
        guided.read(&config);
        if let Some(path) = path.and_then(|path| path.canonicalize().ok()) {
            if let Some((_, first)) = known.iter().find(|(other, _)| *other == path) {
                guided.notes.push(format!("{first} and {name} are one file, so both are guided as {first}"));
            }
            known.push((path, name));
        }
    }
    // The system's limit for one variable, with room to spare.
    if lines.len() > 120_000 {
        bail!("{}: {} models under hosts: are too many to be passed to the tool", file.display(), names.len());
    }
    if !needs.is_empty() {
        guided.notes.push(format!("ARMs take memory that the tool does not count: {}", needs.join("; ")));
    }
    guided.models = Some(lines);
    Ok(guided)
}

/// Downloads what the ARMs lack, as every command does that opens models.
fn load(file: &Path, overrides: &Overrides) -> anyhow::Result<Config> {
    HubArgs::default().load(Some(file), overrides, anyhow::Error::from)
}

impl Guided {
    fn read(&mut self, config: &Config) {
        for spec in config.arms.iter().flat_map(|arm| arm.specs()) {
            let models = Some(&spec.model).filter(|model| **model != config.base.model);
            self.files.extend(models.into_iter().chain(spec.lora.iter().map(|lora| &lora.path)).cloned());
        }
    }
}

/// The preload looks for the model itself.
const IN_TIME: &str = "it is guided once it is there";
/// It is looked for only here.
const AT_THE_NEXT_START: &str = "start this again once it is there";

/// Finds a model on this machine.
fn find(name: &HostName, folder: &Path) -> Model {
    match name {
        HostName::Model(name) => in_stores(name, &Stores::here()),
        HostName::Path(path) => {
            let missing = || Found::Missing { problem: not_here(&ggufs_beside(path)), then: IN_TIME };
            let found = if path.is_file() { Found::File(path.clone()) } else { missing() };
            Model { lines: vec![("file", path.into())], found }
        }
        HostName::Pattern(pattern) => {
            // A plain name may be that of a file beside the configuration, which is then checked.
            let here = folder.join(pattern);
            let found = if here.is_file() { Found::File(here) } else { Found::Pattern };
            let lines = pattern_spellings(pattern).into_iter().map(|pattern| ("glob", pattern.into()));
            Model { lines: lines.collect(), found }
        }
    }
}

fn in_stores(name: &ModelName, stores: &Stores) -> Model {
    let file = stores.find(name);
    let mut lines: Vec<(_, OsString)> = match name {
        ModelName::Ollama(name) => {
            let paths = stores.ollama.iter().flat_map(|root| ollama::manifest_paths(root, name));
            paths.map(|path| ("ollama", path.into())).collect()
        }
        // A tool that is given the name looks for the file itself.
        ModelName::Hub(name) => {
            let mut lines = vec![("hub", name.to_string().into())];
            // What llama.cpp takes where it is given the repository alone.
            if matches!(&name.pick, Pick::Quant(quant) if quant.eq_ignore_ascii_case("Q4_K_M")) {
                lines.push(("default", name.repo.clone().into()));
            }
            lines
        }
        ModelName::LmStudio(_) => vec![],
    };
    let found = match file {
        Ok(file) => {
            lines.push(("file", file.clone().into()));
            Found::File(file)
        }
        Err(error) => {
            let problem = match error {
                FindError::Damaged { problem, file, .. } => not_here(&format!("{}: {problem}", file.display())),
                FindError::Closed { path, .. } => format!("{} {CLOSED}", path.display()),
                _ => not_here(&models_beside(name, stores)),
            };
            let then = if matches!(name, ModelName::Ollama(_)) { IN_TIME } else { AT_THE_NEXT_START };
            Found::Missing { problem, then }
        }
    };
    Model { lines, found }
}

fn not_here(there: &str) -> String {
    format!("this model is not on this machine; {there}")
}

/// What the store of a name has.
fn models_beside(name: &ModelName, stores: &Stores) -> String {
    let (store, prefix, roots): (_, _, Vec<_>) = match name {
        ModelName::Ollama(_) => ("Ollama", "ollama:", stores.ollama.iter().collect()),
        ModelName::Hub(_) => ("the Hugging Face cache", "hf:", stores.huggingface.iter().collect()),
        ModelName::LmStudio(_) => ("LM Studio", "lmstudio:", stores.lmstudio.iter().collect()),
    };
    let names = stores.list().into_iter().map(|model| model.name).filter(|name| name.starts_with(prefix)).collect();
    let roots: Vec<_> = roots.iter().map(|root| root.display().to_string()).collect();
    let there = listed(&format!("{store} has"), names, &format!("{store} has none in {}", roots.join(" or ")));
    match name {
        ModelName::Hub(_) => format!("{there}; run genarm pull {name}"),
        _ => there,
    }
}

fn ggufs_beside(path: &Path) -> String {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<_> = names.filter(|name| name.to_lowercase().ends_with(".gguf")).collect();
    names.sort();
    let folder = folder.display();
    listed(&format!("{folder} has"), names, &format!("{folder} has no GGUF"))
}

/// What is there, in place of what is not.
fn listed(what: &str, names: Vec<String>, none: &str) -> String {
    const MOST: usize = 20;
    let more = names.len().saturating_sub(MOST);
    let shown = names.iter().take(MOST).cloned().collect::<Vec<_>>().join(", ");
    match (shown.is_empty(), more) {
        (true, _) => none.to_owned(),
        (false, 0) => format!("{what} {shown}"),
        (false, more) => format!("{what} {shown} and {more} more"),
    }
}
