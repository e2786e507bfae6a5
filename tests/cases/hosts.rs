//! Programs that run the base themselves: this process computes the base's rows and draws, and the program guides the
//! rows.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use genarm::Token;
use genarm::session::Session;
use serde_json::json;

use super::doors::{Guides, host};
use super::{Case, Outcome, root};
use crate::capi;
use crate::support::libraries;

/// A program that reads new tokens and a row, and writes the guided row: `tests/cases/host.c` and `host.py`.
pub(super) struct Program(Child);

impl Program {
    pub(super) fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the program starts"))
    }
}

impl Guides for Program {
    fn guide(&mut self, new: &[Token], row: &mut [f32]) {
        let counted = std::iter::once(new.len() as i32).chain(new.iter().copied());
        let mut bytes: Vec<u8> = counted.flat_map(i32::to_ne_bytes).collect();
        bytes.extend(row.iter().flat_map(|logit| logit.to_ne_bytes()));
        let input = self.0.stdin.as_mut().expect("a pipe");
        input.write_all(&bytes).and_then(|()| input.flush()).expect("the program reads");
        let mut bytes = vec![0; 4 * row.len()];
        self.0.stdout.as_mut().expect("a pipe").read_exact(&mut bytes).expect("the program answers");
        for (logit, bytes) in row.iter_mut().zip(bytes.chunks_exact(4)) {
            *logit = f32::from_ne_bytes(bytes.try_into().expect("four bytes"));
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let status = self.0.wait().expect("an end");
        assert!(status.success() || std::thread::panicking(), "the program ends with {status}");
    }
}

/// Runs a case in a program: `command` gets its configuration and a file of the base's tokens.
fn run(case: &Case, command: impl Fn(&str, &Path) -> Command) -> Outcome {
    let (folder, config) = case.file(&json!({}));
    // The base alone: what guides is in the program.
    let whole = case.config(&json!({"arms": null, "profiles": null, "guidance": null, "speculate": "off"}));
    let mut session = Session::open(whole, &mut |_, _| true).expect("the base");
    let tokens = capi::tokens_of(&session.config().base.model, folder.path(), |_| {});
    let mut program = Program::start(&mut command(&config, &tokens));
    host(case, &mut session, &mut program)
}

/// A C program that has genarm's sampler in its chain.
pub fn api(case: &Case) -> Outcome {
    run(case, |config, tokens| {
        let mut command = capi::command(capi::built().join("guided-host"));
        command.arg(tokens).arg(config).arg(case.profile.as_deref().unwrap_or_default()).arg(case.weights());
        command
    })
}

/// The same program without a word of genarm in it, under `genarm run`.
pub fn preload(case: &Case) -> Outcome {
    run(case, |config, tokens| {
        let mut command = capi::command(env!("CARGO_BIN_EXE_genarm"));
        command.args(["run", "--strict", "--config", config]).args(case.flags());
        command.arg("--").arg(capi::built().join("host")).arg(tokens);
        command
    })
}

/// The Python package's logits processor.
pub fn python(case: &Case, python: &Path) -> Outcome {
    run(case, |config, tokens| {
        let mut command = Command::new(python);
        command.arg(root().join("tests/cases/host.py")).arg(tokens).arg(config);
        command.args([json!(case.profile).to_string(), json!(case.weights).to_string()]);
        command.env("PYTHONPATH", root().join("python/genarm/src")).env_remove("GENARM_CONFIG");
        command.env("GENARM_LIBRARY", libraries().join("libgenarm.so"));
        command
    })
}
