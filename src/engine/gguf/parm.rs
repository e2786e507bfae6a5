//! Preference-conditioned ARMs (PARM): adapters with a block for each of several objectives.

use super::GgufFile;
use super::error::Fault;
use super::value::{Array, Value};

/// The key of an adapter's metadata that names its objectives, in the order of their blocks.
pub const OBJECTIVES: &str = "genarm.parm.objectives";
/// The ranks of its blocks: of the one that always acts, then of each objective's.
pub const RANKS: &str = "genarm.parm.ranks";
/// The least preference that it was trained for.
pub const ALPHA_MIN: &str = "genarm.parm.alpha_min";
/// The greatest.
pub const ALPHA_MAX: &str = "genarm.parm.alpha_max";

/// The objectives of an adapter. Its rows of A and columns of B are one block that always acts, then one for each
/// objective, which acts as often as that objective is preferred.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Parm {
    /// The objectives, in the order of their blocks.
    pub objectives: Vec<String>,
    /// Ranks of the block that always acts, and of each objective's.
    pub ranks: Vec<u64>,
    /// The least and the greatest preference.
    pub range: [f32; 2],
}

impl GgufFile {
    /// What an adapter says of its objectives; `None` where it has none.
    pub fn parm(&self) -> Option<Parm> {
        read(self).ok().flatten()
    }
}

/// Reads and checks it.
pub(super) fn read(file: &GgufFile) -> Result<Option<Parm>, Fault> {
    let objectives = match file.get(OBJECTIVES) {
        None => return Ok(None),
        Some(value) => objectives(value).map_err(|reason| Fault::bad_key(OBJECTIVES, reason))?,
    };
    let ranks = match file.get(RANKS) {
        Some(Value::Array(Array::U32(ranks))) => ranks.iter().map(|rank| u64::from(*rank)).collect::<Vec<_>>(),
        _ => return Err(Fault::bad_key(RANKS, "it must be an array of 32-bit numbers")),
    };
    if ranks.len() != objectives.len() + 1 || ranks.contains(&0) {
        return Err(Fault::bad_key(RANKS, "it must hold a rank above 0, then one for each objective"));
    }
    let n_rows: u64 = ranks.iter().sum();
    for tensor in file.tensors() {
        let rank = match tensor.name.rsplit_once('.') {
            Some((_, "lora_a")) => tensor.dims.get(1),
            Some((_, "lora_b")) => tensor.dims.first(),
            _ => continue,
        };
        if rank != Some(&n_rows) {
            return Err(Fault::bad_key(RANKS, "their sum is not the rank of every matrix"));
        }
    }
    let bound = |key, default| match file.get(key) {
        None => Ok(default),
        Some(Value::F32(bound)) if bound.is_finite() => Ok(*bound),
        Some(_) => Err(Fault::bad_key(key, "it must be a finite 32-bit float")),
    };
    let range = [bound(ALPHA_MIN, 0.0)?, bound(ALPHA_MAX, 1.0)?];
    if range[0] >= range[1] {
        return Err(Fault::bad_key(ALPHA_MAX, "it must be above the least"));
    }
    Ok(Some(Parm { objectives, ranks, range }))
}

fn objectives(value: &Value) -> Result<Vec<String>, &'static str> {
    const WRONG: &str = "it must be an array of short names, all different";
    let Value::Array(Array::Strings(names)) = value else { return Err(WRONG) };
    let mut objectives: Vec<String> = Vec::with_capacity(names.len());
    for name in names.iter() {
        let name = std::str::from_utf8(name).map_err(|_| WRONG)?;
        let is_name = (1..=64).contains(&name.len())
            && name.trim() == name
            && !name.contains(|c: char| c == '=' || c.is_control());
        if !is_name || objectives.iter().any(|other| other == name) {
            return Err(WRONG);
        }
        objectives.push(name.to_owned());
    }
    if objectives.is_empty() { Err(WRONG) } else { Ok(objectives) }
}

#[cfg(test)]
mod tests {
    use super::super::{GgufError, GgufWriter, Strings, TensorType};
    use super::*;

    /// An adapter of rank 4 with these keys.
    fn adapter(keys: &[(&str, Value)]) -> Result<GgufFile, GgufError> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("adapter.gguf");
        let writer = GgufWriter::new(&path)
            .meta("general.architecture", "llama")
            .meta("general.type", "adapter")
            .meta("adapter.type", "lora");
        keys.iter()
            .fold(writer, |writer, (key, value)| writer.meta(key, value.clone()))
            .tensor("blk.0.attn_q.weight.lora_a", &[8, 4], TensorType::F32, vec![0u8; 128])
            .tensor("blk.0.attn_q.weight.lora_b", &[4, 8], TensorType::F32, vec![0u8; 128])
            .finish()
            .expect("the adapter is written");
        GgufFile::open_adapter(&path)
    }

    fn names(names: &[&str]) -> Value {
        names.iter().collect::<Strings>().into()
    }

    #[test]
    fn objectives_and_ranks_are_read_in_order_and_preferences_are_from_0_to_1_unless_the_file_says_otherwise() {
        let keys = [(OBJECTIVES, names(&["kind", "brief"])), (RANKS, vec![2u32, 1, 1].into())];
        let parm = adapter(&keys).expect("sound").parm().expect("objectives");
        assert_eq!((parm.objectives, parm.ranks), (vec!["kind".to_owned(), "brief".to_owned()], vec![2, 1, 1]));
        assert_eq!(parm.range, [0.0, 1.0]);
        let keys = [&keys[..], &[(ALPHA_MIN, (-1.0f32).into()), (ALPHA_MAX, 2.0f32.into())]].concat();
        assert_eq!(adapter(&keys).expect("sound").parm().expect("objectives").range, [-1.0, 2.0]);
        assert_eq!(adapter(&[]).expect("sound").parm(), None);
    }

    #[test]
    fn objectives_that_do_not_fit_the_matrices_are_refused_by_their_key() {
        let ranks = |ranks: &[u32]| (RANKS, Value::from(ranks.to_vec()));
        let objectives = |value: Value| (OBJECTIVES, value);
        let (two, fit) = (objectives(names(&["a", "b"])), ranks(&[2, 1, 1]));
        for (key, keys) in [
            (OBJECTIVES, vec![objectives(names(&["a", "a"])), fit.clone()]),
            (OBJECTIVES, vec![objectives(names(&[])), fit.clone()]),
            (OBJECTIVES, vec![objectives(names(&["a", "b=c"])), fit.clone()]),
            (OBJECTIVES, vec![objectives("a, b".into()), fit.clone()]),
            (RANKS, vec![two.clone()]),
            (RANKS, vec![two.clone(), ranks(&[2, 2])]),
            (RANKS, vec![two.clone(), ranks(&[4, 0, 0])]),
            (RANKS, vec![two.clone(), ranks(&[2, 2, 2])]),
            (ALPHA_MIN, vec![two.clone(), fit.clone(), (ALPHA_MIN, f32::NAN.into())]),
            (ALPHA_MAX, vec![two, fit, (ALPHA_MAX, 0.0f32.into())]),
        ] {
            let error = adapter(&keys).expect_err("unsound").to_string();
            assert!(error.contains(key), "{key}: {error}");
        }
    }
}
