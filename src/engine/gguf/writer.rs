//! Writes GGUF files: metadata, then tensors one after the other, under the final name only when all is there.

use super::header::{MAGIC, VERSION};
use super::value::{Array, Value};
use super::{GgufError, TensorType};
use std::collections::HashSet;
use std::fmt;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Where `general.alignment` is not set.
const ALIGNMENT_DEFAULT: u64 = 32;

/// Writes the data of one tensor into what it is given.
type Stream<'a> = Box<dyn FnOnce(&mut dyn Write) -> io::Result<()> + 'a>;

/// The data of a tensor: in memory, or made while the file is written.
pub struct TensorData<'a>(Stream<'a>);

impl<'a> TensorData<'a> {
    /// Data that `write` makes when its turn comes: large tensors need not be held in memory.
    pub fn stream(write: impl FnOnce(&mut dyn Write) -> io::Result<()> + 'a) -> Self {
        TensorData(Box::new(write))
    }
}

impl<'a> From<Vec<u8>> for TensorData<'a> {
    fn from(bytes: Vec<u8>) -> Self {
        TensorData::stream(move |out| out.write_all(&bytes))
    }
}

impl<'a> From<&'a [u8]> for TensorData<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        TensorData::stream(move |out| out.write_all(bytes))
    }
}

impl<'a> From<&'a [f32]> for TensorData<'a> {
    fn from(numbers: &'a [f32]) -> Self {
        TensorData::stream(move |out| numbers.iter().try_for_each(|n| out.write_all(&n.to_le_bytes())))
    }
}

impl fmt::Debug for TensorData<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TensorData")
    }
}

#[derive(Debug)]
struct Tensor<'a> {
    name: String,
    dims: Vec<u64>,
    ty: TensorType,
    data: TensorData<'a>,
}

/// Collects what a GGUF file is to hold, and writes it.
///
/// ```
/// # use genarm::engine::gguf::{GgufFile, GgufWriter, TensorType};
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("adapter.gguf");
/// GgufWriter::new(&path)
///     .meta("general.architecture", "llama")
///     .meta("general.type", "adapter")
///     .meta("adapter.type", "lora")
///     .meta("adapter.lora.alpha", 16.0f32)
///     .tensor("blk.0.attn_q.weight.lora_a", &[64, 8], TensorType::F32, vec![0u8; 64 * 8 * 4])
///     .tensor("blk.0.attn_q.weight.lora_b", &[8, 64], TensorType::F32, vec![0u8; 64 * 8 * 4])
///     .finish()?;
/// assert_eq!(GgufFile::open_adapter(&path)?.n_params(), 1024);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "nothing is written before finish()"]
pub struct GgufWriter<'a> {
    path: PathBuf,
    metadata: Vec<(String, Value)>,
    tensors: Vec<Tensor<'a>>,
}

impl<'a> GgufWriter<'a> {
    /// A writer of the file `path`, which is not touched before [`finish`](Self::finish).
    pub fn new(path: impl AsRef<Path>) -> Self {
        GgufWriter { path: path.as_ref().to_path_buf(), metadata: Vec::new(), tensors: Vec::new() }
    }

    /// Adds a metadata key, or replaces its value.
    pub fn meta(mut self, key: &str, value: impl Into<Value>) -> Self {
        let value = value.into();
        match self.metadata.iter_mut().find(|(known, _)| known == key) {
            Some(entry) => entry.1 = value,
            None => self.metadata.push((key.to_owned(), value)),
        }
        self
    }

    /// Adds a tensor; `dims` has the fastest running dimension first.
    pub fn tensor(mut self, name: &str, dims: &[u64], ty: TensorType, data: impl Into<TensorData<'a>>) -> Self {
        self.tensors.push(Tensor { name: name.to_owned(), dims: dims.to_vec(), ty, data: data.into() });
        self
    }

    /// Writes the file, and returns its size in bytes.
    ///
    /// # Errors
    ///
    /// [`GgufError::Write`] for an impossible shape, or data of another length than the shape asks for;
    /// [`GgufError::Io`] when the system refuses. After an error there is no new file, and an old one is as it was.
    pub fn finish(self) -> Result<u64, GgufError> {
        let path = self.path.clone();
        let sizes = self.sizes()?;
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let io = |source| GgufError::Io { path: path.clone(), source };
        let mut builder = tempfile::Builder::new();
        #[cfg(unix)]
        {
            // As any new file, in place of the owner-only mode of temporary files.
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(std::fs::Permissions::from_mode(0o666));
        }
        let file = builder.prefix(".gguf-").tempfile_in(folder).map_err(io)?;
        let alignment = self.alignment();
        let mut out = Counter { inner: BufWriter::with_capacity(1 << 20, file), written: 0, alignment };
        out.header(&self.metadata, &self.tensors, &sizes).map_err(io)?;
        for (tensor, size) in self.tensors.into_iter().zip(sizes) {
            out.pad().map_err(io)?;
            let start = out.written;
            (tensor.data.0)(&mut out).map_err(io)?;
            let written = out.written - start;
            if written != size {
                let problem = format!("{} got {written} bytes, but its shape takes {size}", tensor.name);
                return Err(GgufError::Write { path, problem });
            }
        }
        out.pad().map_err(io)?;
        let size = out.written;
        let file = out.inner.into_inner().map_err(|e| io(e.into_error()))?;
        file.persist(&path).map_err(|e| io(e.error))?;
        Ok(size)
    }

