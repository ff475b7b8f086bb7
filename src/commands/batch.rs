//! `enqueue_all`: several entries in one commit.
//!
//! In JSON `{ entries: [{ kind, payload, options }] }`. With bytes among the payloads the body is bytes: the length of a header (4 bytes,
//! big endian), the header, which is that object, then the payloads. In the header an entry of bytes has `bytes` (how many of those that
//! follow are its own) and `contentType` in place of `payload`.

use serde_json::Value;
use tauri::{
    Runtime, State, Webview,
    ipc::{CommandScope, InvokeBody, Request},
};

use super::{
    body, enqueue,
    limit::WindowLimits,
    scope::{self, KindScope, MayEnqueue},
};
use crate::{
    entry::Receipt,
    error::{Error, Result},
    handle::StorageSync,
    outbox::{NewItem, OCTET_STREAM, Payload},
};

#[tauri::command]
pub(crate) async fn enqueue_all<R: Runtime>(
    webview: Webview<R>,
    limits: State<'_, WindowLimits>,
    sync: State<'_, StorageSync>,
    request: Request<'_>,
    scope: CommandScope<KindScope>,
) -> Result<Vec<Receipt>> {
    let items = asked(request.body())?;
    let may_enqueue = MayEnqueue::of(&webview)?.ok_or_else(|| {
        Error::argument("this window may not enqueue: add `storage-sync:allow-enqueue` to its capability, to which `enqueue_all` is bound")
    })?;
    for (place, item) in items.iter().enumerate() {
        let checked = scope::check(&scope, &item.kind).and_then(|()| may_enqueue.check(&item.kind));
        checked.map_err(|error| at(place, &error))?;
    }
    let bytes = items.iter().map(|item| item.payload.as_bytes().len()).sum();
    limits.take(webview.label(), items.len(), bytes)?;
    sync.enqueue_all(items).await
}

pub(super) fn asked(body: &InvokeBody) -> Result<Vec<NewItem>> {
    match body {
        InvokeBody::Json(arguments @ Value::Array(_)) => {
            let bytes = body::numbers(arguments).ok_or_else(|| {
                Error::argument("the body is an object with `entries`, or bytes (as a list of numbers from 0 to 255)")
            })?;
            framed(&bytes)
        }
        InvokeBody::Json(arguments) => items(arguments, &[]),
        InvokeBody::Raw(bytes) => framed(bytes),
    }
}

fn framed(body: &[u8]) -> Result<Vec<NewItem>> {
    let wrong = || Error::argument("the bytes do not begin with the length of a JSON header and the header itself");
    let (length, rest) = body.split_at_checked(4).ok_or_else(wrong)?;
    let length = length.try_into().map(u32::from_be_bytes).map_err(|_| wrong())?;
    let (header, payloads) =
        usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length)).ok_or_else(wrong)?;
    items(&serde_json::from_slice(header).map_err(|_| wrong())?, payloads)
}

fn items(arguments: &Value, mut payloads: &[u8]) -> Result<Vec<NewItem>> {
    body::only(arguments, &["entries"])?;
    let entries = arguments.get("entries").and_then(Value::as_array);
    let entries = entries.ok_or_else(|| Error::argument("`entries`: give a list of entries"))?.iter().enumerate();
    let items: Vec<_> = entries
        .map(|(place, entry)| item(entry, &mut payloads).map_err(|error| at(place, &error)))
        .collect::<Result<_>>()?;
    if !payloads.is_empty() {
        return Err(Error::argument(format!("`entries` leave {} bytes that are nobody's", payloads.len())));
    }
    Ok(items)
}

fn item(entry: &Value, payloads: &mut &[u8]) -> Result<NewItem> {
    if !entry.is_object() {
        return Err(Error::argument("is no object such as { kind: 'form', payload: draft, options: { key: '42' } }"));
    }
    body::only(entry, &["kind", "payload", "options", "bytes", "contentType"])?;
    let (kind, options) = (enqueue::kind(entry)?, enqueue::options(entry)?);
    let payload = match (entry.get("bytes"), entry.get("contentType")) {
        (None | Some(Value::Null), None | Some(Value::Null)) => body::json(entry)?,
        (None | Some(Value::Null), _) => {
            return Err(Error::argument("`contentType`: is for bytes: a JSON payload is application/json"));
        }
        (Some(_), _) if entry.get("payload").is_some() => {
            return Err(Error::argument("has both `payload` and `bytes`: leave one out"));
        }
        (Some(length), content_type) => {
            let own = length.as_u64().and_then(|length| payloads.split_at_checked(usize::try_from(length).ok()?));
            let (own, rest) = own.ok_or_else(|| {
                Error::argument("`bytes`: is how many of the bytes behind the header are its payload")
            })?;
            *payloads = rest;
            Payload::bytes(own, media_type(content_type)?)
        }
    };
    Ok(NewItem::new(kind, payload, options))
}

