use super::*;

fn talk() -> Vec<Message> {
    vec![Message::new("system", "Be kind."), Message::new("user", "Hi"), Message::new("assistant", "Hello")]
}

fn special(bos: &str, eos: &str) -> SpecialTexts {
    SpecialTexts { bos: bos.into(), eos: eos.into(), ..SpecialTexts::default() }
}

fn render(name: &str, messages: &[Message], prompt: bool) -> String {
    let template = ChatTemplate::builtin(name).unwrap();
    template.render(messages, prompt, &special("<s>", "</s>"), Timestamp::now()).unwrap()
}

fn render_source(source: &str, messages: &[Message]) -> Result<String, TemplateError> {
    ChatTemplate::from_source(source)?.render(messages, false, &special("", ""), Timestamp::now())
}

#[test]
fn every_built_in_template_renders_its_format() {
    let user = [Message::new("user", "Hi")];
    assert_eq!(render("chatml", &user, true), "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
    assert_eq!(render("llama2", &talk(), true), "<s>[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nHi [/INST] Hello </s>");
    assert_eq!(
        render("llama3", &user, true),
        "<s><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    );
    assert_eq!(render("zephyr", &user, true), "<|user|>\nHi</s>\n<|assistant|>\n");
    assert!(render("alpaca", &user, true).ends_with("request.\n\n### Instruction:\nHi\n\n### Response:\n"));
    assert_eq!(render("hh", &user, true), "\n\nHuman: Hi\n\nAssistant:");
    assert_eq!(render("raw", &user, true), "Hi");
}

#[test]
fn blocks_are_trimmed_as_hugging_face_trims_them() {
    let source =
        "{% for m in messages %}\n    {% if true %}\n{{ m.content.strip() }};\n    {% endif %}\n{% endfor %}\n";
    let text = render_source(source, &talk()).unwrap();
    assert_eq!(text, "Be kind.;\nHi;\nHello;\n");
}

#[test]
fn tojson_writes_what_python_writes() {
    let source = "{{ {'b': [1, 2], 'a': \"<é'>\"} | tojson }}";
    let text = render_source(source, &[]).unwrap();
    assert_eq!(text, r#"{"b": [1, 2], "a": "<é'>"}"#);
}

#[test]
fn the_template_s_own_refusal_is_reported_in_its_words() {
    let error = render_source("{{ raise_exception('no system role') }}", &talk()).unwrap_err().to_string();
    assert!(error.contains("no system role"), "{error}");
    assert_eq!(error.lines().count(), 1);
}

#[test]
fn an_endless_template_runs_out_of_fuel() {
    let source = "{% for i in range(10000) %}{% for j in range(10000) %}{{ i }}{% endfor %}{% endfor %}";
    let error = render_source(source, &[]).unwrap_err();
    assert!(matches!(error, TemplateError::Render(_)), "{error}");
}

#[test]
fn strftime_now_gives_the_year() {
    let text = render_source("{{ strftime_now('%Y') }}", &[]).unwrap();
    assert!(text.len() == 4 && text.starts_with("20"), "{text}");
}

#[test]
fn broken_jinja_and_unknown_names_are_refused() {
    assert!(matches!(ChatTemplate::from_source("{% for %}"), Err(TemplateError::Syntax(_))));
    let error = TemplateRef::parse("chatlm", Path::new("")).unwrap_err().to_string();
    assert!(error.contains("did you mean \"chatml\"?"), "{error}");
    assert_eq!(TemplateRef::parse("  ", Path::new("")), Err(TemplateError::Empty));
}

#[test]
fn a_path_starts_at_its_folder_and_stays_a_path_when_read_again() {
    let file = TemplateRef::parse("chat.jinja", Path::new("prefs")).unwrap();
    assert_eq!(file, TemplateRef::File("prefs/chat.jinja".into()));
    assert_eq!(TemplateRef::parse("prefs/chat.jinja", Path::new("")).unwrap(), file);
}

#[test]
fn none_writes_the_messages_one_a_line_and_raw_one_after_the_other() {
    assert_eq!(render("none", &talk(), true), "Be kind.\nHi\nHello");
    assert_eq!(render("raw", &talk(), true), "Be kind.HiHello");
    assert_eq!(TemplateRef::parse("auto", Path::new("")), Ok(TemplateRef::Auto));
}

#[test]
fn a_generation_tag_writes_nothing_and_keeps_the_lines_of_errors() {
    let source =
        "{%- for m in messages -%}\n{%- generation -%}\n{{ m.content }}\n{%- endgeneration -%}\n{%- endfor -%}";
    assert_eq!(render_source(source, &talk()).unwrap(), "Be kind.HiHello");
    let error = render_source("{% generation %}\n{% endgeneration %}\n{{ 'a' + }}", &[]).unwrap_err();
    assert!(error.to_string().contains("line 3"), "{error}");
}

#[test]
fn line_ends_and_a_byte_order_mark_change_nothing() {
    let lines = "{% for m in messages %}\n{{ '<|' ~ m.role ~ '|>' }}\n{{ m.content }}\n{% endfor %}\n";
    let expected = render_source(lines, &talk()).unwrap();
    assert_eq!(expected, "<|system|>\nBe kind.\n<|user|>\nHi\n<|assistant|>\nHello\n");
    for other in [lines.replace('\n', "\r\n"), lines.replace('\n', "\r"), format!("\u{feff}{lines}")] {
        assert_eq!(render_source(&other, &talk()).unwrap(), expected);
    }
}

#[test]
fn a_template_is_called_as_transformers_calls_it() {
    let source = "{{ tools is defined and tools is none and documents is none }} {{ enable_thinking is defined }} \
                  {{ date_string is defined }} {{ pad_token is defined }} {{ messages[0].tool_calls is defined }}";
    assert_eq!(render_source(source, &talk()).unwrap(), "True False False False False");
}

#[test]
fn blocks_on_lines_of_their_own_give_the_prompt_that_hugging_face_gives() {
    let case = |name: &str| {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/train/cases").join(name);
        std::fs::read_to_string(path).unwrap()
    };
    let template = ChatTemplate::from_source(case("untrimmed-blocks.jinja")).unwrap();
    let mut n = 0;
    for line in case("tpl_hf.jsonl").lines().filter(|line| !line.is_empty()) {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        let prompt = row["prompt"].as_str().unwrap();
        let asked = prompt.strip_prefix("<|user|>\n").and_then(|rest| rest.strip_suffix("\n<|assistant|>\n")).unwrap();
        let messages = [Message::new("user", asked)];
        assert_eq!(template.render(&messages, true, &special("", ""), Timestamp::now()).unwrap(), prompt);
        n += 1;
    }
    assert_eq!(n, 16);
}

#[test]
fn the_documents_list_every_built_in_name() {
    for document in ["docs/command-line.md", "docs/training.md"] {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(document);
        let text = std::fs::read_to_string(file).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
        let names = ChatTemplate::builtin_names().collect::<Vec<_>>().join(", ");
        assert!(text.contains(&names), "{document}: {names}");
    }
}
