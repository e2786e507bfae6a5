//! Models that keep a state of the text beside keys and values, or in their place.

use std::path::PathBuf;
use std::sync::Arc;

use genarm::decode::draft::{Draft, Drafter, Work};
use genarm::decode::{ChainFault, Flow, Greedy, Policy, Speculator, generate};
use genarm::engine::llama::{Adapters, Context, ContextParams, Model, SavedState};
use genarm::engine::memory::MemoryParts;
use genarm::engine::rollback::takes_back;
use genarm::engine::share::{Probe, ShareError, apart, together};
use genarm::engine::{Scaled, Sequence, StackError};
use genarm::{Expert, Token};
use tempfile::TempDir;

use crate::support::{self, memory, random, tokens as text};

/// A model and two adapters: one on every matrix of its layers, one on the first of them alone.
struct Family {
    model: Arc<Model>,
    adapters: Vec<PathBuf>,
    _folder: TempDir,
}

impl Family {
    fn new(arch: &str) -> Self {
        Self::adapted(arch, "all")
    }

    fn adapted(arch: &str, adapt: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("model.gguf");
        memory::model(&path, arch);
        let state: &[&str] = match arch {
            "lfm2" => &["shortconv.in_proj", "shortconv.out_proj"],
            _ => &["ssm_in", "ssm_x", "ssm_dt", "ssm_out"],
        };
        let all = [state, &["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_down"]].concat();
        let adapters = [&all[..], &state[..1]].into_iter().enumerate().map(|(i, matrices)| {
            let path = folder.path().join(format!("lora-{i}.gguf"));
            random::lora_on_matrices(&folder.path().join("model.gguf"), &path, i as u64, 0.1, adapt, matrices);
            path
        });
        Self { adapters: adapters.collect(), model: support::load(&path), _folder: folder }
    }

    fn experts(&self) -> Vec<Vec<Scaled<'_>>> {
        let arms = self.adapters.iter().map(|path| vec![(path.as_path(), 1.0)]);
        std::iter::once(Vec::new()).chain(arms).collect()
    }

    fn together(&self, n_slots: usize) -> Vec<Vec<Sequence>> {
        together(&self.model, &self.experts(), &support::context_params(), n_slots).expect("one context")
    }

    fn apart(&self) -> Vec<Sequence> {
        let one = |adapters: &Vec<Scaled<'_>>| apart(&self.model, adapters, &support::context_params(), 1);
        self.experts().iter().map(|adapters| one(adapters).expect("a context").remove(0)).collect()
    }
}

const FAMILIES: [&str; 3] = ["mamba", "jamba", "lfm2"];

/// The largest difference of the logits of sequences that are prepared together from those of contexts of their own.
fn worst(found: &mut [&mut Sequence], expected: &mut [Sequence], histories: &[Vec<Token>], k: usize) -> f32 {
    found.iter_mut().zip(histories).for_each(|(sequence, history)| sequence.prepare(history, k));
    let mut worst: f32 = 0.0;
    for ((found, expected), history) in found.iter_mut().zip(expected).zip(histories) {
        let found = found.advance(history, k).expect("rows");
        let expected = expected.advance(history, k).expect("rows");
        worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(worst, f32::max);
    }
    worst
}

#[test]
fn every_row_of_a_shared_batch_equals_a_context_of_its_own() {
    for arch in FAMILIES {
        let family = Family::new(arch);
        let (mut rows, mut apart) = (family.together(1), family.apart());
        let mut rows: Vec<_> = rows.iter_mut().map(|slots| &mut slots[0]).collect();
        // Prompts of different lengths, some longer than a batch; then steps, drafts, a rejection, another turn.
        let mut histories: Vec<_> = (0..3).map(|i| text(i as Token, 5 + 57 * i)).collect();
        let mut check = |histories: &[Vec<Token>], k, what: &str| {
            let worst = worst(&mut rows, &mut apart, histories, k);
            assert!(worst < 1e-3, "{arch}, {what}: {worst}");
        };
        check(&histories, 1, "the prompts");
        for token in 70..75 {
            histories.iter_mut().for_each(|h| h.push(token));
            check(&histories, 1, "a step");
        }
        histories[0].extend([1, 2]);
        histories.iter_mut().for_each(|h| h.extend([5, 6, 7, 8]));
        check(&histories, 5, "four drafts, one history longer than the others");
        histories.iter_mut().for_each(|h| h.truncate(h.len() - 2));
        check(&histories, 1, "a rejection");
        histories.iter_mut().for_each(|h| h.splice(3.., text(9, 20)).for_each(drop));
        check(&histories, 2, "an edited turn");
    }
}

