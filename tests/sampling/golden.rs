//! The law, against the GenARM authors' own code, and against a computation that shares nothing with ours.

use genarm::Expert;
use genarm::decode::Chain;
use genarm::guidance::Weights;
use genarm::sampling::params::{SamplerKind, SamplingParams};
use serde_json::Value;

use crate::support;

/// Next-token probabilities through the whole machinery: llama.cpp, hook, chain.
struct Machine {
    base: genarm::engine::Sequence,
    sampler: genarm::sampling::Sampler,
    weights: Weights,
}

impl Machine {
    fn new(params: &SamplingParams, weights: [f32; 2]) -> Self {
        let (sampler, state) = support::sampler(params, weights);
        let weights = state.with_guide(|guide| guide.weights().clone());
        Self { base: support::sequence(support::vocab().model()), sampler, weights }
    }

    fn probabilities(&mut self, history: &[i32]) -> Vec<f32> {
        self.sampler.reset();
        history.iter().for_each(|token| self.sampler.accept(*token, false));
        let logits = self.base.advance(history, 1).expect("a row");
        let mut out = vec![0.0; logits.len()];
        self.sampler.distribution(logits, &mut out).expect("a distribution");
        out
    }
}

fn largest_difference(a: &[f32], b: impl IntoIterator<Item = f64>) -> f64 {
    a.iter().zip(b).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max)
}

/// The authors apply the temperature before they truncate.
fn authors_params(temp: f64, top_p: f64, top_k: i64) -> SamplingParams {
    SamplingParams {
        temp: temp as f32,
        top_p: top_p as f32,
        top_k: top_k as i32,
        samplers: vec![SamplerKind::Temperature, SamplerKind::TopK, SamplerKind::TopP],
        ..support::open_params()
    }
}

#[test]
fn probabilities_agree_with_the_authors_code() {
    let golden: Value = serde_json::from_str(include_str!("golden.json")).expect("JSON");
    let cases = golden["cases"].as_array().expect("cases");
    assert_eq!(cases.len(), 27);
    let mut worst = 0.0f64;
    for case in cases {
        let number = |key: &str| case[key].as_f64().expect("a number");
        let weight = |arm: &str| case["weights"][arm].as_f64().unwrap_or(0.0) as f32;
        let params = authors_params(number("temperature"), number("top_p"), case["top_k"].as_i64().expect("top_k"));
        let mut machine = Machine::new(&params, [weight("cheerful"), weight("dialogue")]);
        let tokens = |value: &Value| -> Vec<i32> { serde_json::from_value(value.clone()).expect("tokens") };
        let prompt = tokens(&case["prompt_tokens"]);
        let text = case["prompt"].as_str().expect("a prompt");
        assert_eq!(support::vocab().tokenize(text, true, false).expect("tokens"), prompt, "{text}");
        for step in case["steps"].as_array().expect("steps") {
            let history = [prompt.clone(), tokens(&step["generated"])].concat();
            let probs: Vec<f64> = serde_json::from_value(step["probs"].clone()).expect("probabilities");
            let difference = largest_difference(&machine.probabilities(&history), probs);
            assert!(difference <= 1e-4, "{} after {history:?}: {difference}", case["case"]);
            worst = worst.max(difference);
        }
    }
    println!("largest difference in probability: {worst:.2e}");
}

/// softmax((base + Σ w·arm) / T), then the k likeliest, then the smallest set of at least p: in f64, the long way.
fn law(base: &[f32], arms: &[Vec<f32>], weights: [f32; 2], temp: f64, top_k: usize, top_p: f64) -> Vec<f64> {
    let log_softmax = |row: &[f32]| -> Vec<f64> {
        let total: f64 = row.iter().map(|x| f64::from(*x).exp()).sum::<f64>().ln();
        row.iter().map(|x| f64::from(*x) - total).collect()
    };
    let mut sum = log_softmax(base);
    for (arm, weight) in arms.iter().zip(weights) {
        sum.iter_mut().zip(log_softmax(arm)).for_each(|(s, a)| *s += f64::from(weight) * a);
    }
    let mut p: Vec<f64> = sum.iter().map(|s| (s / temp).exp()).collect();
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*b].total_cmp(&p[*a]));
    order[top_k.min(p.len())..].iter().for_each(|i| p[*i] = 0.0);
    let total: f64 = p.iter().sum();
    let mut mass = 0.0;
    for i in &order {
        if mass >= top_p { p[*i] = 0.0 } else { mass += p[*i] / total }
    }
    let total: f64 = p.iter().sum();
    p.iter().map(|x| x / total).collect()
}

#[test]
fn probabilities_agree_with_an_independent_computation() {
    let models = support::models();
    let prompt = support::vocab().tokenize("Once upon a time", true, false).expect("tokens");
    for (weights, temp, top_k, top_p) in [
        ([0.0, 0.0], 1.0, 512, 1.0),
        ([1.0, 0.0], 0.7, 512, 1.0),
        ([-0.5, 0.8], 1.3, 20, 1.0),
        ([0.6, 0.4], 0.9, 512, 0.9),
    ] {
        let mut machine = Machine::new(&authors_params(temp, top_p, top_k as i64), weights);
        let mut history = prompt.clone();
        for _ in 0..4 {
            // Fresh contexts: no prefix is reused here.
            let row = |path| support::sequence(&support::load(path)).advance(&history, 1).expect("a row").to_vec();
            let arms: Vec<_> = models.arms.iter().map(|path| row(path)).collect();
            let expected = law(&row(&models.base), &arms, weights, temp, top_k, top_p);
            let found = machine.probabilities(&history);
            let difference = largest_difference(&found, expected.iter().copied());
            assert!(difference <= 1e-4, "{weights:?} after {history:?}: {difference}");
            let best = (0..found.len()).max_by(|a, b| found[*a].total_cmp(&found[*b])).expect("tokens");
            history.push(best as i32);
        }
    }
    // The machine listens: with other weights it says something else.
    let mut machine = Machine::new(&support::open_params(), [0.0, 0.0]);
    let base = machine.probabilities(&prompt);
    machine.weights.set("a", 2.0).expect("a weight");
    assert!(largest_difference(&machine.probabilities(&prompt), base.iter().map(|p| f64::from(*p))) > 1e-3);
}
