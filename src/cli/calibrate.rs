//! `genarm calibrate`

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Serialize;
use serde_json::json;

use super::load::{ConfigArgs, catch_interrupts, open, progress};
use super::measure::{need_arms, read_prompt, read_prompts, table};
use super::output::print;
use super::{Usage, weights};
use crate::config::{Config, Speculate, set_ranges};
use crate::decode::Flow;
use crate::guidance::score::{ScoredPrompts, divergences};
use crate::sampling::params::SamplingParams;
use crate::session::Session;

/// Find the weights between which each ARM steers without breaking the text
///
/// The base writes a few texts. At their positions the distance between guided and base distribution, KL in nats summed
/// over a text, is computed for many weights of each ARM alone. As a rule an ARM is felt from 1 nat on, clear at 5, and
/// breaks texts beyond 20. --write keeps the weights at 20 nats as the ARM's `range:`, where sliders end.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Prompts, one per line [default: eight built-in ones]
    #[arg(long, value_name = "FILE")]
    prompts: Option<PathBuf>,
    /// Tokens per text
    #[arg(long, short, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=512))]
    n_predict: u32,
    /// Put each prompt to the models as a user's message, through their chat templates
    #[arg(long)]
    chat: bool,
    /// Write each `range:` into the configuration's file
    #[arg(long)]
    write: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

/// What is asked where no prompts are given.
const PROMPTS: [&str; 8] = [
    "Once upon a time",
    "How was your day?",
    "Tell me about the sea.",
    "What should I cook tonight?",
    "I failed my exam today.",
    "Explain how rain forms.",
    "My neighbour is too loud.",
    "Write a few lines about autumn.",
];
/// Nats per text.
const LEVELS: [f64; 3] = [1.0, 5.0, 20.0];
/// The largest weight that is tried; the smallest is 2⁻⁴.
const MOST: f32 = 16.0;

/// The weights at which an ARM reaches each level.
#[derive(Debug, Serialize)]
struct Calibration {
    arm: String,
    /// In the order of the levels, steering away and towards; `None` where no weight up to 16 does.
    reached: Vec<[Option<f32>; 2]>,
    range: [f32; 2],
}

/// Measures, prints, and writes.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let config = args.config.resolve()?;
    need_arms(&config)?;
    let file = match (&args.config.config, args.write) {
        (None, true) => return Err(Usage("--write needs --config FILE, whose ARMs get a range".into()).into()),
        (file, _) => file.as_deref().filter(|_| args.write),
    };
    // What cannot be written is found out before the work.
    if let Some(file) = file {
        let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let all: Vec<_> = config.arms.iter().map(|arm| (arm.name.clone(), [-1.0, 1.0])).collect();
        set_ranges(&text, file, &all).context("--write")?;
    }
    catch_interrupts()?;
    let prompts = match &args.prompts {
        Some(file) => read_prompts(file, usize::MAX)?,
        None => PROMPTS.map(str::to_owned).to_vec(),
    };
    let found = calibrate(Config { speculate: Speculate::Off, ..config }, &prompts, args)?;
    match args.json {
        true => {
            let about = json!({"levels": LEVELS, "n_predict": args.n_predict, "prompts": prompts, "arms": found});
            print(&format!("{}\n", serde_json::to_string_pretty(&about)?))?;
        }
        false => print(&text(&found))?,
    }
    file.map_or(Ok(()), |file| write(file, &found))
}

