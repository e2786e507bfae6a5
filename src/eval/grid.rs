//! The points of a sweep: every combination of the weights that are asked for.

use std::str::FromStr;

/// The weights of one ARM: `NAME=FROM:TO:STEP`, both ends included, or `NAME=W,W,…`.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// The ARM.
    pub arm: String,
    /// Its weights, in the order given.
    pub weights: Vec<f32>,
}

/// More points than anybody means: a mistyped step.
const MAX_WEIGHTS: usize = 1000;

impl FromStr for Axis {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected NAME=FROM:TO:STEP or NAME=W,W,…, such as helpful=0:2:0.5, got \"{text}\"");
        let (arm, range) = text.rsplit_once('=').filter(|(arm, _)| !arm.is_empty()).ok_or_else(wrong)?;
        let number = |s: &str| s.trim().parse::<f64>().ok().filter(|x| x.is_finite()).ok_or_else(wrong);
        let weights = match range.split(':').collect::<Vec<_>>()[..] {
            [list] => list.split(',').map(number).collect::<Result<Vec<_>, _>>()?,
            [from, to, step] => steps(number(from)?, number(to)?, number(step)?).ok_or_else(|| {
                format!("\"{text}\": from {from} to {to} in steps of {step} is no way, or too long a one")
            })?,
            _ => return Err(wrong()),
        };
        Ok(Self { arm: arm.to_owned(), weights: weights.into_iter().map(|w| w as f32).collect() })
    }
}

fn steps(from: f64, to: f64, step: f64) -> Option<Vec<f64>> {
    // A hair more, so that 0:1:0.1 reaches 1.
    let n = ((to - from) / step + 1e-6).floor();
    let sound = step != 0.0 && (0.0..MAX_WEIGHTS as f64).contains(&n);
    // Rounded, so that the third step of 0.1 is 0.3 and no neighbour of it.
    sound.then(|| (0..=n as usize).map(|i| ((from + i as f64 * step) * 1e9).round() / 1e9).collect())
}

/// Every combination, the last axis running fastest; `start` are the weights of ARMs without an axis, `place` finds an
/// ARM in it.
pub fn points<E>(
    axes: &[Axis],
    start: &[f32],
    mut place: impl FnMut(&str) -> Result<usize, E>,
) -> Result<Vec<Vec<f32>>, E> {
    let mut points = vec![start.to_vec()];
    for axis in axes {
        let arm = place(&axis.arm)?;
        let set = |point: &Vec<f32>, weight: f32| {
            let mut point = point.clone();
            point[arm] = weight;
            point
        };
        points =
            points.iter().flat_map(|point| axis.weights.iter().map(|w| set(point, *w)).collect::<Vec<_>>()).collect();
    }
    Ok(points)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(text: &str) -> Vec<f32> {
        text.parse::<Axis>().unwrap().weights
    }

    #[test]
    fn ranges_include_both_ends_and_lists_are_taken_as_they_are() {
        assert_eq!(axis("helpful=0:2:0.5"), [0.0, 0.5, 1.0, 1.5, 2.0]);
        assert_eq!(axis("a=0:1:0.1").len(), 11);
        assert_eq!(axis("a=0:1:0.1")[3], 0.3);
        assert_eq!(axis("a=1:-1:-1"), [1.0, 0.0, -1.0]);
        assert_eq!(axis("a=0:1:0.4"), [0.0, 0.4, 0.8]);
        assert_eq!(axis("a=3,-1, 0.25"), [3.0, -1.0, 0.25]);
    }

    #[test]
    fn nonsense_is_refused_in_one_line() {
        for text in ["a", "=1", "a=", "a=1:2", "a=0:1:0", "a=0:1:-1", "a=x", "a=0:nan:1", "a=0:inf:1", "a=0:1:1e-9"] {
            let error = text.parse::<Axis>().unwrap_err();
            assert!(!error.contains('\n') && error.contains(text), "{error}");
        }
    }

    #[test]
    fn points_are_all_combinations() {
        let axes = ["a=0,1".parse().unwrap(), "c=5,6".parse().unwrap()];
        let place = |name: &str| Ok::<_, ()>(if name == "a" { 0 } else { 2 });
        let all = points(&axes, &[9.0, 8.0, 7.0], place).unwrap();
        assert_eq!(all, [[0.0, 8.0, 5.0], [0.0, 8.0, 6.0], [1.0, 8.0, 5.0], [1.0, 8.0, 6.0]]);
    }
}
