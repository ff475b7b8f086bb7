//! A device: everything that an app has of the plugin but for the window.

use std::{
    future::Future,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use storage_sync_backend::{Backend, Options, Revisions};
use tauri_plugin_storage_sync::{
    Action, Entry, State,
    testing::{
        board::Board,
        clock::{Clock, Random, SystemClock, SystemRandom},
        config::{Config, Migrations, Settings},
        engine::{self, Engine},
        keychain::{KeySource, Keys, testing::MemoryKeys},
        outbox::{self, EnqueueOptions, Outbox, Payload, Query, Rotated},
        store::{Store, Trial},
        transport::{
            Transport,
            credentials::{AuthProvider, Credentials},
            http::Http,
        },
        wake::{Wake, WakeSignal},
    },
};
use tokio::sync::watch;
use uuid::Uuid;

/// No condition of a test takes this long on any machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A clock that moves when it is told to.
#[derive(Clone)]
pub struct ManualClock {
    now: watch::Sender<Duration>,
    wall: Arc<AtomicI64>,
}

impl ManualClock {
    pub fn new() -> Self {
        Self { now: watch::Sender::new(Duration::from_secs(1)), wall: Arc::new(AtomicI64::new(1_700_000_000_000)) }
    }

    /// Lets time pass on both clocks.
    pub fn advance(&self, by: Duration) {
        self.wall.fetch_add(by.as_millis() as i64, Ordering::SeqCst);
        self.now.send_modify(|now| *now += by);
    }

    /// Sets the wall clock only, as a user or NTP does.
    pub fn jump(&self, ms: i64) {
        self.wall.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Duration {
        *self.now.borrow()
    }

    fn wall(&self) -> i64 {
        self.wall.load(Ordering::SeqCst)
    }

    fn sleep_until(&self, at: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let mut now = self.now.subscribe();
        Box::pin(async move {
            if now.wait_for(|now| *now >= at).await.is_err() {
                std::future::pending().await
            }
        })
    }
}

/// The longest backoff always.
pub struct Longest;

impl Random for Longest {
    fn next(&self) -> u64 {
        u64::MAX
    }
}

/// What a device is made of; the rest is real.
pub struct Setup {
    pub folder: PathBuf,
    pub config: Value,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    pub keys: MemoryKeys,
    /// Instead of `keys`.
    pub source: Option<Arc<dyn KeySource>>,
    pub transport: Option<Arc<dyn Transport>>,
    pub auth: Option<Arc<dyn AuthProvider>>,
    pub migrations: Migrations,
    pub trial: Option<Trial>,
}

impl Setup {
    pub fn new(folder: &Path, config: Value) -> Self {
        Self {
            folder: folder.to_owned(),
            config,
            clock: Arc::new(SystemClock::default()),
            random: Arc::new(SystemRandom),
            keys: MemoryKeys::new(),
            source: None,
            transport: None,
            auth: None,
            migrations: Migrations::default(),
            trial: None,
        }
    }

    /// With a clock that stands still until the test moves it: every attempt is one that the test allowed.
    pub fn stopped(mut self, clock: &ManualClock) -> Self {
        self.clock = Arc::new(clock.clone());
        self.random = Arc::new(Longest);
        self
    }

    pub fn keys(mut self, keys: &MemoryKeys) -> Self {
        self.keys = keys.clone();
        self
    }

    pub async fn open(self) -> Device {
        let wall = self.clock.wall();
        let opened = match self.trial {
            Some(trial) => Store::open_on_trial(&self.folder, wall, trial).await,
            None => Store::open(&self.folder, wall).await,
        };
        let store = opened.expect("the database opens").store;
        let config = Config::from_json(self.config).expect("the configuration can be read");
        let mut settings = Settings::new(config, Vec::new()).expect("the configuration is right");
        settings.migrations = self.migrations;
        let settings = Arc::new(settings);
        let source = self.source.unwrap_or_else(|| Arc::new(self.keys));
        let keys = Keys::new(source, self.folder.clone(), Duration::from_secs(30));
        let (wake, board) = (WakeSignal::default(), Board::new(Arc::clone(&self.clock)));
        let credentials = Credentials::new(self.auth);
        let outbox = Outbox::new(outbox::Parts {
            store: store.clone(),
            settings: Arc::clone(&settings),
            keys: keys.clone(),
            clock: Arc::clone(&self.clock),
            wake: wake.clone(),
            board: board.clone(),
            folder: self.folder.clone(),
        });
        let engine = engine::Parts {
            store: store.clone(),
            settings,
            keys,
            transport: self.transport.unwrap_or_else(|| Arc::new(Http::new().expect("the transport starts"))),
            credentials: credentials.clone(),
            clock: self.clock,
            random: self.random,
            wake: wake.clone(),
            board: board.clone(),
            folder: self.folder.clone(),
        };
        Device { store, outbox, engine, running: None, wake, board, credentials, folder: self.folder }
    }

    /// The same, delivering.
    pub async fn start(self) -> Device {
        let mut device = self.open().await;
        device.start();
        device
    }
}

pub struct Device {
    pub store: Store,
    pub outbox: Outbox,
    engine: engine::Parts,
    pub running: Option<Engine>,
    pub wake: WakeSignal,
    pub board: Board,
    pub credentials: Credentials,
    pub folder: PathBuf,
}

impl Device {
    pub fn start(&mut self) {
        self.running = Some(Engine::start(self.engine.clone()));
    }

    /// As an app that exits properly.
    pub async fn stop(mut self) {
        if let Some(engine) = self.running.take() {
            engine.stop(Duration::from_secs(30)).await;
        }
        self.store.close().await;
    }

    pub async fn enqueue(&self, kind: &str, key: Option<&str>, value: Value) -> Uuid {
        let options = EnqueueOptions { key: key.map(str::to_owned), ..EnqueueOptions::default() };
        let payload = Payload::json(&value).expect("a value is JSON");
        self.outbox.enqueue(kind, payload, options).await.expect("it is enqueued").id
    }

    pub async fn enqueue_with(&self, kind: &str, value: Value, options: EnqueueOptions) -> Uuid {
        let payload = Payload::json(&value).expect("a value is JSON");
        self.outbox.enqueue(kind, payload, options).await.expect("it is enqueued").id
    }

    pub async fn delete(&self, kind: &str, key: &str) -> Uuid {
        let options =
            EnqueueOptions { key: Some(key.into()), action: Some(Action::Delete), ..EnqueueOptions::default() };
        self.enqueue_with(kind, Value::Null, options).await
    }

    /// A rotation of the key, and what all of its calls have done. On a machine that is slow somebody may hold the old key for longer than one call
    /// waits: the next one goes on with it.
    pub async fn rotated(&self) -> Rotated {
        let mut rotated = self.outbox.rotate_key().await.expect("the key is rotated");
        for _ in 0..30 {
            if rotated.finished {
                break;
            }
            let before = rotated.rewrapped;
            rotated = self.outbox.rotate_key().await.expect("the rotation goes on");
            rotated.rewrapped += before;
        }
        rotated
    }

    pub async fn entry(&self, id: Uuid) -> Entry {
        self.outbox.get(id).await.expect("the entry is there")
    }

    /// Waits until the entry is as it should be; shows how it is when it never is.
    pub async fn until(&self, id: Uuid, mut so: impl FnMut(&Entry) -> bool) -> Entry {
        let mut changes = self.outbox.status_changes();
        let wait = async {
            loop {
                let entry = self.entry(id).await;
                if so(&entry) {
                    return entry;
                }
                changes.changed().await;
            }
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(entry) => entry,
            Err(_) => panic!("it never became so: {:#?}", self.entry(id).await),
        }
    }

    /// The same in a process that hears of another's commits only by reading again.
    pub async fn until_read(&self, id: Uuid, mut so: impl FnMut(&Entry) -> bool) -> Entry {
        let wait = async {
            loop {
                let entry = self.entry(id).await;
                if so(&entry) {
                    return entry;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("it becomes so")
    }

    pub async fn acked(&self, id: Uuid) -> Entry {
        self.until(id, |entry| entry.state == State::Acked).await
    }

    /// Waits until as many entries are in that state.
    pub async fn until_counted(&self, so: impl Fn(&tauri_plugin_storage_sync::Counts) -> bool) {
        let mut changes = self.outbox.status_changes();
        let wait = async {
            while !so(&self.outbox.status().await.expect("status answers").counts) {
                changes.changed().await;
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            panic!("it never became so: {:#?}", self.outbox.status().await);
        }
    }

    /// Everything that can be sent now has been: a round of the engine found nothing more to do.
    pub async fn quiet(&self) {
        let round = self.board.request_flush();
        self.wake.wake(Wake::Flush);
        let mut flushed = self.board.flushed();
        let over = flushed.wait_for(|done| *done >= round);
        let over = tokio::time::timeout(PATIENCE, over).await.expect("the round ends");
        over.expect("the engine runs");
    }

    pub async fn all(&self) -> Vec<Entry> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let query = Query { after, limit: Some(1000), ..Query::default() };
            let page = self.outbox.list(query).await.expect("list answers");
            let Some(last) = page.last() else { return all };
            after = Some(last.id);
            all.extend(page);
        }
    }
}

pub async fn backend() -> Backend {
    Backend::start(Options::default()).await.expect("the backend starts")
}

/// One that refuses what does not beat what it holds.
pub async fn comparing() -> Backend {
    let options = Options { revisions: Revisions::Compare, ..Options::default() };
    Backend::start(options).await.expect("the backend starts")
}

/// What it holds.
pub fn content(backend: &Backend, collection: &str, key: &str) -> Value {
    backend.world(|world| {
        let thing = world.resource(collection, key).expect("the thing is there");
        serde_json::from_slice(&thing.body).expect("it is JSON")
    })
}

/// Two endpoints: `form` (PUT, the newest matters) and `note` (POST, every one), tried again after a second at first.
pub fn config(backend: &Backend) -> Value {
    json!({
        "baseUrl": backend.url(),
        "endpoints": {
            "form": { "method": "PUT", "url": "/forms/{key}" },
            "note": { "method": "POST", "url": "/notes", "ack": { "id": "/data/id" } },
        },
    })
}

/// The same with backoffs of a few milliseconds, for scenarios on the real clock.
pub fn impatient(backend: &Backend) -> Value {
    let mut config = config(backend);
    config["retry"] = json!({ "baseMs": 2, "capMs": 20 });
    config
}

/// How often the writes under that entry's idempotency keys were applied.
pub fn times_applied(backend: &Backend, id: Uuid) -> usize {
    let id = id.to_string();
    let same = |key: &String| key == &id || key.strip_prefix(&id).is_some_and(|rest| rest.starts_with('.'));
    backend.mutations().iter().filter(|mutation| mutation.idempotency_key.as_ref().is_some_and(same)).count()
}
