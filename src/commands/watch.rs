//! Folders whose files upload themselves.

use serde::Deserialize;
use tauri::{
    State,
    ipc::{CommandScope, Request},
};
use uuid::Uuid;

use super::{
    arguments::arguments,
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
pub(crate) async fn watch(
    sync: State<'_, StorageSync>,
    request: Request<'_>,
    scope: CommandScope<KindScope>,
) -> Result<Watch> {
    let Asked { dir, options } = arguments(&request)?;
    scope::check(&scope, &options.kind)?;
    sync.watch(dir, options).await
}

#[tauri::command]
pub(crate) async fn unwatch(sync: State<'_, StorageSync>, request: Request<'_>) -> Result<()> {
    let Named { id } = arguments(&request)?;
    sync.unwatch(id).await
}

#[tauri::command]
pub(crate) async fn watches(sync: State<'_, StorageSync>) -> Result<Vec<Watch>> {
    sync.watches().await
}
