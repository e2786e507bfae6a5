//! `genarm serve`

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use super::Usage;
use super::interrupts::leave_signals;
use super::load::{ConfigArgs, open_slots};
use crate::engine::gguf::GgufFile;
use crate::engine::kernels::Kernels;
use crate::engine::llama::{Model, exit_now};
use crate::server::{Limits, Options, Server, Stuck, serve};
use crate::session::Session;

/// Serve OpenAI's API with preference weights per request, and a page to try them
///
/// Listens on this machine only, unless --host names another address. SIGTERM lets running texts end; SIGHUP, or a
/// saved configuration file, changes weights, profiles and sampling of new requests.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Address to listen on; other than loopback needs an API key or --no-api-key
    #[arg(long, value_name = "IP", default_value = "127.0.0.1", value_parser = address, help_heading = "Server")]
    host: IpAddr,
    /// Port to listen on, 0 for a free one
    #[arg(long, value_name = "PORT", default_value_t = 8080, help_heading = "Server")]
    port: u16,
    /// Texts to generate at once, -1 for the default
    #[arg(long, value_name = "N", default_value_t = N_PARALLEL, allow_negative_numbers = true, value_parser = parallel, help_heading = "Server")]
    parallel: u8,
    /// Require an API key from this file, one per line
    #[arg(long, value_name = "FILE", help_heading = "Server")]
    api_key_file: Option<PathBuf>,
    /// Require this API key, or another one of the list (other users of this machine can see it); repeatable
    #[arg(long, value_name = "KEY,…", value_delimiter = ',', help_heading = "Server")]
    api_key: Vec<String>,
    /// Require no API key, even if other machines can reach --host
    #[arg(long, conflicts_with_all = ["api_key_file", "api_key"], help_heading = "Server")]
    no_api_key: bool,
    /// Refuse requests with a grammar or a JSON Schema of their own
    #[arg(long, help_heading = "Server")]
    no_grammar: bool,
    /// Refuse fields of requests that have no effect here, instead of naming them in the answer
    #[arg(long, help_heading = "Server")]
    strict_fields: bool,
    /// Name under which the model is listed; further ones after commas [default: the file's name]
    #[arg(short, long, value_name = "NAME,…", value_delimiter = ',', help_heading = "Server")]
    alias: Vec<String>,
    /// Most tokens per text where the request does not say, -1 for as many as fit
    #[arg(short, long, value_name = "N", default_value_t = -1, allow_negative_numbers = true, value_parser = n_predict, help_heading = "Server")]
    n_predict: i32,
    /// Serve no page at /
    #[arg(long, help_heading = "Server")]
    no_ui: bool,
    /// Do not show at /slots which slots work
    #[arg(long, help_heading = "Server")]
    no_slots: bool,
    /// Let requests save and restore slots, in this folder (POST /slots/{id}?action=save)
    #[arg(long, value_name = "DIR", help_heading = "Server")]
    slot_save_path: Option<PathBuf>,
    /// Personas that a request may bring; each takes a KV cache of the base per text
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(0..=16), help_heading = "Server")]
    max_personas: u8,
    /// Serve /metrics for Prometheus
    #[arg(long, help_heading = "Server")]
    metrics: bool,
    /// Requests per second and client address; bursts may be twice as large
    #[arg(long, value_name = "R", help_heading = "Server")]
    rate_limit: Option<NonZeroU32>,
    /// Allow web pages from this origin to call the API (CORS); repeatable
    #[arg(long, value_name = "ORIGIN", help_heading = "Server")]
    cors_origin: Vec<String>,
    /// Texts that may wait for a slot; further ones get a 503
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(0..=4096), help_heading = "Server")]
    queue: u16,
    /// Seconds that a text may wait
    #[arg(long, value_name = "S", default_value_t = 120, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Server")]
    queue_timeout: u32,
    /// Seconds that a request may take
    #[arg(long, value_name = "S", default_value_t = 600, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Server")]
    request_timeout: u32,
    /// Seconds without sending or reading after which a client is dropped
    #[arg(long, value_name = "S", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Server")]
    idle_timeout: u32,
    /// Seconds that running texts have to end after SIGTERM; a model that is stuck then is given up, with exit code 75
    #[arg(long, value_name = "S", default_value_t = 30, help_heading = "Server")]
    shutdown_timeout: u32,
    /// Largest request body, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20, value_parser = clap::value_parser!(u32).range(1024..=64 << 20), help_heading = "Server")]
    max_body: u32,
    #[command(flatten)]
    config: ConfigArgs,
}

/// How many texts are generated at once, unless the command line says otherwise.
const N_PARALLEL: u8 = 4;

