//! `enqueue_file`: a file by its path, or handed over by the page in pieces.
//!
//! | body | answer |
//! | --- | --- |
//! | `{ kind, path, options, transfer? }` | the receipt, unless it is given up under that id, which the page has chosen |
//! | `{ kind, bytes, options }` | `{ transfer, piece }`: hand over so many bytes, in pieces of about that size |
//! | bytes, with the headers `x-transfer` and `x-offset` | `{ offset }`: so many have arrived |
//! | `{ transfer }` | the same |
//! | `{ transfer, finish: true }` | the receipt |
//! | `{ transfer, abort: true }` | `null` |
//!
//! One command, so that who may begin may go on, and nobody else.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tauri::{
    Runtime, State, Webview, async_runtime,
    http::HeaderMap,
    ipc::{CommandScope, InvokeBody, Request},
};
use uuid::Uuid;

use super::{
    arguments::read,
    body,
    limit::WindowLimits,
    pages::Pages,
    scope::{self, KindScope},
};
use crate::{
    cipher::Chunks,
    entry::Receipt,
    error::{Error, Result},
    handle::StorageSync,
    outbox::{FileOptions, FileSource},
    roots::Opened,
    transfers,
};

/// The header that says that the body is a piece of a file.
const TRANSFER: &str = "x-transfer";
/// Where in the file the piece begins.
const OFFSET: &str = "x-offset";

