//! `genarm bench --drafters`: plain decoding with and without a shared batch, the gate, each drafter and auto, in
//! turns.

use std::fmt::Write as _;
use std::time::Instant;

use serde::Serialize;

use super::load::open;
use crate::bench::timing::{Batches, own_text, time_batches};
use crate::config::{Config, GuidanceSpec, Speculate, Switch};
use crate::decode::controller::DRAFT_MAX;
use crate::decode::{Finish, Flow, Generated, Speculation, Speculator};
use crate::expert::Token;
use crate::guidance::Gate;
use crate::guidance::score::{self, ScoredPrompts};
use crate::sampling::params::SamplingParams;
use crate::session::{Prompt, Session};

/// What is compared on which texts.
pub struct DrafterRuns<'a> {
    pub words: &'a [Speculate],
    pub prompts: &'a [String],
    pub n_gen: u32,
    pub repeats: u32,
}

const PROMPTS: [&str; 3] = [
    "Once upon a time, there was a little girl named Lily.",
    "Tom and his dog went to the park. They saw a big",
    "One day, a small bird could not find its mother.",
];

#[derive(Serialize)]
struct Results {
    version: &'static str,
    n_vocab: usize,
    n_gen: u32,
    texts: usize,
    /// Seconds of batches: of the base, and of all ARMs together.
    base_batches: Batches,
    arms_batches: Batches,
    rows: Vec<DrafterRow>,
}

#[derive(Serialize)]
struct DrafterRow {
    name: String,
    tokens_per_second: f64,
    /// Against plain guided decoding.
    speedup: f64,
    accepted: u64,
    drafted: u64,
    tokens_per_cycle: f64,
    /// Share of a drafted token that is kept once those before it were.
    acceptance: Option<f64>,
    /// What the cost model allows at this acceptance with the best length, in tokens a second.
    ceiling: Option<f64>,
    catch_up_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    gate: Option<GateLoss>,
}

/// What the gate has cost: it is no exact way to decode.
#[derive(Serialize, Clone, Copy)]
struct GateLoss {
    /// Share of the steps that were left to the base.
    gated: f64,
    /// Mean of KL(guided ‖ what was drawn from) over all steps, in nats at temperature 1: 0 where the ARMs were asked.
    kl: f64,
    /// Share of the steps whose likeliest token is another under exact guidance.
    flipped: f64,
}

/// A way to decode, and what it has done so far.
struct Way {
    name: String,
    /// Which of the sessions.
    session: usize,
    speculator: Option<Speculator>,
    base_alone: bool,
    gate: Option<Gate>,
    tokens: u64,
    seconds: f64,
    sum: Speculation,
    /// Over all steps: gated, nats, flipped.
    lost: [f64; 3],
    n_steps: usize,
}

impl Way {
    fn new(name: impl Into<String>) -> Self {
        let (speculator, gate, sum) = (None, None, Speculation::default());
        let (session, base_alone, tokens, seconds, lost, n_steps) = (0, false, 0, 0.0, [0.0; 3], 0);
        Self { name: name.into(), session, speculator, base_alone, gate, tokens, seconds, sum, lost, n_steps }
    }
}

