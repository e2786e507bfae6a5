//! Several rewards at once: which points are beaten by none, how much they cover, and how well they follow the
//! preferences.
//!
//! All rewards are to be made large. Hypervolume and mean inner product are the measures of PARM (arXiv 2505.06274).

/// Whether `a` is at least as good as `b` in every reward, and better in one.
pub fn dominates(a: &[f64], b: &[f64]) -> bool {
    a.iter().zip(b).all(|(x, y)| x >= y) && a.iter().zip(b).any(|(x, y)| x > y)
}

/// The indices of the points that no other point dominates, in order. Equal points stand or fall together.
///
/// ```
/// let front = genarm::eval::pareto::front(&[vec![0.0, 2.0], vec![1.0, 1.0], vec![0.5, 0.5], vec![2.0, 0.0]]);
/// assert_eq!(front, [0, 1, 3]);
/// ```
pub fn front(points: &[Vec<f64>]) -> Vec<usize> {
    (0..points.len()).filter(|&i| !points.iter().any(|other| dominates(other, &points[i]))).collect()
}

/// The worst value of each reward over the points: where [`hypervolume`] is measured from if nothing else is said.
pub fn nadir(points: &[Vec<f64>]) -> Vec<f64> {
    extreme(points, f64::min)
}

/// The best value of each reward over the points.
pub fn utopia(points: &[Vec<f64>]) -> Vec<f64> {
    extreme(points, f64::max)
}

fn extreme(points: &[Vec<f64>], pick: fn(f64, f64) -> f64) -> Vec<f64> {
    let mut points = points.iter();
    let first = points.next().cloned().unwrap_or_default();
    points.fold(first, |best, point| best.iter().zip(point).map(|(a, b)| pick(*a, *b)).collect())
}

/// The volume that the points dominate above `reference`: of the union of the boxes from `reference` to each point.
///
/// Points that are not above the reference in every reward add nothing.
///
/// # Cost
///
/// It slices along one reward after the other: O(n^d) at worst, for n points of d rewards; nothing for the few that a
/// sweep has.
pub fn hypervolume(points: &[Vec<f64>], reference: &[f64]) -> f64 {
    let above: Vec<&[f64]> =
        points.iter().map(Vec::as_slice).filter(|p| p.iter().zip(reference).all(|(x, r)| x > r)).collect();
    volume(above, reference)
}

fn volume(mut points: Vec<&[f64]>, reference: &[f64]) -> f64 {
    let Some((floor, rest)) = reference.split_last() else { return 0.0 };
    let last = rest.len();
    if last == 0 {
        return points.iter().map(|p| p[0] - floor).fold(0.0, f64::max);
    }
    // From the top down: between two levels of the last reward, all points at or above the upper one count.
    points.sort_by(|a, b| b[last].total_cmp(&a[last]));
    let mut total = 0.0;
    for i in 0..points.len() {
        let below = points.get(i + 1).map_or(*floor, |p| p[last]);
        if points[i][last] > below {
            total += (points[i][last] - below) * volume(points[..=i].to_vec(), rest);
        }
    }
    total
}

/// The mean over the points of ⟨preference, reward⟩: large where each preference gets what it asks for.
///
/// A preference is a point's weights, scaled to the sum 1; points without a positive weight express none and are left
/// out. `None` where no point is left.
pub fn mean_inner_product(weights: &[Vec<f64>], rewards: &[Vec<f64>]) -> Option<f64> {
    let product = |(weights, rewards): (&Vec<f64>, &Vec<f64>)| {
        let sum: f64 = weights.iter().sum();
        (sum > 0.0).then(|| weights.iter().zip(rewards).map(|(w, r)| w / sum * r).sum::<f64>())
    };
    let products: Vec<f64> = weights.iter().zip(rewards).filter_map(product).collect();
    (!products.is_empty()).then(|| products.iter().sum::<f64>() / products.len() as f64)
}

