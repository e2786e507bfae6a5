//! Preference-conditioned ARMs (PARM) from the configuration to the text, through every door.

mod binary;
mod config;
mod server;
mod session;

use std::path::PathBuf;

use tempfile::TempDir;

use crate::support;
use crate::support::parm::RandomParm;

/// A folder with a PARM of two objectives on the small test model.
pub struct Folder {
    folder: TempDir,
    parm: RandomParm,
}

impl Folder {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let parm = RandomParm::on(&support::models().base, &["helpful", "harmless"], 9, 0.5);
        parm.write(&folder.path().join("parm.gguf"));
        Self { folder, parm }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A configuration of the base and these ARMs.
    fn yaml(&self, arms: &str, more: &str) -> String {
        let base = support::models().base.display().to_string();
        format!("base: {{model: {base}, n_ctx: 256, threads: 1}}\narms: {{{arms}}}\nspeculate: \"off\"\n{more}\n")
    }

    /// The same in a file.
    fn write(&self, arms: &str, more: &str) -> PathBuf {
        let path = self.path("prefs.yaml");
        std::fs::write(&path, self.yaml(arms, more)).expect("written");
        path
    }
}
