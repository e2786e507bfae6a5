//! Rotary position embedding, in every variant that the architectures of [`backbone`](super::backbone) know.

use super::TrainError;
use crate::engine::gguf::{GgufFile, Value};
use candle_core::{Result, Tensor};

/// How rotary position embedding pairs the numbers of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopeStyle {
    /// Neighbours (2i, 2i + 1): the llama architecture, whose q and k the GGUF conversion permutes.
    Interleaved,
    /// Halves (i, i + d/2): the qwen architectures.
    Halves,
}

/// What stretches the rotation for contexts longer than those of the first training, as llama.cpp computes it.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeScaling {
    /// Angles are multiplied by it: the inverse of `rope.scaling.factor`.
    pub freq_scale: f32,
    /// The lower and the upper pair between which YaRN blends scaled angles into plain ones; `None` without YaRN.
    pub blend: Option<[f32; 2]>,
    /// Cosines and sines are multiplied by it.
    pub magnitude: f32,
    /// One divisor of the frequency for each pair: llama 3's `rope_freqs`, or the factors of longrope.
    pub factors: Option<Vec<f32>>,
}

impl Default for RopeScaling {
    fn default() -> Self {
        Self { freq_scale: 1.0, blend: None, magnitude: 1.0, factors: None }
    }
}

impl RopeScaling {
    /// YaRN that stretches a context of `n_ctx_orig` tokens by `1 / freq_scale`, with llama.cpp's bounds (β 32 and 1).
    #[must_use]
    pub fn yarn(freq_scale: f32, dim: usize, base: f32, n_ctx_orig: usize) -> Self {
        // The pair that turns `turns` times over the original context.
        let pair = |turns: f32| {
            let length = n_ctx_orig as f32 / (turns * 2.0 * std::f32::consts::PI);
            dim as f32 * length.ln() / (2.0 * base.ln())
        };
        let blend = [pair(32.0).floor().max(0.0), pair(1.0).ceil().min(dim as f32 - 1.0)];
        let stretch = 1.0 / freq_scale;
        let magnitude = if stretch > 1.0 { 1.0 + 0.1 * stretch.ln() } else { 1.0 };
        Self { freq_scale, blend: Some(blend), magnitude, factors: None }
    }

    /// The angle of pair `i` where the plain one is `angle`.
    fn angle(&self, i: usize, angle: f64) -> f64 {
        let plain = angle / self.factors.as_ref().map_or(1.0, |f| f64::from(f[i]));
        let scaled = plain * f64::from(self.freq_scale);
        let Some([low, high]) = self.blend else { return scaled };
        let along = (i as f32 - low) / (high - low).max(0.001);
        let keep = f64::from(1.0 - along.clamp(0.0, 1.0));
        scaled * (1.0 - keep) + plain * keep
    }
}

/// Rotation tables for positions `0..n_ctx`.
#[derive(Debug)]
pub struct Rope {
    /// Which numbers form a pair.
    pub style: RopeStyle,
    /// Numbers of a head that are rotated; the rest passes through.
    pub dim: usize,
    /// Cosines, `[n_ctx, dim / 2]`.
    cos: Vec<f32>,
    /// Sines, `[n_ctx, dim / 2]`.
    sin: Vec<f32>,
}

impl Rope {
    /// Tables for `n_ctx` positions. Factors, where there are some, are `dim / 2`.
    pub fn new(style: RopeStyle, dim: usize, base: f32, scaling: &RopeScaling, n_ctx: usize) -> Self {
        let half = dim / 2;
        let (mut cos, mut sin) = (Vec::with_capacity(n_ctx * half), Vec::with_capacity(n_ctx * half));
        let freqs: Vec<f64> = (0..half).map(|i| f64::from(base).powf(-2.0 * i as f64 / dim as f64)).collect();
        let magnitude = f64::from(scaling.magnitude);
        for pos in 0..n_ctx {
            for (i, freq) in freqs.iter().enumerate() {
                let angle = scaling.angle(i, pos as f64 * freq);
                cos.push((angle.cos() * magnitude) as f32);
                sin.push((angle.sin() * magnitude) as f32);
            }
        }
        Self { style, dim, cos, sin }
    }

    /// Rotates one head in place to position `pos`; `sign` −1 turns it back (the backward pass).
    pub(super) fn rotate(&self, head: &mut [f32], pos: usize, sign: f32) {
        let half = self.dim / 2;
        let table = pos * half..(pos + 1) * half;
        for (i, (c, s)) in self.cos[table.clone()].iter().zip(&self.sin[table]).enumerate() {
            let (a, b) = match self.style {
                RopeStyle::Interleaved => (2 * i, 2 * i + 1),
                RopeStyle::Halves => (i, i + half),
            };
            let (x, y, s) = (head[a], head[b], s * sign);
            head[a] = x * c - y * s;
            head[b] = x * s + y * c;
        }
    }

