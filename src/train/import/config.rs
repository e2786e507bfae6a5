//! `adapter_config.json`: what of it a GGUF adapter can express, and what it cannot.

use super::{ImportError, MERGE};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// The particulars of a PEFT adapter that decide how strongly it acts.
#[derive(Debug)]
pub(super) struct PeftConfig {
    alpha: f64,
    rslora: bool,
    alpha_pattern: Vec<(String, f64)>,
    base: Option<String>,
    folder: PathBuf,
    conditioned: Option<Conditioned>,
}

/// What a PBLoRA has beside that: the adapter of a preference-conditioned ARM (PARM).
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Conditioned {
    /// Rank of the part that all preferences share.
    pub shared: usize,
    /// Rank of the part that they change.
    pub steered: usize,
    pub n_objectives: usize,
    /// The objectives' names, where the file has them.
    pub names: Vec<String>,
}

impl Conditioned {
    fn of(config: &Map<String, Value>) -> Result<Option<Self>, String> {
        if config.get("peft_type").and_then(Value::as_str) != Some("PBLORA") {
            return Ok(None);
        }
        let number = |key: &str| {
            let found = config.get(key).and_then(Value::as_u64).filter(|n| (1..=1 << 16).contains(n));
            found.map(|n| n as usize).ok_or_else(|| format!("`{key}` is missing, or no number from 1 to 65536"))
        };
        let names = config.get("objectives").and_then(Value::as_array).into_iter().flatten();
        Ok(Some(Self {
            shared: number("r1")?,
            steered: number("r2")?,
            n_objectives: number("obj_num")?,
            names: names.filter_map(|name| name.as_str().map(str::to_owned)).collect(),
        }))
    }
}

/// Starts of the weights that subtract the adapter's start from the base, so that it fits only that altered base.
const ALTER_THE_BASE: [&str; 4] = ["pissa", "olora", "corda", "loftq"];

impl PeftConfig {
    /// Reads the file.
    ///
    /// # Errors
    ///
    /// [`ImportError::Peft`], naming the setting that a plain LoRA has not.
    pub fn read(path: &Path) -> Result<Self, ImportError> {
        let refuse = |reason: String| ImportError::Peft { path: path.into(), reason };
        let text = std::fs::read_to_string(path)
            .map_err(|e| refuse(format!("{e}; give the folder that PEFT's save_pretrained wrote")))?;
        let value: Value = serde_json::from_str(&text).map_err(|e| refuse(format!("not JSON ({e})")))?;
        let config = value.as_object().ok_or_else(|| refuse("not a JSON object".into()))?;
        check(config).map_err(refuse)?;
        let positive = |name: &str, value: &Value| {
            let number = value.as_f64().filter(|x| x.is_finite() && *x > 0.0 && (*x as f32).is_finite());
            number.ok_or_else(|| refuse(format!("`{name}` is {value}; it must be a positive number")))
        };
        let alpha = config.get("lora_alpha").ok_or_else(|| refuse("`lora_alpha` is missing".into()))?;
        let pattern = config.get("alpha_pattern").and_then(Value::as_object).into_iter().flatten();
        let pattern = pattern.map(|(key, value)| match key.chars().all(|c| c.is_alphanumeric() || "._-".contains(c)) {
            true => Ok((key.clone(), positive("alpha_pattern", value)?)),
            false => {
                Err(refuse(format!("`alpha_pattern` has the pattern \"{key}\"; write out the names of the modules")))
            }
        });
        Ok(Self {
            alpha: positive("lora_alpha", alpha)?,
            rslora: is_true(config, "use_rslora"),
            alpha_pattern: pattern.collect::<Result<_, _>>()?,
            base: config.get("base_model_name_or_path").and_then(Value::as_str).map(str::to_owned),
            folder: path.parent().unwrap_or(path).to_owned(),
            conditioned: Conditioned::of(config).map_err(refuse)?,
        })
    }

    /// What a PBLoRA has beside a LoRA; `None` for a LoRA.
    pub fn conditioned(&self) -> Option<&Conditioned> {
        self.conditioned.as_ref()
    }

    /// The one alpha of the file.
    pub fn alpha(&self) -> f32 {
        self.alpha as f32
    }

    /// What B is multiplied by, so that llama.cpp's alpha / rank gives PEFT's scale for this module.
    pub fn factor(&self, module: &str, rank: usize) -> f64 {
        let own = self.alpha_pattern.iter().find(|(key, _)| module == key || module.ends_with(&format!(".{key}")));
        let alpha = own.map_or(self.alpha, |(_, alpha)| *alpha);
        // rsLoRA scales by alpha / √rank.
        alpha / self.alpha * if self.rslora { (rank as f64).sqrt() } else { 1.0 }
    }

    /// What was imported: the folder's name, and the base that it was trained on.
    pub fn source(&self) -> String {
        let folder = self.folder.file_name().unwrap_or(self.folder.as_os_str()).to_string_lossy();
        match &self.base {
            Some(base) => format!("{folder} (PEFT, on {base})"),
            None => format!("{folder} (PEFT)"),
        }
    }
}

fn is_true(config: &Map<String, Value>, key: &str) -> bool {
    config.get(key) == Some(&Value::Bool(true))
}

/// Refuses whatever a plain LoRA cannot express.
fn check(config: &Map<String, Value>) -> Result<(), String> {
    let text = |key: &str| config.get(key).and_then(Value::as_str);
    match text("peft_type") {
        Some("LORA" | "PBLORA") => {}
        Some(other) => return Err(format!("`peft_type` is {other}; only LORA and PBLORA can be imported")),
        None => return Err("`peft_type` is missing; is this a PEFT adapter?".into()),
    }
    for key in ["use_dora", "use_qalora", "fan_in_fan_out", "lora_bias"] {
        if is_true(config, key) {
            return Err(format!("`{key}` is no plain LoRA; {MERGE}"));
        }
    }
    if let Some(bias) = text("bias").filter(|bias| *bias != "none") {
        return Err(format!("`bias` is \"{bias}\": trained biases are no LoRA; {MERGE}"));
    }
    let set = |value: &&Value| match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        _ => true,
    };
    for key in ["modules_to_save", "trainable_token_indices", "target_parameters", "layer_replication"] {
        if let Some(value) = config.get(key).filter(set) {
            return Err(format!("`{key}` is {value}: whole tensors are no LoRA; {MERGE}"));
        }
    }
    let of_lora = ["use_rslora", "alpha_pattern", "rank_pattern"];
    let refused = of_lora.iter().find(|key| config.get(**key).filter(set).is_some());
    if let Some(key) = refused.filter(|_| text("peft_type") == Some("PBLORA")) {
        return Err(format!("`{key}` has no meaning in a PBLoRA; leave it out if the training ignored it"));
    }
    if config.get("alora_invocation_tokens").filter(set).is_some() {
        return Err("`alora_invocation_tokens`: an activated LoRA acts from those tokens on, and would act everywhere here; train \
                    a plain one"
            .into());
    }
    let start = config.get("init_lora_weights").and_then(Value::as_str).unwrap_or_default().to_ascii_lowercase();
    if ALTER_THE_BASE.iter().any(|name| start.starts_with(name)) {
        return Err(format!(
            "`init_lora_weights` is {start}, which altered the base at the start; save it as a plain LoRA \
             (save_pretrained with path_initial_model_for_weight_conversion)"
        ));
    }
    Ok(())
}
