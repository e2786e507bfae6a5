//! Keys during an answer: Tab chooses an ARM, the arrows change its weight from the next token on.

use std::io::{IsTerminal, Write};

use crate::guidance::Weights;

/// What an arrow adds or takes.
const STEP: f32 = 0.25;

/// What a key means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Tab,
    Up,
    Down,
}

/// The keys in what a terminal sends. Anything else means nothing here.
fn keys(mut bytes: &[u8]) -> Vec<Key> {
    let mut keys = Vec::new();
    while !bytes.is_empty() {
        let (key, n) = match bytes {
            [b'\t', ..] => (Some(Key::Tab), 1),
            [0x1b, b'[' | b'O', b'A', ..] => (Some(Key::Up), 3),
            [0x1b, b'[' | b'O', b'B', ..] => (Some(Key::Down), 3),
            _ => (None, 1),
        };
        keys.extend(key);
        bytes = &bytes[n..];
    }
    keys
}

/// A slider in the hands of who reads the answer.
struct Slider {
    weights: Weights,
    chosen: usize,
}

impl Slider {
    /// Does what a key means, and returns what to show.
    fn press(&mut self, key: Key) -> Option<String> {
        let n = self.weights.names().len();
        let name = self.weights.names().get(self.chosen)?.clone();
        let weight = self.weights.get()[self.chosen];
        match key {
            Key::Tab => {
                self.chosen = (self.chosen + 1) % n;
                let (name, weight) = (&self.weights.names()[self.chosen], self.weights.get()[self.chosen]);
                return Some(format!("{name}={weight}"));
            }
            Key::Up => self.weights.set(&name, weight + STEP).ok()?,
            Key::Down => self.weights.set(&name, weight - STEP).ok()?,
        }
        Some(format!("{name}={}", self.weights.get()[self.chosen]))
    }
}

/// Watches the terminal until it is dropped.
pub struct Keys {
    slider: Slider,
    terminal: Option<terminal::Quiet>,
}

impl Keys {
    /// Begins to watch, where there is a terminal and there are weights to change.
    pub fn watch(weights: Weights) -> Self {
        let is_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        let terminal = (is_terminal && !weights.names().is_empty()).then(terminal::Quiet::begin).flatten();
        Self { slider: Slider { weights, chosen: 0 }, terminal }
    }

    /// Does what was pressed since the last call. The new weight is shown in the text, where it holds from.
    pub fn take(&mut self) {
        let Some(terminal) = &mut self.terminal else { return };
        let shown: Vec<_> = keys(&terminal.typed()).into_iter().filter_map(|key| self.slider.press(key)).collect();
        // Of several the last holds.
        if let Some(weight) = shown.last() {
            let mut out = std::io::stderr();
            let _ = match crate::cli::load::colours(&out) {
                true => write!(out, "\x1b[2m[{weight}]\x1b[0m"),
                false => write!(out, "[{weight}]"),
            };
        }
    }
}

#[cfg(unix)]
mod terminal {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::stdio::stdin;
    use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};

    /// A terminal that hands over keys at once and does not show them. Ctrl-C stays a signal.
    pub struct Quiet(Termios);

    impl Quiet {
        pub fn begin() -> Option<Self> {
            let before = tcgetattr(stdin()).ok()?;
            let mut quiet = before.clone();
            quiet.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
            quiet.special_codes[SpecialCodeIndex::VMIN] = 0;
            quiet.special_codes[SpecialCodeIndex::VTIME] = 0;
            tcsetattr(stdin(), OptionalActions::Now, &quiet).ok()?;
            Some(Self(before))
        }

        /// What was typed since the last call; does not wait.
        pub fn typed(&mut self) -> Vec<u8> {
            let none = Timespec { tv_sec: 0, tv_nsec: 0 };
            let mut typed = Vec::new();
            let mut buffer = [0; 64];
            while poll(&mut [PollFd::new(&stdin(), PollFlags::IN)], Some(&none)) == Ok(1)
                && let Ok(n @ 1..) = rustix::io::read(stdin(), &mut buffer)
            {
                typed.extend_from_slice(&buffer[..n]);
            }
            typed
        }
    }

    impl Drop for Quiet {
        fn drop(&mut self) {
            // What was typed for the answer is not the beginning of the next line.
            let _ = tcsetattr(stdin(), OptionalActions::Flush, &self.0);
        }
    }
}

#[cfg(not(unix))]
mod terminal {
    /// Windows' console hands over keys in another way: there the weights change between answers.
    pub struct Quiet;

    impl Quiet {
        pub fn begin() -> Option<Self> {
            None
        }

        pub fn typed(&mut self) -> Vec<u8> {
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_in_what_a_terminal_sends() {
        assert_eq!(keys(b"\t\x1b[Ax\x1bOB\x1b[C"), [Key::Tab, Key::Up, Key::Down]);
        assert_eq!(keys(b"\x1b["), []);
    }

    #[test]
    fn tab_chooses_an_arm_and_arrows_change_its_weight() {
        let weights = Weights::new([("kind".to_owned(), 1.0), ("brief".to_owned(), 0.0)]);
        let mut slider = Slider { weights: weights.clone(), chosen: 0 };
        assert_eq!(slider.press(Key::Up).as_deref(), Some("kind=1.25"));
        assert_eq!(slider.press(Key::Tab).as_deref(), Some("brief=0"));
        assert_eq!(slider.press(Key::Down).as_deref(), Some("brief=-0.25"));
        assert_eq!(weights.get(), [1.25, -0.25]);
        assert_eq!(slider.press(Key::Tab).as_deref(), Some("kind=1.25"), "after the last comes the first");
        let mut none = Slider { weights: Weights::new([]), chosen: 0 };
        assert_eq!(none.press(Key::Tab), None);
    }
}
