//! How a request steers its texts: weights, personas, limits, and changes at given tokens.

use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::Value;

use crate::config::{ArmSpec, Config, Limits, ReadingSpec, check_arm_name};
use crate::server::engine::WeightChange;
use crate::server::error::ApiError;
use crate::server::fields::{Field, Fields, FromFields, items, shown, wrong};
use crate::server::options::{MAX_PERSONA_BYTES, MAX_PERSONAS, MAX_WEIGHT, MAX_WEIGHT_CHANGES};

/// The weights that a request asks for.
#[derive(Debug)]
pub struct Steering {
    /// Weights by ARM, and preferences by `ARM.OBJECTIVE`.
    preferences: IndexMap<String, f32>,
    /// The profile under them.
    pub profile: Option<String>,
}

impl FromFields for Steering {
    fn read(fields: &mut Fields) -> Result<Self, ApiError> {
        Ok(Self { preferences: fields.take("preferences")?.unwrap_or_default(), profile: fields.take("profile")? })
    }
}

impl Steering {
    /// The weights, one per ARM, then the preferences: the defaults, or the profile, under the preferences.
    ///
    /// # Errors
    ///
    /// A 400 about `profile` or `preferences`.
    pub fn weights(&self, config: &Config) -> Result<Vec<f32>, ApiError> {
        self.change(config, config.weights())
    }

    /// The same for a text that has weights already.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn change(&self, config: &Config, mut weights: Vec<f32>) -> Result<Vec<f32>, ApiError> {
        if let Some(name) = &self.profile {
            weights = config.profile(&shown(name)).map_err(|e| ApiError::invalid("profile", e))?;
        }
        set(config, &mut weights, &self.preferences, "preferences")?;
        Ok(weights)
    }
}

/// Sets weights by name; `at` is where they stand in the request.
fn set(config: &Config, weights: &mut [f32], named: &IndexMap<String, f32>, at: &str) -> Result<(), ApiError> {
    for (name, weight) in named {
        let param = format!("{at}.{}", shown(name));
        let at = config.weight_index(&shown(name)).map_err(|e| ApiError::invalid(&param, e))?;
        check_weight(*weight, &param)?;
        let check = config.check_weight(&shown(name), *weight);
        check.map_err(|problem| ApiError::invalid(&param, format!("{param} {problem}")))?;
        weights[at] = *weight;
    }
    Ok(())
}

fn check_weight(weight: f32, at: &str) -> Result<(), ApiError> {
    if weight.is_nan() || weight.abs() > MAX_WEIGHT {
        let message = format!("{at} must be between -{MAX_WEIGHT} and {MAX_WEIGHT}, got {weight}");
        return Err(ApiError::invalid(at, message));
    }
    Ok(())
}

/// All that steers the texts of a request from their beginning.
#[derive(Debug)]
pub struct Guidance {
    /// The weights.
    pub steering: Steering,
    personas: Vec<Persona>,
    limits: Limits,
}

impl FromFields for Guidance {
    fn read(fields: &mut Fields) -> Result<Self, ApiError> {
        Ok(Self {
            steering: Steering::read(fields)?,
            personas: fields.take::<Personas>("personas")?.map_or_else(Vec::new, |personas| personas.0),
            limits: fields.take("guidance")?.unwrap_or_default(),
        })
    }
}

/// The guidance of a request, over the server's defaults.
pub struct Steered {
    /// The ARMs of the server, then the personas of the request.
    pub config: Arc<Config>,
    /// One weight per ARM, then the preferences.
    pub weights: Vec<f32>,
    /// Bounds on what guidance may do.
    pub limits: Limits,
    /// The system prompts of the personas.
    pub systems: Vec<String>,
}

impl Guidance {
    /// Lays it over the server's defaults, with room for `n_personas`.
    ///
    /// # Errors
    ///
    /// A 400 about the field.
    pub fn over(&self, defaults: Arc<Config>, n_personas: usize) -> Result<Steered, ApiError> {
        let n = self.personas.len();
        if n > n_personas {
            let message = match n_personas {
                0 => "personas: this server takes none; start it with --max-personas N".to_owned(),
                max => format!("personas may hold {max} items, this holds {n}; --max-personas sets how many"),
            };
            return Err(ApiError::invalid("personas", message));
        }
        let mut config = defaults;
        if n > 0 {
            let mut own = Config::clone(&config);
            for (i, persona) in self.personas.iter().enumerate() {
                if own.weight_names().contains(&persona.name) {
                    let (at, name) = (format!("personas[{i}].name"), shown(&persona.name));
                    let message = format!("{at}: there is an ARM or a persona \"{name}\" already; take another name");
                    return Err(ApiError::invalid(&at, message));
                }
                let reading = ReadingSpec { system: Some(persona.system.clone()), ..ReadingSpec::default() };
                own.arms.push(ArmSpec::persona(&persona.name, &own.base, reading, persona.weight));
            }
            config = Arc::new(own);
        }
        let weights = self.steering.weights(&config)?;
        let limits = self.limits.or(config.guidance.limits);
        let systems = self.personas.iter().map(|persona| persona.system.clone()).collect();
        Ok(Steered { config, weights, limits, systems })
    }
}

