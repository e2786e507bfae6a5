//! Which types of weights the processor multiplies fast where a batch has several tokens.
//!
//! ggml has such kernels for some types: in `ggml_repack_get_optimal_repack_type` (ggml-cpu/repack.cpp), which weights
//! are rearranged for as they are loaded, in `llamafile_sgemm` (ggml-cpu/llamafile/sgemm.cpp), in
//! `qtype_has_amx_kernels` (ggml-cpu/amx/common.h), and products of two rows (`nrows` of `type_traits_cpu` in
//! ggml-cpu/ggml-cpu.c). All other types are multiplied one token after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use super::gguf::{GgufFile, TensorInfo};
use super::llama::build;

/// What ggml finds on a processor.
#[derive(Debug, Clone)]
pub struct Kernels(BTreeSet<String>);

/// Most weights of a file are of types without fast kernels for batches.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Slow {
    /// Their share of the bytes that a token reads.
    pub share: f64,
    /// The types, the commonest first.
    pub types: Vec<&'static str>,
    /// The type of about that size that has them.
    pub instead: &'static str,
}

impl Kernels {
    /// Those of this processor.
    pub fn here() -> Self {
        Self::of(&build().features)
    }

    /// Reads what `llama_print_system_info` says of the processor: "CPU : AVX2 = 1 | REPACK = 1 | CUDA : …".
    pub fn of(features: &str) -> Self {
        let mut of_cpu = false;
        let mut found = BTreeSet::new();
        for part in features.split('|') {
            let feature = match part.rsplit_once(" : ") {
                Some((device, feature)) => {
                    of_cpu = device.trim() == "CPU";
                    feature
                }
                None => part,
            };
            if of_cpu
                && let Some((name, "1")) = feature.split_once('=').map(|(name, value)| (name.trim(), value.trim()))
            {
                found.insert(name.to_owned());
            }
        }
        Self(found)
    }

    fn has(&self, feature: &str) -> bool {
        self.0.contains(feature)
    }

    /// Whether this matrix has fast kernels for batches. Of processors that ggml knows other kernels for, nothing is
    /// said: all are taken to be fast.
    pub fn are_for(&self, tensor: &TensorInfo) -> bool {
        let (ty, rows) = (tensor.ty.name(), tensor.dims.get(1).copied().unwrap_or(1));
        if !tensor.ty.is_quantised() || !(self.has("AVX2") || self.has("NEON")) {
            return true;
        }
        self.are_for_type(ty, rows)
    }

    fn are_for_type(&self, ty: &str, rows: u64) -> bool {
        self.has("REPACK") && self.repacked(ty, rows) || self.has("LLAMAFILE") && self.llamafile(ty) || self.others(ty)
    }

    fn repacked(&self, ty: &str, rows: u64) -> bool {
        if self.has("AVX2") {
            let of_type = matches!(ty, "Q4_0" | "Q4_K" | "IQ4_NL" | "MXFP4") || ty == "Q2_K" && self.has("AVX512");
            return of_type && rows.is_multiple_of(8);
        }
        match ty {
            "Q4_0" | "Q8_0" => (self.has("DOTPROD") || self.has("MATMUL_INT8")) && rows.is_multiple_of(4),
            "IQ4_NL" | "MXFP4" => self.has("DOTPROD") && rows.is_multiple_of(4),
            "Q4_K" | "Q5_K" | "Q6_K" => (self.has("DOTPROD") || self.has("MATMUL_INT8")) && rows.is_multiple_of(8),
            _ => false,
        }
    }

    fn llamafile(&self, ty: &str) -> bool {
        match ty {
            "Q4_0" | "Q8_0" => self.has("AVX2") || self.has("DOTPROD"),
            "Q5_0" | "IQ4_NL" => self.has("AVX2"),
            _ => false,
        }
    }

    fn others(&self, ty: &str) -> bool {
        let amx = matches!(ty, "Q4_0" | "Q4_1" | "Q8_0" | "Q4_K" | "Q5_K" | "Q6_K" | "IQ4_XS");
        let two_rows = matches!(ty, "Q4_0" | "Q4_1" | "Q8_0" | "Q4_K" | "Q6_K");
        amx && self.has("AMX_INT8") || two_rows && self.has("MATMUL_INT8")
    }

