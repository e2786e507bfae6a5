//! A transformer read from a GGUF file, differentiable in its weights or in LoRA adapters on them.

mod adapters;

use super::attention::Attention;
use super::lora::LoraSettings;
use super::ops;
use super::rope::{Rope, RopeKeys, RopeStyle};
use super::shape::Shape;
use super::{TrainError, weights};
use crate::engine::gguf::GgufFile;
use candle_core::{Device, Result, Tensor, Var};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Sequences of tokens laid one after another, without padding.
#[derive(Debug, Clone, Default)]
pub struct Packed {
    /// All tokens.
    pub tokens: Vec<u32>,
    /// Length of each sequence, in tokens.
    pub seq_lens: Vec<usize>,
    /// Places in `tokens` whose next token is scored.
    pub rows: Vec<u32>,
    /// The token that follows each of `rows`.
    pub targets: Vec<u32>,
    /// Number of scored places of each sequence.
    pub scored: Vec<usize>,
    /// Of each token whether it is read with the adapters (1) or without (0); empty where all are.
    pub gates: Vec<f32>,
}

impl Packed {
    /// Appends `tokens`; those from `first` on are scored, and those from `adapted_from` on are read with the adapters.
    pub fn push_adapted(&mut self, tokens: &[u32], first: usize, adapted_from: usize) {
        let before = self.tokens.len();
        self.push(tokens, first);
        if adapted_from > 0 {
            self.gates.resize(before, 1.0);
            self.gates.extend((0..tokens.len() - 1).map(|i| if i < adapted_from { 0.0 } else { 1.0 }));
        }
        if !self.gates.is_empty() {
            self.gates.resize(self.tokens.len(), 1.0);
        }
    }

    /// Appends `tokens`; those from `first` on are scored.
    pub fn push(&mut self, tokens: &[u32], first: usize) {
        let start = self.tokens.len();
        // The last token predicts nothing that is scored: it need not be read.
        self.tokens.extend_from_slice(&tokens[..tokens.len() - 1]);
        self.seq_lens.push(tokens.len() - 1);
        let first = first.max(1);
        for (i, &token) in tokens.iter().enumerate().skip(first) {
            self.rows.push((start + i - 1) as u32);
            self.targets.push(token);
        }
        self.scored.push(tokens.len().saturating_sub(first));
    }
}

/// The model: frozen tensors from the file, and what is trained.
#[derive(Debug, Clone)]
pub struct Backbone {
    /// What the header says.
    pub shape: Shape,
    /// The checked header of the file, for exports.
    pub file: Arc<GgufFile>,
    /// Where tensors live.
    pub device: Device,
    weights: BTreeMap<String, Tensor>,
    trainable: BTreeMap<String, Var>,
    lora: Option<LoraSettings>,
    /// α of the next pass, in a preference-conditioned adapter.
    preferences: Vec<f32>,
    rope: Arc<Rope>,
    /// Of the layers with a sliding window.
    window_rope: Arc<Rope>,
    dropout: Option<RefCell<ChaCha8Rng>>,
}

/// What every layer needs of the sequences that a pass reads.
struct Pass {
    /// Of the layers that see everything, and of those with a sliding window.
    attention: [Attention; 2],
    /// `[n, 1]`: of each token whether the adapters act on it; `None` where they act on all.
    gate: Option<Tensor>,
}

impl Backbone {
    /// Reads a GGUF file of any quantisation and dequantises it to F32 on `device`.
    ///
    /// # Errors
    ///
    /// [`TrainError::Architecture`] for a graph that is not known here; [`TrainError::File`],
    /// [`TrainError::Io`] and [`TrainError::Gguf`].
    pub fn load(path: &Path, device: &Device, n_ctx: Option<usize>) -> std::result::Result<Self, TrainError> {
        let header = GgufFile::open_model(path)?;
        let shape = Shape::read(&header, n_ctx)?;
        let weights = weights::read(&header, &shape, device)?;
        let tensor = |name: &str| weights.get(name)?.flatten_all().ok()?.to_vec1::<f32>().ok();
        // llama's q and k are permuted by the conversion to GGUF.
        let style = if shape.arch == "llama" { RopeStyle::Interleaved } else { RopeStyle::Halves };
        let keys = RopeKeys { file: &header, head_dim: shape.head_dim, tensor: &tensor };
        let rope = Arc::new(keys.tables(style, shape.n_ctx)?);
        let window_rope = match shape.window {
            Some(_) => Arc::new(keys.window_tables(style, shape.n_ctx)),
            None => Arc::clone(&rope),
        };
        Ok(Self {
            shape,
            file: Arc::new(header),
            device: device.clone(),
            weights,
            trainable: BTreeMap::new(),
            lora: None,
            preferences: Vec::new(),
            rope,
            window_rope,
            dropout: None,
        })
    }

    /// Makes every weight trainable.
    ///
    /// # Errors
    ///
    /// A tensor operation that fails for want of memory.
    pub fn train_all(&mut self) -> Result<()> {
        for (name, weight) in &mut self.weights {
            if name.starts_with("rope_") || name.ends_with(".scale") {
                continue;
            }
            let var = Var::from_tensor(weight)?;
            *weight = var.as_tensor().clone();
            self.trainable.insert(name.clone(), var);
        }
        Ok(())
    }

