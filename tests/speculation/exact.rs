use rayon::prelude::*;

use super::world::{EVERYBODY, World};

const N: u64 = 200_000;

#[test]
fn texts_have_exactly_the_distribution_of_the_plain_loop() {
    // Every drafter with every length, each in a world of its own, and further worlds with the short lengths.
    let cases: Vec<_> = (0..50u64).map(|i| (i, EVERYBODY[i as usize % 5], 1 + (i as usize / 5) % 8)).collect();
    let found: Vec<_> = cases.par_iter().map(|&(i, who, k)| World::random(i, who).distance(k, N, None)).collect();
    for ((i, who, k), z) in cases.iter().zip(&found) {
        assert!(*z < 4.5, "world {i}, {who:?}, drafts of {k}: {z} deviations");
    }
    // Fifty standard normal deviates: were the samples wrong a little everywhere, their mean would show it.
    let mean = found.iter().sum::<f64>() / found.len() as f64;
    assert!(mean.abs() < 4.0 / (found.len() as f64).sqrt(), "mean deviation {mean}");
    println!(
        "{} worlds of {N} texts: largest deviation {:.2}, mean {mean:.2}",
        found.len(),
        found.iter().copied().fold(f64::MIN, f64::max)
    );
}
