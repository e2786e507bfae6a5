//! `genarm chat`

mod commands;
mod faults;
mod input;
mod kept;
mod keys;
mod seeds;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use commands::{Command, HELP};
use faults::{is_full, lost_server, shown};
use input::{Input, Line};
use kept::{Kept, check_kept};
use keys::Keys;
use seeds::Seeds;

use super::generate::Writer;
use super::input::{Source, unescaped, unescaped_all};
use super::load::{ConfigArgs, catch_interrupts, n_predict, open};
use super::output::print;
use crate::chat::Conversation;
use crate::config::{ArmSpec, Config, ReadingSpec, Speculate};
use crate::decode::Finish;
use crate::engine::llama::interrupt_flag;
use crate::sampling::params::{RANDOM_SEED, SamplingParams};
use crate::session::{Session, with_known_seed};

/// Talk with the guided base, changing weights as you go
///
/// Each model reads the conversation through its own chat template. Type /help for the commands. -f takes a
/// configuration (.yaml, .yml, .json, or a file with its keys), or the first message's file, as in llama.cpp.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// First message
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, conflicts_with = "file")]
    prompt: Option<String>,
    /// Read the first message from a file
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Leave after the first answer
    #[arg(long)]
    single_turn: bool,
    /// End an answer before this string; repeatable
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    stop: Vec<String>,
    /// Read \n, \r, \t, \', \", \\ and \xHH in the first message, in --stop and in --dry-sequence-breaker
    #[arg(long, short = 'e')]
    escape: bool,
    /// Most tokens per answer, -1 for as many as fit
    #[arg(long, short, value_name = "N", default_value_t = -1, allow_negative_numbers = true, value_parser = n_predict)]
    n_predict: i64,
    /// Go on with a saved conversation
    #[arg(long, value_name = "FILE", conflicts_with = "session")]
    load: Option<PathBuf>,
    /// Keep the conversation in this file, and go on with it if it is there; the models' caches go to FILE.cache
    #[arg(long, value_name = "FILE")]
    session: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigArgs,
}

/// Talks until the input ends.
pub fn run(mut args: Args) -> anyhow::Result<()> {
    let mut first = args.first_message()?;
    if args.escape {
        args.config.unescape()?;
        args.stop = unescaped_all(&args.stop)?;
        first = first.map(|text| unescaped(&text)).transpose()?;
    }
    args.config.takes_prompt = true;
    let config = args.config.resolve_to_draft()?;
    catch_interrupts()?;
    args.session.as_deref().map(check_kept).transpose()?;
    let seed = Some(config.sampling.seed).filter(|seed| *seed != RANDOM_SEED);
    let sampling = with_known_seed(&config.sampling);
    // Each answer has a seed, and gives that answer again; who asks for measured times by name does without.
    let speculate = match &args.config.overrides.speculate {
        Some(Speculate::Auto) => config.speculate.clone(),
        _ => config.speculate.clone().under_a_seed(),
    };
    let seeds = Seeds::new(sampling.seed);
    let config = Config { sampling, speculate, ..config };
    let conversation = Conversation::new(config.prompt.system.clone());
    let n_predict = usize::try_from(args.n_predict).unwrap_or(usize::MAX);
    let stop = args.stop;
    let mut chat = Chat { config, session: None, conversation, n_predict, stop, seeds, chosen: false, kept: None };
    // Say now what would fail at the first message.
    chat.session()?.chat_prompt(&{
        let mut probe = Conversation::new(None);
        probe.push_user("Hello");
        probe
    })?;
    if let Some(path) = &args.load {
        chat.load(path)?;
    }
    if let Some(path) = &args.session {
        chat.keep_in(path, seed)?;
    }
    let talked = talk(&mut chat, first, args.single_turn);
    chat.keep_caches();
    talked
}

