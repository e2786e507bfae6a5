//! The LoRA adapters of several experts, stacked into one.
//!
//! Stacked, A = [A₁; A₂; …] and B = [s₁B₁, s₂B₂, …], with the scale of each adapter folded into its B. One product with
//! A and one with B then serve all experts, and [`Blocks`] says which rows of A·x belong to whom. Compared with all
//! adapters side by side this needs one masked node a matrix, however many adapters there are.
//!
//! An adapter with objectives (a PARM) is several blocks of its part: one that always acts, and one for each objective,
//! which acts as often as the text prefers that objective.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::gguf::{GgufError, GgufFile, GgufWriter, TensorInfo, TensorType};
use super::llama::{Adapters, Block, Blocks, Lora, LoraError, Model, to_f32};
use super::parm::{BlockOf, blocks_of};

/// Why adapters cannot be stacked. They still work in contexts of their own.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StackError {
    /// An adapter's file is not sound.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The stack cannot be loaded.
    #[error(transparent)]
    Lora(#[from] LoraError),
    /// A target that llama.cpp does not compute as one product with A and one with B.
    #[error("{}: an adapter of {name} can neither share a batch nor have several objectives", path.display())]
    Target {
        /// The adapter.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// Some adapters of one expert act on everything that it reads, and others on responses alone.
    #[error("{}: adapters of one expert must all act on responses alone, or all on everything", path.display())]
    Mixed {
        /// An adapter that differs from the first.
        path: PathBuf,
    },
    /// The base's own adapter acts on everything.
    #[error("{}: an adapter that acts on responses alone can be an ARM, and not the base's own", path.display())]
    OfBase {
        /// The adapter.
        path: PathBuf,
    },
    /// A recurrent model keeps no keys and values of which a part could be another's.
    #[error("{}: an adapter that acts on responses alone needs a model with attention in every layer", path.display())]
    Recurrent {
        /// The adapter.
        path: PathBuf,
    },
    /// An adapter says in a way that is not known where it acts.
    #[error("{}: {ADAPT} is \"{value}\"; known: all, response", path.display())]
    Adapt {
        /// The adapter.
        path: PathBuf,
        /// What it says.
        value: String,
    },
    /// More experts than a part can number.
    #[error("{n} experts are more than can share a batch")]
    TooMany {
        /// How many.
        n: usize,
    },
}

/// An adapter's path, and the factor on it.
pub type Scaled<'a> = (&'a Path, f32);

/// The key of an adapter's metadata that says where it acts: `all`, as without it, or `response`.
pub const ADAPT: &str = "genarm.adapt";

/// A part of a stack, as a sequence is read with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Its number in the stack.
    pub block: u8,
    /// Whether it acts on responses alone, so that prompts are read as the base reads them.
    pub response_only: bool,
}

