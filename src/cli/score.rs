//! `genarm score`

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use anyhow::Context;
use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::Usage;
use super::load::{ConfigArgs, catch_interrupts, open, palette, progress};
use super::measure::{beta_r, guard, need_arms, provenance, read_response, write_whole};
use super::output::print;
use crate::eval::heatmap::{ArmHead, Cell, Heatmap, Response, html, legend, svg, terminal};
use crate::expert::Token;
use crate::guidance::score::{ScoredPrompts, TokenScore, Totals, score};
use crate::session::Session;
use crate::train::pairs;
use crate::train::render::TrainingPrompt as Asked;

/// Show the reward of each token of a response under each ARM
///
/// Two responses are compared: which one each ARM prefers, and at which tokens. Without arguments, JSONL is read from
/// --file or standard input, with a `prompt` (a text, or a list of messages) and a `response`, or `chosen` and
/// `rejected`, a line.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Prompt
    #[arg(requires = "responses", conflicts_with = "file")]
    prompt: Option<String>,
    /// Response, or two to compare
    #[arg(num_args = 1..=2)]
    responses: Vec<String>,
    /// JSONL file of prompts and responses
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Render the prompt as a user message, through each model's chat template
    #[arg(long)]
    chat: bool,
    /// Score the end-of-sequence token after each response too
    #[arg(long)]
    eos: bool,
    /// ARM to show [default: all in the terminal, the first in --svg]
    #[arg(long, value_name = "NAME")]
    show: Option<String>,
    /// Write a self-contained HTML page
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write a picture
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Print JSON, one object for each prompt
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

/// A prompt and what is said to it.
struct Item {
    prompt: Asked,
    responses: Vec<(String, String)>,
}

