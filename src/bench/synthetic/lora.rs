//! A random adapter on a synthetic model.

use std::path::Path;

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::{Shape, SyntheticError};
use crate::engine::gguf::{GgufWriter, TensorData, TensorType};

/// A LoRA adapter on q, k and v, as in the paper's runs, and on what a convolution has instead; of random numbers small
/// enough to leave the model's own logits in charge.
#[derive(Debug, Clone, Copy)]
pub struct SyntheticLora {
    /// The model's shape.
    pub shape: Shape,
    /// The rank.
    pub rank: u64,
    /// Same seed, same bytes.
    pub seed: u64,
}

impl SyntheticLora {
    /// Writes the adapter to `path`, and returns the size of the file in bytes.
    ///
    /// # Errors
    ///
    /// [`SyntheticError::Gguf`] when the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<u64, SyntheticError> {
        let Shape { n_embd, n_layer, n_head, n_head_kv, .. } = self.shape;
        let n_embd_kv = n_embd / n_head * n_head_kv;
        let mut out = GgufWriter::new(path)
            .meta("general.architecture", self.shape.architecture.name())
            .meta("general.type", "adapter")
            .meta("adapter.type", "lora")
            .meta("adapter.lora.alpha", 2.0 * self.rank as f32);
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        for layer in 0..n_layer {
            let matrices = match self.shape.attends(layer) {
                true => &[("attn_q", n_embd), ("attn_k", n_embd_kv), ("attn_v", n_embd_kv)][..],
                false => &[("shortconv.in_proj", 3 * n_embd)],
            };
            for (name, n_out) in matrices {
                for (side, dims) in [("a", [n_embd, self.rank]), ("b", [self.rank, *n_out])] {
                    let mut own = ChaCha8Rng::seed_from_u64(rng.random());
                    let n: u64 = dims.iter().product();
                    let data = TensorData::stream(move |file| {
                        (0..n).try_for_each(|_| file.write_all(&own.random_range(-0.01f32..0.01).to_le_bytes()))
                    });
                    out = out.tensor(&format!("blk.{layer}.{name}.weight.lora_{side}"), &dims, TensorType::F32, data);
                }
            }
        }
        Ok(out.finish()?)
    }
}
