//! How llama.cpp writes the state of a sequence, walked through before llama.cpp reads it: it trusts the positions in
//! it.
//!
//! ```text
//! state      magic u32, sequence i32, then caches of keys and values, then the recurrent state where there is one
//! cache      number of streams u32, then each stream: number of cells u32, and if that is not 0
//!              cells    position i32, number of sequences u32 = 1, [x, y, token: 3 × i32], sequence i32
//!              V transposed u32, layers u32, rotations 2 × u32
//!              K        of each layer: type i32, bytes of a row u64, the rows
//!              V        the same; transposed: type i32, bytes of a number u32, numbers of a row u32, the rows
//! recurrent  number of cells u32 = 1, position i32, number of sequences u32 = 0, transposed u32 = 0, layers u32,
//!              then R and S of the layers: type i32, bytes of a row u64, the row
//! ```

use std::ops::Range;

use crate::engine::gguf::TensorType;
use crate::expert::StateError;

/// What llama.cpp writes first.
const MAGIC: u32 = 0xaf14_3cd8;
/// Bytes of magic and sequence.
const HEAD: usize = 8;
/// More layers than any model has.
const MAX_LAYERS: u32 = 4096;

/// What a model's memory consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    /// Whether it has caches of keys and values.
    pub attention: bool,
    /// Whether they keep values beside the keys. Multi-head latent attention computes them from the keys.
    pub values: bool,
    /// Whether some layers see a window of the last tokens only: they have a second cache.
    pub window: bool,
    /// Whether a recurrent state follows, or is all there is.
    pub recurrent: bool,
    /// Whether cells note a position in a picture.
    pub positions_2d: bool,
}

/// Where the parts of a state lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StateParts {
    /// Of each cache the one stream that holds the sequence, from its number of cells on.
    caches: Vec<Range<usize>>,
    /// The recurrent state.
    recurrent: Range<usize>,
    /// The first position that all caches hold.
    first: usize,
}

impl Layout {
    /// The layout of the recurrent state without the caches.
    pub fn recurrent_alone(self) -> Self {
        Self { attention: false, window: false, ..self }
    }

    /// Walks through a state of `n_tokens` tokens, which is at least one.
    ///
    /// # Errors
    ///
    /// [`StateError::Broken`] with what is wrong.
    pub fn parts(self, state: &[u8], n_tokens: usize) -> Result<StateParts, StateError> {
        if n_tokens == 0 {
            return Err(broken("it has no tokens"));
        }
        let n_caches = usize::from(self.attention) * if self.window { 2 } else { 1 };
        let mut bytes = Bytes { all: state, at: 0 };
        if bytes.u32()? != MAGIC {
            return Err(broken("it does not begin as a state of llama.cpp"));
        }
        bytes.u32()?;
        let mut parts = StateParts { caches: Vec::new(), recurrent: 0..0, first: 0 };
        for cache in 0..n_caches {
            let (stream, first) = self.cache(&mut bytes, n_tokens)?;
            // Of two caches the first has every token.
            if first > 0 && !(self.window && cache + 1 == n_caches) {
                return Err(broken("positions are missing"));
            }
            parts.caches.push(stream);
            parts.first = parts.first.max(first);
        }
        let start = bytes.at;
        if self.recurrent {
            recurrent(&mut bytes, n_tokens)?;
        }
        parts.recurrent = start..bytes.at;
        match bytes.at == state.len() {
            true => Ok(parts),
            false => Err(broken("bytes are left over")),
        }
    }

    /// One cache: where its filled stream lies, and the first position in it.
    fn cache(self, bytes: &mut Bytes<'_>, n_tokens: usize) -> Result<(Range<usize>, usize), StateError> {
        let mut found = None;
        for _ in 0..bytes.u32()? {
            let start = bytes.at;
            let n_cells = bytes.u32()? as usize;
            if n_cells == 0 {
                continue;
            }
            if found.is_some() {
                return Err(broken("two streams are filled"));
            }
            if n_cells > n_tokens {
                return Err(broken("it has more cells than tokens"));
            }
            let first = self.cells(bytes, n_cells, n_tokens)?;
            stream(bytes, n_cells, self.values)?;
            found = Some((start..bytes.at, first));
        }
        found.ok_or_else(|| broken("no stream is filled"))
    }

