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
    check_shape(pointer, n, what)?;
    // SAFETY: by the contract above.
    Ok(unsafe { std::slice::from_raw_parts(pointer, n) })
}

/// An array to write.
///
/// # Safety
///
/// `pointer` is NULL or has room for `n` numbers, which nothing else uses during the call.
pub(super) unsafe fn array_mut<'a, T>(pointer: *mut T, n: usize, what: &str) -> Result<&'a mut [T], Failure> {
    if pointer.is_null() {
        return Err(null(what));
    }
    check_shape(pointer, n, what)?;
    // SAFETY: by the contract above.
    Ok(unsafe { std::slice::from_raw_parts_mut(pointer, n) })
}

/// Refuses a negative length that became a huge one, and numbers that begin in the middle of a word, as in a slice of
/// packed bytes.
fn check_shape<T>(pointer: *const T, n: usize, what: &str) -> Result<(), Failure> {
    if n > isize::MAX as usize / size_of::<T>() {
        return Err(Failure::new(genarm_status::GENARM_VALUE, format!("{what} cannot have {n} numbers")));
    }
    if !pointer.is_aligned() {
        let text = format!("{what} is not aligned: its address must be a multiple of {}", align_of::<T>());
        return Err(Failure::new(genarm_status::GENARM_VALUE, text));
    }
    Ok(())
}

/// Refuses an array to read and one to write that share memory.
pub(super) fn check_apart<T, U>(
    read: (*const T, usize),
    written: (*const U, usize),
    what: &str,
) -> Result<(), Failure> {
    fn range<T>((pointer, n): (*const T, usize)) -> std::ops::Range<usize> {
        pointer.addr()..pointer.addr().saturating_add(n.saturating_mul(size_of::<T>()))
    }
    let (read, written) = (range(read), range(written));
    if read.start < written.end && written.start < read.end {
        return Err(Failure::new(genarm_status::GENARM_VALUE, format!("{what} share memory")));
    }
    Ok(())
}

/// Copies `values` to an array of exactly as many places.
pub(super) fn copy(values: &[f32], out: &mut [f32]) -> Result<(), Failure> {
    if values.len() != out.len() {
        let text = format!("`out` has room for {} numbers, but there are {} ARMs", out.len(), values.len());
        return Err(Failure::new(genarm_status::GENARM_VALUE, text));
    }
    out.copy_from_slice(values);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status<T>(result: Result<T, Failure>) -> Option<genarm_status> {
        result.err().map(|failure| failure.status)
    }

    #[test]
    fn an_array_that_cannot_be_one_is_refused_and_not_touched() {
        let numbers = [1.0f32, 2.0, 3.0];
        let refused = |pointer: *const f32, n| {
            // SAFETY: what is not refused are the numbers above.
            status(unsafe { array(pointer, n, "numbers") })
        };
        assert_eq!(refused(numbers.as_ptr(), 3), None);
        assert_eq!(refused(std::ptr::null(), 3), Some(genarm_status::GENARM_NULL));
        assert_eq!(refused(numbers.as_ptr(), usize::MAX), Some(genarm_status::GENARM_VALUE), "a length below 0");
        assert_eq!(refused(numbers.as_ptr().wrapping_byte_add(1), 2), Some(genarm_status::GENARM_VALUE), "not aligned");
    }

    #[test]
    fn what_is_read_must_not_lie_in_what_is_written() {
        let numbers = [0i32; 8];
        let at = |i: usize| numbers.as_ptr().wrapping_add(i);
        let shared = |read: (usize, usize), written: (usize, usize)| {
            status(check_apart((at(read.0), read.1), (at(written.0).cast::<f32>(), written.1), "the arrays")).is_some()
        };
        assert!(shared((0, 4), (3, 4)) && shared((3, 1), (0, 8)) && shared((0, 8), (3, 1)));
        assert!(!shared((0, 4), (4, 4)) && !shared((4, 4), (0, 4)) && !shared((2, 0), (0, 2)));
    }
}
