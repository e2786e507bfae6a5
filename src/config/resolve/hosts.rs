//! `hosts:`: what guides each model of another program, in one file.

use std::path::{Path, PathBuf};

use indexmap::IndexMap;

use super::files::{Fault, Locator};
use super::pattern::{literal, without_dots};
use super::{Resolver, folder_of, read, read_wire};
use crate::config::error::{ConfigError, Source};
use crate::config::overrides::{HostModel, Overrides};
use crate::config::steering;
use crate::config::types::{ArmSpec, Config};
use crate::config::wire::{BaseWire, ConfigWire, HostWire};
use crate::nearest::suggestion;
use crate::stores::ModelName;

/// What a name under `hosts:` stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostName {
    /// A model of a store.
    Model(ModelName),
    /// The file of this path.
    Path(PathBuf),
    /// The files whose path fits this pattern; without a slash in it, whose name does.
    Pattern(String),
}

impl HostName {
    /// Reads a name. Relative paths start in `folder`.
    pub(super) fn parse(name: &str, folder: &Path) -> Result<Self, Fault> {
        if name.trim().is_empty() {
            return Err("names no model; write ollama:NAME, the path of a GGUF, or a pattern".into());
        }
        // Lines and tabs separate names on their way to the program.
        if name.chars().any(char::is_control) {
            return Err("the name has a tab or another control character".into());
        }
        if let Some(model) = ModelName::parse(name) {
            return Ok(Self::Model(model?));
        }
        let is_pattern = name.contains(['*', '?', '[']);
        if !name.contains('/') && name != "~" {
            return Ok(Self::Pattern(if is_pattern { name.to_owned() } else { literal(name) }));
        }
        let path = Locator::Nothing.file(Path::new(name))?;
        match is_pattern {
            true if path.is_absolute() => Ok(Self::Pattern(without_dots(&path.display().to_string()))),
            true => Ok(Self::Pattern(literal(&folder.display().to_string()) + "/" + &without_dots(name))),
            false => Ok(Self::Path(folder.join(path))),
        }
    }
}

/// The names under `hosts:` of a file, in its order, and what they stand for; none where it has no `hosts:`.
///
/// # Errors
///
/// [`ConfigError`] where the file cannot be read, or has a mistake under `hosts:`.
pub fn host_names(file: &Path) -> Result<Vec<(String, HostName)>, ConfigError> {
    let text = read(file)?;
    let (source, wire) = read_wire(&text, file)?;
    let overrides = Overrides::default();
    let resolver = unopened(&source, file, &overrides);
    resolver.check_hosts(&wire)?;
    let parse = |name: String| match HostName::parse(&name, &resolver.folder) {
        Ok(meaning) => Ok((name, meaning)),
        Err(fault) => Err(resolver.wrong(&["hosts", &name], fault)),
    };
    wire.hosts.into_keys().map(parse).collect()
}

/// What to load for one model of a host: the file itself, or the other one that its entry names; and `overrides` with
/// that choice.
///
/// # Errors
///
/// [`ConfigError`] where the file cannot be read, or has no such entry.
pub fn host_source(
    file: &Path,
    name: &str,
    model: &Path,
    overrides: &Overrides,
) -> Result<(PathBuf, Overrides), ConfigError> {
    let text = read(file)?;
    let (source, wire) = read_wire(&text, file)?;
    let (name, host) = unopened(&source, file, overrides).host_entry(name, &wire)?;
    let of = |entry| Overrides { host: Some(HostModel { entry, model: model.to_owned() }), ..overrides.clone() };
    let Some(other) = &host.config else { return Ok((file.to_owned(), of(Some(name.to_owned())))) };
    let other = Locator::Nothing.file(other);
    let other = other.map_err(|fault| unopened(&source, file, overrides).wrong(&["hosts", name, "config"], fault))?;
    Ok((folder_of(file).join(other), of(None)))
}

/// What reads a file and looks for no model.
fn unopened<'a>(source: &'a Source<'a>, file: &Path, overrides: &'a Overrides) -> Resolver<'a> {
    let (host, locator) = (None, Locator::Nothing);
    Resolver { source: Some(source), folder: folder_of(file), host, overrides, locator }
}

impl HostWire {
    /// Whether what stands under a key of the configuration is the entry's own, and not the file's.
    pub(super) fn has(&self, key: &str) -> bool {
        match key {
            "base" => self.base.is_some(),
            "arms" => self.arms.is_some(),
            "profiles" => self.profiles.is_some() || self.arms.is_some(),
            "on_error" => self.on_error.is_some(),
            "guidance" => self.guidance.is_some(),
            "config" | "profile" | "weights" => true,
            _ => false,
        }
    }

    /// The file with what the entry says in place of the file's own.
    fn over(&self, file: &ConfigWire) -> ConfigWire {
        let own = self.clone();
        // Another model is guided, on which the file's adapters do not fit; the settings of its context may be the
        // same.
        let of_file = || file.base.clone().map(|base| BaseWire { model: None, lora: Vec::new(), ..base });
        let (arms, profiles) = match own.arms {
            Some(arms) => (arms, own.profiles.unwrap_or_default()),
            None => (file.arms.clone(), own.profiles.unwrap_or_else(|| file.profiles.clone())),
        };
        ConfigWire {
            base: own.base.or_else(of_file),
            arms,
            profiles,
            on_error: own.on_error.or(file.on_error),
            share_batch: file.share_batch,
            guidance: own.guidance.unwrap_or_else(|| file.guidance.clone()),
            // The program samples and renders prompts itself.
            ..ConfigWire::default()
        }
    }
}