/// Answers the first message, where there is one, then reads lines and does what they say.
fn talk(chat: &mut Chat, first: Option<String>, single_turn: bool) -> anyhow::Result<()> {
    let terminal = std::io::stdin().is_terminal();
    let arms = chat.config.weight_names();
    let mut input = Input::new(terminal, arms, chat.config.profiles.keys().cloned().collect())?;
    if terminal {
        eprintln!("Type /help for the commands. Weights: {}", chat.weights()?);
    }
    if let Some(text) = first {
        chat.ask_and_keep(&text).or_else(|error| shown(terminal && !single_turn, error))?;
        if single_turn {
            return Ok(());
        }
    }
    loop {
        interrupt_flag().store(false, Ordering::Relaxed);
        match input.read()? {
            Line::Said(text) if text.trim().is_empty() => {}
            Line::Said(text) => match chat.take_and_keep(text.trim()) {
                Ok(true) if single_turn && chat.has_answered() => return Ok(()),
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(error) => shown(terminal, error)?,
            },
            Line::Interrupted => eprintln!("(Ctrl-D leaves)"),
            Line::End => return Ok(()),
        }
    }
}

impl Args {
    /// What `--prompt` or `--file` says first.
    fn first_message(&self) -> anyhow::Result<Option<String>> {
        let source = Source::of(self.prompt.as_deref(), self.file.as_deref());
        match (source, &self.prompt) {
            (Source::Stdin, Some(text)) => Ok(Some(text.clone())),
            (Source::Stdin, None) => Ok(None),
            (source, _) => source.read().map(Some),
        }
    }
}

/// What helps where the context is full.
const OFFER: &str = "/drop forgets the oldest messages, /clear all of them";

struct Chat {
    config: Config,
    /// Absent after a server was lost, until it is needed again.
    session: Option<Session>,
    conversation: Conversation,
    n_predict: usize,
    /// Strings before which an answer ends.
    stop: Vec<String>,
    seeds: Seeds,
    /// Whether the next seed was asked for: then its answer does not depend, by a rounding, on what was read before.
    chosen: bool,
    /// The file that it is kept in.
    kept: Option<Kept>,
}

impl Chat {
    /// The models, loaded if they are not.
    fn session(&mut self) -> anyhow::Result<&mut Session> {
        let session = match self.session.take() {
            Some(session) => session,
            None => open(self.config.clone())?,
        };
        Ok(self.session.insert(session))
    }

    /// Lets go of models whose server is lost, so that the next answer connects again, and keeps the weights.
    fn drop_models(&mut self) {
        if let Some(session) = self.session.take() {
            self.config.start_with(&session.weights().get());
        }
    }

    /// Does what a line says, and keeps what has changed. False to leave.
    fn take_and_keep(&mut self, line: &str) -> anyhow::Result<bool> {
        let taken = self.take(line);
        let kept = self.keep_text();
        taken.and_then(|goes_on| kept.map(|()| goes_on))
    }

    /// Answers a message, which may begin with a slash, and keeps both.
    fn ask_and_keep(&mut self, text: &str) -> anyhow::Result<()> {
        let asked = self.ask(text);
        let kept = self.keep_text();
        asked.and(kept)
    }

    fn ask(&mut self, text: &str) -> anyhow::Result<()> {
        self.say(text);
        // Before the answer: a kill in its middle must not take the question along. What goes wrong is reported after
        // it.
        let _ = self.keep_text();
        self.answer()
    }

    /// Whether the last message has an answer.
    fn has_answered(&self) -> bool {
        self.conversation.turns().last().is_some_and(|turn| turn.role == "assistant")
    }

