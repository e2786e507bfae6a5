//! `genarm pairs`

use std::path::{Path, PathBuf};

use anyhow::bail;
use serde::Serialize;
use serde_json::{Value, json};

use super::Usage;
use super::load::{ConfigArgs, catch_interrupts, open_slots, progress};
use super::measure::{JudgeArgs, TextArgs, beta_r, guard, provenance, seeded, write_whole};
use super::output::print;
use crate::chat::Message;
use crate::config::Config;
use crate::eval::pairs::{Answer, Answered, Asked, Rater, RaterSpec};
use crate::eval::results::Results;
use crate::files::{appended, model_name};
use crate::session::SessionGenerator;
use crate::train::pairs::{TrainingPrompt, prompts};

/// Make preference pairs for `genarm train`, without annotators
///
/// The base answers each prompt several times, a scorer rates the answers, and the best one is set against the worst.
/// Prompts may stand in any data file that training reads, too. All answers with their ratings are kept beside --out,
/// in OUT.answers.jsonl; work that was stopped goes on there when the same command is run again. Without a seed, 1 is
/// used.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    texts: TextArgs,
    /// Who rates: cheerful, talkative, plain, NAME=cmd:COMMAND, NAME=judge:URL (see --criterion), or arm:NAME
    #[arg(long, value_name = "SCORER")]
    scorer: RaterSpec,
    /// Answers per prompt
    #[arg(long, short = 'k', value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(2..=256))]
    answers: u32,
    /// Keep only pairs whose ratings are further apart than this
    #[arg(long, value_name = "X", default_value_t = 0.0)]
    margin: f64,
    /// Most pairs of a prompt: the best answer against the worst, the second best against the second worst, and so on
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=128))]
    per_prompt: u32,
    /// Only rate the answers of an earlier run: its OUT.answers.jsonl, of the same prompts, base and sampling
    #[arg(long, value_name = "FILE")]
    answers_from: Option<PathBuf>,
    /// Pairs: JSONL
    #[arg(long, value_name = "FILE", default_value = "pairs.jsonl")]
    out: PathBuf,
    /// Print the counts as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    judges: JudgeArgs,
    #[command(flatten)]
    config: ConfigArgs,
}

/// What came of the answers.
#[derive(Serialize)]
struct Counts {
    out: PathBuf,
    prompts: usize,
    answers: usize,
    /// Answers that were cut off at --n-predict.
    cut_off: usize,
    /// Ratings that failed.
    unrated: usize,
    pairs: usize,
    /// Means over the pairs.
    score_chosen: f64,
    score_rejected: f64,
    tokens_chosen: f64,
    tokens_rejected: f64,
}

/// Answers, rates, and writes the pairs.
pub fn run(args: Args) -> anyhow::Result<()> {
    let config = args.config.resolve()?;
    if !args.margin.is_finite() || args.margin < 0.0 {
        return Err(Usage(format!("--margin {} must be a number that is not negative", args.margin)).into());
    }
    let rater = rater(&args, &config)?;
    let asked: Vec<TrainingPrompt> = read(&args, &config)?;
    let texts: Vec<String> = asked.iter().map(as_text).collect();
    let params = seeded(&config.sampling);
    let kept = appended(&args.out, ".answers.jsonl");
    let outputs = [("--out", Some(args.out.as_path())), ("the answers", Some(kept.as_path()))];
    let made = args.answers_from.as_deref();
    let inputs = [Some(("the prompts", args.texts.prompts.as_path())), made.map(|path| ("--answers-from", path))];
    guard(&outputs, &inputs.into_iter().flatten().collect::<Vec<_>>(), &[&config])?;
    let mut more = args.texts.about(&texts);
    more["seed"] = params.seed.into();
    more["answers"] = args.answers.into();
    more["scorer"] = args.scorer.to_string().into();
    more["judge"] = args.judges.about();
    let about = provenance("pairs", &[&config], more)?;
    catch_interrupts()?;
    let asker = Asked {
        prompts: &texts,
        n_answers: args.answers as usize,
        n_arms: config.arms.len(),
        rater: &rater,
        seed: params.seed,
        unit: (args.texts.parallel as usize * 2).div_ceil(args.answers as usize),
    };
    let (mut results, done) = Results::open::<Answered>(&kept, &about, asker.unit, texts.len())?;
    let answered = if done.len() == texts.len() {
        done
    } else {
        let n = u64::from(args.answers);
        let bar = |talk| progress(talk, texts.len() as u64 * n).with_position(done.len() as u64 * n);
        if let Some(made) = made {
            let bar = bar("rating");
            let made = answers_of(made, &about, &asker)?;
            asker.rate_again(made, &mut results, done, &mut || bar.inc(1))?
        } else {
            let mut generator = generator(&args, config.clone(), &asked, &texts)?;
            let bar = bar("answering");
            bar.reset_eta();
            asker.run(&mut generator, &mut results, done, &mut || bar.inc(1))?
        }
    };
    let mut pairs = Vec::new();
    for one in &answered {
        pairs.extend(one.pairs(args.margin, args.per_prompt as usize).into_iter().map(|pair| (one.prompt, pair)));
    }
    let source =
        json!({"base": model_name(&config.base.model), "scorer": args.scorer.to_string(), "seed": params.seed});
    let line = |(prompt, (chosen, rejected)): &(usize, (&Answer, &Answer))| {
        format!("{}\n", pair_line(&asked[*prompt], chosen, rejected, *prompt, &source))
    };
    let counts = counts(&args, &answered, &pairs);
    if pairs.is_empty() {
        bail!("no prompt has two answers that are rated differently, so there is no pair; {}", hint(&counts));
    }
    write_whole(&args.out, &pairs.iter().map(line).collect::<String>())?;
    match args.json {
        true => print(&format!("{}\n", serde_json::to_string_pretty(&counts)?)),
        false => print(&text(&counts, &args.out)),
    }
}

