//! Many texts on one set of ARMs, without a GGUF.

use super::*;
use crate::TableExpert;
use crate::expert::{Expert, ExpertError};
use crate::guidance::{Arm, Contract, Guide, Tail};
use crate::sampling::abi::{llama_token_data, llama_token_data_array};
use crate::sampling::vtable::{Candidates, CustomSampler};

const N: usize = 4;

/// An ARM that prefers token n mod 4 after n tokens, in sequences of 16 tokens, at most `max` of them.
fn plugin(max: usize, yaml: &str) -> Arc<Plugin> {
    let yaml = format!("base: {{model: base.gguf}}\narms: {{a: {{model: a.gguf}}}}\n{yaml}");
    let config = Config::parse(&yaml, Path::new("test.yaml"), &Overrides::default()).unwrap();
    let weights = Weights::new([("a".to_owned(), 1.0)]);
    let of_guide = weights.clone();
    let make = move || {
        let expert = TableExpert::new(N, 16, |history, logits| {
            logits.fill(0.0);
            logits[history.len() % N] = 1.0;
        });
        Ok(Guide::new(
            vec![Arm::new("a", Box::new(expert), Contract { n_common: N, tail: Tail::None })],
            of_guide.clone(),
        ))
    };
    Plugin::new(config, Overrides::default(), None, weights, Pool::new(max, Box::new(make)))
}

fn apply(sampler: &mut HostSampler) -> Vec<f32> {
    let mut data: Vec<_> = (0..N as i32).map(|id| llama_token_data { id, logit: 0.0, p: 0.0 }).collect();
    let mut array = llama_token_data_array { data: data.as_mut_ptr(), size: N, selected: -1, sorted: true };
    sampler.apply(&mut Candidates::new(&mut array));
    data.iter().map(|c| c.logit).collect()
}

fn tell(sampler: &mut HostSampler, tokens: &[Token]) {
    tokens.iter().for_each(|token| sampler.accept(*token));
}

#[test]
fn samplers_that_take_turns_do_not_mix_and_read_each_token_once() {
    let plugin = plugin(4, "");
    let mut samplers: Vec<_> = (0..4).map(|_| HostSampler::new(&plugin)).collect();
    for (i, sampler) in samplers.iter_mut().enumerate() {
        tell(sampler, &vec![i as Token; i + 1]);
    }
    for round in 0..3 {
        for (i, sampler) in samplers.iter_mut().enumerate() {
            let mut expected = vec![0.0; N];
            expected[(i + 1 + round) % N] = 1.0;
            assert_eq!(apply(sampler), expected, "sampler {i}, round {round}");
            sampler.accept(0);
        }
    }
    assert_eq!((plugin.n_decoded(), plugin.pool().len()), (1 + 2 + 3 + 4 + 4 * 2, 4));
}

#[test]
fn more_samplers_than_sequences_read_again_and_stay_right() {
    let plugin = plugin(1, "");
    let (mut a, mut b) = (HostSampler::new(&plugin), HostSampler::new(&plugin));
    tell(&mut a, &[0]);
    tell(&mut b, &[1, 1]);
    for _ in 0..2 {
        assert_eq!((apply(&mut a), apply(&mut b)), (vec![0.0, 1.0, 0.0, 0.0], vec![0.0, 0.0, 1.0, 0.0]));
    }
    assert_eq!((plugin.n_decoded(), plugin.pool().len()), (6, 1));
}

#[test]
fn the_next_turn_takes_over_what_the_last_one_has_read() {
    let plugin = plugin(4, "");
    let mut other = HostSampler::new(&plugin);
    tell(&mut other, &[3, 3, 3]);
    apply(&mut other);
    let mut first = HostSampler::new(&plugin);
    tell(&mut first, &[0, 1, 2]);
    apply(&mut first);
    drop((first, other));
    let before = plugin.n_decoded();
    let mut second = HostSampler::new(&plugin);
    tell(&mut second, &[0, 1, 2, 3, 0]);
    assert_eq!(apply(&mut second), [0.0, 1.0, 0.0, 0.0]);
    assert_eq!(plugin.n_decoded() - before, 2);
    second.reset();
    tell(&mut second, &[0, 1, 2, 3, 0]);
    apply(&mut second);
    assert_eq!(plugin.n_decoded() - before, 2, "a prompt fed again costs nothing");
}