    fn alignment(&self) -> u64 {
        match self.metadata.iter().find(|(key, _)| key == "general.alignment") {
            Some((_, Value::U32(n))) if n.is_power_of_two() => (*n).into(),
            _ => ALIGNMENT_DEFAULT,
        }
    }

    /// Bytes of each tensor.
    fn sizes(&self) -> Result<Vec<u64>, GgufError> {
        let wrong = |problem| GgufError::Write { path: self.path.clone(), problem };
        let mut names = HashSet::new();
        let size = |t: &Tensor<'_>| {
            if !names.insert(t.name.clone()) {
                return Err(wrong(format!("two tensors are named {}", t.name)));
            }
            let bytes = t.ty.tensor_bytes(&t.dims).filter(|_| (1..=4).contains(&t.dims.len()));
            bytes.ok_or_else(|| wrong(format!("{} of type {} cannot have the shape {:?}", t.name, t.ty, t.dims)))
        };
        self.tensors.iter().map(size).collect()
    }
}

/// Counts what passes, for alignment and to check the length of streamed data.
struct Counter<W> {
    inner: W,
    written: u64,
    /// Tensor data starts at multiples of this.
    alignment: u64,
}

impl<W: Write> Write for Counter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.written += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<W: Write> Counter<W> {
    fn header(&mut self, metadata: &[(String, Value)], tensors: &[Tensor<'_>], sizes: &[u64]) -> io::Result<()> {
        self.write_all(&MAGIC)?;
        self.write_all(&VERSION.to_le_bytes())?;
        self.u64(tensors.len() as u64)?;
        self.u64(metadata.len() as u64)?;
        for (key, value) in metadata {
            self.bytes(key.as_bytes())?;
            self.value(value)?;
        }
        let mut offset = 0u64;
        for (tensor, size) in tensors.iter().zip(sizes) {
            self.bytes(tensor.name.as_bytes())?;
            self.write_all(&(tensor.dims.len() as u32).to_le_bytes())?;
            tensor.dims.iter().try_for_each(|dim| self.u64(*dim))?;
            self.write_all(&tensor.ty.id().to_le_bytes())?;
            self.u64(offset)?;
            offset += size.next_multiple_of(self.alignment);
        }
        Ok(())
    }

    fn pad(&mut self) -> io::Result<()> {
        let missing = self.written.next_multiple_of(self.alignment) - self.written;
        self.write_all(&vec![0; missing as usize])
    }

    fn u64(&mut self, n: u64) -> io::Result<()> {
        self.write_all(&n.to_le_bytes())
    }

    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.u64(bytes.len() as u64)?;
        self.write_all(bytes)
    }

    /// A type number, and what follows it.
    fn typed(&mut self, kind: u32, bytes: &[u8]) -> io::Result<()> {
        self.write_all(&kind.to_le_bytes())?;
        self.write_all(bytes)
    }

    fn value(&mut self, value: &Value) -> io::Result<()> {
        match value {
            Value::U8(v) => self.typed(0, &v.to_le_bytes()),
            Value::I8(v) => self.typed(1, &v.to_le_bytes()),
            Value::U16(v) => self.typed(2, &v.to_le_bytes()),
            Value::I16(v) => self.typed(3, &v.to_le_bytes()),
            Value::U32(v) => self.typed(4, &v.to_le_bytes()),
            Value::I32(v) => self.typed(5, &v.to_le_bytes()),
            Value::F32(v) => self.typed(6, &v.to_le_bytes()),
            Value::Bool(v) => self.typed(7, &[u8::from(*v)]),
            Value::String(v) => self.typed(8, &[]).and_then(|()| self.bytes(v.as_bytes())),
            Value::Array(v) => self.typed(9, &[]).and_then(|()| self.array(v)),
            Value::U64(v) => self.typed(10, &v.to_le_bytes()),
            Value::I64(v) => self.typed(11, &v.to_le_bytes()),
            Value::F64(v) => self.typed(12, &v.to_le_bytes()),
        }
    }

    fn array(&mut self, array: &Array) -> io::Result<()> {
        match array {
            Array::U8(v) => self.items(0, v, |n| n.to_le_bytes()),
            Array::I8(v) => self.items(1, v, |n| n.to_le_bytes()),
            Array::U16(v) => self.items(2, v, |n| n.to_le_bytes()),
            Array::I16(v) => self.items(3, v, |n| n.to_le_bytes()),
            Array::U32(v) => self.items(4, v, |n| n.to_le_bytes()),
            Array::I32(v) => self.items(5, v, |n| n.to_le_bytes()),
            Array::F32(v) => self.items(6, v, |n| n.to_le_bytes()),
            Array::Bool(v) => self.items(7, v, |b| [u8::from(*b)]),
            Array::Strings(v) => {
                self.typed(8, &(v.len() as u64).to_le_bytes())?;
                v.iter().try_for_each(|text| self.bytes(text))
            }
            Array::U64(v) => self.items(10, v, |n| n.to_le_bytes()),
            Array::I64(v) => self.items(11, v, |n| n.to_le_bytes()),
            Array::F64(v) => self.items(12, v, |n| n.to_le_bytes()),
        }
    }

    fn items<T, const N: usize>(&mut self, kind: u32, items: &[T], encode: fn(&T) -> [u8; N]) -> io::Result<()> {
        self.typed(kind, &(items.len() as u64).to_le_bytes())?;
        items.iter().try_for_each(|item| self.write_all(&encode(item)))
    }
}
