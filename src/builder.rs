//! Assembles the plugin, from the configuration and from what the app's author gives in Rust.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    sync::mpsc,
    time::Duration,
};

use serde::Serialize;
use tauri::{
    AppHandle, DragDropEvent, Emitter as _, Manager as _, RunEvent, Runtime, WebviewEvent, WindowEvent, async_runtime,
    path::BaseDirectory,
    plugin::{self, TauriPlugin},
    webview::PageLoadEvent,
};

use crate::{
    clock::{Clock, Random, SystemClock, SystemRandom},
    commands::{self, Pages, WindowLimits},
    config::{Config, Endpoint, Limits, Migrations, Settings},
    entry::Counts,
    error::{Error, Result},
    events::Event,
    handle::{Blueprint, StorageSync},
    keychain::{self, KeySource},
    roots::{self, Bases, Roots},
    transport::{
        Transport,
        credentials::{AuthProvider, Credentials},
    },
};

/// The plugin's identifier.
const NAME: &str = "storage-sync";
/// What windows hear when the status changed.
const STATUS: &str = "storage-sync://status";
/// What windows hear when the state of an entry changed.
const ENTRY: &str = "storage-sync://entry";
/// What windows hear when a server wants other credentials.
const AUTH: &str = "storage-sync://auth";
/// How long the app's exit may be held up. What is not done by then is found at the next start, as after a crash.
const EXIT: Duration = Duration::from_secs(2);

/// Makes the plugin with more than `tauri.conf.json` says.
///
/// ```
/// use tauri_plugin_storage_sync::{Builder, Endpoint};
///
/// # fn app<R: tauri::Runtime>(builder: tauri::Builder<R>) -> tauri::Builder<R> {
/// // `builder` is `tauri::Builder::default()`
/// builder.plugin(
///     Builder::new()
///         .base_url("https://api.example.com")
///         .endpoint(Endpoint::new("form", "PUT", "/listings/{key}"))
///         .build(),
/// )
/// # }
/// ```
#[derive(Default)]
pub struct Builder {
    config: Option<Config>,
    base_url: Option<String>,
    endpoints: Vec<Endpoint>,
    migrations: Migrations,
    transport: Option<Arc<dyn Transport>>,
    key_source: Option<Arc<dyn KeySource>>,
    auth: Option<Arc<dyn AuthProvider>>,
    allowed: Vec<PathBuf>,
    data_dir: Option<PathBuf>,
    clock: Option<Arc<dyn Clock>>,
    random: Option<Arc<dyn Random>>,
}

impl Builder {
    /// A builder with nothing set: its plugin is that of [`init`](crate::init).
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes this configuration in place of `plugins.storage-sync` of `tauri.conf.json`, which is then ignored. If not specified: that one.
    pub fn config(mut self, config: Config) -> Self {
        self.config = Some(config);
        self
    }

