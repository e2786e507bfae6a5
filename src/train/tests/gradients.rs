//! Gradients against candle's own operations, finite differences and gradient checkpointing.

use super::*;
use crate::train::attention::Attention;
use crate::train::lora::LoraSettings;
use crate::train::objective::{Objective, PairLogProbs};
use crate::train::ops;
use crate::train::rope::{Rope, RopeScaling, RopeStyle};
use candle_core::{D, Result, Var};
use std::sync::Arc;

fn random(shape: &[usize], seed: u64) -> Var {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.random_range(-1.0..1.0)).collect();
    Var::from_tensor(&Tensor::from_vec(values, shape, &Device::Cpu).unwrap()).unwrap()
}

/// Value and gradients of `f` weighed by fixed numbers.
fn probe(vars: &[&Var], f: impl Fn() -> Result<Tensor>) -> Vec<Vec<f32>> {
    let y = f().unwrap();
    let weights = random(y.dims(), 99).as_detached_tensor();
    let grads = (&y * weights).unwrap().sum_all().unwrap().backward().unwrap();
    let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    std::iter::once(flat(&y)).chain(vars.iter().map(|v| flat(grads.get(v).unwrap()))).collect()
}

fn assert_alike(fused: Vec<Vec<f32>>, plain: Vec<Vec<f32>>) {
    assert_within(fused, plain, 1e-4);
}

fn assert_within(fused: Vec<Vec<f32>>, plain: Vec<Vec<f32>>, most: f32) {
    for (i, (a, b)) in fused.iter().zip(&plain).enumerate() {
        let difference = largest_difference(a, b);
        assert!(difference < most, "output or gradient {i}: {difference}");
    }
}

#[test]
fn fused_operations_agree_with_candles_differentiable_ones() {
    let (x, w, up) = (random(&[5, 8], 1), random(&[8], 2), random(&[5, 8], 3));
    let fused = probe(&[&x, &w], || ops::rms_norm(&x, &w, 1e-5));
    let plain =
        probe(&[&x, &w], || x.broadcast_div(&(x.sqr()?.mean_keepdim(D::Minus1)? + 1e-5)?.sqrt()?)?.broadcast_mul(&w));
    assert_alike(fused, plain);
    assert_alike(probe(&[&x, &up], || ops::swiglu(&x, &up)), probe(&[&x, &up], || x.silu()? * up.as_tensor()));
    // ggml's GELU has 16 bits; its slope is that of the exact one.
    let (fused, plain) = (probe(&[&x, &up], || ops::geglu(&x, &up)), probe(&[&x, &up], || x.gelu()? * up.as_tensor()));
    assert_within(fused, plain, 5e-3);
    let m = random(&[6, 8], 4);
    assert_alike(probe(&[&x, &m], || ops::linear(&x, &m)), probe(&[&x, &m], || x.matmul(&m.t()?)));
    let targets = [3, 0, 7, 7, 1];
    let index = Tensor::new(&targets[..], &Device::Cpu).unwrap().unsqueeze(1).unwrap();
    let plain = probe(&[&x], || {
        let lse = x.exp()?.sum(D::Minus1)?.log()?;
        x.gather(&index, 1)?.squeeze(1)? - lse
    });
    assert_alike(probe(&[&x], || ops::token_logprob(&x, &targets)), plain);
}

#[test]
fn fused_attention_agrees_with_candles_differentiable_operations() {
    for (style, window) in [(RopeStyle::Interleaved, None), (RopeStyle::Halves, None), (RopeStyle::Halves, Some(2))] {
        // Turned and stretched: the backward pass must undo both.
        let rope = Arc::new(Rope::new(style, 4, 100.0, &RopeScaling::yarn(0.25, 4, 100.0, 4), 8));
        let seq_lens = Arc::new(vec![5, 1, 3]);
        let a = Attention { heads: 4, kv_heads: 2, head_dim: 6, scale: 0.5, window, rope, seq_lens };
        let (q, k, v) = (random(&[9, 24], 1), random(&[9, 12], 2), random(&[9, 12], 3));
        let vars = [&q, &k, &v];
        assert_alike(probe(&vars, || a.forward(&q, &k, &v)), probe(&vars, || a.forward_tensors(&q, &k, &v)));
    }
}

fn pair() -> Packed {
    let mut packed = Packed::default();
    packed.push(&[1, 403, 407, 261, 378, 100], 3);
    packed.push(&[1, 403, 407, 33, 45], 3);
    packed
}

fn loss_of(logprobs: &[f32], packed: &Packed) -> (f64, Vec<f32>) {
    let sum = |values: &[f32]| values.iter().map(|v| f64::from(*v)).sum::<f64>();
    let (chosen, rejected) = logprobs.split_at(packed.scored[0]);
    let p = PairLogProbs { chosen: sum(chosen), rejected: sum(rejected), ..PairLogProbs::default() };
    let loss = Objective::arm(0.5).pair(p);
    let d = loss.d_chosen as f32;
    (loss.loss, [vec![d; packed.scored[0]], vec![-d; packed.scored[1]]].concat())
}

fn weigh(logprobs: &Tensor, packed: &Packed) -> Result<Tensor> {
    let (_, d) = loss_of(&logprobs.detach().to_vec1::<f32>()?, packed);
    (logprobs * Tensor::new(d, &Device::Cpu)?)?.sum_all()
}

