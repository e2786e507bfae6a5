//! Scored responses as pictures: which tokens an ARM likes and which it does not, in the terminal, as HTML and as SVG.
//!
//! A token is coloured by how much more (or less) likely an ARM finds it than the base does: log π_ARM − log π_base, in
//! nats.

mod html;
mod svg;
mod terminal;

pub use html::{HtmlError, html};
pub use svg::svg;
pub use terminal::{Palette, legend, terminal};

use serde::Serialize;

use crate::guidance::score::Totals;

/// Everything that is shown.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Heatmap {
    /// What the responses answer or continue.
    pub prompt: String,
    /// The ARMs, in the order of all numbers.
    pub arms: Vec<ArmHead>,
    /// The responses: one, or two to be compared.
    pub responses: Vec<Response>,
}

/// An ARM.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ArmHead {
    /// Its name.
    pub name: String,
    /// The weight that guidance gives it.
    pub weight: f32,
    /// β_r of its training; 1 where nothing says it.
    pub beta_r: f64,
}

/// A scored response.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Response {
    /// What it is called.
    pub title: String,
    /// Its tokens.
    pub tokens: Vec<Cell>,
    /// Their sums.
    pub totals: Totals,
    /// Each ARM's reward: β_r · Σ log π.
    pub rewards: Vec<f64>,
}

/// A token.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cell {
    /// Its id.
    pub token: crate::Token,
    /// What it spells.
    pub text: String,
    /// log π of the base, in nats.
    pub base: f32,
    /// log p under guidance, in nats.
    pub guided: f32,
    /// log π of each ARM, in nats: the token's reward, but for β_r and a reference.
    pub arms: Vec<f32>,
    /// What each of them is compared with: log π of the ARM's reference, or of the base.
    pub against: Vec<f32>,
    /// KL(guided ‖ base) at this position, in nats.
    pub kl: f32,
    /// Whether guidance changes the likeliest token here.
    pub flipped: bool,
    /// The token that the base likes most here.
    pub base_best: String,
    /// The token that the guided distribution likes most here.
    pub guided_best: String,
}

impl Cell {
    /// How much more than the base, or its reference, an ARM likes the token, in nats.
    pub fn liking(&self, arm: usize) -> f32 {
        self.arms[arm] - self.against[arm]
    }
}

impl Heatmap {
    /// Of two responses, which one an ARM prefers: its index and by how much; `None` for another number of responses or
    /// a tie.
    pub fn preferred(&self, arm: usize) -> Option<(usize, f64)> {
        let [a, b] = &self.responses[..] else { return None };
        let margin = a.rewards[arm] - b.rewards[arm];
        if margin == 0.0 { None } else { Some((usize::from(margin < 0.0), margin.abs())) }
    }

    /// One line about two responses: which one an ARM prefers, by how much, and how sure that makes it.
    pub fn verdict(&self, arm: usize) -> Option<String> {
        let name = &self.arms[arm].name;
        let [a, b] = &self.responses[..] else { return None };
        let (index, margin) = match self.preferred(arm) {
            Some(preferred) => preferred,
            None => return Some(format!("{name} is indifferent")),
        };
        // A probability never rounds to certainty.
        let sure = (100.0 / (1.0 + (-margin).exp())).min(99.4);
        let (better, worse) = if index == 0 { (a, b) } else { (b, a) };
        Some(format!(
            "{name} prefers {} by {margin:.2}, reward {:.2} against {:.2}: {sure:.0} % sure",
            better.title, better.rewards[arm], worse.rewards[arm]
        ))
    }

    /// The most liked (or, with `least`, the most disliked) tokens of a response, at most `n`, strongest first.
    pub fn extremes(&self, response: usize, arm: usize, n: usize, least: bool) -> Vec<(&Cell, f32)> {
        let sign = if least { -1.0 } else { 1.0 };
        let cells = self.responses[response].tokens.iter().map(|cell| (cell, cell.liking(arm)));
        let mut cells: Vec<_> = cells.filter(|(_, liking)| liking * sign > 0.0).collect();
        cells.sort_by(|a, b| (b.1 * sign).total_cmp(&(a.1 * sign)));
        cells.truncate(n);
        cells
    }
}

/// The liking, in nats, at which colours end.
const SPAN: f32 = 3.0;

/// The background of a liking: red below 0, white at 0, blue above.
fn colour(liking: f32) -> [u8; 3] {
    const LIKED: [f32; 3] = [67.0, 147.0, 195.0];
    const DISLIKED: [f32; 3] = [239.0, 120.0, 90.0];
    let share = (liking.abs() / SPAN).min(1.0);
    let end = if liking < 0.0 { DISLIKED } else { LIKED };
    // Logits that are −∞ on both sides make a NaN, which casts to 0; white says "nothing known".
    if liking.is_nan() { [255; 3] } else { end.map(|channel| (255.0 + (channel - 255.0) * share) as u8) }
}

/// The text of a token with what cannot be seen made visible. Line breaks stay, after their sign.
fn visible(text: &str) -> String {
    let shown = |c: char| match c {
        '\n' => "⏎\n".to_owned(),
        '\t' => "⇥".to_owned(),
        c if c.is_control() => '\u{FFFD}'.to_string(),
        c => c.to_string(),
    };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests;
