//! The verbs on a real database, a real cipher, and a keychain in memory. The tests play the engine's part themselves,
//! by the same calls to the store that it makes.

mod batch;
mod conflicts;
mod copies;
mod delivered;
mod edit;
mod enqueue;
mod enqueue_file;
mod flush;
mod query;
mod relations;
mod status;
mod steer;

use std::{
    collections::HashMap,
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::json;
use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::{
    clock::SystemClock,
    config::Config,
    entry::{Entry, Receipt, State},
    keychain::testing::{MemoryKeys, Mood},
    store::{Claim, Loaded, Settle, Taught, Verdict},
};

/// Long enough for any machine; a test that reaches it hangs for a reason.
const PATIENCE: Duration = Duration::from_secs(60);

type Hook = Box<dyn FnOnce() + Send>;

/// The system's clock, with something to do when it is read next.
#[derive(Default)]
struct HookedClock {
    system: SystemClock,
    hook: Mutex<Option<Hook>>,
}

impl Clock for HookedClock {
    fn now(&self) -> Duration {
        let hook = self.hook.lock().unwrap().take();
        if let Some(hook) = hook {
            hook();
        }
        self.system.now()
    }

    fn wall(&self) -> i64 {
        self.system.wall()
    }

    fn sleep_until(&self, at: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.system.sleep_until(at)
    }
}

/// An outbox of its own, in a folder of its own.
#[derive(Clone)]
struct Fixture {
    outbox: Outbox,
    store: Store,
    board: Board,
    wake: WakeSignal,
    keyring: MemoryKeys,
    clock: Arc<HookedClock>,
    folder: Arc<TempDir>,
}

impl Fixture {
    /// One that delivers.
    async fn new() -> Self {
        let fixture = Self::in_folder(Arc::new(TempDir::new().unwrap()), MemoryKeys::new()).await;
        fixture.board.post_owner(true);
        fixture
    }

    /// What another process on the same database has. It does not deliver.
    async fn beside(&self) -> Self {
        Self::in_folder(self.folder.clone(), self.keyring.clone()).await
    }

    async fn in_folder(folder: Arc<TempDir>, keyring: MemoryKeys) -> Self {
        let config: Config = serde_json::from_value(json!({
            "baseUrl": "https://api.example.com",
            "endpoints": {
                "form": { "method": "PUT", "url": "/forms/{key}" },
                "note": { "method": "POST", "url": "/notes" },
                "photo": { "method": "POST", "url": "/listings/{listing}/photos/{size}", "body": "raw" },
                "video": { "method": "POST", "url": "/videos", "body": "tus" },
                "scan": { "method": "PUT", "url": "/scans/{key}", "body": "multipart", "queue": "latest" },
                "listing": {
                    "create": { "method": "POST", "url": "/listings" },
                    "update": { "method": "PUT", "url": "/listings/{canonicalId}" },
                    "delete": { "method": "DELETE", "url": "/listings/{canonicalId}" },
                    "ack": { "id": "/id" },
                    "payloadVersion": 3,
                },
            },
            "limits": { "entries": 20_000, "payloadBytes": 1000, "spoolBytes": 1 << 20 },
        }))
        .unwrap();
        let store = Store::open(folder.path(), 0).await.unwrap().store;
        let clock = Arc::new(HookedClock::default());
        let board = Board::new(clock.clone());
        let wake = WakeSignal::default();
        let outbox = Outbox::new(Parts {
            store: store.clone(),
            settings: Arc::new(Settings::new(config, Vec::new()).unwrap()),
            keys: Keys::new(Arc::new(keyring.clone()), folder.path().to_owned(), Duration::from_secs(10)),
            clock: clock.clone(),
            wake: wake.clone(),
            board: board.clone(),
            folder: folder.path().to_owned(),
        });
        Self { outbox, store, board, wake, keyring, clock, folder }
    }

    async fn form(&self, key: &str, value: &str) -> Uuid {
        self.enqueue("form", value, options(key)).await.unwrap().id
    }

    async fn note(&self, value: &str) -> Uuid {
        self.enqueue("note", value, EnqueueOptions::default()).await.unwrap().id
    }

    async fn enqueue(&self, kind: &str, value: &str, options: EnqueueOptions) -> Result<Receipt> {
        self.outbox.enqueue(kind, Payload::json(value)?, options).await
    }

    async fn state(&self, id: Uuid) -> State {
        self.outbox.get(id).await.unwrap().state
    }

    /// Everything that the current account has, newest first.
    async fn all(&self) -> Vec<Entry> {
        self.outbox.list(Query { limit: Some(1000), ..Query::default() }).await.unwrap()
    }

    async fn seq_of(&self, id: Uuid) -> i64 {
        let account = self.outbox.account().await.unwrap();
        self.store.row(&account, id).await.unwrap().unwrap().seq
    }

    async fn loaded(&self, id: Uuid) -> Loaded {
        let seq = self.seq_of(id).await;
        self.store.load(&[seq]).await.unwrap().remove(0)
    }

    async fn claim(&self, id: Uuid) {
        let Loaded { seq, payload, revision, base, lane_revision, request, .. } = self.loaded(id).await;
        let revision = revision.unwrap_or(base.max(lane_revision) + 1);
        let request = request.is_none().then(|| b"sealed".to_vec());
        let claim = Claim { seq, generation: payload.generation, revision, request };
        let done = self.store.advance(Vec::new(), vec![claim], 0).await.unwrap();
        assert_eq!(done.claimed, [seq]);
    }

    async fn settle(&self, id: Uuid, status: u16, verdict: Verdict) {
        self.claim(id).await;
        let seq = self.seq_of(id).await;
        let settle = Settle { seq, status: Some(status), error: None, attempted: true, verdict, restored: false };
        self.store.advance(vec![settle], Vec::new(), 0).await.unwrap();
    }

    async fn ack(&self, id: Uuid) {
        self.settle(id, 200, Verdict::Acked { canonical_id: None, revision: None, etag: None }).await;
    }

    /// The server has it, under that id.
    async fn ack_as(&self, id: Uuid, canonical_id: &str) {
        let canonical_id = Some(canonical_id.to_owned());
        self.settle(id, 201, Verdict::Acked { canonical_id, revision: None, etag: None }).await;
    }

    /// The server holds a newer write, of that revision, which stands.
    async fn lose(&self, id: Uuid, possibly_sent: bool, revision: u64) {
        self.settle(id, 409, Verdict::Lost { possibly_sent, taught: taught(revision) }).await;
    }

    /// The server holds a newer write, of that revision, and somebody is to decide.
    async fn conflict(&self, id: Uuid, possibly_sent: bool, revision: u64) {
        self.settle(id, 409, Verdict::Conflict { possibly_sent, taught: taught(revision) }).await;
    }

    async fn fail(&self, id: Uuid, reason: crate::entry::Reason) {
        let possibly_sent = reason == crate::entry::Reason::OutcomeUnknown;
        self.settle(id, 422, Verdict::Failed { reason, possibly_sent }).await;
    }

    fn wake_file(&self) -> std::path::PathBuf {
        self.folder.path().join(crate::wake::file::NAME)
    }
}

fn taught(revision: u64) -> Taught {
    Taught { revision: Some(revision), exists: true, ..Taught::default() }
}

fn options(key: &str) -> EnqueueOptions {
    EnqueueOptions { key: Some(key.to_owned()), ..EnqueueOptions::default() }
}

/// Options without a key, changed.
fn with(change: impl FnOnce(&mut EnqueueOptions)) -> EnqueueOptions {
    let mut options = EnqueueOptions::default();
    change(&mut options);
    options
}

/// A JSON payload.
fn payload(value: serde_json::Value) -> Payload {
    Payload::json(&value).unwrap()
}

/// What a future answers, unless the test hangs.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it hangs")
}

/// Asserts code and hint of a refusal.
fn assert_refused<T: std::fmt::Debug>(answer: Result<T>, code: &str, hint: &str) {
    let error = answer.expect_err(hint);
    assert_eq!(error.code(), code, "{error}");
    assert!(error.to_string().contains(hint), "{error}");
}

/// Every file below a folder, with its bytes.
fn files(folder: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push((path.clone(), std::fs::read(&path).unwrap()));
        }
    }
    found
}
