//! Web addresses, as far as redirects need them.

/// Scheme, host and port: `https://host:port`.
pub fn origin(url: &str) -> &str {
    let after_scheme = url.find("://").map_or(0, |at| at + 3);
    let end = url[after_scheme..].find(['/', '?', '#']).map_or(url.len(), |at| after_scheme + at);
    &url[..end]
}

/// An address as a message may repeat it: a query may hold a signature, and what stands before an `@` a password.
pub fn shown(url: &str) -> String {
    let plain = url.split(['?', '#']).next().unwrap_or(url);
    let host = plain.find("://").map_or(0, |at| at + 3);
    let end = plain[host..].find('/').map_or(plain.len(), |at| host + at);
    let after_user = plain[host..end].rfind('@').map_or(host, |at| host + at + 1);
    format!("{}{}", &plain[..host], &plain[after_user..])
}

/// Where a `Location` header leads from `url`.
pub fn join(url: &str, location: &str) -> String {
    let scheme = || url.split("://").next().unwrap_or("https");
    if location.contains("://") && !location.starts_with('/') {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{}:{location}", scheme())
    } else if location.starts_with('/') {
        format!("{}{location}", origin(url))
    } else {
        let path = url.split(['?', '#']).next().unwrap_or(url);
        let folder = path.rfind('/').filter(|at| *at >= origin(url).len()).map_or(path, |at| &path[..at]);
        format!("{folder}/{location}")
    }
}

/// A path with its unusual bytes as `%XX`; `/` stays.
pub fn encoded(path: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    path.bytes()
        .map(|byte| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_signatures_and_passwords() {
        for (url, expected) in [
            ("https://me:secret@hub:8080/a/b?X-Signature=secret", "https://hub:8080/a/b"),
            ("https://cdn/x@y/z#secret", "https://cdn/x@y/z"),
            ("me:secret@hub", "hub"),
            ("http://a@b@hub", "http://hub"),
            ("http://hub?user@x", "http://hub"),
        ] {
            assert_eq!(shown(url), expected);
        }
    }

    #[test]
    fn a_redirect_leads_where_a_browser_would_go() {
        let url = "https://hub:8080/a/b/resolve/main/x.gguf?download=true";
        assert_eq!(origin(url), "https://hub:8080");
        for (location, expected) in [
            ("https://cdn/x?a=b", "https://cdn/x?a=b"),
            ("//cdn/x", "https://cdn/x"),
            ("/api/x", "https://hub:8080/api/x"),
            ("/x?to=http://y", "https://hub:8080/x?to=http://y"),
            ("y.gguf", "https://hub:8080/a/b/resolve/main/y.gguf"),
        ] {
            assert_eq!(join(url, location), expected);
        }
        assert_eq!(join("http://hub", "x"), "http://hub/x");
        assert_eq!(encoded("a b/ä#?.gguf"), "a%20b/%C3%A4%23%3F.gguf");
    }
}