    /// The same rotation of x `[t, heads, d]` with candle's differentiable operations.
    pub(super) fn rotate_tensor(&self, x: &Tensor) -> Result<Tensor> {
        let (t, heads, d) = x.dims3()?;
        let half = self.dim / 2;
        let table = |v: &[f32]| Tensor::from_slice(&v[..t * half], (t, 1, half), x.device());
        let (cos, sin) = (table(&self.cos)?, table(&self.sin)?);
        let part = x.narrow(2, 0, self.dim)?;
        let (a, b) = match self.style {
            RopeStyle::Halves => (part.narrow(2, 0, half)?, part.narrow(2, half, half)?),
            RopeStyle::Interleaved => {
                let pairs = part.reshape((t, heads, half, 2))?;
                (pairs.narrow(3, 0, 1)?.squeeze(3)?, pairs.narrow(3, 1, 1)?.squeeze(3)?)
            }
        };
        let ra = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
        let rb = (a.broadcast_mul(&sin)? + b.broadcast_mul(&cos)?)?;
        let rotated = match self.style {
            RopeStyle::Halves => Tensor::cat(&[ra, rb], 2)?,
            RopeStyle::Interleaved => Tensor::stack(&[ra, rb], 3)?.reshape((t, heads, self.dim))?,
        };
        if self.dim == d { Ok(rotated) } else { Tensor::cat(&[rotated, x.narrow(2, self.dim, d - self.dim)?], 2) }
    }
}

/// What a file says of its rotation, as llama.cpp reads it.
pub(super) struct RopeKeys<'a> {
    /// The file.
    pub file: &'a GgufFile,
    /// Numbers in a head.
    pub head_dim: usize,
    /// One of the file's tensors, by name.
    pub tensor: &'a dyn Fn(&str) -> Option<Vec<f32>>,
}

impl RopeKeys<'_> {
    /// Tables of the layers with a sliding window: another base, and no scaling.
    pub fn window_tables(&self, style: RopeStyle, n_ctx: usize) -> Rope {
        let base = self.number("rope.freq_base_swa").unwrap_or(10_000.0) as f32;
        Rope::new(style, self.head_dim, base, &RopeScaling::default(), n_ctx)
    }

    /// Tables for `n_ctx` positions.
    ///
    /// # Errors
    ///
    /// [`TrainError::Gguf`] for a variant that llama.cpp would not load, or values that make no rotation.
    pub fn tables(&self, style: RopeStyle, n_ctx: usize) -> std::result::Result<Rope, TrainError> {
        // These architectures rotate whole heads: `GgufFile` has refused files that say otherwise.
        let dim = self.head_dim;
        let base = self.number("rope.freq_base").unwrap_or(10_000.0) as f32;
        if !(base.is_finite() && base > 0.0) {
            return Err(self.bad(format!("rope.freq_base is {base}; it must be a positive number")));
        }
        Ok(Rope::new(style, dim, base, &self.scaling(dim, base)?, n_ctx))
    }

    fn scaling(&self, dim: usize, base: f32) -> std::result::Result<RopeScaling, TrainError> {
        // A file without a type is scaled linearly, and old files have their factor under another key.
        let kind = self.file.hparam("rope.scaling.type").map_or(Some("linear"), Value::as_str).unwrap_or_default();
        let stretch = self.number("rope.scaling.factor").or_else(|| self.number("rope.scale_linear")).unwrap_or(0.0);
        if !(stretch.is_finite() && stretch >= 0.0) {
            return Err(self.bad(format!("rope.scaling.factor is {stretch}; it must be a positive number")));
        }
        let freq_scale = if stretch == 0.0 || kind == "none" { 1.0 } else { 1.0 / stretch as f32 };
        let mut scaling = match kind {
            "none" | "linear" | "longrope" => RopeScaling { freq_scale, ..RopeScaling::default() },
            "yarn" => RopeScaling::yarn(freq_scale, dim, base, self.n_ctx_orig()),
            other => {
                let known = "none, linear, yarn and longrope";
                return Err(self.bad(format!("rope scaling `{other}` cannot be trained; known: {known}")));
            }
        };
        let magnitude = self.number("rope.scaling.attn_factor").unwrap_or(1.0) as f32;
        if !magnitude.is_finite() {
            return Err(self.bad(format!("rope.scaling.attn_factor is {magnitude}; it must be a finite number")));
        }
        scaling.magnitude *= magnitude;
        scaling.factors = self.factors(kind, dim)?;
        Ok(scaling)
    }

    /// The length of the first training, in tokens.
    fn n_ctx_orig(&self) -> usize {
        let given = self.number("rope.scaling.original_context_length").map(|n| n as usize).filter(|n| *n > 0);
        given.unwrap_or_else(|| self.n_ctx_train())
    }

    fn n_ctx_train(&self) -> usize {
        self.file.n_ctx_train().map_or(0, |n| n as usize)
    }

    fn factors(&self, kind: &str, dim: usize) -> std::result::Result<Option<Vec<f32>>, TrainError> {
        // Only the llama architecture has factors. Of longrope's two sets llama.cpp takes one by the size of the
        // context, and genarm's default is the model's own.
        let name = match kind {
            _ if self.file.architecture() != Some("llama") => return Ok(None),
            "longrope" if self.n_ctx_train() > self.n_ctx_orig() => "rope_factors_long.weight",
            "longrope" => "rope_factors_short.weight",
            _ => "rope_freqs.weight",
        };
        let Some(factors) = (self.tensor)(name) else { return Ok(None) };
        if factors.len() != dim / 2 || factors.iter().any(|f| !(f.is_finite() && *f != 0.0)) {
            return Err(self.bad(format!("tensor {name} must have {} numbers that are not 0", dim / 2)));
        }
        Ok(Some(factors))
    }

    fn number(&self, key: &str) -> Option<f64> {
        super::shape::number(self.file, key)
    }

    fn bad(&self, reason: String) -> TrainError {
        TrainError::Gguf { path: self.file.path().into(), reason }
    }
}
