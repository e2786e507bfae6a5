//! What commands share: the configuration's arguments, loading with a progress bar, Ctrl-C, colours.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::{ArgMatches, Command, FromArgMatches};
use indicatif::{ProgressBar, ProgressStyle};

use super::download::HubArgs;
use super::flags::{Variables, check_config, has_keys, is_yaml};
use super::input::unescaped_all;
pub use super::interrupts::catch_interrupts;
use crate::config::{Config, ConfigError, Overrides, Problem};
use crate::engine::llama::interrupt_flag;
use crate::eval::heatmap::Palette;
use crate::session::Session;

/// Where preferences come from.
#[derive(Debug, Clone, Default)]
pub struct ConfigArgs {
    pub config: Option<PathBuf>,
    /// What was typed, and what variables say; of the base only what was typed stands over the file.
    pub overrides: Overrides,
    pub hub: HubArgs,
    pub variables: Variables,
    /// Whether the command takes a prompt's file, too.
    pub takes_prompt: bool,
}

/// The flags of [`ConfigArgs`].
#[derive(clap::Args)]
struct Flags {
    /// Preferences: a YAML file with base, ARMs, weights, profiles and sampling
    #[arg(long, short = 'f', value_name = "FILE", env = "GENARM_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    overrides: Overrides,
    #[command(flatten)]
    hub: HubArgs,
}

impl clap::Args for ConfigArgs {
    fn augment_args(command: Command) -> Command {
        Flags::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Flags::augment_args_for_update(command)
    }
}

impl FromArgMatches for ConfigArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let variables = Variables::of(matches);
        let Flags { config, mut overrides, hub } = Flags::from_arg_matches(matches)?;
        // A configuration names the base that its ARMs are for.
        overrides.fallback_base = match variables.say("base") {
            true => overrides.base.take(),
            false => Variables::hub_base(),
        };
        Ok(Self { config, overrides, hub, variables, takes_prompt: false })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl ConfigArgs {
    /// Whether a configuration or a base was typed; variables may name others.
    pub fn names_models(&self) -> bool {
        self.config.is_some() && !self.variables.say("config") || self.overrides.base.is_some()
    }

    /// The file under the command line, resolved.
    pub fn resolve(&self) -> anyhow::Result<Config> {
        self.resolved(false)
    }

    /// The same for a command whose tokens may be drafted.
    pub fn resolve_to_draft(&self) -> anyhow::Result<Config> {
        self.resolved(true)
    }

    /// Reads escapes in what was typed of the sampling, as llama.cpp's `--escape` does.
    pub fn unescape(&mut self) -> anyhow::Result<()> {
        if let Some(breakers) = &mut self.overrides.sampling.dry_sequence_breakers {
            *breakers = unescaped_all(breakers)?;
        }
        Ok(())
    }

    fn resolved(&self, drafts: bool) -> anyhow::Result<Config> {
        let config = self.load(self.config.as_deref())?;
        check_config(&self.overrides, &self.variables, &config, drafts).map_err(super::Usage)?;
        Ok(config)
    }

    /// A file under the command line, resolved. Models by name that are not on this machine are downloaded.
    pub fn load(&self, file: Option<&Path>) -> anyhow::Result<Config> {
        self.hub.load(file, &self.overrides, |error| self.explained(error))
    }

    /// A prompt's file given as a configuration gets that said too.
    fn explained(&self, error: ConfigError) -> anyhow::Error {
        let of_contents = !error.is_usage() && !matches!(*error.problem, Problem::Read(_));
        match &self.config {
            Some(file) if self.takes_prompt && of_contents && !(is_yaml(file) && has_keys(file)) => {
                anyhow::Error::new(error).context("--config takes a configuration in YAML, and --file a prompt's text")
            }
            _ => error.into(),
        }
    }
}

/// Opens a session with a progress bar.
pub fn open(config: Config) -> anyhow::Result<Session> {
    open_slots(config, 1)
}

/// The same with room for `n_slots` texts at once.
pub fn open_slots(config: Config, n_slots: usize) -> anyhow::Result<Session> {
    let mut bar: Option<(PathBuf, ProgressBar)> = None;
    let flag = interrupt_flag();
    let result = Session::open_slots(config, n_slots, &mut |path, share| {
        if bar.as_ref().is_none_or(|(shown, _)| shown != path) {
            if let Some((_, bar)) = bar.take() {
                bar.finish_and_clear();
            }
            bar = Some((path.to_owned(), progress(&format!("loading {}", file_name(path)), 1000)));
        }
        if let Some((_, bar)) = &bar {
            bar.set_position((share * 1000.0) as u64);
        }
        !flag.load(Ordering::Relaxed)
    });
    if let Some((_, bar)) = bar {
        bar.finish_and_clear();
    }
    if flag.load(Ordering::Relaxed) {
        return Err(super::Interrupted.into());
    }
    let mut session = result?;
    let mut bar = None;
    session.base().on_progress(Some(Box::new(move |done, total| {
        let bar = bar.get_or_insert_with(|| progress("reading the prompt", total as u64));
        bar.set_position(done as u64);
        if done == total {
            bar.finish_and_clear();
        }
    })));
    Ok(session)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// A bar on stderr, hidden where that is no terminal.
pub fn progress(what: &str, total: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {percent:>3}% {eta}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(total).with_style(style).with_message(what.to_owned());
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// Whether to colour what goes to `stream` (<https://no-color.org>).
pub fn colours(stream: &impl IsTerminal) -> bool {
    palette(stream) != Palette::None
}

/// How many colours go to `stream`.
pub fn palette(stream: &impl IsTerminal) -> Palette {
    if !stream.is_terminal() || std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty()) {
        return Palette::None;
    }
    let variable = |name| std::env::var(name).unwrap_or_default();
    Palette::of(&variable("TERM"), &variable("COLORTERM"))
}

/// Reads `host:port`.
pub fn endpoint(s: &str) -> Result<String, String> {
    crate::config::check_endpoint(s)
}

/// Reads a bound on tokens: -1 is as many as fit, and so is llama.cpp's -2.
pub fn n_predict(s: &str) -> Result<i64, String> {
    let n = s.parse().ok().filter(|n| *n >= -2);
    n.ok_or_else(|| "must be at least 0, or -1 for as many as fit".to_owned())
}
