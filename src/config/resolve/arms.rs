//! The ARMs: those of the file, their references, those of the command line, and the weights of all.

use std::path::{Path, PathBuf};

use indexmap::IndexMap;

use super::Resolver;
use crate::config::error::{ConfigError, Problem};
use crate::config::overrides::{ArmOverride, EngineOptions, check_arm_name};
use crate::config::settings::VocabularyUse;
use crate::config::steering;
use crate::config::types::{ArmSpec, ExpertSpec, LoraSpec, PreferenceSpec, ReadingSpec, Reference, ReferenceSpec};
use crate::config::wire::{ArmWire, ConfigWire, ReferenceExpertWire, ReferenceWire};
use crate::engine::gguf::{GgufFile, ModelKind};
use crate::nearest::suggestion;
use crate::stores::ModelName;

/// An expert on the base's model shares the base's weights, on whatever servers they are; another one is here.
fn serve_as(base: &ExpertSpec, spec: &mut ExpertSpec) {
    (spec.rpc, spec.rpc_timeout) = match spec.model == base.model {
        true => (base.rpc.clone(), base.rpc_timeout),
        false => (Vec::new(), None),
    };
}

/// An error about a name that a flag gives.
fn typed_unknown(flag: &str, what: &'static str, name: &str, suggestion: String) -> ConfigError {
    ConfigError::usage(Problem::UnknownName { key: flag.to_owned(), what, name: name.to_owned(), suggestion })
}

/// The two names of `MODEL+ADAPTER`: the first ends in `.gguf`, or is no path.
fn with_adapter(text: &str) -> Option<(String, &str)> {
    match text.split_once(".gguf+") {
        Some((model, adapter)) => Some((format!("{model}.gguf"), adapter)),
        None if ModelName::is_name(text) => text.split_once('+').map(|(model, adapter)| (model.to_owned(), adapter)),
        None => None,
    }
}

