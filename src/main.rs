//! The `genarm` command: parse, run, report.

use std::process::ExitCode;

fn main() -> ExitCode {
    genarm::cli::main()
}
