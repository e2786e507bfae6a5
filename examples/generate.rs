//! A text from a configuration, printed as it is written.
//!
//!     cargo run --release --example generate -- models/demo.yaml "Once upon a time"

use std::io::Write;
use std::path::PathBuf;

use genarm::session::Detokenizer;
use genarm::{Config, Overrides, Session};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let config = PathBuf::from(args.next().unwrap_or_else(|| "models/demo.yaml".to_owned()));
    let prompt = args.next().unwrap_or_else(|| "Once upon a time".to_owned());

    let config = Config::load(Some(&config), &Overrides::default())?;
    let mut session = Session::open(config, &mut |_file, _share_read| true)?;
    let sampling = session.config().sampling.clone();
    let mut sampler = session.sampler(&sampling)?;
    let tokens = session.text_prompt(&prompt)?;

    // A token may end inside a character: only whole characters come out.
    let mut pieces = Detokenizer::new(session.vocab().clone(), Vec::new());
    let show = |text: String| {
        print!("{text}");
        std::io::stdout().flush()
    };
    let mut failed = None;
    let written = session.generate(&mut sampler, &tokens, 64, &mut |step| {
        let flow = pieces.push(step.token);
        failed = show(pieces.take_text()).err();
        if failed.is_some() { genarm::Flow::Stop } else { flow }
    })?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    let end = pieces.finish();
    show(pieces.take_text() + &end + "\n")?;
    eprintln!("{} tokens, ended by {:?}", written.tokens.len(), written.finish);
    Ok(())
}
