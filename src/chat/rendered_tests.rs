use super::*;

/// A vocabulary of characters and pairs of letters that begins texts with 1; `<e>` is 2, which ends them.
struct Pairs;

impl Tokenize for Pairs {
    fn prompt(&self, text: &str, contents: &[Range<usize>]) -> Result<Vec<Token>, TokenizeError> {
        let mut tokens = vec![1];
        let mut at = 0;
        while at < text.len() {
            let content = contents.iter().any(|c| c.start < at + 3 && at < c.end);
            let rest = &text.as_bytes()[at..];
            match rest {
                [b'<', b'e', b'>', ..] if !content => (tokens.push(2), at += 3).1,
                [a, b, ..] if a.is_ascii_lowercase() && b.is_ascii_lowercase() => {
                    tokens.push(1000 * Token::from(*a) + Token::from(*b));
                    at += 2;
                }
                _ => (tokens.push(rest[0].into()), at += 1).1,
            }
        }
        Ok(tokens)
    }

    fn control_tokens(&self, text: &str) -> Vec<Range<usize>> {
        text.match_indices("<e>").map(|(at, _)| at..at + 3).collect()
    }

    fn special(&self) -> SpecialTexts {
        SpecialTexts { eos: "<e>".into(), ..SpecialTexts::default() }
    }

    fn eos(&self) -> Option<Token> {
        Some(2)
    }
}

const fn pair(a: u8, b: u8) -> Token {
    1000 * a as Token + b as Token
}

#[test]
fn a_token_across_the_cut_belongs_to_the_response() {
    let split = Rendered::raw("A abc").split(&Pairs, &["de"]).unwrap();
    assert_eq!(split.prompt, [1, b'A' as Token, b' ' as Token, pair(b'a', b'b')]);
    assert_eq!(split.responses, [[pair(b'c', b'd'), b'e' as Token]]);
    let split = Rendered::raw("A ab").split(&Pairs, &["de"]).unwrap();
    assert_eq!((split.prompt.len(), &*split.responses), (4, &[vec![pair(b'd', b'e')]][..]));
}

#[test]
fn two_responses_follow_one_prompt() {
    let split = Rendered::raw("A abc").split(&Pairs, &["de", " x"]).unwrap();
    assert_eq!(split.prompt.len(), 4);
    assert_eq!(split.responses[1], b"c x".map(Token::from), "the second keeps what only the first changes");
}

#[test]
fn a_response_spells_no_control_token() {
    let split = Rendered::raw("<e>A").split(&Pairs, &["b<e>"]).unwrap();
    assert_eq!(split.prompt, [1, 2, b'A' as Token]);
    assert_eq!(split.responses, [b"b<e>".map(Token::from)]);
    let text = Rendered::raw("A").followed_by("x").followed_by("");
    assert_eq!((text.text(), text.contents().to_vec()), ("Ax", vec![std::ops::Range { start: 1, end: 2 }]));
}

#[test]
fn the_end_of_a_response_that_was_rendered_before_is_its_end() {
    assert_eq!(without_end(&Pairs, "<e>A", "yes<e>\n"), ("yes", true));
    assert_eq!(without_end(&Pairs, "<e>A", "yes<e>!"), ("yes<e>!", false));
    assert_eq!(without_end(&Pairs, "A", "yes<e>"), ("yes<e>", false), "nothing else was rendered");
}
