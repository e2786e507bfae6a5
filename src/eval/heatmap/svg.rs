//! As an SVG picture, for documents.

use std::fmt::Write as _;

use super::{Heatmap, SPAN, colour, visible};

/// Columns of a line, in characters.
const COLUMNS: usize = 84;
/// Width of a character, in pixels: forced upon every viewer's monospaced font by `textLength`.
const CHAR: f64 = 8.4;
/// Height of a line, in pixels.
const LINE: f64 = 24.0;
const MARGIN: f64 = 16.0;

/// The responses under one ARM, one below the other.
pub fn svg(map: &Heatmap, arm: usize) -> String {
    let mut body = String::new();
    let mut y = MARGIN + LINE;
    let head = &map.arms[arm];
    text(
        &mut body,
        0,
        y,
        "b",
        &format!("ARM \"{}\": which tokens it likes more (blue) or less (red) than the base", head.name),
    );
    y += LINE;
    for line in wrap(&map.prompt) {
        text(&mut body, 0, y, "p", &line);
        y += LINE;
    }
    for response in &map.responses {
        y += LINE / 2.0;
        text(
            &mut body,
            0,
            y,
            "b",
            &format!("{}: reward {:.2}, KL {:.2} nats", response.title, response.rewards[arm], response.totals.kl),
        );
        y = cells(&mut body, y + LINE, response, arm);
    }
    if let Some(verdict) = map.verdict(arm) {
        y += LINE / 2.0;
        text(&mut body, 0, y, "b", &verdict);
        y += LINE;
    }
    legend(&mut body, y);
    let (width, height) = (COLUMNS as f64 * CHAR + 2.0 * MARGIN, y + LINE + MARGIN / 2.0);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">\
         <style>text{{font:14px ui-monospace,'DejaVu Sans Mono',Consolas,monospace;white-space:pre;fill:#222}}.b{{font-weight:600}}.p{{fill:#666}}</style>\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n{body}</svg>\n"
    )
}

/// The tokens as coloured boxes, from line `y` on; returns the line below them.
fn cells(body: &mut String, mut y: f64, response: &super::Response, arm: usize) -> f64 {
    let mut column = 0;
    for cell in &response.tokens {
        let shown = visible(&cell.text);
        for (i, part) in shown.split('\n').enumerate() {
            let n = part.chars().count();
            if i > 0 || (column + n > COLUMNS && column > 0) {
                (column, y) = (0, y + LINE);
            }
            if n == 0 {
                continue;
            }
            let ([r, g, b], x) = (colour(cell.liking(arm)), MARGIN + column as f64 * CHAR);
            let (top, width) = (y - 16.0, n as f64 * CHAR);
            let _ = write!(
                body,
                "<rect x=\"{x:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"20\" fill=\"rgb({r},{g},{b})\"/>"
            );
            if cell.flipped {
                let _ = write!(
                    body,
                    "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"2\" fill=\"#333\"/>",
                    y + 4.0
                );
            }
            text(body, column, y, "t", part);
            column += n;
        }
    }
    y + LINE
}

fn legend(body: &mut String, y: f64) {
    for step in -3..=3 {
        let [r, g, b] = colour(step as f32 * SPAN / 3.0);
        let x = MARGIN + f64::from(step + 3) * 28.0;
        let _ = write!(
            body,
            "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"28\" height=\"18\" fill=\"rgb({r},{g},{b})\"/>",
            y - 14.0
        );
        let _ = writeln!(body, "<text x=\"{:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{step:+}</text>", x + 14.0);
    }
    text(body, 25, y, "p", "nats; underlined: guidance changes the likeliest token");
}

fn text(body: &mut String, column: usize, y: f64, class: &str, text: &str) {
    let (x, width) = (MARGIN + column as f64 * CHAR, text.chars().count() as f64 * CHAR);
    let _ = writeln!(
        body,
        "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" textLength=\"{width:.1}\" lengthAdjust=\"spacingAndGlyphs\" \
         xml:space=\"preserve\">{}</text>",
        escape(text)
    );
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Lines of at most [`COLUMNS`] characters, broken anywhere.
fn wrap(text: &str) -> Vec<String> {
    let lines = text.lines().flat_map(|line| {
        let chars: Vec<char> = visible(line).chars().collect();
        chars.chunks(COLUMNS).map(|chunk| chunk.iter().collect::<String>()).collect::<Vec<_>>()
    });
    lines.collect()
}