#[test]
fn weights_are_set_for_one_sampler_or_for_all() {
    let plugin = plugin(4, "profiles: {soft: {a: 0.5}}");
    let (mut a, mut b) = (HostSampler::new(&plugin), HostSampler::new(&plugin));
    tell(&mut a, &[0]);
    tell(&mut b, &[0]);
    a.text.weights().set("a", 3.0).unwrap();
    assert_eq!((apply(&mut a)[1], apply(&mut b)[1]), (3.0, 1.0));
    let mut fork = a.fork();
    a.text.weights().set("a", 4.0).unwrap();
    assert_eq!(apply(&mut fork)[1], 4.0, "a fork shares the weights");
    plugin.set_all(&plugin.profile("soft").unwrap()).unwrap();
    let mut c = HostSampler::new(&plugin);
    tell(&mut c, &[0]);
    assert_eq!([apply(&mut a)[1], apply(&mut b)[1], apply(&mut c)[1], apply(&mut fork)[1]], [0.5; 4]);
    assert!(plugin.set("b", 1.0).is_err() && plugin.set_all(&[f32::NAN]).is_err() && plugin.profile("hard").is_err());
    assert_eq!(plugin.weights().get(), [0.5]);
}

#[test]
fn a_full_arm_leaves_the_base_alone_or_ends_the_text() {
    let history = [0; 17];
    let mut alone = HostSampler::new(&plugin(1, "on_error: base"));
    tell(&mut alone, &history);
    assert_eq!(apply(&mut alone), [0.0; N]);
    let mut ends = HostSampler::new(&plugin(1, "on_error: stop"));
    tell(&mut ends, &history);
    assert_eq!(apply(&mut ends), [f32::NEG_INFINITY; N], "these ARMs know no end-of-generation token");
    ends.reset();
    tell(&mut ends, &[0]);
    assert_eq!(apply(&mut ends)[1], 1.0, "the next text is guided again");
}

#[test]
fn a_sure_base_is_left_alone_where_the_configuration_has_a_gate() {
    let mut always_sure = HostSampler::new(&plugin(1, "guidance: {gate: {top_p: 0.1}}"));
    let mut never_sure = HostSampler::new(&plugin(1, "guidance: {gate: {top_p: 0.9}}"));
    for sampler in [&mut always_sure, &mut never_sure] {
        tell(sampler, &[0]);
    }
    assert_eq!((apply(&mut always_sure)[1], apply(&mut never_sure)[1]), (0.0, 1.0));
}

#[test]
fn the_last_tokens_log_probabilities_cost_nothing_before_the_next_step() {
    let plugin = plugin(1, "");
    let mut sampler = HostSampler::new(&plugin);
    tell(&mut sampler, &[0, 0]);
    assert!(matches!(HostSampler::new(&plugin).text.last_logprobs(&plugin), Err(StepError::NoToken)));
    apply(&mut sampler);
    tell(&mut sampler, &[2]);
    let before = plugin.n_decoded();
    let (token, logprobs) = sampler.text.last_logprobs(&plugin).unwrap();
    let expected = 1.0 - (1f32.exp() + 3.0).ln();
    assert!(token == 2 && (logprobs[0] - expected).abs() < 1e-6, "{logprobs:?}");
    assert_eq!(plugin.n_decoded(), before);
}

#[test]
fn a_row_of_logits_is_guided_as_candidates_are() {
    let plugin = plugin(1, "");
    let sampler = HostSampler::new(&plugin);
    let mut logits = [1.0; N];
    sampler.text.add(&plugin, &[3, 3], &mut logits).unwrap();
    assert_eq!(logits, [1.0, 1.0, 2.0, 1.0]);
}

