//! Conversations, the chat templates that turn them into each model's own prompt text, and the tokens of that text.

mod builtin;
mod content;
pub mod conversation;
pub mod rendered;
pub mod source;
pub mod template;
mod tools;
mod trace;

pub use content::text_of_parts;
pub use conversation::{Conversation, ConversationError, Message};
pub use rendered::{Rendered, SpecialTexts, Split, Tokenize, without_end};
pub use template::{ChatTemplate, TOOLS, TemplateError, TemplateRef, own_variable};
pub use tools::{PLAIN_TOOLS, in_plain_text};
