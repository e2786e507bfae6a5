//! Causal self-attention over packed sequences, with rope and grouped keys, as one differentiable op.
//!
//! Sequences of different lengths lie one after another without padding. On the CPU the op never
//! stores the attention matrix: the backward pass computes each row again.

use super::ops::{floats, plain, with_floats};
use super::rope::Rope;
use candle_core::{CpuStorage, CustomOp3, D, Layout, Result, Shape, Tensor};
use rayon::prelude::*;
use std::sync::Arc;

/// The shape of one attention layer over packed sequences.
#[derive(Debug, Clone)]
pub struct Attention {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; each serves `heads / kv_heads` query heads.
    pub kv_heads: usize,
    /// Numbers in a head.
    pub head_dim: usize,
    /// Scores are multiplied by it.
    pub scale: f32,
    /// Tokens that a place sees, its own included; `None` for all before it.
    pub window: Option<usize>,
    /// Rotation tables.
    pub rope: Arc<Rope>,
    /// Length of each packed sequence, in tokens.
    pub seq_lens: Arc<Vec<usize>>,
}

impl Attention {
    /// Mixes v `[n, kv_heads · head_dim]` by q `[n, heads · head_dim]` and k, both before rope.
    pub fn forward(&self, q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
        if q.device().is_cpu() {
            return q.contiguous()?.apply_op3(&k.contiguous()?, &v.contiguous()?, self.clone());
        }
        self.forward_tensors(q, k, v)
    }