#[test]
fn a_step_of_a_slot_is_one_batch() {
    for arch in FAMILIES {
        let family = Family::new(arch);
        let mut slots = family.together(3);
        let mut rows: Vec<_> = slots.iter_mut().map(|slots| &mut slots[1]).collect();
        let mut history = text(4, 6);
        for n in 1..=4 {
            rows.iter_mut().for_each(|row| row.prepare(&history, 1));
            rows.iter_mut().for_each(|row| _ = row.advance(&history, 1).expect("a row"));
            assert_eq!(rows[0].n_batches(), n, "{arch}");
            history.push(9);
        }
    }
}

#[test]
fn slots_of_a_shared_batch_do_not_mix() {
    for arch in FAMILIES {
        let family = Family::new(arch);
        let mut slots = family.together(3);
        let histories: Vec<_> = (0..3).map(|i| text(10 * i, 5 + 30 * i as usize)).collect();
        for (expert, slots) in slots.iter_mut().enumerate() {
            let mut apart: Vec<_> = (0..3).map(|_| family.apart().remove(expert)).collect();
            let mut rows: Vec<_> = slots.iter_mut().collect();
            let worst = worst(&mut rows, &mut apart, &histories, 1);
            assert!(worst < 1e-3, "{arch}, expert {expert}: {worst}");
        }
    }
}

#[test]
fn the_check_at_load_passes_what_is_equal() {
    for arch in FAMILIES {
        let family = Family::new(arch);
        let mut probe = Probe::new(&family.model, &family.experts(), &support::context_params()).expect("contexts");
        probe.check().unwrap_or_else(|error| panic!("{arch}: {error}"));
    }
}

#[test]
fn an_adapter_on_responses_alone_is_refused_by_name() {
    for arch in FAMILIES {
        let family = Family::adapted(arch, "response");
        let params: ContextParams = support::context_params();
        for refused in [
            together(&family.model, &family.experts(), &params, 1).err(),
            apart(&family.model, &family.experts()[1], &params, 1).err(),
        ] {
            let error = refused.expect("no keys and values of which a part could be another's");
            assert!(matches!(error, ShareError::Stack(StackError::Recurrent { .. })), "{arch}: {error}");
        }
    }
}

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

/// Reads a history, and says how many tokens that took; the row is that of an expert that has read nothing else.
fn reads(expert: &mut Sequence, fresh: &mut Sequence, history: &[Token], what: &str) -> u64 {
    let before = expert.n_decoded();
    let found = expert.advance(history, 1).expect("a row").to_vec();
    fresh.forget();
    let expected = fresh.advance(history, 1).expect("a row");
    let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst < 1e-3, "{what}: {worst}");
    expert.n_decoded() - before
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

#[test]
fn llama_cpp_takes_back_the_state_of_lfm2_and_not_that_of_mamba() {
    let found = FAMILIES.map(|arch| takes_back(&Family::new(arch).model, &support::context_params()));
    assert_eq!(found, [false, false, true]);
}

/// With snapshots of its last 7 tokens.
fn with_snapshots() -> ContextParams {
    ContextParams { n_snapshots: 7, ..support::context_params() }
}

#[test]
fn a_draft_is_taken_back_and_nothing_is_read_again() {
    let family = Family::new("lfm2");
    let mut slots = together(&family.model, &family.experts(), &with_snapshots(), 1).expect("one context");
    let mut rows: Vec<_> = slots.iter_mut().map(|slots| &mut slots[0]).collect();
    assert!(rows.iter().all(|row| row.n_undo_max() == 7));
    let mut apart = family.apart();
    let mut history = text(3, 30);
    assert!(worst(&mut rows, &mut apart, &vec![history.clone(); 3], 1) < 1e-3);
    for (i, (n_drafted, n_kept)) in
        [(3, 1), (7, 0), (7, 7), (1, 0), (5, 4), (0, 0), (7, 3), (2, 0)].into_iter().enumerate()
    {
        history.push(40 + i as Token);
        let len = history.len();
        history.extend(text(i as Token, n_drafted));
        let before: Vec<_> = rows.iter().map(|row| row.n_decoded()).collect();
        let worst = worst(&mut rows, &mut apart, &vec![history.clone(); 3], n_drafted + 1);
        assert!(worst < 1e-3, "{n_kept} of {n_drafted}: {worst}");
        let n_read = rows.iter().zip(before).map(|(row, before)| row.n_decoded() - before);
        assert!(n_read.into_iter().all(|n| n == n_drafted as u64 + 1), "{n_kept} of {n_drafted}");
        history.truncate(len + n_kept);
    }
}