fn calibrate(config: Config, prompts: &[String], args: &Args) -> anyhow::Result<Vec<Calibration>> {
    let names: Vec<_> = config.arms.iter().map(|arm| arm.name.clone()).collect();
    let mut session = open(config)?;
    let grid: Vec<f32> = (0..=16).map(|i| MOST * 2f32.powf(f32::from(i - 16i16) / 2.0)).collect();
    let weights: Vec<f32> = grid.iter().map(|w| -w).chain(grid.iter().copied()).collect();
    let mut sums = vec![vec![0.0; weights.len()]; names.len()];
    let bar = progress("calibrating", prompts.len() as u64);
    let mut n_texts = 0.0;
    for (i, text) in prompts.iter().enumerate() {
        if let Some(of_text) = measure(&mut session, text, &weights, i, args)? {
            n_texts += 1.0;
            sums.iter_mut().flatten().zip(of_text.iter().flatten()).for_each(|(sum, more)| *sum += more);
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    if n_texts == 0.0 {
        anyhow::bail!(
            "the base ends every text at once, so there is nothing to measure; give other --prompts, or --chat"
        );
    }
    sums.iter_mut().flatten().for_each(|sum| *sum /= n_texts);
    let calibration = |(arm, sums): (String, Vec<f64>)| {
        let (away, towards) = sums.split_at(grid.len());
        let reached: Vec<_> =
            LEVELS.iter().map(|nats| [at(&grid, away, *nats).map(|w| -w), at(&grid, towards, *nats)]).collect();
        let [low, high] = reached[LEVELS.len() - 1];
        Calibration { arm, range: [rounded(low.unwrap_or(-MOST)), rounded(high.unwrap_or(MOST))], reached }
    };
    Ok(names.into_iter().zip(sums).map(calibration).collect())
}

/// Σ KL at the positions of a text of the base, for each ARM and weight; `None` where the text is empty.
fn measure(
    session: &mut Session,
    text: &str,
    weights: &[f32],
    i: usize,
    args: &Args,
) -> anyhow::Result<Option<Vec<Vec<f64>>>> {
    let prompt = read_prompt(session, text, args.chat)?;
    let none = vec![0.0; session.weights().n_arms()];
    session.weights().set_all(&none)?;
    let params = SamplingParams { seed: i as u32, ..session.config().sampling.clone() };
    let mut sampler = session.sampler(&params)?;
    let written = session.generate(&mut sampler, &prompt, args.n_predict as usize, &mut |_| Flow::Continue)?;
    if written.finish == crate::decode::Finish::Interrupted {
        return Err(super::Interrupted.into());
    }
    if written.tokens.is_empty() {
        return Ok(None);
    }
    let hook = session.hook().clone();
    let prompts = ScoredPrompts::new(&prompt.base, &prompt.experts);
    let sums = hook.with_guide(|guide| divergences(session.base(), guide, prompts, &written.tokens, weights));
    Ok(Some(sums?))
}

/// The weight at which `sums`, which grow, reach `nats`: between two of the grid, as a straight line of logarithms.
fn at(grid: &[f32], sums: &[f64], nats: f64) -> Option<f32> {
    let above = sums.iter().position(|sum| *sum >= nats)?;
    if above == 0 || sums[above - 1] <= 0.0 {
        return Some(grid[above]);
    }
    let share = (nats / sums[above - 1]).ln() / (sums[above] / sums[above - 1]).ln();
    Some(grid[above - 1] * (grid[above] / grid[above - 1]).powf(share as f32))
}

/// Two digits are as exact as this is.
fn rounded(weight: f32) -> f32 {
    let digits = 10f32.powf(weight.abs().log10().floor() - 1.0);
    // Through text, so that 0.1 is written as 0.1.
    format!("{:.3}", (weight / digits).round() * digits).parse().unwrap_or(weight)
}

fn write(file: &Path, found: &[Calibration]) -> anyhow::Result<()> {
    let ranges: Vec<_> = found.iter().map(|c| (c.arm.clone(), c.range)).collect();
    weights::rewrite(file, |text| set_ranges(text, file, &ranges))?;
    eprintln!("wrote the range of {} ARMs into {}", found.len(), file.display());
    Ok(())
}

fn text(found: &[Calibration]) -> String {
    let one = |weight: &Option<f32>| weight.map_or("–".to_owned(), |weight| format!("{:+}", rounded(weight)));
    let cell = |[away, towards]: &[Option<f32>; 2]| format!("{} {}", one(away), one(towards));
    let row = |Calibration { arm, reached, range }: &Calibration| {
        let cells = reached.iter().map(cell).chain([format!("[{}, {}]", range[0], range[1])]);
        std::iter::once(arm.clone()).chain(cells).collect()
    };
    let table = table(&["ARM", "1 nat", "5 nats", "20 nats", "range"], found.iter().map(row).collect());
    format!("{table}\nWeights at which a text leaves the base by so many nats (KL); – where none up to {MOST} does.\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_is_found_between_two_of_the_grid() {
        // KL grows with the square of the weight.
        let grid = [0.5, 1.0, 2.0, 4.0];
        let sums = grid.map(|w: f32| f64::from(w * w));
        assert!((at(&grid, &sums, 9.0).unwrap() - 3.0).abs() < 1e-5);
        assert_eq!(at(&grid, &sums, 0.1), Some(0.5), "below the smallest");
        assert_eq!(at(&grid, &sums, 17.0), None);
    }

    #[test]
    fn weights_are_written_with_two_digits() {
        assert_eq!([0.12345, -3.456, 15.99, 0.1].map(rounded), [0.12, -3.5, 16.0, 0.1]);
    }
}
