//! Calls of a hostile page, from bytes that a fuzzer makes up; see `src/fuzz.rs`.

use serde_json::Value;
use tauri::{http::HeaderMap, ipc::InvokeBody};

use super::{arguments::read, batch, change, enqueue, files};
use crate::{
    entry::Known,
    error::Result,
    outbox::{EnqueueOptions, FileOptions, Query, Selection, WatchOptions},
    transport::http::fuzz::fields,
};

/// What a page may make us say at most, in bytes.
const LONGEST_ANSWER: usize = 1000;

/// Header fields, an empty line, the body.
pub(crate) fn call(bytes: &[u8]) {
    let (headers, body) = fields(bytes);
    asked(&InvokeBody::Raw(body.to_vec()), &headers);
    if let Ok(json) = serde_json::from_slice::<Value>(body) {
        is_refused_in_words(read::<EnqueueOptions>(&json, "options").map(drop));
        is_refused_in_words(read::<FileOptions>(&json, "options").map(drop));
        is_refused_in_words(read::<WatchOptions>(&json, "options").map(drop));
        is_refused_in_words(read::<Known>(&json, "known").map(drop));
        is_refused_in_words(read::<Query>(&json, "filter").map(drop));
        is_refused_in_words(read::<Selection>(&json, "").map(drop));
        asked(&InvokeBody::Json(json), &headers);
    }
}

fn asked(body: &InvokeBody, headers: &HeaderMap) {
    is_refused_in_words(enqueue::asked(body, headers).map(drop));
    is_refused_in_words(change::replacement(body, headers, &["id", "payload"]).map(drop));
    is_refused_in_words(change::decision(body, headers).map(drop));
    is_refused_in_words(files::asked(body, headers).map(drop));
    let items = batch::asked(body);
    if let (Ok(items), InvokeBody::Raw(bytes)) = (&items, body) {
        let carried: usize = items.iter().map(|item| item.payload.as_bytes().len()).sum();
        assert!(carried <= bytes.len(), "bytes were made up");
    }
    is_refused_in_words(items.map(drop));
}

fn is_refused_in_words(answer: Result<()>) {
    let Err(error) = answer else { return };
    let text = error.to_string();
    assert_eq!(error.code(), "invalid_argument", "{text}");
    assert!(!text.is_empty() && text.len() <= LONGEST_ANSWER, "{} bytes: {text}", text.len());
    assert!(!text.contains(char::is_control), "{text:?}");
}
