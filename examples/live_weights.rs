//! A weight that changes while the text is written: the first half plain, the second half cheerful.
//!
//!     cargo run --release --example live_weights
//!
//! [`Weights`](genarm::Weights) is a handle: its clones share the numbers, and any thread may set them. A change
//! holds from the next token on, and reads nothing again.

use std::path::Path;

use genarm::sampling::params::SamplingParams;
use genarm::{Config, Flow, Overrides, Session};

const N: usize = 48;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let config = Config::load(Some(Path::new("models/demo.yaml")), &Overrides::default())?;
    let mut session = Session::open(config, &mut |_file, _share_read| true)?;
    let weights = session.weights().clone();
    weights.set("cheerful", 0.0)?;

    let sampling = SamplingParams { seed: 1, ignore_eos: true, ..session.config().sampling.clone() };
    let mut sampler = session.sampler(&sampling)?;
    let prompt = session.text_prompt("Once upon a time, there was a little girl named Lily.")?;
    let mut n = 0;
    let written = session.generate(&mut sampler, &prompt, N, &mut |_step| {
        n += 1;
        if n == N / 2 {
            // In a program with a slider this happens in another thread.
            weights.set("cheerful", 2.0).expect("the ARM that was set before");
        }
        Flow::Continue
    })?;

    let (plain, cheerful) = written.tokens.split_at(written.tokens.len().min(N / 2));
    let line = |tokens| session.vocab().text(tokens, false).split_whitespace().collect::<Vec<_>>().join(" ");
    println!("cheerful = 0: {}", line(plain));
    println!("cheerful = 2: {}", line(cheerful));
    Ok(())
}