    /// The same with candle's differentiable operations, one sequence after another.
    pub(super) fn forward_tensors(&self, q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
        let mut outs = Vec::with_capacity(self.seq_lens.len());
        let mut start = 0;
        for &t in self.seq_lens.iter() {
            let heads = |x: &Tensor, h: usize| x.narrow(0, start, t)?.reshape((t, h, self.head_dim));
            let q = self.rope.rotate_tensor(&heads(q, self.heads)?)?.transpose(0, 1)?.contiguous()?;
            let k = self.repeat(&self.rope.rotate_tensor(&heads(k, self.kv_heads)?)?)?;
            let v = self.repeat(&heads(v, self.kv_heads)?)?;
            let mask: Vec<f32> =
                (0..t * t).map(|i| if self.sees(i / t, i % t) { 0.0 } else { f32::NEG_INFINITY }).collect();
            let mask = Tensor::from_vec(mask, (t, t), q.device())?;
            let scores = (q.matmul(&k.transpose(1, 2)?)? * f64::from(self.scale))?.broadcast_add(&mask)?;
            let e = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?.detach())?.exp()?;
            let p = e.broadcast_div(&e.sum_keepdim(D::Minus1)?)?;
            outs.push(p.matmul(&v)?.transpose(0, 1)?.reshape((t, self.heads * self.head_dim))?);
            start += t;
        }
        Tensor::cat(&outs, 0)
    }

    /// `[t, kv_heads, d]` to `[heads, t, d]`.
    fn repeat(&self, x: &Tensor) -> Result<Tensor> {
        let (t, kv, d) = x.dims3()?;
        let groups = self.heads / kv;
        x.unsqueeze(2)?.broadcast_as((t, kv, groups, d))?.reshape((t, self.heads, d))?.transpose(0, 1)?.contiguous()
    }

    /// Whether place `i` of a sequence sees place `j`.
    fn sees(&self, i: usize, j: usize) -> bool {
        j <= i && self.window.is_none_or(|window| i - j < window)
    }

    /// Splits rows of `width` numbers into one slice per sequence.
    fn split<'a>(&self, mut rows: &'a [f32], width: usize) -> Vec<&'a [f32]> {
        let mut parts = Vec::with_capacity(self.seq_lens.len());
        for t in self.seq_lens.iter() {
            let (head, tail) = rows.split_at(t * width);
            parts.push(head);
            rows = tail;
        }
        parts
    }

    fn split_mut<'a>(&self, mut rows: &'a mut [f32], width: usize) -> Vec<&'a mut [f32]> {
        let mut parts = Vec::with_capacity(self.seq_lens.len());
        for t in self.seq_lens.iter() {
            let (head, tail) = std::mem::take(&mut rows).split_at_mut(t * width);
            parts.push(head);
            rows = tail;
        }
        parts
    }

    /// One head of `[t, heads · d]` as `[t, d]`, rotated if asked.
    fn gather(&self, rows: &[f32], heads: usize, head: usize, rotate: bool) -> Vec<f32> {
        let (d, width) = (self.head_dim, heads * self.head_dim);
        let mut out = Vec::with_capacity(rows.len() / heads);
        for row in rows.chunks(width) {
            out.extend_from_slice(&row[head * d..(head + 1) * d]);
        }
        if rotate {
            out.chunks_mut(d).enumerate().for_each(|(pos, head)| self.rope.rotate(head, pos, 1.0));
        }
        out
    }

    /// One sequence forward: writes `out` `[t, heads · d]`.
    fn sequence(&self, q: &[f32], k: &[f32], v: &[f32], out: &mut [f32]) {
        let (d, width) = (self.head_dim, self.heads * self.head_dim);
        let t = q.len() / width;
        let mut p = vec![0.0; t];
        for kv in 0..self.kv_heads {
            let kt = transpose(&self.gather(k, self.kv_heads, kv, true), t, d);
            let vs = self.gather(v, self.kv_heads, kv, false);
            let groups = self.heads / self.kv_heads;
            for head in kv * groups..(kv + 1) * groups {
                let qs = self.gather(q, self.heads, head, true);
                for i in 0..t {
                    self.probabilities(&qs[i * d..(i + 1) * d], &kt, t, &mut p[..=i]);
                    let o = &mut out[i * width + head * d..][..d];
                    for (p, v) in p[..=i].iter().zip(vs.chunks(d)) {
                        axpy(*p, v, o);
                    }
                }
            }
        }
    }

    /// Softmax of one query against the first `p.len()` keys, given as `kt` `[d, t]`.
    fn probabilities(&self, q: &[f32], kt: &[f32], t: usize, p: &mut [f32]) {
        dot_columns(q, kt, t, p);
        let hidden = self.window.map_or(0, |window| p.len().saturating_sub(window));
        p[..hidden].fill(f32::NEG_INFINITY);
        let scale = self.scale;
        let max = p.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut sum = 0.0;
        for p in p.iter_mut() {
            *p = ((*p - max) * scale).exp();
            sum += *p;
        }
        let inverse = 1.0 / sum;
        p.iter_mut().for_each(|p| *p *= inverse);
    }

    /// One sequence backward: writes the gradients of q, k and v.
    fn sequence_bwd(&self, [q, k, v, g]: [&[f32]; 4], [dq, dk, dv]: [&mut [f32]; 3]) {
        let (d, width, kv_width) = (self.head_dim, self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let t = q.len() / width;
        let (mut p, mut dp) = (vec![0.0; t], vec![0.0; t]);
        let scale = self.scale;
        for kv in 0..self.kv_heads {
            let ks = self.gather(k, self.kv_heads, kv, true);
            let kt = transpose(&ks, t, d);
            let vt = transpose(&self.gather(v, self.kv_heads, kv, false), t, d);
            let (mut dks, mut dvs) = (vec![0.0; t * d], vec![0.0; t * d]);
            let groups = self.heads / self.kv_heads;
            for head in kv * groups..(kv + 1) * groups {
                let qs = self.gather(q, self.heads, head, true);
                for i in 0..t {
                    let (p, dp) = (&mut p[..=i], &mut dp[..=i]);
                    let (qi, gi) = (&qs[i * d..(i + 1) * d], &g[i * width + head * d..][..d]);
                    self.probabilities(qi, &kt, t, p);
                    dot_columns(gi, &vt, t, dp);
                    let delta: f32 = p.iter().zip(dp.iter()).map(|(p, dp)| p * dp).sum();
                    let dqi = &mut dq[i * width + head * d..][..d];
                    for j in 0..=i {
                        let ds = p[j] * (dp[j] - delta) * scale;
                        axpy(ds, &ks[j * d..(j + 1) * d], dqi);
                        axpy(ds, qi, &mut dks[j * d..(j + 1) * d]);
                        axpy(p[j], gi, &mut dvs[j * d..(j + 1) * d]);
                    }
                    self.rope.rotate(dqi, i, -1.0);
                }
            }
            for (i, (dkr, dvr)) in dks.chunks_mut(d).zip(dvs.chunks(d)).enumerate() {
                self.rope.rotate(dkr, i, -1.0);
                dk[i * kv_width + kv * d..][..d].copy_from_slice(dkr);
                dv[i * kv_width + kv * d..][..d].copy_from_slice(dvr);
            }
        }
    }
}

