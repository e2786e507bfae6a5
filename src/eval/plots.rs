//! The pictures of a sweep and of an accuracy table.

use std::path::Path;

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use super::accuracy::Reliability;
use super::sweep::{Front, Summary, values};
use crate::chart::{self, ChartError, Draw, owned};

const SIZE: (u32, u32) = (860, 560);
const GRID: RGBColor = RGBColor(150, 150, 150);
const FRONT: RGBColor = RGBColor(33, 102, 172);
const ALONE: [RGBColor; 4] =
    [RGBColor(27, 158, 119), RGBColor(217, 95, 2), RGBColor(117, 112, 179), RGBColor(166, 118, 29)];
const BASELINE: RGBColor = RGBColor(178, 24, 43);
const PROFILE: RGBColor = RGBColor(90, 60, 130);

type Plane<'a, B> = ChartContext<'a, B, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// Writes a chart as `NAME.svg` and `NAME.png`, each whole or not at all.
///
/// # Errors
///
/// When a file cannot be written.
pub fn write(chart: &impl Draw, stem: &Path) -> Result<(), ChartError> {
    if let Some(folder) = stem.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let folder = stem.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let temporary = tempfile::tempdir_in(folder)?;
    let (svg, png) = (temporary.path().join("chart.svg"), temporary.path().join("chart.png"));
    std::fs::write(&svg, chart::svg(chart, SIZE)?)?;
    chart::png(chart, SIZE, &png)?;
    std::fs::rename(svg, crate::files::appended(stem, ".svg"))?;
    std::fs::rename(png, crate::files::appended(stem, ".png"))?;
    Ok(())
}

/// What both charts of a sweep need.
pub struct SweepPlot<'a> {
    /// All points.
    pub summaries: &'a [Summary],
    /// The front, whose first two objectives are drawn.
    pub front: &'a Front,
    /// The ARMs, in the order of the weights.
    pub arms: &'a [String],
}

impl SweepPlot<'_> {
    /// The base, and points at which only this ARM has a weight, by growing weight.
    fn alone(&self, arm: usize) -> Vec<&Summary> {
        let only = |s: &&Summary| {
            let strategy = &s.point.strategy;
            strategy.best_of.is_none()
                && s.point.label.is_none()
                && (0..strategy.weights.len()).all(|i| i == arm || strategy.weights[i] == 0.0)
        };
        let mut points: Vec<_> = self.summaries.iter().filter(only).collect();
        points.sort_by(|a, b| a.point.strategy.weights[arm].total_cmp(&b.point.strategy.weights[arm]));
        points
    }

    fn grid(&self) -> impl Iterator<Item = &Summary> {
        self.summaries.iter().filter(|s| s.point.label.is_none())
    }

    fn labelled(&self) -> impl Iterator<Item = (&Summary, &str)> {
        self.summaries.iter().filter_map(|s| Some((s, s.point.label.as_deref()?)))
    }

    /// Marks of everything with a name: the base, profiles and baselines.
    fn marks<B: DrawingBackend>(
        &self,
        plane: &mut Plane<'_, B>,
        place: &dyn Fn(&Summary) -> (f64, f64),
    ) -> Result<(), ChartError> {
        let base = self.grid().find(|s| s.point.strategy.is_base()).map(|s| (s, "base"));
        let mut taken = Vec::new();
        for (summary, label) in base.into_iter().chain(self.labelled()) {
            let at = place(summary);
            let right_end = plane.plotting_area().get_pixel_range().0.end;
            let place = beside(&mut taken, plane.backend_coord(&at), right_end, label);
            let text = Text::new(label.to_owned(), place, ("sans-serif", 14).into_font());
            let mark = EmptyElement::at(at);
            let drawn = if summary.point.label.is_none() {
                let mark = mark + Rectangle::new([(-5, -5), (5, 5)], BLACK.filled()) + text;
                plane.draw_series(std::iter::once(mark)).map(drop)
            } else if summary.point.strategy.best_of.is_some() {
                let mark = mark + Cross::new((0, 0), 6, BASELINE.stroke_width(2)) + text;
                plane.draw_series(std::iter::once(mark)).map(drop)
            } else {
                let mark = mark + TriangleMarker::new((0, 0), 7, PROFILE.filled()) + text;
                plane.draw_series(std::iter::once(mark)).map(drop)
            };
            drawn.map_err(owned)?;
        }
        Ok(())
    }

    /// The line of each ARM that is alone somewhere, with its name in the legend.
    fn lines<B: DrawingBackend>(
        &self,
        plane: &mut Plane<'_, B>,
        place: &dyn Fn(&Summary) -> (f64, f64),
    ) -> Result<(), ChartError> {
        for (arm, name) in self.arms.iter().enumerate() {
            let points: Vec<_> = self.alone(arm).into_iter().map(place).collect();
            if points.len() < 2 {
                continue;
            }
            let colour = ALONE[arm % ALONE.len()];
            plane
                .draw_series(LineSeries::new(points, colour.stroke_width(2)).point_size(3))
                .map_err(owned)?
                .label(format!("{name} alone"))
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        }
        Ok(())
    }
}

