//! Quantisation of a whole GGUF file by llama.cpp itself.
#![allow(unsafe_code)]

use llama_cpp_sys_2 as sys;
use std::ffi::CString;
use std::path::Path;
use thiserror::Error;

use super::gguf::{GgufError, GgufFile};

/// A target of [`quantize`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileType {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// 8-bit blocks of 32.
    Q8_0,
    /// 4-bit blocks of 32.
    Q4_0,
    /// The k-quant mixture around 4 bits.
    Q4KM,
}

/// Why a file could not be quantised.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum QuantizeError {
    /// The input is not a sound model.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// llama.cpp refused.
    #[error("llama.cpp could not write {output} from {input} (code {code}); is the disk full?")]
    Refused {
        /// The model.
        input: String,
        /// What was to be written.
        output: String,
        /// What llama.cpp answered.
        code: u32,
    },
}

/// Writes `input`, a whole model, as `output` in another type. Already quantised tensors are allowed as input.
///
/// # Errors
///
/// [`QuantizeError`] when llama.cpp refuses.
pub fn quantize(input: &Path, output: &Path, file_type: FileType) -> Result<(), QuantizeError> {
    // llama.cpp ends the process on some malformed files.
    GgufFile::open_model(input)?;
    let fail = |code| QuantizeError::Refused {
        input: input.display().to_string(),
        output: output.display().to_string(),
        code,
    };
    let c_path = |path: &Path| CString::new(path.as_os_str().as_encoded_bytes()).map_err(|_| fail(u32::MAX));
    let (c_input, c_output) = (c_path(input)?, c_path(output)?);
    // SAFETY: takes nothing and returns a plain struct.
    let mut params = unsafe { sys::llama_model_quantize_default_params() };
    params.allow_requantize = true;
    params.nthread = std::thread::available_parallelism().map_or(1, |n| n.get() as i32);
    params.ftype = match file_type {
        FileType::F32 => sys::LLAMA_FTYPE_ALL_F32,
        FileType::F16 => sys::LLAMA_FTYPE_MOSTLY_F16,
        FileType::Q8_0 => sys::LLAMA_FTYPE_MOSTLY_Q8_0,
        FileType::Q4_0 => sys::LLAMA_FTYPE_MOSTLY_Q4_0,
        FileType::Q4KM => sys::LLAMA_FTYPE_MOSTLY_Q4_K_M,
    };
    // SAFETY: both strings are NUL-terminated and outlive the call; params holds no pointers but NULLs.
    let code = unsafe { sys::llama_model_quantize(c_input.as_ptr(), c_output.as_ptr(), &raw const params) };
    if code == 0 { Ok(()) } else { Err(fail(code)) }
}
