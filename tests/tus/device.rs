//! A device: everything that an app has of the plugin but for the window. It may live in a process of its own, which is killed.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, mpsc},
    time::Duration,
};

use serde_json::{Value, json};
use tauri_plugin_storage_sync::{
    Entry, FileOptions, State,
    testing::{
        board::Board,
        clock::{Clock, SystemClock, SystemRandom},
        config::{Config, Settings},
        engine::{self, Engine},
        keychain::{KeySource, Keys, SourceError},
        outbox::{self, Outbox},
        store::Store,
        transport::{
            Delivery, Request, Transport,
            credentials::Credentials,
            http::Http,
            upload::{Later, Progress, Upload, Watcher},
        },
        wake::{Wake, WakeSignal},
    },
};
use uuid::Uuid;
use zeroize::Zeroizing;

/// No condition of a test takes this long on any machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// The folder of a device in another process, and what it delivers to; set for those only.
const FOLDER: &str = "STORAGE_SYNC_TUS_FOLDER";
const CONFIG: &str = "STORAGE_SYNC_TUS_CONFIG";

/// The same key in every process, as a keychain has it.
struct SameKey;

impl KeySource for SameKey {
    fn name(&self) -> &'static str {
        "test"
    }

    fn load(&self, _account: &str) -> Result<Option<Zeroizing<Vec<u8>>>, SourceError> {
        Ok(Some(Zeroizing::new(vec![7; 32])))
    }

    fn store(&self, _account: &str, _key: &[u8]) -> Result<(), SourceError> {
        Err(SourceError::Unavailable("the key is given".into()))
    }

    fn forget(&self, _account: &str) -> Result<(), SourceError> {
        Err(SourceError::Unavailable("the key is given".into()))
    }
}

/// HTTP that also prints what of an upload was handed to the network, and what the server has by its own word.
struct Telling(Http);

impl Transport for Telling {
    fn deliver(&self, request: Request) -> Delivery<'_> {
        self.0.deliver(request)
    }

    fn upload(&self, mut upload: Upload) -> Delivery<'_> {
        upload.on = Arc::new(Told(upload.on));
        self.0.upload(upload)
    }
}

struct Told(Arc<dyn Watcher>);

impl Watcher for Told {
    fn kept(&self, progress: Option<Progress>) -> Later<'_, std::io::Result<()>> {
        if let Some(progress) = &progress {
            say(&format!("at {}", progress.offset));
        }
        self.0.kept(progress)
    }

    fn sent(&self, bytes: u64) {
        say(&format!("sent {bytes}"));
        self.0.sent(bytes);
    }
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "device: {line}").unwrap();
    out.flush().unwrap();
}

/// One endpoint `video` by tus at that URL; tries again at once.
pub fn config(url: &str) -> Value {
    json!({
        "endpoints": {
            "video": { "method": "POST", "url": url, "body": "tus", "digest": true, "ack": { "id": "location" }, "timeoutMs": 20_000 },
            "newest": { "method": "POST", "url": url, "body": "tus", "queue": "latest", "timeoutMs": 20_000 },
        },
        "retry": { "baseMs": 5, "capMs": 20 },
    })
}

pub struct Device {
    pub store: Store,
    pub outbox: Outbox,
    wake: WakeSignal,
    parts: engine::Parts,
    running: Option<Engine>,
}

impl Device {
    /// One that does not deliver yet.
    pub async fn open(folder: &Path, config: Value) -> Self {
        Self::with(folder, config, Arc::new(Http::new().unwrap())).await
    }

