//! What a release brings beside its archives: the installer, as a user runs it, against a folder of downloads on
//! loopback.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::program;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The archive of this system in a made-up release: a program that says its name.
struct Release {
    folder: tempfile::TempDir,
    name: String,
    archive: Vec<u8>,
}

impl Release {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let name = format!("genarm-{}-linux-{}", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH);
        let bin = folder.path().join(&name).join("bin");
        std::fs::create_dir_all(&bin).expect("a folder");
        std::fs::write(bin.join("genarm"), "#!/bin/sh\necho \"genarm made up, $1\"\n").expect("written");
        let chmod = Command::new("chmod").arg("+x").arg(bin.join("genarm")).status();
        assert!(chmod.expect("chmod").success());
        let file = folder.path().join("archive.tar.xz");
        let tar = Command::new("tar").arg("-C").arg(folder.path()).arg("-cJf").arg(&file).arg(&name).status();
        assert!(tar.expect("tar").success());
        let archive = std::fs::read(&file).expect("an archive");
        Self { folder, name, archive }
    }

    /// `install.sh` as the release has it, with this line about the archive in SHA256SUMS.
    fn installer(&self, sums: &str) -> PathBuf {
        let file = self.folder.path().join("SHA256SUMS");
        std::fs::write(&file, sums).expect("written");
        let out = self.folder.path().join("out");
        let made = Command::new(root().join("scripts/release-files"))
            .args(["https://example.org/genarm", "https://example.org/downloads"])
            .args([&file, &out])
            .output()
            .expect("bash");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        out.join("install.sh")
    }

    fn sums(&self) -> String {
        use sha2::Digest as _;
        let sum = sha2::Sha256::digest(&self.archive);
        let hex: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{hex}  {}.tar.xz\n", self.name)
    }
}

/// Serves these paths on loopback until the test ends; other paths are not found.
fn serve(files: HashMap<String, Vec<u8>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut request = [0; 4096];
            let n = stream.read(&mut request).unwrap_or(0);
            let text = String::from_utf8_lossy(&request[..n]).into_owned();
            let path = text.split(' ').nth(1).unwrap_or_default();
            let (status, body) = files.get(path).map_or(("404 Not Found", &[][..]), |body| ("200 OK", &body[..]));
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
        }
    });
    url
}

fn install(script: &Path, url: &str, home: &Path) -> Output {
    let mut command = Command::new("sh");
    command.arg(script).env("GENARM_DOWNLOADS", url).env("HOME", home).env_remove("XDG_DATA_HOME");
    command.env_remove("GENARM_HOME").env_remove("GENARM_BIN").output().expect("sh")
}

fn texts(output: &Output) -> (String, String) {
    (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn the_installer_unpacks_the_release_and_a_second_run_replaces_it() {
    if !cfg!(target_os = "linux") || program(&["curl"], &[], "curl").is_none() {
        return;
    }
    let (release, home) = (Release::new(), tempfile::tempdir().expect("a home"));
    let script = release.installer(&release.sums());
    let url = serve(HashMap::from([(format!("/{}.tar.xz", release.name), release.archive.clone())]));
    for _ in 0..2 {
        let output = install(&script, &url, home.path());
        let (out, talk) = texts(&output);
        assert!(output.status.success() && out.contains("genarm made up, --version"), "{out}{talk}");
        assert!(out.contains("Add ") && out.contains("to your PATH"), "{out}");
        let link = home.path().join(".local/bin/genarm");
        let target = link.canonicalize().expect("a link to the program");
        assert!(target.ends_with(format!("{}/bin/genarm", release.name)), "{}", target.display());
        let kept = std::fs::read_dir(home.path().join(".local/share/genarm")).expect("a folder").count();
        assert_eq!(kept, 1, "nothing is left beside the release");
    }
}

#[test]
fn what_is_not_the_release_is_not_installed() {
    if !cfg!(target_os = "linux") || program(&["curl"], &[], "curl").is_none() {
        return;
    }
    let release = Release::new();
    let path = format!("/{}.tar.xz", release.name);
    let (good, none) = (release.sums(), String::new());
    let mut other = release.archive.clone();
    other[40] ^= 1;
    let cases = [
        (&good, HashMap::from([(path.clone(), other)]), "is not the release: SHA-256"),
        (&good, HashMap::new(), "cannot download"),
        (&none, HashMap::new(), "has no archive for Linux on"),
    ];
    for (sums, files, expected) in cases {
        let home = tempfile::tempdir().expect("a home");
        let output = install(&release.installer(sums), &serve(files), home.path());
        let (out, talk) = texts(&output);
        assert!(output.status.code() == Some(1) && talk.contains(expected), "{out}{talk}");
        assert!(!home.path().join(".local").exists(), "{expected}");
    }
}

#[test]
fn every_template_of_a_release_is_filled_in() {
    let release = Release::new();
    let script = release.installer(&release.sums());
    let folder = script.parent().expect("a folder");
    for name in ["install.sh", "install.ps1", "genarm.rb"] {
        let text = std::fs::read_to_string(folder.join(name)).expect("a file");
        assert!(text.contains(env!("CARGO_PKG_VERSION")) && !text.contains("@VERSION@"), "{name}");
        assert!(text.contains("https://example.org/downloads"), "{name}");
    }
}

#[test]
fn the_container_is_made_of_the_archive_alone() {
    let ignored = std::fs::read_to_string(root().join(".dockerignore")).expect("a file");
    let rules: Vec<_> = ignored.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(rules, ["*", "!target/dist/*.tar.xz"]);
    let text = std::fs::read_to_string(root().join("packaging/Containerfile")).expect("a file");
    let added: Vec<_> = text.lines().filter(|line| line.starts_with("ADD ") || line.starts_with("COPY ")).collect();
    assert_eq!(added, ["ADD target/dist/genarm-*-linux-*.tar.xz /opt/"]);
}
