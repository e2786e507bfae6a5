//! Losses and accuracies, without training.

use super::Run;
use crate::train::TrainError;
use crate::train::backbone::Packed;
use crate::train::objective::Objective;
use crate::train::pairs::Example;
use crate::train::parm::{self, Mixture, Point};
use crate::train::report::Record;
use crate::train::totals::{Judge, Totals, pack};
use std::sync::atomic::Ordering;

/// What was measured on the held-out examples; nothing without any, and after Ctrl-C.
#[derive(Default)]
pub(super) struct HeldOut {
    pub loss: Option<f64>,
    pub accuracy: Option<f64>,
    /// Of a preference-conditioned ARM; the above are means over it.
    pub grid: Vec<Point>,
}

impl HeldOut {
    /// A line of the log with what was measured.
    pub fn record(self, record: Record) -> Record {
        Record { held_out_loss: self.loss, held_out_accuracy: self.accuracy, held_out_grid: self.grid, ..record }
    }
}

impl Run<'_> {
    /// How the examples of a pass are judged: by the objective, or by several with these weights.
    pub(super) fn judge<'b>(
        &'b self,
        examples: &[&'b Example],
        packed: &Packed,
        weights: Option<Vec<f64>>,
    ) -> Result<Judge<'b>, TrainError> {
        let objective = self.settings.objective;
        let reference = match objective {
            Objective::Dpo { .. } => Some(self.reference.logprobs(packed)?.to_vec1()?),
            _ => None,
        };
        let mixture = self.settings.parm.as_ref().zip(weights).map(|(parm, weights)| Mixture {
            losses: &parm.losses,
            weights,
            signs: examples.iter().map(|example| example.signs.as_slice()).collect(),
        });
        Ok(Judge { objective, reference, mixture })
    }

    /// Loss and accuracy on the held-out examples; of none after Ctrl-C, which must not wait for them.
    pub(super) fn evaluate(&self) -> Result<HeldOut, TrainError> {
        let Some(parm) = &self.settings.parm else {
            let totals = self.measure(&self.held_out, None)?;
            let accuracy = totals.iter().find_map(|totals| totals.accuracy(self.settings.objective));
            return Ok(HeldOut { loss: totals.iter().find_map(Totals::loss), accuracy, grid: Vec::new() });
        };
        let mut grid = Vec::new();
        for preferences in parm::corners_and_middle(parm.names.len()) {
            let totals = self.measure(&self.held_out, Some(&preferences))?;
            if totals.iter().all(|totals| totals.weight == 0.0) {
                return Ok(HeldOut::default());
            }
            let losses = totals.iter().zip(&preferences).filter_map(|(totals, alpha)| Some(alpha * totals.loss()?));
            let accuracy = totals.iter().map(|totals| totals.accuracy(self.settings.objective)).collect();
            grid.push(Point { loss: losses.sum(), accuracy, preferences });
        }
        let own: Vec<f64> = (0..parm.names.len()).filter_map(|i| grid[i].accuracy[i]).collect();
        Ok(HeldOut {
            loss: Some(grid.iter().map(|point| point.loss).sum::<f64>() / grid.len() as f64),
            accuracy: Some(own.iter().sum::<f64>() / own.len() as f64),
            grid,
        })
    }

    /// The sums over some examples, of each objective, where a preference-conditioned ARM reads `preferences` (by
    /// default, equal ones).
    pub(super) fn measure(&self, examples: &[Example], preferences: Option<&[f64]>) -> Result<Vec<Totals>, TrainError> {
        let k = self.settings.parm.as_ref().map_or(1, |parm| parm.names.len());
        let mut totals = vec![Totals::default(); k];
        let mut sorted: Vec<&Example> = examples.iter().collect();
        sorted.sort_by_key(|e| e.n_tokens());
        let mut still = self.backbone.clone();
        still.set_dropout_seed(None);
        if let Some(preferences) = preferences {
            still.set_preferences(preferences);
        }
        for micro in sorted.chunks(self.settings.micro_batch) {
            if examples.len() > 1 && self.stop.load(Ordering::Relaxed) {
                return Ok(vec![Totals::default(); k]);
            }
            let packed = pack(micro.iter().copied());
            let values = still.logprobs(&packed)?.detach().to_vec1::<f32>()?;
            for (i, totals) in totals.iter_mut().enumerate() {
                let alone = (0..k).map(|j| f64::from(u8::from(i == j))).collect();
                totals.add(&self.judge(micro, &packed, Some(alone))?, &packed, &values, 1.0);
            }
        }
        Ok(totals)
    }
}