    /// Does what a line says. False to leave.
    fn take(&mut self, line: &str) -> anyhow::Result<bool> {
        let Some(command) = line.strip_prefix('/') else {
            self.ask(line)?;
            return Ok(true);
        };
        match Command::parse(command).map_err(anyhow::Error::msg)? {
            Command::Help => eprint!("{HELP}"),
            Command::Quit => return Ok(false),
            Command::ShowWeights => eprintln!("{}", self.weights()?),
            Command::SetWeight(name, weight) => {
                self.session()?.weights().set(&name, weight)?;
                eprintln!("{}", self.weights()?);
            }
            Command::ListPersonas => eprintln!("{}", self.personas()),
            Command::Persona(name, text) => self.set_persona(&name, text)?,
            Command::ListProfiles => eprintln!("{}", self.profiles()),
            Command::Profile(name) => {
                let weights = self.config.profile(&name)?;
                self.session()?.weights().set_all(&weights)?;
                eprintln!("{}", self.weights()?);
            }
            Command::Retry if self.conversation.retry() => self.answer()?,
            Command::Retry => anyhow::bail!("there is nothing to answer yet"),
            Command::Seed(seed) => self.set_seed(seed)?,
            Command::Undo => match self.conversation.undo() {
                Some(message) => eprintln!("removed: {message}"),
                None => anyhow::bail!("nothing to remove"),
            },
            Command::Drop(n) => self.drop_oldest(n)?,
            Command::Clear => {
                self.conversation.clear();
                eprintln!("forgot all messages");
            }
            Command::System(text) => self.conversation.system = text,
            Command::Save(file) => self.save(Path::new(&file))?,
            Command::Load(file) => {
                self.load(Path::new(&file))?;
            }
        }
        Ok(true)
    }

    /// Adds a persona, changes its text, or removes it. The models are opened again for it, with their weights.
    fn set_persona(&mut self, name: &str, text: Option<String>) -> anyhow::Result<()> {
        let at = self.config.arms.iter().position(|arm| arm.name == name);
        if let Some(at) = at
            && !self.config.arms[at].reading.is_persona()
        {
            anyhow::bail!("\"{name}\" is an ARM with a model of its own; name the persona otherwise");
        }
        if at.is_none() && self.config.weight_names().iter().any(|other| other == name) {
            anyhow::bail!("\"{name}\" is an objective of an ARM; name the persona otherwise");
        }
        if at.is_none() && text.is_none() {
            anyhow::bail!("there is no persona \"{name}\"; {}", self.personas());
        }
        self.drop_models();
        let before = self.config.clone();
        match (at, text) {
            (None, None) => {}
            (Some(at), None) => {
                self.config.arms.remove(at);
            }
            (Some(at), Some(text)) => self.config.arms[at].reading.system = Some(text),
            (None, Some(text)) => {
                let reading = ReadingSpec { system: Some(text), ..ReadingSpec::default() };
                let arm = ArmSpec::persona(name, &self.config.base, reading, 1.0);
                self.config.arms.push(arm);
            }
        }
        let names = self.config.weight_names();
        self.config.profiles.values_mut().for_each(|named| named.retain(|name, _| names.contains(name)));
        match self.weights() {
            Ok(weights) => eprintln!("{weights}"),
            Err(error) => {
                self.config = before;
                return Err(error);
            }
        }
        Ok(())
    }

    fn personas(&self) -> String {
        let text = |arm: &ArmSpec| Some(format!("{}: {}", arm.name, arm.reading.system.as_ref()?));
        let all: Vec<_> = self.config.arms.iter().filter_map(text).collect();
        if all.is_empty() { "no personas; /persona NAME TEXT makes one".to_owned() } else { all.join("\n") }
    }

    /// The next answer comes from this seed, or from a new random one.
    fn set_seed(&mut self, seed: Option<u32>) -> anyhow::Result<()> {
        let params = with_known_seed(&SamplingParams::default());
        self.seeds = Seeds::new(seed.unwrap_or(params.seed));
        self.chosen = true;
        // From now on nothing may follow measured times.
        let speculate = self.config.speculate.clone().under_a_seed();
        if speculate != self.config.speculate {
            let speculator = self.session()?.speculator(&speculate)?;
            self.session()?.replace_speculator(speculator);
            self.config.speculate = speculate;
        }
        Ok(())
    }