    /// The cells hold the last `n_cells` of `n_tokens` positions, in any order. Returns the first of them.
    fn cells(self, bytes: &mut Bytes<'_>, n_cells: usize, n_tokens: usize) -> Result<usize, StateError> {
        let first = n_tokens - n_cells;
        let mut seen = vec![false; n_cells];
        for _ in 0..n_cells {
            let position = usize::try_from(bytes.i32()?).ok().and_then(|at| at.checked_sub(first));
            match position.and_then(|at| seen.get_mut(at)) {
                Some(seen) if !*seen => *seen = true,
                _ => return Err(broken("a position is wrong")),
            }
            if bytes.u32()? != 1 {
                return Err(broken("a cell is not of one sequence"));
            }
            bytes.skip(if self.positions_2d { 12 } else { 0 })?;
            bytes.u32()?;
        }
        Ok(first)
    }
}

impl StateParts {
    /// The first position that is in memory in every layer.
    pub fn first_position(&self) -> usize {
        self.first
    }

    /// The state for a cache of one stream, in the place of the one that was walked through: it is not longer, and may
    /// be gigabytes.
    pub fn into_one_stream(self, mut state: Vec<u8>) -> Vec<u8> {
        state[HEAD - 4..HEAD].fill(0);
        let mut end = HEAD;
        for cache in self.caches {
            state[end..end + 4].copy_from_slice(&1u32.to_le_bytes());
            let n = cache.len();
            state.copy_within(cache, end + 4);
            end += 4 + n;
        }
        let n = self.recurrent.len();
        state.copy_within(self.recurrent, end);
        state.truncate(end + n);
        state
    }

    /// The state for a cache of `n_streams` streams. llama.cpp puts the filled one where the sequence belongs. `None`
    /// where there is no memory for it.
    pub fn in_streams(&self, state: &[u8], n_streams: usize) -> Option<Vec<u8>> {
        let n = u32::try_from(n_streams).unwrap_or(u32::MAX).to_le_bytes();
        let mut out = Vec::new();
        out.try_reserve_exact(state.len() + self.caches.len() * 4 * n_streams).ok()?;
        out.extend_from_slice(&MAGIC.to_le_bytes());
        out.extend_from_slice(&[0; HEAD - 4]);
        for cache in &self.caches {
            out.extend_from_slice(&n);
            out.extend_from_slice(&state[cache.clone()]);
            out.resize(out.len() + 4 * (n_streams - 1), 0);
        }
        out.extend_from_slice(&state[self.recurrent.clone()]);
        Some(out)
    }
}

/// Keys and values of the cells of a stream.
fn stream(bytes: &mut Bytes<'_>, n_cells: usize, has_values: bool) -> Result<(), StateError> {
    let transposed = bytes.u32()? != 0;
    let n_layers = bytes.u32()?;
    bytes.skip(8)?;
    if n_layers > MAX_LAYERS {
        return Err(broken("it has too many layers"));
    }
    for _ in 0..n_layers {
        rows(bytes, n_cells)?;
    }
    for _ in 0..if has_values { n_layers } else { 0 } {
        match transposed {
            false => rows(bytes, n_cells)?,
            true => {
                let ty = bytes.u32()?;
                let (n_bytes, n_numbers) = (bytes.u32()? as usize, bytes.u32()? as usize);
                check_numbers(ty, bytes.take_all(&[n_bytes, n_numbers, n_cells])?)?;
            }
        }
    }
    Ok(())
}

/// `n` rows of one tensor.
fn rows(bytes: &mut Bytes<'_>, n: usize) -> Result<(), StateError> {
    let ty = bytes.u32()?;
    let row = usize::try_from(bytes.u64()?).map_err(|_| broken("it ends too early"))?;
    check_numbers(ty, bytes.take_all(&[row, n])?)
}

