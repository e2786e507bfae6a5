//! `genarm bench --noise`: how far the base's logits depend on the way in which a text is batched.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context;
use serde::Serialize;

use super::Usage;
use super::load::{open_slots, progress};
use super::measure::table;
use crate::bench::noise::{Difference, Noise, Position, read};
use crate::config::{Config, Switch};
use crate::expert::{Expert, Token};
use crate::session::{Session, Slot};

/// Tokens that are read in one go.
const WINDOW: usize = 256;
/// Texts beside the measured one.
const LANES: usize = 4;

/// A way to batch.
struct Way {
    name: &'static str,
    /// Tokens of a batch.
    chunk: usize,
    /// Texts at once.
    slots: usize,
    /// Whether the ARMs are rows of the same batches.
    shared: bool,
}

const WAYS: [Way; 8] = [
    Way { name: "1 token, alone", chunk: 1, slots: 1, shared: false },
    Way { name: "4 tokens (a short draft)", chunk: 4, slots: 1, shared: false },
    Way { name: "16 tokens (a long draft)", chunk: 16, slots: 1, shared: false },
    Way { name: "64 tokens (a prompt beside others)", chunk: 64, slots: 1, shared: false },
    Way { name: "256 tokens (a prompt)", chunk: WINDOW, slots: 1, shared: false },
    Way { name: "1 token, beside 3 texts", chunk: 1, slots: LANES, shared: false },
    Way { name: "1 token, ARMs in the batch", chunk: 1, slots: 1, shared: true },
    Way { name: "1 token, ARMs and 3 texts", chunk: 1, slots: LANES, shared: true },
];

#[derive(Serialize)]
struct NoiseRow {
    flash_attention: Switch,
    way: &'static str,
    /// Against "1 token, alone" with the same flash attention.
    #[serde(flatten)]
    noise: Noise,
}

#[derive(Serialize)]
struct Results {
    version: &'static str,
    model: String,
    cache: String,
    threads: u32,
    rows: Vec<NoiseRow>,
    /// "1 token, alone" with flash attention against the same without.
    flash_attention: Option<Noise>,
}

/// Measures on a text and prints. `n_tokens` limits it.
pub fn run(config: &Config, text: &Path, n_tokens: usize, json: bool) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(text).with_context(|| text.display().to_string())?;
    let switches = match config.base.flash_attn {
        Switch::Auto => vec![Switch::Off, Switch::On],
        one => vec![one],
    };
    let n_shared = WAYS.iter().filter(|way| way.shared).count();
    let n_ways = switches.len() * (WAYS.len() - if config.arms.is_empty() { n_shared } else { 0 });
    let bar = progress("reading", n_ways as u64);
    let (mut rows, mut references): (Vec<NoiseRow>, Vec<Vec<Position>>) = (Vec::new(), Vec::new());
    for flash_attention in switches {
        let mut reference: Vec<Position> = Vec::new();
        for way in WAYS.iter().filter(|way| !way.shared || !config.arms.is_empty()) {
            let Some(mut session) = open(config, way, flash_attention)? else { continue };
            let windows = windows(&session, &text, n_tokens)?;
            let mut differences = Vec::new();
            let mut at = 0;
            measure(&mut session, way, &windows, &mut |row| {
                match reference.get(at) {
                    Some(position) if !std::ptr::eq(way, &WAYS[0]) => differences.push(Difference::of(position, row)),
                    _ => reference.push(Position::of(row)),
                }
                at += 1;
            })?;
            if !std::ptr::eq(way, &WAYS[0]) {
                rows.push(NoiseRow { flash_attention, way: way.name, noise: Noise::of(&differences) });
            }
            bar.inc(1);
        }
        references.push(reference);
    }
    bar.finish_and_clear();
    let flash_attention = match &references[..] {
        [without, with] => {
            Some(Noise::of(&without.iter().zip(with).map(|(a, b)| b.differs_from(a)).collect::<Vec<_>>()))
        }
        _ => None,
    };
    let name = config.base.model.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let results = Results {
        version: env!("CARGO_PKG_VERSION"),
        model: name,
        cache: format!("{:?}/{:?}", config.base.cache_type_k, config.base.cache_type_v).to_lowercase(),
        threads: config.base.threads.unwrap_or_else(crate::engine::threads::n_cores),
        rows,
        flash_attention,
    };
    let text = if json { serde_json::to_string_pretty(&results)? + "\n" } else { shown(&results) };
    super::output::print(&text)
}