/// Two rewards against each other.
pub struct FrontChart<'a>(pub SweepPlot<'a>);

impl Draw for FrontChart<'_> {
    fn draw<B: DrawingBackend>(&self, canvas: &DrawingArea<B, Shift>) -> Result<(), ChartError> {
        let plot = &self.0;
        let place = |s: &Summary| {
            let v = values(s, &plot.front.objectives);
            (v[0], v[1])
        };
        let (x, y) = ranges(plot.summaries.iter().map(place));
        let objectives = &plot.front.objectives;
        let caption = format!("Mean rewards: {} and {}", objectives[0], objectives[1]);
        let mut plane = plane(canvas, &caption, (x, y), (&objectives[0], &objectives[1]))?;
        plane.draw_series(plot.grid().map(|s| Circle::new(place(s), 4, GRID.filled()))).map_err(owned)?;
        plot.lines(&mut plane, &place)?;
        let mut front: Vec<_> = plot.front.points.iter().map(|i| place(&plot.summaries[*i])).collect();
        front.sort_by(|a, b| a.0.total_cmp(&b.0));
        plane
            .draw_series(LineSeries::new(front, FRONT.stroke_width(3)).point_size(5))
            .map_err(owned)?
            .label("Pareto front")
            .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], FRONT.stroke_width(3)));
        if let Some(best) = plot.front.recommended {
            let ring = std::iter::once(Circle::new(place(&plot.summaries[best]), 10, BLACK.stroke_width(2)));
            plane
                .draw_series(ring)
                .map_err(owned)?
                .label("recommended")
                .legend(|(x, y)| Circle::new((x + 9, y), 6, BLACK.stroke_width(2)));
        }
        plot.marks(&mut plane, &place)?;
        labels(&mut plane)
    }
}

/// Each objective against the divergence from the base, side by side.
pub struct KlChart<'a>(pub SweepPlot<'a>);

impl Draw for KlChart<'_> {
    fn draw<B: DrawingBackend>(&self, canvas: &DrawingArea<B, Shift>) -> Result<(), ChartError> {
        let plot = &self.0;
        let n = plot.front.objectives.len().min(2);
        for (area, i) in canvas.split_evenly((1, n)).iter().zip(0..n) {
            let name = &plot.front.objectives[i];
            let place = |s: &Summary| (s.kl.mean, values(s, &plot.front.objectives)[i]);
            let ranges = ranges(plot.summaries.iter().map(place));
            let mut plane = plane(area, &format!("{name} against divergence"), ranges, ("KL to the base, nats", name))?;
            plane.draw_series(plot.grid().map(|s| Circle::new(place(s), 4, GRID.filled()))).map_err(owned)?;
            plot.lines(&mut plane, &place)?;
            plot.marks(&mut plane, &place)?;
            labels(&mut plane)?;
        }
        Ok(())
    }
}

/// Confidence against accuracy, a line a model.
pub struct ReliabilityChart<'a>(pub &'a [(String, Reliability)]);

