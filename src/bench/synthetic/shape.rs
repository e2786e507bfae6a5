//! Layers for a number of parameters.

use std::str::FromStr;

use super::SyntheticError;

/// What the layers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Architecture {
    /// Attention in all of them.
    #[default]
    Llama,
    /// A hybrid: short convolutions, which keep a state, and attention in every third layer.
    Lfm2,
}

/// The sizes of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// What the layers are.
    pub architecture: Architecture,
    /// Width; a multiple of 256, the longest quantisation block.
    pub n_embd: u64,
    /// Number of layers.
    pub n_layer: u64,
    /// Width of the feed-forward part; a multiple of 256.
    pub n_ff: u64,
    /// Number of attention heads.
    pub n_head: u64,
    /// Number of key-value heads.
    pub n_head_kv: u64,
    /// Whether the embedding is the output matrix too.
    pub tied: bool,
}

/// Llama 3.2 1B, 3.2 3B and 3.1 8B: where one of them is what was asked for, it is taken as it is.
const KNOWN: [Shape; 3] = [
    Shape {
        architecture: Architecture::Llama,
        n_embd: 2048,
        n_layer: 16,
        n_ff: 8192,
        n_head: 32,
        n_head_kv: 8,
        tied: true,
    },
    Shape {
        architecture: Architecture::Llama,
        n_embd: 3072,
        n_layer: 28,
        n_ff: 8192,
        n_head: 24,
        n_head_kv: 8,
        tied: true,
    },
    Shape {
        architecture: Architecture::Llama,
        n_embd: 4096,
        n_layer: 32,
        n_ff: 14336,
        n_head: 32,
        n_head_kv: 8,
        tied: false,
    },
];
/// How near is "what was asked for", as a share of it.
const NEAR: f64 = 0.04;

/// Tokens that a convolution sees.
pub(super) const N_CONV: u64 = 3;
const BLOCK: u64 = 256;
const HEAD: u64 = 64;
/// Usual ratio of width to depth; small models are nearer to it than large ones.
const WIDTH_PER_LAYER: f64 = 64.0;

impl FromStr for Architecture {
    type Err = SyntheticError;

    fn from_str(name: &str) -> Result<Self, SyntheticError> {
        match name {
            "llama" => Ok(Self::Llama),
            "lfm2" => Ok(Self::Lfm2),
            _ => Err(SyntheticError::UnknownArchitecture { name: name.to_owned() }),
        }
    }
}

impl Architecture {
    /// llama.cpp's name of it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Lfm2 => "lfm2",
        }
    }
}

impl Shape {
    /// Number of parameters with a vocabulary of `n_vocab` tokens.
    pub fn n_params(&self, n_vocab: u64) -> u64 {
        let tables = if self.tied { 1 } else { 2 };
        let layers: u64 = (0..self.n_layer).map(|layer| self.layer_params(layer)).sum();
        tables * self.n_embd * n_vocab + self.n_embd + layers
    }

    /// Layers of the same sizes in another architecture. A hybrid has at least three, so that there is attention, and
    /// the embedding is tied; its convolutions have up to twice the parameters of attention with shared keys and values.
    #[must_use]
    pub fn with_architecture(self, architecture: Architecture) -> Self {
        match architecture {
            Architecture::Llama => Self { architecture, ..self },
            Architecture::Lfm2 => Self { architecture, tied: true, n_layer: self.n_layer.max(3), ..self },
        }
    }

    /// Whether a layer has attention.
    pub(super) fn attends(&self, layer: u64) -> bool {
        match self.architecture {
            Architecture::Llama => true,
            Architecture::Lfm2 => layer % 3 == 2,
        }
    }

    fn layer_params(&self, layer: u64) -> u64 {
        let (width, n_embd_kv) = (self.n_embd, self.n_embd / self.n_head * self.n_head_kv);
        let mixing = match self.attends(layer) {
            true => 2 * width * (width + n_embd_kv),
            false => width * (4 * width + N_CONV),
        };
        mixing + width * (3 * self.n_ff + 2)
    }

