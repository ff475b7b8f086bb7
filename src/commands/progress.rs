//! `progress`: how far uploads are, told through a channel.

use serde::Deserialize;
use tauri::{
    Runtime, State, Webview, async_runtime,
    ipc::{Channel, JavaScriptChannelId, Request},
};
use uuid::Uuid;

use super::{arguments::arguments, pages::Pages};
use crate::{
    entry::UploadProgress,
    error::{Error, Result},
    handle::StorageSync,
};

/// What is asked: to be told, or to be told no more.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    #[serde(default)]
    channel: Option<String>,
    /// Of that entry only.
    #[serde(default)]
    id: Option<Uuid>,
    /// The number that was answered.
    #[serde(default)]
    stop: Option<u32>,
}

/// Answers a number, by which it is stopped.
#[tauri::command]
pub(crate) async fn progress<R: Runtime>(
    webview: Webview<R>,
    sync: State<'_, StorageSync>,
    pages: State<'_, Pages>,
    request: Request<'_>,
) -> Result<Option<u32>> {
    let page = webview.label().to_owned();
    match arguments(&request)? {
        Asked { stop: Some(number), channel: None, id: None } => {
            pages.unwatch(&page, number);
            Ok(None)
        }
        Asked { channel: Some(channel), id, stop: None } => {
            let channel: JavaScriptChannelId =
                channel.parse().map_err(|_| Error::argument("`channel`: give a channel of tauri's"))?;
            let mut receiver = sync.progress().await?;
            let channel: Channel<Vec<UploadProgress>> = channel.channel_on(webview);
            let tell = async move {
                while let Some(mut news) = receiver.next().await {
                    news.retain(|upload| id.is_none_or(|id| upload.id == id));
                    // A page that cannot be told is gone.
                    if !news.is_empty() && channel.send(news).is_err() {
                        return;
                    }
                }
            };
            pages.watch(&page, || async_runtime::spawn(tell)).map(Some)
        }
        _ => Err(Error::argument("`channel`: give one to be told, or give `stop`")),
    }
}
