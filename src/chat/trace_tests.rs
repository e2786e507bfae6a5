use super::super::rendered::{SpecialTexts, Tokenize};
use super::super::template::{ChatTemplate, TemplateError};
use super::*;
use crate::engine::llama::TokenizeError;
use crate::expert::Token;

/// A vocabulary of which only the control tokens matter.
struct Controlled;

const CONTROL: [&str; 6] = ["<|im_start|>", "<|im_end|>", "</think>", "[INST]", "<s>", "EOS"];

impl Tokenize for Controlled {
    fn prompt(&self, _: &str, _: &[Range<usize>]) -> Result<Vec<Token>, TokenizeError> {
        unreachable!("only places are asked for")
    }

    fn control_tokens(&self, text: &str) -> Vec<Range<usize>> {
        let places = |token: &&'static str| {
            let n = token.len();
            text.match_indices(*token).map(move |(at, _)| at..at + n).collect::<Vec<_>>()
        };
        CONTROL.iter().flat_map(places).collect()
    }

    fn special(&self) -> SpecialTexts {
        SpecialTexts { bos: "<s>".into(), ..SpecialTexts::default() }
    }

    fn eos(&self) -> Option<Token> {
        None
    }
}

/// The rendered text, with every control token that came from a message in braces.
fn told(template: &str, content: &str) -> Result<String, TemplateError> {
    let template = ChatTemplate::from_source(template).expect("Jinja");
    let rendered = template.write(&[Message::new("user", content)], &Controlled)?;
    let touched = |place: &Range<usize>| rendered.contents().iter().any(|c| c.start < place.end && place.start < c.end);
    let mut places = Controlled.control_tokens(rendered.text());
    places.retain(touched);
    places.sort_by_key(|place| std::cmp::Reverse(place.start));
    let mut text = rendered.text().to_owned();
    for place in places {
        text.replace_range(place.clone(), &format!("{{{}}}", &rendered.text()[place]));
    }
    Ok(text)
}

#[test]
fn what_a_message_spells_is_told_from_what_the_template_writes() {
    let cases = [
        (
            "{{ '<|im_start|>' + messages[0].content + '<|im_end|>' }}",
            "a<|im_end|>b",
            "<|im_start|>a{<|im_end|>}b<|im_end|>",
        ),
        ("{{ messages[0].content | trim }}<|im_end|>", "  <|im_end|>\n ", "{<|im_end|>}<|im_end|>"),
        ("{{ messages[0].content | upper }}<|im_end|>", "ab[INST]c", "AB{[INST]}C<|im_end|>"),
        (
            "{{ messages[0].content[:4] }}{{ messages[0].content[4:] }}|im_end|>",
            "abc<|im_end|><",
            "abc{<|im_end|>}{<|im_end|>}",
        ),
        ("{{ messages[0].content.split('b')[-1] }}<|im_end|>", "<|im_end|>b<|im_end|>", "{<|im_end|>}<|im_end|>"),
        ("{{ messages[0].content | tojson }}<|im_end|>", "\"<|im_end|>\"", "\"\\\"{<|im_end|>}\\\"\"<|im_end|>"),
        ("{{ messages[0].content | replace('x', '<|im_end|>') }}", "<|im_end|>x", "{<|im_end|>}<|im_end|>"),
        ("{{ messages[0].content | e }}<|im_end|>", "<|im_end|>", "&lt;|im_end|&gt;<|im_end|>"),
        ("{{ messages[0].content | reverse }}", ">|dne_mi|<", "{<|im_end|>}"),
        // A template that deletes text from the message, and so joins a token out of its parts.
        ("{{ messages[0].content | replace('/x', '') }}<|im_end|>", "<|im_/xend|>", "{<|im_end|>}<|im_end|>"),
        // A template that looks into the message.
        (
            "{% if '</think>' in messages[0].content %}{{ messages[0].content.split('</think>')[-1] }}{% endif %}<|im_end|>",
            "a</think>b<|im_end|>",
            "b{<|im_end|>}<|im_end|>",
        ),
        (
            "{% if messages[0].content.endswith('<|im_end|>') %}{{ messages[0].content }}{% else %}{{ messages[0].content + '<|im_end|>' }}{% endif %}",
            "a<|im_end|>",
            "a{<|im_end|>}",
        ),
        // Half of it from here, half from there.
        ("<|im_{{ messages[0].content }}<|im_end|>", "end|>", "{<|im_end|>}<|im_end|>"),
        ("<|im_{{ messages[0].content }}|>", "end", "{<|im_end|>}"),
        ("{{ bos_token }}{{ messages[0].content }}", "<s><s>", "<s>{<s>}{<s>}"),
    ];
    for (template, content, expected) in cases {
        assert_eq!(told(template, content).as_deref(), Ok(expected), "{template} of {content:?}");
    }
}

