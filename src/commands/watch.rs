//! Folders whose files upload themselves.

use serde::Deserialize;
use tauri::{
    Runtime, State, Webview,
    ipc::{CommandScope, Request},
};
use uuid::Uuid;

use super::{
    arguments::arguments,
    limit::WindowLimits,
    scope::{self, KindScope},
};
use crate::{
    error::Result,
    handle::StorageSync,
    outbox::{Watch, WatchOptions},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    dir: String,
    options: WatchOptions,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    id: Uuid,
}

#[tauri::command]
pub(crate) async fn watch<R: Runtime>(
    webview: Webview<R>,
    limits: State<'_, WindowLimits>,
    sync: State<'_, StorageSync>,
    request: Request<'_>,
    scope: CommandScope<KindScope>,
) -> Result<Watch> {
    let Asked { dir, options } = arguments(&request)?;
    scope::check(&scope, &options.kind)?;
    limits.take(webview.label(), 1, 0)?;
    sync.watch(dir, options).await
}

#[tauri::command]
pub(crate) async fn unwatch<R: Runtime>(
    webview: Webview<R>,
    limits: State<'_, WindowLimits>,
    sync: State<'_, StorageSync>,
    request: Request<'_>,
) -> Result<()> {
    let Named { id } = arguments(&request)?;
    limits.take(webview.label(), 1, 0)?;
    sync.unwatch(id).await
}

#[tauri::command]
pub(crate) async fn watches(sync: State<'_, StorageSync>) -> Result<Vec<Watch>> {
    sync.watches().await
}
