//! `genarm duel`

mod ask;
mod journal;

use std::path::PathBuf;

use anyhow::bail;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use self::ask::Said;
use self::journal::Journal;
use super::Usage;
use super::load::ConfigArgs;
use super::measure::{TextArgs, guard, need_arms, seeded, table, write_whole};
use super::output::print;
use super::profile::profiles;
use crate::config::Config;
use crate::decode::text_generator::{GeneratedText, TextGenerator, TextRequest, seed_of};
use crate::duel::{Choices, Estimate, Objectives};
use crate::files::model_name;
use crate::session::SessionGenerator;

/// Learn weights from choices: which of two answers is better?
///
/// Each prompt is answered under several weights, and the two answers between which a choice teaches most are shown,
/// without their weights. Type 1 or 2 for the better one, = if both are alike, u to take the last choice back, q to end.
/// Each choice is written to --choices at once, as a preference pair that `genarm train` reads; the same command goes on
/// from there. The result is a profile: weights with the standard errors of what was learned. Without a seed, 1 is used.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    texts: TextArgs,
    /// End after this many choices, earlier ones in --choices included
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..))]
    duels: u32,
    /// Answers per prompt, of which two are shown
    #[arg(long, short = 'k', value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u32).range(2..=64))]
    answers: u32,
    /// Sum of the sizes of the weights; choices tell their proportions [default: that of the configured weights, or 1]
    #[arg(long, value_name = "X")]
    strength: Option<f64>,
    /// Choices: JSONL, read first where it is there
    #[arg(long, value_name = "FILE", default_value = "choices.jsonl")]
    choices: PathBuf,
    /// Name of the profile
    #[arg(long, value_name = "NAME", default_value = "mine")]
    name: String,
    /// Write the profile to this file, as YAML; without it, it is printed
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print what was learned as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

/// Asks until enough is said, and writes the profile.
pub fn run(args: Args) -> anyhow::Result<()> {
    let config = args.config.resolve()?;
    need_arms(&config)?;
    if let Some(strength) = args.strength.filter(|strength| !(strength.is_finite() && *strength > 0.0)) {
        return Err(Usage(format!("--strength {strength} must be a number above 0")).into());
    }
    if args.name.trim().is_empty() {
        return Err(Usage("--name is empty; name the profile".into()).into());
    }
    let prompts = args.texts.read()?;
    let outputs = [("--out", args.out.as_deref()), ("--choices", Some(args.choices.as_path()))];
    guard(&outputs, &[("the prompts", &args.texts.prompts)], &[&config])?;
    let mut choices = Choices::new(Objectives::of(&config.steering()), args.strength);
    let journal = Journal::open(&args.choices, &mut choices)?;
    if !choices.is_empty() {
        eprintln!("{} choices are in {} already", choices.len(), args.choices.display());
    }
    let most = args.duels as usize;
    if choices.len() < most {
        let params = seeded(&config.sampling);
        let seed = params.seed;
        // Slots beyond the answers would be memory for nothing.
        let texts = TextArgs { parallel: args.texts.parallel.min(args.answers), ..args.texts.clone() };
        let generator = texts.generator(config.clone(), &prompts, params)?;
        Duels { args: &args, config: &config, prompts: &prompts, seed, generator, journal, choices: &mut choices }
            .run(most)?;
    }
    if choices.is_empty() {
        bail!("no choice was made, so there is no profile");
    }
    finish(&args, &choices.estimate())
}

/// The duels of one user.
struct Duels<'a> {
    args: &'a Args,
    config: &'a Config,
    prompts: &'a [String],
    seed: u32,
    generator: SessionGenerator,
    journal: Journal,
    choices: &'a mut Choices,
}

/// An answer with what it was made under.
struct Answer {
    text: GeneratedText,
    numbers: Vec<f32>,
    rewards: Option<Vec<f64>>,
}

impl Answer {
    /// Those of an answer that is shown, which has some.
    fn rewards(&self) -> &[f64] {
        self.rewards.as_deref().unwrap_or_default()
    }
}

