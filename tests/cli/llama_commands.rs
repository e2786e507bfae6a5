//! Command lines of llama.cpp's tools, as READMEs and model cards have them: each does what was meant, or is refused by
//! name with what to do instead.

use std::path::Path;
use std::process::Output;

use genarm::engine::gguf::Value;
use tempfile::TempDir;

use super::{fed, genarm, model};
use crate::server::{Serve, client};
use crate::support::random::copy_with;

/// A template that shows what it is given.
const TEMPLATE: &str = "{% for m in messages %}{{ m.role[:1] }}: {{ m.content }}\n{% endfor %}\
                        {% if enable_thinking is defined and not enable_thinking %}no {% endif %}a: ";
const PROMPT: &str = "Once upon a time, there was a little girl named Lily.";

/// A folder with the files that the command lines name.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let template = ("tokenizer.chat_template", Value::String(TEMPLATE.into()));
    copy_with(Path::new(&model("base.gguf")), &path("m.gguf"), &[template]);
    for (from, to) in [("base.gguf", "d.gguf"), ("arm-cheerful.gguf", "a.gguf")] {
        std::fs::copy(model(from), path(to)).expect("copied");
    }
    for (name, text) in [
        ("prompt.txt", "Once upon a time, there was a little girl named Lily.\n"),
        ("message.txt", "Tom ran.\n"),
        ("sys.txt", "Be kind.\n"),
        ("t.jinja", "{% for m in messages %}{{ m.content }} {% endfor %}\n"),
        ("g.gbnf", "root ::= \"yes\" | \"no\"\n"),
        ("schema.json", "{\"type\": \"object\", \"properties\": {\"n\": {\"enum\": [1, 2]}}, \"required\": [\"n\"]}\n"),
        ("lora.yaml", "base: {model: m.gguf, lora: [a.gguf]}\n"),
        ("arms.yaml", "base: m.gguf\narms: {cheerful: {lora: a.gguf}}\n"),
        ("half.yaml", "base: {model: m.gguf, lora: [{path: a.gguf, scale: 0.5}]}\n"),
    ] {
        std::fs::write(path(name), text).expect("written");
    }
    folder
}

/// The words of a command line: quotes keep spaces together.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut quote) = (None::<String>, None);
    for c in line.chars() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (' ', None) => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// Runs a command line in the folder.
fn run_in(folder: &TempDir, line: &str, input: &str) -> Output {
    let args = words(line);
    let mut command = genarm(&args.iter().map(String::as_str).collect::<Vec<_>>());
    fed(command.current_dir(folder.path()), input)
}

