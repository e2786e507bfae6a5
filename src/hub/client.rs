//! Requests to a hub: redirects, retries, and the token, which goes to the hub alone.

use std::io::ErrorKind;
use std::time::Duration;

use ureq::http::{HeaderMap, Response};
use ureq::{Agent, Body};

use super::address::{join, origin, shown};
use super::error::HubError;
use crate::brief;

/// Tries for a request that meets a busy hub or a broken connection.
pub const TRIES: u32 = 5;
/// The pause before the second try; it doubles from there.
const PAUSE: Duration = Duration::from_millis(500);
/// The longest pause that a hub may ask for.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Redirects of one request.
const REDIRECTS: usize = 10;
/// Characters of a hub's own words in a message.
const MAX_WORDS: usize = 200;

/// What is wanted of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// The contents.
    Get,
    /// The headers alone.
    Head,
}

/// An answer, with the headers of the answers that led to it.
pub struct Answer {
    /// The last answer.
    pub response: Response<Body>,
    /// The headers of all answers, the first one's first.
    headers: Vec<HeaderMap>,
    /// Where it was found.
    pub url: String,
}

impl Answer {
    /// A header, of the first answer that has it.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find_map(|headers| headers.get(name)).and_then(|value| value.to_str().ok())
    }

    /// A header of the last answer: its length, say, is its own.
    pub fn last_header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name).and_then(|value| value.to_str().ok())
    }

    /// Its status.
    pub fn status(&self) -> u16 {
        self.response.status().as_u16()
    }
}

/// A hub, as it is asked.
pub struct Client {
    /// Its address, without a slash at the end.
    pub endpoint: String,
    token: Option<String>,
    agent: Agent,
}

impl Client {
    /// Of the hub at `endpoint`.
    pub fn new(endpoint: &str, token: Option<String>) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("genarm/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(Duration::from_secs(30)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .timeout_per_read(Some(Duration::from_secs(60)));
        Self { endpoint: endpoint.trim_end_matches('/').to_owned(), token, agent: config.build().into() }
    }

    /// Whether requests bear a token.
    pub fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Asks until there is an answer other than "busy". `from` asks for the rest from that byte on. A HEAD ends at the
    /// first answer that bears an ETag: addresses of storage behind a hub are often signed for GET alone.
    pub fn ask(&self, method: Method, url: &str, from: u64) -> Result<Answer, HubError> {
        let mut pause = PAUSE;
        for turn in 1.. {
            let asked = self.follow(method, url, from);
            let (error, wait) = match asked {
                Ok(mut answer) if is_busy(answer.status()) => {
                    let wait =
                        answer.header("retry-after").and_then(|s| s.trim().parse().ok()).map(Duration::from_secs);
                    let message = words(&mut answer.response);
                    let endpoint = origin(&answer.url).to_owned();
                    (HubError::Busy { endpoint, status: answer.status(), message }, wait)
                }
                Ok(answer) => return Ok(answer),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing(error)) => (error, None),
            };
            if turn >= TRIES {
                return Err(error);
            }
            let wait = wait.unwrap_or(pause).min(PAUSE_MAX);
            let why = match &error {
                HubError::Unreachable { endpoint, reason } => format!("{}: {reason}", shown(endpoint)),
                other => other.to_string(),
            };
            tracing::warn!("{why}; asking again in {:.1} s", wait.as_secs_f32());
            std::thread::sleep(wait);
            pause *= 2;
        }
        unreachable!("the loop returns")
    }

    fn follow(&self, method: Method, url: &str, from: u64) -> Result<Answer, Failure> {
        let (mut url, mut headers) = (url.to_owned(), Vec::new());
        for _ in 0..=REDIRECTS {
            let response = self.once(method, &url, from)?;
            let location = response.headers().get("location").and_then(|value| value.to_str().ok()).map(str::to_owned);
            let is_redirect = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
            let names_contents = ["x-linked-etag", "etag"].iter().any(|name| response.headers().contains_key(*name));
            headers.push(response.headers().clone());
            match location.filter(|_| is_redirect) {
                Some(location) if !(method == Method::Head && names_contents) => {
                    let next = join(&url, &location);
                    let is_web =
                        next.starts_with("https://") || next.starts_with("http://") && !url.starts_with("https:");
                    if !is_web {
                        let what = format!("a redirect to {}", shown(&next));
                        return Err(Failure::Final(HubError::NotHub {
                            url,
                            what: brief::message(&what, MAX_WORDS).to_string(),
                        }));
                    }
                    url = next;
                }
                _ => return Ok(Answer { response, headers, url }),
            }
        }
        Err(Failure::Final(HubError::NotHub { url, what: "redirects without end".to_owned() }))
    }

    fn once(&self, method: Method, url: &str, from: u64) -> Result<Response<Body>, Failure> {
        let mut request = match method {
            Method::Get => self.agent.get(url),
            Method::Head => self.agent.head(url),
        };
        request = request.header("Accept-Encoding", "identity");
        if from > 0 {
            request = request.header("Range", format!("bytes={from}-"));
        }
        if let Some(token) = self.token.as_ref().filter(|_| origin(url) == origin(&self.endpoint)) {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        request.call().map_err(|error| {
            let reason = reason(&error.to_string().replace(url, &shown(url)));
            let failed = HubError::Unreachable { endpoint: origin(url).to_owned(), reason };
            match error {
                ureq::Error::Timeout(_) | ureq::Error::Protocol(_) => Failure::Passing(failed),
                // The connection was there. A host without a name or a server does not come by itself.
                ureq::Error::Io(e) if is_broken(e.kind()) => Failure::Passing(failed),
                _ => Failure::Final(failed),
            }
        })
    }
}

/// Why there is no answer.
enum Failure {
    /// Asking again may help.
    Passing(HubError),
    /// Asking again is in vain.
    Final(HubError),
}

fn is_broken(kind: ErrorKind) -> bool {
    use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, TimedOut, UnexpectedEof, WouldBlock};
    matches!(kind, BrokenPipe | ConnectionAborted | ConnectionReset | TimedOut | UnexpectedEof | WouldBlock)
}

/// 501 means that a hub will never do what was asked.
fn is_busy(status: u16) -> bool {
    status == 429 || status == 408 || status >= 500 && status != 501
}

/// An error of the connection in short words.
pub fn reason(error: &dyn std::fmt::Display) -> String {
    let text = error.to_string();
    brief::message(text.strip_prefix("io: ").unwrap_or(&text), MAX_WORDS).to_string()
}

/// What an error's answer says, in one line; nothing where it is a web page.
pub fn words(response: &mut Response<Body>) -> String {
    let said = response.headers().get("x-error-message").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let of_body = |response: &mut Response<Body>| {
        let text =
            response.body_mut().with_config().limit(1 << 16).lossy_utf8(true).read_to_string().unwrap_or_default();
        let parsed: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        match parsed["error"].as_str() {
            Some(error) => error.to_owned(),
            None if text.trim_start().starts_with('<') => String::new(),
            None => text,
        }
    };
    let text = said.unwrap_or_else(|| of_body(response));
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    brief::message(&line, MAX_WORDS).to_string()
}
