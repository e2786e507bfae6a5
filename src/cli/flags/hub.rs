//! llama.cpp's `-hf USER/REPO[:QUANT]` and `-hff FILE`: together they name the base, or a model that is an argument.

use std::ffi::OsString;

use super::{called, find_long, subcommand};

const REPO: [&str; 3] = ["-hf", "-hfr", "--hf-repo"];
const FILE: [&str; 2] = ["-hff", "--hf-file"];

/// The command line with `--base hf:…` in their place, for a command that has a base; with `hf:…` for one whose
/// arguments are models.
///
/// # Errors
///
/// One line that names the flag that is wrong.
pub fn rewrite(command: &clap::Command, args: Vec<OsString>) -> Result<Vec<OsString>, String> {
    let of = subcommand(command, &args);
    let is_planned = args.iter().take_while(|arg| *arg != "--").any(|arg| arg == "--plan");
    let is_argument = of.get_name() == "pull" || of.get_name() == "inspect" && !is_planned;
    if find_long(of, "base").is_none() && !is_argument {
        return Ok(args);
    }
    let words = |name: Option<String>| match name {
        Some(name) if is_argument => vec![name],
        Some(name) => vec!["--base".to_owned(), name],
        None => Vec::new(),
    };
    let (mut out, mut repo, mut file) = (Vec::with_capacity(args.len()), None, None);
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let word = arg.to_str().unwrap_or_default();
        let (flag, attached) =
            word.split_once('=').map_or((word, None), |(flag, value)| (flag, Some(value.to_owned())));
        // Long flags go by underscores too, as in llama.cpp.
        let hyphens = if flag.starts_with("--") { flag.replace('_', "-") } else { flag.to_owned() };
        let (is_repo, is_file) = (REPO.contains(&&*hyphens), FILE.contains(&&*hyphens));
        if is_repo || is_file {
            let what = if is_repo { "USER/REPO[:QUANT]" } else { "FILE.gguf" };
            let value = attached.or_else(|| args.next().and_then(|value| value.into_string().ok()));
            let value = value.filter(|value| !value.is_empty() && !value.starts_with('-'));
            let value = value.ok_or_else(|| format!("{}: {flag} needs {what}", called(of)))?;
            let given = if is_repo { &mut repo } else { &mut file };
            if given.replace(value).is_some() {
                return Err(format!("{}: {flag} is given twice", called(of)));
            }
            continue;
        }
        let is_end = word == "--";
        // What follows the end are texts.
        if is_end {
            out.extend(words(model(repo.take(), file.take())?).into_iter().map(OsString::from));
        }
        out.push(arg);
        if is_end {
            out.extend(args.by_ref());
        }
    }
    out.extend(words(model(repo, file)?).into_iter().map(OsString::from));
    Ok(out)
}

/// The name that the two stand for.
pub fn model(repo: Option<String>, file: Option<String>) -> Result<Option<String>, String> {
    let name = match (&repo, file) {
        (None, None) => return Ok(None),
        (None, Some(file)) => return Err(format!("-hff {file} needs the repository too: -hf USER/REPO")),
        (Some(repo), None) => repo.clone(),
        (Some(repo), Some(file)) => format!("{}/{file}", repo.split(':').next().unwrap_or(repo)),
    };
    let name = name.strip_prefix("hf:").unwrap_or(&name);
    Ok(Some(format!("hf:{name}")))
}
