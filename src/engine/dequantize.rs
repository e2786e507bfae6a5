//! The numbers of a tensor as 32-bit floats, by ggml's own functions: whatever llama.cpp computes with can be read.
#![allow(unsafe_code)]

use super::gguf::{GgufFile, TensorInfo, TensorType};
use llama_cpp_sys_2 as sys;
use rayon::prelude::*;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use thiserror::Error;

/// Why a tensor cannot be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DequantizeError {
    /// ggml computes with the type, but cannot turn it back.
    #[error("ggml has no way back from type {0} to floats; quantise the model anew")]
    Type(TensorType),
    /// The file could not be read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Numbers that one task turns at a time.
const CHUNK: usize = 1 << 16;

/// Reads a tensor of a file, [checked](GgufFile::open) before.
///
/// # Errors
///
/// [`DequantizeError`].
///
/// # Cost
///
/// Holds the tensor twice for a moment: as stored, and as floats.
pub fn read(file: &GgufFile, info: &TensorInfo) -> Result<Vec<f32>, DequantizeError> {
    let mut stored = File::open(file.path())?;
    stored.seek(SeekFrom::Start(info.offset))?;
    let mut bytes = vec![0; info.n_bytes as usize];
    stored.read_exact(&mut bytes)?;
    to_f32(info.ty, &bytes)
}

/// Turns whole blocks of a type into floats.
///
/// # Errors
///
/// [`DequantizeError::Type`] where ggml has no function for it.
pub fn to_f32(ty: TensorType, bytes: &[u8]) -> Result<Vec<f32>, DequantizeError> {
    let (block_len, block_bytes) = (ty.block_len() as usize, ty.block_bytes() as usize);
    if ty == TensorType::F32 {
        return Ok(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect());
    }
    // SAFETY: a static table, read at an index that ggml defines: a `TensorType` is one of its types.
    let traits = unsafe { &*sys::ggml_get_type_traits(ty.id() as sys::ggml_type) };
    let to_float = traits.to_float.ok_or(DequantizeError::Type(ty))?;
    let mut out = vec![0.0; bytes.len() / block_bytes * block_len];
    let blocks = (CHUNK / block_len).max(1);
    out.par_chunks_mut(blocks * block_len).zip(bytes.par_chunks(blocks * block_bytes)).for_each(|(out, bytes)| {
        // ggml reads the scales of a block as 16- and 32-bit numbers, and a slice of bytes may begin anywhere.
        let mut aligned = vec![0u64; bytes.len().div_ceil(8)];
        // SAFETY: `aligned` has at least as many bytes; both ranges are valid, and apart.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), aligned.as_mut_ptr().cast::<u8>(), bytes.len()) };
        // SAFETY: `aligned` holds whole blocks of the type, and `out` has room for as many numbers as they are.
        unsafe { to_float(aligned.as_ptr().cast(), out.as_mut_ptr(), out.len() as i64) };
    });
    Ok(out)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Floats as blocks of a type; `None` where ggml cannot quantise to it.
    pub(crate) fn quantized(ty: TensorType, numbers: &[f32], row: usize) -> Option<Vec<u8>> {
        if matches!(ty.name(), "Q8_1" | "Q8_K" | "I8" | "I16" | "I32" | "I64" | "F64") {
            return None;
        }
        let rows = numbers.len() / row;
        let mut bytes = vec![0u8; ty.tensor_bytes(&[row as u64, rows as u64])? as usize];
        let importance = vec![1.0f32; row];
        // SAFETY: the source has `rows · row` floats, the target the bytes that ggml says they take, the importances a
        // row.
        let written = unsafe {
            let target = bytes.as_mut_ptr().cast();
            let id = ty.id() as sys::ggml_type;
            sys::ggml_quantize_chunk(id, numbers.as_ptr(), target, 0, rows as i64, row as i64, importance.as_ptr())
        };
        assert_eq!(written, bytes.len(), "{ty}");
        Some(bytes)
    }

    #[test]
    fn numbers_of_every_type_that_ggml_quantises_to_come_back() {
        let numbers: Vec<f32> = (0..512u16).map(|i| (f32::from(i) * 0.7).sin()).collect();
        let power: f32 = numbers.iter().map(|n| n * n).sum();
        let mut n_types = 0;
        for ty in TensorType::all() {
            let Some(bytes) = quantized(ty, &numbers, 256) else {
                assert!(matches!(to_f32(ty, &vec![0; ty.block_bytes() as usize]), Err(DequantizeError::Type(_))));
                continue;
            };
            n_types += 1;
            let back = to_f32(ty, &bytes).unwrap();
            assert_eq!(back.len(), numbers.len(), "{ty}");
            let lost: f32 = numbers.iter().zip(&back).map(|(a, b)| (a - b) * (a - b)).sum();
            // One bit and a third a number keep the least; even they keep most of it.
            assert!(lost < 0.5 * power, "{ty} loses {lost} of {power}");
        }
        assert!(n_types > 25, "{n_types}");
    }

    #[test]
    fn a_slice_that_begins_at_an_odd_address_is_read() {
        let numbers: Vec<f32> = (0..512u16).map(f32::from).collect();
        let ty = TensorType::Q4_K;
        let bytes = quantized(ty, &numbers, 256).unwrap();
        let shifted = [&[0][..], &bytes].concat();
        assert_eq!(to_f32(ty, &shifted[1..]).unwrap(), to_f32(ty, &bytes).unwrap());
    }
}
