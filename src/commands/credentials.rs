//! Who is signed in, and with what: permissions of their own, in no set.

use std::collections::BTreeMap;

use serde::Deserialize;
use tauri::{Runtime, State, Webview, ipc::Request};

use super::{
    arguments::{arguments, milliseconds},
    limit::WindowLimits,
};
use crate::{
    error::Result,
    handle::StorageSync,
    outbox::{Leftover, SignedOut},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    origin: Option<String>,
    headers: BTreeMap<String, String>,
    account: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Account {
    account: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SignOut {
    pending: Option<Leftover>,
    timeout_ms: Option<u64>,
}

#[tauri::command]
pub(crate) async fn set_credentials<R: Runtime>(
    webview: Webview<R>,
    limits: State<'_, WindowLimits>,
    sync: State<'_, StorageSync>,
    request: Request<'_>,
) -> Result<()> {
    let Given { origin, headers, account } = arguments(&request)?;
    limits.take(webview.label(), 1, 0)?;
    sync.set_credentials(origin.as_deref(), headers.into_iter().collect(), account.as_deref()).await
}

#[tauri::command]
pub(crate) async fn set_account(sync: State<'_, StorageSync>, request: Request<'_>) -> Result<()> {
    let Account { account } = arguments(&request)?;
    sync.set_account(&account).await
}

#[tauri::command]
pub(crate) async fn sign_out(sync: State<'_, StorageSync>, request: Request<'_>) -> Result<SignedOut> {
    let SignOut { pending, timeout_ms } = arguments(&request)?;
    sync.sign_out(pending.unwrap_or_default(), milliseconds(timeout_ms)).await
}
