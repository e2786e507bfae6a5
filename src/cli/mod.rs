//! The command line: one file a subcommand. Results go to stdout, talk to stderr.

mod accuracy;
mod bench;
mod bench_drafters;
mod bench_noise;
mod calibrate;
mod chat;
mod compare;
mod completions;
mod devices;
mod download;
mod duel;
mod flags;
mod generate;
mod import;
mod input;
mod inspect;
mod interrupts;
mod load;
mod man;
mod measure;
mod method;
mod models;
mod output;
mod pairs;
mod plan;
mod profile;
mod pull;
mod quantize;
mod rpc_server;
mod run;
mod sample;
mod schema;
mod score;
mod serve;
mod stats;
mod sweep;
pub mod train;
mod version;
mod weights;

use std::fmt;
use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::brief;
use crate::config::ConfigError;
use crate::expert::ExpertError;

/// Steer GGUF language models token by token with autoregressive reward models (GenARM)
#[derive(Debug, Parser)]
#[command(
    name = "genarm",
    version,
    max_term_width = 100,
    after_help = "genarm --version -v shows llama.cpp's version, the devices and the processor's features."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Show llama.cpp's log; twice for all of it
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

#[derive(Debug, Subcommand)]
enum Command {
    Generate(Box<generate::Args>),
    Chat(Box<chat::Args>),
    Serve(Box<serve::Args>),
    Models(models::Args),
    Pull(pull::Args),
    Inspect(Box<inspect::Args>),
    Devices(devices::Args),
    RpcServer(rpc_server::Args),
    Score(Box<score::Args>),
    Accuracy(Box<accuracy::Args>),
    Sweep(Box<sweep::Args>),
    Compare(Box<compare::Args>),
    Calibrate(Box<calibrate::Args>),
    Duel(Box<duel::Args>),
    Bench(Box<bench::Args>),
    Pairs(Box<pairs::Args>),
    Train(Box<train::Args>),
    Import(import::Args),
    Quantize(quantize::Args),
    Run(run::Args),
    Weights(weights::Args),
    Schema(schema::Args),
    Completions(completions::Args),
    #[command(hide = true)]
    Man(man::Args),
}

/// A command line that contradicts itself or its configuration: exit code 2.
#[derive(Debug)]
struct Usage(String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// The user pressed Ctrl-C: exit code 130.
#[derive(Debug)]
struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// Runs the program with the arguments of the process.
pub fn main() -> ExitCode {
    let cli = match flags::parse(std::env::args_os().collect()) {
        Ok(cli) => cli,
        Err(refusal) => return refusal.report(),
    };
    let default = match cli.verbose {
        0 => "error,llama-cpp-2=off,genarm=warn",
        1 => "info",
        _ => "debug",
    };
    let filter = EnvFilter::try_from_env("GENARM_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(load::colours(&io::stderr()))
        .init();
    if matches!(cli.command, Command::Generate(_) | Command::Chat(_) | Command::Serve(_)) {
        for variable in flags::unread() {
            tracing::warn!("{variable} has no effect: genarm does not read it");
        }
    }
    let result = match cli.command {
        Command::Generate(args) => generate::run(*args),
        Command::Chat(args) => chat::run(*args),
        Command::Serve(args) => serve::run(*args, cli.verbose > 0),
        Command::Models(args) => models::run(&args),
        Command::Pull(args) => pull::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Devices(args) => devices::run(&args),
        Command::RpcServer(args) => rpc_server::run(&args),
        Command::Score(args) => score::run(*args),
        Command::Accuracy(args) => accuracy::run(*args),
        Command::Sweep(args) => sweep::run(*args),
        Command::Compare(args) => compare::run(*args),
        Command::Calibrate(args) => calibrate::run(&args),
        Command::Duel(args) => duel::run(*args),
        Command::Bench(args) => bench::run(*args),
        Command::Pairs(args) => pairs::run(*args),
        Command::Train(args) => train::run(*args),
        Command::Import(args) => import::run(&args),
        Command::Quantize(args) => quantize::run(&args),
        Command::Run(args) => run::run(args),
        Command::Weights(args) => weights::run(&args),
        Command::Schema(args) => schema::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(&error),
    }
}

/// Characters of a message: a flag may hold a text of any length.
const MAX_MESSAGE: usize = 4000;

/// An error and its causes, each once.
fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string).filter(|cause| !cause.is_empty()) {
        if !line.contains(&cause) {
            line += if line.is_empty() { "" } else { ": " };
            line += &cause;
        }
    }
    line
}

/// One line on stderr, and the exit code.
fn report(error: &anyhow::Error) -> ExitCode {
    if error.is::<Interrupted>() {
        return ExitCode::from(130);
    }
    // A decode that Ctrl-C has ended is reported as the failure that it looks like from within.
    if error.chain().any(|e| e.downcast_ref::<ExpertError>() == Some(&ExpertError::Interrupted)) {
        eprintln!("interrupted");
        return ExitCode::from(130);
    }
    // The reader of our output has gone (`genarm generate … | head`): nobody is left to complain to.
    let gone = |e: &io::Error| e.kind() == io::ErrorKind::BrokenPipe;
    if error.chain().any(|e| e.downcast_ref::<io::Error>().is_some_and(gone)) {
        return ExitCode::SUCCESS;
    }
    eprintln!("error: {}", brief::message(&one_line(error), MAX_MESSAGE));
    let usage = error.is::<Usage>() || error.downcast_ref::<ConfigError>().is_some_and(ConfigError::is_usage);
    ExitCode::from(if usage { 2 } else { 1 })
}