    /// What is trained, by GGUF tensor name, in a fixed order.
    pub fn trainable(&self) -> &BTreeMap<String, Var> {
        &self.trainable
    }

    /// Starts the dropout of one step; `None` turns it off, as evaluation wants.
    pub fn set_dropout_seed(&mut self, seed: Option<u64>) {
        let active = self.lora.as_ref().is_some_and(|l| l.dropout > 0.0);
        self.dropout = seed.filter(|_| active).map(|s| RefCell::new(ChaCha8Rng::seed_from_u64(s)));
    }

    /// Every weight of the file with training's changes in it, LoRA and the scales of whole matrices merged.
    ///
    /// # Errors
    ///
    /// A tensor operation that fails for want of memory.
    pub fn merged(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut merged = BTreeMap::new();
        for (name, weight) in self.weights.iter().filter(|(name, _)| !name.ends_with(".scale")) {
            let mut tensor = weight.detach();
            let scale = name.strip_suffix(".weight").and_then(|matrix| self.weights.get(&format!("{matrix}.scale")));
            if let Some(scale) = scale {
                tensor = tensor.broadcast_mul(scale)?;
            }
            if let Some((a, b, scale)) = self.adapter(name)? {
                tensor = (tensor + (b.detach().matmul(&a.detach())? * scale)?)?;
            }
            merged.insert(name.clone(), tensor);
        }
        Ok(merged)
    }