    /// Forgets the `n` oldest messages, or as many as leave half of the context for what comes.
    fn drop_oldest(&mut self, n: Option<usize>) -> anyhow::Result<()> {
        let mut dropped = 0;
        while n.is_none_or(|n| dropped < n) && self.conversation.drop_oldest() {
            dropped += 1;
            if n.is_none() && self.uses()? <= 0.5 {
                break;
            }
        }
        if dropped == 0 {
            anyhow::bail!("there is no older message to forget; /clear forgets the last one too");
        }
        eprintln!("forgot the {dropped} oldest messages; {} are left", self.conversation.turns().len());
        Ok(())
    }

    /// The share of the context that the conversation takes.
    fn uses(&mut self) -> anyhow::Result<f64> {
        let conversation = self.conversation.clone();
        let session = self.session()?;
        Ok(session.chat_prompt(&conversation)?.base.len() as f64 / session.n_ctx() as f64)
    }

    /// Adds what the user says: to a message that waits for its answer, where there is one.
    fn say(&mut self, line: &str) {
        let waits = self.conversation.turns().last().is_some_and(|turn| turn.role == "user");
        let before = if waits { self.conversation.undo() } else { None };
        self.conversation.push_user(before.map_or_else(|| line.to_owned(), |before| format!("{before}\n\n{line}")));
    }

    fn answer(&mut self) -> anyhow::Result<()> {
        let (conversation, n_predict, stop) = (self.conversation.clone(), self.n_predict, self.stop.clone());
        let params = SamplingParams { seed: self.seeds.take(), ..self.config.sampling.clone() };
        let anew = std::mem::take(&mut self.chosen);
        let generated = self.session().and_then(|session| {
            let prompt = session.chat_prompt(&conversation)?;
            let mut sampler = session.sampler(&params)?;
            if anew {
                session.slots()[0].forget();
            }
            let mut writer = Writer::new(session.vocab().clone(), stop, true);
            let mut fault = None;
            let mut keys = Keys::watch(session.weights().clone());
            let generated = session.generate(&mut sampler, &prompt, n_predict, &mut |step| {
                keys.take();
                writer.push(step.token).unwrap_or_else(|error| {
                    fault = Some(error);
                    crate::decode::Flow::Stop
                })
            })?;
            drop(keys);
            writer.finish()?;
            let full = prompt.base.len() + generated.tokens.len() >= session.n_ctx();
            fault.map_or(Ok((writer.text, generated.finish, full)), Err)
        });
        match generated {
            Ok((text, finish, full)) => {
                print("\n")?;
                match finish {
                    Finish::Length if full => eprintln!("(cut off: the context is full; {OFFER})"),
                    Finish::Length => eprintln!("(cut off: --n-predict is reached)"),
                    Finish::Interrupted => eprintln!("(interrupted)"),
                    Finish::Stop | Finish::Eos => {}
                }
                if self.config.speculate != Speculate::Auto {
                    eprintln!("(seed {})", params.seed);
                }
                self.conversation.push_assistant(text.trim());
                Ok(())
            }
            Err(error) if lost_server(&error) => {
                self.drop_models();
                Err(error.context("/retry answers again"))
            }
            // The message stays, and can be answered when there is room.
            Err(error) if self.conversation.turns().len() > 1 && is_full(&error) => {
                eprintln!("(no room for an answer: {}; {OFFER}, then /retry)", super::one_line(&error));
                Ok(())
            }
            Err(error) => {
                self.conversation.undo();
                Err(error)
            }
        }
    }

    fn weights(&mut self) -> anyhow::Result<String> {
        let weights = self.session()?.weights();
        let shown: Vec<_> = weights.names().iter().zip(weights.get()).map(|(name, w)| format!("{name}={w}")).collect();
        Ok(if shown.is_empty() { "no ARMs".to_owned() } else { shown.join(" ") })
    }

    fn profiles(&self) -> String {
        let names: Vec<_> = self.config.profiles.keys().map(String::as_str).collect();
        if names.is_empty() { "no profiles".to_owned() } else { names.join(" ") }
    }
}
