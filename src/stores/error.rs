//! Why a name leads to no file.

use std::path::PathBuf;

/// What follows the path of what this user may not read. Only Ollama's installer makes a store of another user's.
pub const CLOSED: &str = "cannot be read by this user (join the group ollama, or set OLLAMA_MODELS)";

/// Why a name leads to no file on this machine. One line each.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FindError {
    /// The name cannot be read.
    #[error("\"{name}\" is no model's name: {problem}")]
    Name {
        /// What was written.
        name: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// The model is not on this machine.
    #[error("{name} is not on this machine; {advice}")]
    NotHere {
        /// The name.
        name: String,
        /// What to do.
        advice: String,
        /// Whether `genarm pull` can get it.
        can_pull: bool,
    },
    /// The store is there, and this user may not read it.
    #[error("{name}: {} {CLOSED}", path.display())]
    Closed {
        /// The name.
        name: String,
        /// The folder or file.
        path: PathBuf,
    },
    /// The store has an entry that leads nowhere.
    #[error("{name} is damaged: {}: {problem}", file.display())]
    Damaged {
        /// The name.
        name: String,
        /// The file at fault.
        file: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },
}
