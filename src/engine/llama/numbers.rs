//! The numbers of a tensor, whatever type they are stored as.

use llama_cpp_sys_2 as sys;

use crate::engine::gguf::TensorType;

/// Numbers in ggml's block format as f32. `None` where `bytes` are not whole blocks, or ggml cannot read the type.
pub fn to_f32(ty: TensorType, bytes: &[u8]) -> Option<Vec<f32>> {
    let block_bytes = usize::try_from(ty.block_bytes()).ok()?;
    if !bytes.len().is_multiple_of(block_bytes) {
        return None;
    }
    if ty == TensorType::F32 {
        let number = |bytes: &[u8]| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        return Some(bytes.chunks_exact(4).map(number).collect());
    }
    let n = bytes.len() / block_bytes * usize::try_from(ty.block_len()).ok()?;
    // SAFETY: the id is one that ggml knows, since `TensorType` holds no other; the traits are static.
    let to_float = unsafe { (*sys::ggml_get_type_traits(ty.id() as sys::ggml_type)).to_float }?;
    let mut numbers = vec![0.0; n];
    // Blocks begin with numbers of up to four bytes, which C reads as such: bytes that begin elsewhere are moved.
    let mut moved: Vec<u64> = Vec::new();
    let mut from = bytes.as_ptr();
    if !from.cast::<u64>().is_aligned() {
        moved.resize(bytes.len().div_ceil(size_of::<u64>()), 0);
        // SAFETY: `moved` has at least as many bytes, and any bytes make numbers.
        unsafe { std::ptr::copy_nonoverlapping(from, moved.as_mut_ptr().cast::<u8>(), bytes.len()) };
        from = moved.as_ptr().cast();
    }
    // SAFETY: `from` are n numbers in whole blocks of this type, aligned, and `numbers` has room for n.
    unsafe { to_float(from.cast(), numbers.as_mut_ptr(), n as i64) };
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_and_blocks_become_floats() {
        assert_eq!(to_f32(TensorType::F32, &1.5f32.to_le_bytes()), Some(vec![1.5]));
        assert_eq!(to_f32(TensorType::F16, &[0x00, 0x3C, 0x00, 0xC0]), Some(vec![1.0, -2.0]));
        // A block of Q8_0: the factor 0.5 as a half, then 32 bytes.
        let mut block = vec![0x00, 0x38];
        block.extend((0..32).map(|i| i as u8));
        assert_eq!(to_f32(TensorType::Q8_0, &block).map(|n| n[31]), Some(15.5));
        assert_eq!(to_f32(TensorType::Q8_0, &block[1..]), None);
    }

    #[test]
    fn blocks_may_begin_at_any_byte() {
        let mut block = vec![0x00, 0x38];
        block.extend((0..32).map(|i| i as u8));
        for start in 0..8 {
            let bytes = [&vec![0; start][..], &block].concat();
            assert_eq!(to_f32(TensorType::Q8_0, &bytes[start..]), to_f32(TensorType::Q8_0, &block), "byte {start}");
        }
    }
}
