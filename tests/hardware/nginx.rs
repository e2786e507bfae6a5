//! The configuration of examples/nginx.conf, run by nginx itself, with two replicas behind it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// A replica that answers with its name, until it is stopped: then its port refuses connections.
struct Replica {
    port: u16,
    stopped: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Replica {
    fn start(name: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let stopped = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopped);
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let _ = stream.and_then(|stream| answer(stream, name));
            }
        });
        Self { port, stopped, thread: Some(thread) }
    }

    fn stop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        self.thread.take().into_iter().for_each(|t| t.join().expect("the replica ends"));
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.stop();
    }
}

fn answer(stream: TcpStream, name: &str) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), 0);
    while reader.read_line(&mut line)? > 2 {
        if let Some(n) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = n.trim().parse().unwrap_or(0);
        }
        line.clear();
    }
    std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink())?;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{name}", name.len());
    reader.get_mut().write_all(head.as_bytes())
}

/// nginx, ended when it is dropped.
struct Nginx(Child);

impl Drop for Nginx {
    fn drop(&mut self) {
        // Asked to quit, it takes its workers along.
        let _ = Command::new("kill").args(["-QUIT", &self.0.id().to_string()]).status();
        let _ = self.0.wait();
    }
}

/// Posts a request of a conversation, and returns status and body.
fn post(port: u16, conversation: &str) -> std::io::Result<(String, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-Conversation-Id: {conversation}\r\nContent-Length: 2\r\n\
         Connection: close\r\n\r\n{{}}"
    );
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    Ok((head.lines().next().unwrap_or("").to_owned(), body.to_owned()))
}

#[test]
fn conversations_stay_with_their_replica_and_move_when_it_is_gone() {
    let Ok(version) = Command::new("nginx").arg("-v").output() else {
        println!("left out: nginx is not installed");
        return;
    };
    println!("{}", String::from_utf8_lossy(&version.stderr).trim());
    let folder = tempfile::tempdir().expect("a folder");
    let (mut a, b) = (Replica::start("a"), Replica::start("b"));
    let port = {
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        free.local_addr().expect("an address").port()
    };
    let given = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/nginx.conf");
    let text = std::fs::read_to_string(given).expect("the configuration");
    let text = [(8080, port), (8081, a.port), (8082, b.port)]
        .iter()
        .fold(text, |text, (from, to)| text.replace(&format!("127.0.0.1:{from}"), &format!("127.0.0.1:{to}")));
    let conf = folder.path().join("nginx.conf");
    std::fs::write(&conf, text).expect("written");
    let nginx = Command::new("nginx")
        .arg("-p")
        .arg(folder.path())
        .arg("-c")
        .arg(&conf)
        .args(["-e", "stderr", "-g", "daemon off;"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("nginx starts");
    let _nginx = Nginx(nginx);
    for _ in 0..200 {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            break;
        }
        thread::sleep(Duration::from_millis(50));
    }

    let ask = |conversation: &str| {
        let (status, body) = post(port, conversation).expect("an answer");
        assert!(status.contains(" 200 "), "{conversation}: {status} {body}");
        body
    };
    let names: Vec<_> = (0..40).map(|i| format!("conversation-{i}")).collect();
    let homes: BTreeMap<_, _> = names.iter().map(|name| (name, ask(name))).collect();
    let on_a = homes.values().filter(|home| *home == "a").count();
    assert!((8..=32).contains(&on_a), "both replicas have work: {on_a} of 40 on one");
    for (name, home) in &homes {
        assert_eq!(&ask(name), home, "{name} stays");
    }
    a.stop();
    for name in homes.keys() {
        assert_eq!(ask(name), "b", "{name} is answered by the replica that is left");
    }
    let stays = homes.iter().filter(|(_, home)| *home == "b").count();
    assert_eq!(stays, 40 - on_a);
}
