//! Payloads as windows send them: a JSON value among the arguments, or bytes as the body with the arguments in headers.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use serde_json::{Value, value::to_raw_value};
use tauri::{http::HeaderMap, ipc::InvokeBody};

use super::arguments::{LONGEST_NAME, shown};
use crate::{
    error::{Error, Result},
    outbox::{OCTET_STREAM, Payload},
};

/// The media type of the bytes.
const CONTENT_TYPE: &str = "x-content-type";

/// The bytes of a call that has this header; they come as a list of numbers where IPC falls back to messages.
pub(super) fn bytes<'b>(body: &'b InvokeBody, headers: &HeaderMap, header: &str) -> Result<Option<Cow<'b, [u8]>>> {
    match body {
        InvokeBody::Json(_) if !headers.contains_key(header) => Ok(None),
        InvokeBody::Json(given) => numbers(given).map(|bytes| Some(bytes.into())).ok_or_else(|| {
            Error::argument(format!("with the header `{header}` the body is bytes, or a list of numbers from 0 to 255"))
        }),
        InvokeBody::Raw(bytes) => Ok(Some(bytes.into())),
    }
}

/// Bytes, written as numbers.
pub(super) fn numbers(given: &Value) -> Option<Vec<u8>> {
    let byte = |number: &Value| number.as_u64().and_then(|number| u8::try_from(number).ok());
    given.as_array().and_then(|numbers| numbers.iter().map(byte).collect())
}

/// Bytes of the media type that the header names.
pub(super) fn payload(bytes: Cow<'_, [u8]>, headers: &HeaderMap) -> Result<Payload> {
    Ok(Payload::bytes(bytes.into_owned(), text(headers, CONTENT_TYPE)?.unwrap_or(OCTET_STREAM)))
}

/// A payload among the arguments.
pub(super) fn json(arguments: &Value) -> Result<Payload> {
    let payload = arguments.get("payload").ok_or_else(|| {
        Error::argument("`payload`: give a value that JSON can hold (`undefined` is none; `null` is one)")
    })?;
    to_raw_value(payload).map(Payload::Json).map_err(|_| Error::argument("`payload`: JSON cannot hold it"))
}

/// Refuses what is no argument of this command.
pub(super) fn only(arguments: &Value, known: &[&str]) -> Result<()> {
    let unknown = arguments.as_object().and_then(|given| given.keys().find(|name| !known.contains(&name.as_str())));
    let Some(unknown) = unknown else { return Ok(()) };
    let (unknown, known) = (shown(unknown, LONGEST_NAME), known.join("`, `"));
    Err(Error::argument(format!("`{unknown}`: is not an argument: those are `{known}`")))
}

/// A header, percent-decoded.
pub(super) fn decoded<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<Cow<'a, str>>> {
    let decoded = text(headers, name)?.map(|value| percent_decode_str(value).decode_utf8());
    decoded.transpose().map_err(|_| Error::argument(format!("the header `{name}` is not UTF-8 once it is decoded")))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>> {
    let value = headers.get(name).map(|value| value.to_str());
    value.transpose().map_err(|_| Error::argument(format!("the header `{name}` is not ASCII: percent-encode it")))
}
