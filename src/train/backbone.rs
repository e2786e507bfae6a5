//! A transformer read from a GGUF file, differentiable in its weights or in LoRA adapters on them.

use super::attention::{Attention, Rope, RopeStyle};
use super::ops;
use super::{TrainError, one_line};
use crate::engine::gguf::{GgufFile, Value};
use candle_core::quantized::gguf_file::Content;
use candle_core::{Device, Result, Tensor, Var};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;

/// The numbers of a GGUF header that shape the graph.
#[derive(Debug, Clone)]
pub struct Shape {
    /// `general.architecture`: llama, qwen2 or qwen3.
    pub arch: String,
    /// Transformer blocks.
    pub n_layer: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Numbers in a head.
    pub head_dim: usize,
    /// Added to the mean square in every norm.
    pub eps: f32,
    /// Longest sequence the rope tables cover, in tokens.
    pub n_ctx: usize,
    /// Rows of the output matrix.
    pub n_vocab: usize,
}

/// Which matrices get a LoRA adapter, and of what size.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraSettings {
    /// Rank r of each adapter.
    pub rank: usize,
    /// The product B·A is scaled by alpha / rank.
    pub alpha: f32,
    /// Probability with which an input of A is dropped while training.
    pub dropout: f32,
    /// GGUF names of the matrices without block and suffix, as `attn_q`.
    pub targets: Vec<String>,
}

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
}

impl Packed {
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
    rope: Arc<Rope>,
    dropout: Option<RefCell<ChaCha8Rng>>,
}

/// A hyper-parameter, whatever its integer or float type.
fn number(file: &GgufFile, name: &str) -> Option<f64> {
    let value = file.hparam(name)?;
    value.as_f64().or_else(|| value.as_u64().map(|v| v as f64))
}

impl Backbone {
    /// Reads a GGUF file of any quantisation and dequantises it to F32 on `device`.
    ///
    /// # Errors
    ///
    /// [`TrainError::Architecture`] for a graph that is not known here; [`TrainError::File`],
    /// [`TrainError::Io`] and [`TrainError::Gguf`].
    pub fn load(path: &Path, device: &Device, n_ctx: Option<usize>) -> std::result::Result<Self, TrainError> {
        let bad = |reason: String| TrainError::Gguf { path: path.into(), reason };
        let header = GgufFile::open_model(path)?;
        let shape = Shape::read(&header, n_ctx)?;
        // candle reads the header once more, because it knows how to dequantise every type.
        let mut file = BufReader::new(File::open(path).map_err(TrainError::io(path))?);
        let content = Content::read(&mut file).map_err(|e| bad(format!("candle cannot read it ({})", one_line(&e))))?;
        let mut weights = BTreeMap::new();
        for name in content.tensor_infos.keys() {
            let tensor =
                content.tensor(&mut file, name, device).map_err(|e| bad(format!("tensor {name}: {}", one_line(&e))))?;
            weights.insert(name.clone(), tensor.dequantize(device)?);
        }
        let rope = Arc::new(shape.rope(&header, weights.get("rope_freqs.weight"))?);
        let backbone = Self {
            shape,
            file: Arc::new(header),
            device: device.clone(),
            weights,
            trainable: BTreeMap::new(),
            lora: None,
            rope,
            dropout: None,
        };
        match backbone.missing_tensor() {
            Some(name) => Err(bad(format!("tensor {name} is missing; a whole model is needed"))),
            None => Ok(backbone),
        }
    }

    fn missing_tensor(&self) -> Option<String> {
        let per_layer = ["attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate", "ffn_up"];
        let blocks = (0..self.shape.n_layer)
            .flat_map(|i| per_layer.iter().chain(&["ffn_down"]).map(move |n| format!("blk.{i}.{n}.weight")));
        let whole = ["token_embd.weight", "output_norm.weight"].map(String::from);
        whole.into_iter().chain(blocks).find(|name| !self.weights.contains_key(name))
    }

    /// Makes every weight trainable.
    ///
    /// # Errors
    ///
    /// A tensor operation that fails for want of memory.
    pub fn train_all(&mut self) -> Result<()> {
        for (name, weight) in &mut self.weights {
            if name == "rope_freqs.weight" {
                continue;
            }
            let var = Var::from_tensor(weight)?;
            *weight = var.as_tensor().clone();
            self.trainable.insert(name.clone(), var);
        }
        Ok(())
    }

