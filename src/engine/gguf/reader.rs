//! Reads GGUF primitives, and never past the end of the file or into an absurd allocation.

use super::error::Fault;
use super::value::{Array, Strings, Value};
use std::io::{ErrorKind, Read};

/// Longest key of the format, in bytes.
const KEY_BYTES_MAX: u64 = 65_535;

/// A reader that knows how much is left, so that a length is judged before memory is taken for it.
pub(super) struct Reader<R> {
    inner: R,
    /// Bytes read so far.
    at: u64,
    /// Bytes in all.
    size: u64,
}

impl<R: Read> Reader<R> {
    pub(super) fn new(inner: R, size: u64) -> Self {
        Reader { inner, at: 0, size }
    }

    /// Bytes read so far.
    pub(super) fn position(&self) -> u64 {
        self.at
    }

    /// Bytes not yet read.
    pub(super) fn left(&self) -> u64 {
        self.size - self.at
    }

    /// Fails unless `count` items of at least `bytes_each` can still follow.
    pub(super) fn expect(&self, count: u64, bytes_each: u64, what: &str) -> Result<(), Fault> {
        match count.checked_mul(bytes_each) {
            Some(n) if n <= self.left() => Ok(()),
            _ => Err(Fault::Incomplete { offset: self.at, what: what.to_owned() }),
        }
    }

    fn fill(&mut self, buffer: &mut [u8], what: &str) -> Result<(), Fault> {
        self.expect(buffer.len() as u64, 1, what)?;
        self.inner.read_exact(buffer).map_err(|e| match e.kind() {
            // The file shrank while it was being read.
            ErrorKind::UnexpectedEof => Fault::Incomplete { offset: self.at, what: what.to_owned() },
            _ => Fault::Io(e),
        })?;
        self.at += buffer.len() as u64;
        Ok(())
    }

    fn take<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Fault> {
        let mut bytes = [0; N];
        self.fill(&mut bytes, what)?;
        Ok(bytes)
    }

    pub(super) fn u32(&mut self, what: &str) -> Result<u32, Fault> {
        Ok(u32::from_le_bytes(self.take(what)?))
    }

    pub(super) fn u64(&mut self, what: &str) -> Result<u64, Fault> {
        Ok(u64::from_le_bytes(self.take(what)?))
    }

    /// Appends `n` bytes to `out`.
    fn append(&mut self, n: u64, out: &mut Vec<u8>, what: &str) -> Result<(), Fault> {
        self.expect(n, 1, what)?;
        let (start, n) = (out.len(), usize::try_from(n).unwrap_or(usize::MAX));
        out.try_reserve(n).map_err(|_| Fault::Corrupt(format!("the {what} would take {n} bytes of memory")))?;
        out.resize(start + n, 0);
        self.fill(&mut out[start..], what)
    }

    /// A length and that many bytes.
    fn bytes(&mut self, what: &str) -> Result<Vec<u8>, Fault> {
        let n = self.u64(what)?;
        let mut bytes = Vec::new();
        self.append(n, &mut bytes, what)?;
        Ok(bytes)
    }

    /// A name: of a key or of a tensor.
    pub(super) fn name(&mut self, what: &str) -> Result<String, Fault> {
        let offset = self.at;
        let bytes = self.bytes(what)?;
        if bytes.len() as u64 > KEY_BYTES_MAX {
            return Err(Fault::Corrupt(format!("the {what} at byte {offset} has {} characters", bytes.len())));
        }
        String::from_utf8(bytes).map_err(|_| Fault::Corrupt(format!("the {what} at byte {offset} is not text")))
    }

    /// The value of `key`, whose type comes first.
    pub(super) fn value(&mut self, key: &str) -> Result<Value, Fault> {
        let kind = self.u32(key)?;
        Ok(match kind {
            0 => Value::U8(u8::from_le_bytes(self.take(key)?)),
            1 => Value::I8(i8::from_le_bytes(self.take(key)?)),
            2 => Value::U16(u16::from_le_bytes(self.take(key)?)),
            3 => Value::I16(i16::from_le_bytes(self.take(key)?)),
            4 => Value::U32(u32::from_le_bytes(self.take(key)?)),
            5 => Value::I32(i32::from_le_bytes(self.take(key)?)),
            6 => Value::F32(f32::from_le_bytes(self.take(key)?)),
            7 => Value::Bool(self.take::<1>(key)?[0] != 0),
            8 => Value::String(into_text(self.bytes(key)?)),
            9 => Value::Array(self.array(key)?),
            10 => Value::U64(u64::from_le_bytes(self.take(key)?)),
            11 => Value::I64(i64::from_le_bytes(self.take(key)?)),
            12 => Value::F64(f64::from_le_bytes(self.take(key)?)),
            _ => return Err(Fault::Corrupt(format!("the metadata key {key} has the unknown value type {kind}"))),
        })
    }

    fn array(&mut self, key: &str) -> Result<Array, Fault> {
        let kind = self.u32(key)?;
        let n = self.u64(key)?;
        Ok(match kind {
            0 => Array::U8(self.numbers(n, key, u8::from_le_bytes)?),
            1 => Array::I8(self.numbers(n, key, i8::from_le_bytes)?),
            2 => Array::U16(self.numbers(n, key, u16::from_le_bytes)?),
            3 => Array::I16(self.numbers(n, key, i16::from_le_bytes)?),
            4 => Array::U32(self.numbers(n, key, u32::from_le_bytes)?),
            5 => Array::I32(self.numbers(n, key, i32::from_le_bytes)?),
            6 => Array::F32(self.numbers(n, key, f32::from_le_bytes)?),
            7 => Array::Bool(self.numbers(n, key, |[b]: [u8; 1]| b != 0)?),
            8 => Array::Strings(self.strings(n, key)?),
            10 => Array::U64(self.numbers(n, key, u64::from_le_bytes)?),
            11 => Array::I64(self.numbers(n, key, i64::from_le_bytes)?),
            12 => Array::F64(self.numbers(n, key, f64::from_le_bytes)?),
            // The format allows arrays of arrays (9); llama.cpp reads none.
            _ => return Err(Fault::Corrupt(format!("the metadata key {key} is an array of the unknown type {kind}"))),
        })
    }

    fn numbers<T, const N: usize>(&mut self, n: u64, key: &str, decode: fn([u8; N]) -> T) -> Result<Vec<T>, Fault> {
        self.expect(n, N as u64, key)?;
        let mut bytes = Vec::new();
        self.append(n * N as u64, &mut bytes, key)?;
        Ok(bytes.as_chunks::<N>().0.iter().map(|chunk| decode(*chunk)).collect())
    }

    fn strings(&mut self, n: u64, key: &str) -> Result<Strings, Fault> {
        // Even an empty string takes the 8 bytes of its length.
        self.expect(n, 8, key)?;
        let mut strings = Strings::with_capacity(usize::try_from(n).unwrap_or(0));
        for _ in 0..n {
            let len = self.u64(key)?;
            strings.push_with(|bytes| self.append(len, bytes, key))?;
        }
        Ok(strings)
    }
}

fn into_text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}
