//! What is refused before anything is written and before the keychain is touched.
//!
//! No message quotes a value that a caller gave: keys, params and payloads may be anything, and messages reach logs.

use uuid::Uuid;

use super::{
    payload::{EnqueueOptions, Payload},
    source::Said,
};
use crate::{
    config::{Body, Endpoint, Settings},
    entry::{Action, Known},
    error::{Error, Result},
};

const KEY_BYTES: usize = 512;
const ACCOUNT_BYTES: usize = 256;
const PARAMS: usize = 32;
const CONTENT_TYPE_BYTES: usize = 255;
/// As much as a value in a URL may have.
const CANONICAL_ID_BYTES: usize = 1024;
const ETAG_BYTES: usize = 1024;
/// No file system in use has longer ones.
const NAME_BYTES: usize = 1024;
/// As much as a param may have.
const METADATA_BYTES: usize = 1024;

/// Everything that can be known of a new entry without its row: answers the endpoint that it goes to.
pub(super) fn entry<'a>(
    settings: &'a Settings,
    kind: &str,
    id: Uuid,
    payload: &Payload,
    options: &EnqueueOptions,
) -> Result<&'a Endpoint> {
    let endpoint = addressed(settings, kind, id, options)?;
    action(endpoint, payload, options)?;
    size(payload, settings.limits.payload_bytes)?;
    target(endpoint, options)?;
    Ok(endpoint)
}

/// As [`entry`], of a file that was not read yet.
pub(super) fn file<'a>(
    settings: &'a Settings,
    kind: &str,
    id: Uuid,
    said: &Said,
    options: &EnqueueOptions,
) -> Result<&'a Endpoint> {
    let Said { name, content_type, metadata } = said;
    let endpoint = addressed(settings, kind, id, options)?;
    if options.action == Some(Action::Delete) {
        return Err(Error::argument("a file deletes nothing: `enqueue` a delete with `null` as its payload"));
    }
    action(endpoint, &Payload::bytes([], content_type.as_str()), options)?;
    if let Some(name) = name {
        let wrong = match name.len() {
            0 => "is empty: leave it out".to_owned(),
            bytes if bytes > NAME_BYTES => format!("has {bytes} bytes and may have {NAME_BYTES}: shorten it"),
            // Servers make paths and headers of it.
            _ if name.contains(|char: char| char.is_control() || char == '/') => {
                "has a slash or control characters: give the file's own name, without its folder".to_owned()
            }
            _ => String::new(),
        };
        if !wrong.is_empty() {
            return Err(Error::argument(format!("`name` {wrong}")));
        }
    }
    self::metadata(endpoint, metadata)?;
    target(endpoint, options)?;
    Ok(endpoint)
}

fn metadata(endpoint: &Endpoint, given: &[(String, String)]) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-[]".contains(&byte);
    let wrong = if given.is_empty() {
        return Ok(());
    } else if endpoint.body == Body::Raw {
        format!("is told nowhere by endpoint `{}`, whose requests carry the bytes alone: leave it out", endpoint.kind)
    } else if given.len() > PARAMS {
        format!("has {} entries and may have {PARAMS}", given.len())
    } else if !given.iter().all(|(name, _)| (1..=64).contains(&name.len()) && name.bytes().all(plain)) {
        "has a name that is none: use 1 to 64 of A-Z a-z 0-9 . _ - [ ]".to_owned()
    } else if given.iter().any(|(name, _)| matches!(name.as_str(), "filename" | "filetype")) {
        "names `filename` or `filetype`, which are the file's own: use `name` and `contentType`".to_owned()
    } else if given.iter().any(|(_, value)| value.len() > METADATA_BYTES) {
        format!("has a value of more than {METADATA_BYTES} bytes: shorten it")
    } else {
        return Ok(());
    };
    Err(Error::argument(format!("`metadata` {wrong}")))
}

/// What is the same for every entry.
fn addressed<'a>(settings: &'a Settings, kind: &str, id: Uuid, options: &EnqueueOptions) -> Result<&'a Endpoint> {
    let endpoint = settings.endpoint(kind).ok_or_else(|| settings.unknown_kind(kind))?;
    if id.is_nil() || id.is_max() {
        return Err(Error::argument("`id` must be a UUID made for this entry: leave it out to get a fresh one"));
    }
    if let Some(given) = &options.key {
        key(given)?;
    }
    Ok(endpoint)
}

