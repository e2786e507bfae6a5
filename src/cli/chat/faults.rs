//! What may go wrong in a conversation without ending it.

use crate::cli::one_line;
use crate::decode::DecodeError;
use crate::engine::llama::LoadError;
use crate::expert::ExpertError;
use crate::session::SessionError;

/// What went wrong with a line on a terminal, which is no reason to lose the conversation.
pub fn shown(terminal: bool, error: anyhow::Error) -> anyhow::Result<()> {
    if !terminal {
        return Err(error);
    }
    eprintln!("error: {}", one_line(&error));
    Ok(())
}

/// Whether a server is gone that held a part of a model: it may come back.
pub fn lost_server(error: &anyhow::Error) -> bool {
    let lost = |e: &ExpertError| matches!(e, ExpertError::Server { .. });
    let expert = error.chain().find_map(|e| match e.downcast_ref::<DecodeError>() {
        Some(DecodeError::Base(expert)) => Some(expert),
        _ => e.downcast_ref::<ExpertError>(),
    });
    let load = error.chain().any(|e| {
        matches!(e.downcast_ref::<SessionError>(), Some(SessionError::Load { source: LoadError::Server { .. }, .. }))
    });
    load || expert.is_some_and(lost)
}

/// Whether a prompt does not fit any more.
pub fn is_full(error: &anyhow::Error) -> bool {
    error.chain().any(|e| matches!(e.downcast_ref(), Some(DecodeError::PromptTooLong { .. })))
}
