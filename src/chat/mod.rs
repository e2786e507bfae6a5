//! Conversations, and the chat templates that turn them into each model's own prompt text.

pub mod conversation;
pub mod template;

pub use conversation::{Conversation, ConversationError, Message};
pub use template::{ChatTemplate, TemplateError, TemplateRef, starts_with_bos};