/// Refuses NaN and infinity: masking does not keep them from other texts in the same context.
fn check_numbers(ty: u32, bytes: &[u8]) -> Result<(), StateError> {
    let is_half = |bytes: &[u8]| u16::from_le_bytes([bytes[0], bytes[1]]) & 0x7c00 != 0x7c00;
    let ty = TensorType::from_id(ty);
    let are_numbers = match ty.map_or("", TensorType::name) {
        "F32" => bytes.as_chunks().0.iter().all(|bytes| f32::from_le_bytes(*bytes).is_finite()),
        "F16" => bytes.chunks_exact(2).all(is_half),
        "BF16" => bytes.as_chunks().0.iter().all(|bytes| u16::from_le_bytes(*bytes) & 0x7f80 != 0x7f80),
        // A block begins with its scale, and then with its minimum.
        "Q8_0" => bytes.chunks_exact(34).all(is_half),
        "Q4_0" | "IQ4_NL" => bytes.chunks_exact(18).all(is_half),
        "Q5_0" => bytes.chunks_exact(22).all(is_half),
        "Q4_1" => bytes.chunks_exact(20).all(|block| is_half(block) && is_half(&block[2..])),
        "Q5_1" => bytes.chunks_exact(24).all(|block| is_half(block) && is_half(&block[2..])),
        _ => return Err(broken("it has numbers of an unknown type")),
    };
    are_numbers.then_some(()).ok_or_else(|| broken("it has numbers that are not finite"))
}

fn recurrent(bytes: &mut Bytes<'_>, n_tokens: usize) -> Result<(), StateError> {
    let (n_cells, position, n_sequences) = (bytes.u32()?, bytes.i32()?, bytes.u32()?);
    if (n_cells, n_sequences) != (1, 0) || usize::try_from(position).ok() != n_tokens.checked_sub(1) {
        return Err(broken("a position is wrong"));
    }
    if bytes.u32()? != 0 {
        return Err(broken("its state is transposed"));
    }
    let n_layers = bytes.u32()?;
    let mut n = 0;
    // Layers with attention have none.
    while bytes.at < bytes.all.len() {
        n += 1;
        if n_layers > MAX_LAYERS || n > 2 * n_layers {
            return Err(broken("it has too many layers"));
        }
        rows(bytes, 1)?;
    }
    Ok(())
}

fn broken(what: &'static str) -> StateError {
    StateError::Broken { what }
}

/// Bytes that are read from their beginning.
struct Bytes<'a> {
    all: &'a [u8],
    at: usize,
}

