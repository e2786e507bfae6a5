//! The configuration files of this folder: each in `valid/` is taken, and each in `invalid/` is refused with the one
//! line that the `.txt` file beside it holds.

use std::path::{Path, PathBuf};

use genarm::config::{Config, Overrides, json_schema};

fn yaml_files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config").join(folder);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    assert!(!files.is_empty());
    files
}

#[test]
fn valid_files_are_taken_and_fit_the_json_schema() {
    let schema: serde_json::Value = serde_json::from_str(&json_schema()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    for file in yaml_files("valid") {
        Config::load(Some(&file), &Overrides::default()).unwrap_or_else(|e| panic!("{e}"));
        let text = std::fs::read_to_string(&file).unwrap();
        let value: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
        let errors: Vec<_> = validator.iter_errors(&value).map(|e| e.to_string()).collect();
        assert!(errors.is_empty(), "{}: {errors:?}", file.display());
    }
}

#[test]
fn invalid_files_are_refused_with_the_line_beside_them() {
    let mut wrong = Vec::new();
    for file in yaml_files("invalid") {
        let expected = std::fs::read_to_string(file.with_extension("txt")).unwrap();
        let folder = format!("{}{}", file.parent().unwrap().display(), std::path::MAIN_SEPARATOR);
        let got = match Config::load(Some(&file), &Overrides::default()) {
            Ok(_) => "(taken)".to_owned(),
            Err(error) => error.to_string().replace(&folder, ""),
        };
        if got != expected.trim_end() {
            wrong.push(format!("{}:\n  expected {}\n  got      {got}", file.display(), expected.trim_end()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_missing_file_and_a_folder_are_refused() {
    let missing = Config::load(Some(Path::new("no-such-file.yaml")), &Overrides::default()).unwrap_err();
    assert_eq!(missing.to_string(), "no-such-file.yaml: cannot read the configuration: no such file");
    let folder = Config::load(Some(Path::new(env!("CARGO_MANIFEST_DIR"))), &Overrides::default()).unwrap_err();
    assert!(folder.to_string().ends_with("it is a directory, name a YAML file in it"), "{folder}");
}
