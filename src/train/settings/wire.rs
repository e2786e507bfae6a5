//! Settings as a recipe or the command line spells them.

use super::betas::{Beta, betas};
use super::data::{PairsFile, pairs_files};
use crate::train::schedule::Schedule;
use serde::{Deserialize, Deserializer, Serialize};
use std::path::PathBuf;

/// The name of an objective.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum ObjectiveName {
    /// GenARM's reference-free preference loss
    Arm,
    /// Direct preference optimisation against the frozen backbone
    Dpo,
    /// Next-token loss on text or responses
    Sft,
    /// One ARM for several objectives, that reads the preferences among them: PARM
    Parm,
}

/// What the trained weights are written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum OutType {
    /// A LoRA adapter in llama.cpp's format, to be used with the backbone
    Adapter,
    /// The same with 16-bit floats
    #[value(name = "adapter_f16")]
    #[serde(rename = "adapter_f16")]
    AdapterF16,
    /// A whole model, 32-bit floats
    F32,
    /// A whole model, 16-bit floats
    F16,
    /// A whole model, 8-bit blocks
    #[value(name = "q8_0")]
    #[serde(rename = "q8_0")]
    Q8_0,
    /// A whole model, 4-bit blocks
    #[value(name = "q4_0")]
    #[serde(rename = "q4_0")]
    Q4_0,
    /// A whole model, 4-bit k-quant mixture
    #[value(name = "q4_k_m")]
    #[serde(rename = "q4_k_m")]
    Q4KM,
}

/// What becomes of examples that do not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Overlong {
    /// Leave the example out
    #[default]
    Drop,
    /// Keep the end of the prompt and the beginning of the responses
    Truncate,
}

/// Where an adapter acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Adapt {
    /// On prompt and response
    #[default]
    All,
    /// From the header of the answer on: a prompt's keys and values are the base's own
    Response,
}

/// Which weights of a run are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// Those with the lowest held-out loss of all measurements
    Best,
    /// Those after the last update
    Last,
}