/// The point of the front that is nearest to the [`utopia`], with each reward scaled to [0, 1] over the points; of the
/// points that `allowed` admits. `None` where it admits none.
pub fn recommend(points: &[Vec<f64>], allowed: impl Fn(usize) -> bool) -> Option<usize> {
    let (low, high) = (nadir(points), utopia(points));
    let distance = |i: usize| -> f64 {
        let scaled = points[i].iter().zip(low.iter().zip(&high));
        scaled.map(|(x, (low, high))| if high > low { ((high - x) / (high - low)).powi(2) } else { 0.0 }).sum()
    };
    let candidates: Vec<usize> = (0..points.len()).filter(|i| allowed(*i)).collect();
    let among: Vec<Vec<f64>> = candidates.iter().map(|i| points[*i].clone()).collect();
    front(&among).into_iter().map(|i| candidates[i]).min_by(|a, b| distance(*a).total_cmp(&distance(*b)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_front_of_known_cases() {
        let points = |p: &[[f64; 2]]| p.iter().map(|p| p.to_vec()).collect::<Vec<_>>();
        assert_eq!(front(&points(&[[1.0, 1.0]])), [0]);
        assert_eq!(front(&points(&[[1.0, 1.0], [2.0, 2.0]])), [1]);
        assert_eq!(front(&points(&[[1.0, 2.0], [2.0, 1.0], [1.0, 1.0]])), [0, 1]);
        assert_eq!(front(&points(&[[1.0, 1.0], [1.0, 1.0]])), [0, 1], "equal points do not dominate each other");
        assert_eq!(front(&points(&[[1.0, 1.0], [1.0, 2.0]])), [1]);
        assert_eq!(front(&[]), [0usize; 0]);
    }

    #[test]
    fn the_hypervolume_of_known_cases() {
        let of = |points: &[&[f64]], reference: &[f64]| {
            hypervolume(&points.iter().map(|p| p.to_vec()).collect::<Vec<_>>(), reference)
        };
        assert_eq!(of(&[&[2.0]], &[-1.0]), 3.0);
        assert_eq!(of(&[&[2.0, 3.0]], &[0.0, 0.0]), 6.0);
        // Two boxes of 2 that share 1.
        assert_eq!(of(&[&[1.0, 2.0], &[2.0, 1.0]], &[0.0, 0.0]), 3.0);
        // A staircase: 1·3 + 1·2 + 1·1.
        assert_eq!(of(&[&[1.0, 3.0], &[2.0, 2.0], &[3.0, 1.0], &[1.0, 1.0]], &[0.0, 0.0]), 6.0);
        // Three dimensions: 3 unit-wide slabs of 4, 3 pairwise intersections of 1·1·2… by inclusion and exclusion.
        assert_eq!(of(&[&[1.0, 2.0, 2.0], &[2.0, 1.0, 2.0], &[2.0, 2.0, 1.0]], &[0.0; 3]), 7.0);
        assert_eq!(of(&[&[1.0, -1.0]], &[0.0, 0.0]), 0.0, "a point below the reference adds nothing");
        assert_eq!(of(&[], &[0.0, 0.0]), 0.0);
    }

    #[test]
    fn the_mean_inner_product_weighs_each_reward_by_its_preference() {
        let weights = [vec![2.0, 0.0], vec![1.0, 1.0], vec![0.0, 0.0]];
        let rewards = [vec![3.0, 100.0], vec![2.0, 4.0], vec![50.0, 50.0]];
        assert_eq!(mean_inner_product(&weights, &rewards), Some((3.0 + 3.0) / 2.0));
        assert_eq!(mean_inner_product(&[vec![0.0]], &[vec![1.0]]), None);
    }

    #[test]
    fn the_recommended_point_is_the_balanced_one_among_those_allowed() {
        let points = [vec![0.0, 10.0], vec![0.8, 8.0], vec![1.0, 0.0], vec![0.5, 5.0]];
        assert_eq!(recommend(&points, |_| true), Some(1));
        assert_eq!(recommend(&points, |i| i == 3), Some(3));
        assert_eq!(recommend(&points, |_| false), None);
    }

    proptest! {
        #[test]
        fn the_hypervolume_is_the_share_of_a_box_that_the_points_dominate(
            points in prop::collection::vec(prop::collection::vec(0u8..6, 3), 1..7)
        ) {
            let points: Vec<Vec<f64>> = points.iter().map(|p| p.iter().map(|x| f64::from(*x)).collect()).collect();
            // With whole numbers, count the unit cells.
            let cell = |x: i32, y: i32, z: i32| {
                points.iter().any(|p| p[0] > f64::from(x) && p[1] > f64::from(y) && p[2] > f64::from(z))
            };
            let cells = (0..216).filter(|i| cell(i / 36, i / 6 % 6, i % 6)).count();
            prop_assert_eq!(hypervolume(&points, &[0.0; 3]), cells as f64);
        }

        #[test]
        fn the_front_alone_has_the_whole_hypervolume(
            points in prop::collection::vec(prop::collection::vec(0f64..1.0, 2), 1..20)
        ) {
            let kept: Vec<_> = front(&points).into_iter().map(|i| points[i].clone()).collect();
            prop_assert!((hypervolume(&points, &[0.0; 2]) - hypervolume(&kept, &[0.0; 2])).abs() < 1e-12);
        }
    }
}
