//! Folds over rows of numbers, sixteen numbers at a time: one at a time the processor waits for each sum.

const LANES: usize = 16;

fn fold(row: &[f32], start: f32, of: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [start; LANES];
    let chunks = row.chunks_exact(LANES);
    let rest = chunks.remainder();
    for few in chunks {
        few.iter().zip(&mut lanes).for_each(|(x, lane)| *lane = of(*lane, *x));
    }
    lanes.into_iter().chain(rest.iter().copied()).fold(start, of)
}

/// The largest number; −∞ for an empty row.
pub(super) fn max(row: &[f32]) -> f32 {
    fold(row, f32::NEG_INFINITY, |a, b| if b > a { b } else { a })
}

/// The least number above −∞; ∞ where there is none.
pub(super) fn least_finite(row: &[f32]) -> f32 {
    fold(row, f32::INFINITY, |a, b| if b < a && b > f32::NEG_INFINITY { b } else { a })
}

/// Σ a · b.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a.zip(b) {
        a.iter().zip(b).zip(&mut lanes).for_each(|((a, b), lane)| *lane = a.mul_add(*b, *lane));
    }
    lanes.into_iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn lanes_find_what_a_loop_finds(row in prop::collection::vec(prop_oneof![-30f32..30.0, Just(f32::NEG_INFINITY)], 0..100)) {
            prop_assert_eq!(max(&row), row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
            let finite = row.iter().copied().filter(|x| x.is_finite());
            prop_assert_eq!(least_finite(&row), finite.fold(f32::INFINITY, f32::min));
        }

        #[test]
        fn a_product_of_rows_is_a_sum(row in prop::collection::vec((-3f32..3.0, -3f32..3.0), 0..100)) {
            let (a, b): (Vec<_>, Vec<_>) = row.iter().copied().unzip();
            let exact: f64 = row.iter().map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            prop_assert!((f64::from(dot(&a, &b)) - exact).abs() < 1e-3);
        }
    }
}
