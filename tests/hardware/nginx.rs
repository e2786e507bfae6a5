//! The configuration of examples/nginx.conf, run by nginx itself, with two replicas of `genarm serve` behind it.

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::model;
use crate::server::{Serve, answer, client, root};
use crate::support::program;

/// nginx with the given configuration on a port of its own; ended when it is dropped.
struct Nginx {
    child: Child,
    port: u16,
}

impl Nginx {
    fn start(program: &Path, folder: &Path, replicas: [&Serve; 2]) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
        let given = std::fs::read_to_string(root().join("examples/nginx.conf")).expect("the configuration");
        let text = given
            .replace("127.0.0.1:8080", &free.to_string())
            .replace("127.0.0.1:8081", replicas[0].address())
            .replace("127.0.0.1:8082", replicas[1].address());
        let conf = folder.join("nginx.conf");
        std::fs::write(&conf, text).expect("written");
        let log = folder.join("log");
        let child = Command::new(program)
            .arg("-p")
            .arg(folder)
            .arg("-c")
            .arg(&conf)
            .args(["-e", "stderr", "-g", "daemon off;"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).expect("a log"))
            .spawn()
            .expect("nginx starts");
        let mut nginx = Self { child, port: free.port() };
        while TcpStream::connect(free).is_err() {
            let ended = nginx.child.try_wait().expect("a status");
            assert!(ended.is_none(), "nginx ended: {}", std::fs::read_to_string(&log).expect("a log"));
            std::thread::sleep(Duration::from_millis(20));
        }
        nginx
    }

    /// The answer to a conversation so far.
    fn ask(&self, name: &str, messages: &[Value]) -> Value {
        let body = json!({"messages": messages, "max_tokens": 4, "temperature": 0});
        let url = format!("http://127.0.0.1:{}/v1/chat/completions", self.port);
        let (status, answer) = answer(client().post(url).header("X-Conversation-Id", name).json(&body));
        assert_eq!(status, 200, "{name}: {answer}");
        answer
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Asked to end, it takes its workers along.
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }
}

/// A conversation, and what its last answer said about where it came from.
struct Conversation {
    name: String,
    messages: Vec<Value>,
    replica: String,
    n_prompt: u64,
    n_cached: u64,
}

impl Conversation {
    fn new(name: String) -> Self {
        Self { name, messages: Vec::new(), replica: String::new(), n_prompt: 0, n_cached: 0 }
    }

    fn say(&mut self, nginx: &Nginx, text: &str) {
        self.messages.push(json!({"role": "user", "content": text}));
        let answer = nginx.ask(&self.name, &self.messages);
        self.messages.push(answer["choices"][0]["message"].clone());
        // A replica calls itself after its model's file.
        self.replica = answer["model"].as_str().expect("a name").to_owned();
        self.n_prompt = answer["usage"]["prompt_tokens"].as_u64().expect("a count");
        self.n_cached = answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().expect("a count");
    }
}

/// A replica on a copy of a demo model, so that it can be told from others by name.
fn replica(folder: &Path, name: &str) -> Serve {
    let file = folder.join(format!("{name}.gguf"));
    std::fs::copy(model("small.gguf"), &file).expect("a copy");
    let file = file.display().to_string();
    Serve::start(&["--base", &file, "--chat-template", "raw", "-c", "256", "--threads", "1", "--parallel", "2"])
}

fn nginx() -> Option<PathBuf> {
    // Where Debian has it is on the path of root alone.
    program(&["nginx"], &["/usr/sbin".into(), root().join("target/test-tools/nginx/usr/sbin")], "nginx")
}

#[test]
fn conversations_find_their_prefix_on_their_replica_and_go_on_elsewhere_when_it_is_killed() {
    let Some(program) = nginx() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let (a, b) = (replica(folder.path(), "a"), replica(folder.path(), "b"));
    let nginx = Nginx::start(&program, folder.path(), [&a, &b]);

    let mut conversations: Vec<_> = (0..32).map(|i| Conversation::new(format!("conversation-{i}"))).collect();
    for (i, conversation) in conversations.iter_mut().enumerate() {
        // They differ from the first word, so that one does not find the prefix of another.
        conversation.say(&nginx, &format!("{i} little girls named Lily went to the park with a big dog."));
        let (home, n_first) = (conversation.replica.clone(), conversation.n_prompt);
        conversation.say(&nginx, " Then it rained.");
        assert_eq!(conversation.replica, home, "{} stays", conversation.name);
        let n_cached = conversation.n_cached;
        assert!(n_cached >= n_first, "{}: {n_cached} tokens are cached of the {n_first}", conversation.name);
    }
    let on_a = conversations.iter().filter(|conversation| conversation.replica == "a").count();
    assert!((4..=28).contains(&on_a), "both replicas have work: {on_a} of 32 on one");

    a.signal("KILL");
    for conversation in &mut conversations {
        let (home, n_before) = (conversation.replica.clone(), conversation.n_prompt);
        conversation.say(&nginx, " They ran home.");
        assert_eq!(conversation.replica, "b", "{} is answered by the replica that is left", conversation.name);
        let n_cached = conversation.n_cached;
        assert!(home == "b" || n_cached < n_before / 2, "{}: {n_cached} tokens from nowhere", conversation.name);
    }
}
