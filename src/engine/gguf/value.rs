//! Metadata values.

/// A metadata value.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)] // the variants are the types
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    Array(Array),
    U64(u64),
    I64(i64),
    F64(f64),
}

/// A metadata array: all of its items are of one type.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)] // the variants are the types
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    F32(Vec<f32>),
    Bool(Vec<bool>),
    Strings(Strings),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F64(Vec<f64>),
}

impl Value {
    /// The value as an integer, if it is one and not negative.
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Value::U8(v) => Some(v.into()),
            Value::U16(v) => Some(v.into()),
            Value::U32(v) => Some(v.into()),
            Value::U64(v) => Some(v),
            Value::I8(v) => v.try_into().ok(),
            Value::I16(v) => v.try_into().ok(),
            Value::I32(v) => v.try_into().ok(),
            Value::I64(v) => v.try_into().ok(),
            _ => None,
        }
    }

    /// The value as a float, if it is one.
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            Value::F32(v) => Some(v.into()),
            Value::F64(v) => Some(v),
            _ => None,
        }
    }

    /// The value as a truth value, if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        match *self {
            Value::Bool(v) => Some(v),
            _ => None,
        }
    }

    /// The value as text, if it is that.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(v) => Some(v),
            _ => None,
        }
    }

    /// The value as an array, if it is one.
    pub fn as_array(&self) -> Option<&Array> {
        match self {
            Value::Array(v) => Some(v),
            _ => None,
        }
    }
}

impl Array {
    /// Number of items.
    pub fn len(&self) -> usize {
        match self {
            Array::U8(v) => v.len(),
            Array::I8(v) => v.len(),
            Array::U16(v) => v.len(),
            Array::I16(v) => v.len(),
            Array::U32(v) => v.len(),
            Array::I32(v) => v.len(),
            Array::F32(v) => v.len(),
            Array::Bool(v) => v.len(),
            Array::Strings(v) => v.len(),
            Array::U64(v) => v.len(),
            Array::I64(v) => v.len(),
            Array::F64(v) => v.len(),
        }
    }

    /// Whether there are no items.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// An item as a count, where the items are 32-bit integers, or 0 or 1 for whether it is so: what a file says layer
    /// by layer.
    pub fn u64_at(&self, index: usize) -> Option<u64> {
        match self {
            Self::I32(values) => values.get(index).and_then(|n| u64::try_from(*n).ok()),
            Self::U32(values) => values.get(index).map(|n| u64::from(*n)),
            Self::Bool(values) => values.get(index).map(|is_so| u64::from(*is_so)),
            _ => None,
        }
    }
}

/// Many strings in one buffer: a vocabulary of 128 thousand tokens is two allocations.
///
/// The strings are bytes: tokens need not be valid UTF-8.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Strings {
    bytes: Vec<u8>,
    /// End of each string in `bytes`.
    ends: Vec<usize>,
}

impl Strings {
    pub(super) fn with_capacity(n: usize) -> Self {
        Strings { bytes: Vec::new(), ends: Vec::with_capacity(n) }
    }

    /// Adds the string that `write` appends to the buffer.
    pub(super) fn push_with<E>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<(), E> {
        write(&mut self.bytes)?;
        self.ends.push(self.bytes.len());
        Ok(())
    }

    /// Number of strings.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The string at `index`.
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        let end = *self.ends.get(index)?;
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        Some(&self.bytes[start..end])
    }

    /// All strings, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> + Clone {
        (0..self.len()).map(|i| self.get(i).unwrap_or_default())
    }
}

impl<S: AsRef<[u8]>> FromIterator<S> for Strings {
    fn from_iter<I: IntoIterator<Item = S>>(items: I) -> Self {
        let mut strings = Strings::default();
        for item in items {
            strings.bytes.extend_from_slice(item.as_ref());
            strings.ends.push(strings.bytes.len());
        }
        strings
    }
}

/// `impl From<T> for Value`, so that writers can pass plain Rust values.
macro_rules! from {
    ($($source:ty => $make:expr),+ $(,)?) => {
        $(impl From<$source> for Value {
            fn from(value: $source) -> Self {
                ($make)(value)
            }
        })+
    };
}

from! {
    u32 => Value::U32,
    i32 => Value::I32,
    u64 => Value::U64,
    f32 => Value::F32,
    bool => Value::Bool,
    String => Value::String,
    &str => |v: &str| Value::String(v.to_owned()),
    Array => Value::Array,
    Strings => |v| Value::Array(Array::Strings(v)),
    Vec<i32> => |v| Value::Array(Array::I32(v)),
    Vec<u32> => |v| Value::Array(Array::U32(v)),
    Vec<f32> => |v| Value::Array(Array::F32(v)),
}
