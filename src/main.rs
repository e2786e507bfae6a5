//! The `genarm` command.

use clap::{Parser, Subcommand};
use genarm::cli;

#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Train(Box<cli::train::Args>),
}

fn main() {
    let result = match Cli::parse().command {
        Command::Train(args) => cli::train::run(*args),
    };
    if let Err(e) = result {
        eprintln!("error: {e:#}");
        std::process::exit(1);
    }
}
