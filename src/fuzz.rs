//! What fuzzers feed: each function takes any bytes, reads them as one kind of foreign input, and panics when a promise is broken.
//!
//! `scripts/test` replays `fuzz/corpus` through them and mutates it a little; `scripts/fuzz` lets libFuzzer look for more. The forms are
//! text wherever that is possible, so that a corpus can be read and written by hand.

#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;

use serde_json::Value;
use url::Url;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{
    cipher::{Binding, Chunks, FileCipher, FileKey, FileRecord, MasterKey, Part},
    commands,
    config::{Config, Settings, Template},
    error::Error,
    keychain, reference, roots,
    transport::{self, http::fuzz::line},
};

/// Takes any bytes, and panics when a promise is broken.
pub type Target = fn(&[u8]);

/// All of them, by the names that their corpora have.
pub const TARGETS: &[(&str, Target)] = &[
    ("config", config),
    ("file_names", file_names),
    ("path_patterns", path_patterns),
    ("raw_ipc", raw_ipc),
    ("references", references),
    ("retry_after", retry_after),
    ("sealed_record", sealed_record),
    ("server_answer", server_answer),
    ("spool_chunks", spool_chunks),
    ("structured_headers", structured_headers),
    ("tus_headers", tus_headers),
    ("url_template", url_template),
    ("wrapped_key", wrapped_key),
];

/// An answer: a line with the status and words for what was asked, header fields, an empty line, the body.
pub fn server_answer(bytes: &[u8]) {
    transport::http::fuzz::answer(bytes);
}

/// A line with `Retry-After`, one with `Date`, one with our own clock in seconds since 1970.
pub fn retry_after(bytes: &[u8]) {
    transport::http::fuzz::wait(bytes);
}

/// Header fields with quotas and digests.
pub fn structured_headers(bytes: &[u8]) {
    transport::http::fuzz::structured(bytes);
}

/// Header fields of a tus server.
pub fn tus_headers(bytes: &[u8]) {
    transport::fuzz_tus(bytes);
}

/// Names that go with a file, as lines such as `filename=a.png`.
pub fn file_names(bytes: &[u8]) {
    transport::http::fuzz::names(bytes);
}

/// Lines with patterns of `roots`, an empty line, lines with paths.
pub fn path_patterns(bytes: &[u8]) {
    roots::fuzz::patterns(bytes);
}

/// The file of a key under a passphrase.
pub fn wrapped_key(bytes: &[u8]) {
    keychain::fuzz_wrapped(bytes);
}

/// A call of a page: header fields, an empty line, the body.
pub fn raw_ipc(bytes: &[u8]) {
    commands::fuzz::call(bytes);
}

/// `plugins.storage-sync` as JSON.
pub fn config(bytes: &[u8]) {
    let Ok(json) = serde_json::from_slice::<Value>(bytes) else { return };
    let settings = match Config::from_json(json).and_then(|config| Settings::new(config, Vec::new())) {
        Ok(settings) => settings,
        Err(error) => return assert!(matches!(error, Error::InvalidConfig { .. }), "{error}"),
    };
    for endpoint in settings.endpoints() {
        if let Some(origin) = endpoint.url.origin(settings.base_url().as_ref()) {
            is_private(&Url::parse(&origin).expect("an origin is a URL"));
        }
        for (name, value) in &endpoint.headers {
            let fits = |text: &str| {
                !text.is_empty() && text.bytes().all(|byte| (b' '..=b'~').contains(&byte) || byte == b'\t')
            };
            assert!(fits(name) && fits(value), "{name:?}");
            assert!(!name.eq_ignore_ascii_case("authorization"), "credentials are in the configuration");
        }
    }
}

/// What is sent there cannot be read on the way.
fn is_private(url: &Url) {
    let host = url.host_str().unwrap_or_default();
    let loopback = host == "localhost" || host == "[::1]" || host.starts_with("127.");
    assert!(url.scheme() == "https" || (url.scheme() == "http" && loopback), "{url}");
}

/// Lines with a template, a base URL, a key, a canonical id, and params such as `listing=42`.
pub fn url_template(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.split('\n');
    let mut next = || lines.next().unwrap_or_default();
    let (template, base, key, canonical_id) = (next(), next(), next(), next());
    let Ok(template) = Template::parse(template) else { return };
    let base = if base.is_empty() { "https://api.example.com/v1" } else { base };
    let Ok(settings) =
        Config::from_json(serde_json::json!({ "baseUrl": base })).and_then(|c| Settings::new(c, Vec::new()))
    else {
        return;
    };
    let base = settings.base_url();
    let params: BTreeMap<String, String> =
        lines.filter_map(|pair| pair.split_once('=')).map(|(n, v)| (n.into(), v.into())).collect();
    let Ok(url) = template.expand(base.as_ref(), Uuid::nil(), Some(key), Some(canonical_id), &params) else { return };
    is_private(&url);
    assert_eq!(Some(url.origin().ascii_serialization()), template.origin(base.as_ref()));
    assert_eq!((url.username(), url.password(), url.fragment()), ("", None, None), "{url}");
    let plain: BTreeMap<String, String> =
        template.params().into_iter().map(|name| (name.to_owned(), "x".to_owned())).collect();
    let plain = template
        .expand(base.as_ref(), Uuid::nil(), Some("x"), Some("x"), &plain)
        .expect("a plain value fits everywhere");
    let shape =
        |url: &Url| (url.path_segments().map(Iterator::count), url.query().map(|query| query.matches('&').count()));
    assert_eq!(shape(&url), shape(&plain), "{url} is not shaped as {plain}");
}

