//! `genarm man`

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Arg, Command};

use crate::files::write_whole;

/// Write the man pages into a folder, for packagers
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder; it is made where it is not there
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Writes `genarm.1`, and a page for every command.
pub fn run(args: &Args) -> anyhow::Result<()> {
    std::fs::create_dir_all(&args.folder).with_context(|| args.folder.display().to_string())?;
    let mut program = super::flags::command().disable_help_subcommand(true);
    program.build();
    for command in program.get_subcommands().filter(|command| !command.is_hide_set()) {
        write(&args.folder, command.clone().mut_args(with_aliases))?;
    }
    write(&args.folder, program)
}

/// A flag with its other names in its help: pages show only the first ones.
fn with_aliases(arg: Arg) -> Arg {
    let long = arg.get_visible_aliases().unwrap_or_default().into_iter().map(|name| format!("--{name}"));
    let short = arg.get_visible_short_aliases().unwrap_or_default().into_iter().map(|name| format!("-{name}"));
    let names: Vec<_> = short.chain(long).collect();
    if names.is_empty() {
        return arg;
    }
    let also = format!(" [also: {}]", names.join(", "));
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    match arg.get_long_help().map(ToString::to_string) {
        Some(long) => arg.help(help + &also).long_help(long + &also),
        None => arg.help(help + &also),
    }
}

/// Writes the page of a command, whole or not at all.
fn write(folder: &Path, command: Command) -> anyhow::Result<()> {
    // `genarm-chat`: the name of a command's page.
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    let file = folder.join(format!("{name}.1"));
    let mut page = Vec::new();
    // Nothing of a page depends on the day, so that a package can be made again.
    clap_mangen::Man::new(command.version(env!("CARGO_PKG_VERSION"))).render(&mut page)?;
    write_whole(&file, |new| std::fs::write(new, &page)).with_context(|| file.display().to_string())
}