impl Draw for ReliabilityChart<'_> {
    fn draw<B: DrawingBackend>(&self, canvas: &DrawingArea<B, Shift>) -> Result<(), ChartError> {
        let names = ("confidence of the model, σ(β_r · |margin|)", "share of pairs ranked rightly");
        let mut plane = plane(canvas, "Reliability (bars: 95 % intervals)", ((0.5, 1.0), (0.0, 1.0)), names)?;
        plane.draw_series(LineSeries::new([(0.5, 0.5), (1.0, 1.0)], GRID)).map_err(owned)?;
        for (i, (name, reliability)) in self.0.iter().enumerate() {
            let colour = ALONE[i % ALONE.len()];
            let bars = reliability.bins.iter().map(|bin| {
                PathElement::new([(bin.confidence, bin.accuracy.low), (bin.confidence, bin.accuracy.high)], colour)
            });
            plane.draw_series(bars).map_err(owned)?;
            let points = reliability.bins.iter().map(|bin| (bin.confidence, bin.accuracy.share));
            plane
                .draw_series(LineSeries::new(points, colour.stroke_width(2)).point_size(4))
                .map_err(owned)?
                .label(name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        }
        labels(&mut plane)
    }
}

/// Where a label stands beside its mark, in pixels: within the chart, and on none of those that are there.
fn beside(taken: &mut Vec<(i32, i32, i32)>, (x, y): (i32, i32), right_end: i32, label: &str) -> (i32, i32) {
    // More than the font takes, which is not known here.
    let width = 8 * i32::try_from(label.chars().count()).unwrap_or(0);
    let dx = if x + 9 + width > right_end { -9 - width } else { 9 };
    let (left, right) = (x + dx, x + dx + width);
    let covers = |top: i32| taken.iter().any(|(l, r, other)| left < *r && *l < right && (top - other).abs() < 14);
    let dy = (0..12).map(|line| line * 14 - 7).find(|dy| !covers(y + dy)).unwrap_or(-7);
    taken.push((left, right, y + dy));
    (dx, dy)
}

type Range = (f64, f64);

fn plane<'a, B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    caption: &str,
    (x, y): (Range, Range),
    (x_name, y_name): (&str, &str),
) -> Result<Plane<'a, B>, ChartError> {
    let mut builder = ChartBuilder::on(area);
    builder.margin(12).caption(caption, ("sans-serif", 19)).x_label_area_size(44).y_label_area_size(58);
    let mut plane = builder.build_cartesian_2d(x.0..x.1, y.0..y.1).map_err(owned)?;
    plane
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(RGBColor(225, 225, 225))
        .label_style(("sans-serif", 14))
        .axis_desc_style(("sans-serif", 15))
        .x_desc(x_name)
        .y_desc(y_name)
        .draw()
        .map_err(owned)?;
    Ok(plane)
}

fn labels<'a, B: DrawingBackend + 'a>(plane: &mut Plane<'a, B>) -> Result<(), ChartError> {
    plane
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.85))
        .border_style(RGBColor(200, 200, 200))
        .label_font(("sans-serif", 14))
        .draw()
        .map_err(owned)
}

/// What the points span, with some air: room to the right for labels, and above for the legend.
fn ranges(points: impl Iterator<Item = (f64, f64)>) -> (Range, Range) {
    let (mut x, mut y) = ((f64::INFINITY, f64::NEG_INFINITY), (f64::INFINITY, f64::NEG_INFINITY));
    for (a, b) in points.filter(|(a, b)| a.is_finite() && b.is_finite()) {
        x = (x.0.min(a), x.1.max(a));
        y = (y.0.min(b), y.1.max(b));
    }
    let air = |(low, high): Range, left: f64, right: f64| match high - low {
        span if span > 0.0 => (low - span * left, high + span * right),
        _ if low.is_finite() => (low - 1.0, low + 1.0),
        _ => (0.0, 1.0),
    };
    (air(x, 0.06, 0.18), air(y, 0.08, 0.3))
}
