//! Training an ARM: preference pairs and a GGUF backbone in, a GGUF adapter or model out.
//!
//! [`objective`] is the pure loss; [`pairs`] reads the data and [`render`] tokenises it; [`backbone`] is the
//! differentiable transformer, built of [`ops`] and [`attention`]; [`run`] ties them together.

mod about;
pub mod attention;
pub mod backbone;
pub mod checkpoint;
mod data;
pub mod export;
mod fingerprint;
pub mod import;
pub mod lora;
pub mod objective;
pub mod ops;
pub mod optimizer;
pub mod outputs;
pub mod pairs;
pub mod parm;
pub mod preview;
pub mod render;
pub mod report;
pub mod rope;
pub mod run;
pub mod schedule;
pub mod settings;
pub mod shape;
pub mod tokens;
mod totals;
mod weights;

pub use backbone::{Backbone, Packed};
pub use lora::LoraSettings;
pub use objective::Objective;
pub use run::{Outcome, train};
pub use settings::Settings;

use std::path::PathBuf;
use thiserror::Error;

/// Why training could not start or go on. Every message says what to do.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A GGUF file could not be read or written.
    #[error(transparent)]
    File(#[from] crate::engine::gguf::GgufError),
    /// A GGUF file is sound, but no model that can be trained.
    #[error("{}: {reason}", path.display())]
    Gguf {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The backbone's architecture has no differentiable graph here.
    #[error("{}: architecture `{arch}` cannot be trained; use a llama (mistral, smollm), qwen2, qwen3 or gemma3 model", path.display())]
    Architecture {
        /// The file.
        path: PathBuf,
        /// What `general.architecture` says.
        arch: String,
    },
    /// A malformed line of the data.
    #[error("{}:{line}: {reason}; repair the line, or pass --skip-bad to leave such lines out", path.display())]
    Data {
        /// The file.
        path: PathBuf,
        /// Line number, from 1 (element number, for a JSON array; row, for a table).
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// Nothing to train on.
    #[error("no usable examples in {}: {counts}", path.display())]
    NoData {
        /// The file.
        path: PathBuf,
        /// What became of its lines.
        counts: String,
    },
    /// A setting that makes no sense.
    #[error("{0}")]
    Setting(String),
    /// The loss is no longer a number.
    #[error(
        "the {what} is {value} at step {step}; nothing was written; lower the learning rate or --max-grad-norm, or look for \
         broken pairs{}", checkpoint_hint(checkpoint.as_deref())
    )]
    NotANumber {
        /// What was computed.
        what: &'static str,
        /// Its value.
        value: f64,
        /// The step, from 1.
        step: usize,
        /// The last good checkpoint, if there is one.
        checkpoint: Option<PathBuf>,
    },
    /// A checkpoint that belongs to another run.
    #[error("{}: {reason}; remove it, or start without --resume", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// A tensor operation failed.
    #[error("{}", one_line(.0))]
    Tensor(#[from] candle_core::Error),
    /// llama.cpp refused.
    #[error("{0}")]
    Llama(String),
    /// Ctrl-C; a checkpoint and the result so far were written.
    #[error(
        "interrupted at step {step} of {total}; {} holds what was learned so far; continue with --resume (checkpoint {})",
        out.display(), checkpoint.display()
    )]
    Interrupted {
        /// Steps done.
        step: usize,
        /// Steps of the whole run.
        total: usize,
        /// The adapter or model.
        out: PathBuf,
        /// The checkpoint.
        checkpoint: PathBuf,
    },
}

fn checkpoint_hint(checkpoint: Option<&std::path::Path>) -> String {
    checkpoint.map_or_else(String::new, |path| format!("; the last good checkpoint is {}", path.display()))
}

/// What a candle error says, without the backtrace that it adds where backtraces are on.
fn one_line(error: &candle_core::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_string()
}

impl TrainError {
    /// Ties a system error to its file.
    pub fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}

/// Writes a file whole or not at all.
///
/// # Errors
///
/// [`TrainError::Io`], and whatever `fill` returns.
pub(crate) fn write_atomically(
    path: &std::path::Path,
    fill: impl FnOnce(&std::path::Path) -> Result<(), TrainError>,
) -> Result<(), TrainError> {
    /// A system error gets the path of the file that was to be written.
    enum Failure {
        System(std::io::Error),
        Train(TrainError),
    }
    impl From<std::io::Error> for Failure {
        fn from(e: std::io::Error) -> Self {
            Self::System(e)
        }
    }
    crate::files::write_whole(path, |temporary| fill(temporary).map_err(Failure::Train)).map_err(|e| match e {
        Failure::System(e) => TrainError::io(path)(e),
        Failure::Train(e) => e,
    })
}

#[cfg(test)]
mod tests;
