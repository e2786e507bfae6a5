//! `genarm chat`

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use rustyline::error::ReadlineError;
use rustyline::{DefaultEditor, history::History as _};

use super::generate::{Writer, print};
use super::load::{ConfigArgs, catch_interrupts, colours, open};
use crate::chat::Conversation;
use crate::config::{Config, parse_weight};
use crate::decode::{DecodeError, Finish};
use crate::engine::llama::{LoadError, interrupt_flag};
use crate::expert::ExpertError;
use crate::sampling::Sampler;
use crate::session::{Session, SessionError, with_known_seed};

const HELP: &str = "\
/weight NAME=W   set an ARM's weight, from the next token on (/weight shows them)
/profile NAME    take the weights of a profile (/profile lists them)
/retry           answer the last message again
/undo            take back the last message and its answer
/system [TEXT]   set the system prompt; without a text, remove it
/save FILE       write the conversation and the weights to a file
/load FILE       go on with a saved conversation
/help            show this
/quit            leave (or Ctrl-D); Ctrl-C ends an answer
";

/// Talk with the guided base, changing weights as you go
///
/// Each model reads the conversation through its own chat template. Type /help for the commands.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Tokens of an answer at most, -1 for as many as fit
    #[arg(long, short, value_name = "N", default_value_t = -1, allow_negative_numbers = true)]
    n_predict: i64,
    /// Go on with a saved conversation
    #[arg(long, value_name = "FILE")]
    load: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigArgs,
}

