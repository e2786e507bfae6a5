//! `genarm schema`

/// Print the JSON Schema of the configuration file
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Prints it.
pub fn run(_: &Args) -> anyhow::Result<()> {
    super::generate::print(&format!("{}\n", serde_json::to_string_pretty(&crate::config::json_schema())?))
}