#[test]
fn a_sampler_is_known_by_its_address_until_it_goes() {
    let plugin = plugin(1, "");
    let (mut old, mut new) = (HostSampler::new(&plugin), HostSampler::new(&plugin));
    old.placed(0x10);
    assert!(directory::find(0x10).is_some_and(|(_, text)| Arc::ptr_eq(&text, &old.text)));
    new.placed(0x10);
    drop(old);
    assert!(directory::find(0x10).is_some_and(|(_, text)| Arc::ptr_eq(&text, &new.text)), "the place was taken anew");
    drop(new);
    assert!(directory::find(0x10).is_none());
}

#[test]
fn a_saved_change_holds_from_the_next_token_on_and_a_bad_one_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("prefs.yaml");
    let save = |weight: &str| {
        let text = format!("base: {{model: b.gguf}}\narms: {{a: {{model: a.gguf, weight: {weight}}}}}\n");
        std::fs::write(folder.path().join("new"), text).unwrap();
        std::fs::rename(folder.path().join("new"), &file).unwrap();
    };
    save("1");
    let mut plugin = plugin(1, "");
    Arc::get_mut(&mut plugin).unwrap().state.get_mut().unwrap().config =
        Config::load(Some(&file), &Overrides::default()).unwrap();
    let mut sampler = HostSampler::new(&plugin);
    tell(&mut sampler, &[0]);
    let _watch = Watch::start(&plugin, &file).unwrap();
    let until = |sampler: &mut HostSampler, weight: f32| {
        let patience = std::time::Instant::now();
        while apply(sampler)[1] != weight {
            assert!(patience.elapsed().as_secs() < 20, "the change was not seen");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    };
    save("2.5");
    until(&mut sampler, 2.5);
    save("nonsense");
    assert!(plugin.reload().is_err());
    assert_eq!(apply(&mut sampler)[1], 2.5);
    save("-1");
    until(&mut sampler, -1.0);
}

/// A plugin whose ARM gives this row.
fn plugin_of(row: [f32; N], yaml: &str) -> Arc<Plugin> {
    let expert = move || TableExpert::new(N, 16, move |_, logits| logits.copy_from_slice(&row));
    plugin_with(move || Box::new(expert()), yaml)
}

fn plugin_with(expert: impl Fn() -> Box<dyn Expert + Send> + Send + 'static, yaml: &str) -> Arc<Plugin> {
    let config = Config::parse(
        &format!("base: {{model: base.gguf}}\narms: {{a: {{model: a.gguf}}}}\n{yaml}"),
        Path::new("test.yaml"),
        &Overrides::default(),
    );
    let weights = Weights::new([("a".to_owned(), 1.0)]);
    let of_guide = weights.clone();
    let make = move || {
        let arm = Arm::new("a", expert(), Contract { n_common: N, tail: Tail::None });
        Ok(Guide::new(vec![arm], of_guide.clone()))
    };
    Plugin::new(config.unwrap(), Overrides::default(), None, weights, Pool::new(1, Box::new(make)))
}

#[test]
fn an_arm_without_numbers_is_an_error_of_its_own_and_leaves_the_hosts_logits() {
    let plugin = plugin_of([0.0, f32::NAN, 0.0, 0.0], "");
    let mut sampler = HostSampler::new(&plugin);
    tell(&mut sampler, &[0]);
    assert_eq!(apply(&mut sampler), [0.0; N]);
    let mut logits = [1.0, 2.0, 3.0, 4.0];
    let refused = sampler.text.add(&plugin, &[0], &mut logits).unwrap_err().to_string();
    assert!(refused.contains("ARM \"a\": its logits hold NaN (at token 1)"), "{refused}");
    assert_eq!(logits, [1.0, 2.0, 3.0, 4.0]);
    tell(&mut sampler, &[0]);
    assert!(sampler.text.last_logprobs(&plugin).unwrap_err().to_string().contains("ARM \"a\""));
    let mut ends = HostSampler::new(&plugin_of([f32::INFINITY; N], "on_error: stop"));
    tell(&mut ends, &[0]);
    assert_eq!(apply(&mut ends), [f32::NEG_INFINITY; N]);
}

