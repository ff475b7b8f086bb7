//! The master key.

use tauri::State;

use crate::{error::Result, handle::StorageSync, outbox::Rotated};

#[tauri::command]
pub(crate) async fn rotate_key(sync: State<'_, StorageSync>) -> Result<Rotated> {
    sync.rotate_key().await
}
