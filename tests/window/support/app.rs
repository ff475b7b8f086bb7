//! The example app in a real window, driven through WebDriver as a user would.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use fantoccini::wd::{Capabilities, TimeoutConfiguration};
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{PATIENCE, desktop, free_ports, processes, program, wait_for};

/// What stays when the app is killed: its data folder and its surroundings.
pub struct Installation {
    data: TempDir,
    backend: String,
    keep_alive: bool,
}

impl Installation {
    /// An app that was never started, whose backend is, or will be, at `backend`.
    pub fn new(backend: &str) -> Installation {
        Installation {
            data: tempfile::tempdir().expect("a temporary folder can be made"),
            backend: backend.to_owned(),
            keep_alive: false,
        }
    }

    /// Where its data is; the app's own folder is in it.
    pub fn data(&self) -> &Path {
        self.data.path()
    }

    /// The app stays when its last window closes, as one with a tray icon does.
    pub fn keeps_alive(mut self) -> Installation {
        self.keep_alive = true;
        self
    }

    /// The folder that the app suggests to watch. It is there once the app has been.
    pub fn inbox(&self) -> PathBuf {
        self.data.path().join("dev.storage-sync.example/inbox")
    }

    /// Starts the app behind a WebDriver of its own and waits until its page is there.
    pub async fn start(&self) -> App {
        let [port, native] = free_ports();
        let mut command = Command::new("tauri-driver");
        command.args(["--port", &port.to_string()]).args(["--native-port", &native.to_string()]).stdout(Stdio::null());
        self.surround(&mut command);
        let driver = Driver(command.spawn().expect("tauri-driver starts"));

        let binary = program("storage-sync-example");
        let client = connect(port, &binary).await;
        let patience = TimeoutConfiguration::new(Some(PATIENCE), None, None);
        client.update_timeouts(patience).await.expect("the driver takes another timeout of scripts");
        let pid = wait_for("the app's process", async || {
            processes::descendants(driver.0.id())
                .into_iter()
                .find(|pid| processes::runs(*pid, &binary))
                .ok_or_else(|| "the driver has no such child".to_owned())
        })
        .await;
        let app = App { client, pid, _driver: driver };
        app.wait_until_loaded().await;
        app
    }

    fn surround(&self, command: &mut Command) {
        command
            .env("XDG_DATA_HOME", self.data.path())
            .env("STORAGE_SYNC_EXAMPLE_BACKEND", &self.backend)
            .env("RUST_LOG", "warn");
        if self.keep_alive {
            command.env("STORAGE_SYNC_EXAMPLE_KEEP_ALIVE", "1");
        }
    }
}

/// A WebDriver session with the app as its browser. The driver may need a moment to listen, hence the looks.
async fn connect(port: u16, binary: &PathBuf) -> Client {
    let mut capabilities = Capabilities::new();
    capabilities.insert("tauri:options".into(), json!({ "application": binary }));
    let url = format!("http://127.0.0.1:{port}");
    wait_for("a WebDriver session", async || {
        ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities.clone())
            .connect(&url)
            .await
            .map_err(|error| error.to_string())
    })
    .await
}

/// `tauri-driver` with everything below it. It leaves its children behind when it ends, so they go by their own ids.
struct Driver(Child);

impl Drop for Driver {
    fn drop(&mut self) {
        for pid in processes::descendants(self.0.id()) {
            processes::kill_9(pid);
        }
        processes::kill_9(self.0.id());
        let _ = self.0.wait();
    }
}

/// The running app. Dropping it kills it.
pub struct App {
    client: Client,
    pid: u32,
    _driver: Driver,
}

impl App {
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// `kill -9`: no exit hook, no flush, nothing.
    pub fn kill_9(self) {
        processes::kill_9(self.pid);
    }

    /// What the element shows, or an error when it is not there.
    pub async fn text(&self, id: &str) -> Result<String, String> {
        let element = self.client.find(Locator::Css(&by_id(id))).await;
        let text = match element {
            Ok(element) => element.text().await,
            Err(error) => Err(error),
        };
        text.map_err(|error| format!("{id}: {error}"))
    }

    /// Waits until the element shows exactly `text`.
    pub async fn shows(&self, id: &str, text: &str) {
        wait_for(&format!("{id} to show {text:?}"), async || {
            let now = self.text(id).await?;
            (now == text).then_some(()).ok_or_else(|| format!("it shows {now:?}"))
        })
        .await;
    }

