//! Where models run: devices, memory, other machines.

mod devices;
#[cfg(target_os = "linux")]
mod memory;
#[cfg(unix)]
mod nginx;
#[cfg(all(feature = "rpc", unix))]
mod rpc;

use std::path::{Path, PathBuf};

use genarm::config::{Config, Overrides};
use genarm::sampling::params::SamplingParams;
use genarm::session::Session;

/// A file of the repository's models.
fn model(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(name)
}

/// The configuration of a command line, always taking the likeliest token.
fn greedy(overrides: &Overrides) -> Config {
    let config = Config::load(None, overrides).expect("a configuration");
    Config { sampling: SamplingParams { temp: 0.0, seed: 1, ..config.sampling.clone() }, ..config }
}

fn open(config: Config) -> Session {
    Session::open(config, &mut |_, _| true).unwrap_or_else(|error| panic!("{error}"))
}

/// The tokens that follow a prompt; `each` sees how many there are.
fn tokens(session: &mut Session, each: &mut dyn FnMut(usize)) -> Result<Vec<i32>, genarm::decode::DecodeError> {
    let prompt = session.text_prompt("Once upon a time, there was a little girl named Lily.").expect("tokens");
    let mut sampler = session.sampler(&session.config().sampling.clone()).expect("a sampler");
    let mut n = 0;
    let generated = session.generate(&mut sampler, &prompt, 24, &mut |_| {
        n += 1;
        each(n);
        genarm::decode::Flow::Continue
    });
    generated.map(|generated| generated.tokens)
}