/// Settings as a recipe or the command line spells them; what is absent takes the paper's value.
#[derive(Debug, Clone, Default, Serialize, Deserialize, clap::Args)]
#[serde(deny_unknown_fields, default)]
pub struct Wire {
    /// GGUF model to start from
    #[arg(long, value_name = "FILE")]
    pub backbone: Option<PathBuf>,
    /// Training data: preference pairs (or texts, for sft) as JSONL, a JSON array, Parquet or CSV; .gz and .txt too. For
    /// parm NAME=FILE, one for each objective, or one file with --prefer
    #[arg(long, alias = "data", value_name = "FILE", num_args = 1..)]
    #[serde(deserialize_with = "pairs_files")]
    pub pairs: Option<Vec<PairsFile>>,
    /// Columns of the data by the names that genarm knows: chosen=NAME,rejected=NAME,prompt=NAME,…
    #[arg(long, value_name = "OURS=THEIRS,…", value_delimiter = ',')]
    #[serde(deserialize_with = "columns")]
    pub columns: Option<Vec<Column>>,
    /// What decides between responses without `chosen` and `rejected`: helpful, harmless (PKU-SafeRLHF), or a column
    /// with a label or score; for parm the names of all objectives, with commas
    #[arg(long, value_name = "NAME")]
    pub prefer: Option<String>,
    /// GGUF file to write
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Format of the file to write [default: adapter, or f16 with --full]
    #[arg(long, value_enum)]
    pub out_type: Option<OutType>,
    /// What to minimise [default: arm]
    #[arg(long, value_enum)]
    pub objective: Option<ObjectiveName>,
    /// Scale of the reward, β_r of arm and parm and β of dpo [default: 0.05, dpo 0.1]
    #[arg(long, alias = "beta-r", value_name = "X")]
    pub beta: Option<f64>,
    /// β_r of single objectives of parm, in place of --beta: NAME=X,NAME=X,…
    #[arg(long, value_name = "NAME=X,…", value_delimiter = ',')]
    #[serde(deserialize_with = "betas")]
    pub betas: Option<Vec<Beta>>,
    /// How parm draws preferences: Dirichlet(P, …, P). Below 1 it favours single objectives, 1 is uniform [default: 0.5]
    #[arg(long, value_name = "P")]
    pub dirichlet: Option<f64>,
    /// Let parm read preferences that have nothing to do with its losses: a control
    #[arg(long, hide = true)]
    pub shuffle_preferences: bool,
    /// Margin γ of arm and parm [default: 0]
    #[arg(long, value_name = "X")]
    pub gamma: Option<f64>,
    /// Share of pairs believed to be labelled wrongly, for arm, parm and dpo [default: 0]
    #[arg(long, value_name = "X")]
    pub label_smoothing: Option<f64>,
    /// Use the hinge loss in place of the logistic one, for arm and parm
    #[arg(long)]
    pub hinge: bool,
    /// Train every weight, not a LoRA adapter
    #[arg(long)]
    pub full: bool,
    /// Where the adapter acts: on all that it reads, or on the response alone, so that prompts cost nothing beside the
    /// base [default: all]
    #[arg(long, value_enum)]
    pub adapt: Option<Adapt>,
    /// Go on from this LoRA adapter on the same backbone; its rank, alpha and matrices hold
    #[arg(long, value_name = "FILE")]
    pub init: Option<PathBuf>,
    /// Which weights are written: those with the lowest held-out loss, or the last ones [default: best, or last with
    /// --full]
    #[arg(long, value_enum)]
    pub keep: Option<Keep>,
    /// LoRA rank; for parm that of the part which all preferences share [default: 8, parm 4]
    #[arg(long, value_name = "N")]
    pub lora_rank: Option<usize>,
    /// Rank of the part that preferences change, for parm [default: 4]
    #[arg(long, value_name = "N")]
    pub parm_rank: Option<usize>,
    /// LoRA alpha [default: 16, parm 8]
    #[arg(long, value_name = "X")]
    pub lora_alpha: Option<f32>,
    /// LoRA dropout [default: 0]
    #[arg(long, value_name = "P")]
    pub lora_dropout: Option<f32>,
    /// Matrices to adapt, from q, k, v, o, gate, up, down (or q_proj …), or all-linear [default: q,k,v]
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    #[serde(deserialize_with = "list")]
    pub lora_targets: Option<Vec<String>>,
    /// Peak learning rate [default: 5e-4]
    #[arg(long, value_name = "X")]
    pub lr: Option<f64>,
    /// How the learning rate falls [default: cosine]
    #[arg(long, value_enum)]
    pub schedule: Option<Schedule>,
    /// Steps of linear warm-up [default: 100, at most a tenth of the run]
    #[arg(long, value_name = "N")]
    pub warmup: Option<usize>,
    /// Decoupled weight decay [default: 0.05]
    #[arg(long, value_name = "X")]
    pub weight_decay: Option<f64>,
    /// Examples per update [default: 32]
    #[arg(long, value_name = "N")]
    pub batch: Option<usize>,
    /// Examples per forward pass; gradients accumulate to a batch [default: 8]
    #[arg(long, value_name = "N")]
    pub micro_batch: Option<usize>,
    /// Passes over the data [default: 1]
    #[arg(long, value_name = "N")]
    pub epochs: Option<usize>,
    /// Stop after this many updates
    #[arg(long, value_name = "N")]
    pub max_steps: Option<usize>,
    /// Scale gradients down to this norm; 0 turns it off [default: 1]
    #[arg(long, value_name = "X")]
    pub max_grad_norm: Option<f64>,
    /// Keep only each block's input and compute the rest twice: less memory, a third more work
    #[arg(long)]
    pub grad_checkpoint: bool,
    /// Seed of data order, adapters and dropout [default: 0]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Longest prompt, in tokens [default: 512]
    #[arg(long, value_name = "N")]
    pub max_prompt: Option<usize>,
    /// Longest prompt and response together, in tokens [default: 1024, at most the model's context]
    #[arg(long, value_name = "N")]
    pub max_len: Option<usize>,
    /// What becomes of longer examples [default: drop]
    #[arg(long, value_enum)]
    pub overlong: Option<Overlong>,
    /// How conversations are rendered: auto (the model's own template), a built-in name, a file, or inline Jinja
    /// [default: auto]
    #[arg(long, value_name = "T")]
    pub template: Option<String>,
    /// Responses are cut-off texts: score no end-of-sequence token after them
    #[arg(long)]
    pub no_eos: bool,
    /// Leave malformed lines out and count them
    #[arg(long)]
    pub skip_bad: bool,
    /// Share of the examples held out to measure accuracy [default: 0.05]
    #[arg(long, value_name = "X")]
    pub held_out: Option<f64>,
    /// Steps between two measurements on the held-out examples [default: 50]
    #[arg(long, value_name = "N")]
    pub eval_every: Option<usize>,
    /// Steps between two checkpoints [default: 100]
    #[arg(long, value_name = "N")]
    pub checkpoint_every: Option<usize>,
    /// Go on from the checkpoint beside --out, if there is one
    #[arg(long)]
    pub resume: bool,
    /// CPU threads [default: all cores]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Device: cpu, cuda or metal [default: cpu]
    #[arg(long, value_name = "D")]
    pub device: Option<String>,
}

