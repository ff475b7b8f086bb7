//! What an answer teaches: the canonical id, and which revision of whom the server holds.

use percent_encoding::percent_decode_str;
use reqwest::header::{HeaderMap, LOCATION};
use serde_json::Value;
use url::Url;

use super::headers::{fit, fit_for_id, strong_etag, text, unquoted};
use crate::{config::CanonicalId, transport::Learned};

/// From here on JSON readers lose digits. Such a revision is a server fault, which is for the engine to judge: here it only must not
/// pass for an answer that names none.
const INEXACT: f64 = (1u64 << 53) as f64;

/// Everything an answer teaches. Headers win over the body, since a proxy or framework that wraps bodies leaves them alone.
pub(in crate::transport) fn learned(headers: &HeaderMap, json: Option<&Value>) -> Learned {
    let field = |name: &str| json.and_then(|json| json.get(name));
    let string = |header: &str, name: &str| {
        let header = text(headers, header).map(unquoted).and_then(fit);
        header.or_else(|| fit(unquoted(field(name)?.as_str()?))).map(str::to_owned)
    };
    Learned {
        canonical_id: None,
        revision: revision(headers, field("revision")),
        device: string("sync-device", "device"),
        // Not `Idempotency-Key`, in which many servers repeat the key of the very request that they refuse.
        idempotency_key: string("sync-idempotency-key", "idempotencyKey"),
        etag: strong_etag(headers),
    }
}

fn revision(headers: &HeaderMap, json: Option<&Value>) -> Option<u64> {
    match text(headers, "sync-revision") {
        // `parse` alone would take a sign.
        Some(digits) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(digits.parse().unwrap_or(u64::MAX))
        }
        Some(_) => None,
        None => {
            let json = json?;
            json.as_u64().or_else(|| json.as_f64().filter(|number| *number >= INEXACT).map(|_| u64::MAX))
        }
    }
}

/// The id that the endpoint says is in the answer.
pub(super) fn canonical_id(
    place: &CanonicalId,
    url: &Url,
    headers: &HeaderMap,
    json: Option<&Value>,
) -> Option<String> {
    match place {
        CanonicalId::None => None,
        CanonicalId::Location => from_location(url, fit(text(headers, LOCATION.as_str())?)?),
        CanonicalId::Pointer(pointer) => id(json?.pointer(pointer)?),
    }
}

/// The id of what a refusing server holds: where the endpoint has it, else `id` of the body or `Sync-Id`.
pub(super) fn conflicting_id(
    place: &CanonicalId,
    url: &Url,
    headers: &HeaderMap,
    json: Option<&Value>,
) -> Option<String> {
    canonical_id(place, url, headers, json)
        .or_else(|| id(json?.get("id")?))
        .or_else(|| text(headers, "sync-id").map(unquoted).and_then(fit_for_id).map(str::to_owned))
}

/// A string, or a whole number. Other numbers are no ids: their digits are already lost.
fn id(value: &Value) -> Option<String> {
    match value {
        Value::String(id) => fit_for_id(id).map(str::to_owned),
        Value::Number(id) if id.is_u64() || id.is_i64() => Some(id.to_string()),
        _ => None,
    }
}

fn from_location(url: &Url, location: &str) -> Option<String> {
    last_segment(&url.join(location).ok()?)
}

/// The last segment of the path, decoded. A trailing slash does not count.
pub(in crate::transport) fn last_segment(url: &Url) -> Option<String> {
    let segment = url.path_segments()?.rfind(|segment| !segment.is_empty())?;
    let id = percent_decode_str(segment).decode_utf8().ok()?;
    fit_for_id(&id).map(str::to_owned)
}