/// What a command line prints; it must succeed.
fn printed(folder: &TempDir, line: &str, input: &str) -> String {
    let output = run_in(folder, &format!("{line} --seed 7"), input);
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Command lines after llama-cli's or llama-completion's name, and the same in genarm's words.
const GENERATED: &[(&str, &str)] = &[
    (r#"-m m.gguf -p "I believe" -n 8 -e"#, r#"--base m.gguf --n-predict 8 "I believe""#),
    (r#"-m m.gguf -e -n 8 -p "Tom ran.\nLily""#, "--base m.gguf --n-predict 8 'Tom ran.\nLily'"),
    (r#"-m m.gguf --no-escape -n 8 -p "Tom\nLily""#, r#"--base m.gguf --n-predict 8 "Tom\nLily""#),
    ("-m m.gguf -f prompt.txt -n 16", "--base m.gguf --file prompt.txt --n-predict 16"),
    (
        "--model m.gguf --prompt 'Tom ran.' --predict 8 --ctx-size 256 --threads 1 --batch-size 64 --gpu-layers 0",
        "--base m.gguf --n-predict 8 --n-ctx 256 --threads 1 --n-batch 64 --n-gpu-layers 0 'Tom ran.'",
    ),
    (
        "-m m.gguf -c 256 -b 64 -ub 32 -t 1 -tb 1 -ngl 99 --no-mmap -n 8 -p 'Tom ran.'",
        "--base m.gguf --n-ctx 256 --n-batch 64 --n-ubatch 32 --threads 1 --mmap=false --n-predict 8 'Tom ran.'",
    ),
    (
        "-m m.gguf --temp 0.6 --top-k 20 --min-p 0 -fa on -ctk q8_0 -ctv q8_0 -n 8 -p 'Tom ran.'",
        "--base m.gguf --temp 0.6 --top-k 20 --min-p 0 --flash-attn on --cache-type-k q8_0 --cache-type-v q8_0 \
         --n-predict 8 'Tom ran.'",
    ),
    ("-m m.gguf -fa -n 8 -p 'Tom ran.'", "--base m.gguf --flash-attn on --n-predict 8 'Tom ran.'"),
    (
        "-m m.gguf --grammar-file g.gbnf -p 'Is it so?' -n 8",
        r#"--base m.gguf --grammar 'root ::= "yes" | "no"' --n-predict 8 'Is it so?'"#,
    ),
    ("-m m.gguf -j '{}' -n 8 -p 'Tom ran.'", "--base m.gguf --json-schema '{}' --n-predict 8 'Tom ran.'"),
    (
        "-m m.gguf -jf schema.json -n 16 -p 'Tom ran.'",
        r#"--base m.gguf --json-schema '{"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"]}' --n-predict 16 'Tom ran.'"#,
    ),
    ("-m m.gguf -r . -n 24 -p 'Tom ran.'", "--base m.gguf --stop . --n-predict 24 'Tom ran.'"),
    (
        "-m m.gguf --sampling-seq kt --top-k 5 -n 8 -p 'Tom ran.'",
        "--base m.gguf --samplers 'top_k;temperature' --top-k 5 --n-predict 8 'Tom ran.'",
    ),
    ("-m m.gguf --lora a.gguf -n 8 -p 'Tom ran.'", "--config lora.yaml --n-predict 8 'Tom ran.'"),
    ("-m m.gguf --lora-scaled a.gguf:0.5 -n 8 -p 'Tom ran.'", "--config half.yaml --n-predict 8 'Tom ran.'"),
    (
        "-m m.gguf -md d.gguf --draft-max 16 --draft-min 0 --temp 0 -n 16 -p 'Tom ran.'",
        "--base m.gguf --speculate draft:d.gguf --draft-max 16 --temp 0 --n-predict 16 'Tom ran.'",
    ),
    (
        "-m m.gguf --repeat_penalty 1.1 --repeat_last_n 16 --top_p 0.9 -n 8 -p 'Tom ran.'",
        "--base m.gguf --repeat-penalty 1.1 --penalty-last-n 16 --top-p 0.9 --n-predict 8 'Tom ran.'",
    ),
    (
        "-m m.gguf --mirostat 2 --mirostat-ent 4 --mirostat-lr 0.2 -n 8 -p 'Tom ran.'",
        "--base m.gguf --mirostat 2 --mirostat-tau 4 --mirostat-eta 0.2 --n-predict 8 'Tom ran.'",
    ),
    (
        "-m m.gguf -l 65-10 --ignore-eos -n 8 -p 'Tom ran.'",
        "--base m.gguf --logit-bias 65=-10 --ignore-eos --n-predict 8 'Tom ran.'",
    ),
    (
        "-m m.gguf -no-cnv --color --no-display-prompt --simple-io --log-disable --no-warmup --no-perf -n 8 -p 'Tom ran.'",
        "--base m.gguf --n-predict 8 'Tom ran.'",
    ),
    (
        "-m m.gguf --dry-multiplier 0.8 --dry-base 1.75 --dry-allowed-length 2 --dry-sequence-breaker none \
         --xtc-probability 0.5 --xtc-threshold 0.1 --typical 0.9 -n 8 -p 'Tom ran.'",
        "--base m.gguf --dry-multiplier 0.8 --dry-sequence-breaker none --xtc-probability 0.5 --typ-p 0.9 \
         --n-predict 8 'Tom ran.'",
    ),
    (
        "-m m.gguf -t -1 -tb -1 -n 8 -p 'Tom ran.'",
        "--base m.gguf --threads=-1 --threads-batch=-1 --n-predict 8 'Tom ran.'",
    ),
    (
        "-m m.gguf -c 256 -ngl 0 -fit off -ctxcp 0 -no-cnv -st -n 8 -p 'Tom ran.'",
        "--base m.gguf --n-ctx 256 --n-gpu-layers 0 --n-predict 8 'Tom ran.'",
    ),
    (
        "-m m.gguf -md d.gguf --draft-max 16 --draft-p-min 0.0 --temp 0 -n 16 -p 'Tom ran.'",
        "--base m.gguf --speculate draft:d.gguf --draft-max 16 --temp 0 --n-predict 16 'Tom ran.'",
    ),
    (
        "-m m.gguf --no-context-shift --swa-full --keep 0 -lm mmap -fit on -n 8 -p 'Tom ran.'",
        "--base m.gguf --swa-full=on --n-predict 8 'Tom ran.'",
    ),
];

/// The same after llama-cli's name, as a conversation.
const TALKED: &[(&str, &str)] = &[
    ("-m m.gguf -cnv -sys 'Be kind.' -n 8", "--base m.gguf --system 'Be kind.' --n-predict 8"),
    ("-m m.gguf -i --color -r . -n 16", "--base m.gguf --stop . --n-predict 16"),
    ("-m m.gguf --jinja -sysf sys.txt -n 8", "--base m.gguf --system 'Be kind.' --n-predict 8"),
    (
        "-m m.gguf --jinja --chat-template-file t.jinja -n 8",
        "--base m.gguf --chat-template '{% for m in messages %}{{ m.content }} {% endfor %}' --n-predict 8",
    ),
    (
        "-m m.gguf --reasoning-budget 0 --reasoning-format none -n 8",
        r#"--base m.gguf --chat-template-kwargs '{"enable_thinking": false}' --n-predict 8"#,
    ),
    ("m.gguf -n 8", "--base m.gguf --n-predict 8"),
];

#[test]
fn command_lines_of_llama_cli_give_the_text_that_was_meant() {
    let folder = folder();
    for (theirs, ours) in GENERATED {
        let [theirs_text, ours_text] = [theirs, ours].map(|line| printed(&folder, &format!("generate {line}"), ""));
        assert_eq!(theirs_text, ours_text, "{theirs}");
    }
    for (theirs, ours) in TALKED {
        let [theirs_text, ours_text] =
            [theirs, ours].map(|line| printed(&folder, &format!("chat {line}"), "Tom ran.\nLily sat.\n"));
        assert_eq!(theirs_text, ours_text, "{theirs}");
    }
}

#[test]
fn what_a_flag_of_llama_cpp_says_has_its_effect() {
    let folder = folder();
    let text = |line: &str| printed(&folder, &format!("generate -m m.gguf -n 16 {line}"), "");
    let plain = text("-p 'Tom ran.'");
    assert!(["yes\n", "no\n"].contains(&&*text("--grammar-file g.gbnf -p 'Is it so?'")));
    assert!(text("-jf schema.json -p 'Tom ran.'").starts_with("{\"n\""));
    assert!(!text("-r . -p 'Tom ran.'").contains('.') && plain.contains('.'), "{plain}");
    assert_ne!(text("--lora a.gguf -p 'Tom ran.'"), plain);
    assert_eq!(text("--lora a.gguf:0 -p 'Tom ran.'"), plain);
    let talk = |line: &str| printed(&folder, &format!("chat -m m.gguf -n 8 {line}"), "Tom ran.\n");
    assert_ne!(talk("--reasoning off"), talk(""));
    assert_eq!(talk("--reasoning off"), talk(r#"--chat-template-kwargs '{"enable_thinking": false}'"#));
}

#[test]
fn a_first_message_comes_from_the_command_line_and_a_single_turn_ends_the_chat() {
    let folder = folder();
    let chat = |line: &str, input: &str| printed(&folder, &format!("chat -m m.gguf -n 8 {line}"), input);
    let typed = chat("", "Tom ran.\n");
    assert_eq!(chat("-p 'Tom ran.' -st", "Never read.\n"), typed);
    assert_eq!(chat("-f message.txt -st", "Never read.\n"), typed);
    assert_eq!(chat("-st", "Tom ran.\nNever read.\n"), typed);
    assert_eq!(chat(r#"-e -p "Tom\x20ran." -st"#, ""), typed);
    assert_eq!(chat("-p 'Tom ran.'", "Lily sat.\n"), chat("", "Tom ran.\nLily sat.\n"));
}

#[test]
fn command_lines_that_cannot_be_followed_are_refused_by_name_with_what_works() {
    let folder = folder();
    for (line, words) in [
        ("generate -m m.gguf --mmproj mmproj.gguf --image cat.png -p 'What is it?'", &["--mmproj", "text"][..]),
        ("generate -m m.gguf -ot '.ffn_.*_exps.=CPU' -p Hi", &["-ot", "--n-gpu-layers"]),
        ("generate -m m.gguf --cpu-moe -ngl 99 -p Hi", &["--cpu-moe", "--n-gpu-layers"]),
        (
            "generate -m m.gguf --override-kv tokenizer.ggml.add_bos_token=bool:false -p Hi",
            &["--override-kv", "metadata"],
        ),
        (
            "generate -m m.gguf --rope-scaling yarn --rope-scale 4 --yarn-orig-ctx 32768 -p Hi",
            &["--rope-scaling", "file"],
        ),
        ("generate -m m.gguf --lora-scaled a.gguf 0.5 -p Hi", &["--lora-scaled", "a.gguf:0.5"]),
        ("generate -m m.gguf --prompt-cache c.bin --prompt-cache-all -p Hi", &["--prompt-cache", "genarm serve"]),
        ("generate -m m.gguf --control-vector v.gguf -p Hi", &["--control-vector", "--arm"]),
        ("generate -m m.gguf -cnv -sys 'Be kind.'", &["-cnv", "genarm chat"]),
        ("generate -m m.gguf -np 4 -p Hi", &["-np", "genarm serve"]),
        ("generate -m m.gguf --numa distribute -p Hi", &["--numa", "numactl"]),
        ("generate -m m.gguf --context-shift -p Hi", &["--context-shift", "full context"]),
        ("generate m.gguf -n 8", &["m.gguf", "-m m.gguf"]),
        ("generate -m m.gguf -st -p Hi", &["-st", "--chat"]),
        ("generate -m m.gguf -fit off -ngl 0 -p Hi", &["-fit", "--n-ctx"]),
        ("generate -mu https://example.org/m.gguf -p Hi", &["-mu", "--base"]),
        ("chat -m m.gguf -no-cnv -p Hi", &["-no-cnv", "genarm generate"]),
        ("chat -m m.gguf -mli", &["-mli", "\"\"\""]),
        ("chat -m m.gguf --reasoning-budget 512", &["--reasoning-budget", "0 turns"]),
        ("serve -m m.gguf --embedding --pooling mean", &["--embedding", "llama-server"]),
        ("serve -m m.gguf --ssl-key-file k.pem --ssl-cert-file c.pem", &["--ssl-key-file", "proxy"]),
        ("serve --models-dir models", &["--models-dir", "--base"]),
        ("serve -m m.gguf --props", &["--props", "/v1/preferences"]),
        ("serve -m m.gguf -kvu", &["-kvu", "--parallel"]),
        ("serve -m m.gguf --no-cont-batching", &["--no-cont-batching", "--parallel 1"]),
        ("serve -m m.gguf -p Hi", &["-p", "requests"]),
        ("serve -m m.gguf --host example.org", &["--host", "127.0.0.1"]),
    ] {
        let output = run_in(&folder, line, "");
        let talk = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{line}: {talk}");
        assert!(words.iter().all(|word| talk.contains(word)), "{line}: {talk}");
        assert!(talk.trim_end().lines().count() == 1 && output.stdout.is_empty(), "{line}: {talk}");
    }
}

#[test]
fn a_file_that_is_no_configuration_is_called_a_prompts_file_where_a_command_takes_one() {
    let folder = folder();
    std::fs::write(folder.path().join("slip.yaml"), "base: m.gguf\nbases: x\n").expect("written");
    for (line, is_told) in [
        ("generate -m m.gguf -f schema.json", true),
        ("chat -m m.gguf -f schema.json", true),
        ("generate -f slip.yaml", false),
        ("serve -f prompt.txt", false),
    ] {
        let output = run_in(&folder, line, "");
        let talk = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && talk.contains("--file") == is_told, "{line}: {talk}");
    }
}

/// A server on a command line after llama-server's name.
fn serve(folder: &TempDir, line: &str) -> Serve {
    let in_folder = |word: String| match folder.path().join(&word) {
        file if file.is_file() => file.display().to_string(),
        _ => word,
    };
    let args: Vec<_> = words(line).into_iter().map(in_folder).collect();
    Serve::start(&args.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn command_lines_of_llama_server_serve_what_was_meant() {
    let folder = folder();
    let server = serve(&folder, "-m m.gguf -c 256 -ngl 99 --host localhost --api-key k-12345678 -to 600 --slots");
    let status = |key: &str| {
        let request = client().get(server.url("/v1/models")).header("Authorization", format!("Bearer {key}"));
        request.send().expect("an answer").status().as_u16()
    };
    assert_eq!((status("k-12345678"), status("x")), (200, 401));

    let line = "-m m.gguf -np 2 -cb --metrics --no-webui -a my-model -n 3 --jinja --cache-reuse 0 --temp 0 -md d.gguf \
                --draft-max 16 --reasoning-format deepseek --chat-template-kwargs '{\"enable_thinking\": false}'";
    let server = serve(&folder, line);
    assert_eq!(server.get("/v1/models").1["data"][0]["id"], "my-model");
    assert_eq!(server.get("/props").1["total_slots"], 2);
    assert_eq!(client().get(server.url("/metrics")).send().expect("an answer").status().as_u16(), 200);
    assert_eq!(client().get(server.url("/")).send().expect("an answer").status().as_u16(), 404);
    let messages = serde_json::json!({"messages": [{"role": "user", "content": "Tom ran."}]});
    let answer = server.ok("/v1/chat/completions", &messages);
    assert_eq!(answer["usage"]["completion_tokens"], 3, "{answer}");
    let prompt = server.ok("/apply-template", &messages);
    assert_eq!(prompt["prompt"], "u: Tom ran.\nno a: ");

    let server = serve(&folder, "lora.yaml --no-slots -np -1 -t -1");
    assert_eq!(server.get("/slots").0, 501);
    assert_eq!(server.get("/props").1["total_slots"], 4);
}

/// What a command line prints under variables of the environment.
fn under(folder: &TempDir, variables: &[(&str, &str)], args: &[&str]) -> Output {
    let mut command = genarm(args);
    command.current_dir(folder.path()).envs(variables.iter().copied()).output().expect("the binary runs")
}

#[test]
fn variables_of_llama_cpp_count_below_the_command_line_and_above_the_file() {
    let folder = folder();
    let n_tokens = |variables: &[(&str, &str)], args: &[&str]| {
        let output = under(&folder, variables, &[&["generate", "--json", "--ignore-eos", PROMPT], args].concat());
        let talk = String::from_utf8_lossy(&output.stderr).into_owned();
        let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{talk}"));
        value["usage"]["completion_tokens"].as_u64().expect("a number")
    };
    let model = [("LLAMA_ARG_MODEL", "m.gguf"), ("LLAMA_ARG_N_PREDICT", "3")];
    assert_eq!(n_tokens(&model, &[]), 3);
    assert_eq!(n_tokens(&model, &["-n", "5"]), 5);
    assert_eq!(n_tokens(&[("LLAMA_ARG_MODEL", "m.gguf"), ("LLAMA_ARG_N_PREDICT", "")], &["-n", "4"]), 4);
    // A configuration names the base that its ARMs are for.
    let missing = ("LLAMA_ARG_MODEL", "missing.gguf");
    assert_eq!(n_tokens(&[missing, ("GENARM_CONFIG", "lora.yaml")], &["-n", "2"]), 2);
    assert_eq!(n_tokens(&[missing], &["-n", "2", "-f", "lora.yaml"]), 2);
    // One that names none leaves it to the variable.
    std::fs::write(folder.path().join("sampling.yaml"), "sampling: {temp: 0}\n").expect("written");
    assert_eq!(n_tokens(&model, &["-f", "sampling.yaml"]), 3);
    assert_eq!(n_tokens(&[missing], &["-n", "2", "-f", "sampling.yaml", "-m", "m.gguf"]), 2);
    std::fs::write(folder.path().join("long.yaml"), "base: {model: m.gguf, n_ctx: 256}\n").expect("written");
    let short = n_tokens(&[("LLAMA_ARG_CTX_SIZE", "32")], &["-f", "long.yaml"]);
    let long = n_tokens(&[], &["-f", "long.yaml", "-n", "100"]);
    assert!(short < 32 && long == 100, "{short} {long}");

    let output = under(&folder, &[("LLAMA_ARG_CTX_SIZE", "many")], &["generate", "-m", "m.gguf", PROMPT]);
    let talk = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && talk.contains("LLAMA_ARG_CTX_SIZE"), "{talk}");
    // The command line wins over what it contradicts.
    let variables = [("LLAMA_API_KEY", "k-12345678"), ("LLAMA_ARG_MODEL", "missing.gguf")];
    let output = under(&folder, &variables, &["serve", "--no-api-key"]);
    let talk = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(talk.contains("missing.gguf") && !talk.contains("--api-key"), "{talk}");
    // What the environment says for another command's flag is no slip of this one.
    let output = under(&folder, &[("LLAMA_ARG_TEMPERATURE", "1")], &["score", "-f", "arms.yaml", "--json", "a", "b"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_configuration_from_the_environment_counts_in_every_command_with_one() {
    let folder = folder();
    for args in [&["inspect", "--plan"][..], &["score", "--json", "Tom", " ran."], &["generate", "-n", "1", "Tom"]] {
        let output = under(&folder, &[("GENARM_CONFIG", "arms.yaml")], args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn what_variables_say_without_effect_in_a_command_is_no_mistake() {
    let folder = folder();
    let run = |variables: &[(&str, &str)], line: &str| {
        let args = words(line);
        let output = under(&folder, variables, &args.iter().map(String::as_str).collect::<Vec<_>>());
        let talk = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{line}: {talk}");
        talk
    };
    let generate = "generate -m m.gguf -n 1 --seed 7 Tom";
    run(&[("LLAMA_ARG_SPEC_DRAFT_N_MAX", "16"), ("LLAMA_ARG_MAIN_GPU", "0")], generate);
    run(&[("LLAMA_ARG_THREADS", "-1")], generate);
    run(&[("GENARM_CONFIG", "arms.yaml"), ("LLAMA_ARG_MODEL", "missing.gguf")], "inspect --plan m.gguf");
    // What nothing reads is named; what is so already is not.
    let talk = run(&[("LLAMA_ARG_CPU_MOE", "1"), ("LLAMA_ARG_JINJA", "1"), ("LLAMA_ARG_PORT", "1")], generate);
    assert!(talk.contains("LLAMA_ARG_CPU_MOE"), "{talk}");
    assert!(!talk.contains("LLAMA_ARG_JINJA") && !talk.contains("LLAMA_ARG_PORT"), "{talk}");
}

#[test]
fn variables_of_flags_that_become_other_words_are_read_too() {
    let folder = folder();
    let talk = |variables: &[(&str, &str)], line: &str| {
        let args = words(&format!("chat -m m.gguf -n 8 --seed 7 -st -p 'Tom ran.' {line}"));
        let output = under(&folder, variables, &args.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let (plain, off) = (talk(&[], ""), talk(&[], "--reasoning off"));
    assert_ne!(plain, off);
    // Variables of the chat template add up, key by key.
    let other = "--chat-template-kwargs '{\"other\": 1}'";
    assert_eq!(talk(&[("LLAMA_ARG_CHAT_TEMPLATE_KWARGS", "{\"enable_thinking\": false}")], other), off);
    assert_eq!(talk(&[("LLAMA_ARG_REASONING", "off")], other), off);
    let both = [("LLAMA_ARG_REASONING", "off"), ("LLAMA_ARG_CHAT_TEMPLATE_KWARGS", "{\"other\": 1}")];
    assert_eq!(talk(&both, ""), off);
    assert_eq!(talk(&both, "--chat-template-kwargs '{\"enable_thinking\": true}'"), plain);
    let template = talk(&[], "--chat-template-file t.jinja");
    assert_ne!(template, plain);
    assert_eq!(talk(&[("LLAMA_ARG_CHAT_TEMPLATE_FILE", "t.jinja")], ""), template);
}
