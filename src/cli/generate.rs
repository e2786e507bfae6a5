//! `genarm generate`

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Instant;

use serde::Serialize;

use super::flags::is_model_name;
use super::input::{Source, refuse_second_text, unescaped, unescaped_all};
use super::load::{ConfigArgs, catch_interrupts, n_predict, open};
use super::measure::read_prompt;
use super::output::print;
use super::stats::Stats;
use super::{Interrupted, Usage};
use crate::config::Speculate;
use crate::decode::{Finish, Flow, Generated};
use crate::engine::llama::{Vocab, interrupt_flag};
use crate::engine::threads;
use crate::expert::Token;
use crate::guidance::{StepReport, TokenReport};
use crate::sampling::Sampler;
use crate::session::{Detokenizer, Prompt, Session, with_known_seed};

/// Continue a prompt under guidance
///
/// The prompt is an argument, a file, standard input or a list of tokens. The text goes to standard output as it is
/// generated. The prompt is continued as it is; with --chat it is a user's message, which the models read through their
/// chat templates, as instruct models need it. -f takes a configuration (.yaml, .yml, .json, or a file with its keys),
/// or the prompt's file, as in llama.cpp.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Prompt; without one, or with -, read standard input; one that begins with a dash comes after --
    #[arg(conflicts_with_all = ["file", "prompt_tokens", "prompt_flag"])]
    prompt: Option<String>,
    /// The same, as llama.cpp's tools take it
    #[arg(id = "prompt_flag", long = "prompt", value_name = "TEXT", allow_hyphen_values = true, conflicts_with_all = ["file", "prompt_tokens"], hide = true)]
    prompt_flag: Option<String>,
    /// Read the prompt from a file
    #[arg(long, value_name = "FILE", conflicts_with = "prompt_tokens")]
    file: Option<PathBuf>,
    /// Prompt in token ids, such as 1,2,3
    #[arg(long, value_name = "IDS", value_delimiter = ',')]
    prompt_tokens: Option<Vec<Token>>,
    /// Render the prompt as a user message, through each model's chat template; --system goes with it
    #[arg(long, conflicts_with = "prompt_tokens")]
    chat: bool,
    /// Tokens to generate, -1 for as many as fit
    #[arg(long, short, value_name = "N", default_value_t = -1, allow_negative_numbers = true, value_parser = n_predict)]
    n_predict: i64,
    /// Stop before this string; repeatable
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    stop: Vec<String>,
    /// Read \n, \r, \t, \', \", \\ and \xHH in the prompt, in --stop and in --dry-sequence-breaker
    #[arg(long, short = 'e')]
    escape: bool,
    /// Print one JSON object: text, tokens, finish_reason, usage, timings
    #[arg(long)]
    json: bool,
    /// Print what speculation and gating did, to standard error
    #[arg(long)]
    stats: bool,
    /// With --json, list the N likeliest tokens per step, with log-probabilities under base, guidance and each ARM
    #[arg(long, value_name = "N", requires = "json")]
    logprobs: Option<usize>,
    #[command(flatten)]
    config: ConfigArgs,
}

/// Up to so many tokens ggml does not split attention among threads (`ggml_compute_forward_flash_attn_ext_f16`).
const N_UNSPLIT: usize = 256;