/// The answers of an earlier run, of which all but the rating is as this run would make it.
fn answers_of(path: &Path, about: &Value, asker: &Asked<'_>) -> anyhow::Result<Vec<Answered>> {
    if matches!(asker.rater, Rater::Arm(..)) {
        return Err(Usage("--answers-from: an ARM rates tokens, which are not kept; let it answer anew".into()).into());
    }
    let (there, made) = Results::read::<Answered>(path)?;
    let others = |about: &Value| -> Vec<(String, Value)> {
        let keys = about.as_object().into_iter().flatten();
        keys.filter(|(key, _)| !["scorer", "judge"].contains(&key.as_str()))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect()
    };
    if let Some((key, _)) = others(about).iter().find(|(key, value)| there.get(key) != Some(value)) {
        bail!("--answers-from {}: these are answers of other work (their \"{key}\" is another)", path.display());
    }
    let complete = made.len() == asker.prompts.len()
        && made.iter().enumerate().all(|(i, of)| of.prompt == i && of.answers.len() == asker.n_answers);
    if !complete {
        let (n, of) = (made.len(), asker.prompts.len());
        bail!("--answers-from {}: has answers to {n} of {of} prompts; finish that run first", path.display());
    }
    Ok(made)
}

fn rater(args: &Args, config: &Config) -> anyhow::Result<Rater> {
    match &args.scorer {
        RaterSpec::Arm(name) => {
            let at = config.arm_index(name)?;
            Ok(Rater::Arm(at, beta_r(&config.arms[at]).unwrap_or(1.0)))
        }
        RaterSpec::Scorer(spec) => {
            args.judges.check(std::slice::from_ref(spec))?;
            Ok(Rater::Scorer(spec.open(&args.judges.client(false))?))
        }
    }
}

/// The prompts: of plain text a line each, of data files whatever training reads. Under --chat plain ones become a
/// user's message.
fn read(args: &Args, config: &Config) -> anyhow::Result<Vec<TrainingPrompt>> {
    let n = args.texts.n_prompts.map_or(usize::MAX, |n| n as usize);
    let path = &args.texts.prompts;
    let is_text = path.extension().is_none_or(|extension| extension.eq_ignore_ascii_case("txt"));
    let mut all = match is_text {
        true => args.texts.read()?.into_iter().map(TrainingPrompt::Text).collect(),
        false => prompts(path, n)?,
    };
    if all.is_empty() {
        bail!("{}: contains no prompts; write one per line", path.display());
    }
    let system = config.prompt.system.as_deref().filter(|text| !text.is_empty());
    for prompt in &mut all {
        if let (TrainingPrompt::Text(text), true) = (&*prompt, args.texts.chat) {
            *prompt = TrainingPrompt::Chat(vec![Message::new("user", text)]);
        }
        if let (TrainingPrompt::Chat(messages), Some(system)) = (&mut *prompt, system)
            && messages.iter().all(|message| message.role != "system")
        {
            messages.insert(0, Message::new("system", system));
        }
    }
    Ok(all)
}

