//! Two answers on the screen, and what the user says of them. All of it goes to stderr: stdout has the result.

use std::io::BufRead;

use crate::cli::load::colours;
use crate::duel::Estimate;

/// What the user says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// The first answer is better.
    First,
    /// The second answer is better.
    Second,
    /// Neither is.
    Alike,
    /// The last choice was wrong.
    Undo,
    /// Enough.
    Quit,
}

impl Said {
    fn of(line: &str) -> Option<Self> {
        match line.trim().to_lowercase().as_str() {
            "1" => Some(Self::First),
            "2" => Some(Self::Second),
            "=" => Some(Self::Alike),
            "u" | "undo" => Some(Self::Undo),
            "q" | "quit" => Some(Self::Quit),
            _ => None,
        }
    }
}

/// Shows a duel.
pub fn show(title: &str, prompt: &str, answers: [&str; 2]) {
    let (bold, plain) = if colours(&std::io::stderr()) { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    eprintln!("\n{bold}{title}{plain}\n{prompt}");
    for (n, answer) in (1..).zip(answers) {
        eprintln!("\n{bold}── {n} ──{plain}\n{}", answer.trim());
    }
    eprintln!();
}

/// Reads what the user says; the end of the input is "quit".
pub fn listen(input: &mut impl BufRead) -> anyhow::Result<Said> {
    loop {
        eprint!("Better: 1 or 2, = both alike, u undo, q quit > ");
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 {
            return Ok(Said::Quit);
        }
        match Said::of(&line) {
            Some(said) => return Ok(said),
            None => eprintln!("type 1, 2, =, u or q, then Enter"),
        }
    }
}

/// What is known now, on one line.
pub fn show_estimate(estimate: &Estimate) {
    let one = |of: &crate::duel::Learned| format!("{} {:.2} ± {:.2}", of.name, of.weight, of.weight_error);
    eprintln!("weights: {}", estimate.objectives.iter().map(one).collect::<Vec<_>>().join(" · "));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_understood_is_asked_again_and_the_end_of_the_input_quits() {
        let mut input: &[u8] = b"1\r\n\n 3 \n2\nwhat\n=\nU\nundo\n";
        let all: Vec<_> = (0..6).map(|_| listen(&mut input).unwrap()).collect();
        assert_eq!(all, [Said::First, Said::Second, Said::Alike, Said::Undo, Said::Undo, Said::Quit]);
    }
}
