//! SHA-256 of what is sent, as `Repr-Digest` and `Content-Digest` name it (RFC 9530).

use base64::{Engine as _, prelude::BASE64_STANDARD};
use reqwest::header::{HeaderMap, HeaderValue};
use sha2::{Digest as _, Sha256};

/// The digest of a whole thing, whatever part of it a message carries.
pub(super) const REPRESENTATION: &str = "repr-digest";
/// The digest of what a message carries.
pub(super) const CONTENT: &str = "content-digest";

pub(super) fn of(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// The field's value.
pub(super) fn value(digest: &[u8; 32]) -> HeaderValue {
    let text = format!("sha-256=:{}:", BASE64_STANDARD.encode(digest));
    HeaderValue::from_str(&text).expect("base64 is a header value")
}

/// Whether the answer names this digest, in either field.
pub(super) fn echoed(headers: &HeaderMap, digest: &[u8; 32]) -> bool {
    let fields = [REPRESENTATION, CONTENT].into_iter().flat_map(|name| headers.get_all(name));
    let mut members = fields.filter_map(|value| value.to_str().ok()).flat_map(|list| list.split(','));
    members.any(|member| decoded(member).as_deref() == Some(digest))
}

/// The SHA-256 of one member of the dictionary.
fn decoded(member: &str) -> Option<Vec<u8>> {
    let (algorithm, value) = member.trim().split_once('=')?;
    let value = value.split(';').next()?.trim().strip_prefix(':')?.strip_suffix(':')?;
    algorithm.eq_ignore_ascii_case("sha-256").then(|| BASE64_STANDARD.decode(value).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_written_as_the_standard_shows_it() {
        // RFC 9530, appendix B.1: the content and its digest.
        let shown = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:";
        assert_eq!(value(&of(b"{\"hello\": \"world\"}\n")), shown);
    }

    #[test]
    fn a_digest_is_found_among_others_and_in_either_field() {
        let digest = of(b"x");
        let right = value(&digest).to_str().unwrap().to_owned();
        let wrong = value(&of(b"y")).to_str().unwrap().to_owned();
        for (name, field, found) in [
            (REPRESENTATION, right.clone(), true),
            (CONTENT, right.clone(), true),
            (REPRESENTATION, format!("sha-512=:AAAA:, {right}"), true),
            (REPRESENTATION, right.replace("sha-256", "SHA-256"), true),
            (REPRESENTATION, format!("{right};q=1"), true),
            (REPRESENTATION, wrong.clone(), false),
            (REPRESENTATION, right.replace("sha-256", "sha-512"), false),
            (REPRESENTATION, "sha-256=:not base64:".to_owned(), false),
            (REPRESENTATION, "sha-256".to_owned(), false),
            ("digest", right.clone(), false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_str(&field).unwrap());
            assert_eq!(echoed(&headers, &digest), found, "{name}: {field}");
        }
        assert!(!echoed(&HeaderMap::new(), &digest));
    }
}