impl Resolver<'_> {
    /// Model and adapters of `--arm`: a model, an adapter on the base, or both with a `+` between them.
    fn files(&self, given: &ArmOverride, base: &ExpertSpec) -> Result<(PathBuf, Vec<LoraSpec>), ConfigError> {
        // The shell replaces no ~ in the middle of a word.
        let file = |path: &Path| self.typed_file("--arm", path);
        let lora = |path| vec![LoraSpec { path, scale: 1.0 }];
        if let Some(adapter) = given.model.to_string_lossy().strip_prefix('+') {
            return Ok((base.model.clone(), lora(file(Path::new(adapter))?)));
        }
        if let Some((model, adapter)) = with_adapter(&given.model.to_string_lossy()) {
            return Ok((file(Path::new(&model))?, lora(file(Path::new(adapter))?)));
        }
        let file = file(&given.model)?;
        // What is wrong with the file is reported when it is loaded.
        match GgufFile::open(&file) {
            Ok(header) if header.kind() == ModelKind::Adapter => Ok((base.model.clone(), lora(file))),
            _ => Ok((file, Vec::new())),
        }
    }

    /// The ARMs of the file, then those that only the command line names.
    pub(super) fn arms(&self, wire: &ConfigWire, base: &ExpertSpec) -> Result<Vec<ArmSpec>, ConfigError> {
        let base_engine = wire.base.as_ref().map(|base| base.engine()).unwrap_or_default();
        let mut arms = Vec::with_capacity(wire.arms.len());
        for (name, arm) in &wire.arms {
            arms.push(self.arm(name, arm, base, &base_engine)?);
        }
        for (at, given) in self.overrides.arms.iter().enumerate() {
            if self.overrides.arms[..at].iter().any(|earlier| earlier.name == given.name) {
                let problem = format!("ARM \"{}\" is given twice", given.name);
                return Err(ConfigError::usage(Problem::Invalid { key: "--arm".to_owned(), problem }));
            }
            let (model, lora) = self.files(given, base)?;
            if let Some(known) = arms.iter_mut().find(|arm| arm.name == given.name) {
                // Adapters are those of the model that is no longer meant.
                if !lora.is_empty() || known.reading.is_persona() && known.spec.model == base.model {
                    known.spec.lora = lora;
                }
                known.spec.model = model;
                serve_as(base, &mut known.spec);
                // Those of the file stay for what the new adapter has too.
                let fresh = self.preferences(&given.name, &known.spec.lora, &IndexMap::new())?;
                let has = |of_file: &&PreferenceSpec| {
                    let same = |new: &PreferenceSpec| new.objective == of_file.objective;
                    fresh.iter().any(|new| same(new) && (new.range[0]..=new.range[1]).contains(&of_file.default_value))
                };
                let kept = known.preferences.iter().filter(has);
                let kept: IndexMap<_, _> =
                    kept.map(|of_file| (of_file.objective.clone(), of_file.default_value)).collect();
                known.preferences = match kept.is_empty() {
                    true => fresh,
                    false => self.preferences(&given.name, &known.spec.lora, &kept)?,
                };
                known.default_weight = given.weight.unwrap_or(known.default_weight);
            } else {
                let preferences = self.preferences(&given.name, &lora, &IndexMap::new())?;
                let spec = self.expert(model, lora, &EngineOptions::default(), base, &base_engine);
                arms.push(ArmSpec { preferences, ..ArmSpec::new(&given.name, spec, given.weight.unwrap_or(1.0)) });
            }
        }
        for given in &self.overrides.personas {
            if arms.iter().any(|arm| arm.name == given.name) {
                let problem = format!("there is an ARM \"{}\" already; name the persona otherwise", given.name);
                return Err(ConfigError::usage(Problem::Invalid { key: "--persona".to_owned(), problem }));
            }
            let reading = ReadingSpec { system: Some(given.system.clone()), ..ReadingSpec::default() };
            arms.push(ArmSpec::persona(&given.name, base, reading, 1.0));
        }
        for name in &self.overrides.translate {
            let Some(arm) = arms.iter_mut().find(|arm| arm.name == *name) else {
                let near = suggestion(name, arms.iter().map(|arm| arm.name.as_str()));
                return Err(typed_unknown("--translate", "ARM", name, near));
            };
            if arm.vocabulary == VocabularyUse::Same {
                arm.vocabulary = VocabularyUse::Translate;
            }
        }
        let is_objective = |arm: &&ArmSpec| {
            let of = |other: &ArmSpec| {
                arm.name
                    .strip_prefix(&other.name)
                    .and_then(|rest| rest.strip_prefix('.'))
                    .is_some_and(|rest| other.preferences.iter().any(|of| of.objective == rest))
            };
            arms.iter().any(of)
        };
        match arms.iter().find(is_objective) {
            None => Ok(arms),
            Some(arm) => {
                let problem = format!("\"{}\" is the name of an objective too; give the ARM another name", arm.name);
                Err(ConfigError::usage(Problem::Invalid { key: "arms".to_owned(), problem }))
            }
        }
    }

    /// How much the objectives of an ARM's adapter are preferred: as given, and otherwise not at all; alike where
    /// nothing is given.
    fn preferences(
        &self,
        arm: &str,
        lora: &[LoraSpec],
        given: &IndexMap<String, f32>,
    ) -> Result<Vec<PreferenceSpec>, ConfigError> {
        let path = ["arms", arm, "preferences"];
        let at = |objective| [&path[..], &[objective]].concat();
        let preference = |objective: &String, value: f32, range: [f32; 2]| PreferenceSpec {
            objective: objective.clone(),
            value,
            default_value: value,
            range,
        };
        // What is wrong with a file is reported when it is loaded.
        let opened = lora.iter().map(|lora| GgufFile::open_adapter(&lora.path)).collect::<Result<Vec<_>, _>>();
        let Ok(opened) = opened else {
            for (objective, value) in given {
                self.finite(*value, &at(objective))?;
            }
            return Ok(given.iter().map(|(name, value)| preference(name, *value, [f32::MIN, f32::MAX])).collect());
        };
        let mut parms = opened.iter().filter_map(GgufFile::parm);
        let parm = match (parms.next(), parms.next()) {
            (None, _) if given.is_empty() => return Ok(Vec::new()),
            (None, _) => {
                return Err(self.wrong(&path, "are for an adapter with objectives, and this ARM has none; remove them"));
            }
            (Some(parm), None) => parm,
            (Some(_), Some(_)) => {
                return Err(
                    self.wrong(&["arms", arm, "lora"], "has several adapters with objectives, give one of them")
                );
            }
        };
        for (objective, value) in given {
            if !parm.objectives.contains(objective) {
                let near = suggestion(objective, parm.objectives.iter().map(String::as_str));
                return Err(self.unknown(&at(objective), "objective", objective, near));
            }
            steering::check(Some(parm.range), *value).map_err(|problem| self.wrong(&at(objective), problem))?;
        }
        let alike = 1.0 / parm.objectives.len() as f32;
        let other = if given.is_empty() { alike } else { 0.0 }.clamp(parm.range[0], parm.range[1]);
        let value = |objective: &String| given.get(objective).copied().unwrap_or(other);
        Ok(parm.objectives.iter().map(|objective| preference(objective, value(objective), parm.range)).collect())
    }

    fn arm(
        &self,
        name: &str,
        wire: &ArmWire,
        base: &ExpertSpec,
        base_engine: &EngineOptions,
    ) -> Result<ArmSpec, ConfigError> {
        let path = |key| ["arms", name, key];
        check_arm_name(name).map_err(|problem| {
            let problem = Problem::Invalid { key: "arms".to_owned(), problem };
            self.source.map_or_else(
                || ConfigError::usage(problem.clone()),
                |s| s.at_key(&self.place(&["arms", name]), problem.clone()),
            )
        })?;
        let lora = self.lora(&wire.lora, &path("lora"))?;
        let model = match &wire.model {
            Some(model) => self.file_path(model, &path("model"))?,
            None if !lora.is_empty() || wire.system.is_some() || wire.prefix.is_some() => base.model.clone(),
            None if self.overrides.arms.iter().any(|arm| arm.name == name) => PathBuf::new(),
            None => {
                let problem = "names neither a `model`, a `lora` nor a `system` prompt, write one of them";
                return Err(self.wrong(&["arms", name], problem));
            }
        };
        let weight = wire.weight.unwrap_or(1.0);
        self.finite(weight, &path("weight"))?;
        if let Some(beta_r) = wire.beta_r
            && !(beta_r.is_finite() && beta_r > 0.0)
        {
            return Err(self.wrong(&path("beta_r"), format!("must be a finite number above 0, got {beta_r}")));
        }
        let engine = self.checked(wire.engine(), &["arms", name])?;
        let template = self.file_template(wire.template.as_deref(), &path("template"))?;
        let reading = ReadingSpec { template, system: wire.system.clone(), prefix: wire.prefix.clone() };
        let preferences = self.preferences(name, &lora, &wire.preferences)?;
        // A persona that names no model is the base with its adapters.
        let lora =
            if wire.model.is_none() && lora.is_empty() && reading.is_persona() { base.lora.clone() } else { lora };
        let spec = self.expert(model, lora, &engine, base, base_engine);
        let reference = match &wire.reference {
            None if reading.is_persona() => Reference::Base,
            None | Some(ReferenceWire::None) => Reference::None,
            Some(ReferenceWire::Base) => Reference::Base,
            Some(ReferenceWire::Expert(given)) => self.reference(name, given, base, base_engine)?,
        };
        if let Some([low, high]) = wire.range
            && !(low.is_finite() && high.is_finite() && low < high)
        {
            let problem = format!("must be two finite numbers, the lower one first, got [{low}, {high}]");
            return Err(self.wrong(&path("range"), problem));
        }
        let (beta_r, range, vocabulary) = (wire.beta_r, wire.range, wire.vocabulary.unwrap_or_default());
        Ok(ArmSpec { preferences, reading, beta_r, reference, vocabulary, range, ..ArmSpec::new(name, spec, weight) })
    }

    /// An expert other than the base; what it leaves out is as for the base.
    fn expert(
        &self,
        model: PathBuf,
        lora: Vec<LoraSpec>,
        engine: &EngineOptions,
        base: &ExpertSpec,
        base_engine: &EngineOptions,
    ) -> ExpertSpec {
        let mut spec = ExpertSpec::new(model, lora, &self.overrides.engine.or(engine).or(base_engine));
        serve_as(base, &mut spec);
        spec
    }

    fn reference(
        &self,
        arm: &str,
        wire: &ReferenceExpertWire,
        base: &ExpertSpec,
        base_engine: &EngineOptions,
    ) -> Result<Reference, ConfigError> {
        let path = |key| ["arms", arm, "reference", key];
        let model = match &wire.model {
            Some(model) => self.file_path(model, &path("model"))?,
            None => base.model.clone(),
        };
        let engine = self.checked(wire.engine(), &["arms", arm, "reference"])?;
        let spec = self.expert(model, self.lora(&wire.lora, &path("lora"))?, &engine, base, base_engine);
        let template = self.file_template(wire.template.as_deref(), &path("template"))?;
        let reading = ReadingSpec { template, system: wire.system.clone(), prefix: wire.prefix.clone() };
        Ok(Reference::Expert(Box::new(ReferenceSpec { spec, reading })))
    }

    pub(super) fn profiles(
        &self,
        wire: &ConfigWire,
        arms: &[ArmSpec],
    ) -> Result<IndexMap<String, IndexMap<String, f32>>, ConfigError> {
        for (profile, named) in &wire.profiles {
            for (name, weight) in named {
                let path = ["profiles", profile, name];
                let knob = steering::find(arms, name)
                    .ok_or_else(|| self.unknown(&path, "ARM", name, steering::near(arms, name)))?;
                knob.check(arms, *weight).map_err(|problem| self.wrong(&path, problem))?;
            }
        }
        Ok(wire.profiles.clone())
    }

    /// `--weight` beats the profile, which beats `arms:` and what an entry of `hosts:` says.
    pub(super) fn set_weights(
        &self,
        arms: &mut [ArmSpec],
        profiles: &IndexMap<String, IndexMap<String, f32>>,
    ) -> Result<(), ConfigError> {
        for arm in arms.iter_mut() {
            arm.weight = arm.default_weight;
            arm.preferences.iter_mut().for_each(|preference| preference.value = preference.default_value);
        }
        if let Some((_, host)) = self.host {
            self.set_host_weights(host, arms, profiles)?;
        }
        if let Some(name) = &self.overrides.profile {
            let profile = profiles.get(name).ok_or_else(|| {
                typed_unknown("--profile", "profile", name, suggestion(name, profiles.keys().map(String::as_str)))
            })?;
            steering::set_named(arms, profile);
        }
        for (name, weight) in &self.overrides.weights {
            let Some(knob) = steering::find(arms, name) else {
                return Err(typed_unknown("--weight", "ARM", name, steering::near(arms, name)));
            };
            knob.check(arms, *weight)
                .map_err(|problem| ConfigError::usage(Problem::Invalid { key: format!("--weight {name}"), problem }))?;
            knob.set(arms, *weight);
        }
        Ok(())
    }
}
