//! A context asked for what it does not have answers so, and touches no memory that is not its own.

use genarm::engine::llama::{Adapters, Context, ContextParams, SavedState};

use crate::support;

fn context(n_seq: u32) -> Context {
    let model = support::load(&support::models().base);
    let params = ContextParams { n_seq, ..support::context_params() };
    Context::new(&model, Adapters::All(Vec::new()), &params).expect("a context")
}

#[test]
fn rows_of_logits_that_are_not_there_are_none() {
    let mut ctx = context(2);
    let n_vocab = ctx.n_vocab();
    let len = |ctx: &Context, first, k| ctx.logits(first, k).map(<[f32]>::len);
    assert_eq!(len(&ctx, 0, 1), None, "nothing is decoded");
    ctx.push(0, &[1, 2, 3], 0, 2, None, &[]);
    ctx.push(1, &[4], 0, 1, None, &[]);
    assert_eq!(len(&ctx, 0, 1), None, "it is not decoded yet");
    ctx.decode().expect("decoded");
    assert_eq!((len(&ctx, 0, 3), len(&ctx, 2, 1)), (Some(3 * n_vocab), Some(n_vocab)));
    for (first, k) in [(0, 4), (3, 1), (2, 2), (usize::MAX, 1), (1, usize::MAX)] {
        assert_eq!(len(&ctx, first, k), None, "{first}, {k}");
    }
    ctx.push(0, &[5], 3, 0, None, &[]);
    ctx.decode().expect("decoded");
    assert_eq!(len(&ctx, 0, 1), None, "a batch without logits leaves none");
    // A position that does not follow: llama.cpp refuses the batch.
    ctx.push(0, &[5], 77, 1, None, &[]);
    ctx.decode().expect_err("a gap");
    assert_eq!(len(&ctx, 0, 1), None, "a batch that failed leaves none");
}

#[test]
fn a_sequence_that_a_context_does_not_have_is_no_reason_to_end_the_process() {
    let mut ctx = context(2);
    let mut state = SavedState::default();
    for seq in [2, 255, 256, 100_000, usize::MAX] {
        assert!(!ctx.truncate(seq, 0) && !ctx.save(seq, &mut state) && !ctx.go_back(seq, &state, 0), "{seq}");
    }
    ctx.push(0, &[1, 2], 0, 1, None, &[]);
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| ctx.push(2, &[1], 0, 1, None, &[]))).is_err());
    ctx.decode().expect("what was pushed before is whole");
    assert!(ctx.logits(0, 1).is_some());
}

#[test]
fn a_sequence_goes_back_only_to_what_its_context_has_saved() {
    let (mut ctx, mut other) = (context(1), context(1));
    ctx.push(0, &[1, 2, 3], 0, 1, None, &[]);
    ctx.decode().expect("decoded");
    let mut state = SavedState::default();
    assert!(!ctx.go_back(0, &state, 3), "nothing was saved");
    assert!(ctx.save(0, &mut state));
    assert!(!other.go_back(0, &state, 3), "another context");
    assert!(ctx.go_back(0, &state, 3));
    ctx.push(0, &[4], 3, 1, None, &[]);
    ctx.decode().expect("it goes on where it was saved");
}
