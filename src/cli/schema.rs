//! `genarm schema`

/// Print the JSON Schema of the configuration file
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Prints it.
pub fn run(_: &Args) -> anyhow::Result<()> {
    super::output::print(&format!("{}\n", crate::config::json_schema().trim_end()))
}
