//! Who may come in: keys, the name that the server is called by, and how often.

use std::net::IpAddr;
use std::num::NonZeroU32;

use anyhow::Context;
use axum::http::{HeaderMap, HeaderName, header};
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use subtle::{Choice, ConstantTimeEq};

use super::error::ApiError;
use super::options::Options;

/// A client's address, as the listener saw it.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

/// Keys and limits.
pub struct Access {
    keys: Vec<String>,
    /// Whether requests must call the server by a name of this machine: it is reachable only from here and asks for no
    /// key, so a page from elsewhere that has its own name point here must be kept out (DNS rebinding).
    only_local_names: bool,
    rate: Option<DefaultKeyedRateLimiter<IpAddr>>,
}

/// Bytes of the shortest key: below it a key is guessed.
const MIN_KEY_BYTES: usize = 8;
/// Clients that are remembered before those who have not come lately are forgotten.
const MAX_CLIENTS: usize = 10_000;

const A_KEY: &str = "an API key has at least 8 printable ASCII characters and no space";

fn is_key(key: &str) -> bool {
    key.len() >= MIN_KEY_BYTES && key.chars().all(|c| c.is_ascii_graphic())
}

impl Access {
    /// Reads the keys, and refuses to serve others than this machine without one.
    ///
    /// # Errors
    ///
    /// One line that says what to do.
    pub fn new(options: &Options) -> anyhow::Result<Self> {
        let mut keys = match &options.api_key_file {
            None => Vec::new(),
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("cannot read the API keys {}", path.display()))?;
                let keys: Vec<_> = text
                    .lines()
                    .map(str::trim)
                    .filter(|l| !l.is_empty() && !l.starts_with('#'))
                    .map(String::from)
                    .collect();
                anyhow::ensure!(!keys.is_empty(), "{} contains no API key; write one per line", path.display());
                anyhow::ensure!(keys.iter().all(|key| is_key(key)), "{}: {A_KEY}", path.display());
                keys
            }
        };
        anyhow::ensure!(options.api_keys.iter().all(|key| is_key(key)), "--api-key: {A_KEY}");
        keys.extend(options.api_keys.iter().cloned());
        let is_local = options.host.is_loopback();
        anyhow::ensure!(
            is_local || !keys.is_empty() || options.no_api_key,
            "other machines can reach --host {}; add --api-key-file FILE, or --no-api-key to let anyone use it",
            options.host
        );
        let per_second = |n: NonZeroU32| Quota::per_second(n).allow_burst(n.saturating_mul(BURST));
        let rate = options.rate_limit.map(|n| RateLimiter::keyed(per_second(n)));
        Ok(Self { only_local_names: is_local && keys.is_empty(), keys, rate })
    }

    /// Whether any key is known: without keys, clients cannot be told apart.
    pub fn has_keys(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Whether a request may come in. One for what `is_open` needs no key, and does not count.
    ///
    /// # Errors
    ///
    /// The answer to one that may not.
    pub fn check(&self, is_open: bool, headers: &HeaderMap, peer: Option<&Peer>) -> Result<(), ApiError> {
        self.check_host(headers)?;
        if is_open {
            return Ok(());
        }
        self.check_rate(peer)?;
        self.check_key(headers)
    }

    /// Compares with every key to its end, so that the time tells nothing about them but their lengths.
    fn knows(&self, given: &str) -> bool {
        let none = Choice::from(0);
        self.keys.iter().fold(none, |found, key| found | key.as_bytes().ct_eq(given.as_bytes())).into()
    }

    fn check_key(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        if self.keys.is_empty() {
            return Ok(());
        }
        let value = |name| headers.get(name).and_then(|value| value.to_str().ok());
        // RFC 9110: the scheme is case-insensitive.
        let bearer = value(header::AUTHORIZATION)
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, key)| key.trim());
        // Anthropic's clients send the key by itself.
        match bearer.or_else(|| value(HeaderName::from_static("x-api-key")).map(str::trim)) {
            Some(key) if self.knows(key) => Ok(()),
            _ => Err(ApiError::unauthorized()),
        }
    }

    fn check_host(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        if !self.only_local_names {
            return Ok(());
        }
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        if is_local_name(host) {
            return Ok(());
        }
        Err(ApiError::forbidden(
            "call this server by localhost or its address; for another name, give it an --api-key-file",
        ))
    }

    fn check_rate(&self, peer: Option<&Peer>) -> Result<(), ApiError> {
        let (Some(rate), Some(Peer(ip))) = (&self.rate, peer) else { return Ok(()) };
        if rate.len() > MAX_CLIENTS {
            rate.retain_recent();
        }
        rate.check_key(ip).map_err(|until| {
            let wait = until.wait_time_from(DefaultClock::default().now());
            ApiError::rate_limited(wait.as_secs() + 1)
        })
    }
}

/// Requests that may come at once, in seconds' worth of the rate.
const BURST: NonZeroU32 = NonZeroU32::new(2).unwrap();

/// Whether a Host header names this machine, with or without a port.
fn is_local_name(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_local() {
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1:1", "127.8.8.8", "[::1]:80", "[::1]"] {
            assert!(is_local_name(host), "{host}");
        }
        for host in
            ["", "evil.example", "localhost.evil.example:80", "10.0.0.1:80", "[2001:db8::1]:80", "127.0.0.1.nip.io"]
        {
            assert!(!is_local_name(host), "{host}");
        }
    }
}
