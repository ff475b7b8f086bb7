//! `enqueue`, in both forms: a JSON value among the arguments, or bytes as the body with the arguments in headers.

use std::borrow::Cow;

use serde_json::Value;
use tauri::{
    Runtime, State, Webview,
    http::HeaderMap,
    ipc::{CommandScope, InvokeBody, Request},
};

use super::{
    arguments::read,
    body,
    limit::WindowLimits,
    scope::{self, KindScope},
};
use crate::{
    entry::Receipt,
    error::{Error, Result},
    handle::StorageSync,
    outbox::{EnqueueOptions, NewItem},
};

/// The header that says that the body is the payload.
const KIND: &str = "x-kind";
/// [`EnqueueOptions`] as JSON, percent-encoded.
const OPTIONS: &str = "x-options";

#[tauri::command]
pub(crate) async fn enqueue<R: Runtime>(
    webview: Webview<R>,
    limits: State<'_, WindowLimits>,
    sync: State<'_, StorageSync>,
    request: Request<'_>,
    scope: CommandScope<KindScope>,
) -> Result<Receipt> {
    let NewItem { kind, payload, options } = asked(request.body(), request.headers())?;
    scope::check(&scope, &kind)?;
    limits.take(webview.label(), 1, payload.as_bytes().len())?;
    sync.enqueue_payload(&kind, payload, options).await
}

pub(super) fn asked(body: &InvokeBody, headers: &HeaderMap) -> Result<NewItem> {
    match (body::bytes(body, headers, KIND)?, body) {
        (None, InvokeBody::Json(arguments)) => of_arguments(arguments),
        (bytes, _) => of_bytes(bytes.unwrap_or_default(), headers),
    }
}

fn of_arguments(arguments: &Value) -> Result<NewItem> {
    body::only(arguments, &["kind", "payload", "options"])?;
    let kind = kind(arguments)?;
    let options = options(arguments)?;
    Ok(NewItem::new(kind, body::json(arguments)?, options))
}

fn of_bytes(bytes: Cow<'_, [u8]>, headers: &HeaderMap) -> Result<NewItem> {
    let kind = body::decoded(headers, KIND)?
        .ok_or_else(|| Error::argument("the header `x-kind` is missing: give the name of an endpoint"))?;
    let options = match body::decoded(headers, OPTIONS)? {
        None => EnqueueOptions::default(),
        Some(text) => {
            let options: Value =
                serde_json::from_str(&text).map_err(|_| Error::argument("the header `x-options` is not JSON"))?;
            read(&options, "options")?
        }
    };
    Ok(NewItem::new(kind, body::payload(bytes, headers)?, options))
}

/// The endpoint that an entry is for.
pub(super) fn kind(entry: &Value) -> Result<&str> {
    let kind = entry.get("kind").and_then(Value::as_str);
    kind.ok_or_else(|| Error::argument("`kind`: give the name of an endpoint"))
}

/// What is said beside kind and payload.
pub(super) fn options(entry: &Value) -> Result<EnqueueOptions> {
    match entry.get("options") {
        None | Some(Value::Null) => Ok(EnqueueOptions::default()),
        Some(options) => read(options, "options"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{entry::Queue, outbox::Payload};

    fn headers(given: &[(&'static str, &str)]) -> HeaderMap {
        given.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_json_value_keeps_its_numbers() {
        for number in [
            "0.1",
            "1.7976931348623157e308",
            "123.45600000000002",
            "9007199254740993",
            "18446744073709551615",
            "-0.0",
            "5e-324",
        ] {
            let body =
                InvokeBody::Json(serde_json::from_str(&format!(r#"{{"kind":"form","payload":[{number}]}}"#)).unwrap());
            let none = headers(&[]);
            let Payload::Json(json) = asked(&body, &none).ok().unwrap().payload else { panic!() };
            let sent: Vec<f64> = serde_json::from_str(json.get()).unwrap();
            assert_eq!(sent[0].to_bits(), number.parse::<f64>().unwrap().to_bits(), "{number} became {}", json.get());
        }
    }

    #[test]
    fn null_is_a_payload_and_nothing_is_none() {
        let none = headers(&[]);
        let body = InvokeBody::Json(json!({ "kind": "form", "payload": null, "options": null }));
        let call = asked(&body, &none).ok().unwrap();
        assert!(call.kind == "form" && matches!(call.payload, Payload::Json(json) if json.get() == "null"));
    }

    #[test]
    fn bytes_come_as_they_are_or_as_numbers() {
        let headers = headers(&[
            ("x-kind", "photo"),
            ("x-options", "%7B%22key%22%3A%22%D0%BA%2F1%22%2C%22queue%22%3A%22every%22%7D"),
            ("x-content-type", "image/png"),
        ]);
        for body in [InvokeBody::Raw(vec![0, 255, 7]), InvokeBody::Json(json!([0, 255, 7]))] {
            let call = asked(&body, &headers).ok().unwrap();
            assert_eq!(
                (&*call.kind, call.options.key.as_deref(), call.options.queue),
                ("photo", Some("к/1"), Some(Queue::Every))
            );
            let Payload::Bytes { bytes, content_type } = call.payload else { panic!() };
            assert_eq!((bytes.as_slice(), content_type.as_str()), ([0, 255, 7].as_slice(), "image/png"));
        }
    }

    #[test]
    fn what_is_refused_is_named_and_not_quoted() {
        let kind = [("x-kind", "photo")];
        type Row<'a> = (InvokeBody, &'a [(&'static str, &'a str)], &'a str);
        let table: &[Row<'_>] = &[
            (InvokeBody::Json(Value::Null), &[], "`kind`"),
            (InvokeBody::Json(json!("s3cret")), &[], "`kind`"),
            (InvokeBody::Json(json!({ "kind": 5, "payload": 1 })), &[], "`kind`"),
            (InvokeBody::Json(json!({ "kind": "form" })), &[], "`payload`"),
            (InvokeBody::Json(json!({ "kind": "form", "data": "s3cret" })), &[], "`data`"),
            (InvokeBody::Json(json!({ "kind": "form", "payload": 1, "options": { "keys": "s3cret" } })), &[], "keys"),
            (
                InvokeBody::Json(json!({ "kind": "form", "payload": 1, "options": { "key": ["s3cret"] } })),
                &[],
                "`options.key",
            ),
            (InvokeBody::Raw(vec![1]), &[], "`x-kind`"),
            (InvokeBody::Raw(vec![1]), &[("x-kind", "%ff")], "`x-kind`"),
            (InvokeBody::Raw(vec![1]), &[kind[0], ("x-options", "s3cret")], "`x-options`"),
            (InvokeBody::Raw(vec![1]), &[kind[0], ("x-options", "%7B%22id%22%3A1%7D")], "`options.id`"),
            (InvokeBody::Json(json!([1, 256])), &kind, "numbers"),
            (InvokeBody::Json(json!([1, "s3cret"])), &kind, "numbers"),
            (InvokeBody::Json(json!({ "kind": "form", "payload": 1 })), &kind, "numbers"),
        ];
        for (body, given, named) in table {
            let headers = headers(given);
            let error = asked(body, &headers).err().unwrap();
            let text = error.to_string();
            assert!(error.code() == "invalid_argument" && text.contains(named), "{text}");
            assert!(!text.contains("s3cret"), "{text}");
        }
    }
}
