//! `Content-Digest` and `Repr-Digest` (RFC 9530): checked against what came, and repeated in the answer.

use axum::http::HeaderMap;
use base64::{Engine as _, prelude::BASE64_STANDARD};

use crate::respond::Answer;

const FIELDS: [&str; 2] = ["content-digest", "repr-digest"];

/// The SHA-256 that a field names, in hexadecimal. None if it names none, or is not well formed.
pub(crate) fn named(headers: &HeaderMap, field: &str) -> Option<String> {
    headers.get_all(field).iter().filter_map(|value| value.to_str().ok()).flat_map(|list| list.split(',')).find_map(
        |member| {
            let (algorithm, value) = member.trim().split_once('=')?;
            let value = value.split(';').next()?.trim().strip_prefix(':')?.strip_suffix(':')?;
            let is_ours = algorithm.eq_ignore_ascii_case("sha-256");
            is_ours.then(|| BASE64_STANDARD.decode(value).ok())?.map(|bytes| crate::routes::hexadecimal(&bytes))
        },
    )
}

/// A field names another digest than that of what came.
pub(crate) fn differs(headers: &HeaderMap, sha256: &str) -> bool {
    FIELDS.iter().any(|field| named(headers, field).is_some_and(|named| named != sha256))
}

/// The value of a field.
pub(crate) fn value(sha256: &str) -> String {
    let bytes: Vec<u8> = sha256.as_bytes().chunks(2).filter_map(byte).collect();
    format!("sha-256=:{}:", BASE64_STANDARD.encode(bytes))
}

fn byte(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// Names in the answer what was named in the request, as it came.
pub(crate) fn repeated(answer: Answer, headers: &HeaderMap, sha256: &str) -> Answer {
    FIELDS
        .iter()
        .filter(|field| named(headers, field).is_some())
        .fold(answer, |answer, field| answer.with(field, value(sha256)))
}
