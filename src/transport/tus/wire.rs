//! The protocol's requests, and what its answers say. Everything in an answer is hostile input: what does not parse does not exist.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION};
use url::Url;

use super::super::http::{Content, Outgoing, Reply, text, unsendable, without_user};
use crate::transport::{Outcome, Request, digest, upload::Upload};

/// The version of the protocol.
pub(super) const VERSION: (&str, &str) = ("Tus-Resumable", "1.0.0");

/// The media type of a chunk.
const CHUNK: HeaderValue = HeaderValue::from_static("application/offset+octet-stream");

/// Headers that belong to the request that creates: what it does is done once. In lower case.
const ONCE: [&str; 5] = ["content-type", "content-length", "idempotency-key", "if-match", "if-none-match"];

/// Those of a request's headers that go with all requests of its upload: the endpoint's own.
pub(super) fn lasting(headers: &[(String, String)]) -> Vec<(String, String)> {
    let lasts = |name: &str| {
        let name = name.to_ascii_lowercase();
        !ONCE.contains(&name.as_str()) && !name.starts_with("sync-")
    };
    headers.iter().filter(|(name, _)| lasts(name)).cloned().collect()
}

/// A request to an upload, or to what creates one.
///
/// # Errors
/// What HTTP cannot express: nothing was sent.
pub(super) fn plain(method: &str, url: &Url, of: &Request) -> Result<Outgoing, Outcome> {
    let mut outgoing = Outgoing::new(method, url)?;
    outgoing.add(&lasting(&of.headers), false)?;
    outgoing.add(&of.credentials, true)?;
    if method != "OPTIONS" {
        outgoing.headers.insert("tus-resumable", HeaderValue::from_static(VERSION.1));
    }
    Ok(outgoing)
}

/// The request that creates the upload. `content` are its first bytes, if there are any.
///
/// # Errors
/// What HTTP cannot express: nothing was sent.
pub(super) fn creation(upload: &Upload, content: Content) -> Result<Outgoing, Outcome> {
    let request = &upload.request;
    let mut outgoing = plain(&request.method, &request.url, request)?;
    let once = |name: &str| !name.eq_ignore_ascii_case("content-type") && !name.eq_ignore_ascii_case("content-length");
    let headers: Vec<_> = request.headers.iter().filter(|(name, _)| once(name)).cloned().collect();
    outgoing.add(&headers, false)?;
    outgoing.headers.insert("upload-length", upload.source.len().into());
    if let Some(metadata) = metadata(&upload.metadata)? {
        outgoing.headers.insert("upload-metadata", metadata);
    }
    if let Some(digest) = &request.digest {
        // Of the whole file: this request carries a part of it at most.
        outgoing.headers.insert(digest::REPRESENTATION, digest::value(digest));
    }
    if content.len() > 0 {
        outgoing.headers.insert(CONTENT_TYPE, CHUNK);
        outgoing.content = content;
    }
    Ok(outgoing)
}

/// The request that carries a chunk.
///
/// # Errors
/// What HTTP cannot express: nothing was sent.
pub(super) fn chunk(url: &Url, of: &Request, offset: u64, content: Content) -> Result<Outgoing, Outcome> {
    let mut outgoing = plain("PATCH", url, of)?;
    outgoing.headers.insert("upload-offset", offset.into());
    outgoing.headers.insert(CONTENT_TYPE, CHUNK);
    outgoing.content = content;
    Ok(outgoing)
}

/// Names in the clear, values in base64.
fn metadata(pairs: &[(String, String)]) -> Result<Option<HeaderValue>, Outcome> {
    let fits = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',');
    if !pairs.iter().all(|(name, _)| fits(name)) {
        return Err(unsendable("the name of a piece of metadata"));
    }
    let pairs: Vec<String> = pairs
        .iter()
        .map(
            |(name, value)| {
                if value.is_empty() { name.clone() } else { format!("{name} {}", BASE64_STANDARD.encode(value)) }
            },
        )
        .collect();
    if pairs.is_empty() {
        return Ok(None);
    }
    let mut value = HeaderValue::from_str(&pairs.join(",")).map_err(|_| unsendable("the metadata"))?;
    // It holds the file's name.
    value.set_sensitive(true);
    Ok(Some(value))
}

/// How many bytes the server says that it has.
pub(super) fn offset(headers: &HeaderMap) -> Option<u64> {
    number(headers, "upload-offset")
}

/// How many bytes it expects altogether.
pub(super) fn length(headers: &HeaderMap) -> Option<u64> {
    number(headers, "upload-length")
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    let digits = text(headers, name)?;
    // `parse` alone would take a sign. What does not fit is beyond every file.
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().unwrap_or(u64::MAX))
}

/// Where the upload is that was created: on the origin that the endpoint is on, or nowhere.
pub(super) fn location(reply: &Reply, endpoint: &Url) -> Option<Url> {
    let mut url = reply.url.join(text(&reply.headers, LOCATION.as_str())?).ok()?;
    without_user(&mut url);
    url.set_fragment(None);
    (url.origin() == endpoint.origin()).then_some(url)
}