    /// What URLs that begin with `/` are appended to. If not specified: `baseUrl` of the configuration; without that, such endpoints
    /// wait for [`StorageSync::set_base_url`].
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.base_url = Some(url.into());
        self
    }

    /// Adds an endpoint to those of the configuration; may be called again. One that is there already stops the app at start.
    pub fn endpoint(mut self, endpoint: Endpoint) -> Self {
        self.endpoints.push(endpoint);
        self
    }

    /// Says how a payload of that kind, enqueued when the endpoint had `payloadVersion` `from`, becomes one of the version after it. May
    /// be called again, for every kind and every version that installed apps may still have in their queues; the steps are taken in a row.
    ///
    /// Asked when an entry that was never sent is to be sent: what may have been sent goes as it is. As long as a step is missing or
    /// fails, the entry waits for `endpoint`, and an update of the app that has the step delivers it. Bytes have no versions.
    ///
    /// A kind that is no endpoint, and a version that its `payloadVersion` is not above, stop the app at start.
    ///
    /// ```
    /// use tauri_plugin_storage_sync::{Builder, Endpoint};
    /// use serde_json::json;
    ///
    /// let builder = Builder::new()
    ///     .endpoint(Endpoint::new("form", "PUT", "/listings/{key}").payload_version(1))
    ///     // Version 0 had the price as a number of euros.
    ///     .migrate("form", 0, |mut form| {
    ///         let euros = form["price"].as_f64().ok_or("no price")?;
    ///         form["price"] = json!({ "amount": euros, "currency": "EUR" });
    ///         Ok(form)
    ///     });
    /// ```
    pub fn migrate<F>(mut self, kind: impl AsRef<str>, from: u32, step: F) -> Self
    where
        F: Fn(serde_json::Value) -> Result<serde_json::Value, String> + Send + Sync + 'static,
    {
        self.migrations.add(kind.as_ref(), from, step);
        self
    }

    /// Delivers by other means. If not specified: HTTP.
    pub fn transport(mut self, transport: impl Transport) -> Self {
        self.transport = Some(Arc::new(transport));
        self
    }

    /// Takes the master keys from somewhere else. If not specified: the system's keychain.
    pub fn key_source(mut self, source: impl KeySource) -> Self {
        self.key_source = Some(Arc::new(source));
        self
    }

    /// Asks this for credentials at the moment of sending, so that delivery needs no window. If not specified: only those that
    /// [`StorageSync::set_credentials`] or a window has set.
    pub fn auth(mut self, provider: impl AuthProvider) -> Self {
        self.auth = Some(Arc::new(provider));
        self
    }

    /// Allows windows to name that very file or folder, beside what `roots` of the configuration allows; may be called again. See
    /// [`StorageSync::allow_path`], which does the same later on. A path that is not absolute stops the app at start.
    pub fn allow_path(mut self, path: impl Into<PathBuf>) -> Self {
        self.allowed.push(path.into());
        self
    }

    /// The folder of the queue, made if it is not there. It must be on a local disk. If not specified: `storage-sync` in the app's data folder.
    pub fn data_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(folder.into());
        self
    }

    /// Replaces time, for tests. If not specified: the system's clocks.
    #[doc(hidden)]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Some(Arc::new(clock));
        self
    }

    /// Replaces the randomness of backoffs, for tests. If not specified: the system's.
    #[doc(hidden)]
    pub fn random(mut self, random: impl Random) -> Self {
        self.random = Some(Arc::new(random));
        self
    }

    /// The plugin, for [`tauri::Builder::plugin`].
    pub fn build<R: Runtime>(self) -> TauriPlugin<R, Option<Config>> {
        plugin::Builder::<R, Option<Config>>::new(NAME)
            .invoke_handler(commands::handler())
            .setup(|app, api| {
                let (sync, blueprint, limits) = self.assemble(app, api.config().clone())?;
                let clock = Arc::clone(&blueprint.clock);
                app.manage(sync.clone());
                app.manage(WindowLimits::new(limits, clock));
                app.manage(Pages::default());
                // Never here: the app's window would wait for the disk.
                async_runtime::spawn(sync.run(blueprint, emitter(app.clone())));
                Ok(())
            })
            .on_event(on_event)
            .on_page_load(|webview, load| {
                if load.event() == PageLoadEvent::Started {
                    page_gone(webview.app_handle(), webview.label());
                }
            })
            .build()
    }

    fn assemble<R: Runtime>(
        self,
        app: &AppHandle<R>,
        written: Option<Config>,
    ) -> Result<(StorageSync, Blueprint, Limits)> {
        let mut config = self.config.or(written).unwrap_or_default();
        config.base_url = self.base_url.or(config.base_url);
        let mut settings = Settings::new(config, self.endpoints)?;
        settings.migrations = useful(self.migrations, &settings)?;
        let settings = Arc::new(settings);
        let folder = self.data_dir.or_else(|| app.path().app_data_dir().ok().map(|folder| folder.join(NAME)));
        let key_source = self.key_source.unwrap_or_else(|| {
            // Without a folder the queue is never opened.
            let folder = folder.as_deref().unwrap_or(Path::new(""));
            keychain::system_keychain(&app.config().identifier, folder)
        });
        let roots = Roots::new(&settings.roots, &bases(app), folder.clone())?;
        for path in self.allowed {
            roots.allow(&path).map_err(|error| Error::config("allow_path", error.to_string()))?;
        }
        let blueprint = Blueprint {
            folder,
            key_source,
            transport: self.transport,
            clock: self.clock.unwrap_or_else(|| Arc::new(SystemClock::default())),
            random: self.random.unwrap_or_else(|| Arc::new(SystemRandom)),
        };
        let limits = settings.limits.clone();
        Ok((StorageSync::new(settings, Credentials::new(self.auth), roots), blueprint, limits))
    }
}

