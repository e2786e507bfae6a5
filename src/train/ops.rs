//! Differentiable building blocks of a transformer: one fused step each on the CPU.
//!
//! candle's own fused rope, rms-norm and softmax have no backward pass. On the CPU these ops bring
//! both passes, each in one sweep over memory; on other devices the same functions are written
//! with candle's differentiable tensor operations. A test holds the two against each other.

use candle_core::op::BackpropOp;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, D, DType, Layout, Result, Shape, Storage, Tensor, bail};
use rayon::prelude::*;
use std::sync::Mutex;

/// The contiguous numbers behind an operand of a custom op.
pub(super) fn floats<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let CpuStorage::F32(all) = storage else { bail!("training expects F32 tensors") };
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&all[start..end]),
        None => bail!("training expects contiguous tensors"),
    }
}

/// Runs `f` on the contiguous numbers of a CPU tensor.
pub(super) fn with_floats<T>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> Result<T>) -> Result<T> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(cpu) => f(floats(cpu, layout)?),
        _ => bail!("a CPU tensor was expected"),
    }
}

/// Wraps numbers as a CPU tensor outside the graph.
pub(super) fn plain(data: Vec<f32>, shape: impl Into<Shape>) -> Tensor {
    Tensor::from_storage(Storage::Cpu(CpuStorage::F32(data)), shape, BackpropOp::none(), false)
}

/// `x · wᵀ` for x `[n, n_in]` and w `[n_out, n_in]`. A frozen `w` costs nothing in the backward pass.
pub fn linear(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    if !x.device().is_cpu() {
        return x.matmul(&w.t()?);
    }
    let parts = product(&x.detach().contiguous()?, &w.detach().t()?)?;
    if !x.track_op() && !w.track_op() {
        return Tensor::cat(&parts, 0);
    }
    x.contiguous()?.apply_op2(w, Linear { y: Mutex::new(Some(parts)) })
}

/// `a · b` as blocks of rows, one a thread: candle's own product spreads small matrices badly.
fn product(a: &Tensor, b: &Tensor) -> Result<Vec<Tensor>> {
    let rows = a.dim(0)?;
    let step = rows.div_ceil(rayon::current_num_threads()).next_multiple_of(8).max(64);
    let blocks: Vec<usize> = (0..rows).step_by(step).collect();
    blocks.into_par_iter().map(|at| a.narrow(0, at, step.min(rows - at))?.matmul(b)).collect()
}

/// candle's own matmul always computes both gradients; this one skips those nobody asked for.
struct Linear {
    /// The product, computed before the op is recorded and handed over in its forward pass.
    y: Mutex<Option<Vec<Tensor>>>,
}

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(&self, _: &CpuStorage, l1: &Layout, _: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let parts = self.y.lock().ok().and_then(|mut y| y.take());
        let Some(parts) = parts else { bail!("a linear op runs once") };
        let (n, n_out) = (l1.dims()[0], l2.dims()[0]);
        let mut data = Vec::with_capacity(n * n_out);
        for part in &parts {
            with_floats(part, |y| {
                data.extend_from_slice(y);
                Ok(())
            })?;
        }
        Ok((CpuStorage::F32(data), Shape::from((n, n_out))))
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _: &Tensor, g: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (xd, wd, g) = (x.detach(), w.detach(), g.contiguous()?);
        let dx = if x.track_op() { Some(Tensor::cat(&product(&g, &wd)?, 0)?) } else { None };
        let dw = if w.track_op() { Some(Tensor::cat(&product(&g.t()?, &xd)?, 0)?) } else { None };
        Ok((dx, dw))
    }
}

/// Root-mean-square norm of each row of x `[n, d]`, times w `[d]`.
pub fn rms_norm(x: &Tensor, w: &Tensor, eps: f32) -> Result<Tensor> {
    if x.device().is_cpu() {
        return x.contiguous()?.apply_op2(w, RmsNorm { eps });
    }
    let mean = x.sqr()?.mean_keepdim(D::Minus1)?;
    x.broadcast_div(&(mean + f64::from(eps))?.sqrt()?)?.broadcast_mul(w)
}

