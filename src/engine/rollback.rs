//! Whether the state of a recurrent model can be taken back by a few tokens: tried once, when a model is to draft.

use std::sync::Arc;

use super::llama::{Adapters, Context, ContextParams, Model};
use super::share::distance;
use crate::expert::Token;

/// Tokens that the trial takes back; it reads twice as many and one more.
const N: usize = 3;
/// How far apart two rows may be that should be equal, as a share of the spread of one. Batches of other sizes round
/// otherwise; a state that was not taken back is as far off as one row is from another.
const NEAR: f32 = 0.05;

/// Whether llama.cpp takes back the state of a model: as it says, and as a few tokens show. Also where the model has
/// no such state.
pub fn takes_back(model: &Arc<Model>, params: &ContextParams) -> bool {
    !model.is_recurrent() || model.takes_back(|| tried(model, params).unwrap_or(false))
}

/// Reads some tokens, takes the last ones back and reads another; beside it a sequence that reads no more than is kept.
fn tried(model: &Arc<Model>, params: &ContextParams) -> Option<bool> {
    let n_batch = 4 * N as u32;
    let small =
        ContextParams { n_ctx: 64, n_seq: 2, n_batch, n_ubatch: n_batch, n_snapshots: N as u32, ..params.clone() };
    let mut ctx = Context::new(model, Adapters::All(Vec::new()), &small).ok()?;
    if ctx.n_snapshots() < N {
        return Some(false);
    }
    let n_vocab = model.vocab().n_tokens();
    let text: Vec<_> = (0..2 * N + 1).map(|i| (n_vocab / 2 + i * 7919 % (n_vocab / 4).max(1)) as Token).collect();
    let (kept, last) = (&text[..N + 1], &text[..1]);
    let mut row_after = |seq: usize, read: &[Token]| {
        ctx.push(seq, read, 0, 1, None, &[]);
        ctx.decode().ok()?;
        if read.len() > kept.len() && !ctx.truncate(seq, kept.len()) {
            return None;
        }
        ctx.push(seq, last, kept.len(), 1, None, &[]);
        ctx.decode().ok()?;
        ctx.logits(0, 1).map(<[f32]>::to_vec)
    };
    let (found, expected) = (row_after(0, &text)?, row_after(1, kept)?);
    Some(distance(&found, &expected) < NEAR * distance(&expected, &vec![0.0; n_vocab]))
}
