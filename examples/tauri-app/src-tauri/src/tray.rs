//! A tray icon for an app that goes on delivering without a window.

use std::time::Duration;

use tauri::{
    AppHandle, Manager, Result, WebviewWindowBuilder,
    menu::{MenuBuilder, MenuEvent},
    tray::TrayIconBuilder,
};
use tauri_plugin_storage_sync::StorageSyncExt;

/// How long somebody who quits is kept waiting for the last deliveries.
const PATIENCE: Duration = Duration::from_secs(3);

pub(crate) fn show(app: &AppHandle) -> Result<()> {
    let menu =
        MenuBuilder::new(app).text("open", "Open").text("send", "Send now").separator().text("quit", "Quit").build()?;
    let mut tray = TrayIconBuilder::new().menu(&menu).tooltip("Listings").on_menu_event(chosen);
    if let Some(icon) = app.default_window_icon() {
        tray = tray.icon(icon.clone());
    }
    tray.build(app)?;
    Ok(())
}

fn chosen(app: &AppHandle, event: MenuEvent) {
    match event.id().as_ref() {
        "open" => open(app.clone()),
        "send" => flush(app, false),
        "quit" => flush(app, true),
        _ => {}
    }
}

/// Brings the window to the front, or back if it was closed.
fn open(app: AppHandle) {
    // A thread of its own: on Windows, making a window inside an event handler hangs.
    std::thread::spawn(move || {
        let shown = match (app.get_webview_window("main"), app.config().app.windows.first()) {
            (Some(window), _) => window.show().and_then(|()| window.set_focus()),
            (None, Some(config)) => {
                WebviewWindowBuilder::from_config(&app, config).and_then(|window| window.build()).map(drop)
            }
            (None, None) => Ok(()),
        };
        if let Err(error) = shown {
            tracing::warn!("the window cannot be opened: {error}");
        }
    });
}

/// Sends what can be sent now. What is left is safe: the next start goes on with it.
fn flush(app: &AppHandle, and_quit: bool) {
    let app = app.clone();
    tauri::async_runtime::spawn(async move {
        match app.storage_sync().flush(Some(PATIENCE)).await {
            Ok(flushed) => tracing::info!(?flushed, "flushed"),
            Err(error) => tracing::warn!("not flushed: {error}"),
        }
        if and_quit {
            app.exit(0);
        }
    });
}
