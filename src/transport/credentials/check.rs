//! Which headers may be credentials.

use std::collections::HashSet;

use zeroize::Zeroizing;

/// Most headers of one set.
const MAX_HEADERS: usize = 32;

/// Longest name. Servers refuse header blocks of 8 to 64 KiB as a whole.
const LONGEST_NAME: usize = 128;

/// Longest value, in bytes. Large signed tokens have 4 to 8 KiB.
const LONGEST_VALUE: usize = 16 * 1024;

/// What HTTP writes itself, what frames a message, what this plugin promises to send, and what makes a server or a proxy read another
/// method, address or sender in the request than its endpoint says.
const RESERVED: [&str; 24] = [
    "accept-encoding",
    "host",
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "idempotency-key",
    "if-match",
    "if-none-match",
    "range",
    "user-agent",
    "repr-digest",
    "digest",
    "forwarded",
    "via",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-real-ip",
    "x-rewrite-url",
];

const RESERVED_PREFIXES: [&str; 6] = ["content-", "sync-", "tus-", "upload-", "x-forwarded-", "x-original-"];

/// The headers, with values that wipe themselves, without surrounding space and in one order; or what is wrong, in words without any value.
pub(super) fn checked(headers: Vec<(String, String)>) -> Result<Vec<(String, Zeroizing<String>)>, String> {
    let headers: Vec<_> = headers.into_iter().map(|(name, value)| (name, Zeroizing::new(value))).collect();
    if headers.len() > MAX_HEADERS {
        return Err(format!("{} credential headers are more than the {MAX_HEADERS} allowed", headers.len()));
    }
    let mut names = HashSet::new();
    let mut kept = Vec::with_capacity(headers.len());
    for (name, value) in headers {
        let lower = checked_name(&name)?;
        if !names.insert(lower) {
            return Err(format!("the credential header `{name}` is given twice"));
        }
        let value = checked_value(&name, &value)?;
        kept.push((name, value));
    }
    // One order, so that the same headers are seen to be the same: JavaScript objects and maps have any.
    kept.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(kept)
}

fn checked_name(name: &str) -> Result<String, String> {
    // `token` of RFC 9110, section 5.6.2.
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(token) {
        // It may hold anything, a pasted token for one, so it is not repeated.
        return Err("the name of a credential header has to be an HTTP token, such as `Authorization`".into());
    }
    let lower = name.to_ascii_lowercase();
    if RESERVED.contains(&lower.as_str()) || RESERVED_PREFIXES.iter().any(|prefix| lower.starts_with(prefix)) {
        return Err(format!("`{name}` cannot be a credential header: HTTP, this plugin or a proxy writes it"));
    }
    Ok(lower)
}

fn checked_value(name: &str, value: &str) -> Result<Zeroizing<String>, String> {
    let value = value.trim_matches([' ', '\t']);
    if value.is_empty() {
        return Err(format!("the credential header `{name}` is empty: leave it out"));
    }
    if value.len() > LONGEST_VALUE {
        return Err(format!("the credential header `{name}` has more than {LONGEST_VALUE} bytes"));
    }
    if !value.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t')) {
        return Err(format!(
            "the credential header `{name}` has characters that HTTP does not carry, such as a line break at its end"
        ));
    }
    Ok(Zeroizing::new(value.to_owned()))
}