struct RmsNorm {
    eps: f32,
}

impl RmsNorm {
    fn inverse(&self, row: &[f32]) -> f32 {
        let sum: f32 = row.iter().map(|v| v * v).sum();
        1.0 / (sum / row.len() as f32 + self.eps).sqrt()
    }
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (x, w) = (floats(s1, l1)?, floats(s2, l2)?);
        let mut y = vec![0.0; x.len()];
        y.par_chunks_mut(w.len()).zip(x.par_chunks(w.len())).with_min_len(16).for_each(|(y, x)| {
            let r = self.inverse(x);
            for ((y, x), w) in y.iter_mut().zip(x).zip(w) {
                *y = x * r * w;
            }
        });
        Ok((CpuStorage::F32(y), l1.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _: &Tensor, g: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let d = w.elem_count();
        let mut dx = vec![0.0; x.elem_count()];
        let mut dw = vec![0.0; d];
        with_floats(g, |g| {
            with_floats(x, |x| {
                with_floats(w, |w| {
                    dx.par_chunks_mut(d).zip(x.par_chunks(d)).zip(g.par_chunks(d)).with_min_len(16).for_each(
                        |((dx, x), g)| {
                            let r = self.inverse(x);
                            let dot: f32 = x.iter().zip(g).zip(w).map(|((x, g), w)| x * g * w).sum();
                            let c = r * r * r * dot / d as f32;
                            for (((dx, x), g), w) in dx.iter_mut().zip(x).zip(g).zip(w) {
                                *dx = r * g * w - c * x;
                            }
                        },
                    );
                    for (x, g) in x.chunks(d).zip(g.chunks(d)) {
                        let r = self.inverse(x);
                        for ((dw, x), g) in dw.iter_mut().zip(x).zip(g) {
                            *dw += g * x * r;
                        }
                    }
                    Ok(())
                })
            })
        })?;
        let dw = w.track_op().then(|| plain(dw, w.shape()));
        Ok((x.track_op().then(|| plain(dx, x.shape())), dw))
    }
}

/// `silu(gate) · up`, elementwise.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    if gate.device().is_cpu() {
        return gate.contiguous()?.apply_op2(&up.contiguous()?, Gated(silu));
    }
    gate.silu()? * up
}

/// `gelu(gate) · up`, elementwise, with the tanh approximation of GELU.
pub fn geglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    if gate.device().is_cpu() {
        return gate.contiguous()?.apply_op2(&up.contiguous()?, Gated(gelu));
    }
    gate.gelu()? * up
}

/// `activation(gate) · up`, by an activation's value and slope. A type of its own for each, so that its loops are
/// vectorised.
struct Gated<F>(F);

fn silu(x: f32) -> (f32, f32) {
    let inverse = 1.0 + (-x).exp();
    let s = 1.0 / inverse;
    (x / inverse, s * (1.0 + x * (1.0 - s)))
}

/// The value has 16 bits, as in ggml's table on the CPU (`ggml_gelu_f32`); the slope is that of the smooth function.
fn gelu(x: f32) -> (f32, f32) {
    const SQRT_2_OVER_PI: f32 = 0.797_884_6;
    const CUBE: f32 = 0.044_715;
    let tanh = |x: f32| (SQRT_2_OVER_PI * x * (1.0 + CUBE * x * x)).tanh();
    let half = |x: f32| half::f16::from_f32(x).to_f32();
    let rounded = half(x);
    let value = half(0.5 * rounded * (1.0 + tanh(rounded)));
    let t = tanh(x);
    let inner = SQRT_2_OVER_PI * (1.0 + 3.0 * CUBE * x * x);
    (value, 0.5 * (1.0 + t + x * (1.0 - t * t) * inner))
}

/// Elements per parallel task of an elementwise op.
const CHUNK: usize = 1 << 14;