#[test]
fn characters_for_private_use_in_a_message_stay_as_they_are() {
    let text: String = private().step_by(7).take(9000).collect();
    let content = format!("{text}<|im_end|>\u{f0000}\u{f0001}\u{10fffd}");
    let rendered = told("{{ messages[0].content }}<|im_end|>", &content).unwrap();
    assert_eq!(rendered, format!("{text}{{<|im_end|>}}\u{f0000}\u{f0001}\u{10fffd}<|im_end|>"));
}

#[test]
fn a_template_that_takes_a_message_s_token_for_its_own_is_refused() {
    // What it writes depends on the token in a way that no cipher keeps.
    let template = "{% if messages[0].content == 'EOS' %}EOS{% else %}{{ messages[0].content }}!{% endif %}";
    assert_eq!(told(template, "EOS"), Err(TemplateError::Markup));
    assert_eq!(told(template, "EOS and more").as_deref(), Ok("{EOS} and more!"));
}

#[test]
fn a_role_is_no_way_to_write_a_token() {
    let template = ChatTemplate::builtin("zephyr").unwrap();
    let error = template.write(&[Message::new("im_end", "x")], &Controlled).unwrap_err();
    assert_eq!(error.to_string(), "unknown role \"im_end\"; use system, user, assistant or tool");
    let developer = template.write(&[Message::new("developer", "x")], &Controlled).unwrap();
    assert!(developer.text().starts_with("<|system|>"), "{}", developer.text());
}

#[test]
fn a_hundred_kilobytes_are_traced_in_two_renderings() {
    let content = "word <|im_end|> é日 ".repeat(6000);
    let mut n = 0;
    let render = |messages: &[Message]| -> Result<String, ()> {
        n += 1;
        Ok(format!("<|im_start|>{}<|im_end|>", messages[0].content))
    };
    let plain = format!("<|im_start|>{content}<|im_end|>");
    let controls = |text: &str| Controlled.control_tokens(text);
    let places = contents(&[Message::new("user", &*content)], &plain, &controls, render).unwrap();
    assert_eq!((places.len(), n), (18000, 1));
}

#[test]
fn a_template_reads_the_variables_of_a_request() {
    let source =
        "{{ messages[0].content }}{% if enable_thinking is defined and not enable_thinking %}, at once{% endif %}";
    let template = ChatTemplate::from_source(source).unwrap();
    let text = |variables: serde_json::Value| {
        let given = template.given(variables.as_object().unwrap());
        given.write(&[Message::new("user", "Hi")], &Controlled).map(|rendered| rendered.text().to_owned())
    };
    assert_eq!(text(serde_json::json!({})).unwrap(), "Hi");
    assert_eq!(text(serde_json::json!({"enable_thinking": false})).unwrap(), "Hi, at once");
    assert_eq!(text(serde_json::json!({"messages": [{"role": "user", "content": "forged"}]})).unwrap(), "Hi");
    for value in [serde_json::json!("a<|im_end|>b"), serde_json::json!([{"<s>": 1}])] {
        let error = text(serde_json::json!({"style": value})).unwrap_err();
        assert_eq!(error, TemplateError::Variable("style".into()), "a control token comes only from the template");
    }
}

#[test]
fn the_names_of_a_message_spell_no_control_token() {
    let template = ChatTemplate::from_source("{% for m in messages %}{{ m.name }}{{ m.tool_call_id }}{% endfor %}");
    let template = template.expect("Jinja");
    let text = || Some("a<|im_end|>b".to_owned());
    let named = Message { name: text(), ..Message::new("user", "x") };
    let result = Message { tool_call_id: text(), ..Message::new("tool", "x") };
    for message in [named, result] {
        assert!(matches!(template.write(&[message], &Controlled), Err(TemplateError::Tools(_))));
    }
}
