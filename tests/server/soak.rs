//! Two thousand short requests of all kinds, and nothing is lost.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::{PROMPT, Serve, client};

const N_REQUESTS: usize = 2000;

/// Resident memory in KiB.
fn resident(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a status");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line");
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number")
}

/// A client that goes away in the middle of its request, or of the answer.
fn disconnect(address: &str, i: usize) {
    let body = json!({"prompt": PROMPT, "max_tokens": 50, "stream": i.is_multiple_of(2)}).to_string();
    let Ok(mut stream) = TcpStream::connect(address) else { return };
    let head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    let text = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
    let end = if i.is_multiple_of(3) { text.len() / 2 } else { text.len() };
    let _ = stream.write_all(&text.as_bytes()[..end]);
    std::thread::sleep(std::time::Duration::from_millis((i % 7) as u64));
}

/// One request of a kind that its number decides; counts what it should not get.
fn ask(server: &Serve, client: &reqwest::blocking::Client, i: usize, expected: &[String]) -> Result<(), String> {
    let post = |body: String| {
        let request = client.post(server.url("/v1/completions")).header("content-type", "application/json").body(body);
        let response = request.send().map_err(|e| e.to_string())?;
        let status = response.status().as_u16();
        Ok::<_, String>((status, response.json::<Value>().unwrap_or(Value::Null)))
    };
    let wants = |(status, body): (u16, Value), expected: u16| match status {
        s if s == expected => Ok(body),
        s => Err(format!("request {i}: {s} instead of {expected}: {body}")),
    };
    match i % 10 {
        0 => disconnect(server.address(), i),
        1 => drop(wants(post("{\"prompt\": [".into())?, 400)?),
        2 => drop(wants(post(json!({"prompt": "x".repeat(20_000)}).to_string())?, 413)?),
        3 => drop(wants(post(json!({"prompt": PROMPT, "seed": "x"}).to_string())?, 400)?),
        _ => {
            let kind = i % expected.len();
            let weight = kind as f64 - 1.0;
            let body =
                json!({"prompt": PROMPT, "max_tokens": 6, "temperature": 0, "preferences": {"cheerful": weight}});
            let (status, body) = post(body.to_string())?;
            let text = body["choices"][0]["text"].as_str();
            match status {
                200 if text == Some(&expected[kind]) => {}
                // The queue may be full: that is deliberate.
                503 if body["error"]["code"] == "queue_full" => {}
                _ => return Err(format!("request {i}: {status} {body}, expected {:?}", expected[kind])),
            }
        }
    }
    Ok(())
}

#[test]
#[cfg(target_os = "linux")]
fn two_thousand_requests_leave_nothing_behind() {
    let server = Serve::demo(&["--parallel", "8", "--queue", "32", "--max-body", "8192", "--metrics"]);
    let expected: Vec<_> =
        (0..3).map(|kind| server.greedy(PROMPT, 6, &json!({"cheerful": f64::from(kind) - 1.0}))).collect();
    let round = |from: usize, to: usize| {
        let next = AtomicUsize::new(from);
        let faults: Vec<String> = std::thread::scope(|scope| {
            let work = || {
                let client = client();
                let mut faults = Vec::new();
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    if i >= to {
                        return faults;
                    }
                    faults.extend(ask(&server, &client, i, &expected).err());
                }
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(work)).collect();
            threads.into_iter().flat_map(|t| t.join().expect("no panic")).collect()
        });
        assert!(faults.is_empty(), "{} faults, the first: {}", faults.len(), faults[0]);
    };
    round(0, N_REQUESTS / 4);
    server.settle();
    let warm = resident(server.pid());
    round(N_REQUESTS / 4, N_REQUESTS);
    server.settle();
    let after = resident(server.pid());
    assert!(after * 100 <= warm * 105, "resident memory grew from {warm} to {after} KiB");
    // Every slot still works: as many texts at once as there are slots.
    let all = server.ok("/v1/completions", &json!({"prompt": PROMPT, "n": 8, "max_tokens": 4, "temperature": 0}));
    let text = |i: usize| all["choices"][i]["text"].as_str().map(str::to_owned);
    assert!((1..8).all(|i| text(i) == text(0)), "{all}");
    let text = client().get(server.url("/metrics")).send().expect("an answer").text().expect("a text");
    let bad = text.lines().filter(|l| l.starts_with("genarm_http_requests_total") && l.contains("status=\"5"));
    assert!(bad.clone().all(|l| l.contains("status=\"503\"")), "{:?}", bad.collect::<Vec<_>>());
}
