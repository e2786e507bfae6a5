//! What is measured on held-out pairs: a fixed grid of α, its corners and its middle.

use serde::{Deserialize, Serialize};

/// What was measured at one α.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// α, in the order of the objectives.
    pub preferences: Vec<f64>,
    /// Σ α_i · mean loss of objective i, over the objectives with held-out pairs.
    pub loss: f64,
    /// Of each objective the share of its pairs that are ranked rightly; `None` without pairs.
    pub accuracy: Vec<Option<f64>>,
}

/// What an ARM has learned of one objective.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ObjectiveAccuracy {
    /// Its name.
    pub name: String,
    /// Held-out accuracy where α is all on this objective.
    pub own_corner: Option<f64>,
    /// Where α is equal for all.
    pub middle: Option<f64>,
    /// Where α is all on another, as a mean: what a wrong α gives.
    pub other_corners: Option<f64>,
    /// At its own corner before the first update.
    pub start: Option<f64>,
}

/// The corners in the order of the objectives, then the middle.
pub(in crate::train) fn corners_and_middle(k: usize) -> Vec<Vec<f64>> {
    let corner = |i: usize| (0..k).map(|j| f64::from(u8::from(i == j))).collect();
    (0..k).map(corner).chain([vec![1.0 / k as f64; k]]).collect()
}

/// The accuracy of each objective, from what was measured at [`corners_and_middle`] at the end and at the start.
pub(in crate::train) fn accuracies(names: &[String], end: &[Point], start: &[Point]) -> Vec<ObjectiveAccuracy> {
    let at = |points: &[Point], point: usize, i: usize| points.get(point)?.accuracy.get(i).copied().flatten();
    let one = |(i, name): (usize, &String)| {
        let others: Vec<f64> = (0..names.len()).filter(|j| *j != i).filter_map(|j| at(end, j, i)).collect();
        ObjectiveAccuracy {
            name: name.clone(),
            own_corner: at(end, i, i),
            middle: at(end, names.len(), i),
            other_corners: (!others.is_empty()).then(|| others.iter().sum::<f64>() / others.len() as f64),
            start: at(start, i, i),
        }
    };
    names.iter().enumerate().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_objective_is_read_off_at_its_corner_at_the_middle_and_at_the_corners_of_the_others() {
        assert_eq!(corners_and_middle(2), [vec![1.0, 0.0], vec![0.0, 1.0], vec![0.5, 0.5]]);
        let point =
            |accuracy: [f64; 2]| Point { preferences: Vec::new(), loss: 0.0, accuracy: accuracy.map(Some).to_vec() };
        let end = [point([0.9, 0.2]), point([0.3, 0.8]), point([0.6, 0.7])];
        let names = ["kind".to_owned(), "short".to_owned()];
        let got = accuracies(&names, &end, &[]);
        let numbers = |a: &ObjectiveAccuracy| [a.own_corner, a.middle, a.other_corners, a.start];
        assert_eq!(numbers(&got[0]), [Some(0.9), Some(0.6), Some(0.3), None]);
        assert_eq!(numbers(&got[1]), [Some(0.8), Some(0.7), Some(0.2), None]);
    }
}