#[test]
fn a_host_without_numbers_is_told_so_and_its_text_ends() {
    let plugin = plugin_of([0.5; N], "");
    let mut sampler = HostSampler::new(&plugin);
    tell(&mut sampler, &[0]);
    let mut data: Vec<_> = (0..N as i32).map(|id| llama_token_data { id, logit: f32::NAN, p: 0.0 }).collect();
    let mut array = llama_token_data_array { data: data.as_mut_ptr(), size: N, selected: -1, sorted: true };
    sampler.apply(&mut Candidates::new(&mut array));
    assert!(data.iter().all(|c| c.logit == f32::NEG_INFINITY), "these ARMs know no end-of-generation token");
    let mut logits = [f32::NAN; N];
    let refused = sampler.text.add(&plugin, &[0], &mut logits).unwrap_err().to_string();
    assert!(refused.starts_with("base: its logits hold NaN"), "{refused}");
}

/// Prefers the token whose number is the length of the prompt: an adapter that acts on responses alone, to the outside.
struct Border {
    row: [f32; N],
    n_decoded: u64,
}

impl Expert for Border {
    fn n_vocab(&self) -> usize {
        N
    }

    fn n_ctx(&self) -> usize {
        16
    }

    fn advance(&mut self, _: &[Token], k: usize) -> Result<&[f32], ExpertError> {
        assert_eq!(k, 1);
        self.n_decoded += 1;
        Ok(&self.row)
    }

    fn prepare(&mut self, _: &[Token], _: usize) {}

    fn start(&mut self) -> bool {
        false
    }

    fn n_cached(&self, _: &[Token]) -> usize {
        0
    }

    fn read(&mut self) -> Result<(), ExpertError> {
        Ok(())
    }

    fn set_prompt_len(&mut self, n_prompt: usize) -> bool {
        self.row = [0.0; N];
        self.row[n_prompt] = 1.0;
        true
    }

    fn forget(&mut self) {}

    fn n_decoded(&self) -> u64 {
        self.n_decoded
    }
}

#[test]
fn the_prompt_of_a_text_is_what_was_accepted_before_the_first_step() {
    let border = || -> Box<dyn Expert + Send> { Box::new(Border { row: [0.0; N], n_decoded: 0 }) };
    let place = |row: Vec<f32>| row.iter().position(|x| *x == 1.0);
    let plugin = plugin_with(border, "");
    let mut sampler = HostSampler::new(&plugin);
    tell(&mut sampler, &[0, 0]);
    assert_eq!(place(apply(&mut sampler)), Some(2));
    tell(&mut sampler, &[1]);
    assert_eq!(place(apply(&mut sampler)), Some(2), "what was generated is a response");
    let (_, logprobs) = sampler.text.last_logprobs(&plugin).unwrap();
    assert!(logprobs[0] < -1.0, "{logprobs:?}");
    let mut fork = sampler.fork();
    tell(&mut fork, &[1]);
    assert_eq!(place(apply(&mut fork)), Some(2), "a fork is of the same text");
    // Another text has the only guide in between.
    let mut other = HostSampler::new(&plugin);
    tell(&mut other, &[0, 0, 0]);
    assert_eq!((place(apply(&mut other)), place(apply(&mut sampler))), (Some(3), Some(2)));
    sampler.reset();
    tell(&mut sampler, &[1]);
    assert_eq!(place(apply(&mut sampler)), Some(1));
    // A host that hands out logits: the first history is the prompt, a shorter one another prompt.
    let added = |history: &[Token]| {
        let mut logits = [0.0; N];
        other.text.add(&plugin, history, &mut logits).unwrap();
        place(logits.to_vec())
    };
    assert_eq!((added(&[0, 0, 0, 1]), added(&[0, 0]), added(&[0, 0, 1])), (Some(3), Some(2), Some(2)));
    // A step that a gate leaves to the base is a step.
    let mut gated = HostSampler::new(&plugin_with(border, "guidance: {gate: {top_p: 0.1}}"));
    tell(&mut gated, &[0]);
    apply(&mut gated);
    assert_eq!(gated.text.inner().n_prompt, Some(1));
}