    /// `(x · Wᵀ) · scale + gate · adapter + bias`, in llama.cpp's order.
    fn linear(&self, name: &str, x: &Tensor, gate: Option<&Tensor>) -> Result<Tensor> {
        let weight_name = format!("{name}.weight");
        let mut y = ops::linear(x, &self.weights[&weight_name])?;
        if let Some(scale) = self.weights.get(&format!("{name}.scale")) {
            y = y.broadcast_mul(scale)?;
        }
        if let Some((a, b, scale)) = self.adapter(&weight_name)? {
            let dropped;
            let x = match (&self.dropout, &self.lora) {
                (Some(rng), Some(lora)) => {
                    let mut rng = rng.borrow_mut();
                    dropped = ops::dropout(x, lora.dropout, || rng.random())?;
                    &dropped
                }
                _ => x,
            };
            let mut inner = ops::linear(x, &a)?;
            if let Some(gate) = gate {
                inner = inner.broadcast_mul(gate)?;
            }
            let delta = ops::linear(&inner, &b)?;
            y = (y + (delta * scale)?)?;
        }
        match self.weights.get(&format!("{name}.bias")) {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    }

    fn norm(&self, name: &str, x: &Tensor) -> Result<Tensor> {
        ops::rms_norm(x, &self.weights[&format!("{name}.weight")], self.shape.eps)
    }

    /// Per-head norm of q or k, where the architecture has one.
    fn head_norm(&self, name: &str, x: Tensor) -> Result<Tensor> {
        if !self.weights.contains_key(&format!("{name}.weight")) {
            return Ok(x);
        }
        let (n, width) = x.dims2()?;
        let d = self.shape.head_dim;
        self.norm(name, &x.reshape((n * width / d, d))?)?.reshape((n, width))
    }

    /// Embeddings of tokens, `[n, n_embd]`.
    fn embed(&self, tokens: &[u32]) -> Result<Tensor> {
        let embedded = self.weights["token_embd.weight"].index_select(&Tensor::new(tokens, &self.device)?, 0)?;
        match self.shape.is_gemma() {
            true => embedded * f64::from((self.shape.n_embd as f32).sqrt()),
            false => Ok(embedded),
        }
    }

    /// One transformer block.
    fn layer(&self, i: usize, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let Pass { attention: [whole, window], gate } = pass;
        let linear = |name: &str, x: &Tensor| self.linear(&format!("blk.{i}.{name}"), x, gate.as_ref());
        let attention = if self.shape.window.is_some_and(|window| window.holds_in(i)) { window } else { whole };
        let after = |norm: &str, y: Tensor| match self.shape.is_gemma() {
            true => self.norm(&format!("blk.{i}.{norm}"), &y),
            false => Ok(y),
        };
        let name = |n: &str| format!("blk.{i}.{n}");
        let h = self.norm(&name("attn_norm"), x)?;
        let q = self.head_norm(&name("attn_q_norm"), linear("attn_q", &h)?)?;
        let k = self.head_norm(&name("attn_k_norm"), linear("attn_k", &h)?)?;
        let v = linear("attn_v", &h)?;
        let mixed = linear("attn_output", &attention.forward(&q, &k, &v)?)?;
        let x = (x + after("post_attention_norm", mixed)?)?;
        let h = self.norm(&name("ffn_norm"), &x)?;
        let (h_gate, h_up) = (linear("ffn_gate", &h)?, linear("ffn_up", &h)?);
        let h = if self.shape.is_gemma() { ops::geglu(&h_gate, &h_up)? } else { ops::swiglu(&h_gate, &h_up)? };
        x + after("post_ffw_norm", linear("ffn_down", &h)?)?
    }

    /// What every layer needs of the packed sequences.
    fn pass(&self, packed: &Packed) -> Result<Pass> {
        let seq_lens = Arc::new(packed.seq_lens.clone());
        let attention = |rope: &Arc<Rope>, window| Attention {
            heads: self.shape.heads,
            kv_heads: self.shape.kv_heads,
            head_dim: self.shape.head_dim,
            scale: self.shape.attention_scale,
            window,
            rope: Arc::clone(rope),
            seq_lens: Arc::clone(&seq_lens),
        };
        let window = attention(&self.window_rope, self.shape.window.map(|window| window.n_tokens));
        let gates = (!packed.gates.is_empty() && self.lora.is_some()).then_some(&packed.gates);
        let gate = gates.map(|gates| Tensor::from_slice(gates, (gates.len(), 1), &self.device)).transpose()?;
        Ok(Pass { attention: [attention(&self.rope, None), window], gate })
    }

    fn head(&self, x: &Tensor) -> Result<Tensor> {
        let output = self.weights.get("output.weight").unwrap_or(&self.weights["token_embd.weight"]);
        let mut logits = ops::linear(&self.norm("output_norm", x)?, output)?;
        if let Some(scale) = self.weights.get("output.scale") {
            logits = logits.broadcast_mul(scale)?;
        }
        match self.weights.get("output.bias") {
            Some(bias) => logits.broadcast_add(bias),
            None => Ok(logits),
        }
    }

    /// Logits at `packed.rows`, `[rows, n_vocab]`.
    ///
    /// # Errors
    ///
    /// A tensor operation that fails for want of memory.
    pub fn logits(&self, packed: &Packed) -> Result<Tensor> {
        let pass = self.pass(packed)?;
        let mut x = self.embed(&packed.tokens)?;
        for i in 0..self.shape.n_layer {
            x = self.layer(i, &x, &pass)?;
        }
        self.head(&x.index_select(&Tensor::new(packed.rows.as_slice(), &self.device)?, 0)?)
    }

    /// Log-probability of each scored token, `[rows]`.
    ///
    /// # Errors
    ///
    /// A tensor operation that fails for want of memory.
    pub fn logprobs(&self, packed: &Packed) -> Result<Tensor> {
        ops::token_logprob(&self.logits(packed)?, &packed.targets)
    }

    /// Runs forward and backward keeping only each block's input, computing the rest twice.
    ///
    /// `weigh` turns the scored log-probabilities into the number whose gradients are wanted. Returns the
    /// gradient of each trainable tensor.
    ///
    /// # Errors
    ///
    /// A tensor operation that fails for want of memory.
    pub fn checkpointed_gradients(
        &mut self,
        packed: &Packed,
        weigh: impl FnOnce(&Tensor) -> Result<Tensor>,
    ) -> Result<BTreeMap<String, Tensor>> {
        let pass = self.pass(packed)?;
        let n_layer = self.shape.n_layer;
        let mut gradients = BTreeMap::new();
        let mut inputs = Vec::with_capacity(n_layer + 1);
        let embedded = self.embed(&packed.tokens)?;
        let mut x = embedded.detach();
        let mut seeds = Vec::with_capacity(n_layer);
        for i in 0..n_layer {
            seeds.push(self.dropout.clone());
            let next = self.layer(i, &x, &pass)?.detach();
            inputs.push(std::mem::replace(&mut x, next));
        }
        let top = Var::from_tensor(&x)?;
        let rows = Tensor::new(packed.rows.as_slice(), &self.device)?;
        let logits = self.head(&top.index_select(&rows, 0)?)?;
        let mut grads = weigh(&ops::token_logprob(&logits, &packed.targets)?)?.backward()?;
        self.collect(&grads, &mut gradients)?;
        let mut flow = grads.remove(&top);
        for (i, input) in inputs.into_iter().enumerate().rev() {
            let Some(g) = flow.take() else { return Ok(gradients) };
            let input = Var::from_tensor(&input)?;
            self.dropout = seeds.pop().flatten();
            let mut grads = (self.layer(i, &input, &pass)? * g)?.sum_all()?.backward()?;
            self.collect(&grads, &mut gradients)?;
            flow = grads.remove(&input);
        }
        if let Some(g) = flow.filter(|_| embedded.track_op()) {
            let grads = (embedded * g)?.sum_all()?.backward()?;
            self.collect(&grads, &mut gradients)?;
        }
        Ok(gradients)
    }

    /// Adds what `grads` holds for each trainable tensor to `into`.
    ///
    /// # Errors
    ///
    /// A tensor operation that fails for want of memory.
    pub fn collect(&self, grads: &candle_core::backprop::GradStore, into: &mut BTreeMap<String, Tensor>) -> Result<()> {
        for (name, var) in &self.trainable {
            if let Some(g) = grads.get(var) {
                let sum = match into.remove(name) {
                    Some(old) => (old + g)?,
                    None => g.clone(),
                };
                into.insert(name.clone(), sum.detach());
            }
        }
        Ok(())
    }
}
