//! A judge on loopback.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A judge on loopback that answers each question by `reply`; it ends with the test's process.
pub(super) fn judge(
    reply: impl Fn(&str) -> (u16, String) + Send + Sync + 'static,
) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("helpful=judge:http://{}/v1", listener.local_addr().expect("an address"));
    let (seen, reply) = (Arc::new(Mutex::new(Vec::new())), Arc::new(reply));
    let log = Arc::clone(&seen);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (log, reply) = (Arc::clone(&log), Arc::clone(&reply));
            std::thread::spawn(move || serve(stream.expect("a connection"), &log, &*reply));
        }
    });
    (url, seen)
}

fn serve(stream: TcpStream, log: &Mutex<Vec<String>>, reply: &dyn Fn(&str) -> (u16, String)) {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut line, mut length, mut head) = (String::new(), 0, String::new());
        while reader.read_line(&mut line).is_ok_and(|n| n > 2) {
            if let Some(n) = line.to_lowercase().strip_prefix("content-length:") {
                length = n.trim().parse().expect("a length");
            }
            head += &line;
            line.clear();
        }
        if head.is_empty() {
            return;
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).expect("a body");
        let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        let question = body["messages"][1]["content"].as_str().expect("a question").to_owned();
        let (status, text) = reply(&question);
        log.lock().expect("a log").push(format!("{head}{question}"));
        let mut choice = serde_json::json!({"message": {"role": "assistant", "content": text}});
        if body["logprobs"] == true {
            assert_eq!((&body["max_tokens"], &body["top_logprobs"]), (&serde_json::json!(1), &serde_json::json!(20)));
            // "8 0.3, 4 0.1": tokens with their probabilities.
            let token = |pair: &str| {
                let (token, p) = pair.trim().split_once(' ').expect("a token and its probability");
                serde_json::json!({"token": token, "logprob": p.parse::<f64>().expect("a probability").ln()})
            };
            choice["logprobs"] =
                serde_json::json!({"content": [{"top_logprobs": text.split(',').map(token).collect::<Vec<_>>()}]});
        }
        let body = serde_json::json!({"choices": [choice]}).to_string();
        let head =
            format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
        let stream = reader.get_mut();
        if stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).is_err() {
            return;
        }
    }
}