/// Measures and prints.
pub fn run(config: Config, plan: &DrafterRuns<'_>, json: bool) -> anyhow::Result<()> {
    let gate = config.guidance.gate;
    let guidance = GuidanceSpec { gate: None, ..config.guidance };
    let exact = Config { guidance, ..config };
    let mut sessions = vec![open(exact.clone())?];
    let texts: Vec<String> = match plan.prompts {
        [] => PROMPTS.map(str::to_owned).to_vec(),
        given => given.to_vec(),
    };
    let prompts: Vec<Prompt> = texts.iter().map(|text| sessions[0].text_prompt(text)).collect::<Result<_, _>>()?;
    let mut ways = vec![Way { base_alone: true, ..Way::new("base alone") }];
    if sessions[0].shared().is_empty() {
        ways.push(Way::new("plain"));
    } else {
        // Drafters run as the configuration says; plain decoding both ways.
        let names = ["plain, separate contexts", "plain, shared batch"];
        let shares = usize::from(sessions[0].shared().iter().any(|group| group.shared));
        let other = [Switch::On, Switch::Off][shares];
        sessions.push(open(Config { share_batch: other, ..exact })?);
        ways.push(Way::new(names[shares]));
        ways.push(Way { session: 1, ..Way::new(names[1 - shares]) });
    }
    if gate.is_some() {
        ways.push(Way { gate, ..Way::new("gated (approximate)") });
    }
    for word in plan.words.iter().filter(|word| **word != Speculate::Off) {
        ways.push(Way { speculator: sessions[0].speculator(word)?, ..Way::new(word.to_string()) });
    }
    let (base_batches, arms_batches) = batches(&mut sessions[0], &prompts[0])?;
    let weights = sessions[0].weights().get();
    let silent = vec![0.0; sessions[0].weights().n_arms()];
    for turn in 0..plan.repeats {
        for (i, prompt) in prompts.iter().enumerate() {
            for way in &mut ways {
                let session = &mut sessions[way.session];
                session.weights().set_all(if way.base_alone { &silent } else { &weights })?;
                session.hook().with_guide(|guide| guide.set_gate(way.gate));
                let seed = turn * 1000 + i as u32;
                let tokens = measure(session, way, prompt, plan.n_gen as usize, seed)?;
                session.hook().with_guide(|guide| guide.set_gate(None));
                if let Some(gate) = way.gate {
                    count_lost(session, way, gate, prompt, &tokens)?;
                }
            }
        }
    }
    let plain = ways[1].tokens as f64 / ways[1].seconds;
    let mut rows: Vec<DrafterRow> = ways.iter().map(|way| row(way, plain, &base_batches, &arms_batches)).collect();
    let best = rows.iter().filter_map(|row| row.ceiling).fold(plain, f64::max);
    rows.iter_mut().filter(|row| row.name == "auto").for_each(|row| row.ceiling = Some(best));
    let results = Results {
        version: env!("CARGO_PKG_VERSION"),
        n_vocab: sessions[0].vocab().n_tokens(),
        n_gen: plan.n_gen,
        texts: prompts.len() * plan.repeats as usize,
        base_batches,
        arms_batches,
        rows,
    };
    let text = if json { serde_json::to_string_pretty(&results)? + "\n" } else { table(&results) };
    super::output::print(&text)
}

/// What the gate has lost in a text: every step is compared with exact guidance, after the time has been taken.
fn count_lost(
    session: &mut Session,
    way: &mut Way,
    gate: Gate,
    prompt: &Prompt,
    tokens: &[Token],
) -> anyhow::Result<()> {
    let (hook, weights) = (session.hook().clone(), session.weights().get());
    let prompts = ScoredPrompts::new(&prompt.base, &prompt.experts);
    let scores = hook.with_guide(|guide| score::score(session.base(), guide, prompts, tokens, &weights))?;
    for score in scores.iter().filter(|score| gate.passes(score.entropy, score.top_p)) {
        let lost = [1.0, f64::from(score.kl), f64::from(u8::from(score.flipped()))];
        way.lost.iter_mut().zip(lost).for_each(|(sum, lost)| *sum += lost);
    }
    way.n_steps += scores.len();
    Ok(())
}

/// One text. Its time runs from the first token to the last: prompts are not what is compared.
fn measure(session: &mut Session, way: &mut Way, prompt: &Prompt, n: usize, seed: u32) -> anyhow::Result<Vec<Token>> {
    let params = SamplingParams { seed, ignore_eos: true, ..session.config().sampling.clone() };
    let mut sampler = session.sampler(&params)?;
    let before = session.replace_speculator(way.speculator.take());
    let mut first = None;
    let generated = session.generate(&mut sampler, prompt, n, &mut |_| {
        first.get_or_insert_with(Instant::now);
        Flow::Continue
    });
    let end = Instant::now();
    way.speculator = session.replace_speculator(before);
    let Generated { tokens, speculation, finish, .. } = generated?;
    if finish == Finish::Interrupted {
        return Err(super::Interrupted.into());
    }
    let catch_up = speculation.catch_up;
    way.seconds += first.map_or(0.0, |first| (end - first).saturating_sub(catch_up).as_secs_f64());
    way.tokens += tokens.len().saturating_sub(1) as u64;
    let sum = &mut way.sum;
    sum.cycles += speculation.cycles;
    sum.drafts += speculation.drafts;
    sum.drafted += speculation.drafted;
    sum.accepted += speculation.accepted;
    sum.tokens += speculation.tokens;
    sum.draft += speculation.draft;
    sum.catch_up += catch_up;
    Ok(tokens)
}

/// The cost of batches after a prompt: base, and experts that are needed.
fn batches(session: &mut Session, prompt: &Prompt) -> anyhow::Result<(Batches, Batches)> {
    let text: Vec<_> = prompt.base.iter().copied().cycle().take(prompt.base.len().max(32) + 17).collect();
    let base = time_batches(session.base(), &text)?;
    let hook = session.hook().clone();
    let factors = hook.with_guide(|guide| guide.factors().to_vec());
    let mut arms = Batches::default();
    for (i, _) in factors.iter().enumerate().filter(|(_, factor)| **factor != 0.0) {
        let batches = hook.with_guide(|guide| {
            let expert = guide.experts()[i].expert();
            let text = own_text(&text, expert.n_vocab());
            time_batches(expert, &text)
        })?;
        arms.add(&batches);
    }
    Ok((base, arms))
}