impl<'a> Resolver<'a> {
    /// Where the value at a path of the configuration stands in the file.
    pub(super) fn place<'p>(&'p self, path: &[&'p str]) -> Vec<&'p str> {
        match self.host {
            Some((name, host)) if path.first().is_none_or(|key| host.has(key)) => [&["hosts", name], path].concat(),
            _ => path.to_vec(),
        }
    }

    /// What guides the model `name`.
    pub(super) fn resolve_host(self, name: &str, wire: &'a ConfigWire) -> Result<Config, ConfigError> {
        let entry = self.host_entry(name, wire)?;
        let resolver = Resolver { host: Some(entry), ..self };
        if let Some(other) = &entry.1.config {
            let problem = format!("this model is guided by another file, {}; load that", other.display());
            return Err(resolver.wrong(&["config"], problem));
        }
        let config = resolver.resolve(&entry.1.over(wire))?;
        match config.arms.is_empty() {
            true => Err(resolver.wrong(&[], "guides nothing, as there are no ARMs; write `arms:` here or in the file")),
            false => Ok(config),
        }
    }

    /// Refuses wrong entries, whichever of them will be used.
    pub(super) fn check_hosts(&self, wire: &ConfigWire) -> Result<(), ConfigError> {
        for (name, host) in &wire.hosts {
            let overrides = Overrides {
                host: Some(HostModel { entry: Some(name.clone()), model: PathBuf::from(name) }),
                ..Overrides::default()
            };
            HostName::parse(name, &self.folder).map_err(|fault| self.wrong(&["hosts", name], fault))?;
            if host.config.is_none() {
                let (source, folder, locator) = (self.source, self.folder.clone(), Locator::Nothing);
                Resolver { source, folder, host: None, overrides: &overrides, locator }.resolve_host(name, wire)?;
            } else if (HostWire { config: None, ..host.clone() }) != HostWire::default() {
                let problem = "stands alone, as the other file has all of it; remove the other keys, or `config`";
                return Err(self.wrong(&["hosts", name, "config"], problem));
            }
        }
        Ok(())
    }

    /// An entry by its name.
    fn host_entry<'w>(&self, name: &str, wire: &'w ConfigWire) -> Result<(&'w str, &'w HostWire), ConfigError> {
        let found = wire.hosts.get_key_value(name).map(|(name, host)| (name.as_str(), host));
        found.ok_or_else(|| {
            let near = suggestion(name, wire.hosts.keys().map(String::as_str));
            self.unknown(&["hosts"], "model", name, near)
        })
    }

    /// The weights that an entry chooses: those that it names, over its profile's.
    pub(super) fn set_host_weights(
        &self,
        host: &HostWire,
        arms: &mut [ArmSpec],
        profiles: &IndexMap<String, IndexMap<String, f32>>,
    ) -> Result<(), ConfigError> {
        if let Some(name) = &host.profile {
            let profile = profiles.get(name).ok_or_else(|| {
                let near = suggestion(name, profiles.keys().map(String::as_str));
                self.unknown(&["profile"], "profile", name, near)
            })?;
            steering::set_named(arms, profile);
        }
        for (name, weight) in &host.weights {
            let Some(knob) = steering::find(arms, name) else {
                return Err(self.unknown(&["weights", name], "ARM", name, steering::near(arms, name)));
            };
            knob.check(arms, *weight).map_err(|problem| self.wrong(&["weights", name], problem))?;
            knob.set(arms, *weight);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_model_of_a_store_a_path_or_a_pattern() {
        let parse = |name: &str| HostName::parse(name, Path::new("/x [1]")).map_err(|_| ());
        assert_eq!(
            parse("ollama:llama3.2:1b").unwrap(),
            HostName::Model(ModelName::parse("ollama:llama3.2:1b").unwrap().unwrap())
        );
        for (name, pattern) in [
            ("a.gguf", "a.gguf"),
            ("*", "*"),
            ("a-[qQ]?.gguf", "a-[qQ]?.gguf"),
            ("/m/*/a.gguf", "/m/*/a.gguf"),
            ("/m//./*/a.gguf", "/m/*/a.gguf"),
            ("./m//*.gguf", "/x \\[1\\]/m/*.gguf"),
        ] {
            assert_eq!(parse(name), Ok(HostName::Pattern(pattern.to_owned())), "{name}");
        }
        for (name, path) in [("/m/a.gguf", "/m/a.gguf"), ("m/a.gguf", "/x [1]/m/a.gguf")] {
            assert_eq!(parse(name), Ok(HostName::Path(PathBuf::from(path))), "{name}");
        }
        for name in ["", " ", "a\nb", "ollama:", "ollama:a b", "hf:alone", "~someone/m.gguf"] {
            assert_eq!(parse(name), Err(()), "{name:?}");
        }
    }
}
