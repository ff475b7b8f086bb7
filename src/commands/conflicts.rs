//! What meets a newer write on the server, and what is known of it beforehand.

use serde::Deserialize;
use tauri::{
    Runtime, State, Webview,
    ipc::{CommandScope, Request},
};
use uuid::Uuid;

use super::{
    arguments::arguments,
    limit::WindowLimits,
    scope::{self, KindScope, MayEnqueue},
};
use crate::{
    entry::{Entry, Known},
    error::Result,
    handle::StorageSync,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Observed {
    kind: String,
    key: String,
    known: Known,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Read {
    ids: Vec<Uuid>,
}

#[tauri::command]
pub(crate) async fn observe<R: Runtime>(
    webview: Webview<R>,
    limits: State<'_, WindowLimits>,
    sync: State<'_, StorageSync>,
    request: Request<'_>,
    scope: CommandScope<KindScope>,
) -> Result<()> {
    let Observed { kind, key, known } = arguments(&request)?;
    scope::check(&scope, &kind)?;
    // What is said of a thing changes what is sent of it.
    if let Some(may_enqueue) = MayEnqueue::of(&webview)? {
        may_enqueue.check(&kind)?;
    }
    // What is known of a thing is on the disk for longer than its entries are.
    limits.take(webview.label(), 1, size(&key, &known))?;
    sync.observe(&kind, &key, known).await
}

/// Bytes that are kept of it.
fn size(key: &str, known: &Known) -> usize {
    let text = |value: &Option<String>| value.as_ref().map_or(0, String::len);
    key.len() + text(&known.canonical_id) + text(&known.etag)
}

#[tauri::command]
pub(crate) async fn conflicts(sync: State<'_, StorageSync>) -> Result<Vec<Entry>> {
    sync.conflicts().await
}

#[tauri::command]
pub(crate) async fn conflicts_read(sync: State<'_, StorageSync>, request: Request<'_>) -> Result<()> {
    let Read { ids } = arguments(&request)?;
    sync.conflicts_read(&ids).await
}