/// Whether the adapters of an expert act on responses alone.
///
/// # Errors
///
/// [`StackError::Mixed`], [`StackError::Adapt`], [`StackError::Gguf`].
pub fn acts_on_responses_only(adapters: &[Scaled<'_>]) -> Result<bool, StackError> {
    let mut all = None;
    for (path, _) in adapters {
        let file = GgufFile::open_adapter(path)?;
        let only = match file.str(ADAPT) {
            None | Some("all") => false,
            Some("response") => true,
            Some(value) => return Err(StackError::Adapt { path: (*path).to_owned(), value: value.to_owned() }),
        };
        if *all.get_or_insert(only) != only {
            return Err(StackError::Mixed { path: (*path).to_owned() });
        }
    }
    Ok(all.unwrap_or(false))
}

/// The matrices of a stack, by the tensors that they adapt.
type Matrices = BTreeMap<String, Stacked>;

/// Whether an adapter of an expert has objectives.
///
/// # Errors
///
/// [`StackError::Gguf`].
pub(super) fn has_objectives(adapters: &[Scaled<'_>]) -> Result<bool, StackError> {
    for (path, _) in adapters {
        if GgufFile::open_adapter(path)?.parm().is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// One matrix of the stack, in the making.
#[derive(Default)]
struct Stacked {
    n_in: u64,
    n_out: u64,
    /// `rank × n_in`, row after row.
    a: Vec<f32>,
    /// Of each block its rank and its scaled `n_out × rank`.
    b: Vec<(usize, Vec<f32>)>,
    blocks: Vec<Block>,
}

/// Stacks the adapters of `parts` on `model`. Part i of the stack is `parts[i]`: perhaps several adapters.
///
/// # Errors
///
/// [`StackError`].
pub fn stack(model: &Arc<Model>, parts: &[Vec<Scaled<'_>>]) -> Result<Adapters, StackError> {
    let mut matrices = Matrices::new();
    for (part, adapters) in parts.iter().enumerate() {
        let part = u8::try_from(part).map_err(|_| StackError::TooMany { n: parts.len() })?;
        for (path, scale) in adapters {
            add(&mut matrices, part, path, *scale)?;
        }
    }
    let (lora, blocks) = load(model, &matrices)?;
    Ok(Adapters::Stack(lora, blocks))
}

/// The blocks of a PARM as adapters of their own, for a context whose tokens all have the same preferences. An adapter
/// without objectives is one such block.
///
/// # Errors
///
/// [`StackError`].
pub(super) fn side_by_side(model: &Arc<Model>, (path, scale): Scaled<'_>) -> Result<Vec<Lora>, StackError> {
    let Some(parm) = GgufFile::open_adapter(path)?.parm() else { return Ok(vec![Lora::load(model, path, scale)?]) };
    let mut matrices = Matrices::new();
    add(&mut matrices, 0, path, scale)?;
    let one = |(i, block): (usize, BlockOf)| {
        let of = matrices.iter().map(|(target, matrix)| (target.clone(), matrix.only(i))).collect();
        Ok(load(model, &of)?.0.with_coefficient(block.coefficient))
    };
    blocks_of(Some(&parm), 0).enumerate().map(one).collect()
}

/// Writes the stack to a file, and loads it.
fn load(model: &Arc<Model>, matrices: &Matrices) -> Result<(Lora, Blocks), StackError> {
    let io = |source| StackError::Io { path: std::env::temp_dir(), source };
    let folder = tempfile::tempdir().map_err(io)?;
    let path = folder.path().join("stack.gguf");
    let mut writer = GgufWriter::new(&path)
        .meta("general.architecture", model.file().architecture().unwrap_or_default())
        .meta("general.type", "adapter")
        .meta("adapter.type", "lora")
        // No division by the rank, which is not that of any adapter: the scales are in B.
        .meta("adapter.lora.alpha", 0.0f32);
    let mut blocks = Blocks::new();
    for (target, matrix) in matrices {
        let rank = matrix.blocks.iter().map(|block| block.rows.len()).sum::<usize>() as u64;
        let (a, b) = (format!("{target}.lora_a"), format!("{target}.lora_b"));
        blocks.insert(a.clone(), matrix.blocks.clone());
        writer = writer.tensor(&a, &[matrix.n_in, rank], TensorType::F32, matrix.a.as_slice()).tensor(
            &b,
            &[rank, matrix.n_out],
            TensorType::F32,
            bytes(&matrix.b()),
        );
    }
    writer.finish()?;
    Ok((Lora::load(model, &path, 1.0)?, blocks))
}

impl Stacked {
    /// `n_out × Σ rank`: of each output the numbers of all blocks, one after the other.
    fn b(&self) -> Vec<f32> {
        let mut stacked = Vec::new();
        for out in 0..self.n_out as usize {
            for (rank, b) in &self.b {
                stacked.extend_from_slice(&b[out * rank..][..*rank]);
            }
        }
        stacked
    }

    /// Block `i` alone.
    fn only(&self, i: usize) -> Self {
        let Block { part, coefficient, rows } = self.blocks[i].clone();
        let n_in = self.n_in as usize;
        Self {
            a: self.a[rows.start * n_in..rows.end * n_in].to_vec(),
            b: vec![self.b[i].clone()],
            blocks: vec![Block { part, coefficient, rows: 0..rows.len() }],
            ..*self
        }
    }
}

fn bytes(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// Adds one adapter's matrices to the stack.
fn add(matrices: &mut Matrices, part: u8, path: &Path, scale: f32) -> Result<(), StackError> {
    let file = GgufFile::open_adapter(path)?;
    let refuse = |name: &str| StackError::Target { path: path.to_owned(), name: name.to_owned() };
    let io = |source| StackError::Io { path: path.to_owned(), source };
    let mut source = File::open(path).map_err(io)?;
    let parm = file.parm();
    let alpha = file.get("adapter.lora.alpha").and_then(|value| value.as_f64()).unwrap_or(0.0) as f32;
    for a in file.tensors() {
        let Some(target) = a.name.strip_suffix(".lora_a") else { continue };
        let b = file.tensor(&format!("{target}.lora_b")).ok_or_else(|| refuse(target))?;
        let (&[n_in, rank], &[b_rank, n_out]) = (&a.dims[..], &b.dims[..]) else { return Err(refuse(target)) };
        // An adapter of the embedding is looked up rather than multiplied.
        if target == "token_embd.weight" || rank != b_rank || rank == 0 {
            return Err(refuse(target));
        }
        let matrix = matrices.entry(target.to_owned()).or_default();
        if !matrix.b.is_empty() && (matrix.n_in, matrix.n_out) != (n_in, n_out) {
            return Err(refuse(target));
        }
        let factor = if alpha == 0.0 { scale } else { scale * alpha / rank as f32 };
        let mut read = |tensor: &TensorInfo| -> Result<Vec<f32>, StackError> {
            source.seek(SeekFrom::Start(tensor.offset)).map_err(io)?;
            let mut bytes = vec![0; usize::try_from(tensor.n_bytes).map_err(|_| refuse(target))?];
            source.read_exact(&mut bytes).map_err(io)?;
            to_f32(tensor.ty, &bytes).ok_or_else(|| refuse(target))
        };
        let (numbers_a, mut numbers_b) = (read(a)?, read(b)?);
        numbers_b.iter_mut().for_each(|number| *number *= factor);
        let start = matrix.blocks.last().map_or(0, |block| block.rows.end);
        (matrix.n_in, matrix.n_out) = (n_in, n_out);
        matrix.a.extend(numbers_a);
        for BlockOf { coefficient, columns } in blocks_of(parm.as_ref(), rank as usize) {
            let of_block = |row: &[f32]| row[columns.clone()].to_vec();
            matrix.b.push((columns.len(), numbers_b.chunks_exact(rank as usize).flat_map(of_block).collect()));
            matrix.blocks.push(Block { part, coefficient, rows: start + columns.start..start + columns.end });
        }
    }
    Ok(())
}