impl Field for Limits {
    fn read(value: Value, at: &str) -> Result<Self, ApiError> {
        let mut fields = Fields::read(value, at)?;
        let limits = Self { max_kl: fields.take("max_kl")?, plausible: fields.take("plausible")? };
        limits.check().map_err(|(name, problem)| {
            let path = fields.path(name);
            ApiError::invalid(&path, format!("{path} {problem}"))
        })?;
        fields.finish()?;
        Ok(limits)
    }
}

/// The base under another system prompt, for one request.
#[derive(Debug)]
struct Persona {
    name: String,
    system: String,
    weight: f32,
}

impl Field for Persona {
    fn read(value: Value, at: &str) -> Result<Self, ApiError> {
        let mut fields = Fields::read(value, at)?;
        let (name, system): (String, String) = (fields.need("name")?, fields.need("system")?);
        let path = fields.path("name");
        check_arm_name(&shown(&name)).map_err(|problem| ApiError::invalid(&path, format!("{path}: {problem}")))?;
        if shown(&name) != name {
            return Err(ApiError::invalid(
                &path,
                format!("{path} is too long, or has characters that cannot be shown"),
            ));
        }
        let path = fields.path("system");
        if system.trim().is_empty() || system.len() > MAX_PERSONA_BYTES {
            let message = format!("{path} must be a text of at most {MAX_PERSONA_BYTES} bytes, got {}", system.len());
            return Err(ApiError::invalid(&path, message));
        }
        let weight = fields.take("weight")?.unwrap_or(1.0);
        check_weight(weight, &fields.path("weight"))?;
        fields.finish()?;
        Ok(Self { name, system, weight })
    }
}

/// The personas of a request.
struct Personas(Vec<Persona>);

impl Field for Personas {
    fn read(value: Value, at: &str) -> Result<Self, ApiError> {
        match value {
            Value::Array(list) => items(list, at, MAX_PERSONAS).map(Self),
            other => Err(wrong(at, "a list of personas", &other)),
        }
    }
}

/// The changes of weights that an answer reported, to be made again at the same tokens.
#[derive(Debug, Default)]
pub struct WeightsLog(Vec<LoggedChange>);

#[derive(Debug)]
struct LoggedChange {
    token: usize,
    weights: IndexMap<String, f32>,
}

impl Field for WeightsLog {
    fn read(value: Value, at: &str) -> Result<Self, ApiError> {
        match value {
            Value::Array(list) => items(list, at, MAX_WEIGHT_CHANGES).map(Self),
            other => Err(wrong(at, "a list of changes", &other)),
        }
    }
}

impl Field for LoggedChange {
    fn read(value: Value, at: &str) -> Result<Self, ApiError> {
        let mut fields = Fields::read(value, at)?;
        let change = Self { token: fields.need::<u32>("token")? as usize, weights: fields.need("weights")? };
        fields.finish()?;
        Ok(change)
    }
}

impl WeightsLog {
    /// The changes, after `weights`, which become those of token 0.
    ///
    /// # Errors
    ///
    /// A 400 about `weights_log`.
    pub fn changes(&self, config: &Config, weights: &mut Vec<f32>) -> Result<Vec<WeightChange>, ApiError> {
        let mut changes: Vec<WeightChange> = Vec::new();
        let mut now = weights.clone();
        for (i, change) in self.0.iter().enumerate() {
            let at = format!("weights_log[{i}]");
            if let Some(before) = i.checked_sub(1).map(|i| self.0[i].token)
                && change.token <= before
            {
                let path = format!("{at}.token");
                let message = format!("{path} must be above {before}, that of the change before, got {}", change.token);
                return Err(ApiError::invalid(&path, message));
            }
            set(config, &mut now, &change.weights, &format!("{at}.weights"))?;
            match change.token {
                0 => weights.clone_from(&now),
                token => changes.push(WeightChange { token, weights: now.clone() }),
            }
        }
        Ok(changes)
    }
}
