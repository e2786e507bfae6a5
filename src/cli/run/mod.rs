//! `genarm run`

mod hosts;
mod service;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use super::Usage;
use crate::config::{Overrides, parse_weight};
use crate::installed;

/// Run an unmodified llama.cpp tool under guidance
///
/// genarm becomes the first sampler of each of the tool's chains. The tool's own options (base model, sampling, prompt)
/// stay as they are. It must be linked with llama.cpp as a shared library, as in distributions and the released
/// archives. The weights follow the file while the tool runs. A tool may start others, as Ollama does: those are
/// guided, and where the file has `hosts:`, only those that run a model named there.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Preferences: a YAML file with ARMs and weights
    #[arg(long, short = 'f', value_name = "FILE", env = "GENARM_CONFIG")]
    config: PathBuf,
    /// Set of weights from the file's `profiles:`
    #[arg(long, value_name = "NAME", env = "GENARM_PROFILE")]
    profile: Option<String>,
    /// Weight of an ARM, over the file and the profile; repeatable
    #[arg(long = "weight", short = 'w', value_name = "NAME=W", value_parser = parse_weight)]
    weights: Vec<(String, f32)>,
    /// End a tool that should be guided and cannot be; by default it runs unguided
    #[arg(long)]
    strict: bool,
    /// Print a systemd drop-in that starts the service's program in this way, and run nothing
    #[arg(long)]
    systemd_drop_in: bool,
    /// The tool and its arguments
    #[arg(last = true, required = true, value_name = "TOOL")]
    tool: Vec<OsString>,
}

#[cfg(target_os = "macos")]
const PRELOAD: (&str, &str, &str) = ("DYLD_INSERT_LIBRARIES", "libgenarm_preload.dylib", "libgenarm.dylib");
#[cfg(not(target_os = "macos"))]
const PRELOAD: (&str, &str, &str) = ("LD_PRELOAD", "libgenarm_preload.so", "libgenarm.so");

/// Becomes the tool.
pub fn run(args: Args) -> anyhow::Result<()> {
    let Some((tool, arguments)) = args.tool.split_first() else {
        return Err(Usage("no tool; pass it after --".into()).into());
    };
    if let Some(refusal) = refusal(std::env::consts::OS, tool) {
        bail!(refusal);
    }
    // What is wrong with the configuration is reported before the tool loads its model.
    let overrides = Overrides { profile: args.profile.clone(), weights: args.weights.clone(), ..Overrides::default() };
    let guided = hosts::resolve(&args.config, &overrides)?;
    let (variable, shim, library) = PRELOAD;
    let folder = installed::folder().context("cannot find the folder of this program; start it by its path")?;
    let folders = installed::libraries(&folder);
    let (shim, library) = (find(&folders, shim)?, find(&folders, library)?);
    if let Some(refusal) = cannot_be_preloaded(variable, &shim) {
        bail!(refusal);
    }
    if args.systemd_drop_in {
        return service::print(&args, &guided, &[shim, library]);
    }
    if let Some((missing, _)) = guided.missing.first().filter(|_| args.strict) {
        bail!("{missing}; without --strict, genarm run starts the tool nevertheless");
    }
    for (missing, then) in &guided.missing {
        eprintln!("genarm: {missing}; {then}");
    }
    for note in &guided.notes {
        eprintln!("genarm: {note}");
    }
    // A tool in a list of preloads that the user has set stays beside ours.
    let mut preload = shim.into_os_string();
    if let Some(others) = std::env::var_os(variable).filter(|others| !others.is_empty()) {
        preload.push(":");
        preload.push(others);
    }
    let mut command = Command::new(tool);
    command.args(arguments).env(variable, preload).env("GENARM_LIBRARY", library);
    command.env("GENARM_CONFIG", std::path::absolute(&args.config)?).env("GENARM_RUN", "1");
    match &guided.models {
        Some(models) => command.env("GENARM_HOST_MODELS", models),
        None => command.env_remove("GENARM_HOST_MODELS"),
    };
    if let Some(profile) = &args.profile {
        command.env("GENARM_PROFILE", profile);
    }
    if !args.weights.is_empty() {
        let weights: Vec<_> = args.weights.iter().map(|(name, weight)| format!("{name}={weight}")).collect();
        command.env("GENARM_WEIGHTS", weights.join(","));
    }
    if args.strict {
        command.env("GENARM_STRICT", "1");
    }
    exec(command).with_context(|| format!("cannot run {}", Path::new(tool).display()))
}

/// Why a tool cannot be guided on a system, whatever the configuration.
fn refusal(system: &str, tool: &OsStr) -> Option<&'static str> {
    match system {
        "linux" => None,
        "macos" if Path::new(tool).file_stem().is_some_and(|name| name.eq_ignore_ascii_case("ollama")) => Some(
            "Ollama cannot be guided on macOS: there its llama.cpp is linked statically, and its signature forbids \
             preloads; run genarm serve with the same models instead",
        ),
        "macos" => None,
        _ => Some(
            "genarm run works on Linux and macOS only; here run genarm serve, link libgenarm, or use the Python \
             package (docs/plugin.md)",
        ),
    }
}

/// Why the linker cannot find a library of this path: it takes blanks and colons for the ends of paths.
fn cannot_be_preloaded(variable: &str, shim: &Path) -> Option<String> {
    let is_split = shim.as_os_str().as_encoded_bytes().iter().any(|byte| b" \t\n:".contains(byte));
    is_split.then(|| {
        format!("{}: {variable} cannot hold a path with a blank or a colon; install genarm elsewhere", shim.display())
    })
}

/// Returns only where the tool cannot be run.
#[cfg(unix)]
fn exec(mut command: Command) -> std::io::Result<()> {
    Err(std::os::unix::process::CommandExt::exec(&mut command))
}

#[cfg(not(unix))]
fn exec(mut command: Command) -> std::io::Result<()> {
    command.status().map(|_| ())
}

fn find(folders: &[PathBuf], name: &str) -> anyhow::Result<PathBuf> {
    let found = folders.iter().map(|folder| folder.join(name)).find(|file| file.is_file());
    found.with_context(|| {
        format!(
            "found no {name} beside genarm or in ../lib; cargo install brings the program alone: take a release, \
             or run make install in the sources"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_system_allows_is_refused_with_what_to_use_instead() {
        let refused = |system, tool: &str| refusal(system, OsStr::new(tool)).unwrap_or_default();
        assert_eq!((refused("linux", "ollama"), refused("macos", "llama-server")), ("", ""));
        assert!(refused("macos", "/usr/local/bin/ollama").contains("genarm serve"));
        assert!(refused("macos", "Ollama").contains("linked statically"));
        assert!(refused("windows", "llama-server.exe").contains("libgenarm"));
    }

    #[test]
    fn a_library_that_the_linker_would_not_find_is_refused() {
        let refused = |path: &str| cannot_be_preloaded("LD_PRELOAD", Path::new(path)).unwrap_or_default();
        assert_eq!(refused("/opt/genarm-1.0/lib/libgenarm_preload.so"), "");
        for path in ["/opt/my apps/libgenarm_preload.so", "/opt/a:b/libgenarm_preload.so"] {
            let line = refused(path);
            assert!(line.starts_with(path) && line.contains("LD_PRELOAD cannot hold"), "{line}");
        }
    }
}