/// Talks until the input ends.
pub fn run(args: Args) -> anyhow::Result<()> {
    let config = args.config.resolve()?;
    catch_interrupts()?;
    let config = Config { sampling: with_known_seed(&config.sampling), ..config };
    let conversation = Conversation::new(config.prompt.system.clone());
    let n_predict = usize::try_from(args.n_predict).unwrap_or(usize::MAX);
    let mut chat = Chat { config, models: None, conversation, n_predict };
    // Say now what would fail at the first message.
    chat.models()?.session.chat_prompt(&{
        let mut probe = Conversation::new(None);
        probe.push_user("Hello");
        probe
    })?;
    if let Some(path) = &args.load {
        chat.load(path)?;
    }
    let mut editor = DefaultEditor::new()?;
    let terminal = std::io::stdin().is_terminal();
    let mark = if colours(&std::io::stdout()) { "\x1b[1m> \x1b[0m" } else { "> " };
    if terminal {
        eprintln!("Type /help for the commands. Weights: {}", chat.weights()?);
    }
    loop {
        interrupt_flag().store(false, Ordering::Relaxed);
        match editor.readline(if terminal { mark } else { "" }) {
            Ok(line) if line.trim().is_empty() => {}
            Ok(line) => {
                let _ = editor.history_mut().add(&line);
                match chat.take(line.trim()) {
                    Ok(true) => {}
                    Ok(false) => return Ok(()),
                    // A wrong command is no reason to lose the conversation.
                    Err(error) if terminal => eprintln!("error: {}", super::one_line(&error)),
                    Err(error) => return Err(error),
                }
            }
            Err(ReadlineError::Interrupted) => eprintln!("(Ctrl-D leaves)"),
            Err(ReadlineError::Eof) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether a server is gone that held a part of a model: it may come back.
fn lost_server(error: &anyhow::Error) -> bool {
    let lost = |e: &ExpertError| matches!(e, ExpertError::Server { .. });
    let expert = error.chain().find_map(|e| match e.downcast_ref::<DecodeError>() {
        Some(DecodeError::Base(expert)) => Some(expert),
        _ => e.downcast_ref::<ExpertError>(),
    });
    let load = error.chain().any(|e| {
        matches!(e.downcast_ref::<SessionError>(), Some(SessionError::Load { source: LoadError::Server { .. }, .. }))
    });
    load || expert.is_some_and(lost)
}

struct Chat {
    config: Config,
    /// Absent after a server was lost, until they are needed again.
    models: Option<Models>,
    conversation: Conversation,
    n_predict: usize,
}

/// What the conversation runs on.
struct Models {
    session: Session,
    sampler: Sampler,
}

impl Chat {
    /// The models, loaded if they are not.
    fn models(&mut self) -> anyhow::Result<&mut Models> {
        let models = match self.models.take() {
            Some(models) => models,
            None => {
                let session = open(self.config.clone())?;
                let sampler = session.sampler(&self.config.sampling)?;
                Models { session, sampler }
            }
        };
        Ok(self.models.insert(models))
    }

    /// Lets go of models whose server is lost, so that the next answer connects again, and keeps the weights.
    fn drop_models(&mut self) {
        if let Some(Models { session, .. }) = self.models.take() {
            for (arm, weight) in self.config.arms.iter_mut().zip(session.weights().get()) {
                arm.weight = weight;
            }
        }
    }

    /// Does what a line says. False to leave.
    fn take(&mut self, line: &str) -> anyhow::Result<bool> {
        let Some(command) = line.strip_prefix('/') else {
            self.conversation.push_user(line);
            self.answer()?;
            return Ok(true);
        };
        let (name, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        match (name, rest.trim()) {
            ("help", _) => eprint!("{HELP}"),
            ("quit" | "exit", _) => return Ok(false),
            ("weight", "") => eprintln!("{}", self.weights()?),
            ("weight", rest) => {
                let (name, weight) = parse_weight(rest).map_err(anyhow::Error::msg)?;
                self.models()?.session.weights().set(&name, weight)?;
                eprintln!("{}", self.weights()?);
            }
            ("profile", "") => eprintln!("{}", self.profiles()),
            ("profile", name) => {
                let weights = self.config.profile(name)?;
                self.models()?.session.weights().set_all(&weights)?;
                eprintln!("{}", self.weights()?);
            }
            ("retry", _) if self.conversation.retry() => self.answer()?,
            ("retry", _) => anyhow::bail!("there is nothing to answer yet"),
            ("undo", _) => match self.conversation.undo() {
                Some(message) => eprintln!("took back: {message}"),
                None => anyhow::bail!("there is nothing to take back"),
            },
            ("system", "") => self.conversation.system = None,
            ("system", text) => self.conversation.system = Some(text.to_owned()),
            ("save", "") | ("load", "") => anyhow::bail!("/{name} needs a file name"),
            ("save", file) => {
                let weights = self.models()?.session.weights();
                let weights = weights.names().iter().cloned().zip(weights.get()).collect();
                self.conversation.weights = Some(weights);
                self.conversation.save(Path::new(file))?;
                eprintln!("saved {} messages to {file}", self.conversation.turns().len());
            }
            ("load", file) => self.load(Path::new(file))?,
            (unknown, _) => anyhow::bail!("there is no command /{unknown}; /help lists them"),
        }
        Ok(true)
    }

    fn load(&mut self, path: &Path) -> anyhow::Result<()> {
        let loaded = Conversation::load(path)?;
        for (name, weight) in loaded.weights.iter().flatten() {
            // A conversation may come from another set of ARMs.
            if let Err(error) = self.models()?.session.weights().set(name, *weight) {
                eprintln!("warning: {error}");
            }
        }
        eprintln!("loaded {} messages; weights: {}", loaded.turns().len(), self.weights()?);
        self.conversation = loaded;
        Ok(())
    }

    fn answer(&mut self) -> anyhow::Result<()> {
        let (conversation, n_predict) = (self.conversation.clone(), self.n_predict);
        let generated = self.models().and_then(|Models { session, sampler }| {
            let prompt = session.chat_prompt(&conversation)?;
            let mut writer = Writer::new(session.vocab().clone(), Vec::new(), true);
            let mut fault = None;
            let generated = session.generate(sampler, &prompt, n_predict, &mut |step| {
                writer.push(step.token).unwrap_or_else(|error| {
                    fault = Some(error);
                    crate::decode::Flow::Stop
                })
            })?;
            writer.finish()?;
            fault.map_or(Ok((writer.text, generated.finish)), Err)
        });
        match generated {
            Ok((text, finish)) => {
                print("\n")?;
                match finish {
                    Finish::Length => eprintln!("(cut off: --n-predict or the context is reached)"),
                    Finish::Interrupted => eprintln!("(interrupted)"),
                    Finish::Stop | Finish::Eos => {}
                }
                self.conversation.push_assistant(text.trim());
                Ok(())
            }
            Err(error) if lost_server(&error) => {
                self.drop_models();
                Err(error.context("/retry answers again"))
            }
            Err(error) => {
                self.conversation.undo();
                Err(error)
            }
        }
    }

    fn weights(&mut self) -> anyhow::Result<String> {
        let weights = self.models()?.session.weights();
        let shown: Vec<_> = weights.names().iter().zip(weights.get()).map(|(name, w)| format!("{name}={w}")).collect();
        Ok(if shown.is_empty() { "no ARMs".to_owned() } else { shown.join(" ") })
    }

    fn profiles(&self) -> String {
        let names: Vec<_> = self.config.profiles.keys().map(String::as_str).collect();
        if names.is_empty() { "no profiles".to_owned() } else { names.join(" ") }
    }
}
