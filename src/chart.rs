//! Drawing charts: one function that draws, as SVG text or as a PNG file.

use std::sync::Once;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

/// Anything that can go wrong while drawing, in words.
pub type ChartError = Box<dyn std::error::Error + Send + Sync>;

/// Draws on a canvas of any backend.
pub trait Draw {
    /// Draws everything.
    ///
    /// # Errors
    ///
    /// When the backend refuses.
    fn draw<B: DrawingBackend>(&self, canvas: &DrawingArea<B, Shift>) -> Result<(), ChartError>;
}

/// A backend's error, in words: its own type is the backend's.
pub fn owned(error: impl std::error::Error) -> ChartError {
    error.to_string().into()
}

/// The only font. Without a font system, plotters measures and, in a PNG, draws with what is registered.
fn fonts() {
    static FONTS: Once = Once::new();
    FONTS.call_once(|| {
        // A sound font is never refused.
        let _ = register_font("sans-serif", FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT);
    });
}

/// The chart as an SVG document of this size, in pixels.
///
/// # Errors
///
/// As [`Draw::draw`].
pub fn svg(chart: &impl Draw, size: (u32, u32)) -> Result<String, ChartError> {
    fonts();
    let mut out = String::new();
    {
        let canvas = SVGBackend::with_string(&mut out, size).into_drawing_area();
        canvas.fill(&WHITE)?;
        chart.draw(&canvas)?;
        canvas.present()?;
    }
    Ok(out)
}

/// Writes the chart as a PNG of this size, in pixels.
///
/// # Errors
///
/// As [`Draw::draw`], and when the file cannot be written.
#[cfg(feature = "eval")]
pub fn png(chart: &impl Draw, size: (u32, u32), path: &std::path::Path) -> Result<(), ChartError> {
    fonts();
    let canvas = BitMapBackend::new(path, size).into_drawing_area();
    canvas.fill(&WHITE)?;
    chart.draw(&canvas)?;
    canvas.present()?;
    Ok(())
}
