//! Bytes of tokens to text: a token may end in the middle of a character.

/// Holds back an incomplete character until its last byte has come.
///
/// ```
/// let mut stream = genarm::decode::TextStream::default();
/// assert_eq!(stream.push(&[0xC3]), "");
/// assert_eq!(stream.push(&[0xA9, b'!']), "é!");
/// assert_eq!(stream.push(&[0xFF, b'x']), "\u{FFFD}x");
/// ```
#[derive(Debug, Clone, Default)]
pub struct TextStream {
    held: Vec<u8>,
}

impl TextStream {
    /// Takes a token's bytes and returns the text that is complete. Bytes that are no UTF-8 become U+FFFD.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.held.extend_from_slice(bytes);
        let mut text = String::new();
        loop {
            match std::str::from_utf8(&self.held) {
                Ok(rest) => {
                    text.push_str(rest);
                    self.held.clear();
                    return text;
                }
                Err(error) => {
                    let good = error.valid_up_to();
                    text.push_str(&String::from_utf8_lossy(&self.held[..good]));
                    let Some(bad) = error.error_len() else {
                        self.held.drain(..good);
                        return text;
                    };
                    text.push('\u{FFFD}');
                    self.held.drain(..good + bad);
                }
            }
        }
    }

    /// Whether a character is incomplete.
    pub fn is_within(&self) -> bool {
        !self.held.is_empty()
    }

    /// What is still incomplete when the text ends, as U+FFFD.
    pub fn finish(&mut self) -> String {
        if std::mem::take(&mut self.held).is_empty() { String::new() } else { '\u{FFFD}'.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bytes_that_begin_a_character_in_vain_are_one_replacement() {
        let mut stream = TextStream::default();
        assert_eq!(stream.push(&[0xE2, 0x82]), "");
        assert!(stream.is_within());
        assert_eq!(stream.push(b"x"), "\u{FFFD}x");
        assert!(!stream.is_within());
    }

    proptest! {
        #[test]
        fn a_text_cut_anywhere_comes_out_whole(text in "\\PC{0,30}", cut in 0usize..120) {
            let cut = cut.min(text.len());
            let mut stream = TextStream::default();
            let out = stream.push(&text.as_bytes()[..cut]) + &stream.push(&text.as_bytes()[cut..]) + &stream.finish();
            prop_assert_eq!(out, text);
        }
    }
}
