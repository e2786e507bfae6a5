//! eˣ and ln x over rows of numbers. Without branches and conversions, so that loops over a row are vectorised, which
//! the library's functions are not.

/// eˣ for x of at most 0, within 2 units of the last place; below −87 it is e⁻⁸⁷.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // Adding it rounds to a whole number, which then stands in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let x = if x > -87.0 { x } else { -87.0 };
    let rounded = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = rounded - ROUND;
    let r = n.mul_add(-LN_2_LOW, n.mul_add(-LN_2_HIGH, x));
    // Cephes' polynomial of eʳ for |r| ≤ ln 2 / 2.
    let p = 1.987_569_1e-4f32;
    let p = p.mul_add(r, 1.398_199_9e-3);
    let p = p.mul_add(r, 8.333_452e-3);
    let p = p.mul_add(r, 4.166_579_6e-2);
    let p = p.mul_add(r, 1.666_666_5e-1);
    let p = p.mul_add(r, 0.5);
    let e = p.mul_add(r * r, r + 1.0);
    let power = rounded.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    e * f32::from_bits(power)
}

/// ln x for a normal x > 0, within 2 units of the last place.
#[inline(always)]
pub(super) fn ln(x: f32) -> f32 {
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // x = m · 2ⁿ with m between √½ and √2.
    let bits = x.to_bits().wrapping_sub(std::f32::consts::FRAC_1_SQRT_2.to_bits());
    let n = ((bits as i32) >> 23) as f32;
    let m = f32::from_bits((bits & 0x007f_ffff).wrapping_add(std::f32::consts::FRAC_1_SQRT_2.to_bits()));
    let r = m - 1.0;
    // Cephes' polynomial.
    let p = 7.037_683_6e-2f32;
    let p = p.mul_add(r, -1.151_461e-1);
    let p = p.mul_add(r, 1.167_699_9e-1);
    let p = p.mul_add(r, -1.242_014_1e-1);
    let p = p.mul_add(r, 1.424_932_3e-1);
    let p = p.mul_add(r, -1.666_805_8e-1);
    let p = p.mul_add(r, 2.000_071_5e-1);
    let p = p.mul_add(r, -2.499_999_4e-1);
    let p = p.mul_add(r, 3.333_333e-1);
    let square = r * r;
    let tail = (p * r).mul_add(square, n * LN_2_LOW);
    n.mul_add(LN_2_HIGH, r + (-0.5f32).mul_add(square, tail))
}

/// Σ exp(x − max) of a row.
pub(super) fn sum_exp_below(row: &[f32], max: f32) -> f64 {
    const LANES: usize = 16;
    let (mut total, mut chunks) = (0.0f64, row.chunks_exact(LANES * 64));
    let sum = |part: &[f32]| {
        let mut lanes = [0.0f32; LANES];
        for few in part.chunks(LANES) {
            few.iter().zip(&mut lanes).for_each(|(x, lane)| *lane += exp(x - max));
        }
        lanes.iter().map(|lane| f64::from(*lane)).sum::<f64>()
    };
    for part in &mut chunks {
        total += sum(part);
    }
    total + sum(chunks.remainder())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn exp_is_the_librarys(x in -86.0f32..0.0) {
            let exact = f64::from(x).exp();
            prop_assert!((f64::from(exp(x)) / exact - 1.0).abs() < 3e-7);
        }

        #[test]
        fn ln_is_the_librarys(x in -86.0f32..80.0) {
            let x = x.exp();
            let exact = f64::from(x).ln();
            prop_assert!((f64::from(ln(x)) - exact).abs() < 2e-7 * exact.abs().max(1.0), "{x} {} {exact}", ln(x));
        }

        #[test]
        fn a_sum_over_a_row_is_exact(row in prop::collection::vec(-30f32..0.0, 1..4000)) {
            let exact = row.iter().map(|x| f64::from(*x).exp()).sum::<f64>();
            prop_assert!((sum_exp_below(&row, 0.0) / exact - 1.0).abs() < 1e-6);
        }
    }
}
