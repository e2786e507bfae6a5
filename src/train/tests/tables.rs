//! Tables, and rows that say in other columns what is preferred. The files are written by
//! `tests/train/cases/make-tables`.

use super::data::{load_within, text};
use super::*;
use crate::train::TrainError;
use crate::train::pairs::{TrainingPrompt, prompts};
use crate::train::settings::Column;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/train/cases").join(name)
}

fn try_rows(name: &str, wire: Wire) -> Result<Vec<[String; 3]>, String> {
    try_bytes(name, &std::fs::read(file(name)).unwrap(), wire)
}

fn try_bytes(name: &str, bytes: &[u8], wire: Wire) -> Result<Vec<[String; 3]>, String> {
    let (examples, _) = load_within(400, name, bytes, wire).map_err(|e| e.to_string())?;
    Ok(examples.iter().map(|e| [text(&e.prompt), text(&e.chosen), text(&e.rejected)]).collect())
}

fn rows(name: &str) -> Vec<[String; 3]> {
    try_rows(name, Wire::default()).unwrap()
}

fn preferring(by: &str) -> Wire {
    Wire { prefer: Some(by.into()), ..Wire::default() }
}

/// Chosen and rejected of each pair.
fn preferred(name: &str, by: &str) -> Vec<[String; 2]> {
    try_rows(name, preferring(by)).unwrap().into_iter().map(|[_, chosen, rejected]| [chosen, rejected]).collect()
}

fn row(prompt: &str, chosen: &str, rejected: &str) -> [String; 3] {
    [prompt, chosen, rejected].map(String::from)
}

#[test]
fn parquet_is_read_as_the_hub_serves_it() {
    let rows = rows("ultrafeedback.parquet");
    assert_eq!((rows.len(), &rows[5]), (6, &row("\n\nHuman: Question 5?\n\nAssistant:", " Good 5.", " Bad 5.")));
}

#[test]
fn csv_keeps_commas_quotes_line_breaks_and_every_script() {
    let wanted = [
        row("\n\nHuman: One, two\nor \"three\"?\n\nAssistant:", " Three,\nof course", " \"Two\""),
        row("Be brief.\n\nHuman: Grüße — 你好?\n\nAssistant:", " Grüß Gott", " Nein"),
    ];
    for name in ["orca.csv", "orca.tsv", "orca-windows.csv.gz"] {
        assert_eq!(rows(name), wanted, "{name}");
    }
}

