use super::*;

fn talk() -> Vec<Message> {
    vec![Message::new("system", "Be kind."), Message::new("user", "Hi"), Message::new("assistant", "Hello")]
}

fn render(name: &str, messages: &[Message], prompt: bool) -> String {
    ChatTemplate::builtin(name).unwrap().render(messages, prompt, "<s>", "</s>").unwrap()
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
    let text = ChatTemplate::from_source(source).unwrap().render(&talk(), false, "", "").unwrap();
    assert_eq!(text, "Be kind.;\nHi;\nHello;\n");
}

#[test]
fn tojson_writes_what_python_writes() {
    let source = "{{ {'b': [1, 2], 'a': \"<é'>\"} | tojson }}";
    let text = ChatTemplate::from_source(source).unwrap().render(&[], false, "", "").unwrap();
    assert_eq!(text, r#"{"b": [1, 2], "a": "<é'>"}"#);
}

#[test]
fn the_template_s_own_refusal_is_reported_in_its_words() {
    let template = ChatTemplate::from_source("{{ raise_exception('no system role') }}").unwrap();
    let error = template.render(&talk(), true, "", "").unwrap_err().to_string();
    assert!(error.contains("no system role"), "{error}");
    assert_eq!(error.lines().count(), 1);
}

#[test]
fn an_endless_template_runs_out_of_fuel() {
    let source = "{% for i in range(10000) %}{% for j in range(10000) %}{{ i }}{% endfor %}{% endfor %}";
    let error = ChatTemplate::from_source(source).unwrap().render(&[], true, "", "").unwrap_err();
    assert!(matches!(error, TemplateError::Render(_)), "{error}");
}

#[test]
fn strftime_now_gives_the_year() {
    let text = ChatTemplate::from_source("{{ strftime_now('%Y') }}").unwrap().render(&[], true, "", "").unwrap();
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
fn a_doubled_bos_can_be_foreseen() {
    assert!(starts_with_bos(&render("llama3", &talk(), true), "<s>"));
    assert!(!starts_with_bos(&render("chatml", &talk(), true), "<s>"));
    assert!(!starts_with_bos("text", ""));
}
