//! The kinds of values that fields can have.

use indexmap::IndexMap;
use serde_json::{Map, Value};

use super::{Fields, shown};
use crate::server::error::ApiError;

/// A kind of value.
pub trait Field: Sized {
    /// Reads the value of the field at a path.
    ///
    /// # Errors
    ///
    /// Where it is of another kind.
    fn read(value: Value, at: &str) -> Result<Self, ApiError>;
}

/// The error about a value of the wrong kind.
pub fn wrong(at: &str, kind: &str, value: &Value) -> ApiError {
    let got = match value {
        Value::Null => "null".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(_) => "a number".to_owned(),
        Value::String(_) => "a string".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    };
    ApiError::invalid(at, format!("{at} must be {kind}, got {got}"))
}

/// A list with at most `max` items, each read with its place as its path.
///
/// # Errors
///
/// Where there are more, or one of them is of another kind.
pub fn items<T: Field>(list: Vec<Value>, at: &str, max: usize) -> Result<Vec<T>, ApiError> {
    if list.len() > max {
        return Err(ApiError::invalid(at, format!("{at} may hold {max} items, this holds {}", list.len())));
    }
    list.into_iter().enumerate().map(|(i, value)| T::read(value, &format!("{at}[{i}]"))).collect()
}

impl Field for Value {
    fn read(value: Value, _: &str) -> Result<Self, ApiError> {
        Ok(value)
    }
}

impl Field for bool {
    fn read(value: Value, at: &str) -> Result<Self, ApiError> {
        value.as_bool().ok_or_else(|| wrong(at, "true or false", &value))
    }
}

impl Field for String {
    fn read(value: Value, at: &str) -> Result<Self, ApiError> {
        match value {
            Value::String(text) => Ok(text),
            other => Err(wrong(at, "a string", &other)),
        }
    }
}

impl Field for f32 {
    fn read(value: Value, at: &str) -> Result<Self, ApiError> {
        value.as_f64().map(|x| x as f32).ok_or_else(|| wrong(at, "a number", &value))
    }
}

/// A whole number, also where it is written as 4.0.
fn integer<T: TryFrom<i64>>(value: &Value, at: &str, range: &str) -> Result<T, ApiError> {
    let Value::Number(number) = value else { return Err(wrong(at, "an integer", value)) };
    let whole = number.as_f64().filter(|x| x.fract() == 0.0);
    if whole.is_none() {
        return Err(ApiError::invalid(at, format!("{at} must be an integer, got {number}")));
    }
    // Beyond 2^53 a number with a point is as good as any neighbour, and out of every range here.
    let exact = number.as_i64().or_else(|| whole.filter(|x| x.abs() < (1u64 << 53) as f64).map(|x| x as i64));
    let fail = || ApiError::invalid(at, format!("{at} must be an integer {range}, got {number}"));
    exact.and_then(|n| T::try_from(n).ok()).ok_or_else(fail)
}

macro_rules! integers {
    ($($kind:ty)*) => { $(
        impl Field for $kind {
            fn read(value: Value, at: &str) -> Result<Self, ApiError> {
                integer(&value, at, &format!("between {} and {}", <$kind>::MIN, <$kind>::MAX))
            }
        }
    )* };
}

integers!(i32 u32 i64);

impl<T: Field> Field for Vec<T> {
    fn read(value: Value, at: &str) -> Result<Self, ApiError> {
        match value {
            Value::Array(list) => items(list, at, usize::MAX),
            other => Err(wrong(at, "a list", &other)),
        }
    }
}

impl Field for Map<String, Value> {
    fn read(value: Value, at: &str) -> Result<Self, ApiError> {
        match value {
            Value::Object(object) => Ok(object),
            other => Err(wrong(at, "an object", &other)),
        }
    }
}

impl Field for Fields {
    fn read(value: Value, at: &str) -> Result<Self, ApiError> {
        Map::read(value, at).map(|object| Self::at(at, object))
    }
}

impl<T: Field> Field for IndexMap<String, T> {
    fn read(value: Value, at: &str) -> Result<Self, ApiError> {
        let object = Map::read(value, at)?;
        let one = |(key, value): (String, Value)| {
            let value = T::read(value, &format!("{at}.{}", shown(&key)))?;
            Ok((key, value))
        };
        object.into_iter().map(one).collect()
    }
}
