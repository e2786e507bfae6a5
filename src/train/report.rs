//! What a run shows: a progress bar, a JSONL log and, at the end, the same as CSV and as an SVG of the curves.

use super::TrainError;
use super::outputs::Outputs;
use super::parm::Point;
use crate::chart::{self, ChartError, Draw, owned};
use indicatif::{ProgressBar, ProgressStyle};
use plotters::coord::Shift;
use plotters::prelude::*;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;

/// One line of the log: the means over the examples of one update. Line 0 has what was measured before the first one.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Record {
    /// Updates done.
    pub step: usize,
    /// Loss, in nats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// Share of pairs whose chosen response is preferred; absent for sft.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// Mean margin; absent for sft.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub margin: Option<f64>,
    /// Learning rate of the update.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lr: Option<f64>,
    /// Norm of the gradients before clipping.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grad_norm: Option<f64>,
    /// Tokens read per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_s: Option<f64>,
    /// Loss on the held-out examples, at steps where it was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_out_loss: Option<f64>,
    /// Accuracy on the held-out pairs, at steps where it was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_out_accuracy: Option<f64>,
    /// Of a preference-conditioned ARM, loss and accuracies at the corners of α and in its middle.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held_out_grid: Vec<Point>,
}

/// Where a run reports to.
#[derive(Debug)]
pub struct TrainingReport {
    bar: ProgressBar,
    log: File,
    path: PathBuf,
    curves: PathBuf,
    csv: PathBuf,
    records: Vec<Record>,
}

impl TrainingReport {
    /// Opens the log of a run. A resumed one keeps the lines up to `done` steps.
    ///
    /// # Errors
    ///
    /// [`TrainError::Io`] when the log cannot be written.
    pub fn start(files: &Outputs, done: usize, total: usize) -> Result<Self, TrainError> {
        let path = files.log.clone();
        let old = if done > 0 { std::fs::read_to_string(&path).unwrap_or_default() } else { String::new() };
        let records: Vec<Record> =
            old.lines().filter_map(|l| serde_json::from_str::<Record>(l).ok()).filter(|r| r.step <= done).collect();
        super::write_atomically(&path, |temporary| {
            let lines: Vec<String> = records.iter().filter_map(|r| serde_json::to_string(r).ok()).collect();
            let text = lines.into_iter().map(|l| l + "\n").collect::<String>();
            std::fs::write(temporary, text).map_err(TrainError::io(temporary))
        })?;
        let log = OpenOptions::new().append(true).open(&path).map_err(TrainError::io(&path))?;
        let bar = ProgressBar::new(total as u64).with_position(done as u64);
        let style = ProgressStyle::with_template("{bar:24} {pos}/{len} {msg} · {eta} left");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.reset_eta();
        Ok(Self { bar, log, path, curves: files.curves.clone(), csv: files.csv.clone(), records })
    }

    /// Shows and logs one update.
    ///
    /// # Errors
    ///
    /// [`TrainError::Io`] when the log cannot be written.
    pub fn record(&mut self, record: Record) -> Result<(), TrainError> {
        let line = serde_json::to_string(&record).unwrap_or_default();
        writeln!(self.log, "{line}").map_err(TrainError::io(&self.path))?;
        let mut message = record.loss.map(|loss| format!("loss {loss:.4}")).unwrap_or_default();
        if let (Some(accuracy), Some(margin)) = (record.accuracy, record.margin) {
            message += &format!(" · accuracy {:.0} % · margin {margin:.3}", accuracy * 100.0);
        }
        let held_out = self.records.iter().chain([&record]).rev().find_map(|r| r.held_out_accuracy.or(r.held_out_loss));
        if let Some(value) = held_out {
            message += &format!(" · held-out {value:.3}");
        }
        if let Some(tokens_per_s) = record.tokens_per_s {
            message += &format!(" · {tokens_per_s:.0} tokens/s");
        }
        self.bar.set_message(message);
        self.bar.set_position(record.step as u64);
        self.records.push(record);
        Ok(())
    }

    /// What was measured before the first update, of this run or of the one that it goes on from.
    pub fn start_record(&self) -> Option<&Record> {
        self.records.iter().find(|record| record.step == 0)
    }

    /// Removes the bar, and writes and draws loss and accuracy over the steps.
    ///
    /// # Errors
    ///
    /// [`TrainError::Io`] when the drawing cannot be written.
    pub fn finish(self) -> Result<(), TrainError> {
        self.bar.finish_and_clear();
        let csv = csv(&self.records);
        super::write_atomically(&self.csv, |t| std::fs::write(t, csv).map_err(TrainError::io(t)))?;
        let drawn = chart::svg(&Curves(&self.records), (900, 600))
            .map_err(|e| TrainError::Setting(format!("the curves cannot be drawn: {e}")))?;
        super::write_atomically(&self.curves, |t| std::fs::write(t, drawn).map_err(TrainError::io(t)))
    }
}

/// The log as a table, for spreadsheets.
fn csv(records: &[Record]) -> String {
    let mut out = "step,loss,accuracy,margin,lr,grad_norm,tokens_per_s,held_out_loss,held_out_accuracy\n".to_owned();
    for r in records {
        let numbers =
            [r.loss, r.accuracy, r.margin, r.lr, r.grad_norm, r.tokens_per_s, r.held_out_loss, r.held_out_accuracy];
        let cells: String = numbers.iter().map(|x| x.map_or_else(|| ",".to_owned(), |x| format!(",{x}"))).collect();
        out += &format!("{}{cells}\n", r.step);
    }
    out
}

/// Loss above, accuracy below.
struct Curves<'a>(&'a [Record]);

impl Draw for Curves<'_> {
    fn draw<B: DrawingBackend>(&self, canvas: &DrawingArea<B, Shift>) -> Result<(), ChartError> {
        let (upper, lower) = canvas.split_vertically(320);
        let last = self.0.last().map_or(1, |r| r.step).max(2);
        let curve = |f: &dyn Fn(&Record) -> Option<f64>| -> Vec<(usize, f64)> {
            self.0.iter().filter_map(|r| Some((r.step, f(r).filter(|v| v.is_finite())?))).collect()
        };
        let loss = curve(&|r| r.loss);
        let top = loss.iter().map(|p| p.1).fold(0.0, f64::max).max(1e-3);
        let curves = [
            (&upper, "loss (thick: held-out)", top, loss, curve(&|r| r.held_out_loss)),
            (&lower, "pair accuracy (thick: held-out)", 1.0, curve(&|r| r.accuracy), curve(&|r| r.held_out_accuracy)),
        ];
        for (area, title, top, train, held_out) in curves {
            let mut builder = ChartBuilder::on(area);
            builder.margin(10).caption(title, ("sans-serif", 16)).x_label_area_size(24).y_label_area_size(48);
            let mut chart = builder.build_cartesian_2d(0..last, 0.0..top).map_err(owned)?;
            chart.configure_mesh().light_line_style(WHITE).draw().map_err(owned)?;
            chart.draw_series(LineSeries::new(train, BLUE)).map_err(owned)?;
            chart.draw_series(LineSeries::new(held_out, RED.stroke_width(3))).map_err(owned)?;
        }
        Ok(())
    }
}
