//! Quantisation of a whole GGUF file by llama.cpp itself.
#![allow(unsafe_code)]

use llama_cpp_sys_2 as sys;
use std::ffi::CString;
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use thiserror::Error;

use super::gguf::{GgufError, GgufFile, file_type_name};

/// A kind of file that [`quantize`] writes (llama.cpp's `llama_ftype`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileType(u32);

/// Kinds that llama.cpp writes only with an importance matrix.
const WITH_MATRIX: [&str; 8] = ["IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ3_XXS", "Q2_K_S"];
/// Kinds that files have, and `llama-quantize` does not write.
const ONLY_READ: [&str; 1] = ["NVFP4"];
/// Other names that `llama-quantize` takes.
const ALIASES: [(&str, &str); 3] = [("Q3_K", "Q3_K_M"), ("Q4_K", "Q4_K_M"), ("Q5_K", "Q5_K_M")];

impl FileType {
    /// 32-bit floats.
    pub const F32: Self = Self(0);
    /// 16-bit floats.
    pub const F16: Self = Self(1);
    /// 4-bit blocks of 32.
    pub const Q4_0: Self = Self(2);
    /// 8-bit blocks of 32.
    pub const Q8_0: Self = Self(7);
    /// The k-quant mixture around 4 bits.
    pub const Q4_K_M: Self = Self(15);

    /// All that [`quantize`] writes.
    pub fn all() -> impl Iterator<Item = Self> {
        let writes = |name: &&str| !WITH_MATRIX.contains(name) && !ONLY_READ.contains(name);
        (0..64).filter(move |id| file_type_name(*id).as_ref().is_some_and(writes)).map(|id| Self(id as u32))
    }

    /// The name, as files are named after it.
    pub fn name(self) -> &'static str {
        file_type_name(self.0.into()).unwrap_or("?")
    }

    /// About how many bits a weight takes.
    pub fn bits(self) -> f64 {
        let number: String =
            self.name().chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
        // Blocks have scales beside their numbers.
        number.parse::<f64>().map_or(4.5, |n| if n < 16.0 { n + 0.5 } else { n })
    }
}

impl fmt::Display for FileType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for FileType {
    type Err = FileTypeError;

    /// A name in any case, or llama.cpp's number, as `llama-quantize` takes them.
    fn from_str(text: &str) -> Result<Self, FileTypeError> {
        let upper = text.to_ascii_uppercase();
        let name = ALIASES.iter().find(|(alias, _)| *alias == upper).map_or(&*upper, |(_, name)| name);
        if let Some(name) = WITH_MATRIX.iter().find(|with| **with == name) {
            return Err(FileTypeError::NeedsMatrix { name });
        }
        let is_it = |ty: &Self| ty.name() == name || ty.0.to_string() == name;
        Self::all().find(is_it).ok_or_else(|| FileTypeError::Unknown { name: text.to_owned() })
    }
}

/// Why a name is no [`FileType`].
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileTypeError {
    /// It has this name in no list.
    #[error("\"{name}\" is no type; known: {}", FileType::all().map(FileType::name).collect::<Vec<_>>().join(", "))]
    Unknown {
        /// What was given.
        name: String,
    },
    /// llama.cpp writes it only with an importance matrix.
    #[error(
        "{name} needs an importance matrix, which genarm does not read; use llama-quantize --imatrix, or take IQ3_S or a larger type"
    )]
    NeedsMatrix {
        /// The type.
        name: &'static str,
    },
}

/// Why a file could not be quantised.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum QuantizeError {
    /// A file is not a sound model: the input, or what llama.cpp has written.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// llama.cpp refused.
    #[error("llama.cpp could not make {file_type} of {input}; --verbose shows why; is the disk full?")]
    Refused {
        /// The model.
        input: String,
        /// What was to be written.
        file_type: FileType,
    },
}

/// Writes `input`, a whole model, as `output` in another type, on `n_threads` threads. Already quantised tensors are allowed as input.
///
/// # Errors
///
/// [`QuantizeError`] when llama.cpp refuses.
pub fn quantize(input: &Path, output: &Path, file_type: FileType, n_threads: u32) -> Result<(), QuantizeError> {
    // llama.cpp ends the process on some malformed files.
    GgufFile::open_model(input)?;
    let refused = || QuantizeError::Refused { input: input.display().to_string(), file_type };
    let c_path = |path: &Path| CString::new(path.as_os_str().as_encoded_bytes()).map_err(|_| refused());
    let (c_input, c_output) = (c_path(input)?, c_path(output)?);
    super::llama::start();
    // SAFETY: takes nothing and returns a plain struct.
    let mut params = unsafe { sys::llama_model_quantize_default_params() };
    params.allow_requantize = true;
    params.nthread = i32::try_from(n_threads).unwrap_or(i32::MAX);
    params.ftype = file_type.0 as sys::llama_ftype;
    // SAFETY: both strings are NUL-terminated and outlive the call; params holds no pointers but NULLs.
    let code = unsafe { sys::llama_model_quantize(c_input.as_ptr(), c_output.as_ptr(), &raw const params) };
    if code != 0 {
        return Err(refused());
    }
    // llama.cpp does not notice every write that fails.
    GgufFile::open_model(output)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_named_as_llama_quantize_names_them() {
        let id = |text: &str| text.parse::<FileType>().map(|ty| ty.0);
        assert_eq!(["Q4_0", "q4_k_m", "Q4_K", "bf16", "7", "F32"].map(id), [2, 15, 15, 32, 7, 0].map(Ok));
        for name in ["Q4", "COPY", "NVFP4", "99", ""] {
            assert!(matches!(id(name), Err(FileTypeError::Unknown { .. })), "{name}");
        }
        assert_eq!(id("iq2_xs"), Err(FileTypeError::NeedsMatrix { name: "IQ2_XS" }));
        assert_eq!(
            [FileType::F32, FileType::F16, FileType::Q4_0, FileType::Q8_0, FileType::Q4_K_M].map(|ty| ty.name()),
            ["F32", "F16", "Q4_0", "Q8_0", "Q4_K_M"]
        );
    }

    #[test]
    fn bits_are_those_of_the_name() {
        let bits = |name: &str| name.parse::<FileType>().map(FileType::bits);
        assert_eq!(["F32", "BF16", "Q8_0", "IQ4_XS"].map(bits), [32.0, 16.0, 8.5, 4.5].map(Ok));
    }
}
