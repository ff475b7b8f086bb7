//! The example app: a form whose draft is saved as one types, and a look at the queue behind it.
//!
//! | environment variable | meaning |
//! | --- | --- |
//! | `STORAGE_SYNC_EXAMPLE_BACKEND` | base URL of the demonstration server; `http://127.0.0.1:8787` if absent |
//! | `STORAGE_SYNC_EXAMPLE_DATA` | folder for the queue; the plugin's own folder in the app's data folder if absent |
//! | `STORAGE_SYNC_EXAMPLE_KEEP_ALIVE` | if set to anything but `tray`: closing the last window does not end the app, and delivery goes on; `tray`: the same, with a tray icon to come back by |
//! | `RUST_LOG` | what is logged; `info` if absent |
#![forbid(unsafe_code)]

mod tray;

use std::{env, path::PathBuf};

use tauri::{AppHandle, Builder, Manager, RunEvent, State, generate_context, generate_handler};
use tracing_subscriber::EnvFilter;

const BACKEND: &str = "http://127.0.0.1:8787";

/// Where the demonstration server is, for the page's switches.
struct Backend(String);

#[tauri::command]
fn backend(backend: State<'_, Backend>) -> String {
    backend.0.clone()
}

/// A folder that `roots` of the configuration allow, made if it is not there: what is put into it uploads itself once it is watched.
#[tauri::command]
async fn inbox(app: AppHandle) -> Result<PathBuf, String> {
    let made = app.path().app_data_dir().map_err(|error| error.to_string())?.join("inbox");
    std::fs::create_dir_all(&made).map_err(|error| error.to_string())?;
    Ok(made)
}

/// What happens when the last window closes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Closing {
    Ends,
    GoesOn,
    GoesToTheTray,
}

impl Closing {
    fn from_env() -> Self {
        match env::var("STORAGE_SYNC_EXAMPLE_KEEP_ALIVE").as_deref() {
            Ok("tray") => Self::GoesToTheTray,
            Ok("" | "0") | Err(_) => Self::Ends,
            Ok(_) => Self::GoesOn,
        }
    }
}

/// Runs the app until its user ends it.
pub fn run() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();

    let url = env::var("STORAGE_SYNC_EXAMPLE_BACKEND").unwrap_or_else(|_| BACKEND.to_owned());
    let url = url.trim_end_matches('/').to_owned();
    let closing = Closing::from_env();
    let mut storage_sync = tauri_plugin_storage_sync::Builder::new().base_url(&url);
    if let Some(folder) = env::var_os("STORAGE_SYNC_EXAMPLE_DATA") {
        storage_sync = storage_sync.data_dir(folder);
    }
    let app = Builder::default()
        .plugin(storage_sync.build())
        .manage(Backend(url))
        .invoke_handler(generate_handler![backend, inbox])
        .setup(move |app| {
            if closing == Closing::GoesToTheTray {
                tray::show(app.handle())?;
            }
            Ok(())
        })
        .build(generate_context!());
    let app = match app {
        Ok(app) => app,
        Err(error) => {
            // A wrong configuration ends here; its message names the field.
            tracing::error!("the app cannot start: {error}");
            std::process::exit(1);
        }
    };
    app.run(move |_, event| {
        // No code means that the last window was closed, and not that somebody asked for the end.
        if let RunEvent::ExitRequested { api, code: None, .. } = event
            && closing != Closing::Ends
        {
            api.prevent_exit();
        }
    });
}
