//! What every benchmark starts from: the plugin without a window, and bare SQLite with the same durability.

use std::{path::Path, sync::Arc, time::Duration};

use serde_json::value::RawValue;
use sqlx::{
    ConnectOptions, Executor, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use tauri_plugin_storage_sync::testing::{
    board::Board,
    clock::{Clock, SystemClock, SystemRandom},
    config::{Config, Settings},
    engine::{self, Engine},
    keychain::{KeySource, Keys, SourceError},
    outbox::{self, EnqueueOptions, Outbox, Payload},
    store::Store,
    transport::{credentials::Credentials, http::Http},
    wake::WakeSignal,
};
use zeroize::Zeroizing;

/// The same key in every process.
struct SameKey;

impl KeySource for SameKey {
    fn name(&self) -> &'static str {
        "bench"
    }

    fn load(&self, _account: &str) -> Result<Option<Zeroizing<Vec<u8>>>, SourceError> {
        Ok(Some(Zeroizing::new(vec![7; 32])))
    }

    fn store(&self, _account: &str, _key: &[u8]) -> Result<(), SourceError> {
        Err(SourceError::Unavailable("the key is given".into()))
    }

    fn forget(&self, _: &str) -> Result<(), SourceError> {
        unreachable!("nobody signs out")
    }
}

pub struct Device {
    pub store: Store,
    pub outbox: Outbox,
    parts: engine::Parts,
}

impl Device {
    /// Endpoints `note` (POST), `form` (PUT) and `video` (tus) at that base URL.
    pub async fn open(folder: &Path, base: &str) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let store = Store::open(folder, clock.wall()).await.expect("the database opens").store;
        let config = serde_json::json!({
            "baseUrl": base,
            "endpoints": {
                "note": { "method": "POST", "url": "/notes" },
                "form": { "method": "PUT", "url": "/forms/{key}", "queue": "every" },
                "video": { "method": "POST", "url": "/files", "body": "tus" },
            },
            "limits": { "entries": 10_000_000 },
        });
        let settings = Settings::new(Config::from_json(config).expect("it reads"), Vec::new()).expect("it is right");
        let settings = Arc::new(settings);
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
            transport: Arc::new(Http::new().expect("the transport starts")),
            credentials: Credentials::new(None),
            clock,
            random: Arc::new(SystemRandom),
            wake,
            board,
            folder: folder.to_owned(),
        };
        Self { store, outbox, parts }
    }

    pub fn start(&self) -> Engine {
        Engine::start(self.parts.clone())
    }

    /// Runs as in an app that is paused: this process is the one that delivers, and delivers nothing.
    pub async fn start_paused(&self) -> Engine {
        let engine = self.start();
        let mut version = self.parts.board.version();
        while !self.parts.board.owner() {
            version.changed().await.expect("the board lives");
        }
        self.outbox.pause().await.expect("it is the owner");
        engine
    }

    pub async fn note(&self, payload: &Payload, key: Option<String>) {
        let options = EnqueueOptions { key, ..EnqueueOptions::default() };
        self.outbox.enqueue("note", payload.clone(), options).await.expect("it is enqueued");
    }

    /// Fills a backlog as fast as it can.
    pub async fn fill(&self, entries: usize) {
        let payload = kibibyte();
        let writers = (0..64).map(|writer| {
            let payload = &payload;
            async move {
                for _ in (writer..entries).step_by(64) {
                    self.note(payload, None).await;
                }
            }
        });
        futures_util::future::join_all(writers).await;
    }
}

/// A JSON payload of 1 KiB.
pub fn kibibyte() -> Payload {
    let json = format!("\"{}\"", "x".repeat(1022));
    Payload::Json(RawValue::from_string(json).expect("it is JSON"))
}

/// A bare connection with the same durability, and a table for the same bytes.
pub async fn bare(folder: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new()
        .filename(folder.join("bare.db"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    let mut connection = options.connect().await.expect("it opens");
    connection
        .execute("CREATE TABLE IF NOT EXISTS entries (seq INTEGER PRIMARY KEY, id BLOB UNIQUE, body BLOB) STRICT")
        .await
        .expect("the table is made");
    connection
}