fn media_type(given: Option<&Value>) -> Result<&str> {
    match given {
        None | Some(Value::Null) => Ok(OCTET_STREAM),
        Some(text) => {
            text.as_str().ok_or_else(|| Error::argument("`contentType`: write a media type such as `image/png`"))
        }
    }
}

fn at(place: usize, error: &Error) -> Error {
    Error::argument(format!("entries[{place}]: {error}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn frame(header: &Value, payloads: &[u8]) -> Vec<u8> {
        let header = header.to_string().into_bytes();
        let length = u32::try_from(header.len()).unwrap().to_be_bytes();
        [length.as_slice(), &header, payloads].concat()
    }

    #[test]
    fn entries_come_as_json_or_with_bytes_behind_it() {
        let json = json!({ "entries": [
            { "kind": "form", "payload": { "n": 1.50 }, "options": { "key": "a" } },
            { "kind": "note", "payload": null },
        ] });
        let items = asked(&InvokeBody::Json(json)).unwrap();
        assert_eq!(items.iter().map(|item| item.kind.as_str()).collect::<Vec<_>>(), ["form", "note"]);
        assert_eq!(items[0].options.key.as_deref(), Some("a"));
        let mixed = frame(
            &json!({ "entries": [
                { "kind": "photo", "bytes": 2, "contentType": "image/png" },
                { "kind": "form", "payload": [1], "options": null },
                { "kind": "photo", "bytes": 0 },
                { "kind": "photo", "bytes": 1, "contentType": null },
            ] }),
            &[0, 255, 7],
        );
        let numbers = InvokeBody::Json(json!(mixed));
        for body in [InvokeBody::Raw(mixed), numbers] {
            let items = asked(&body).unwrap();
            let payloads: Vec<_> =
                items.iter().map(|item| (item.payload.as_bytes(), item.payload.content_type())).collect();
            assert_eq!(
                payloads,
                [
                    ([0, 255].as_slice(), "image/png"),
                    (b"[1]", "application/json"),
                    (b"", OCTET_STREAM),
                    (&[7], OCTET_STREAM),
                ]
            );
        }
        assert!(asked(&InvokeBody::Json(json!({ "entries": [] }))).unwrap().is_empty());
    }

    #[test]
    fn what_is_refused_is_named_with_its_place_and_not_quoted() {
        let one = |entry: Value| InvokeBody::Json(json!({ "entries": [{ "kind": "form", "payload": 1 }, entry] }));
        let framed = |entry: Value, payloads: &[u8]| InvokeBody::Raw(frame(&json!({ "entries": [entry] }), payloads));
        for (body, named) in [
            (InvokeBody::Json(Value::Null), "entries"),
            (InvokeBody::Json(json!("s3cret")), "`entries`"),
            (InvokeBody::Json(json!({ "items": ["s3cret"] })), "`items`"),
            (InvokeBody::Json(json!({ "entries": "s3cret" })), "`entries`"),
            (InvokeBody::Json(json!(["s3cret"])), "`entries`"),
            (InvokeBody::Json(json!([1, 256])), "0 to 255"),
            (one(json!("s3cret")), "entries[1]: is no object"),
            (one(json!({ "payload": "s3cret" })), "entries[1]: `kind`"),
            (one(json!({ "kind": "form", "data": "s3cret" })), "entries[1]: `data`"),
            (one(json!({ "kind": "form" })), "entries[1]: `payload`"),
            (
                one(json!({ "kind": "form", "payload": 1, "options": { "key": ["s3cret"] } })),
                "entries[1]: `options.key",
            ),
            (one(json!({ "kind": "form", "payload": 1, "contentType": "text/s3cret" })), "entries[1]: `contentType`"),
            (one(json!({ "kind": "form", "bytes": 1 })), "entries[1]: `bytes`"),
            (framed(json!({ "kind": "form", "bytes": 1, "payload": "s3cret" }), &[1]), "entries[0]: has both"),
            (framed(json!({ "kind": "form", "bytes": -1 }), &[1]), "entries[0]: `bytes`"),
            (framed(json!({ "kind": "form", "bytes": 2 }), &[1]), "entries[0]: `bytes`"),
            (framed(json!({ "kind": "form", "bytes": 1, "contentType": 5 }), &[1]), "entries[0]: `contentType`"),
            (framed(json!({ "kind": "form", "bytes": 1 }), &[1, 2]), "leave 1 bytes"),
            (InvokeBody::Raw(vec![0, 0]), "length of a JSON header"),
            (InvokeBody::Raw(vec![255, 255, 255, 255, b'{']), "length of a JSON header"),
            (InvokeBody::Raw(vec![0, 0, 0, 1, b'{']), "length of a JSON header"),
        ] {
            let error = asked(&body).expect_err(named);
            let text = error.to_string();
            assert!(error.code() == "invalid_argument" && text.contains(named), "{named}: {text}");
            assert!(!text.contains("s3cret"), "{text}");
        }
    }
}
