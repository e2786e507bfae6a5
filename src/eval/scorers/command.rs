//! A shell command as a rater.

use std::io::Write;
use std::process::{Command, Stdio};

use super::{Item, Scorer, ScorerError};

/// Runs a command once for all texts: a JSON object a line in (`prompt`, `response`), a number a line out.
#[derive(Debug, Clone)]
pub struct CommandScorer(String);

impl CommandScorer {
    /// A rater that runs `command` with the system's shell.
    pub fn new(command: &str) -> Self {
        Self(command.to_owned())
    }

    fn fail(&self, reason: impl ToString) -> ScorerError {
        ScorerError::Command { command: self.0.clone(), reason: reason.to_string() }
    }

    fn output(&self, input: String) -> Result<String, ScorerError> {
        let (shell, flag) = if cfg!(windows) { ("cmd", "/C") } else { ("sh", "-c") };
        let mut command = Command::new(shell);
        command.args([flag, &self.0]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|e| self.fail(e))?;
        // Written beside the reading: a command that answers line by line would otherwise fill both pipes.
        let stdin = child.stdin.take();
        let writer = std::thread::spawn(move || stdin.map(|mut stdin| stdin.write_all(input.as_bytes())));
        let output = child.wait_with_output().map_err(|e| self.fail(e))?;
        // A command that stops reading early says more by its exit code, or by the lines that are missing.
        let _ = writer.join();
        if !output.status.success() {
            return Err(self.fail(format!("it exited with {}; its output is above", output.status)));
        }
        String::from_utf8(output.stdout).map_err(|_| self.fail("it wrote something else than UTF-8"))
    }
}

impl Scorer for CommandScorer {
    fn score(&self, items: &[Item<'_>]) -> Result<Vec<f64>, ScorerError> {
        if items.is_empty() {
            return Ok(Vec::new());
        }
        let mut input = String::new();
        for item in items {
            input += &serde_json::to_string(item).map_err(|e| self.fail(e))?;
            input.push('\n');
        }
        let output = self.output(input)?;
        let lines: Vec<&str> = output.lines().filter(|line| !line.trim().is_empty()).collect();
        if lines.len() != items.len() {
            let (got, wanted) = (lines.len(), items.len());
            return Err(
                self.fail(format!("it wrote {got} lines for {wanted} texts; it must write one number for each"))
            );
        }
        let number = |(i, line): (usize, &&str)| {
            let number = line.trim().parse::<f64>().ok().filter(|x| x.is_finite());
            number.ok_or_else(|| self.fail(format!("line {} of its output is no number: \"{}\"", i + 1, line.trim())))
        };
        lines.iter().enumerate().map(number).collect()
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn score(command: &str, n: usize) -> Result<Vec<f64>, String> {
        let response = "x\"\n".repeat(2000);
        CommandScorer::new(command)
            .score(&vec![Item { prompt: "p", response: &response }; n])
            .map_err(|e| e.to_string())
    }

    #[test]
    fn a_command_reads_every_text_on_a_line_and_rates_it() {
        // More than a pipe holds, answered line by line.
        let lengths = score("while IFS= read -r line; do echo ${#line}; done", 50).unwrap();
        assert!(lengths.len() == 50 && lengths.iter().all(|n| *n > 8000.0), "{lengths:?}");
        assert_eq!(score("exit 1", 0), Ok(vec![]));
    }

    #[test]
    fn what_goes_wrong_is_said_in_one_line() {
        for (command, part) in [
            ("exit 3", "exit status: 3"),
            ("echo 1", "1 lines for 2 texts"),
            ("echo 1; echo two", "line 2 of its output is no number: \"two\""),
            ("echo 1; echo nan", "no number"),
            ("printf '\\377\\n1\\n'", "UTF-8"),
        ] {
            let error = score(command, 2).unwrap_err();
            assert!(error.contains(part) && !error.contains('\n'), "{error}");
        }
    }
}
