//! `genarm weights`

use std::fs;

use super::{run, stdout};

const YAML: &str = "# preferences\nbase: {model: base.gguf}\narms:\n  helpful: {model: a.gguf, weight: 1.0} # heard\n  harmless:\n    model: b.gguf\n";

fn file() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("prefs.yaml");
    fs::write(&file, YAML).expect("a file");
    let path = file.display().to_string();
    (folder, path)
}

#[test]
fn weights_are_shown_and_set_with_the_comments_kept() {
    let (_folder, file) = file();
    assert_eq!(stdout(&["weights", "--config", &file]), "helpful=1\nharmless=1\n");
    assert_eq!(stdout(&["weights", "--config", &file, "set", "helpful=1.2", "harmless=-0.5"]), "");
    let expected = YAML.replace("weight: 1.0", "weight: 1.2").replace("    model: b", "    weight: -0.5\n    model: b");
    assert_eq!(fs::read_to_string(&file).expect("the file"), expected);
    assert_eq!(stdout(&["weights", "set", "--config", &file, "helpful=0"]), "");
    assert_eq!(stdout(&["weights", "--config", &file]), "helpful=0\nharmless=-0.5\n");
}

#[test]
fn a_wrong_weight_leaves_the_file_alone() {
    let (folder, file) = file();
    for (arguments, code, word) in [
        (&["set", "helpfull=1"][..], 2, "did you mean \"helpful\""),
        (&["set", "helpful=much"], 2, "finite number"),
        (&["set", "helpful=1", "harmful=2"], 2, "unknown ARM \"harmful\""),
        (&["set"], 2, "NAME=W"),
    ] {
        let output = run(&[&["weights", "--config", &file], arguments].concat());
        let talk = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(code) && talk.contains(word), "{arguments:?}: {talk}");
    }
    assert_eq!(run(&["weights"]).status.code(), Some(2));
    assert_eq!(run(&["weights", "--config", "no.yaml"]).status.code(), Some(1));
    assert_eq!(fs::read_to_string(&file).expect("the file"), YAML);
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1, "nothing is left beside it");
}

#[cfg(unix)]
#[test]
fn a_link_stays_a_link_and_permissions_stay() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let (folder, file) = file();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("permissions");
    let link = folder.path().join("link.yaml");
    symlink(&file, &link).expect("a link");
    stdout(&["weights", "--config", &link.display().to_string(), "set", "helpful=3"]);
    assert!(fs::symlink_metadata(&link).expect("the link").is_symlink());
    assert!(fs::read_to_string(&file).expect("the file").contains("weight: 3.0"));
    assert_eq!(fs::metadata(&file).expect("the file").permissions().mode() & 0o777, 0o640);
}
