//! For the terminal, with colours or with signs in their place.

use std::fmt::Write as _;

use anstyle::{Ansi256Color, AnsiColor, Color, RgbColor, Style};

use super::{Cell, Heatmap, SPAN, colour, visible};

/// The colours that a terminal can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Palette {
    /// None: signs take their place.
    None,
    /// The console of Linux and others of its age: text attributes and signs, no backgrounds of our own.
    Basic,
    /// A table of 256.
    Table,
    /// All of them.
    Full,
}

impl Palette {
    /// By the variables TERM and COLORTERM.
    pub fn of(term: &str, colorterm: &str) -> Self {
        match (term, colorterm) {
            ("dumb" | "", _) => Self::None,
            (_, "truecolor" | "24bit") => Self::Full,
            (term, _) if term.contains("direct") || term.contains("truecolor") => Self::Full,
            (term, _) if term.contains("256color") => Self::Table,
            _ => Self::Basic,
        }
    }

    /// Whether the likings are shown as backgrounds.
    fn paints(self) -> bool {
        matches!(self, Self::Table | Self::Full)
    }
}

/// Shows every response under one ARM. Without colours, signs after a token say what the colours say.
pub fn terminal(map: &Heatmap, arm: usize, palette: Palette) -> String {
    let mut out = String::new();
    let head = &map.arms[arm];
    let _ = writeln!(out, "ARM {} (weight {}, β_r {})", head.name, head.weight, head.beta_r as f32);
    for (i, response) in map.responses.iter().enumerate() {
        let _ = writeln!(out, "\n{}:", response.title);
        let text: String = response.tokens.iter().map(|cell| token(cell, arm, palette)).collect();
        let _ = writeln!(out, "{text}");
        let totals = &response.totals;
        let per_token = totals.arms[arm] / totals.n_tokens.max(1) as f64;
        let _ = writeln!(
            out,
            "  reward {:.3} (Σ log π {:.2}, {per_token:.2} per token; base {:.2}) · KL {:.2} nats · {} of {} tokens flipped",
            response.rewards[arm], totals.arms[arm], totals.base, totals.kl, totals.n_flipped, totals.n_tokens
        );
        for (what, least) in [("likes", false), ("dislikes", true)] {
            let cells = map.extremes(i, arm, 5, least);
            let list: Vec<_> = cells.iter().map(|(c, liking)| format!("{:?} {liking:+.1}", c.text.trim())).collect();
            let _ =
                writeln!(out, "  {what:<8} {}", if list.is_empty() { "nothing".to_owned() } else { list.join(", ") });
        }
    }
    if let Some(verdict) = map.verdict(arm) {
        let _ = writeln!(out, "\n{verdict}");
    }
    out
}

/// What the signs or colours mean, in one line.
pub fn legend(palette: Palette) -> String {
    if !palette.paints() {
        return format!(
            "⁺ likelier than under the base (or the ARM's reference), ⁺⁺ by {} nats or more; ⁻ ⁻⁻ less likely; * guidance changes the likeliest token",
            SPAN / 2.0
        );
    }
    let step = |liking: f32| format!("{style} {liking:+.0} {style:#}", style = style(liking, palette));
    let steps: String = [-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0].map(step).concat();
    format!(
        "{steps} log π of the ARM less log π of the base (or of its reference), in nats; {u}underlined{u:#}: guidance changes the likeliest token",
        u = Style::new().underline()
    )
}

fn token(cell: &Cell, arm: usize, palette: Palette) -> String {
    let (text, liking) = (visible(&cell.text), cell.liking(arm));
    // A coloured line break would colour the rest of the line.
    let (text, rest) = text.strip_suffix('\n').map_or((text.as_str(), ""), |text| (text, "\n"));
    if !palette.paints() {
        return format!("{text}{}{}{rest}", signs(liking), if cell.flipped { "*" } else { "" });
    }
    let style = style(liking, palette);
    let style = if cell.flipped { style.underline() } else { style };
    format!("{style}{text}{style:#}{rest}")
}

fn signs(liking: f32) -> &'static str {
    match liking {
        x if x >= SPAN / 2.0 => "⁺⁺",
        x if x >= SPAN / 6.0 => "⁺",
        x if x <= -SPAN / 2.0 => "⁻⁻",
        x if x <= -SPAN / 6.0 => "⁻",
        _ => "",
    }
}

fn style(liking: f32, palette: Palette) -> Style {
    let [r, g, b] = colour(liking);
    let background: Color = match palette {
        Palette::Full => RgbColor(r, g, b).into(),
        // The cube of 6 × 6 × 6 colours begins at 16; its steps are 0, 95, 135, … 255.
        _ => {
            let step = |x: u8| if x < 48 { 0 } else { (x.max(75) - 35) / 40 };
            Ansi256Color(16 + 36 * step(r) + 6 * step(g) + step(b)).into()
        }
    };
    Style::new().fg_color(Some(AnsiColor::Black.into())).bg_color(Some(background))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminals_get_the_colours_that_they_can_show() {
        for (term, colorterm, expected) in [
            ("dumb", "", Palette::None),
            ("dumb", "truecolor", Palette::None),
            ("", "", Palette::None),
            ("linux", "", Palette::Basic),
            ("vt100", "", Palette::Basic),
            ("xterm-256color", "", Palette::Table),
            ("screen-256color", "", Palette::Table),
            ("xterm-256color", "truecolor", Palette::Full),
            ("xterm-direct", "", Palette::Full),
        ] {
            assert_eq!(Palette::of(term, colorterm), expected, "{term} {colorterm}");
        }
        for palette in [Palette::None, Palette::Basic, Palette::Table] {
            assert!(!legend(palette).contains("48;2;"), "no 24-bit colour: {palette:?}");
        }
        assert!(legend(Palette::Table).contains("48;5;") && legend(Palette::Full).contains("48;2;"));
    }
}
