//! `genarm pull`

use std::fmt::Write as _;

use indicatif::HumanBytes;

use super::Usage;
use super::download::HubArgs;
use super::output::print;
use crate::hub::{HubError, Pulled, check_revision};
use crate::stores::huggingface::MAIN;
use crate::stores::{ModelName, RepoName, Stores};

/// Download models from the Hugging Face hub
///
/// They go into the cache that Hugging Face's tools and llama.cpp share, and other commands take them by the same
/// names. An interrupted download goes on where it ended. Contents are compared with the hub's SHA-256.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Models: hf:USER/REPO (its Q4_K_M, else its Q8_0, else its first GGUF), hf:USER/REPO:QUANT or
    /// hf:USER/REPO/FILE.gguf
    #[arg(value_name = "NAME", required = true, value_parser = name)]
    names: Vec<RepoName>,
    /// Branch, tag or commit
    #[arg(long, value_name = "REVISION", default_value = MAIN, value_parser = check_revision)]
    revision: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    hub: HubArgs,
}

/// A name on the hub; `hf:` may be left out.
fn name(text: &str) -> Result<RepoName, String> {
    match ModelName::parse(text) {
        Some(Ok(ModelName::Hub(name))) => Ok(name),
        Some(Ok(ModelName::Ollama(name))) => Err(format!("ollama:{name} is Ollama's; run ollama pull {name}")),
        Some(Ok(ModelName::LmStudio(_))) => {
            Err("LM Studio downloads its models itself; name one as hf:USER/REPO".to_owned())
        }
        Some(Err(error)) => Err(error.to_string()),
        None => {
            let of_web = ["https://huggingface.co/", "huggingface.co/", "https://hf.co/", "hf.co/"];
            let rest = of_web.iter().find_map(|site| text.strip_prefix(site)).unwrap_or(text);
            rest.parse().map_err(|error: crate::stores::FindError| error.to_string())
        }
    }
}

/// Downloads, and says where the models are.
pub fn run(args: &Args) -> anyhow::Result<()> {
    if args.hub.is_offline() {
        return offline(args);
    }
    let pulled =
        args.names.iter().map(|name| args.hub.pull(name, &args.revision)).collect::<anyhow::Result<Vec<_>>>()?;
    if args.json {
        return print(&format!("{}\n", serde_json::to_string_pretty(&pulled)?));
    }
    let described = |(name, pulled)| described(name, &args.revision, pulled);
    print(&args.names.iter().zip(&pulled).map(described).collect::<String>())
}

/// What was done, in a line, and the file in another.
fn described(name: &RepoName, revision: &str, pulled: &Pulled) -> String {
    let sum = |of: fn(&crate::hub::PulledFile) -> u64| pulled.files.iter().map(of).sum::<u64>();
    let (bytes, downloaded) = (sum(|file| file.bytes), sum(|file| file.downloaded));
    let files = if pulled.files.len() > 1 { format!(" in {} files", pulled.files.len()) } else { String::new() };
    let what = match downloaded {
        0 => "was on this machine".to_owned(),
        n if n == bytes => "downloaded".to_owned(),
        n => format!("{} of it downloaded now", HumanBytes(n)),
    };
    let other = if revision == MAIN { String::new() } else { format!(" at {revision}, which goes by its path") };
    let mut text = format!("hf:{name}{other}: {}{files}, {what}\n", HumanBytes(bytes));
    let _ = writeln!(text, "  {}", pulled.path.display());
    text
}

/// Says whether the models are here.
fn offline(args: &Args) -> anyhow::Result<()> {
    if args.revision != MAIN {
        return Err(Usage("--revision asks the hub, and --offline (or HF_HUB_OFFLINE) forbids that".into()).into());
    }
    let stores = Stores::here();
    let mut found = Vec::new();
    for name in &args.names {
        let path = stores.find(&ModelName::Hub(name.clone()));
        let path = path.map_err(|_| HubError::Offline { name: name.to_string() })?;
        found.push((format!("hf:{name}"), path));
    }
    if args.json {
        let all: Vec<_> = found.iter().map(|(name, path)| serde_json::json!({"name": name, "path": path})).collect();
        return print(&format!("{}\n", serde_json::to_string_pretty(&all)?));
    }
    print(
        &found
            .iter()
            .map(|(name, path)| format!("{name}: on this machine\n  {}\n", path.display()))
            .collect::<String>(),
    )
}