impl<F: Fn(f32) -> (f32, f32) + Send + Sync> CustomOp2 for Gated<F> {
    fn name(&self) -> &'static str {
        "gated"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (gate, up) = (floats(s1, l1)?, floats(s2, l2)?);
        let mut y = vec![0.0; gate.len()];
        y.par_chunks_mut(CHUNK).zip(gate.par_chunks(CHUNK)).zip(up.par_chunks(CHUNK)).for_each(|((y, gate), up)| {
            for ((y, a), b) in y.iter_mut().zip(gate).zip(up) {
                *y = (self.0)(*a).0 * b;
            }
        });
        Ok((CpuStorage::F32(y), l1.shape().clone()))
    }

    fn bwd(&self, gate: &Tensor, up: &Tensor, _: &Tensor, g: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let n = gate.elem_count();
        let (mut da, mut db) = (vec![0.0; n], vec![0.0; n]);
        with_floats(g, |g| {
            with_floats(gate, |gate| {
                with_floats(up, |up| {
                    let outs = da.par_chunks_mut(CHUNK).zip(db.par_chunks_mut(CHUNK));
                    let ins = gate.par_chunks(CHUNK).zip(up.par_chunks(CHUNK)).zip(g.par_chunks(CHUNK));
                    outs.zip(ins).for_each(|((da, db), ((gate, up), g))| {
                        for i in 0..g.len() {
                            let (value, slope) = (self.0)(gate[i]);
                            da[i] = g[i] * up[i] * slope;
                            db[i] = g[i] * value;
                        }
                    });
                    Ok(())
                })
            })
        })?;
        Ok((Some(plain(da, gate.shape())), Some(plain(db, up.shape()))))
    }
}

/// Log-probability of `targets[i]` under the softmax of row i of `logits` `[n, n_vocab]`, as `[n]`.
pub fn token_logprob(logits: &Tensor, targets: &[u32]) -> Result<Tensor> {
    if logits.device().is_cpu() {
        return logits.contiguous()?.apply_op1(TokenLogProb { targets: targets.to_vec() });
    }
    let max = logits.max_keepdim(D::Minus1)?.detach();
    let shifted = logits.broadcast_sub(&max)?;
    let lse = shifted.exp()?.sum(D::Minus1)?.log()?;
    let index = Tensor::new(targets, logits.device())?.unsqueeze(1)?;
    shifted.gather(&index, 1)?.squeeze(1)? - lse
}

struct TokenLogProb {
    targets: Vec<u32>,
}

fn log_sum_exp(row: &[f32]) -> f32 {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    max + row.iter().map(|v| (v - max).exp()).sum::<f32>().ln()
}

impl CustomOp1 for TokenLogProb {
    fn name(&self) -> &'static str {
        "token-logprob"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let n_vocab = layout.dims()[1];
        let logits = floats(storage, layout)?;
        let rows = logits.par_chunks(n_vocab).zip(&self.targets);
        let out: Vec<f32> = rows.map(|(row, &t)| row[t as usize] - log_sum_exp(row)).collect();
        Ok((CpuStorage::F32(out), Shape::from(self.targets.len())))
    }

    fn bwd(&self, logits: &Tensor, _: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        let n_vocab = logits.dim(1)?;
        let mut out = vec![0.0; logits.elem_count()];
        with_floats(logits, |logits| {
            with_floats(g, |g| {
                let ins = logits.par_chunks(n_vocab).zip(&self.targets).zip(g);
                out.par_chunks_mut(n_vocab).zip(ins).for_each(|(out, ((row, &t), &g))| {
                    let lse = log_sum_exp(row);
                    for (o, v) in out.iter_mut().zip(row) {
                        *o = -g * (v - lse).exp();
                    }
                    out[t as usize] += g;
                });
                Ok(())
            })
        })?;
        Ok(Some(plain(out, logits.shape())))
    }
}

/// Zeroes each element with probability `p` and scales the rest by `1 / (1 - p)`; `uniform` draws from `[0, 1)`.
pub fn dropout(x: &Tensor, p: f32, mut uniform: impl FnMut() -> f32) -> Result<Tensor> {
    let keep = 1.0 / (1.0 - p);
    let mask: Vec<f32> = (0..x.elem_count()).map(|_| if uniform() < p { 0.0 } else { keep }).collect();
    x * Tensor::from_vec(mask, x.shape(), x.device())?.to_dtype(DType::F32)?
}
