//! What is in the queue.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tauri::{
    Runtime, State, Webview,
    ipc::{Request, Response},
};
use uuid::Uuid;

use super::{
    arguments::{arguments, milliseconds},
    pages::Pages,
};
use crate::{
    entry::{Entry, Status},
    error::{Error, Result},
    handle::StorageSync,
    outbox::{FileInfo, Payload, Query},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct One {
    id: Uuid,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Many {
    query: Option<Query>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Delivered {
    id: Uuid,
    timeout_ms: Option<u64>,
}

#[tauri::command]
pub(crate) async fn status(sync: State<'_, StorageSync>) -> Result<Status> {
    sync.status().await
}

#[tauri::command]
pub(crate) async fn list(sync: State<'_, StorageSync>, request: Request<'_>) -> Result<Vec<Entry>> {
    let Many { query } = arguments(&request)?;
    sync.list(query.unwrap_or_default()).await
}

#[tauri::command]
pub(crate) async fn get(sync: State<'_, StorageSync>, request: Request<'_>) -> Result<Entry> {
    let One { id } = arguments(&request)?;
    sync.get(id).await
}

#[tauri::command]
pub(crate) async fn delivered<R: Runtime>(
    webview: Webview<R>,
    pages: State<'_, Pages>,
    sync: State<'_, StorageSync>,
    request: Request<'_>,
) -> Result<Entry> {
    let Delivered { id, timeout_ms } = arguments(&request)?;
    pages.wait(webview.label(), sync.delivered(id, milliseconds(timeout_ms))).await
}

#[tauri::command]
pub(crate) async fn payload(sync: State<'_, StorageSync>, request: Request<'_>) -> Result<Response> {
    let One { id } = arguments(&request)?;
    answer(sync.payload(id).await?)
}

#[tauri::command]
pub(crate) async fn file(sync: State<'_, StorageSync>, request: Request<'_>) -> Result<FileInfo> {
    let One { id } = arguments(&request)?;
    sync.file(id).await
}

/// JSON as `{ contentType, json }`. Bytes as a body of their own: the length of a header (4 bytes, big endian), the header
/// `{ contentType }`, the bytes.
fn answer(payload: Payload) -> Result<Response> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Header<'a> {
        content_type: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        json: Option<&'a RawValue>,
    }
    // Text and text that is JSON already: writing them cannot fail.
    let unwritable = |error: serde_json::Error| Error::argument(error.to_string());
    match payload {
        Payload::Json(json) => {
            let header = Header { content_type: "application/json", json: Some(&json) };
            Ok(Response::new(serde_json::to_string(&header).map_err(unwritable)?))
        }
        Payload::Bytes { bytes, content_type } => {
            let header = serde_json::to_vec(&Header { content_type: &content_type, json: None }).map_err(unwritable)?;
            let length = u32::try_from(header.len()).map_err(|_| Error::argument("the media type is too long"))?;
            Ok(Response::new([&length.to_be_bytes(), header.as_slice(), bytes.as_slice()].concat()))
        }
    }
}

#[cfg(test)]
mod tests {
    use tauri::ipc::{InvokeResponseBody, IpcResponse as _};

    use super::*;

    #[test]
    fn json_is_answered_as_the_text_that_was_enqueued() {
        let json = RawValue::from_string(r#"{ "b": 1.0e2, "a": 0.1 }"#.into()).unwrap();
        let InvokeResponseBody::Json(text) = answer(Payload::Json(json)).unwrap().body().unwrap() else { panic!() };
        assert_eq!(text, r#"{"contentType":"application/json","json":{ "b": 1.0e2, "a": 0.1 }}"#);
    }

    #[test]
    fn bytes_are_answered_behind_a_header() {
        let payload = Payload::Bytes { bytes: vec![0, 255], content_type: "image/png".into() };
        let InvokeResponseBody::Raw(body) = answer(payload).unwrap().body().unwrap() else { panic!() };
        let (length, rest) = body.split_at(4);
        let (header, bytes) = rest.split_at(usize::try_from(u32::from_be_bytes(length.try_into().unwrap())).unwrap());
        assert_eq!((header, bytes), (br#"{"contentType":"image/png"}"#.as_slice(), [0, 255].as_slice()));
    }
}