#[test]
fn of_two_responses_the_one_is_chosen_that_its_objective_prefers() {
    let pair = |a: &str, b: &str| [a, b].map(String::from);
    let helpful = [pair("helpful 0", "harmless 0"), pair("fine 1", "plain 1"), pair("useful 2", "safe 2")];
    assert_eq!(preferred("safe.parquet", "helpful"), helpful);
    assert_eq!(preferred("safe.parquet", "better_response_id"), helpful);
    let harmless = [pair("harmless 0", "helpful 0"), pair("fine 1", "plain 1"), pair("safe 2", "useful 2")];
    assert_eq!(preferred("safe.parquet", "harmless"), harmless);
    let cases = [
        (r#"{"history":"Q","human_ref_A":"y","human_ref_B":"n","labels":1}"#, "labels", Some("y")),
        (r#"{"history":"Q","human_ref_A":"n","human_ref_B":"y","labels":0}"#, "labels", Some("y")),
        (
            r#"{"prompt":"Q","response_1":"y","response_2":"n","preference_strength":-2}"#,
            "preference_strength",
            Some("y"),
        ),
        (
            r#"{"prompt":"Q","response_1":"n","response_2":"y","preference_strength":1}"#,
            "preference_strength",
            Some("y"),
        ),
        (r#"{"prompt":"Q","response_1":"n","response_2":"y","preference_strength":0}"#, "preference_strength", None),
        (r#"{"prompt":"Q","response_1":"n","response_2":"y","better":2}"#, "better", Some("y")),
        (r#"{"prompt":"Q","response_a":"n","response_b":"y","winner":"B"}"#, "winner", Some("y")),
        (r#"{"prompt":"Q","response_a":"y","response_b":"n","winner":"response_a"}"#, "winner", Some("y")),
        (r#"{"prompt":"Q","response_a":"y","response_b":"n","winner":"tie"}"#, "winner", None),
    ];
    for (line, by, chosen) in cases {
        // One more pair, so that there is one.
        let lines = format!(
            "{line}\n{}",
            r#"{"prompt":"Z","response_0":"q","response_1":"r","better_response_id":0,"labels":0,"preference_strength":0,"better":0,"winner":"0"}"#
        );
        let found = try_bytes("p.jsonl", lines.as_bytes(), preferring(by));
        match chosen {
            Some(chosen) => assert_eq!(found.unwrap()[0], row("Q", chosen, "n"), "{line}"),
            None => assert!(found.map_or(true, |rows| rows.iter().all(|row| row[0] != "Q")), "{line}"),
        }
    }
}

#[test]
fn of_scored_responses_to_one_prompt_the_best_stands_against_the_worst() {
    let pair = |a: &str, b: &str| [a, b].map(String::from);
    // Rows that follow each other; a tie is no preference.
    assert_eq!(preferred("steer.parquet", "helpfulness"), [pair("a good", "a poor"), pair("b good", "b poor")]);
    let verbose = [pair("a poor", "a good"), pair("b good", "b poor"), pair("c two", "c one")];
    assert_eq!(preferred("steer.parquet", "verbosity"), verbose);
    // One row with a list; a rating that annotators left out takes no part.
    assert_eq!(preferred("completions.parquet", "overall_score"), [pair(" best", " worst")]);
    assert_eq!(preferred("completions.parquet", "honesty"), [pair(" so-so", " fair")]);
}

#[test]
fn turns_of_tools_are_rendered_by_the_template() {
    let chatml = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    let wire = || Wire { template: Some(chatml.into()), ..Wire::default() };
    for name in ["tools.jsonl", "tools.parquet"] {
        let found = try_rows(name, wire()).unwrap();
        let [prompt, chosen, rejected] = &found[0];
        let call = "<|im_start|>assistant\n<tool_call>\n{\"name\":\"time\",\"arguments\":{\"zone\":\"CET\"}}\n</tool_call><|im_end|>";
        assert!(prompt.contains(call) && prompt.contains("<|im_start|>tool\n12:00<|im_end|>"), "{name}: {prompt}");
        assert_eq!((chosen.as_str(), rejected.as_str()), ("Noon.", "Late."));
    }
    // ShareGPT's words for the same.
    let line = r#"{"conversations":[{"from":"human","value":"Q"},{"from":"function_call","value":"f()"},{"from":"observation","value":"1"}],"chosen":{"from":"gpt","value":"y"},"rejected":{"from":"gpt","value":"n"}}"#;
    let found = try_bytes("p.jsonl", line.as_bytes(), wire()).unwrap();
    assert!(found[0][0].contains("<|im_start|>tool\n1<|im_end|>"), "{}", found[0][0]);
}

#[test]
fn columns_of_other_names_are_given_or_named_in_the_refusal() {
    let columns = |text: &str| Wire {
        columns: Some(text.split(',').map(|column| column.parse::<Column>().unwrap()).collect()),
        ..Wire::default()
    };
    let german = columns("question=frage,chosen=gut,rejected=schlecht");
    assert_eq!(try_rows("own-names.csv", german).unwrap()[1], row("\n\nHuman: Q2\n\nAssistant:", " yes 2", " no 2"));
    let absent = try_rows("own-names.csv", columns("chosen=besser")).unwrap_err();
    assert!(absent.contains(":2: --columns chosen=besser: there is no such column; the row has `frage`"), "{absent}");
    assert!("choosen=x".parse::<Column>().unwrap_err().contains("did you mean \"chosen\"?"));
    assert!("chosen".parse::<Column>().unwrap_err().contains("OURS=THEIRS"));
    // As a recipe spells them.
    let of =
        |yaml: &str| serde_saphyr::from_str::<Wire>(yaml).map(|wire| wire.columns.unwrap()).map_err(|e| e.to_string());
    let two = vec![Column("chosen".into(), "a".into()), Column("rejected".into(), "b".into())];
    assert_eq!(of("columns: {chosen: a, rejected: b}").unwrap(), two);
    assert_eq!(of("columns: chosen=a,rejected=b").unwrap(), two);
    assert!(of("columns: {nope: a}").unwrap_err().contains("no column \"nope\""));
}

#[test]
fn a_mistake_in_a_table_is_named_by_file_row_and_column() {
    let cases: &[(&str, &[u8], Wire, &str)] = &[
        (
            "p.csv",
            b"prompt,chosen,rejected\nQ,y,n\nQ,y\n",
            Wire::default(),
            "p.csv:3: 2 cells, where the first row names 3",
        ),
        ("p.csv", b"prompt,chosen,rejected\nQ,y,n\nQ,\xff,n\n", Wire::default(), "p.csv:3: not UTF-8"),
        ("p.csv", b"prompt,chosen,chosen\n", Wire::default(), "p.csv:1: two columns are called `chosen`"),
        ("p.csv", b"prompt,good,bad\nQ,y,n\n", Wire::default(), "p.csv:2: `chosen` and `rejected` are missing"),
        ("p.csv", b"\xff\xfep\0", Wire::default(), "UTF-16"),
        (
            "p.jsonl",
            br#"{"prompt":"Q","response":"y","helpful":"high"}"#,
            preferring("helpful"),
            ":1: column `helpful` is \"high\", not a number",
        ),
        (
            "p.jsonl",
            br#"{"prompt":"Q","response":"y","score":1}"#,
            preferring("helpful"),
            ":1: --prefer helpful: there is no such column; the row has `prompt`",
        ),
        (
            "p.jsonl",
            br#"{"prompt":"Q","response_0":"y","response_1":"n","better":7}"#,
            preferring("better"),
            "names neither `response_0` nor `response_1`",
        ),
        ("p.parquet", b"PAR1 and no more", Wire::default(), "a broken Parquet file"),
    ];
    for (name, bytes, wire, part) in cases {
        let message = try_bytes(name, bytes, wire.clone()).unwrap_err();
        assert!(message.contains(part) && !message.contains('\n'), "{part}: {message}");
    }
    let message = try_rows("list-in-cell.csv", Wire::default()).unwrap_err();
    assert!(message.contains(":2: column `prompt` has a list as Python prints it"), "{message}");
    let message = try_rows("safe.parquet", Wire::default()).unwrap_err();
    assert!(message.contains(":1: ") && message.contains("--prefer helpful"), "{message}");
}

#[test]
fn a_damaged_parquet_file_is_an_error_and_never_ends_the_program() {
    let whole = std::fs::read(file("ultrafeedback.parquet")).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let hook = std::panic::take_hook();
    // A panic inside the reader is caught, and must not be printed a thousand times here.
    std::panic::set_hook(Box::new(|_| ()));
    let mut n_read = 0;
    for _ in 0..1000 {
        let mut bytes = whole.clone();
        for _ in 0..rng.random_range(1..4) {
            let at = rng.random_range(4..bytes.len());
            bytes[at] = rng.random();
        }
        if rng.random_bool(0.2) {
            bytes.truncate(rng.random_range(4..bytes.len()));
        }
        n_read += usize::from(try_bytes("p.parquet", &bytes, Wire::default()).is_ok());
    }
    std::panic::set_hook(hook);
    assert!(n_read < 1000);
}

#[test]
fn labels_of_several_objectives_in_a_row_are_read_one_by_one() {
    let lines = concat!(
        r#"{"prompt":"Q","a":"y","b":"n","preferred":{"kind":"a","short":"b"}}"#,
        "\n",
        r#"{"prompt":"R","response_0":"y","response_1":"n","preferred":{"kind":1,"short":null}}"#,
        "\n",
        r#"{"prompt":"S","a":"y","b":"n","preferred":{"kind":"tie"}}"#,
    );
    let found = |by: &str| try_bytes("p.jsonl", lines.as_bytes(), preferring(by));
    assert_eq!(found("kind").unwrap(), [row("Q", "y", "n"), row("R", "n", "y")]);
    assert_eq!(found("short").unwrap(), [row("Q", "n", "y")]);
    let wrong = lines.replace("\"kind\":1", "\"kind\":2");
    let message = try_bytes("p.jsonl", wrong.as_bytes(), preferring("kind")).unwrap_err();
    assert!(message.contains(":2: column `preferred.kind` is 2, which names neither"), "{message}");
    let message = try_bytes("p.jsonl", lines.as_bytes(), Wire::default()).unwrap_err();
    assert!(message.contains("--objective parm --prefer NAME,NAME"), "{message}");
}

#[test]
fn a_response_that_was_cut_off_is_not_ended() {
    let line = |finish: &str| {
        format!(r#"{{"prompt":"Q","chosen":"yes","rejected":"no","finish_chosen":"{finish}","finish_rejected":"eos"}}"#)
    };
    let tokens = |finish: &str| {
        let (examples, _) = load_within(400, "p.jsonl", line(finish).as_bytes(), Wire::default()).unwrap();
        (examples[0].chosen.len(), examples[0].rejected.len())
    };
    let (ended, cut) = (tokens("eos"), tokens("length"));
    assert_eq!((cut.0 + 1, cut.1), (ended.0, ended.1));
}

#[test]
fn prompts_are_read_from_data_of_any_form() {
    let of = |name: &str| prompts(&file(name), usize::MAX).unwrap();
    let chat = |prompt: &TrainingPrompt| match prompt {
        TrainingPrompt::Chat(messages) => {
            messages.iter().map(|m| format!("{}:{}", m.role, m.content)).collect::<Vec<_>>()
        }
        TrainingPrompt::Text(text) => vec![text.clone()],
    };
    assert_eq!(chat(&of("ultrafeedback.parquet")[2]), ["user:Question 2?"]);
    assert_eq!(chat(&of("safe.parquet")[0]), ["Hello?"]);
    assert_eq!(chat(&of("orca.csv")[1]), ["system:Be brief.", "user:Grüße — 你好?"]);
    assert_eq!(prompts(&file("ultrafeedback.parquet"), 2).unwrap().len(), 2);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.jsonl");
    std::fs::write(&path, "{\"messages\":[{\"role\":\"user\",\"content\":\"Q\"},{\"role\":\"assistant\",\"content\":\"A\"}]}\n{\"x\":1}\n").unwrap();
    assert_eq!(chat(&prompts(&path, 1).unwrap()[0]), ["user:Q"], "an answer is no part of the question");
    assert!(matches!(prompts(&path, 9), Err(TrainError::Data { line: 2, .. })));
}

#[test]
fn labels_and_scores_are_numbers_in_a_spreadsheet_too() {
    let chosen = |text: &str, by: &str| -> Vec<String> {
        let rows = try_bytes("p.csv", text.as_bytes(), preferring(by)).unwrap();
        rows.into_iter().map(|[_, chosen, _]| chosen).collect()
    };
    let strength = "prompt,response_1,response_2,preference_strength\nA,a1,a2,1\nB,b1,b2,-2\nC,c1,c2,0\nD,d1,d2,0.5\n";
    assert_eq!(chosen(strength, "preference_strength"), ["a2", "b1", "d2"]);
    let labels = "history,human_ref_A,human_ref_B,labels\nA,a1,a2,1\nB,b1,b2,0\n";
    assert_eq!(chosen(labels, "labels"), ["a1", "b2"]);
    let ids = "prompt,response_0,response_1,better_response_id\nA,a0,a1,1\nB,b0,b1,0\n";
    assert_eq!(chosen(ids, "helpful"), ["a1", "b0"]);
    let scores = "prompt,response,helpfulness\nA,a1,1\nA,a2,4.5\nB,b1,2\n";
    assert_eq!(chosen(scores, "helpfulness"), ["a2"]);
    let message = try_bytes("p.csv", ids.replace(",0\n", ",0.9\n").as_bytes(), preferring("helpful")).unwrap_err();
    assert!(message.contains("p.csv:3: column `better_response_id` is \"0.9\""), "{message}");
}

#[test]
fn only_responses_to_one_question_are_set_against_each_other() {
    let line =
        |asked: &str, response: &str, score: u8| format!("{{{asked},\"response\":\"{response}\",\"s\":{score}}}\n");
    let turn = |text: &str| format!("\"conversation\":[{{\"role\":\"user\",\"content\":\"{text}\"}}]");
    let text = [line(&turn("A"), "a1", 1), line(&turn("A"), "a2", 2), line(&turn("B"), "b1", 9)].concat();
    let rows = try_bytes("p.jsonl", text.as_bytes(), preferring("s")).unwrap();
    assert_eq!(rows, [row("\n\nHuman: A\n\nAssistant:", " a2", " a1")]);
    // What would be lost is an error with its own line, and counted where bad lines are left out.
    let good = line("\"prompt\":\"Q\"", "q1", 1) + &line("\"prompt\":\"Q\"", "q2", 2);
    for (bad, at, part) in [
        (line("\"x\":1", "b", 1), 3, "no `prompt`"),
        ("{\"prompt\":\"P\",\"reply\":\"b\",\"s\":1}\n".to_owned(), 3, "there is no response"),
        ("{\"prompt\":\"P\",\"responses\":[\"a\",\"b\"]}\n".to_owned(), 3, "a completion must be an object"),
        (line("\"prompt\":7", "a", 1), 3, "`prompt` must be a text"),
    ] {
        let text = format!("{good}{bad}");
        let message = try_bytes("p.jsonl", text.as_bytes(), preferring("s")).unwrap_err();
        assert!(message.contains(part) && message.contains(&format!("p.jsonl:{at}:")), "{message}");
        let skipping = Wire { skip_bad: true, ..preferring("s") };
        let (examples, counts) = load_within(400, "p.jsonl", text.as_bytes(), skipping).unwrap();
        assert_eq!((examples.len(), counts.bad), (1, 1), "{bad}");
    }
    let tied = format!("{good}{}{}", line("\"prompt\":\"T\"", "t1", 3), line("\"prompt\":\"T\"", "t2", 3));
    let (examples, counts) = load_within(400, "p.jsonl", tied.as_bytes(), preferring("s")).unwrap();
    assert_eq!((examples.len(), counts.tied), (1, 1));
    assert!(counts.to_string().ends_with(", 1 tied"), "{counts}");
}

#[test]
fn texts_that_their_writer_calls_bytes_are_texts() {
    let found = rows("bytes.parquet");
    assert_eq!(found, [row("Grüße?", "ja", "nein")]);
    let message = try_rows("no-text.parquet", Wire::default()).unwrap_err();
    assert!(message.contains(":1: column `chosen`: bytes that are no text"), "{message}");
}
