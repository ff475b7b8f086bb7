//! Decisions about entries and about delivery.

use serde::Deserialize;
use tauri::{State, ipc::Request};
use uuid::Uuid;

use super::arguments::{arguments, milliseconds};
use crate::{
    error::Result,
    handle::StorageSync,
    outbox::{Discarded, Flushed, Selection},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Retry {
    which: Selection,
    force: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Discard {
    which: Selection,
    cascade: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Flush {
    timeout_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pause {
    id: Option<Uuid>,
}

#[tauri::command]
pub(crate) async fn retry(sync: State<'_, StorageSync>, request: Request<'_>) -> Result<Vec<Uuid>> {
    let Retry { which, force } = arguments(&request)?;
    sync.retry(which, force.unwrap_or(false)).await
}

#[tauri::command]
pub(crate) async fn discard(sync: State<'_, StorageSync>, request: Request<'_>) -> Result<Discarded> {
    let Discard { which, cascade } = arguments(&request)?;
    sync.discard(which, cascade.unwrap_or(false)).await
}

#[tauri::command]
pub(crate) async fn flush(sync: State<'_, StorageSync>, request: Request<'_>) -> Result<Flushed> {
    let Flush { timeout_ms } = arguments(&request)?;
    sync.flush(milliseconds(timeout_ms)).await
}

#[tauri::command]
pub(crate) async fn pause(sync: State<'_, StorageSync>, request: Request<'_>) -> Result<()> {
    match arguments(&request)? {
        Pause { id: Some(id) } => sync.pause_entry(id).await,
        Pause { id: None } => sync.pause().await,
    }
}

#[tauri::command]
pub(crate) async fn resume(sync: State<'_, StorageSync>, request: Request<'_>) -> Result<()> {
    match arguments(&request)? {
        Pause { id: Some(id) } => sync.resume_entry(id).await,
        Pause { id: None } => sync.resume().await,
    }
}
