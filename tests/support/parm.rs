//! A preference-conditioned ARM of random numbers, as its authors define it:
//! ΔW(α) = s · B · blockdiag(W1, Σ αᵢ · Mᵢ) · A.

use std::path::Path;

use genarm::engine::gguf::{GgufFile, GgufWriter, TensorType, parm};

use super::random::Noise;

/// Ranks of the block that always acts, and of an objective's.
const R1: usize = 3;
const R2: usize = 4;
const R: usize = R1 + R2;

/// How the numbers of an objective's matrix are read.
#[derive(Clone, Copy, PartialEq)]
pub enum Order {
    RowMajor,
    ColumnMajor,
}

/// One adapted matrix; all of it row after row.
struct Matrix {
    target: String,
    n_in: usize,
    n_out: usize,
    a: Vec<f32>,
    b: Vec<f32>,
    w1: Vec<f32>,
    m: Vec<Vec<f32>>,
}

pub struct RandomParm {
    arch: String,
    objectives: Vec<String>,
    matrices: Vec<Matrix>,
}

impl RandomParm {
    /// On the attention of any model, with numbers within `spread`.
    pub fn on(model: &Path, objectives: &[&str], seed: u64, spread: f32) -> Self {
        let file = GgufFile::open_model(model).expect("a model");
        let mut noise = Noise(seed);
        let mut numbers = |n: usize, spread: f32| (0..n).map(|_| spread * noise.next()).collect::<Vec<_>>();
        let targets = ["attn_q.weight", "attn_k.weight", "attn_v.weight"];
        let adapted = file.tensors().iter().filter(|tensor| targets.iter().any(|name| tensor.name.ends_with(name)));
        let matrices = adapted.map(|tensor| {
            let (n_in, n_out) = (tensor.dims[0] as usize, tensor.dims[1] as usize);
            Matrix {
                target: tensor.name.clone(),
                n_in,
                n_out,
                a: numbers(R * n_in, spread),
                b: numbers(n_out * R, spread),
                w1: numbers(R1 * R1, 1.0),
                m: objectives.iter().map(|_| numbers(R2 * R2, 1.0)).collect(),
            }
        });
        Self {
            matrices: matrices.collect(),
            arch: file.architecture().expect("an architecture").to_owned(),
            objectives: objectives.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    /// Writes it as genarm reads it: a block that always acts, then one for each objective.
    pub fn write(&self, path: &Path) {
        let k = self.objectives.len();
        let ranks: Vec<_> = [R1].into_iter().chain(vec![R2; k]).map(|rank| rank as u32).collect();
        let names: genarm::engine::gguf::Strings = self.objectives.iter().collect();
        let writer = GgufWriter::new(path).meta(parm::OBJECTIVES, names).meta(parm::RANKS, ranks);
        self.write_stack(writer);
    }

    /// Writes the same matrices without a word about objectives.
    pub fn write_silent(&self, path: &Path) {
        self.write_stack(GgufWriter::new(path));
    }

    fn write_stack(&self, writer: GgufWriter<'_>) {
        let rank = R1 + self.objectives.len() * R2;
        let pair = |matrix: &Matrix| {
            let second = &matrix.a[R1 * matrix.n_in..];
            let a = [&matrix.a[..R1 * matrix.n_in]].into_iter().chain(matrix.m.iter().map(|_| second));
            let b = (0..matrix.n_out).flat_map(|out| {
                let (first, second) = matrix.b[out * R..][..R].split_at(R1);
                let blocks = matrix.m.iter().flat_map(|m| times(second, m, R2));
                times(first, &matrix.w1, R1).into_iter().chain(blocks).collect::<Vec<_>>()
            });
            (a.collect::<Vec<_>>().concat(), b.collect())
        };
        self.finish(writer, rank, pair);
    }

    /// Writes an ordinary adapter: B' = B · W(α), A as it is.
    pub fn write_folded(&self, path: &Path, alpha: &[f32], order: Order) {
        let pair = |matrix: &Matrix| {
            let mut w = vec![0.0; R * R];
            for (i, j) in (0..R1).flat_map(|i| (0..R1).map(move |j| (i, j))) {
                w[i * R + j] = matrix.w1[i * R1 + j];
            }
            for (i, j) in (0..R2).flat_map(|i| (0..R2).map(move |j| (i, j))) {
                let at = if order == Order::RowMajor { i * R2 + j } else { j * R2 + i };
                let sum: f32 = matrix.m.iter().zip(alpha).map(|(m, alpha)| alpha * m[at]).sum();
                w[(R1 + i) * R + R1 + j] = sum;
            }
            let b = (0..matrix.n_out).flat_map(|out| times(&matrix.b[out * R..][..R], &w, R));
            (matrix.a.clone(), b.collect())
        };
        self.finish(GgufWriter::new(path), R, pair);
    }

    fn finish(&self, writer: GgufWriter<'_>, rank: usize, pair: impl Fn(&Matrix) -> (Vec<f32>, Vec<f32>)) {
        let mut writer = writer
            .meta("general.architecture", self.arch.as_str())
            .meta("general.type", "adapter")
            .meta("adapter.type", "lora")
            .meta("adapter.lora.alpha", rank as f32);
        for matrix in &self.matrices {
            let (a, b) = pair(matrix);
            let halves = [("lora_a", a, [matrix.n_in, rank]), ("lora_b", b, [rank, matrix.n_out])];
            for (half, numbers, dims) in halves {
                let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
                let name = format!("{}.{half}", matrix.target);
                writer = writer.tensor(&name, &dims.map(|n| n as u64), TensorType::F32, bytes);
            }
        }
        writer.finish().expect("the adapter is written");
    }
}

/// row · matrix, which is n × n.
fn times(row: &[f32], matrix: &[f32], n: usize) -> Vec<f32> {
    (0..n).map(|j| row.iter().enumerate().map(|(i, x)| x * matrix[i * n + j]).sum()).collect()
}
