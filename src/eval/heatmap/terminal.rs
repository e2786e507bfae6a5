//! For the terminal, with colours or with signs in their place.

use std::fmt::Write as _;

use anstyle::{RgbColor, Style};

use super::{Cell, Heatmap, SPAN, colour, visible};

/// Shows every response under one ARM. Without colours, signs after a token say what the colours say.
pub fn terminal(map: &Heatmap, arm: usize, coloured: bool) -> String {
    let mut out = String::new();
    let head = &map.arms[arm];
    let _ = writeln!(out, "ARM {} (weight {}, β_r {})", head.name, head.weight, head.beta_r as f32);
    for (i, response) in map.responses.iter().enumerate() {
        let _ = writeln!(out, "\n{}:", response.title);
        let text: String = response.tokens.iter().map(|cell| token(cell, arm, coloured)).collect();
        let _ = writeln!(out, "{text}");
        let totals = &response.totals;
        let per_token = totals.arms[arm] / totals.n_tokens.max(1) as f64;
        let _ = writeln!(
            out,
            "  reward {:.3} (Σ log π {:.2}, {per_token:.2} a token; base {:.2}) · KL {:.2} nats · {} of {} tokens flipped",
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
pub fn legend(coloured: bool) -> String {
    if !coloured {
        return format!(
            "⁺ liked more than the base likes it, ⁺⁺ by {} nats or more; ⁻ ⁻⁻ less; * guidance changes the likeliest token",
            SPAN / 2.0
        );
    }
    let step = |liking: f32| format!("{style} {liking:+.0} {style:#}", style = style(liking));
    let steps: String = [-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0].map(step).concat();
    format!(
        "{steps} log π of the ARM less log π of the base, in nats; {u}underlined{u:#}: guidance changes the likeliest token",
        u = Style::new().underline()
    )
}

fn token(cell: &Cell, arm: usize, coloured: bool) -> String {
    let (text, liking) = (visible(&cell.text), cell.liking(arm));
    // A coloured line break would colour the rest of the line.
    let (text, rest) = text.strip_suffix('\n').map_or((text.as_str(), ""), |text| (text, "\n"));
    if !coloured {
        return format!("{text}{}{}{rest}", signs(liking), if cell.flipped { "*" } else { "" });
    }
    let style = if cell.flipped { style(liking).underline() } else { style(liking) };
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

fn style(liking: f32) -> Style {
    let [r, g, b] = colour(liking);
    Style::new().fg_color(Some(RgbColor(0, 0, 0).into())).bg_color(Some(RgbColor(r, g, b).into()))
}
