//! `enqueue`, in both forms: a JSON value among the arguments, or bytes as the body with the arguments in headers.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use serde_json::{Value, value::to_raw_value};
use tauri::{
    State,
    http::HeaderMap,
    ipc::{CommandScope, InvokeBody, Request},
};

use super::{
    arguments::read,
    scope::{self, KindScope},
};
use crate::{
    entry::Receipt,
    error::{Error, Result},
    handle::StorageSync,
    outbox::{EnqueueOptions, OCTET_STREAM, Payload},
};

/// The header that says that the body is the payload.
const KIND: &str = "x-kind";
/// [`EnqueueOptions`] as JSON, percent-encoded.
const OPTIONS: &str = "x-options";
/// The media type of the bytes.
const CONTENT_TYPE: &str = "x-content-type";

#[tauri::command]
pub(crate) async fn enqueue(
    sync: State<'_, StorageSync>,
    request: Request<'_>,
    scope: CommandScope<KindScope>,
) -> Result<Receipt> {
    let Call { kind, payload, options } = Call::read(request.body(), request.headers())?;
    scope::check(&scope, &kind)?;
    sync.enqueue_payload(&kind, payload, options).await
}

/// What is asked for.
struct Call<'a> {
    kind: Cow<'a, str>,
    payload: Payload,
    options: EnqueueOptions,
}

impl<'a> Call<'a> {
    fn read(body: &'a InvokeBody, headers: &'a HeaderMap) -> Result<Self> {
        match body {
            InvokeBody::Json(arguments) if !headers.contains_key(KIND) => Self::of_arguments(arguments),
            // How bytes arrive where IPC falls back to messages.
            InvokeBody::Json(numbers) => Self::of_bytes(bytes(numbers)?, headers),
            InvokeBody::Raw(bytes) => Self::of_bytes(bytes.clone(), headers),
        }
    }

    fn of_arguments(arguments: &'a Value) -> Result<Self> {
        if let Some(unknown) = arguments.as_object().and_then(|given| given.keys().find(|name| !is_argument(name))) {
            return Err(Error::argument(format!(
                "`{unknown}`: is not an argument: those are `kind`, `payload`, `options`"
            )));
        }
        let kind = arguments.get("kind").and_then(Value::as_str);
        let kind = kind.ok_or_else(|| Error::argument("`kind`: give the name of an endpoint"))?;
        let payload = arguments.get("payload").ok_or_else(|| {
            Error::argument("`payload`: give a value that JSON can hold (`undefined` is none; `null` is one)")
        })?;
        let options = match arguments.get("options") {
            None | Some(Value::Null) => EnqueueOptions::default(),
            Some(options) => read(options, "options")?,
        };
        let payload = to_raw_value(payload).map_err(|_| Error::argument("`payload`: JSON cannot hold it"))?;
        Ok(Self { kind: kind.into(), payload: Payload::Json(payload), options })
    }

    fn of_bytes(bytes: Vec<u8>, headers: &'a HeaderMap) -> Result<Self> {
        let kind = decoded(headers, KIND)?
            .ok_or_else(|| Error::argument("the header `x-kind` is missing: give the name of an endpoint"))?;
        let options = match decoded(headers, OPTIONS)? {
            None => EnqueueOptions::default(),
            Some(text) => {
                let options: Value =
                    serde_json::from_str(&text).map_err(|_| Error::argument("the header `x-options` is not JSON"))?;
                read(&options, "options")?
            }
        };
        let content_type = text(headers, CONTENT_TYPE)?.unwrap_or(OCTET_STREAM).to_owned();
        Ok(Self { kind, payload: Payload::Bytes { bytes, content_type }, options })
    }
}

fn is_argument(name: &str) -> bool {
    ["kind", "payload", "options"].contains(&name)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>> {
    let value = headers.get(name).map(|value| value.to_str());
    value.transpose().map_err(|_| Error::argument(format!("the header `{name}` is not ASCII: percent-encode it")))
}

fn decoded<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<Cow<'a, str>>> {
    let decoded = text(headers, name)?.map(|value| percent_decode_str(value).decode_utf8());
    decoded.transpose().map_err(|_| Error::argument(format!("the header `{name}` is not UTF-8 once it is decoded")))
}

fn bytes(numbers: &Value) -> Result<Vec<u8>> {
    let byte = |number: &Value| number.as_u64().and_then(|number| u8::try_from(number).ok());
    let bytes: Option<Vec<u8>> = numbers.as_array().and_then(|numbers| numbers.iter().map(byte).collect());
    bytes.ok_or_else(|| {
        Error::argument("with the header `x-kind` the body is bytes, or a list of numbers from 0 to 255")
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::entry::Queue;

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
            let Payload::Json(json) = Call::read(&body, &none).ok().unwrap().payload else { panic!() };
            let sent: Vec<f64> = serde_json::from_str(json.get()).unwrap();
            assert_eq!(sent[0].to_bits(), number.parse::<f64>().unwrap().to_bits(), "{number} became {}", json.get());
        }
    }

    #[test]
    fn null_is_a_payload_and_nothing_is_none() {
        let none = headers(&[]);
        let body = InvokeBody::Json(json!({ "kind": "form", "payload": null, "options": null }));
        let call = Call::read(&body, &none).ok().unwrap();
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
            let call = Call::read(&body, &headers).ok().unwrap();
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
            let error = Call::read(body, &headers).err().unwrap();
            let text = error.to_string();
            assert!(error.code() == "invalid_argument" && text.contains(named), "{text}");
            assert!(!text.contains("s3cret"), "{text}");
        }
    }
}