fn row(way: &Way, plain: f64, base: &Batches, arms: &Batches) -> DrafterRow {
    let sum = &way.sum;
    let tokens_per_second = way.tokens as f64 / way.seconds;
    let fixed = sum.drafts > 0 && way.name != "auto";
    let acceptance =
        fixed.then(|| acceptance(sum.drafted as f64 / sum.drafts as f64, sum.accepted as f64 / sum.drafts as f64));
    // Where the ARMs draft too, they have read the draft when it is verified, but for its last token.
    let arms_read = way.speculator.as_ref().is_some_and(Speculator::keeps_arms);
    let ceiling = acceptance.map(|a| {
        let draft = sum.draft.as_secs_f64() / sum.drafted as f64;
        // Steps without a draft (lookup has nothing to say) are plain ones.
        let share = sum.drafts as f64 / sum.cycles as f64;
        let rate = |k: usize| {
            let tokens: f64 = (0..=k).map(|i| a.powi(i as i32)).sum();
            let of_base = base.seconds(if way.name == "base" { 1 } else { k + 1 });
            let of_arms = arms.seconds(if arms_read { 1 } else { k + 1 });
            let cycle = k as f64 * draft + of_base + of_arms;
            (share * tokens + 1.0 - share) / (share * cycle + (1.0 - share) * (base.seconds(1) + arms.seconds(1)))
        };
        (1..=DRAFT_MAX).map(rate).fold(0.0, f64::max)
    });
    DrafterRow {
        name: way.name.clone(),
        tokens_per_second,
        speedup: tokens_per_second / plain,
        accepted: sum.accepted,
        drafted: sum.drafted,
        tokens_per_cycle: sum.tokens_per_cycle(),
        acceptance,
        ceiling,
        catch_up_ms: sum.catch_up.as_secs_f64() * 1e3,
        gate: (way.n_steps > 0).then(|| {
            let [gated, kl, flipped] = way.lost.map(|sum| sum / way.n_steps as f64);
            GateLoss { gated, kl, flipped }
        }),
    }
}

/// The a for which drafts of `k` tokens keep `kept` on average: a + a² + … + a^k = kept.
fn acceptance(k: f64, kept: f64) -> f64 {
    let (mut low, mut high) = (0.0f64, 1.0f64);
    for _ in 0..50 {
        let a = (low + high) / 2.0;
        let sum = if a > 0.999_999 { k } else { a * (1.0 - a.powf(k)) / (1.0 - a) };
        if sum < kept { low = a } else { high = a }
    }
    low
}

fn table(results: &Results) -> String {
    let mut out = format!(
        "{:<26} {:>9} {:>8} {:>9} {:>11} {:>10} {:>9}\n",
        "", "tokens/s", "× plain", "accepted", "acceptance", "tok/cycle", "ceiling"
    );
    for row in &results.rows {
        let share = if row.drafted > 0 {
            format!("{:.1} %", 100.0 * row.accepted as f64 / row.drafted as f64)
        } else {
            "-".into()
        };
        let or_dash = |x: Option<f64>| x.map_or("-".into(), |x| format!("{x:.2}"));
        let DrafterRow { name, tokens_per_second, speedup, tokens_per_cycle, acceptance, ceiling, .. } = row;
        let (acceptance, ceiling) = (or_dash(*acceptance), or_dash(*ceiling));
        let _ = writeln!(
            out,
            "{name:<26} {tokens_per_second:>9.2} {speedup:>8.3} {share:>9} {acceptance:>11} {tokens_per_cycle:>10.2} {ceiling:>9}"
        );
    }
    for GateLoss { gated, kl, flipped } in results.rows.iter().filter_map(|row| row.gate) {
        let _ = writeln!(
            out,
            "\nthe gate left {:.1} % of the steps to the base; against exact guidance it lost {kl:.4} nats a token (KL), and {:.2} % of \
             the likeliest tokens",
            100.0 * gated,
            100.0 * flipped
        );
    }
    let ms = |batches: &Batches| {
        batches.0.iter().map(|(n, s)| format!("{n}: {:.1}", s * 1e3)).collect::<Vec<_>>().join(", ")
    };
    let _ = writeln!(
        out,
        "\nmilliseconds of a batch of n tokens: base {}; ARMs {}",
        ms(&results.base_batches),
        ms(&results.arms_batches)
    );
    let Results { n_gen, texts, n_vocab, .. } = results;
    let _ = writeln!(out, "{texts} texts of {n_gen} tokens each, in turns; {n_vocab} tokens in the vocabulary");
    out
}
