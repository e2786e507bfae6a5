//! What is read at once at most, and how rows are handed over, whatever the form of a file.

use crate::train::TrainError;
use serde_json::Value;

/// Bytes of the longest line, or element of an array.
pub const LINE_MAX: u64 = 16 << 20;

/// A compressed file may inflate to this many times its size (texts reach 50), and to [`INFLATED_MIN`] whatever its
/// size.
pub(super) const INFLATED_MAX: u64 = 200;
pub(super) const INFLATED_MIN: u64 = 64 << 20;

/// Receives each row with its number, from 1: a value, or what is wrong with it.
pub(super) type Each<'a> = dyn FnMut(usize, Result<Value, String>) -> Result<(), TrainError> + 'a;