/// A number of slots; -1 leaves it to the program, as in llama.cpp.
fn parallel(text: &str) -> Result<u8, String> {
    match text.parse::<i64>() {
        Ok(-1) => Ok(N_PARALLEL),
        Ok(n @ 1..=64) => Ok(n as u8),
        _ => Err("must be between 1 and 64, or -1 for the default".to_owned()),
    }
}

/// A bound on tokens; -1 is as many as fit, as in llama.cpp.
fn n_predict(text: &str) -> Result<i32, String> {
    let n = text.parse().ok().filter(|n| *n == -1 || *n > 0);
    n.ok_or_else(|| "must be at least 1, or -1 for as many as fit".to_owned())
}

/// An address to listen on.
fn address(text: &str) -> Result<IpAddr, String> {
    match text {
        "localhost" => Ok(Ipv4Addr::LOCALHOST.into()),
        _ => text.parse().map_err(|_| "expected an address, such as 127.0.0.1, 0.0.0.0 or ::1".to_owned()),
    }
}

impl Args {
    /// The options without what the configuration says.
    fn options(&self, verbose: bool) -> Options {
        let seconds = |n: u32| Duration::from_secs(n.into());
        Options {
            host: self.host,
            port: self.port,
            parallel: self.parallel.into(),
            api_key_file: self.api_key_file.clone(),
            api_keys: self.api_key.clone(),
            verbose,
            no_api_key: self.no_api_key,
            no_grammar: self.no_grammar,
            strict_fields: self.strict_fields,
            aliases: self.alias.clone(),
            n_predict: u32::try_from(self.n_predict).ok().filter(|n| *n > 0),
            variables: serde_json::Map::new(),
            page: !self.no_ui,
            slots: !self.no_slots,
            slot_save_path: self.slot_save_path.clone(),
            metrics: self.metrics,
            rate_limit: self.rate_limit,
            cors_origins: self.cors_origin.clone(),
            limits: Limits {
                queue: self.queue.into(),
                queue_timeout: seconds(self.queue_timeout),
                request_timeout: seconds(self.request_timeout),
                idle_timeout: seconds(self.idle_timeout),
                shutdown_timeout: seconds(self.shutdown_timeout),
                body: self.max_body as usize,
                ..Limits::default()
            },
        }
    }
}

/// The exit code where the engine does not end (sysexits' EX_TEMPFAIL: another try may go well).
const STUCK: u8 = 75;

/// Serves until it is told to end.
pub fn run(args: Args, verbose: bool) -> anyhow::Result<()> {
    // Before a model is downloaded.
    let mut options = args.options(verbose);
    let access = Server::check(&options).map_err(|problem| Usage(super::one_line(&problem)))?;
    let config = args.config.resolve_to_draft()?;
    options.variables.clone_from(&config.prompt.variables);
    let config = config.with_spare_personas(args.max_personas.into());
    let n_slots = options.parallel;
    let open = move || open_slots(config, n_slots).inspect(warn_of_slow_types);
    let (server, engine) = Server::start(open, args.config.overrides.clone(), &options, access)?;
    let ended = serve(&server, engine, &options, &mut |address| {
        // The server has its own answer to them by now.
        leave_signals();
        eprintln!("listening on http://{address}");
    });
    // Nothing may be freed under a thread that is inside llama.cpp.
    match &ended {
        Err(error) if error.is::<Stuck>() => {
            tracing::error!("{error}");
            exit_now(STUCK)
        }
        Ok(()) if server.is_reading() => exit_now(0),
        _ => ended,
    }
}

/// Names models whose types have no fast kernels for batches: with several texts at once there is always a batch.
fn warn_of_slow_types(session: &Session) {
    if Model::any_on_device() {
        return;
    }
    let kernels = Kernels::here();
    for path in session.config().specs().map(|spec| &spec.model).collect::<BTreeSet<_>>() {
        if let Some(slow) = GgufFile::open(path).ok().and_then(|file| kernels.slow(&file)) {
            tracing::warn!("{}: {slow} (genarm quantize)", path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_on_tokens_is_a_number_of_them_or_none() {
        assert_eq!(["1", "512", "-1"].map(n_predict), [Ok(1), Ok(512), Ok(-1)]);
        assert!(["0", "-2", "x", "1.5"].iter().all(|text| n_predict(text).is_err()));
    }

    #[test]
    fn an_address_is_a_number_or_this_machine() {
        assert_eq!(address("localhost"), Ok(IpAddr::from([127, 0, 0, 1])));
        assert!(address("::1").is_ok() && address("example.org").is_err_and(|problem| problem.contains("0.0.0.0")));
    }
}