/// Generates.
pub fn run(mut args: Args) -> anyhow::Result<()> {
    if let Some(file) = args.prompt.as_deref().filter(|text| is_model_name(text)) {
        let line =
            format!("\"{file}\" is a model, and generate's argument is the prompt; give the model with -m {file}");
        return Err(Usage(line).into());
    }
    if args.escape {
        args.stop = unescaped_all(&args.stop)?;
        args.config.unescape()?;
    }
    args.config.takes_prompt = true;
    let mut config = args.config.resolve_to_draft()?;
    config.goes_on();
    let source = Source::of(args.prompt.as_deref().or(args.prompt_flag.as_deref()), args.file.as_deref());
    let instead_of_stdin = match (&args.prompt_tokens, &source) {
        (Some(_), _) => Some("--prompt-tokens"),
        (None, Source::Argument(_)) => Some("the prompt that was typed"),
        (None, Source::File(_)) => Some("the one of --file"),
        (None, Source::Stdin) => None,
    };
    instead_of_stdin.map_or(Ok(()), refuse_second_text)?;
    let text = match args.prompt_tokens {
        Some(_) => String::new(),
        None if args.escape => unescaped(&source.read()?)?,
        None => source.read()?,
    };
    catch_interrupts()?;
    let mut session = open(config)?;
    let params = with_known_seed(&session.config().sampling);
    let mut sampler = session.sampler(&params)?;
    let prompt = match args.prompt_tokens {
        Some(tokens) => session.token_prompt(tokens)?,
        None => read_prompt(&session, &text, args.chat)?,
    };
    // What was still on its way has come by now.
    instead_of_stdin.map_or(Ok(()), refuse_second_text)?;
    let n_predict = usize::try_from(args.n_predict).unwrap_or(usize::MAX);
    let mut writer = Writer::new(session.vocab().clone(), args.stop, !args.json);
    let (start, n_reduced) = (Instant::now(), threads::n_reduced());
    let (generated, steps) =
        decode(&mut session, &mut sampler, &prompt, n_predict, params.temp, args.logprobs, &mut writer)?;
    writer.finish()?;
    let gated = session.hook().with_guide(|guide| guide.n_gated());
    let is_drafted = session.config().speculate == Speculate::Auto && generated.speculation.drafts > 0;
    // Flash attention over a longer text adds in another order on fewer threads.
    let is_rounded = threads::n_reduced() > n_reduced && prompt.base.len() + generated.tokens.len() > N_UNSPLIT;
    let stats = Stats::new(session.shared(), session.config().speculate.to_string(), &generated.speculation, gated);
    if args.json {
        let output = Output {
            text: &writer.text,
            tokens: &generated.tokens,
            finish_reason: generated.finish,
            seed: (!is_drafted && !is_rounded).then_some(params.seed),
            weights: session.weights().names().iter().cloned().zip(session.weights().get()).collect(),
            usage: Usages::new(prompt.base.len(), generated.tokens.len()),
            timings: Timings::new(&session, &sampler, &generated, start),
            stats: &stats,
            logprobs: args.logprobs.map(|_| steps),
        };
        print(&format!("{}\n", serde_json::to_string(&output)?))?;
    } else if !writer.text.ends_with('\n') {
        print("\n")?;
    }
    if args.stats {
        eprintln!("{stats}");
    }
    if generated.finish == Finish::Interrupted { Err(Interrupted.into()) } else { Ok(()) }
}

/// Generates, with a report a step where one is asked for.
fn decode(
    session: &mut Session,
    sampler: &mut Sampler,
    prompt: &Prompt,
    n_predict: usize,
    temp: f32,
    logprobs: Option<usize>,
    writer: &mut Writer,
) -> anyhow::Result<(Generated, Vec<ShownStep>)> {
    let (hook, vocab) = (session.hook().clone(), session.vocab().clone());
    let mut steps = Vec::new();
    let mut fault: Option<anyhow::Error> = None;
    let generated = session.generate(sampler, prompt, n_predict, &mut |step| {
        let mut take = || -> anyhow::Result<Flow> {
            if let Some(n) = logprobs {
                let explain =
                    |guide: &mut _| StepReport::explain(guide, step.history, step.logits, step.token, temp, n);
                steps.push(ShownStep::new(hook.with_guide(explain)?, &vocab));
            }
            writer.push(step.token)
        };
        take().unwrap_or_else(|error| {
            fault = Some(error);
            Flow::Stop
        })
    })?;
    match fault {
        // A second model may be interrupted after the first; the text so far is whole.
        Some(_) if interrupt_flag().load(Ordering::Relaxed) => {
            Ok((Generated { finish: Finish::Interrupted, ..generated }, steps))
        }
        Some(fault) => Err(fault),
        None => Ok((generated, steps)),
    }
}