/// A line with the canonical id that takes the place of references, then a JSON text that may hold some to the entry with the number 10.
pub fn references(bytes: &[u8]) {
    let (id, json) = line(bytes);
    let (id, Ok(json)) = (String::from_utf8_lossy(id), std::str::from_utf8(json)) else { return };
    let ids = BTreeMap::from([(Uuid::from_u128(10), id.into_owned())]);
    let put_in = reference::substitute_in_json(json, &ids);
    let (Some(put_in), Ok(before)) = (put_in, serde_json::from_str::<Value>(json)) else { return };
    let after = serde_json::from_str::<Value>(&put_in).expect("what was JSON is JSON");
    assert_eq!(after, filled(before, &ids));
}

/// What substitution means: in every string, and in nothing else.
fn filled(value: Value, ids: &BTreeMap<Uuid, String>) -> Value {
    match value {
        Value::String(text) => {
            reference::substitute(&text, ids).map_or_else(|| text.clone().into(), |text| text.into_owned().into())
        }
        Value::Array(items) => items.into_iter().map(|item| filled(item, ids)).collect(),
        Value::Object(fields) => fields.into_iter().map(|(name, value)| (name, filled(value, ids))).collect(),
        other => other,
    }
}

/// A payload and its data key in hexadecimal digits, a line each, as they are on disk: only these two open.
pub fn sealed_record(bytes: &[u8]) {
    let (payload, rest) = line(bytes);
    let (wrapped, _) = line(rest);
    let binding = binding();
    let master = MasterKey::from_bytes(Zeroizing::new(vec![7; 32])).expect("has 32 bytes");
    if let Ok(data) = master.unwrap(&unhex(wrapped), &binding) {
        assert_eq!(unhex(wrapped), unhex(WRAPPED), "a data key was forged");
        let opened = data.open(Part::Payload, &binding, &unhex(payload));
        assert!(opened.is_err() || unhex(payload) == unhex(SEALED), "a payload was forged");
    } else {
        assert_ne!(unhex(wrapped), unhex(WRAPPED), "the format on disk has changed");
    }
}

fn binding() -> Binding<'static> {
    Binding {
        account: "",
        id: Uuid::from_u128(10),
        kind: "form",
        key: Some("42"),
        content_type: "application/json",
        generation: 1,
    }
}

/// `{"price":1}` under the data key in [`WRAPPED`].
const SEALED: &[u8] = b"01dcdddedfe0e1e2e3e4e5e6e71567ac33bb81d49711818f85702c43664b7fa32a3f630ecbf15b9a";
/// A data key under the master key of 32 sevens.
const WRAPPED: &[u8] = b"01c8c9cacbcccdcecfd0d1d2d373c026cefa5314fe9883eb92a6ef3d0b195f1702e7f19aaa59ac455b412020d83a3cb7dcaa411cc546fe7398db8e7647";

fn unhex(digits: &[u8]) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok()).unwrap_or_default();
    digits.chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair.get(1).copied().unwrap_or(b'0'))).collect()
}

/// The description of a file as it is sealed; and what is changed, byte by byte, in a file of three chunks in the spool: what was changed or moved does
/// not open.
pub fn spool_chunks(bytes: &[u8]) {
    if let Some(record) = FileRecord::decode(bytes) {
        assert_eq!(record.encode().as_slice(), bytes, "a description can be written in two ways");
        if let Some((_, size)) = record.spooled {
            can_be_found(Chunks { size, length: record.length });
        }
    }
    let key = FileKey::from_bytes(&[7; FileKey::LENGTH]).expect("is as long as a key");
    let chunks = Chunks { size: 16, length: 40 };
    let cipher = FileCipher::new(&key, &binding(), chunks.size);
    let plain = |number: usize| vec![number as u8; if number == 2 { 8 } else { 16 }];
    let sealed = [0, 1, 2].map(|number: usize| {
        let mut chunk = plain(number);
        cipher.seal(number as u32, number == 2, &mut chunk);
        chunk
    });
    let (place, changes) = bytes.split_first().map_or((0, bytes), |(place, changes)| (usize::from(place % 4), changes));
    for genuine in &sealed {
        let mut chunk = genuine.clone();
        chunk.iter_mut().zip(changes).for_each(|(byte, change)| *byte ^= *change);
        // What became the very chunk of that place is that chunk.
        let expected = sealed.get(place).is_some_and(|there| *there == chunk);
        let opened = cipher.open(chunks, place as u64, &mut chunk);
        assert_eq!(opened.is_ok(), expected, "at {place}");
        assert!(opened.is_err() || chunk == plain(place));
    }
}

/// Every byte of a file is in one chunk, and the chunks are the sealed file.
fn can_be_found(chunks: Chunks) {
    let last = chunks.count() - 1;
    assert_eq!(chunks.sealed_range(last).end, chunks.sealed_length());
    assert_eq!(chunks.sealed_range(0).start, 0);
    let Some(end) = chunks.length.checked_sub(1) else { return };
    let (number, at) = chunks.at(end);
    assert!(number == last && (at as u64) < u64::from(chunks.size), "{chunks:?}");
}
