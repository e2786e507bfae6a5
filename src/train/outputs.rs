//! The files of a run: what it writes, under names that no other run shares, and what it reads and must leave alone.

use super::TrainError;
use super::settings::Settings;
use crate::files::{appended, conflict, model_name};
use std::path::{Path, PathBuf};

/// What a run writes. All names begin with the whole name of `--out`, but for its `.gguf`.
#[derive(Debug, Clone)]
pub struct Outputs {
    /// The adapter or model.
    pub out: PathBuf,
    /// One line per update: `NAME.log.jsonl`.
    pub log: PathBuf,
    /// The curves: `NAME.svg`.
    pub curves: PathBuf,
    /// The log as a table: `NAME.csv`.
    pub csv: PathBuf,
    /// The result so far of an interrupted run, where `out` holds that of another run: `NAME.interrupted.gguf`.
    pub interrupted: PathBuf,
    /// What `--resume` goes on from: `OUT.checkpoint`.
    pub checkpoint: PathBuf,
}

impl Outputs {
    /// Names the files of a run that writes `out`.
    pub fn of(out: &Path) -> Self {
        let beside = |ending: &str| out.with_file_name(model_name(out) + ending);
        Self {
            out: out.into(),
            log: beside(".log.jsonl"),
            curves: beside(".svg"),
            csv: beside(".csv"),
            interrupted: beside(".interrupted.gguf"),
            checkpoint: appended(out, ".checkpoint"),
        }
    }

    /// Refuses a run that would write over what it reads, or over what another run has written beside its own result.
    ///
    /// # Errors
    ///
    /// [`TrainError::Setting`], naming the files.
    pub fn check(&self, settings: &Settings) -> Result<(), TrainError> {
        let refuse = |message| Err(TrainError::Setting(message));
        let name = self.out.display();
        if self.out.file_name().is_none()
            || self.out.as_os_str().as_encoded_bytes().ends_with(b"/")
            || self.out.is_dir()
        {
            return refuse(format!("--out {name} is no name of a file; give one, as arm.gguf"));
        }
        let text = self.out.to_string_lossy();
        if [".checkpoint", ".log.jsonl"].iter().any(|ending| text.ends_with(ending)) {
            return refuse(format!("--out {name} is the name of a checkpoint or log of another run; choose another"));
        }
        let template = Path::new(&settings.template);
        let mut inputs = vec![("the backbone", settings.backbone.as_path())];
        inputs.extend(settings.pairs.iter().map(|file| ("the pairs", file.path.as_path())));
        inputs.extend(settings.init.as_deref().map(|path| ("--init", path)));
        inputs.extend(settings.recipe.as_deref().map(|path| ("the recipe", path)));
        inputs.extend(template.is_file().then_some(("the template", template)));
        let outputs = [
            ("--out", self.out.as_path()),
            ("the log", &self.log),
            ("the curves", &self.curves),
            ("the table", &self.csv),
            ("the interrupted result", &self.interrupted),
            ("the checkpoint", &self.checkpoint),
        ];
        if let Some(message) = conflict(&outputs, &inputs) {
            return refuse(message);
        }
        match self.twin() {
            Some(twin) => refuse(format!(
                "--out {name} would share its log, {}, with {}; choose another name",
                self.log.display(),
                twin.display()
            )),
            None => Ok(()),
        }
    }

    /// `arm` of `arm.gguf`, and the other way round, where it is there: both have the log `arm.log.jsonl`.
    fn twin(&self) -> Option<PathBuf> {
        let stem = self.out.with_file_name(model_name(&self.out));
        let twin = if stem == self.out { appended(&self.out, ".gguf") } else { stem };
        (twin.is_file() && self.log.exists()).then_some(twin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_different_names_share_no_file() {
        let all = |out: &str| {
            let o = Outputs::of(Path::new(out));
            [o.out, o.log, o.curves, o.checkpoint].map(|p| p.display().to_string())
        };
        assert_eq!(all("x/arm.gguf"), ["x/arm.gguf", "x/arm.log.jsonl", "x/arm.svg", "x/arm.gguf.checkpoint"]);
        assert_eq!(all("arm-0.05"), ["arm-0.05", "arm-0.05.log.jsonl", "arm-0.05.svg", "arm-0.05.checkpoint"]);
        let names = ["arm-0.05", "arm-0.1", "arm-0.05.bin", "arm-0.1.q8.gguf", "arm-0"];
        let files: std::collections::BTreeSet<String> = names.iter().flat_map(|name| all(name)).collect();
        assert_eq!(files.len(), 4 * names.len());
    }
}
