//! The seeds of a chat's answers: each answer has its own, all of them follow from the first.

use crate::sampling::params::RANDOM_SEED;

/// Gives one seed after the other.
#[derive(Debug, Clone, Copy)]
pub struct Seeds {
    first: u32,
    n: u32,
}

impl Seeds {
    /// Begins with this seed: it is the first answer's own.
    pub fn new(first: u32) -> Self {
        Self { first, n: 0 }
    }

    /// Goes on after `n` answers.
    pub fn at(first: u32, n: u32) -> Self {
        Self { first, n }
    }

    /// The first seed, and how many were given.
    pub fn place(self) -> (u32, u32) {
        (self.first, self.n)
    }

    /// The seed of the next answer.
    pub fn take(&mut self) -> u32 {
        let seed = derived(self.first, self.n);
        self.n = self.n.wrapping_add(1);
        seed
    }
}

/// The seed of answer `n`. Mixed (SplitMix64), because neighbouring seeds of some generators begin alike.
fn derived(first: u32, n: u32) -> u32 {
    if n == 0 {
        return first;
    }
    let mut x = (u64::from(first) << 32 | u64::from(n)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    let seed = (x ^ (x >> 31)) as u32 >> 1;
    debug_assert_ne!(seed, RANDOM_SEED);
    seed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_answer_has_the_seed_itself_and_every_other_one_of_its_own() {
        for first in [0, 1, 2, 7, u32::MAX - 1] {
            let mut seeds = Seeds::new(first);
            let taken: Vec<_> = (0..1000).map(|_| seeds.take()).collect();
            assert_eq!(taken[0], first);
            let distinct: std::collections::HashSet<_> = taken.iter().collect();
            assert_eq!(distinct.len(), taken.len());
            let mut again = Seeds::new(first);
            assert!(taken.iter().all(|seed| again.take() == *seed), "the same first seed gives the same ones");
        }
        let second = |first| {
            let mut seeds = Seeds::new(first);
            seeds.take();
            seeds.take()
        };
        assert_ne!(second(1), second(2));
    }
}