    /// Adds LoRA adapters to the target matrices: A uniform as in PEFT (Kaiming, a = √5), B zero.
    ///
    /// # Errors
    ///
    /// [`TrainError::Setting`] when a target names no matrix.
    pub fn train_lora(&mut self, settings: LoraSettings, seed: u64) -> std::result::Result<(), TrainError> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        for target in &settings.targets {
            for i in 0..self.shape.n_layer {
                let name = format!("blk.{i}.{target}.weight");
                let Some(weight) = self.weights.get(&name) else {
                    let known = "attn_q, attn_k, attn_v, attn_output, ffn_gate, ffn_up, ffn_down";
                    return Err(TrainError::Setting(format!("no matrix `{target}` to adapt; known: {known}")));
                };
                let (n_out, n_in) = weight.dims2()?;
                let bound = 1.0 / (n_in as f32).sqrt();
                let a: Vec<f32> = (0..settings.rank * n_in).map(|_| rng.random_range(-bound..bound)).collect();
                let a = Tensor::from_vec(a, (settings.rank, n_in), &self.device)?;
                let b = Tensor::zeros((n_out, settings.rank), candle_core::DType::F32, &self.device)?;
                self.trainable.insert(format!("{name}.lora_a"), Var::from_tensor(&a)?);
                self.trainable.insert(format!("{name}.lora_b"), Var::from_tensor(&b)?);
            }
        }
        self.lora = Some(settings);
        Ok(())
    }

    /// What is trained, by GGUF tensor name, in a fixed order.
    pub fn trainable(&self) -> &BTreeMap<String, Var> {
        &self.trainable
    }

    /// The LoRA settings, when adapters are trained.
    pub fn lora(&self) -> Option<&LoraSettings> {
        self.lora.as_ref()
    }

    /// Starts the dropout of one step; `None` turns it off, as evaluation wants.
    pub fn set_dropout_seed(&mut self, seed: Option<u64>) {
        let active = self.lora.as_ref().is_some_and(|l| l.dropout > 0.0);
        self.dropout = seed.filter(|_| active).map(|s| RefCell::new(ChaCha8Rng::seed_from_u64(s)));
    }

    /// Every weight of the file with training's changes in it, LoRA merged.
    ///
    /// # Errors
    ///
    /// A tensor operation that fails for want of memory.
    pub fn merged(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut merged = BTreeMap::new();
        for (name, weight) in &self.weights {
            let weight = weight.detach();
            let tensor = match self.adapter(name) {
                Some((a, b, scale)) => (weight + (b.detach().matmul(&a.detach())? * scale)?)?,
                None => weight,
            };
            merged.insert(name.clone(), tensor);
        }
        Ok(merged)
    }

    fn adapter(&self, name: &str) -> Option<(&Var, &Var, f64)> {
        let lora = self.lora.as_ref()?;
        let a = self.trainable.get(&format!("{name}.lora_a"))?;
        let b = self.trainable.get(&format!("{name}.lora_b"))?;
        Some((a, b, f64::from(lora.alpha / lora.rank as f32)))
    }

    fn linear(&self, name: &str, x: &Tensor) -> Result<Tensor> {
        let weight_name = format!("{name}.weight");
        let mut y = ops::linear(x, &self.weights[&weight_name])?;
        if let Some(bias) = self.weights.get(&format!("{name}.bias")) {
            y = y.broadcast_add(bias)?;
        }
        let Some((a, b, scale)) = self.adapter(&weight_name) else { return Ok(y) };
        let dropped;
        let x = match (&self.dropout, &self.lora) {
            (Some(rng), Some(lora)) => {
                let mut rng = rng.borrow_mut();
                dropped = ops::dropout(x, lora.dropout, || rng.random())?;
                &dropped
            }
            _ => x,
        };
        let delta = ops::linear(&ops::linear(x, a.as_tensor())?, b.as_tensor())?;
        y + (delta * scale)?
    }

    fn norm(&self, name: &str, x: &Tensor) -> Result<Tensor> {
        ops::rms_norm(x, &self.weights[&format!("{name}.weight")], self.shape.eps)
    }

    /// Per-head norm of q or k, which qwen3 has and the others have not.
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
        self.weights["token_embd.weight"].index_select(&Tensor::new(tokens, &self.device)?, 0)
    }

    /// One transformer block.
    fn layer(&self, i: usize, x: &Tensor, attention: &Attention) -> Result<Tensor> {
        let name = |n: &str| format!("blk.{i}.{n}");
        let h = self.norm(&name("attn_norm"), x)?;
        let q = self.head_norm(&name("attn_q_norm"), self.linear(&name("attn_q"), &h)?)?;
        let k = self.head_norm(&name("attn_k_norm"), self.linear(&name("attn_k"), &h)?)?;
        let v = self.linear(&name("attn_v"), &h)?;
        let x = (x + self.linear(&name("attn_output"), &attention.forward(&q, &k, &v)?)?)?;
        let h = self.norm(&name("ffn_norm"), &x)?;
        let h = ops::swiglu(&self.linear(&name("ffn_gate"), &h)?, &self.linear(&name("ffn_up"), &h)?)?;
        x + self.linear(&name("ffn_down"), &h)?
    }

    fn attention(&self, packed: &Packed) -> Attention {
        Attention {
            heads: self.shape.heads,
            kv_heads: self.shape.kv_heads,
            head_dim: self.shape.head_dim,
            rope: Arc::clone(&self.rope),
            seq_lens: Arc::new(packed.seq_lens.clone()),
        }
    }

    fn head(&self, x: &Tensor) -> Result<Tensor> {
        let output = self.weights.get("output.weight").unwrap_or(&self.weights["token_embd.weight"]);
        ops::linear(&self.norm("output_norm", x)?, output)
    }

    /// Logits at `packed.rows`, `[rows, n_vocab]`.
    ///
    /// # Errors
    ///
    /// A tensor operation that fails for want of memory.
    pub fn logits(&self, packed: &Packed) -> Result<Tensor> {
        let attention = self.attention(packed);
        let mut x = self.embed(&packed.tokens)?;
        for i in 0..self.shape.n_layer {
            x = self.layer(i, &x, &attention)?;
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
        let attention = self.attention(packed);
        let n_layer = self.shape.n_layer;
        let mut gradients = BTreeMap::new();
        let mut inputs = Vec::with_capacity(n_layer + 1);
        let embedded = self.embed(&packed.tokens)?;
        let mut x = embedded.detach();
        let mut seeds = Vec::with_capacity(n_layer);
        for i in 0..n_layer {
            seeds.push(self.dropout.clone());
            let next = self.layer(i, &x, &attention)?.detach();
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
            let mut grads = (self.layer(i, &input, &attention)? * g)?.sum_all()?.backward()?;
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

impl Shape {
    fn read(file: &GgufFile, n_ctx: Option<usize>) -> std::result::Result<Self, TrainError> {
        let path = file.path();
        let bad = |reason: String| TrainError::Gguf { path: path.into(), reason };
        let arch = file.architecture().unwrap_or_default().to_string();
        let get = |key: &str| number(file, key);
        if !["llama", "qwen2", "qwen3"].contains(&arch.as_str()) || get("expert_count").is_some_and(|n| n > 0.0) {
            let arch = if get("expert_count").is_some() { format!("{arch} with experts") } else { arch };
            return Err(TrainError::Architecture { path: path.into(), arch });
        }
        let need = |key: &str| {
            get(key).map(|v| v as usize).ok_or_else(|| bad(format!("{arch}.{key} is missing; a whole model is needed")))
        };
        let heads = need("attention.head_count")?;
        let n_embd = need("embedding_length")?;
        if heads == 0 || n_embd == 0 {
            return Err(bad("head count or embedding length is 0".into()));
        }
        let n_vocab = file.tensor("token_embd.weight").and_then(|t| t.dims.get(1)).map(|n| *n as usize);
        let trained = need("context_length")?;
        Ok(Self {
            n_layer: need("block_count")?,
            heads,
            kv_heads: get("attention.head_count_kv").map_or(heads, |v| v as usize).max(1),
            head_dim: get("attention.key_length").map_or(n_embd / heads, |v| v as usize),
            eps: get("attention.layer_norm_rms_epsilon").unwrap_or(1e-5) as f32,
            n_ctx: n_ctx.map_or(trained, |n| n.min(trained)),
            n_vocab: n_vocab.ok_or_else(|| bad("no tensors; a whole model is needed, not a vocabulary".into()))?,
            arch,
        })
    }

    fn rope(&self, file: &GgufFile, factors: Option<&Tensor>) -> std::result::Result<Rope, TrainError> {
        let get = |key: &str| number(file, &format!("rope.{key}"));
        let scale = match file.hparam("rope.scaling.type").and_then(Value::as_str) {
            None | Some("none") => 1.0,
            Some("linear") => 1.0 / get("scaling.factor").unwrap_or(1.0),
            Some(other) => {
                let reason =
                    format!("rope scaling `{other}` cannot be trained; use a model without it, or with `linear`");
                return Err(TrainError::Gguf { path: file.path().into(), reason });
            }
        };
        let style = if self.arch == "llama" { RopeStyle::Interleaved } else { RopeStyle::Halves };
        let dim = get("dimension_count").map_or(self.head_dim, |d| d as usize).min(self.head_dim);
        let factors = factors.map(|f| f.flatten_all()?.to_vec1::<f32>()).transpose()?;
        let base = get("freq_base").unwrap_or(10_000.0) as f32;
        Ok(Rope::new(style, dim, base, scale as f32, factors.as_deref(), self.n_ctx))
    }
}
