//! What goes over the wire: OpenAI's requests and answers, with genarm's additions.

pub mod chat;
pub mod completion;
pub mod foreign;
pub mod format;
pub mod messages;
pub mod reply;
pub mod request;
pub mod responses;
pub mod sampling;
pub mod steering;
pub mod tools;