    /// Waits until what the element shows passes `is`, and answers it.
    pub async fn shows_what(&self, id: &str, is: impl Fn(&str) -> bool) -> String {
        wait_for(&format!("{id} to show something else"), async || {
            let now = self.text(id).await?;
            if is(&now) { Ok(now) } else { Err(format!("it shows {now:?}")) }
        })
        .await
    }

    /// Types into an element, key by key.
    pub async fn type_into(&self, id: &str, text: &str) {
        let element =
            self.client.find(Locator::Css(&by_id(id))).await.unwrap_or_else(|error| panic!("no element {id}: {error}"));
        element.send_keys(text).await.unwrap_or_else(|error| panic!("{id} takes no keys: {error}"));
    }

    pub async fn click(&self, id: &str) {
        let element =
            self.client.find(Locator::Css(&by_id(id))).await.unwrap_or_else(|error| panic!("no element {id}: {error}"));
        element.click().await.unwrap_or_else(|error| panic!("{id} cannot be clicked: {error}"));
    }

    /// `invoke` by hand, as a page without the npm package would: `Err` holds what the command rejected with.
    pub async fn invoke(&self, command: &str, arguments: Value) -> Result<Value, Value> {
        self.settle(
            "window.__TAURI_INTERNALS__.invoke(arguments[0], arguments[1])",
            vec![json!(format!("plugin:storage-sync|{command}")), arguments],
        )
        .await
    }

    /// `invoke` by hand with raw bytes as the body and the rest in headers.
    pub async fn invoke_bytes(&self, command: &str, bytes: &[u8], headers: Value) -> Result<Value, Value> {
        self.settle(
            "window.__TAURI_INTERNALS__.invoke(arguments[0], new Uint8Array(arguments[1]), { headers: arguments[2] })",
            vec![json!(format!("plugin:storage-sync|{command}")), json!(bytes), headers],
        )
        .await
    }

    /// Runs a script in the page, and answers what it returns.
    pub async fn run(&self, script: &str, arguments: Vec<Value>) -> Value {
        self.client.execute(script, arguments).await.unwrap_or_else(|error| panic!("the script fails: {error}"))
    }

    /// Loads the page anew, as the user does with a key. The app goes on beneath it.
    pub async fn reload(&self) {
        self.run("window.isOld = true", vec![]).await;
        self.client.refresh().await.expect("the page can be loaded anew");
        wait_for("the page to be another one", async || {
            let old = self.client.execute("return window.isOld === true", vec![]).await;
            let old = old.map_err(|error| error.to_string())?;
            (old == false).then_some(()).ok_or_else(|| "it is the old one".to_owned())
        })
        .await;
        self.wait_until_loaded().await;
    }

    /// Scrolls an element into sight and waits until it is painted there, for a picture.
    pub async fn show(&self, id: &str) {
        let shown = "new Promise(done => {
            document.querySelector(arguments[0]).scrollIntoView({ block: 'center' })
            requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done)))
        })";
        self.settle(shown, vec![json!(by_id(id))]).await.expect("it is on the page");
    }

    /// The whole screen with the app on it.
    pub fn picture(&self, name: &str) {
        desktop::picture(name);
    }

    /// Runs a script that makes a promise and answers how it settled.
    async fn settle(&self, promise: &str, arguments: Vec<Value>) -> Result<Value, Value> {
        let script = format!(
            "const done = arguments[arguments.length - 1];
             {promise}.then(value => done({{ value }}), error => done({{ error }}));"
        );
        let answer = self.client.execute_async(&script, arguments).await.expect("the page runs scripts");
        match answer.get("error") {
            Some(error) => Err(error.clone()),
            None => Ok(answer.get("value").cloned().unwrap_or(Value::Null)),
        }
    }

    async fn wait_until_loaded(&self) {
        wait_for("the page", async || {
            let state = self
                .client
                .execute("return document.readyState + ' ' + location.href", vec![])
                .await
                .map_err(|error| error.to_string())?;
            let state = state.as_str().unwrap_or_default().to_owned();
            (state.starts_with("complete tauri://")).then_some(()).ok_or(state)
        })
        .await;
    }
}

impl Drop for App {
    fn drop(&mut self) {
        if std::thread::panicking() {
            picture_of_failure();
        }
    }
}

fn by_id(id: &str) -> String {
    format!("[data-testid=\"{id}\"]")
}

fn picture_of_failure() {
    let test = std::thread::current().name().unwrap_or("unnamed").replace("::", "-");
    desktop::picture(&format!("failed-{test}"));
}
