//! Random quantised blocks: uniform quants under scales that give the weights mean 0 and a standard deviation of 0.02.

use crate::engine::gguf::TensorType;
use std::io::{self, Write};

/// Standard deviation of the weights, as transformers are commonly initialised.
const STD: f32 = 0.02;
/// Bytes made at a time.
const CHUNK_BYTES: usize = 1 << 16;

/// Writes `n` random weights of type `ty`: Q4_0, Q4_K or Q6_K.
pub(super) fn write(out: &mut dyn Write, ty: TensorType, n: u64, seed: u64) -> io::Result<()> {
    let fill: fn(&mut [u8], &mut SplitMix) = match ty {
        TensorType::Q4_0 => q4_0,
        TensorType::Q4_K => q4_k,
        TensorType::Q6_K => q6_k,
        _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("no random blocks of type {ty}"))),
    };
    let block = ty.block_bytes() as usize;
    let mut random = SplitMix(seed);
    let mut chunk = vec![0; CHUNK_BYTES / block * block];
    let mut left = (n / ty.block_len()) as usize * block;
    while left > 0 {
        let part = left.min(chunk.len());
        let bytes = &mut chunk[..part];
        random.fill(bytes);
        bytes.chunks_exact_mut(block).for_each(|block| fill(block, &mut random));
        out.write_all(bytes)?;
        left -= part;
    }
    Ok(())
}

/// 32 weights: half d, 16 bytes of nibbles; x = d (q - 8).
fn q4_0(block: &mut [u8], random: &mut SplitMix) {
    // q - 8 runs from -8 to 7, whose mean is -1/2: a random sign of d makes it 0.
    let d = STD / root_mean_square(-8, 7);
    block[..2].copy_from_slice(&half(d, random.next() & 1 == 1));
}

/// 256 weights: half d, half dmin, 12 bytes with eight 6-bit scales and minima, 128 bytes of nibbles;
/// x = d·scale·q - dmin·minimum.
fn q4_k(block: &mut [u8], random: &mut SplitMix) {
    // Each minimum equals its scale, so that x = d·scale·(q - 7.5); scales are 32 to 63.
    let d = STD / (root_mean_square(32, 63) * (255.0f32 / 12.0).sqrt());
    block[..2].copy_from_slice(&half(d, false));
    block[2..4].copy_from_slice(&half(7.5 * d, false));
    let mut scales = [0u8; 8];
    random.fill(&mut scales);
    let scales = scales.map(|byte| 32 + byte % 32);
    // As ggml packs them: four scales, four minima (6 bits, with the top bits of the later ones above), then nibbles.
    for j in 0..4 {
        let top = scales[j + 4] >> 4 << 6;
        block[4 + j] = scales[j] | top;
        block[8 + j] = scales[j] | top;
        let low = scales[j + 4] & 0x0F;
        block[12 + j] = low | low << 4;
    }
}

/// 256 weights: 128 bytes with the low 4 bits, 64 with the high 2, 16 signed scales, half d; x = d·scale·(q - 32).
fn q6_k(block: &mut [u8], random: &mut SplitMix) {
    // q - 32 runs from -32 to 31; scales of random sign, 8 to 15 in size, make the mean 0.
    let d = STD / (root_mean_square(8, 15) * root_mean_square(-32, 31));
    let mut signs = random.next();
    for scale in &mut block[192..208] {
        let size = 8 + (*scale % 8) as i8;
        *scale = if signs & 1 == 1 { -size } else { size } as u8;
        signs >>= 1;
    }
    block[208..].copy_from_slice(&half(d, false));
}

/// Root mean square of the integers from `low` to `high`.
fn root_mean_square(low: i32, high: i32) -> f32 {
    let sum: i32 = (low..=high).map(|q| q * q).sum();
    (sum as f32 / (high - low + 1) as f32).sqrt()
}

/// A half-precision float, for normal numbers (6.2e-5 to 65504), rounded down.
fn half(x: f32, negative: bool) -> [u8; 2] {
    let bits = x.to_bits();
    let exponent = (bits >> 23) as i32 - 127 + 15;
    debug_assert!((1..31).contains(&exponent), "{x} is no normal half");
    let magnitude = (exponent as u16) << 10 | (bits >> 13 & 0x3FF) as u16;
    (magnitude | u16::from(negative) << 15).to_le_bytes()
}

/// The SplitMix64 generator: nearly free, and the same on every machine and in every release.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        let (words, rest) = bytes.as_chunks_mut::<8>();
        words.iter_mut().for_each(|word| *word = self.next().to_le_bytes());
        let last = self.next().to_le_bytes();
        rest.iter_mut().zip(last).for_each(|(byte, random)| *byte = random);
    }
}

#[cfg(test)]
mod tests {
    #![allow(unsafe_code)]
    use super::*;

    /// Weights of a type, as ggml itself reads them.
    fn weights(ty: TensorType, n: usize) -> Vec<f32> {
        let mut bytes = Vec::new();
        write(&mut bytes, ty, n as u64, 7).expect("blocks");
        assert_eq!(bytes.len() as u64, n as u64 / ty.block_len() * ty.block_bytes());
        let mut weights = vec![0.0f32; n];
        // SAFETY: the traits of a known type are a static table entry; to_float reads the n weights that `bytes` was
        // just checked to hold, and writes n floats.
        unsafe {
            let traits = &*llama_cpp_sys_2::ggml_get_type_traits(ty.id() as llama_cpp_sys_2::ggml_type);
            let to_float = traits.to_float.expect("a quantised type");
            to_float(bytes.as_ptr().cast(), weights.as_mut_ptr(), n as i64);
        }
        weights
    }

    #[test]
    fn ggml_reads_random_blocks_as_weights_of_mean_0_and_deviation_0_02() {
        for ty in [TensorType::Q4_0, TensorType::Q4_K, TensorType::Q6_K] {
            let weights = weights(ty, 1 << 20);
            let n = weights.len() as f64;
            let mean = weights.iter().map(|w| f64::from(*w)).sum::<f64>() / n;
            let std = (weights.iter().map(|w| f64::from(*w).powi(2)).sum::<f64>() / n).sqrt();
            let largest = weights.iter().fold(0.0f32, |m, w| m.max(w.abs()));
            assert!(mean.abs() < 2e-4 && (std - 0.02).abs() < 2e-4, "{ty}: mean {mean}, deviation {std}");
            assert!(largest < 0.1, "{ty}: {largest}");
        }
    }
}