    /// The llama shape nearest to `n_params` parameters in all, the vocabulary included.
    ///
    /// One of Llama's own where it is within 4 %. Else heads of 64 with four query heads to a key-value head and a tied
    /// embedding; of all widths, the one whose depth suits it best.
    ///
    /// # Errors
    ///
    /// [`SyntheticError::TooSmall`] when the vocabulary alone is larger.
    pub fn of_size(n_params: u64, n_vocab: u64) -> Result<Shape, SyntheticError> {
        let distance = |shape: &Shape| (shape.n_params(n_vocab) as f64 / n_params as f64 - 1.0).abs();
        if let Some(known) = KNOWN.into_iter().find(|shape| distance(shape) <= NEAR) {
            return Ok(known);
        }
        let smallest = Shape::of_width(BLOCK, 0, n_vocab).n_params(n_vocab);
        if n_params < smallest {
            return Err(SyntheticError::TooSmall { n_params, n_vocab, smallest });
        }
        // One percent of size counts as much as a fifth of aspect.
        let cost = |shape: &Shape| {
            let aspect = (shape.n_embd as f64 / shape.n_layer as f64 / WIDTH_PER_LAYER).ln().abs();
            20.0 * distance(shape) + aspect
        };
        let widths = (1..=64).map(|n| Shape::of_width(n * BLOCK, n_params, n_vocab));
        let best = widths.min_by(|a, b| cost(a).total_cmp(&cost(b)));
        best.ok_or(SyntheticError::TooSmall { n_params, n_vocab, smallest })
    }

    /// The shape of this width nearest to `n_params`; one small layer at least.
    fn of_width(n_embd: u64, n_params: u64, n_vocab: u64) -> Shape {
        let n_head = n_embd / HEAD;
        let (architecture, n_head_kv) = (Architecture::Llama, n_head / 4);
        let mut shape = Shape { architecture, n_embd, n_layer: 1, n_ff: 4 * n_embd, n_head, n_head_kv, tied: true };
        let for_layers = n_params.saturating_sub(n_embd * (n_vocab + 1)) as f64;
        shape.n_layer = (for_layers / shape.layer_params(0) as f64).round().max(1.0) as u64;
        // What rounding the layers has lost, the feed-forward width takes back.
        let attention = (shape.layer_params(0) - 3 * n_embd * shape.n_ff) as f64;
        let n_ff = (for_layers / shape.n_layer as f64 - attention) / (3 * n_embd) as f64;
        shape.n_ff = (n_ff / BLOCK as f64).round().max(1.0) as u64 * BLOCK;
        shape
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_gives_a_usual_shape_within_a_few_percent() {
        let base = Shape::of_size(1_200_000_000, 128_256).expect("a base");
        assert_eq!((base.n_embd, base.n_layer, base.n_ff), (2048, 16, 8192));
        assert_eq!(base.n_params(128_256), 1_235_814_400, "Llama 3.2 1B has this many");
        for (n_params, n_vocab) in [(180e6, 128_256), (60e6, 128_256), (500e6, 32_000), (13e9, 32_000), (5e6, 512)] {
            let shape = Shape::of_size(n_params as u64, n_vocab).expect("a shape");
            let error = shape.n_params(n_vocab) as f64 / n_params - 1.0;
            assert!(error.abs() < 0.06, "{n_params}: {shape:?} is off by {error}");
            assert_eq!((shape.n_embd % 256, shape.n_ff % 256, shape.n_head % shape.n_head_kv), (0, 0, 0));
        }
        let small = Shape::of_size(1_000_000, 128_256).expect_err("the vocabulary alone is 33M").to_string();
        assert!(small.contains("128256 tokens; ask for at least"), "{small}");
    }
}