impl Duels<'_> {
    fn run(mut self, most: usize) -> anyhow::Result<()> {
        let mut input = std::io::stdin().lock();
        // Prompts to which all answers were alike.
        let mut n_skipped = 0;
        while self.choices.len() < most {
            let place = self.choices.len() + n_skipped;
            let prompt = place % self.prompts.len();
            let mut rng = ChaCha8Rng::seed_from_u64(u64::from(self.seed) << 32 | place as u64);
            let answers = self.answers(prompt, place / self.prompts.len(), &mut rng)?;
            let rewards: Vec<_> = answers.iter().map(|answer| answer.rewards.clone()).collect();
            let Some((a, b)) = self.choices.pair(&rewards) else {
                n_skipped += 1;
                if n_skipped >= self.prompts.len() {
                    bail!("under all weights the answers are alike; raise --temp or --strength");
                }
                continue;
            };
            let (a, b) = if rng.random() { (a, b) } else { (b, a) };
            let (first, second) = (&answers[a], &answers[b]);
            let title = format!("Duel {} of {most}", self.choices.len() + 1);
            ask::show(&title, &self.prompts[prompt], [&first.text.text, &second.text.text]);
            match ask::listen(&mut input)? {
                Said::First => self.keep(prompt, first, second, false)?,
                Said::Second => self.keep(prompt, second, first, false)?,
                Said::Alike => self.keep(prompt, first, second, true)?,
                Said::Undo => {
                    self.journal.pop()?;
                    self.choices.undo();
                }
                Said::Quit => break,
            }
            ask::show_estimate(&self.choices.estimate());
        }
        Ok(())
    }

    /// Answers to a prompt in its `round`, under weights far apart.
    fn answers(&mut self, prompt: usize, round: usize, rng: &mut ChaCha8Rng) -> anyhow::Result<Vec<Answer>> {
        let n = self.args.answers as usize;
        let proposals = self.choices.proposals(n, rng);
        let request = |(i, weights): (usize, &Vec<f64>)| TextRequest {
            prompt,
            weights: self.choices.objectives().numbers(weights),
            seed: seed_of(self.seed, prompt, round * n + i),
            candidates: None,
        };
        let requests: Vec<_> = proposals.iter().enumerate().map(request).collect();
        let texts = self.generator.generate(&requests, &mut || ())?;
        let mut answers = Vec::with_capacity(n);
        for (text, request) in texts.into_iter().zip(requests) {
            let rewards = self.rewards(prompt, &text)?;
            answers.push(Answer { text, numbers: request.weights, rewards });
        }
        Ok(answers)
    }

    fn rewards(&mut self, prompt: usize, text: &GeneratedText) -> anyhow::Result<Option<Vec<f64>>> {
        if text.text.trim().is_empty() {
            return Ok(None);
        }
        let objectives = self.choices.objectives();
        let score = |numbers: &Vec<f32>| self.generator.score(prompt, &text.tokens, numbers);
        Ok(objectives.rewards(&objectives.scorings().iter().map(score).collect::<Result<Vec<_>, _>>()?))
    }

    /// Writes a choice down and learns from it.
    fn keep(&mut self, prompt: usize, chosen: &Answer, rejected: &Answer, tie: bool) -> anyhow::Result<()> {
        let choice = self.choices.choice(chosen.rewards(), rejected.rewards(), tie);
        let numbers = |answer: &Answer| self.choices.objectives().named(&answer.numbers);
        // A pair of equal texts teaches an ARM nothing, whatever reads the file.
        let less = if tie { &chosen.text } else { &rejected.text };
        let (question, response): (Value, fn(&str) -> Value) = match self.args.texts.chat {
            false => (self.prompts[prompt].as_str().into(), |text| text.into()),
            true => (self.messages(prompt), |text| json!([{"role": "assistant", "content": text}])),
        };
        let mut line = json!({
            "prompt": question,
            "chosen": response(&chosen.text.text),
            "rejected": response(&less.text),
            "finish_chosen": chosen.text.finish,
            "finish_rejected": less.finish,
            "chosen_weights": numbers(chosen),
            "rejected_weights": numbers(rejected),
        });
        for (key, value) in serde_json::to_value(&choice)?.as_object().into_iter().flatten() {
            line[key] = value.clone();
        }
        if tie {
            line["alike"] = response(&rejected.text.text);
        }
        line["source"] = json!({"base": model_name(&self.config.base.model), "prompt": prompt, "seed": self.seed});
        self.journal.push(&line)?;
        self.choices.add(&choice).map_err(anyhow::Error::msg)
    }

    fn messages(&self, prompt: usize) -> Value {
        let system = self.config.prompt.system.as_deref().filter(|text| !text.is_empty());
        let of = |role: &str, text: &str| json!({"role": role, "content": text});
        let system = system.map(|text| of("system", text));
        system.into_iter().chain([of("user", &self.prompts[prompt])]).collect()
    }
}

/// Prints what was learned, and writes the profile.
fn finish(args: &Args, estimate: &Estimate) -> anyhow::Result<()> {
    let weights: Vec<_> = estimate.weights.iter().map(|(name, weight)| (name.as_str(), *weight as f32)).collect();
    let yaml = profiles(&args.name, &weights)?;
    if let Some(out) = &args.out {
        write_whole(out, &yaml)?;
        eprintln!("wrote profile \"{}\" to {}; put it under `profiles:` of a configuration", args.name, out.display());
    }
    if args.json {
        let value = json!({"name": args.name, "choices": args.choices, "estimate": estimate});
        return print(&format!("{}\n", serde_json::to_string_pretty(&value)?));
    }
    let row = |of: &crate::duel::Learned| {
        vec![
            of.name.clone(),
            format!("{:.2} ± {:.2}", of.weight, of.weight_error),
            format!("{:.2} ± {:.2}", of.theta, of.theta_error),
        ]
    };
    let header = ["objective", "weight", "log-odds per nat per token"];
    let mut text = table(&header, estimate.objectives.iter().map(row).collect());
    let (n, ties) = (estimate.n_choices, estimate.n_ties);
    text += &format!("\n{n} choices, {ties} of them ties; the sizes of the weights add up to {}\n", estimate.strength);
    if args.out.is_none() {
        text += &format!("\n{yaml}");
    }
    print(&text)
}