#[test]
fn the_gradient_of_the_arm_loss_agrees_with_finite_differences() {
    let mut backbone = Backbone::load(&small_llama(), &Device::Cpu, Some(64)).unwrap();
    backbone.train_all().unwrap();
    let packed = pair();
    let store = weigh(&backbone.logprobs(&packed).unwrap(), &packed).unwrap().backward().unwrap();
    let mut grads = BTreeMap::new();
    backbone.collect(&store, &mut grads).unwrap();
    let loss = |b: &Backbone| loss_of(&b.logprobs(&packed).unwrap().detach().to_vec1().unwrap(), &packed).0;
    for name in ["blk.0.attn_q.weight", "blk.1.ffn_down.weight", "blk.0.attn_norm.weight", "output_norm.weight"] {
        let var = &backbone.trainable()[name];
        let original = var.as_detached_tensor().copy().unwrap();
        let g = grads[name].flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let norm = g.iter().map(|v| v * v).sum::<f32>().sqrt();
        // A step along the gradient: the steepest direction stands out of F32's rounding.
        let h = 1e-2 / norm;
        let step = (&grads[name] * f64::from(h)).unwrap();
        var.set(&(&original + &step).unwrap()).unwrap();
        let up = loss(&backbone);
        var.set(&(&original - &step).unwrap()).unwrap();
        let down = loss(&backbone);
        var.set(&original).unwrap();
        let slope = (up - down) / (2.0 * f64::from(h));
        let want = f64::from(norm * norm);
        assert!((slope - want).abs() < 0.02 * want, "{name}: {slope} against {want}");
    }
}

#[test]
fn gradient_checkpointing_changes_no_gradient() {
    let lora = LoraSettings {
        rank: 2,
        alpha: 4.0,
        steered: None,
        dropout: 0.0,
        targets: vec!["attn_q".into(), "ffn_up".into()],
    };
    for full in [true, false] {
        let mut backbone = Backbone::load(&small_llama(), &Device::Cpu, Some(64)).unwrap();
        if full {
            backbone.train_all().unwrap()
        } else {
            backbone.train_lora(lora.clone(), 3).unwrap()
        }
        let packed = pair();
        let store = weigh(&backbone.logprobs(&packed).unwrap(), &packed).unwrap().backward().unwrap();
        let mut whole = BTreeMap::new();
        backbone.collect(&store, &mut whole).unwrap();
        let pieces = backbone.checkpointed_gradients(&packed, |l| weigh(l, &packed)).unwrap();
        assert_eq!(whole.keys().collect::<Vec<_>>(), pieces.keys().collect::<Vec<_>>());
        for (name, g) in &whole {
            let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert!(largest_difference(&flat(g), &flat(&pieces[name])) < 1e-4, "{name}");
        }
    }
}

#[test]
fn an_adapter_that_is_off_on_the_prompt_learns_from_the_response_alone() {
    let mut backbone = Backbone::load(&small_llama(), &Device::Cpu, Some(64)).unwrap();
    let targets = vec!["attn_k".into(), "attn_v".into(), "ffn_up".into()];
    backbone.train_lora(LoraSettings { rank: 2, alpha: 4.0, steered: None, dropout: 0.0, targets }, 3).unwrap();
    // B begins as zero, where A has no gradient.
    for (name, var) in backbone.trainable().iter().filter(|(name, _)| name.ends_with("lora_b")) {
        var.set(&(random(var.dims(), name.len() as u64).as_tensor() * 0.1).unwrap()).unwrap();
    }
    let mut packed = Packed::default();
    packed.push_adapted(&[1, 403, 407, 261, 378, 100], 3, 2);
    packed.push_adapted(&[1, 403, 407, 33, 45], 3, 2);
    assert_eq!(packed.gates, [0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0]);
    let store = weigh(&backbone.logprobs(&packed).unwrap(), &packed).unwrap().backward().unwrap();
    let mut grads = BTreeMap::new();
    backbone.collect(&store, &mut grads).unwrap();
    let loss = |b: &Backbone| loss_of(&b.logprobs(&packed).unwrap().detach().to_vec1().unwrap(), &packed).0;
    for name in ["blk.0.attn_k.weight.lora_a", "blk.1.attn_v.weight.lora_b", "blk.0.ffn_up.weight.lora_b"] {
        let var = &backbone.trainable()[name];
        let original = var.as_detached_tensor().copy().unwrap();
        let norm = grads[name].sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap().sqrt();
        let step = (&grads[name] * f64::from(1e-2 / norm)).unwrap();
        var.set(&(&original + &step).unwrap()).unwrap();
        let up = loss(&backbone);
        var.set(&(&original - &step).unwrap()).unwrap();
        let down = loss(&backbone);
        var.set(&original).unwrap();
        let (slope, want) = ((up - down) / 2e-2 * f64::from(norm), f64::from(norm * norm));
        assert!((slope - want).abs() < 0.05 * want, "{name}: {slope} against {want}");
    }
    // With other gates the same adapter gives other numbers.
    let logprobs = |packed: &Packed| backbone.logprobs(packed).unwrap().detach().to_vec1::<f32>().unwrap();
    assert!(largest_difference(&logprobs(&packed), &logprobs(&pair())) > 1e-4);
}