    async fn with(folder: &Path, config: Value, transport: Arc<dyn Transport>) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let store = Store::open(folder, clock.wall()).await.unwrap().store;
        let settings = Arc::new(Settings::new(Config::from_json(config).unwrap(), Vec::new()).unwrap());
        let keys = Keys::new(Arc::new(SameKey), folder.to_owned(), Duration::from_secs(30));
        let (wake, board) = (WakeSignal::default(), Board::new(Arc::clone(&clock)));
        let outbox = Outbox::new(outbox::Parts {
            store: store.clone(),
            settings: Arc::clone(&settings),
            keys: keys.clone(),
            clock: Arc::clone(&clock),
            wake: wake.clone(),
            board: board.clone(),
            folder: folder.to_owned(),
        });
        let parts = engine::Parts {
            store: store.clone(),
            settings,
            keys,
            transport,
            credentials: Credentials::new(None),
            clock,
            random: Arc::new(SystemRandom),
            wake: wake.clone(),
            board,
            folder: folder.to_owned(),
        };
        Self { store, outbox, wake, parts, running: None }
    }

    pub async fn start(folder: &Path, config: Value) -> Self {
        let mut device = Self::open(folder, config).await;
        device.deliver();
        device
    }

    pub fn deliver(&mut self) {
        self.running = Some(Engine::start(self.parts.clone()));
    }

    /// As an app that exits properly.
    pub async fn stop(mut self) {
        if let Some(engine) = self.running.take() {
            engine.stop(Duration::from_secs(60)).await;
        }
        self.store.close().await;
    }

    /// As a network that is there again.
    pub fn nudge(&self) {
        self.wake.wake(Wake::Network);
    }

    /// A file that is deleted as soon as it is in the queue.
    pub async fn enqueue(&self, kind: &str, bytes: &[u8], options: FileOptions) -> Uuid {
        let source = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(source.path(), bytes).unwrap();
        let file = std::fs::File::open(source.path()).unwrap();
        self.outbox.enqueue_file(kind, file, options).await.unwrap().id
    }

    pub async fn until(&self, id: Uuid, mut so: impl FnMut(&Entry) -> bool) -> Entry {
        let mut changes = self.outbox.status_changes();
        let wait = async {
            loop {
                let entry = self.outbox.get(id).await.unwrap();
                if so(&entry) {
                    return entry;
                }
                changes.changed().await;
            }
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(entry) => entry,
            Err(_) => panic!("it never became so: {:#?}", self.outbox.get(id).await),
        }
    }

    pub async fn acked(&self, id: Uuid) -> Entry {
        self.until(id, |entry| entry.state == State::Acked).await
    }

    /// Ends when so many bytes of the upload have been sent.
    pub async fn sent(&self, id: Uuid, bytes: u64) {
        let mut progress = self.outbox.progress().await.unwrap();
        let wait = async {
            loop {
                let news = progress.next().await.unwrap();
                if news.iter().any(|upload| upload.id == id && upload.sent >= bytes) {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("it gets so far");
    }
}

/// A device in a process of its own. Dropping it kills it.
pub struct Apart {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Apart {
    pub fn start(folder: &Path, config: &Value) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "device::a_device_apart_delivers_until_it_is_killed", "--nocapture", "--quiet"])
            .env(FOLDER, folder)
            .env(CONFIG, config.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        // Read on a thread, so that it never stands still on a full pipe.
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if let Some(said) = line.strip_prefix("device: ")
                    && sender.send(said.to_owned()).is_err()
                {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    /// The next thing it says; none once it is dead.
    pub fn line(&mut self) -> Option<String> {
        self.lines.recv().ok()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Does nothing unless it was started as [`Apart`].
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_apart_delivers_until_it_is_killed() {
    let (Some(folder), Ok(config)) = (std::env::var_os(FOLDER), std::env::var(CONFIG)) else { return };
    let telling = Arc::new(Telling(Http::new().unwrap()));
    let mut device = Device::with(Path::new(&folder), serde_json::from_str(&config).unwrap(), telling).await;
    device.deliver();
    loop {
        let entries = device.outbox.list(Default::default()).await.unwrap();
        if entries.iter().all(|entry| entry.state != State::Pending && entry.state != State::Inflight) {
            break;
        }
        let mut changes = device.outbox.status_changes();
        changes.changed().await;
    }
    say("done");
    device.stop().await;
}