/// A payload that takes the place of another one.
pub(super) fn replacement(settings: &Settings, kind: &str, payload: &Payload) -> Result<u32> {
    let endpoint = settings.endpoint(kind).ok_or_else(|| settings.unknown_kind(kind))?;
    body(endpoint, payload)?;
    size(payload, settings.limits.payload_bytes)?;
    Ok(endpoint.payload_version)
}

/// What an app says of a thing on the server.
pub(super) fn observation(settings: &Settings, kind: &str, given: &str, known: &Known) -> Result<()> {
    settings.endpoint(kind).ok_or_else(|| settings.unknown_kind(kind))?;
    key(given)?;
    let text = |name: &str, value: &Option<String>, limit: usize| {
        let Some(value) = value else { return Ok(()) };
        let wrong = if value.is_empty() {
            "is empty: leave it out".to_owned()
        } else if value.len() > limit {
            format!("has {} bytes and may have {limit}", value.len())
        } else if value.chars().any(char::is_control) {
            "holds control characters".to_owned()
        } else if name == "canonicalId" && matches!(value.as_str(), "." | "..") {
            "is `.` or `..`, which would change where a URL leads".to_owned()
        } else {
            return Ok(());
        };
        Err(Error::argument(format!("`known.{name}` {wrong}")))
    };
    text("canonicalId", &known.canonical_id, CANONICAL_ID_BYTES)?;
    text("etag", &known.etag, ETAG_BYTES)?;
    // RFC 9110, 8.8.3: quoted, without quotes inside; a weak tag starts with W/ and proves nothing here.
    let strong = |etag: &String| {
        let inner = etag.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        inner.is_some_and(|inner| inner.chars().all(|c| c == '!' || ('#'..='~').contains(&c)))
    };
    if known.etag.as_ref().is_some_and(|etag| !strong(etag)) {
        return Err(Error::argument(
            "`known.etag` is no strong entity tag: give what the server sent, quotes included, and leave out one that begins with W/",
        ));
    }
    if known.exists == Some(false) && (known.canonical_id.is_some() || known.etag.is_some()) {
        return Err(Error::argument(
            "`known` says that the thing does not exist, and yet which id or tag it has: leave one of them out",
        ));
    }
    Ok(())
}

/// An account's id.
pub(crate) fn account(account: &str) -> Result<()> {
    if account.len() > ACCOUNT_BYTES {
        let message = format!("`account` has {} bytes and may have {ACCOUNT_BYTES}: use an opaque id", account.len());
        return Err(Error::argument(message));
    }
    if account.chars().any(char::is_control) {
        return Err(Error::argument("`account` holds control characters: use an opaque id"));
    }
    Ok(())
}

fn key(key: &str) -> Result<()> {
    if key.is_empty() {
        return Err(Error::argument("`key` is empty: name the thing that the entry is about, or leave it out"));
    }
    if key.len() > KEY_BYTES {
        let message = format!("`key` has {} bytes and may have {KEY_BYTES}: use a shorter name", key.len());
        return Err(Error::argument(message));
    }
    if key.chars().any(char::is_control) {
        return Err(Error::argument("`key` holds control characters: remove them"));
    }
    Ok(())
}

/// What is done to the thing, and with what.
fn action(endpoint: &Endpoint, payload: &Payload, options: &EnqueueOptions) -> Result<()> {
    let kind = &endpoint.kind;
    match options.action {
        None => body(endpoint, payload),
        Some(Action::Create | Action::Update) if endpoint.creates() || endpoint.preconditions.is_some() => {
            body(endpoint, payload)
        }
        Some(Action::Create | Action::Update) => Err(Error::argument(format!(
            "endpoint `{kind}` has one request for whatever is written: leave `action` out, or configure `create` and `update`"
        ))),
        Some(Action::Delete) if endpoint.delete.is_none() => Err(Error::argument(format!(
            "endpoint `{kind}` has no `delete`: configure one, such as `\"delete\": {{ \"method\": \"DELETE\", \"url\": … }}`"
        ))),
        Some(Action::Delete) if options.key.is_none() => {
            Err(Error::argument("to delete is to delete a thing: give its `key`, the one that it was enqueued with"))
        }
        Some(Action::Delete) if !payload.is_null() => {
            Err(Error::argument("a delete carries nothing: give `null` as its payload"))
        }
        Some(Action::Delete) => Ok(()),
    }
}

