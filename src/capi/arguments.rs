//! Arguments from C: NULL is an error and no crash.

use std::ffi::{CStr, c_char};

use super::status::{Failure, genarm_status};

fn null(what: &str) -> Failure {
    Failure::new(genarm_status::GENARM_NULL, format!("{what} is NULL"))
}

/// A text that must be there.
///
/// # Safety
///
/// `pointer` is NULL or a C string that lives during the call.
pub(super) unsafe fn text<'a>(pointer: *const c_char, what: &str) -> Result<&'a str, Failure> {
    // SAFETY: by the contract above.
    unsafe { optional_text(pointer, what) }?.ok_or_else(|| null(what))
}

/// A text that may be left out.
///
/// # Safety
///
/// As [`text`].
pub(super) unsafe fn optional_text<'a>(pointer: *const c_char, what: &str) -> Result<Option<&'a str>, Failure> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: not NULL, and so a C string.
    let text = unsafe { CStr::from_ptr(pointer) }.to_str();
    text.map(Some).map_err(|_| Failure::new(genarm_status::GENARM_TEXT, format!("{what} is not UTF-8")))
}

/// The place of a result.
///
/// # Safety
///
/// `pointer` is NULL or may be written to.
pub(super) unsafe fn result<'a, T>(pointer: *mut T, what: &str) -> Result<&'a mut T, Failure> {
    // SAFETY: by the contract above.
    unsafe { pointer.as_mut() }.ok_or_else(|| null(what))
}

/// An array to read.
///
/// # Safety
///
/// `pointer` is NULL or has `n` numbers.
pub(super) unsafe fn array<'a, T>(pointer: *const T, n: usize, what: &str) -> Result<&'a [T], Failure> {
    if pointer.is_null() {
        return Err(null(what));
    }
    check_size::<T>(n, what)?;
    // SAFETY: by the contract above.
    Ok(unsafe { std::slice::from_raw_parts(pointer, n) })
}

/// An array to write.
///
/// # Safety
///
/// `pointer` is NULL or has room for `n` numbers, that nobody else uses during the call.
pub(super) unsafe fn array_mut<'a, T>(pointer: *mut T, n: usize, what: &str) -> Result<&'a mut [T], Failure> {
    if pointer.is_null() {
        return Err(null(what));
    }
    check_size::<T>(n, what)?;
    // SAFETY: by the contract above.
    Ok(unsafe { std::slice::from_raw_parts_mut(pointer, n) })
}

/// A negative length that became a huge one.
fn check_size<T>(n: usize, what: &str) -> Result<(), Failure> {
    if n <= isize::MAX as usize / size_of::<T>() {
        return Ok(());
    }
    Err(Failure::new(genarm_status::GENARM_VALUE, format!("{what} cannot have {n} numbers")))
}

/// Copies `values` to an array of exactly as many places.
pub(super) fn copy(values: &[f32], out: &mut [f32]) -> Result<(), Failure> {
    if values.len() != out.len() {
        let text = format!("there is room for {} numbers and there are {} ARMs", out.len(), values.len());
        return Err(Failure::new(genarm_status::GENARM_VALUE, text));
    }
    out.copy_from_slice(values);
    Ok(())
}