/// What is asked.
pub(super) enum Asked {
    Path(OfPath),
    Begin(OfBytes),
    Piece { transfer: Uuid, offset: u64, bytes: Bytes },
    Of(OfTransfer),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OfPath {
    kind: String,
    path: String,
    #[serde(default)]
    options: Option<FileOptions>,
    /// By which the page may give it up.
    #[serde(default)]
    transfer: Option<Uuid>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OfBytes {
    kind: String,
    bytes: u64,
    #[serde(default)]
    options: Option<FileOptions>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OfTransfer {
    transfer: Uuid,
    #[serde(default)]
    finish: bool,
    #[serde(default)]
    abort: bool,
}

/// What is answered.
#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum Answer {
    Entry(Receipt),
    Begun { transfer: Uuid, piece: u64 },
    Stands { offset: u64 },
    Nothing,
}

#[tauri::command]
pub(crate) async fn enqueue_file<R: Runtime>(
    webview: Webview<R>,
    limits: State<'_, WindowLimits>,
    sync: State<'_, StorageSync>,
    pages: State<'_, Pages>,
    request: Request<'_>,
    scope: CommandScope<KindScope>,
) -> Result<Answer> {
    let page = webview.label();
    match asked(request.body(), request.headers())? {
        Asked::Path(OfPath { kind, path, options, transfer }) => {
            scope::check(&scope, &kind)?;
            limits.take(page, 1, 0)?;
            let mut copy = pages.copies.begin(page, transfer)?;
            let opened = open(&sync, path).await?;
            limits.take(page, 0, of_the_queue(opened.mark.bytes))?;
            let receipt = copied(&sync, &kind, opened, options.unwrap_or_default(), copy.given_up()).await?;
            Ok(Answer::Entry(receipt))
        }
        Asked::Begin(OfBytes { kind, bytes, options }) => {
            scope::check(&scope, &kind)?;
            limits.take(page, 1, of_the_queue(bytes))?;
            // Whoever is signed in now: by the time that the file is read it may be somebody else.
            let outbox = sync.outbox().await?;
            let account = outbox.account().await?;
            let transfer = pages.transfers.begin(page, bytes, |pieces| async move {
                let source = FileSource::reader(pieces, Some(bytes));
                outbox.enqueue_file_of(&account, &kind, source, options.unwrap_or_default()).await
            })?;
            Ok(Answer::Begun { transfer, piece: transfers::PIECE })
        }
        Asked::Piece { transfer, offset, bytes } => {
            let offset = pages.transfers.piece(page, transfer, offset, bytes).await?;
            Ok(Answer::Stands { offset })
        }
        Asked::Of(OfTransfer { transfer, finish: true, .. }) => {
            pages.transfers.finish(page, transfer).await.map(Answer::Entry)
        }
        Asked::Of(OfTransfer { transfer, abort: true, .. }) => {
            if !pages.copies.give_up(page, transfer) {
                pages.transfers.abort(page, transfer).await;
            }
            Ok(Answer::Nothing)
        }
        Asked::Of(OfTransfer { transfer, .. }) => {
            let offset = pages.transfers.stands(page, transfer).await?;
            Ok(Answer::Stands { offset })
        }
    }
}

/// How many bytes of a file go into the queue as those of every other payload do. Those of larger ones have a limit of their own,
/// `spoolBytes`.
fn of_the_queue(length: u64) -> usize {
    // It is below 32 bits then.
    if length > u64::from(Chunks::SIZE) { 0 } else { length as usize }
}

async fn open(sync: &StorageSync, path: String) -> Result<Opened> {
    let opening = sync.clone();
    let opened = async_runtime::spawn_blocking(move || opening.open_path(&path)).await;
    opened.map_err(|_| Error::Closed)?
}

async fn copied(
    sync: &StorageSync,
    kind: &str,
    opened: Opened,
    mut options: FileOptions,
    given_up: impl Future<Output = ()> + Send,
) -> Result<Receipt> {
    options.name.get_or_insert(opened.name);
    let outbox = sync.outbox().await?;
    let account = outbox.account().await?;
    outbox.enqueue_file_until(&account, kind, opened.file, options, given_up).await
}

pub(super) fn asked(body: &InvokeBody, headers: &HeaderMap) -> Result<Asked> {
    match (body::bytes(body, headers, TRANSFER)?, body) {
        (Some(bytes), _) => piece(bytes.into_owned().into(), headers),
        (None, InvokeBody::Json(arguments))
            if arguments.get("transfer").is_some() && arguments.get("path").is_none() =>
        {
            of_transfer(arguments)
        }
        (None, InvokeBody::Json(arguments)) if arguments.get("bytes").is_some() => {
            read(arguments, "").map(Asked::Begin)
        }
        (None, InvokeBody::Json(arguments)) => read(arguments, "").map(Asked::Path),
        (None, InvokeBody::Raw(_)) => {
            Err(Error::argument("the header `x-transfer` is missing: begin a transfer first"))
        }
    }
}

fn piece(bytes: Bytes, headers: &HeaderMap) -> Result<Asked> {
    let transfer = body::decoded(headers, TRANSFER)?.and_then(|id| id.parse().ok());
    let offset = body::decoded(headers, OFFSET)?.and_then(|digits| digits.parse().ok());
    match (transfer, offset) {
        (Some(transfer), Some(offset)) => Ok(Asked::Piece { transfer, offset, bytes }),
        (None, _) => Err(Error::argument("the header `x-transfer` is the id of a transfer")),
        (_, None) => Err(Error::argument("the header `x-offset` is a number of bytes")),
    }
}

fn of_transfer(arguments: &Value) -> Result<Asked> {
    let of: OfTransfer = read(arguments, "")?;
    if of.finish && of.abort {
        return Err(Error::argument("`abort`: goes without `finish`"));
    }
    Ok(Asked::Of(of))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn headers(given: &[(&'static str, &str)]) -> HeaderMap {
        given.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn pieces_come_as_they_are_or_as_numbers() {
        let id = Uuid::now_v7();
        let headers = headers(&[("x-transfer", &id.to_string()), ("x-offset", "7")]);
        for body in [InvokeBody::Raw(vec![0, 255]), InvokeBody::Json(json!([0, 255]))] {
            let Asked::Piece { transfer, offset, bytes } = asked(&body, &headers).ok().unwrap() else { panic!() };
            assert_eq!((transfer, offset, bytes.as_ref()), (id, 7, [0, 255].as_slice()));
        }
    }

    #[test]
    fn what_is_refused_is_named_and_not_quoted() {
        let id = Uuid::nil().to_string();
        type Row<'a> = (InvokeBody, &'a [(&'static str, &'a str)], &'a str);
        let table: &[Row<'_>] = &[
            (InvokeBody::Json(json!({})), &[], "kind"),
            (InvokeBody::Json(json!({ "kind": "file" })), &[], "path"),
            (InvokeBody::Json(json!({ "kind": "file", "path": 5 })), &[], "`path`"),
            (InvokeBody::Json(json!({ "kind": "file", "path": "/a", "bytes": 7 })), &[], "path"),
            (InvokeBody::Json(json!({ "kind": "file", "bytes": -1 })), &[], "`bytes`"),
            (InvokeBody::Json(json!({ "kind": "file", "bytes": "s3cret" })), &[], "`bytes`"),
            (InvokeBody::Json(json!({ "kind": "file", "path": "/a", "options": { "nmae": "s3cret" } })), &[], "nmae"),
            (InvokeBody::Json(json!({ "transfer": "s3cret" })), &[], "`transfer`"),
            (InvokeBody::Json(json!({ "transfer": id, "end": true })), &[], "end"),
            (InvokeBody::Json(json!({ "transfer": id, "finish": true, "abort": true })), &[], "`abort`"),
            (InvokeBody::Raw(vec![1]), &[], "`x-transfer`"),
            (InvokeBody::Raw(vec![1]), &[("x-transfer", "s3cret"), ("x-offset", "0")], "`x-transfer`"),
            (InvokeBody::Raw(vec![1]), &[("x-transfer", &id)], "`x-offset`"),
            (InvokeBody::Raw(vec![1]), &[("x-transfer", &id), ("x-offset", "-1")], "`x-offset`"),
            (InvokeBody::Json(json!([256])), &[("x-transfer", &id), ("x-offset", "0")], "numbers"),
        ];
        for (body, given, named) in table {
            let error = asked(body, &headers(given)).err().unwrap();
            let text = error.to_string();
            assert!(error.code() == "invalid_argument" && text.contains(named), "{text}");
            assert!(!text.contains("s3cret"), "{text}");
        }
    }
}