/// Turns tokens into text, up to a stop string, and prints it as it comes.
pub struct Writer {
    pieces: Detokenizer,
    live: bool,
    /// What has been shown.
    pub text: String,
}

impl Writer {
    /// A writer that prints if `live`.
    pub fn new(vocab: Vocab, stop: Vec<String>, live: bool) -> Self {
        Self { pieces: Detokenizer::new(vocab, stop), live, text: String::new() }
    }

    /// Takes a token.
    pub fn push(&mut self, token: Token) -> anyhow::Result<Flow> {
        let flow = self.pieces.push(token);
        let shown = self.pieces.take_text();
        self.show(&shown)?;
        Ok(flow)
    }

    /// Shows what was held back.
    pub fn finish(&mut self) -> anyhow::Result<()> {
        let end = self.pieces.finish();
        let rest = self.pieces.take_text() + &end;
        self.show(&rest)
    }

    fn show(&mut self, text: &str) -> anyhow::Result<()> {
        self.text.push_str(text);
        if self.live && !text.is_empty() { print(text) } else { Ok(()) }
    }
}

#[derive(Serialize)]
struct Output<'a> {
    text: &'a str,
    tokens: &'a [Token],
    finish_reason: Finish,
    /// What gives this text again; `None` where that depends on measured times.
    seed: Option<u32>,
    weights: indexmap::IndexMap<String, f32>,
    usage: Usages,
    timings: Timings,
    stats: &'a Stats,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<Vec<ShownStep>>,
}

#[derive(Serialize)]
struct Usages {
    prompt_tokens: usize,
    completion_tokens: usize,
    total_tokens: usize,
}

impl Usages {
    fn new(prompt: usize, completion: usize) -> Self {
        Self { prompt_tokens: prompt, completion_tokens: completion, total_tokens: prompt + completion }
    }
}

/// Milliseconds.
#[derive(Serialize)]
struct Timings {
    prompt_ms: f64,
    base_ms: f64,
    arms_ms: f64,
    sampling_ms: f64,
    total_ms: f64,
    tokens_per_second: f64,
    base_decoded: u64,
    arms_decoded: u64,
}

impl Timings {
    fn new(session: &Session, sampler: &Sampler, generated: &Generated, start: Instant) -> Self {
        let ms = |d: std::time::Duration| d.as_secs_f64() * 1e3;
        let (arms, arms_decoded) = session.hook().with_guide(|guide| (guide.timing().arms, guide.n_decoded()));
        let total = start.elapsed();
        let seconds = total.saturating_sub(generated.prompt).as_secs_f64();
        Self {
            prompt_ms: ms(generated.prompt),
            base_ms: ms(generated.base),
            arms_ms: ms(arms),
            sampling_ms: ms(sampler.elapsed().saturating_sub(arms)),
            total_ms: ms(total),
            tokens_per_second: if seconds > 0.0 { generated.tokens.len() as f64 / seconds } else { 0.0 },
            base_decoded: session.n_decoded(),
            arms_decoded,
        }
    }
}

/// A [`StepReport`] with texts.
#[derive(Serialize)]
struct ShownStep {
    chosen: ShownToken,
    top: Vec<ShownToken>,
    kl: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    lambda: Option<f32>,
    flipped: bool,
}

#[derive(Serialize)]
struct ShownToken {
    text: String,
    #[serde(flatten)]
    report: TokenReport,
}

impl ShownStep {
    fn new(report: StepReport, vocab: &Vocab) -> Self {
        let with_text = |report: TokenReport| ShownToken { text: vocab.text(&[report.token], true), report };
        let StepReport { top, chosen, kl, lambda, flipped } = report;
        Self { chosen: with_text(chosen), top: top.into_iter().map(with_text).collect(), kl, lambda, flipped }
    }
}
