//! The master key.

use serde::Deserialize;
use tauri::{State, ipc::Request};

use super::arguments::arguments;
use crate::{
    error::Result,
    handle::StorageSync,
    outbox::{Reset, Rotated},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ResetEncryptedData {
    confirm: String,
}

#[tauri::command]
pub(crate) async fn rotate_key(sync: State<'_, StorageSync>) -> Result<Rotated> {
    sync.rotate_key().await
}

#[tauri::command]
pub(crate) async fn reset_encrypted_data(sync: State<'_, StorageSync>, request: Request<'_>) -> Result<Reset> {
    let ResetEncryptedData { confirm } = arguments(&request)?;
    sync.reset_encrypted_data(&confirm).await
}
