//! A conversation: its turns, undo and retry, and its file.

use std::io::Write;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

/// One message, as chat templates and the chat APIs know it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// Who speaks: `system`, `user`, `assistant` or `tool`.
    pub role: String,
    /// What is said.
    #[serde(deserialize_with = "super::content::deserialize")]
    pub content: String,
    /// What the assistant thought before it said this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// Tools that the assistant calls, as OpenAI writes them: `{"type": "function", "function": {…}}`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<serde_json::Value>,
    /// The call that a tool answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// The name of the tool, or of who speaks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl Message {
    /// A message of a role.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into(), ..Self::default() }
    }
}

/// A system prompt, then turns of user and assistant, with the weights that they were made with.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conversation {
    /// The system prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// The weights by ARM, in the order of the ARMs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<IndexMap<String, f32>>,
    #[serde(rename = "messages")]
    turns: Vec<Message>,
}

/// A conversation file that cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConversationError {
    /// The file cannot be read.
    #[error("cannot read the conversation {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file cannot be written; what was there before is unharmed.
    #[error("cannot save the conversation to {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file is something else.
    #[error("{} is not a saved conversation: {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl Conversation {
    /// An empty conversation under a system prompt, if any.
    pub fn new(system: Option<String>) -> Self {
        Self { system, ..Self::default() }
    }

    /// The turns without the system prompt.
    pub fn turns(&self) -> &[Message] {
        &self.turns
    }

    /// What a chat template renders: the system prompt, if any, and the turns.
    pub fn messages(&self) -> Vec<Message> {
        let system = self.system.as_deref().filter(|text| !text.is_empty()).map(|text| Message::new("system", text));
        system.into_iter().chain(self.turns.iter().cloned()).collect()
    }

    /// Adds what the user says.
    pub fn push_user(&mut self, content: impl Into<String>) {
        self.turns.push(Message::new("user", content));
    }

    /// Adds what the assistant says.
    pub fn push_assistant(&mut self, content: impl Into<String>) {
        self.turns.push(Message::new("assistant", content));
    }

    /// Takes back the last user message with the answer to it, and returns that message; `None` where there is none.
    pub fn undo(&mut self) -> Option<String> {
        let user = self.turns.iter().rposition(|turn| turn.role == "user")?;
        self.turns.drain(user..).next().map(|turn| turn.content)
    }

    /// Takes back the last answer so that it can be made again. False where no user message waits for one.
    pub fn retry(&mut self) -> bool {
        if self.turns.last().is_some_and(|turn| turn.role == "assistant") {
            self.turns.pop();
        }
        self.turns.last().is_some_and(|turn| turn.role == "user")
    }

    /// Forgets the oldest user message with its answer. False where no younger user message is left.
    pub fn drop_oldest(&mut self) -> bool {
        let mut users = self.turns.iter().enumerate().filter(|(_, turn)| turn.role == "user");
        let Some((next, _)) = users.nth(1) else { return false };
        self.turns.drain(..next);
        true
    }

    /// Forgets all turns.
    pub fn clear(&mut self) {
        self.turns.clear();
    }

    /// Writes the conversation as JSON. The file is replaced as a whole or not at all.
    ///
    /// # Errors
    ///
    /// [`ConversationError::Write`].
    pub fn save(&self, path: &Path) -> Result<(), ConversationError> {
        let write = || -> std::io::Result<()> {
            if path.is_dir() {
                return Err(std::io::ErrorKind::IsADirectory.into());
            }
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            serde_json::to_writer_pretty(&mut file, self)?;
            file.write_all(b"\n")?;
            file.as_file().sync_all()?;
            file.persist(path).map_err(|e| e.error)?;
            Ok(())
        };
        write().map_err(|source| ConversationError::Write { path: path.to_owned(), source })
    }

    /// Reads a conversation that [`save`](Self::save) wrote.
    ///
    /// # Errors
    ///
    /// [`ConversationError::Read`] or [`ConversationError::Invalid`].
    pub fn load(path: &Path) -> Result<Self, ConversationError> {
        let bytes = std::fs::read(path).map_err(|source| ConversationError::Read { path: path.to_owned(), source })?;
        let invalid = |reason: String| ConversationError::Invalid { path: path.to_owned(), reason };
        let text = std::str::from_utf8(&bytes).map_err(|e| invalid(e.to_string()))?;
        let conversation: Self =
            serde_json::from_str(&super::source::plain(text)).map_err(|e| invalid(e.to_string()))?;
        conversation.check().map_err(invalid)?;
        Ok(conversation)
    }

    fn check(&self) -> Result<(), String> {
        for (i, turn) in self.turns.iter().enumerate() {
            let expected = if i % 2 == 0 { "user" } else { "assistant" };
            if turn.role != expected {
                return Err(format!("message {} is of role \"{}\", expected \"{expected}\"", i + 1, turn.role));
            }
        }
        let wrong = self.weights.iter().flatten().find(|(_, weight)| !weight.is_finite());
        wrong.map_or(Ok(()), |(name, _)| Err(format!("the weight of \"{name}\" is not a finite number")))
    }
}

#[cfg(test)]
#[path = "conversation_tests.rs"]
mod tests;
