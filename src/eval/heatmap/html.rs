//! As one HTML file that needs nothing else: numbers under the mouse, a switch between ARMs.

use minijinja::value::Serde;
use minijinja::{Environment, context};

use super::{Heatmap, SPAN, colour, visible};

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
#[error("the page cannot be made: {0}")]
pub struct HtmlError(#[from] minijinja::Error);

/// The page. Whatever prompt, responses and names hold is text in it, never markup; `about` (the run's particulars)
/// stands at its end.
///
/// # Errors
///
/// [`HtmlError`].
pub fn html(map: &Heatmap, about: &serde_json::Value) -> Result<String, HtmlError> {
    let mut env = Environment::new();
    // The name's ending turns on the escaping of everything that is put in.
    env.add_template("page.html", include_str!("page.html"))?;
    env.add_filter("visible", |text: &str| visible(text));
    env.add_filter("colour", |liking: f64| {
        let [r, g, b] = colour(liking as f32);
        format!("rgb({r},{g},{b})")
    });
    env.add_filter("fixed", |number: f64, digits: usize| format!("{number:.digits$}"));
    let verdicts: Vec<_> = (0..map.arms.len()).map(|arm| map.verdict(arm).unwrap_or_default()).collect();
    let about = serde_json::to_string_pretty(about).unwrap_or_default();
    let page = env.get_template("page.html")?;
    Ok(page.render(
        context! { map => Serde(map), verdicts, about, span => f64::from(SPAN), version => env!("CARGO_PKG_VERSION") },
    )?)
}