/// Scores and shows.
pub fn run(args: Args) -> anyhow::Result<()> {
    let config = args.config.resolve()?;
    need_arms(&config)?;
    let shown = args.show.as_deref().map(|name| config.arm_index(name)).transpose()?;
    let instead_of_stdin = match (&args.prompt, &args.file) {
        (Some(_), _) => Some("the prompt that was typed"),
        (None, Some(_)) => Some("the one of --file"),
        (None, None) => None,
    };
    instead_of_stdin.map_or(Ok(()), super::input::refuse_second_text)?;
    let items = items(&args)?;
    if items.len() > 1 && (args.html.is_some() || args.svg.is_some()) {
        return Err(Usage(format!("--html and --svg show one prompt, and there are {}", items.len())).into());
    }
    let outputs = [("--html", args.html.as_deref()), ("--svg", args.svg.as_deref())];
    let inputs: Vec<_> = args.file.as_deref().map(|path| ("the prompts", path)).into_iter().collect();
    guard(&outputs, &inputs, &[&config])?;
    let about = provenance("score", &[&config], json!({"chat": args.chat, "eos": args.eos}))?;
    catch_interrupts()?;
    let mut session = open(config)?;
    let bar = if items.len() > 1 { progress("scoring", items.len() as u64) } else { ProgressBar::hidden() };
    for (i, item) in items.iter().enumerate() {
        let map = heatmap(&mut session, item, &args).with_context(|| format!("prompt {}", i + 1))?;
        if let Some(path) = &args.html {
            write_whole(path, &html(&map, &about)?)?;
        }
        if let Some(path) = &args.svg {
            write_whole(path, &svg(&map, shown.unwrap_or(0)))?;
        }
        if args.json {
            let mut value = serde_json::to_value(&map)?;
            value["about"] = about.clone();
            bar.suspend(|| print(&format!("{value}\n")))?;
        } else {
            bar.suspend(|| show(&map, shown))?;
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(())
}

fn show(map: &Heatmap, shown: Option<usize>) -> anyhow::Result<()> {
    let palette = palette(&std::io::stdout());
    let arms = shown.map_or(0..map.arms.len(), |arm| arm..arm + 1);
    let texts: Vec<_> = arms.map(|arm| terminal(map, arm, palette)).collect();
    print(&format!("{}\n\n{}\n{}\n", map.prompt, texts.join("\n"), legend(palette)))
}

fn items(args: &Args) -> anyhow::Result<Vec<Item>> {
    if let Some(prompt) = &args.prompt {
        let names: &[&str] = if args.responses.len() == 2 { &["response A", "response B"] } else { &["response"] };
        let responses =
            names.iter().zip(&args.responses).map(|(name, text)| ((*name).to_owned(), text.clone())).collect();
        return Ok(vec![Item { prompt: Asked::Text(prompt.clone()), responses }]);
    }
    let (text, name) = match &args.file {
        Some(path) => (std::fs::read_to_string(path).with_context(|| path.display().to_string())?, path.as_path()),
        None if std::io::stdin().is_terminal() => {
            return Err(Usage(
                "no prompt and response; give them as arguments, with --file, or on standard input".into(),
            )
            .into());
        }
        None => {
            let mut text = String::new();
            std::io::stdin().lock().read_to_string(&mut text).context("standard input is not UTF-8 text")?;
            (text, Path::new("standard input"))
        }
    };
    let text = crate::chat::source::plain(&text);
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let items: Vec<Item> = lines
        .map(|(i, line)| item(line).with_context(|| format!("{}:{}", name.display(), i + 1)))
        .collect::<anyhow::Result<_>>()?;
    if items.is_empty() {
        anyhow::bail!("{} is empty; write one JSON object per line, with `prompt` and `response`", name.display());
    }
    Ok(items)
}

fn item(line: &str) -> anyhow::Result<Item> {
    let value: Value = serde_json::from_str(line).context("not JSON")?;
    if let Some(Value::Array(_)) = value.get("prompt") {
        return conversation(&value).map_err(anyhow::Error::msg);
    }
    let text = |key: &str| value[key].as_str().map(str::to_owned);
    let named = |key: &str| Some((key.to_owned(), text(key)?));
    let prompt = Asked::Text(text("prompt").context("the string field `prompt` is missing")?);
    let responses = match (named("response"), named("chosen"), named("rejected")) {
        (Some(response), ..) => vec![response],
        (None, Some(chosen), Some(rejected)) => vec![chosen, rejected],
        _ => anyhow::bail!("there is no text `response` in it, nor `chosen` and `rejected`"),
    };
    Ok(Item { prompt, responses })
}

/// A prompt of messages with its responses, in the forms that `genarm train` reads.
fn conversation(value: &Value) -> Result<Item, String> {
    let pair = value.get("rejected").is_some();
    let raw = pairs::parse(value, pair)?;
    let chosen = (if pair { "chosen" } else { "response" }.to_owned(), raw.chosen);
    let responses = std::iter::once(chosen).chain(raw.rejected.map(|text| ("rejected".to_owned(), text))).collect();
    Ok(Item { prompt: raw.prompt, responses })
}

fn heatmap(session: &mut Session, item: &Item, args: &Args) -> anyhow::Result<Heatmap> {
    let config = session.config();
    let head = |arm: &crate::config::ArmSpec| ArmHead {
        name: arm.name.clone(),
        weight: arm.weight,
        beta_r: beta_r(arm).unwrap_or(1.0),
    };
    let arms: Vec<ArmHead> = config.arms.iter().map(head).collect();
    let weights = config.weights();
    let mut responses = Vec::new();
    for (title, text) in &item.responses {
        let (prompt, mut tokens) = match &item.prompt {
            Asked::Text(asked) => read_response(session, asked, text, args.chat)?,
            Asked::Chat(messages) => session.prompts().chat_response(messages, text)?,
        };
        if prompt.base.is_empty() {
            return Err(crate::decode::DecodeError::EmptyPrompt.into());
        }
        let eos = session.vocab().eos();
        if args.eos && !(tokens.last().is_some() && tokens.last() == eos.as_ref()) {
            tokens.extend(eos);
        }
        let prompts = ScoredPrompts::new(&prompt.base, &prompt.experts);
        let hook = session.hook().clone();
        let scores = hook.with_guide(|guide| score(session.base(), guide, prompts, &tokens, &weights))?;
        responses.push(response(session, title, &scores, &arms));
    }
    let prompt = match &item.prompt {
        Asked::Text(asked) => asked.clone(),
        Asked::Chat(messages) => messages.iter().map(|m| m.content.as_str()).collect::<Vec<_>>().join("\n"),
    };
    Ok(Heatmap { prompt, arms, responses })
}

fn response(session: &Session, title: &str, scores: &[TokenScore], arms: &[ArmHead]) -> Response {
    let text = |token: Token| session.vocab().text(&[token], true);
    let cell = |s: &TokenScore| Cell {
        token: s.token,
        text: text(s.token),
        base: s.base,
        guided: s.guided,
        arms: s.arms.clone(),
        against: s.references.iter().map(|reference| reference.unwrap_or(s.base)).collect(),
        kl: s.kl,
        flipped: s.flipped(),
        base_best: text(s.base_best),
        guided_best: text(s.guided_best),
    };
    let totals = Totals::of(scores, arms.len());
    let rewards = arms.iter().zip(&totals.arms).map(|(arm, sum)| arm.beta_r * sum).collect();
    Response { title: title.to_owned(), tokens: scores.iter().map(cell).collect(), totals, rewards }
}
