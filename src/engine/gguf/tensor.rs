//! Tensor types and what the file says of each tensor.

use std::fmt;

/// How the numbers of a tensor are stored (ggml's `ggml_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TensorType(u32);

/// Id, name, numbers in a block, bytes of a block. Ids that are absent were withdrawn by ggml.
const TYPES: &[(u32, &str, u64, u64)] = &[
    (0, "F32", 1, 4),
    (1, "F16", 1, 2),
    (2, "Q4_0", 32, 18),
    (3, "Q4_1", 32, 20),
    (6, "Q5_0", 32, 22),
    (7, "Q5_1", 32, 24),
    (8, "Q8_0", 32, 34),
    (9, "Q8_1", 32, 36),
    (10, "Q2_K", 256, 84),
    (11, "Q3_K", 256, 110),
    (12, "Q4_K", 256, 144),
    (13, "Q5_K", 256, 176),
    (14, "Q6_K", 256, 210),
    (15, "Q8_K", 256, 292),
    (16, "IQ2_XXS", 256, 66),
    (17, "IQ2_XS", 256, 74),
    (18, "IQ3_XXS", 256, 98),
    (19, "IQ1_S", 256, 50),
    (20, "IQ4_NL", 32, 18),
    (21, "IQ3_S", 256, 110),
    (22, "IQ2_S", 256, 82),
    (23, "IQ4_XS", 256, 136),
    (24, "I8", 1, 1),
    (25, "I16", 1, 2),
    (26, "I32", 1, 4),
    (27, "I64", 1, 8),
    (28, "F64", 1, 8),
    (29, "IQ1_M", 256, 56),
    (30, "BF16", 1, 2),
    (34, "TQ1_0", 256, 54),
    (35, "TQ2_0", 256, 66),
    (39, "MXFP4", 32, 17),
    (40, "NVFP4", 64, 36),
    (41, "Q1_0", 128, 18),
    (42, "Q2_0", 64, 18),
];

impl TensorType {
    /// 32-bit floats.
    pub const F32: Self = TensorType(0);
    /// 16-bit floats.
    pub const F16: Self = TensorType(1);
    /// 4-bit quants in blocks of 32.
    pub const Q4_0: Self = TensorType(2);
    /// 8-bit quants in blocks of 32.
    pub const Q8_0: Self = TensorType(8);
    /// 4-bit quants in super-blocks of 256.
    pub const Q4_K: Self = TensorType(12);
    /// 6-bit quants in super-blocks of 256.
    pub const Q6_K: Self = TensorType(14);

    /// The type with ggml's number `id`, if ggml still knows it.
    pub fn from_id(id: u32) -> Option<Self> {
        TYPES.iter().any(|row| row.0 == id).then_some(TensorType(id))
    }

    /// All types.
    pub fn all() -> impl Iterator<Item = Self> {
        TYPES.iter().map(|row| TensorType(row.0))
    }

    fn row(self) -> &'static (u32, &'static str, u64, u64) {
        // A TensorType is made only from a row of the table.
        TYPES.iter().find(|row| row.0 == self.0).unwrap_or(&TYPES[0])
    }

    /// ggml's number for the type.
    pub fn id(self) -> u32 {
        self.0
    }

    /// The name people know it by, such as `Q4_K`.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// Numbers in a block: rows are a multiple of it.
    pub fn block_len(self) -> u64 {
        self.row().2
    }

    /// Whether it is made of blocks of quants.
    pub fn is_quantised(self) -> bool {
        self.block_len() > 1
    }

    /// Bytes that a block takes.
    pub fn block_bytes(self) -> u64 {
        self.row().3
    }

    /// Bytes of a tensor of these dimensions; `None` if a row is not whole blocks, or the product overflows 63 bits.
    pub fn tensor_bytes(self, dims: &[u64]) -> Option<u64> {
        if !dims.first().copied().unwrap_or(1).is_multiple_of(self.block_len()) {
            return None;
        }
        let n = dims.iter().try_fold(1u64, |n, dim| n.checked_mul(*dim))?;
        let bytes = (n / self.block_len()).checked_mul(self.block_bytes())?;
        (n <= i64::MAX as u64 && bytes <= i64::MAX as u64).then_some(bytes)
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the file says of one tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Such as `blk.0.attn_q.weight`.
    pub name: String,
    /// Sizes, the fastest running first: `[columns, rows, ...]`, at most four.
    pub dims: Vec<u64>,
    /// How the numbers are stored.
    pub ty: TensorType,
    /// Where the data starts, in bytes from the start of the file.
    pub offset: u64,
    /// Size of the data, in bytes.
    pub n_bytes: u64,
}

impl TensorInfo {
    /// Number of parameters in the tensor.
    pub fn n_elements(&self) -> u64 {
        // Checked against overflow when the file was read.
        self.dims.iter().product()
    }
}

/// The name of a `general.file_type` (llama.cpp's `llama_ftype`), as files are usually named.
pub(crate) fn file_type_name(file_type: u64) -> Option<&'static str> {
    Some(match file_type {
        0 => "F32",
        1 => "F16",
        2 => "Q4_0",
        3 => "Q4_1",
        7 => "Q8_0",
        8 => "Q5_0",
        9 => "Q5_1",
        10 => "Q2_K",
        11 => "Q3_K_S",
        12 => "Q3_K_M",
        13 => "Q3_K_L",
        14 => "Q4_K_S",
        15 => "Q4_K_M",
        16 => "Q5_K_S",
        17 => "Q5_K_M",
        18 => "Q6_K",
        19 => "IQ2_XXS",
        20 => "IQ2_XS",
        21 => "Q2_K_S",
        22 => "IQ3_XS",
        23 => "IQ3_XXS",
        24 => "IQ1_S",
        25 => "IQ4_NL",
        26 => "IQ3_S",
        27 => "IQ3_M",
        28 => "IQ2_S",
        29 => "IQ2_M",
        30 => "IQ4_XS",
        31 => "IQ1_M",
        32 => "BF16",
        36 => "TQ1_0",
        37 => "TQ2_0",
        38 => "MXFP4_MOE",
        39 => "NVFP4",
        40 => "Q1_0",
        41 => "Q2_0",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(unsafe_code)]
    use super::*;

    #[test]
    fn the_table_of_types_agrees_with_ggml() {
        for ty in TensorType::all() {
            let id = ty.id() as llama_cpp_sys_2::ggml_type;
            // SAFETY: both functions read a static table at an index that ggml defines.
            let (len, bytes) = unsafe { (llama_cpp_sys_2::ggml_blck_size(id), llama_cpp_sys_2::ggml_type_size(id)) };
            assert_eq!((ty.block_len() as i64, ty.block_bytes() as usize), (len, bytes), "{ty}");
        }
        // SAFETY: as above; a withdrawn id has an entry with block size 0.
        let known =
            (0..llama_cpp_sys_2::GGML_TYPE_COUNT).filter(|id| unsafe { llama_cpp_sys_2::ggml_blck_size(*id) } > 0);
        assert_eq!(known.count(), TYPES.len());
    }
}