/// Snapshots are of the tokens of one batch: llama.cpp would also take a state back further, to one that is not there.
#[test]
fn what_was_read_in_other_batches_is_not_taken_back_by_snapshots() {
    let family = Family::new("lfm2");
    let mut expert = apart(&family.model, &[], &with_snapshots(), 1).expect("a context").remove(0);
    let mut fresh = family.apart().remove(0);
    let mut history = text(3, 30);
    reads(&mut expert, &mut fresh, &history, "the prompt");
    for n_dropped in [2, 1, 3, 7] {
        for token in 60..68 {
            history.push(token);
            expert.advance(&history, 1).expect("a row");
        }
        history.truncate(history.len() - n_dropped);
        history.push(n_dropped as Token + 90);
        reads(&mut expert, &mut fresh, &history, "steps that are dropped");
    }
    // Twice in a row: the second time nothing has been read since.
    history.extend(text(1, 6));
    expert.advance(&history, 6).expect("rows");
    history.truncate(history.len() - 2);
    history.push(5);
    expert.prepare(&history, 1);
    history.truncate(history.len() - 3);
    history.push(6);
    reads(&mut expert, &mut fresh, &history, "once more");
}

#[test]
fn slots_take_back_drafts_each_of_its_own() {
    let family = Family::new("lfm2");
    let mut slots = apart(&family.model, &[], &with_snapshots(), 3).expect("a context");
    let mut fresh: Vec<_> = (0..3).map(|_| family.apart().remove(0)).collect();
    let mut histories: Vec<_> = (0..3).map(|i| text(i, 20 + i as usize)).collect();
    let mut noise = random::Noise(3);
    for step in 0..60 {
        // One drafts alone, then all read in one batch.
        let at = step % 3;
        histories[at].extend(text(step as Token, 5));
        reads_rows(&mut slots[at], &mut fresh[at], &histories[at], 4);
        let n = histories[at].len() - ((noise.next() + 1.0) * 2.5) as usize;
        histories[at].truncate(n);
        if step % 2 == 0 {
            histories.iter_mut().for_each(|history| history.push(step as Token + 3));
            slots.iter_mut().zip(&histories).for_each(|(slot, history)| slot.prepare(history, 1));
            for ((slot, fresh), history) in slots.iter_mut().zip(&mut fresh).zip(&histories) {
                reads_rows(slot, fresh, history, 1);
            }
        }
    }
}

fn reads_rows(expert: &mut Sequence, fresh: &mut Sequence, history: &[Token], k: usize) {
    let found = expert.advance(history, k).expect("rows").to_vec();
    fresh.forget();
    let expected = fresh.advance(history, k).expect("rows");
    let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst < 1e-3, "{} tokens: {worst}", history.len());
}

/// Drafts the text that is to come, with a wrong token now and then.
struct Oracle {
    text: Vec<Token>,
    n_drafted: usize,
}

impl Drafter for Oracle {
    fn name(&self) -> &str {
        "oracle"
    }

    fn draft(&mut self, work: &mut Work<'_>, k: usize, draft: &mut Draft) -> Result<(), ChainFault> {
        for token in self.text.iter().skip(work.history.len()).take(k).copied().collect::<Vec<_>>() {
            self.n_drafted += 1;
            let token = if self.n_drafted.is_multiple_of(5) { token + 1 } else { token };
            draft.push(token).set([(token, 1.0)]);
            work.history.push(token);
        }
        Ok(())
    }
}

#[test]
fn speculation_on_a_hybrid_gives_the_text_of_plain_decoding() {
    let family = Family::new("lfm2");
    let prompt = text(3, 20);
    let continued = |speculator: Option<&mut Speculator>| {
        let mut base = apart(&family.model, &[], &with_snapshots(), 1).expect("a context").remove(0);
        let found = generate(&mut base, &mut Greedy, speculator, &prompt, 120, &|_| false, &mut |_| Flow::Continue);
        let found = found.expect("a text");
        (found.tokens, found.speculation, base.n_decoded())
    };
    let (plain, ..) = continued(None);
    for n in [1, 3, 7] {
        let oracle = Oracle { text: [&prompt[..], &plain].concat(), n_drafted: 0 };
        let (tokens, found, n_decoded) =
            continued(Some(&mut Speculator::new(vec![Box::new(oracle)], Policy::Fixed(n))));
        assert_eq!(tokens, plain, "drafts of {n}");
        assert!(found.drafted > found.accepted && found.accepted > 40, "{found:?}");
        assert!(n_decoded <= (20 + 120) + found.drafted, "nothing is read again: {n_decoded}, {found:?}");
    }
}