fn body(endpoint: &Endpoint, payload: &Payload) -> Result<()> {
    let kind = &endpoint.kind;
    match (endpoint.body, payload) {
        (Body::Json, Payload::Json(_)) => Ok(()),
        (Body::Raw | Body::Multipart | Body::Tus, Payload::Bytes { content_type, .. }) => media_type(content_type),
        (Body::Json, Payload::Bytes { .. }) => Err(Error::argument(format!(
            "endpoint `{kind}` takes JSON values and was given bytes: enqueue a value, or configure `\"body\": \"raw\"` (for files \
             also `\"multipart\"` or `\"tus\"`)"
        ))),
        (Body::Raw | Body::Multipart | Body::Tus, Payload::Json(_)) => Err(Error::argument(format!(
            "endpoint `{kind}` takes bytes and was given a JSON value: enqueue a file or bytes (a `Uint8Array` in JavaScript), or \
             configure `\"body\": \"json\"`"
        ))),
    }
}

fn size(payload: &Payload, limit: u64) -> Result<()> {
    let bytes = payload.as_bytes().len() as u64;
    if bytes > limit { Err(Error::PayloadTooLarge { bytes, limit }) } else { Ok(()) }
}

/// Tries the URL out as the engine will expand it, so that what cannot be sent is never stored.
fn target(endpoint: &Endpoint, options: &EnqueueOptions) -> Result<()> {
    let given = options.params.len();
    if given > PARAMS {
        return Err(Error::argument(format!(
            "`params` has {given} entries and may have {PARAMS}: give what the URL names"
        )));
    }
    endpoint.check_values(options.action, options.key.as_deref(), &options.params)
}

/// `type/subtype; name=value; name="quoted"` as RFC 9110, 8.3.1 says.
fn media_type(text: &str) -> Result<()> {
    if text.len() > CONTENT_TYPE_BYTES {
        let message =
            format!("the content type has {} bytes and may have {CONTENT_TYPE_BYTES}: shorten it", text.len());
        return Err(Error::argument(message));
    }
    if is_media_type(text) {
        return Ok(());
    }
    Err(Error::argument("the content type is no media type: write one like `image/png` or `application/octet-stream`"))
}

fn is_media_type(text: &str) -> bool {
    let (essence, mut rest) = text.split_at(text.find(';').unwrap_or(text.len()));
    let Some((kind, subtype)) = essence.trim_end_matches([' ', '\t']).split_once('/') else { return false };
    if !is_token(kind) || !is_token(subtype) {
        return false;
    }
    while let Some(parameter) = rest.strip_prefix(';') {
        let Some((name, value)) = parameter.trim_start_matches([' ', '\t']).split_once('=') else { return false };
        let Some(after) = after_value(value) else { return false };
        if !is_token(name) {
            return false;
        }
        rest = after.trim_start_matches([' ', '\t']);
    }
    rest.is_empty()
}

/// What follows the token or quoted string at the start of `text`.
fn after_value(text: &str) -> Option<&str> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([';', ' ', '\t']).unwrap_or(text.len());
        return is_token(&text[..end]).then(|| &text[end..]);
    };
    let mut escaped = false;
    for (at, character) in quoted.char_indices() {
        match character {
            '"' if !escaped => return Some(&quoted[at + 1..]),
            '\\' if !escaped => escaped = true,
            ' '..='~' | '\t' => escaped = false,
            _ => return None,
        }
    }
    None
}

fn is_token(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_type_is_a_media_type_with_or_without_parameters() {
        for good in [
            "image/png",
            "text/plain;charset=utf-8",
            "text/plain ; charset=\"a b;\\\"c\" ;x=1",
            "application/vnd.api+json; profile=\"https://example.com/\"",
        ] {
            assert!(is_media_type(good), "{good}");
        }
        for bad in [
            "",
            "image",
            "/png",
            "image/",
            "image/png/x",
            "image /png",
            "text/plain;",
            "text/plain;charset",
            "text/plain;charset=",
            "text/plain; a=\"b",
            "text/plain\r\nX-Evil: 1",
            "text/plain; a=\"\r\n\"",
            "text/plän",
            "text/plain; a=b c",
        ] {
            assert!(!is_media_type(bad), "{bad}");
        }
    }

    #[test]
    fn an_account_is_short_and_printable() {
        assert!(account("").is_ok() && account(&"a".repeat(256)).is_ok());
        assert!(account(&"a".repeat(257)).is_err() && account("a\u{0}").is_err());
    }
}