impl CustomOp3 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (q, k, v) = (floats(s1, l1)?, floats(s2, l2)?, floats(s3, l3)?);
        let (width, kv_width) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let mut out = vec![0.0; q.len()];
        let ins = self.split(q, width).into_par_iter().zip(self.split(k, kv_width)).zip(self.split(v, kv_width));
        self.split_mut(&mut out, width)
            .into_par_iter()
            .zip(ins)
            .for_each(|(out, ((q, k), v))| self.sequence(q, k, v, out));
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        _: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (width, kv_width) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let (mut dq, mut dk, mut dv) =
            (vec![0.0; q.elem_count()], vec![0.0; k.elem_count()], vec![0.0; v.elem_count()]);
        let mut run = |q: &[f32], k: &[f32], v: &[f32], g: &[f32]| {
            let ins = self.split(q, width).into_par_iter().zip(self.split(k, kv_width));
            let ins = ins.zip(self.split(v, kv_width)).zip(self.split(g, width));
            let outs = self.split_mut(&mut dq, width).into_par_iter();
            let outs = outs.zip(self.split_mut(&mut dk, kv_width)).zip(self.split_mut(&mut dv, kv_width));
            outs.zip(ins).for_each(|(((dq, dk), dv), (((q, k), v), g))| {
                self.sequence_bwd([q, k, v, g], [dq, dk, dv]);
            });
            Ok(())
        };
        with_floats(q, |q| with_floats(k, |k| with_floats(v, |v| with_floats(g, |g| run(q, k, v, g)))))?;
        Ok((Some(plain(dq, q.shape())), Some(plain(dk, k.shape())), Some(plain(dv, v.shape()))))
    }
}

/// `[t, d]` to `[d, t]`.
fn transpose(rows: &[f32], t: usize, d: usize) -> Vec<f32> {
    let mut out = vec![0.0; rows.len()];
    for (i, row) in rows.chunks(d).enumerate() {
        for (j, v) in row.iter().enumerate() {
            out[j * t + i] = *v;
        }
    }
    out
}

/// `out[j] = Σ_i x[i] · columns[i][j]` for the first `out.len()` columns of `[d, t]`.
fn dot_columns(x: &[f32], columns: &[f32], t: usize, out: &mut [f32]) {
    out.fill(0.0);
    let n = out.len();
    // Four rows at a time: a quarter of the loads and stores of `out`.
    let mut rows = x.chunks_exact(4).zip(columns.chunks_exact(4 * t));
    for (x, c) in &mut rows {
        let (c0, c1, c2, c3) = (&c[..n], &c[t..t + n], &c[2 * t..2 * t + n], &c[3 * t..3 * t + n]);
        for j in 0..n {
            out[j] += x[0] * c0[j] + x[1] * c1[j] + x[2] * c2[j] + x[3] * c3[j];
        }
    }
    let done = x.len() / 4 * 4;
    for i in done..x.len() {
        axpy(x[i], &columns[i * t..i * t + n], out);
    }
}

/// `y += a · x`.
fn axpy(a: f32, x: &[f32], y: &mut [f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += a * x;
    }
}