/// A session of a way; `None` where the ARMs cannot share the base's batches.
fn open(config: &Config, way: &Way, flash_attn: Switch) -> anyhow::Result<Option<Session>> {
    let mut config = config.clone();
    config.speculate = crate::config::Speculate::Off;
    config.share_batch = if way.shared { Switch::On } else { Switch::Off };
    if !way.shared {
        config.arms.clear();
        config.profiles.clear();
    }
    for spec in config.specs_mut() {
        (spec.flash_attn, spec.n_ctx) = (flash_attn, Some(WINDOW as u32));
        (spec.n_batch, spec.n_ubatch) = (spec.n_batch.or(Some(WINDOW as u32)), spec.n_ubatch.or(Some(WINDOW as u32)));
    }
    let session = open_slots(config, way.slots)?;
    let shares = session.shared().iter().any(|group| group.shared && group.experts.iter().any(|name| name == "base"));
    Ok((!way.shared || shares).then_some(session))
}

/// The text in windows, each of which begins as a text does.
fn windows(session: &Session, text: &str, n_tokens: usize) -> anyhow::Result<Vec<Vec<Token>>> {
    let tokens = session.vocab().tokenize(text, false, false)?;
    let bos = session.vocab().bos();
    let len = WINDOW - usize::from(bos.is_some());
    let windows = tokens.chunks_exact(len).take(n_tokens.div_ceil(WINDOW));
    let windows: Vec<_> = windows.map(|part| bos.iter().chain(part).copied().collect()).collect();
    if windows.is_empty() {
        return Err(Usage(format!("--noise: the text has {} tokens; give one of at least {len}", tokens.len())).into());
    }
    Ok(windows)
}

/// Reads all windows in a way; `each` sees the base's rows of the first slot.
fn measure(
    session: &mut Session,
    way: &Way,
    windows: &[Vec<Token>],
    each: &mut dyn FnMut(&[f32]),
) -> anyhow::Result<()> {
    let hook = session.hook().clone();
    let n_arms = if way.shared { usize::MAX } else { 0 };
    for window in 0..windows.len() {
        let beside = |slot: usize| &windows[(window + slot) % windows.len()][..];
        hook.with_guide(|guide| {
            let bases = session.slots().iter_mut().map(Slot::base);
            let mut experts: Vec<(&mut dyn Expert, &[Token])> =
                bases.enumerate().map(|(slot, base)| (base as &mut dyn Expert, beside(slot))).collect();
            let arms = guide.experts().iter_mut().take(n_arms);
            experts.extend(arms.map(|arm| (arm.expert() as &mut dyn Expert, beside(0))));
            read(&mut experts, way.chunk, &mut |_, row| each(row))
        })?;
    }
    Ok(())
}

fn shown(results: &Results) -> String {
    let row = |name: String, noise: &Noise| {
        let spread = |[half, most, all]: [f32; 3]| [format!("{half:.4}"), format!("{most:.4}"), format!("{all:.4}")];
        let flips = format!("{} of {}", noise.n_flipped, noise.n);
        let numbers = spread(noise.logprob).into_iter().chain(spread(noise.gap));
        std::iter::once(name).chain(numbers).chain([flips, format!("{:.4}", noise.flipped_up_to)]).collect::<Vec<_>>()
    };
    let header =
        ["", "Δ log p, median", "99.9 %", "max", "Δ gap, median", "99.9 %", "max", "flipped", "up to a gap of"];
    let of = |which: Switch| match which {
        Switch::On => "flash attention: ",
        _ => "without: ",
    };
    let mut rows: Vec<_> =
        results.rows.iter().map(|r| row(format!("{}{}", of(r.flash_attention), r.way), &r.noise)).collect();
    rows.extend(results.flash_attention.as_ref().map(|noise| row("flash attention against none".into(), noise)));
    let mut out = table(&header, rows);
    let Results { model, cache, threads, .. } = results;
    let _ = writeln!(
        out,
        "\n{model}, cache {cache}, {threads} threads. Nats; each row against \"1 token, alone\" with the same flash attention.\n\
         Δ log p: the most that one of the 10 likeliest tokens changes; Δ gap: between the two likeliest."
    );
    out
}