/// A step that nothing will ever take is a mistake.
fn useful(migrations: Migrations, settings: &Settings) -> Result<Migrations> {
    for (kind, from) in migrations.starts() {
        let Some(endpoint) = settings.endpoint(kind) else {
            let message =
                format!("is missing, and `Builder::migrate` has a step for its payloads from version {from} on");
            return Err(Error::config(format!("endpoints.{kind}"), message));
        };
        if endpoint.payload_version <= from {
            let message = format!(
                "is {}, so nothing is migrated from version {from} on, as `Builder::migrate` says: write at least {}",
                endpoint.payload_version,
                from.saturating_add(1)
            );
            return Err(Error::config(format!("endpoints.{kind}.payloadVersion"), message));
        }
    }
    Ok(migrations)
}

/// What the variables of `roots` stand for here.
fn bases<R: Runtime>(app: &AppHandle<R>) -> Bases {
    let folder = |name| {
        let base = BaseDirectory::from_variable(name)?;
        Some((name, app.path().resolve("", base).ok()?))
    };
    roots::VARIABLES.into_iter().filter_map(folder).collect()
}

/// What a page hears of the status. Any page that may listen hears it, whatever else it may, and a filter would not keep it from one that
/// listens to whatever there is: so it is counts only. Who has the permission asks `status` for the rest.
#[derive(Clone, Serialize)]
struct Heard {
    seq: u64,
    #[serde(flatten)]
    counts: Counts,
}

/// Tells all windows that listen. A window that cannot be told has other worries.
fn emitter<R: Runtime>(app: AppHandle<R>) -> impl Fn(Event) + Send + 'static {
    move |event| {
        let told = match &event {
            Event::Status(status) => app.emit(STATUS, Heard { seq: status.seq, counts: status.counts }),
            Event::Entry(change) => app.emit(ENTRY, change),
            // Which server it is, the status says.
            Event::Auth(_) => app.emit(AUTH, ()),
        };
        if let Err(error) = told {
            tracing::debug!(%error, "a window could not be told of a change");
        }
    }
}

/// Shares a lock with every command, so it must not wait for anything; but for the exit, which nothing comes after.
pub(crate) fn on_event<R: Runtime>(app: &AppHandle<R>, event: &RunEvent) {
    let Some(sync) = app.try_state::<StorageSync>() else { return };
    match event {
        RunEvent::WindowEvent { event: WindowEvent::Focused(true), .. } => sync.focused(),
        // The second is for a window with more than one page in it.
        RunEvent::WindowEvent { event: WindowEvent::DragDrop(DragDropEvent::Drop { paths, .. }), .. }
        | RunEvent::WebviewEvent { event: WebviewEvent::DragDrop(DragDropEvent::Drop { paths, .. }), .. } => {
            sync.dropped(paths);
        }
        RunEvent::WindowEvent { label, event: WindowEvent::Destroyed, .. } => page_gone(app, label),
        RunEvent::Exit => stop(sync.inner().clone()),
        _ => {}
    }
}

/// What a page had under way ends when another one takes its place.
fn page_gone<R: Runtime>(app: &AppHandle<R>, label: &str) {
    if let Some(pages) = app.try_state::<Pages>() {
        pages.gone(label);
    }
}

/// Waits for the work of another thread, because an app may run inside an async runtime, where blocking on one panics.
fn stop(sync: StorageSync) {
    let (done, wait) = mpsc::channel::<()>();
    async_runtime::spawn(async move {
        sync.stop(EXIT).await;
        drop(done);
    });
    let _ = wait.recv_timeout(EXIT);
}
