//! Where a state cannot be taken back, texts go back to where a message began.

use std::sync::Arc;

use genarm::engine::Scaled;
use genarm::engine::llama::{Adapters, Context, ContextParams, Model, SavedState};
use genarm::engine::memory::MemoryParts;
use genarm::engine::share::{apart, together};
use genarm::{Expert, Token};

use super::{FAMILIES, Family, reads, worst};
use crate::support::{self, tokens as text};

/// A long conversation: messages that each begin with a control token, and the beginning of an answer.
struct Conversation {
    header: Token,
    messages: Vec<Vec<Token>>,
}

impl Conversation {
    fn new(model: &Arc<Model>, n_messages: usize, n_tokens: usize) -> Self {
        let vocab = model.vocab();
        let is_header = |token: &Token| vocab.is_control(*token) && !vocab.is_eog(*token);
        let header = (1..vocab.n_tokens() as Token).rev().find(is_header).expect("a control token");
        let messages = (0..n_messages).map(|i| text(i as Token, n_tokens - 1)).collect();
        Self { header, messages }
    }

    /// All of it up to the answer to message `n`.
    fn prompt(&self, n: usize) -> Vec<Token> {
        let message = |message: &Vec<Token>| [&[self.header], &message[..]].concat();
        let all = self.messages[..n].iter().flat_map(message);
        all.chain([self.header, 7]).collect()
    }
}

fn long_params() -> ContextParams {
    ContextParams { n_ctx: 2304, ..support::context_params() }
}

#[test]
fn the_plan_knows_the_size_of_a_state() {
    for arch in FAMILIES {
        let family = Family::new(arch);
        let none = Adapters::All(Vec::new());
        let mut ctx = Context::new(&family.model, none, &support::context_params()).expect("a context");
        ctx.push(0, &[5, 6], 0, 1, None, &[]);
        ctx.decode().expect("decoded");
        let mut state = SavedState::default();
        assert!(ctx.save(0, &mut state));
        let planned = MemoryParts::of(family.model.file()).checkpoints() as usize / 32;
        // Beside the numbers llama.cpp writes what they are.
        assert!((planned..planned + 200).contains(&state.n_bytes()), "{arch}: {planned}, {}", state.n_bytes());
    }
}

#[test]
fn an_edited_message_is_read_with_what_follows_and_not_with_what_was_before() {
    for arch in FAMILIES {
        let family = Family::new(arch);
        let mut alone = apart(&family.model, &[], &long_params(), 2).expect("a context");
        let (mut expert, mut fresh) = (alone.remove(0), alone.remove(0));
        let mut conversation = Conversation::new(&family.model, 20, 100);
        let n = reads(&mut expert, &mut fresh, &conversation.prompt(20), arch);
        assert_eq!(n, 2002);
        for edited in [19, 12, 18, 3] {
            let mut history = conversation.prompt(20);
            history.extend(text(8, 12));
            expert.advance(&history, 1).expect("a row");
            conversation.messages[edited][50] += 1;
            let n = reads(&mut expert, &mut fresh, &conversation.prompt(20), arch);
            assert_eq!(n, 100 * (20 - edited as u64) + 2, "{arch}: message {edited} and what follows");
        }
    }
}

#[test]
fn another_answer_and_another_message_begin_where_the_last_ones_did() {
    for arch in FAMILIES {
        let family = Family::new(arch);
        let mut alone = apart(&family.model, &[], &long_params(), 2).expect("a context");
        let (mut expert, mut fresh) = (alone.remove(0), alone.remove(0));
        let mut conversation = Conversation::new(&family.model, 6, 40);
        let mut history = Vec::new();
        for turn in [1, 3, 5] {
            // What was answered is the next message.
            history = conversation.prompt(turn);
            reads(&mut expert, &mut fresh, &history, arch);
            for token in conversation.messages[turn].clone() {
                history.push(token);
                expert.advance(&history, 1).expect("a row");
            }
            conversation.messages[turn].insert(0, 7);
        }
        let answered = history.len();
        let n = reads(&mut expert, &mut fresh, &conversation.prompt(5), arch);
        assert_eq!(n, 2, "{arch}: /retry reads the header of the answer");
        conversation.messages[4] = text(77, 30);
        let n = reads(&mut expert, &mut fresh, &conversation.prompt(5), arch);
        assert_eq!(n, 31 + 2, "{arch}: another message");
        assert!(answered > 200);
    }
}

#[test]
fn what_cannot_be_taken_back_is_read_again() {
    for arch in FAMILIES {
        let family = Family::new(arch);
        let mut alone = family.apart();
        let (mut expert, mut fresh) = (alone.remove(0), family.apart().remove(0));
        let mut history = text(5, 60);
        reads(&mut expert, &mut fresh, &history, arch);
        for token in 80..90 {
            history.push(token);
            reads(&mut expert, &mut fresh, &history, arch);
        }
        for n_dropped in [1, 5, history.len() - 8] {
            history.truncate(history.len() - n_dropped);
            history.push(99);
            reads(&mut expert, &mut fresh, &history, arch);
        }
        let n = reads(&mut expert, &mut fresh, &text(6, 30), arch);
        assert_eq!(n, 30, "{arch}: another text");
    }
}

#[test]
fn a_shared_batch_goes_back_as_a_whole() {
    for arch in FAMILIES {
        let family = Family::new(arch);
        let params = ContextParams { n_ctx: 512, ..support::context_params() };
        let mut slots = together(&family.model, &family.experts(), &params, 1).expect("one context");
        let mut rows: Vec<_> = slots.iter_mut().map(|slots| &mut slots[0]).collect();
        let one = |adapters: &Vec<Scaled<'_>>| apart(&family.model, adapters, &params, 1).expect("a context").remove(0);
        let mut apart: Vec<_> = family.experts().iter().map(one).collect();
        let mut conversation = Conversation::new(&family.model, 4, 50);
        let mut check = |history: &[Token]| {
            let n_before: Vec<_> = rows.iter().map(|row| row.n_decoded()).collect();
            let worst = worst(&mut rows, &mut apart, &vec![history.to_vec(); 3], 1);
            assert!(worst < 1e-3, "{arch}: {worst}");
            rows.iter().zip(n_before).map(|(row, before)| row.n_decoded() - before).collect::<Vec<_>>()
        };
        assert_eq!(check(&conversation.prompt(4)), [202; 3]);
        conversation.messages[2][3] = 3;
        assert_eq!(check(&conversation.prompt(4)), [102; 3], "{arch}");
    }
}
