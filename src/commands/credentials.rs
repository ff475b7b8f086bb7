//! Credentials from a window, for a configured origin. A permission of its own, in no set.

use std::collections::BTreeMap;

use serde::Deserialize;
use tauri::{State, ipc::Request};

use super::arguments::arguments;
use crate::{error::Result, handle::StorageSync};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    origin: Option<String>,
    headers: BTreeMap<String, String>,
    account: Option<String>,
}

#[tauri::command]
pub(crate) async fn set_credentials(sync: State<'_, StorageSync>, request: Request<'_>) -> Result<()> {
    let Given { origin, headers, account } = arguments(&request)?;
    sync.set_credentials(origin.as_deref(), headers.into_iter().collect(), account.as_deref()).await
}