/// A prompt as raters read it: a question as it was asked, a longer conversation with its roles.
fn as_text(prompt: &TrainingPrompt) -> String {
    match prompt {
        TrainingPrompt::Text(text) => text.clone(),
        TrainingPrompt::Chat(messages) => match &messages[..] {
            [message] => message.content.clone(),
            several => several.iter().map(|m| format!("{}: {}", m.role, m.content)).collect::<Vec<_>>().join("\n\n"),
        },
    }
}

fn generator(
    args: &Args,
    mut config: Config,
    asked: &[TrainingPrompt],
    texts: &[String],
) -> anyhow::Result<SessionGenerator> {
    let params = seeded(&config.sampling);
    args.texts.fit(&mut config, texts);
    let session = open_slots(config, args.texts.parallel as usize)?;
    let read = |prompt: &TrainingPrompt| match prompt {
        TrainingPrompt::Text(text) => session.text_prompt(text),
        TrainingPrompt::Chat(messages) => session.prompts().chat(messages, ""),
    };
    let prompts = asked.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    Ok(SessionGenerator::new(session, params, prompts, args.texts.n_predict as usize))
}

/// A pair as `genarm train` and TRL read it. A response that was cut off says so: no end of text is learned after it.
fn pair_line(asked: &TrainingPrompt, chosen: &Answer, rejected: &Answer, prompt: usize, source: &Value) -> Value {
    let mut source = source.clone();
    source["prompt"] = prompt.into();
    let (question, response): (Value, fn(&str) -> Value) = match asked {
        TrainingPrompt::Text(text) => (text.as_str().into(), |text| text.into()),
        TrainingPrompt::Chat(messages) => (json!(messages), |text| json!([{"role": "assistant", "content": text}])),
    };
    json!({
        "prompt": question,
        "chosen": response(&chosen.text),
        "rejected": response(&rejected.text),
        "score_chosen": chosen.score,
        "score_rejected": rejected.score,
        "finish_chosen": chosen.finish,
        "finish_rejected": rejected.finish,
        "source": source,
    })
}

fn counts(args: &Args, answered: &[Answered], pairs: &[(usize, (&Answer, &Answer))]) -> Counts {
    let answers = || answered.iter().flat_map(|answered| &answered.answers);
    let mean = |of: &dyn Fn(&(&Answer, &Answer)) -> f64| {
        pairs.iter().map(|(_, pair)| of(pair)).sum::<f64>() / pairs.len().max(1) as f64
    };
    Counts {
        out: args.out.clone(),
        prompts: answered.len(),
        answers: answers().count(),
        cut_off: answers().filter(|answer| answer.finish == crate::decode::Finish::Length).count(),
        unrated: answers().filter(|answer| answer.score.is_none()).count(),
        pairs: pairs.len(),
        score_chosen: mean(&|(chosen, _)| chosen.score.unwrap_or(0.0)),
        score_rejected: mean(&|(_, rejected)| rejected.score.unwrap_or(0.0)),
        tokens_chosen: mean(&|(chosen, _)| chosen.n_tokens as f64),
        tokens_rejected: mean(&|(_, rejected)| rejected.n_tokens as f64),
    }
}

fn hint(counts: &Counts) -> &'static str {
    match counts.unrated == counts.answers {
        true => "the scorer's replies could not be read; see --judge-logprobs for small judges",
        false => "ask for more --answers, a higher --temp, or a smaller --margin",
    }
}

fn text(counts: &Counts, out: &Path) -> String {
    let mut text = format!(
        "{} pairs of {} prompts in {}\nrating {:.3} against {:.3}, {:.0} tokens against {:.0} (means: chosen, rejected)\n",
        counts.pairs,
        counts.prompts,
        out.display(),
        counts.score_chosen,
        counts.score_rejected,
        counts.tokens_chosen,
        counts.tokens_rejected
    );
    if counts.unrated > 0 {
        text += &format!(
            "{} of {} answers were not rated: the scorer's replies could not be read\n",
            counts.unrated, counts.answers
        );
    }
    if counts.cut_off > 0 {
        text += &format!("{} of {} answers were cut off at --n-predict\n", counts.cut_off, counts.answers);
    }
    text + "train an ARM on them:  genarm train --backbone BASE.gguf --pairs "
        + &out.display().to_string()
        + " --out arm.gguf\n"
}
