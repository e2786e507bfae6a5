//! Header, metadata and tensor list, in the order of the file.

use super::error::Fault;
use super::reader::Reader;
use super::tensor::{TensorInfo, TensorType};
use super::value::Value;
use std::collections::HashMap;
use std::io::Read;

/// ggml's limits (`GGML_MAX_DIMS`, `GGML_MAX_NAME`).
const DIMS_MAX: u32 = 4;
const NAME_BYTES_MAX: usize = 63;
/// Where data starts when `general.alignment` is silent.
const ALIGNMENT_DEFAULT: u64 = 32;

/// The whole file but for its tensor data.
#[derive(Debug)]
pub(super) struct Parsed {
    pub metadata: Vec<(String, Value)>,
    /// Place of a key in `metadata`.
    pub index: HashMap<String, usize>,
    pub tensors: Vec<TensorInfo>,
    /// Place of a name in `tensors`.
    pub tensor_index: HashMap<String, usize>,
    pub alignment: u64,
}

/// Reads a file of `size` bytes whose magic and version are known to be good.
pub(super) fn parse<R: Read>(reader: &mut Reader<R>, size: u64) -> Result<Parsed, Fault> {
    reader.u32("magic")?;
    reader.u32("version")?;
    let n_tensors = reader.u64("number of tensors")?;
    let n_keys = reader.u64("number of metadata keys")?;
    // The shortest key has its length, one letter, a type and a byte; the shortest tensor a name, no dimensions, type
    // and offset.
    reader.expect(n_keys, 8 + 1 + 4 + 1, "list of metadata")?;
    reader.expect(n_tensors, 8 + 4 + 4 + 8, "list of tensors")?;

    let (metadata, index) = read_metadata(reader, n_keys)?;
    let alignment = alignment(index.get("general.alignment").map(|i| &metadata[*i].1))?;
    let (mut tensors, tensor_index) = read_tensors(reader, n_tensors)?;
    place(&mut tensors, reader.position(), alignment, size)?;
    Ok(Parsed { metadata, index, tensors, tensor_index, alignment })
}

type Metadata = (Vec<(String, Value)>, HashMap<String, usize>);

fn read_metadata<R: Read>(reader: &mut Reader<R>, n: u64) -> Result<Metadata, Fault> {
    let (mut metadata, mut index) = (Vec::new(), HashMap::new());
    for i in 0..n {
        let key = reader.name("metadata key")?;
        if key.is_empty() {
            return Err(Fault::Corrupt(format!("metadata key {i} has no name")));
        }
        let value = reader.value(&key)?;
        if index.insert(key.clone(), metadata.len()).is_some() {
            return Err(Fault::Corrupt(format!("the metadata key {key} is there twice")));
        }
        metadata.push((key, value));
    }
    Ok((metadata, index))
}

fn alignment(value: Option<&Value>) -> Result<u64, Fault> {
    match value {
        None => Ok(ALIGNMENT_DEFAULT),
        Some(Value::U32(n)) if n.is_power_of_two() => Ok((*n).into()),
        Some(_) => Err(Fault::bad_key("general.alignment", "it must be a power of two")),
    }
}

fn read_tensors<R: Read>(reader: &mut Reader<R>, n: u64) -> Result<(Vec<TensorInfo>, HashMap<String, usize>), Fault> {
    let (mut tensors, mut index) = (Vec::new(), HashMap::new());
    for _ in 0..n {
        let tensor = read_tensor(reader)?;
        if index.insert(tensor.name.clone(), tensors.len()).is_some() {
            return Err(Fault::Corrupt(format!("the tensor {} is there twice", tensor.name)));
        }
        tensors.push(tensor);
    }
    Ok((tensors, index))
}

fn read_tensor<R: Read>(reader: &mut Reader<R>) -> Result<TensorInfo, Fault> {
    let name = reader.name("tensor name")?;
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(Fault::Corrupt(format!("a tensor name has {} bytes, not 1 to {NAME_BYTES_MAX}", name.len())));
    }
    let n_dims = reader.u32("tensor dimensions")?;
    if n_dims > DIMS_MAX {
        return Err(Fault::Corrupt(format!("the tensor {name} has {n_dims} dimensions, more than {DIMS_MAX}")));
    }
    let dims = (0..n_dims).map(|_| reader.u64("tensor dimensions")).collect::<Result<Vec<_>, _>>()?;
    let type_id = reader.u32("tensor type")?;
    let offset = reader.u64("tensor offset")?;
    let Some(ty) = TensorType::from_id(type_id) else {
        return Err(Fault::Corrupt(format!("the tensor {name} has the unknown type {type_id}")));
    };
    let Some(n_bytes) = ty.tensor_bytes(&dims) else {
        return Err(Fault::Corrupt(format!("the tensor {name} of type {ty} has the impossible shape {dims:?}")));
    };
    Ok(TensorInfo { name, dims, ty, offset, n_bytes })
}

/// Checks that the tensors follow one another and end inside the file, and makes their offsets absolute.
fn place(tensors: &mut [TensorInfo], header_end: u64, alignment: u64, size: u64) -> Result<(), Fault> {
    let data_start = header_end.next_multiple_of(alignment);
    // `end` stays below the number of bytes that all tensors claim; the sum is checked, the claims are below 2^63.
    let (mut next, mut end) = (0u64, 0u64);
    for tensor in tensors.iter_mut() {
        if tensor.offset != next {
            let (name, offset) = (&tensor.name, tensor.offset);
            return Err(Fault::Corrupt(format!("the data of {name} starts at {offset} instead of {next}")));
        }
        let too_large = || Fault::Corrupt(format!("the tensor {} ends beyond 2^64 bytes", tensor.name));
        let last = next.checked_add(tensor.n_bytes).and_then(|n| n.checked_add(data_start)).ok_or_else(too_large)?;
        next = (last - data_start).checked_next_multiple_of(alignment).ok_or_else(too_large)?;
        tensor.offset += data_start;
        end = end.max(last);
    }
    if end > size { Err(Fault::Truncated { expected: end }) } else { Ok(()) }
}