impl Bytes<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], StateError> {
        let rest = self.all.get(self.at..).unwrap_or_default();
        let array = rest.first_chunk().copied().ok_or_else(|| broken("it ends too early"))?;
        self.at += N;
        Ok(array)
    }

    fn u32(&mut self) -> Result<u32, StateError> {
        self.array().map(u32::from_le_bytes)
    }

    fn i32(&mut self) -> Result<i32, StateError> {
        self.array().map(i32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, StateError> {
        self.array().map(u64::from_le_bytes)
    }

    fn skip(&mut self, n: usize) -> Result<(), StateError> {
        self.take_all(&[n]).map(|_| ())
    }

    /// As many bytes as the product of `factors`.
    fn take_all(&mut self, factors: &[usize]) -> Result<&[u8], StateError> {
        let n = factors.iter().try_fold(1usize, |n, factor| n.checked_mul(*factor));
        let end = n.and_then(|n| self.at.checked_add(n));
        let taken = end.and_then(|end| self.all.get(self.at..end)).ok_or_else(|| broken("it ends too early"))?;
        self.at += taken.len();
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Layout =
        Layout { attention: true, values: true, window: false, recurrent: false, positions_2d: false };

    /// A state of one layer with rows of four bytes, in `n_streams` streams of which `filled` holds these positions.
    fn state(n_streams: u32, filled: u32, positions: &[i32]) -> Vec<u8> {
        let mut out = [MAGIC, 7].map(u32::to_le_bytes).concat();
        out.extend(n_streams.to_le_bytes());
        for stream in 0..n_streams {
            if stream != filled {
                out.extend(0u32.to_le_bytes());
                continue;
            }
            out.extend((positions.len() as u32).to_le_bytes());
            for position in positions {
                out.extend(position.to_le_bytes());
                out.extend([1u32, filled].map(u32::to_le_bytes).concat());
            }
            out.extend([0u32, 1, 0, 0].map(u32::to_le_bytes).concat());
            for _ in 0..2 {
                out.extend(0u32.to_le_bytes());
                out.extend(4u64.to_le_bytes());
                out.extend(vec![9; 4 * positions.len()]);
            }
        }
        out
    }

    #[test]
    fn a_state_moves_between_caches_of_several_streams_and_of_one() {
        let of_one = state(1, 0, &[0, 1, 2]);
        for n in 1..4 {
            for filled in 0..n {
                let of_many = state(n, filled, &[0, 1, 2]);
                let one = PLAIN.parts(&of_many, 3).expect("sound").into_one_stream(of_many.clone());
                assert_eq!(one.len(), of_one.len());
                let many = PLAIN.parts(&one, 3).expect("sound").in_streams(&one, n as usize).expect("memory");
                assert_eq!(many.len(), of_many.len());
                assert_eq!(PLAIN.parts(&many, 3).expect("sound").in_streams(&many, 1).expect("memory"), one);
                assert!(PLAIN.parts(&many, 3).is_ok());
            }
        }
    }

    #[test]
    fn positions_are_those_of_the_last_tokens_each_once() {
        let of = |layout: Layout, positions: &[i32], n| layout.parts(&state(1, 0, positions), n);
        let check = |positions: &[i32], n| of(PLAIN, positions, n).map(|parts| parts.first_position());
        assert_eq!(check(&[2, 0, 1], 3), Ok(0));
        assert!(check(&[3, 2], 4).is_err());
        // Of two caches the second holds the last tokens alone.
        let windows = [&state(1, 0, &[0, 1, 2, 3])[..], &state(1, 0, &[3, 2])[HEAD..]].concat();
        let window = Layout { window: true, ..PLAIN };
        assert_eq!(window.parts(&windows, 4).map(|parts| parts.first_position()), Ok(2));
        assert!(of(window, &[3, 2], 4).is_err() && of(window, &[0, 1], 2).is_err(), "one cache is missing");
        for wrong in [&[0, 0][..], &[0, -1], &[0, 2], &[1, 2], &[0, i32::MAX], &[]] {
            assert!(check(wrong, 2).is_err(), "{wrong:?}");
        }
        assert!(check(&[0, 1, 2], 2).is_err() && check(&[0], 0).is_err());
    }

    #[test]
    fn a_state_that_is_cut_off_or_too_long_or_lies_about_sizes_is_refused() {
        let sound = state(2, 1, &[0, 1]);
        for end in 0..sound.len() {
            assert!(PLAIN.parts(&sound[..end], 2).is_err(), "{end}");
        }
        // Without its values it is the state of a model that keeps keys alone, and of no other.
        let keys_alone = &sound[..sound.len() - (4 + 8 + 2 * 4)];
        let of_keys = Layout { values: false, ..PLAIN };
        assert!(of_keys.parts(keys_alone, 2).is_ok() && of_keys.parts(&sound, 2).is_err());
        assert!(PLAIN.parts(&[&sound[..], &[0]].concat(), 2).is_err());
        // Every field in turn becomes large.
        for at in (0..sound.len() - 3).step_by(4) {
            for lie in [u32::MAX, i32::MAX as u32, 1 << 20] {
                let mut lying = sound.clone();
                lying[at..at + 4].copy_from_slice(&lie.to_le_bytes());
                let _ = PLAIN.parts(&lying, 2);
            }
        }
        // No memory is the memory of no tokens.
        let recurrent = Layout { attention: false, recurrent: true, ..PLAIN };
        let of_none = [MAGIC, 7, 1, u32::MAX, 0, 0, 0].map(u32::to_le_bytes).concat();
        assert!(recurrent.parts(&of_none, 0).is_err());
        assert!(Layout { recurrent: true, ..PLAIN }.parts(&sound, 2).is_err());
        assert!(Layout { attention: false, ..PLAIN }.parts(&sound, 2).is_err());
    }
}
