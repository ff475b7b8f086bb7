//! Answers and forms from bytes that a fuzzer makes up; see `src/fuzz.rs`.

use std::{
    io,
    sync::{Arc, LazyLock},
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;
use percent_encoding::percent_decode_str;
use reqwest::header::{DATE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use url::Url;
use uuid::Uuid;

use super::{
    classify::{Body, End, FULL_STORAGE_FLOOR, Received, classify},
    form,
    headers::{LONGEST_FLOOR, rate_limit_pause, retry_after},
};
use crate::{
    config::{CanonicalId, Template},
    transport::{
        Answer, Learned, Outcome, Request,
        upload::{Form, Later, Progress, Upload, Watcher},
    },
};

/// What stands before the first line break, and what follows it.
pub(crate) fn line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    (&bytes[..end], bytes.get(end + 1..).unwrap_or_default())
}

/// Header fields up to an empty line, as far as HTTP can carry them, and what follows.
pub(crate) fn fields(mut bytes: &[u8]) -> (HeaderMap, &[u8]) {
    let mut headers = HeaderMap::new();
    loop {
        let (field, rest) = line(bytes);
        bytes = rest;
        if field.is_empty() {
            return (headers, bytes);
        }
        let Some(colon) = field.iter().position(|byte| *byte == b':') else { continue };
        let name = HeaderName::from_bytes(&field[..colon]);
        let value = HeaderValue::from_bytes(field[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
}

/// Made once: a fuzzer is as good as it is fast.
static ENDPOINT: LazyLock<Url> = LazyLock::new(|| Url::parse("https://api.example.com/listings/7").expect("is a URL"));
static TEMPLATE: LazyLock<Template> =
    LazyLock::new(|| Template::parse("/listings/{canonicalId}/photos").expect("is a template"));

/// A line with the status and words for what was asked, header fields, an empty line, the body.
pub(crate) fn answer(bytes: &[u8]) {
    let (first, rest) = line(bytes);
    let first = String::from_utf8_lossy(first);
    let mut words = first.split(' ');
    let status = words.next().and_then(|status| status.parse().ok()).unwrap_or(200);
    let (mut request, mut end) = (Request::new("PUT", ENDPOINT.clone()), End::Whole);
    for word in words {
        match word {
            "id" => request.ack.id = CanonicalId::Pointer("/id".into()),
            "location" => request.ack.id = CanonicalId::Location,
            "known" => request.ack.id_is_known = true,
            "json" => request.ack.json = true,
            "digest" => (request.ack.digest, request.digest) = (true, Some([7; 32])),
            "delete" => request.deletes = true,
            "match" => request.headers.push(("If-Match".into(), "\"v1\"".into())),
            "cut" => end = End::Cut,
            "lost" => end = End::Lost { why: "it broke off".into(), timed_out: false },
            _ => {}
        }
    }
    let (headers, bytes) = fields(rest);
    let body = Body { bytes: bytes.to_vec(), end };
    let received = Received { status, headers: &headers, body: &body, wall: UNIX_EPOCH };
    keeps_its_promises(&classify(&received, &request), &request);
}

fn keeps_its_promises(answer: &Answer, request: &Request) {
    assert!(answer.pause.is_none_or(|pause| !pause.is_zero() && pause <= LONGEST_FLOOR), "{answer:?}");
    match &answer.outcome {
        Outcome::Acked { status, learned } => {
            let gone = request.deletes && matches!(status, 404 | 410);
            assert!(gone || matches!(status, 200..=299), "{answer:?}");
            assert!(gone || !request.ack.asks_for_id() || learned.canonical_id.is_some(), "{answer:?}");
            is_harmless(learned);
        }
        Outcome::Conflict { status, learned } => {
            assert!(matches!(status, 409 | 412), "{answer:?}");
            is_harmless(learned);
        }
        Outcome::Retry { status, floor } => {
            is_bounded(*floor);
            assert!(*status != 507 || floor.is_some_and(|floor| floor >= FULL_STORAGE_FLOOR), "{answer:?}");
        }
        Outcome::Busy { floor, .. } | Outcome::Collision { floor, .. } => is_bounded(*floor),
        Outcome::Unknown { why, .. } | Outcome::Unproven { why, .. } => assert!(why.len() < 200, "{answer:?}"),
        Outcome::Unreachable { .. } => panic!("an answer came: {answer:?}"),
        Outcome::Unauthorized { .. } | Outcome::Refused { .. } => {}
    }
}

fn is_bounded(floor: Option<Duration>) {
    assert!(floor.is_none_or(|floor| floor <= LONGEST_FLOOR), "{floor:?}");
}

/// What was learned can be stored, shown and sent, and means then what it says.
fn is_harmless(learned: &Learned) {
    let Learned { canonical_id, device, idempotency_key, etag, .. } = learned;
    for text in [canonical_id, device, idempotency_key, etag].into_iter().flatten() {
        assert!(!text.is_empty() && text.chars().count() <= 1024 && !text.contains(char::is_control), "{learned:?}");
    }
    if let Some(etag) = etag {
        let inner = etag.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        assert!(inner.is_some_and(|inner| !inner.contains('"')) && HeaderValue::from_str(etag).is_ok(), "{learned:?}");
    }
    if let Some(id) = canonical_id {
        stays_in_its_segment(id);
    }
}

fn stays_in_its_segment(id: &str) {
    let url = TEMPLATE.expand(Some(&ENDPOINT), Uuid::nil(), None, Some(id), &Default::default());
    let url = url.expect("what is taken for an id can be put into a URL");
    assert_eq!(url.origin(), ENDPOINT.origin());
    let segments: Vec<&str> = url.path_segments().into_iter().flatten().collect();
    assert_eq!((segments.len(), segments[0], segments[4]), (5, "listings", "photos"), "{url}");
    assert_eq!(percent_decode_str(segments[3]).decode_utf8().ok().as_deref(), Some(id), "{url}");
    assert_eq!((url.query(), url.fragment()), (None, None), "{url}");
}

/// A line with `Retry-After`, one with `Date`, one with our own clock in seconds since 1970.
pub(crate) fn wait(bytes: &[u8]) {
    let (value, rest) = line(bytes);
    let (date, wall) = line(rest);
    let mut headers = HeaderMap::new();
    for (name, value) in [(RETRY_AFTER, value), (DATE, date)] {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.insert(name, value);
        }
    }
    // A clock of the far future, but one that this system can tell.
    let wall = std::str::from_utf8(wall).ok().and_then(|wall| wall.trim().parse::<u32>().ok()).unwrap_or_default();
    is_bounded(retry_after(&headers, UNIX_EPOCH + Duration::from_secs(wall.into())));
}

/// Header fields: quotas, and digests of what was sent.
pub(crate) fn structured(bytes: &[u8]) {
    let (headers, _) = fields(bytes);
    let pause = rate_limit_pause(&headers);
    assert!(pause.is_none_or(|pause| !pause.is_zero() && pause <= LONGEST_FLOOR), "{pause:?}");
    if headers.get_all("ratelimit").iter().next().is_none() && !headers.contains_key("ratelimit-reset") {
        assert_eq!(pause, None);
    }
    let digest = [7; 32];
    if super::digest::echoed(&headers, &digest) {
        // The base64 of it has 43 digits, and nothing else says it.
        let said = headers.values().any(|value| value.as_bytes().windows(40).any(|at| at == &ECHO[..40]));
        assert!(said, "{headers:?}");
    }
}

/// The base64 of 32 sevens.
const ECHO: &[u8; 44] = b"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";

struct Nobody;

impl Watcher for Nobody {
    fn kept(&self, _progress: Option<Progress>) -> Later<'_, io::Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn sent(&self, _bytes: u64) {}
}

/// Lines of names and values that go with a file, such as `filename=a.png`.
pub(crate) fn names(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let form = Form::Multipart { part: "file".into() };
    let mut upload =
        Upload::new(Request::new("POST", ENDPOINT.clone()), form, Arc::new(Bytes::from_static(b"x")), Arc::new(Nobody));
    let pairs = text.split('\n').filter_map(|pair| pair.split_once('='));
    upload.metadata = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let boundary = form::boundary(&upload, "file");
    let head = form::head(&upload, "file", &boundary);
    let parts: Vec<&str> = head.split(&format!("--{boundary}\r\n")).collect();
    let fields = upload.metadata.iter().filter(|(name, _)| !matches!(name.as_str(), "filename" | "filetype")).count();
    assert_eq!((parts.len(), parts[0]), (fields + 2, ""), "{head:?}");
    for (place, part) in parts[1..].iter().enumerate() {
        let (lines, _) = part.split_once("\r\n\r\n").expect("every part has a head");
        let lines: Vec<&str> = lines.split("\r\n").collect();
        assert_eq!(lines.len(), if place == fields { 2 } else { 1 }, "{head:?}");
        assert!(lines.iter().all(|line| !line.contains(char::is_control)), "{head:?}");
        assert_eq!(lines[0].matches('"').count(), if place == fields { 4 } else { 2 }, "{head:?}");
    }
}