    /// Whether most of a model's weights lack fast kernels.
    pub fn slow(&self, model: &GgufFile) -> Option<Slow> {
        // Of the embeddings a token reads one row, unless they are the output matrix too.
        let is_looked_up = |name: &str| name == "token_embd.weight" && model.any_tensor("output.weight").is_some();
        let is_matrix = |tensor: &&TensorInfo| tensor.dims.len() > 1 && !is_looked_up(&tensor.name);
        let matrices = || model.all_tensors().filter(is_matrix);
        let mut slow = BTreeMap::<_, u64>::new();
        for tensor in matrices().filter(|tensor| !self.are_for(tensor)) {
            *slow.entry(tensor.ty).or_default() += tensor.n_bytes;
        }
        let all: u64 = matrices().map(|tensor| tensor.n_bytes).sum();
        let share = slow.values().sum::<u64>() as f64 / all as f64;
        let mut types: Vec<_> = slow.into_iter().collect();
        types.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        let (commonest, _) = types.first().filter(|_| share > 0.5)?;
        let bits = 8 * commonest.block_bytes() / commonest.block_len();
        let instead = if bits <= 5 { "Q4_0" } else { "Q8_0" };
        if !self.are_for_type(instead, 8) {
            // On this processor nothing is faster.
            return None;
        }
        Some(Slow { share, types: types.iter().map(|(ty, _)| ty.name()).collect(), instead })
    }
}

impl fmt::Display for Slow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { types, instead, .. } = self;
        let (types, has) = (types.join(" and "), if types.len() == 1 { "has" } else { "have" });
        write!(
            f,
            "slow: {types} {has} no fast kernels for batches on this processor; prompts, drafts and several texts at once are about twice as fast in {instead}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::gguf::TensorType;

    fn matrix(ty: &str, rows: u64) -> TensorInfo {
        let ty = TensorType::all().find(|other| other.name() == ty).expect("a type of ggml");
        TensorInfo { name: "blk.0.ffn_up.weight".into(), dims: vec![256, rows], ty, offset: 0, n_bytes: 1 }
    }

    /// The types, of those that models have, that are slow.
    fn slow(features: &str) -> Vec<&'static str> {
        let kernels = Kernels::of(features);
        let types = ["F16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS"];
        types.into_iter().filter(|ty| !kernels.are_for(&matrix(ty, 64))).collect()
    }

    /// GCC up to 14 compiles them wrongly (.cargo/config.toml): the first prompt would end the process.
    #[test]
    fn kernels_for_amx_are_left_out_of_the_build() {
        assert!(!Kernels::here().has("AMX_INT8"));
    }

    #[test]
    fn what_is_slow_depends_on_the_processor() {
        let desktop =
            "CPU : SSE3 = 1 | AVX = 1 | AVX2 = 1 | F16C = 1 | FMA = 1 | LLAMAFILE = 1 | OPENMP = 1 | REPACK = 1 | ";
        assert_eq!(slow(desktop), ["Q4_1", "Q5_1", "Q5_K", "Q6_K", "IQ4_XS"]);
        assert_eq!(slow(&desktop.replace("REPACK", "X")), ["Q4_1", "Q5_1", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS"]);
        assert_eq!(slow(&format!("{desktop}AMX_INT8 = 1 | ")), ["Q5_1"]);
        let arm = "CPU : NEON = 1 | ARM_FMA = 1 | DOTPROD = 1 | LLAMAFILE = 1 | REPACK = 1 | ";
        assert_eq!(slow(arm), ["Q4_1", "Q5_0", "Q5_1", "IQ4_XS"]);
        assert_eq!(slow(&format!("{arm}MATMUL_INT8 = 1 | ")), ["Q5_0", "Q5_1", "IQ4_XS"]);
    }

    #[test]
    fn nothing_is_said_of_an_unknown_processor() {
        assert_eq!(slow("CPU : RISCV_V = 1 | REPACK = 1 | "), Vec::<&str>::new());
        // These are a GPU's.
        assert_eq!(slow("CUDA : AVX2 = 1 | "), Vec::<&str>::new());
    }

    #[test]
    fn a_matrix_with_an_odd_number_of_rows_is_not_rearranged() {
        let kernels = Kernels::of("CPU : AVX2 = 1 | REPACK = 1 | ");
        assert!(kernels.are_for(&matrix("Q4_K", 64)) && !kernels.are_for(&matrix("Q4_K", 60)));
    }
}