impl Wire {
    /// Takes from `recipe` what is absent here.
    #[must_use]
    pub fn or(self, recipe: Self) -> Self {
        Self {
            backbone: self.backbone.or(recipe.backbone),
            pairs: self.pairs.or(recipe.pairs),
            columns: self.columns.or(recipe.columns),
            prefer: self.prefer.or(recipe.prefer),
            out: self.out.or(recipe.out),
            out_type: self.out_type.or(recipe.out_type),
            objective: self.objective.or(recipe.objective),
            beta: self.beta.or(recipe.beta),
            betas: self.betas.or(recipe.betas),
            dirichlet: self.dirichlet.or(recipe.dirichlet),
            shuffle_preferences: self.shuffle_preferences || recipe.shuffle_preferences,
            gamma: self.gamma.or(recipe.gamma),
            label_smoothing: self.label_smoothing.or(recipe.label_smoothing),
            hinge: self.hinge || recipe.hinge,
            full: self.full || recipe.full,
            adapt: self.adapt.or(recipe.adapt),
            init: self.init.or(recipe.init),
            keep: self.keep.or(recipe.keep),
            lora_rank: self.lora_rank.or(recipe.lora_rank),
            parm_rank: self.parm_rank.or(recipe.parm_rank),
            lora_alpha: self.lora_alpha.or(recipe.lora_alpha),
            lora_dropout: self.lora_dropout.or(recipe.lora_dropout),
            lora_targets: self.lora_targets.or(recipe.lora_targets),
            lr: self.lr.or(recipe.lr),
            schedule: self.schedule.or(recipe.schedule),
            warmup: self.warmup.or(recipe.warmup),
            weight_decay: self.weight_decay.or(recipe.weight_decay),
            batch: self.batch.or(recipe.batch),
            micro_batch: self.micro_batch.or(recipe.micro_batch),
            epochs: self.epochs.or(recipe.epochs),
            max_steps: self.max_steps.or(recipe.max_steps),
            max_grad_norm: self.max_grad_norm.or(recipe.max_grad_norm),
            grad_checkpoint: self.grad_checkpoint || recipe.grad_checkpoint,
            seed: self.seed.or(recipe.seed),
            max_prompt: self.max_prompt.or(recipe.max_prompt),
            max_len: self.max_len.or(recipe.max_len),
            overlong: self.overlong.or(recipe.overlong),
            template: self.template.or(recipe.template),
            no_eos: self.no_eos || recipe.no_eos,
            skip_bad: self.skip_bad || recipe.skip_bad,
            held_out: self.held_out.or(recipe.held_out),
            eval_every: self.eval_every.or(recipe.eval_every),
            checkpoint_every: self.checkpoint_every.or(recipe.checkpoint_every),
            resume: self.resume || recipe.resume,
            threads: self.threads.or(recipe.threads),
            device: self.device.or(recipe.device),
        }
    }
}

/// A column of the data: the name that genarm knows, and the data's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column(pub String, pub String);

/// The columns that the data may have, as genarm names them.
const COLUMNS: [&str; 27] = [
    "prompt",
    "chosen",
    "rejected",
    "system",
    "system_prompt",
    "question",
    "query",
    "instruction",
    "input",
    "history",
    "conversation",
    "conversations",
    "messages",
    "text",
    "response",
    "completion",
    "output",
    "answer",
    "responses",
    "completions",
    "response_0",
    "response_1",
    "response_2",
    "response_a",
    "response_b",
    "human_ref_A",
    "human_ref_B",
];

impl std::str::FromStr for Column {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=').map(|(ours, theirs)| (ours.trim(), theirs.trim())) {
            Some((ours, theirs)) if COLUMNS.contains(&ours) && !theirs.is_empty() => {
                Ok(Self(ours.into(), theirs.into()))
            }
            Some((ours, theirs)) if !theirs.is_empty() => {
                let near = crate::nearest::suggestion(ours, COLUMNS);
                Err(format!("there is no column \"{ours}\"{near}; known: {}", COLUMNS.join(", ")))
            }
            _ => Err(format!("expected OURS=THEIRS, as chosen=best_answer, got \"{text}\"")),
        }
    }
}

/// A mapping, or one text with commas: `{chosen: best}`, `chosen=best,rejected=worst`.
fn columns<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Column>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a mapping of columns, or one text as chosen=NAME,rejected=NAME")]
    enum Columns {
        Mapping(indexmap::IndexMap<String, String>),
        Text(String),
    }
    let texts = match Option::<Columns>::deserialize(deserializer)? {
        None => return Ok(None),
        Some(Columns::Mapping(map)) => map.into_iter().map(|(ours, theirs)| format!("{ours}={theirs}")).collect(),
        Some(Columns::Text(text)) => text.split(',').map(str::to_owned).collect::<Vec<_>>(),
    };
    texts.iter().map(|text| text.parse()).collect::<Result<_, String>>().map(Some).map_err(serde::de::Error::custom)
}

/// A list, or one text with commas: `[q, v]`, `q,v`, `all-linear`.
fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a list of names, or one text with commas")]
    enum Names {
        List(Vec<String>),
        Text(String),
    }
    Ok(Option::<Names>::deserialize(deserializer)?.map(|names| match names {
        Names::List(list) => list,
        Names::Text(text) => text.split(',').map(str::to_owned).collect(),
    }))
}
