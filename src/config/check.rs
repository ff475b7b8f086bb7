//! What both endpoints and settings ask of names, URLs and headers. Answers are messages; the caller knows the field.

use url::{Host, Url};

/// Headers that the plugin, the HTTP client or the credentials set. In lower case.
const RESERVED: [&str; 17] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "idempotency-key",
    "if-match",
    "if-none-match",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

/// Headers that carry secrets, and a configuration ends up in the app's binary. In lower case.
const SECRET: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];

/// Methods that change nothing on a server, or are no requests at all.
const NOT_MUTATIONS: [&str; 5] = ["CONNECT", "GET", "HEAD", "OPTIONS", "TRACE"];

/// Whether an endpoint may be called that.
pub(super) fn is_kind(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// Whether a field of a form may be called that.
pub(super) fn is_part(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-[]".contains(&byte))
}

/// The method in capitals.
pub(super) fn method(written: &str) -> Result<String, String> {
    let method = written.to_ascii_uppercase();
    if method.is_empty() {
        return Err("is missing: write the HTTP method, such as \"PUT\" or \"POST\"".into());
    }
    if method.len() > 32 || !is_token(&method) {
        return Err("is not an HTTP method: write one such as \"PUT\" or \"POST\"".into());
    }
    if NOT_MUTATIONS.contains(&method.as_str()) {
        return Err(format!("{method} changes nothing on a server: write \"PUT\", \"POST\", \"PATCH\" or \"DELETE\""));
    }
    Ok(method)
}

/// One static header of an endpoint.
pub(super) fn header(name: &str, value: &str) -> Result<(), String> {
    if !is_token(name) {
        return Err("is not a header name".into());
    }
    let lower = name.to_ascii_lowercase();
    if SECRET.contains(&lower.as_str()) {
        return Err("the configuration is readable in the app's binary: give credentials at run time, with `setCredentials` or an `AuthProvider`".into());
    }
    if lower.starts_with("sync-") || RESERVED.contains(&lower.as_str()) {
        return Err("is set by the plugin itself: leave it out".into());
    }
    let printable = value.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte));
    if value.trim().is_empty() || value.trim() != value || !printable {
        return Err("the value must be printable ASCII without spaces around it".into());
    }
    Ok(())
}

/// The base URL.
pub(super) fn base_url(written: &str) -> Result<Url, String> {
    let url = absolute(written)?;
    if url.query().is_some() {
        return Err("must not have a query: endpoints have theirs in their own `url`".into());
    }
    Ok(url)
}

/// A complete URL that payloads may be sent to.
pub(super) fn absolute(written: &str) -> Result<Url, String> {
    characters(written)?;
    if !is_absolute(written) {
        return Err("must begin with `https://` (or `http://` and a loopback host)".into());
    }
    // `https:///x` is read as `https://x`: a path would become a host.
    if written.split_once("://").is_none_or(|(_, rest)| rest.starts_with(['/', '?'])) {
        return Err("has no host after `://`".into());
    }
    let url = Url::parse(written).map_err(|error| format!("is not a URL ({error})"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(
            "must not hold credentials: give them at run time, with `setCredentials` or an `AuthProvider`".into()
        );
    }
    if url.fragment().is_some() {
        return Err("must not have a fragment (`#…`): it is never sent".into());
    }
    if url.scheme() == "http" && !is_loopback(&url) {
        return Err("plain http would send payloads readable over the network: write `https://` (http is for localhost, 127.0.0.0/8 and [::1] only)".into());
    }
    Ok(url)
}

/// Whether it says itself where it goes.
pub(super) fn is_absolute(written: &str) -> bool {
    ["https://", "http://"]
        .iter()
        .any(|scheme| written.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)))
}

/// URL parsers drop or turn around some characters silently; what is sent must be what is written.
pub(super) fn characters(written: &str) -> Result<(), String> {
    if written.is_empty() {
        return Err("is missing: write a URL".into());
    }
    if written.chars().any(|c| c.is_control() || c.is_whitespace() || "\\\"<>^`|".contains(c)) {
        return Err("holds characters that a URL cannot: percent-encode them".into());
    }
    let bytes = written.as_bytes();
    let hex = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_hexdigit);
    if (0..bytes.len()).any(|at| bytes[at] == b'%' && !(hex(at + 1) && hex(at + 2))) {
        return Err("has a `%` that is not followed by two hexadecimal digits: write `%25` for a percent sign".into());
    }
    Ok(())
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

/// A token of RFC 9110, section 5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_goes_to_loopback_only() {
        for good in [
            "http://localhost",
            "http://LOCALHOST:8080/v1",
            "http://127.0.0.1:1",
            "http://127.9.8.7",
            "http://[::1]:3000",
            "https://example.com",
        ] {
            assert!(absolute(good).is_ok(), "{good}");
        }
        for bad in [
            "http://example.com",
            "http://localhost.evil.com",
            "http://10.0.0.1",
            "http://[::2]",
            "http://0.0.0.0",
            "http://127.0.0.1.evil.com",
        ] {
            assert!(absolute(bad).unwrap_err().contains("https://"), "{bad}");
        }
    }

    #[test]
    fn urls_that_say_one_thing_and_mean_another_are_refused() {
        for bad in [
            "",
            "api.example.com",
            "//example.com",
            "https:example.com",
            "https:/example.com",
            "https:///example.com",
            "ftp://example.com",
            "file:///etc/passwd",
            "https://",
            "https://a b.com",
            " https://a.com",
            "https://a.com\\b",
            "https://a.com/\t",
            "https://a.com/%2",
            "https://a.com/%zz",
            "https://u@a.com",
            "https://u:p@a.com",
            "https://:p@a.com",
            "https://a.com/#x",
        ] {
            assert!(absolute(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_base_url_has_no_query() {
        assert!(base_url("https://a.com/v1/").is_ok());
        assert!(base_url("https://a.com/v1?x=1").unwrap_err().contains("query"));
    }

    #[test]
    fn methods_that_change_nothing_are_refused() {
        for (written, checked) in
            [("put", "PUT"), ("POST", "POST"), ("Patch", "PATCH"), ("DELETE", "DELETE"), ("MKCOL", "MKCOL")]
        {
            assert_eq!(method(written).unwrap(), checked);
        }
        for bad in ["", "GET", "head", "OPTIONS", "TRACE", "CONNECT", "PU T", "PUT\n", "ПУТ", &"X".repeat(33)] {
            assert!(method(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn headers_of_the_plugin_and_secrets_are_refused() {
        for good in ["X-Client", "Accept", "apikey", "Prefer"] {
            assert!(header(good, "a value; q=1").is_ok(), "{good}");
        }
        for bad in [
            "Idempotency-Key",
            "sync-key",
            "Sync-Anything",
            "HOST",
            "content-type",
            "Content-Length",
            "If-Match",
            "authorization",
            "Cookie",
            "Proxy-Authorization",
            "",
            "a b",
            "a:",
            "ä",
        ] {
            assert!(header(bad, "x").is_err(), "{bad}");
        }
        for bad in ["", " ", " x", "x ", "a\r\nb", "a\0", "ä"] {
            assert!(header("X-Client", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn kinds_are_short_and_plain() {
        for good in ["form", "a.b-c_D9", &"k".repeat(64)] {
            assert!(is_kind(good), "{good}");
        }
        for bad in ["", "a b", "a/b", "ä", "a\n", &"k".repeat(65)] {
            assert!(!is_kind(bad), "{bad:?}");
        }
    }
}
