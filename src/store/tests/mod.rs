//! Real files, real SQLite.

mod advance;
mod disk;
mod durable;
mod enqueue;
mod files;
mod housekeeping;
mod model;
mod pause;
mod plans;
mod spooled;
mod verbs;
mod watched;

use std::path::{Path, PathBuf};

use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};
use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::entry::{Queue, Reason};

/// No test is about the quota unless it says so.
const LIMIT: u64 = 1_000_000;
const NOW: i64 = 1_700_000_000_000;

/// A database in a folder of its own.
struct Fixture {
    folder: TempDir,
    store: Store,
}

impl Fixture {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path()).await;
        Self { folder, store }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// As another process would.
    async fn peek(&self) -> SqliteConnection {
        connect(&self.path().join("outbox.db")).await
    }

    async fn put(&self, entry: NewEntry) -> Uuid {
        let id = entry.id;
        self.store.enqueue(vec![entry], LIMIT, NOW).await.unwrap();
        id
    }

    async fn state(&self, id: Uuid) -> State {
        self.row(id).await.entry.state
    }

    async fn row(&self, id: Uuid) -> Row {
        self.store.row("", id).await.unwrap().unwrap()
    }

    async fn seq(&self, id: Uuid) -> i64 {
        self.row(id).await.seq
    }

    async fn loaded(&self, id: Uuid) -> Loaded {
        let seq = self.seq(id).await;
        self.store.load(&[seq]).await.unwrap().pop().unwrap()
    }

    /// Claims as the engine does; answers whether it was claimed.
    async fn claim(&self, id: Uuid) -> bool {
        let loaded = self.loaded(id).await;
        let revision = loaded.revision.unwrap_or(loaded.base.max(loaded.lane_revision) + 1);
        let request = loaded.request.is_none().then(|| b"frozen".to_vec());
        let claim = Claim { seq: loaded.seq, generation: loaded.payload.generation, revision, request };
        self.store.advance(vec![], vec![claim], NOW).await.unwrap().claimed == [loaded.seq]
    }

    async fn settle(&self, id: Uuid, verdict: Verdict) -> Done {
        let seq = self.seq(id).await;
        self.store
            .advance(
                vec![Settle { seq, status: None, error: None, attempted: true, verdict, restored: false }],
                vec![],
                NOW + 1,
            )
            .await
            .unwrap()
    }

    async fn heads(&self) -> Vec<i64> {
        self.store.heads("", "form", 0, 100).await.unwrap().into_iter().map(|head| head.seq).collect()
    }
}

async fn open(folder: &Path) -> Store {
    let opened = Store::open(folder, NOW).await.unwrap();
    assert_eq!(opened.salvaged, None);
    opened.store
}

async fn connect(database: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(database).connect().await.unwrap()
}

fn entry(key: Option<&str>, queue: Queue) -> NewEntry {
    NewEntry {
        id: Uuid::now_v7(),
        account: String::new(),
        kind: "form".into(),
        key: key.map(str::to_owned),
        queue,
        content_type: "application/json".into(),
        bytes: 3,
        payload: sealed(3),
        chosen_id: false,
        action: None,
        payload_version: 0,
        annihilates: false,
        parents: Vec::new(),
        file: None,
        watched: None,
    }
}

fn latest(key: &str) -> NewEntry {
    entry(Some(key), Queue::Latest)
}

fn every(key: &str) -> NewEntry {
    entry(Some(key), Queue::Every)
}

fn sealed(bytes: usize) -> SealedPayload {
    SealedPayload {
        generation: 1,
        key_id: [7; 16],
        wrapped_key: vec![1; 60],
        body: vec![2; bytes],
        params: Some(vec![3; 8]),
        digest: vec![4; 32],
    }
}

fn acked() -> Verdict {
    Verdict::Acked { canonical_id: None, revision: None, etag: None }
}

fn refused() -> Verdict {
    Verdict::Failed { reason: Reason::Refused, possibly_sent: false }
}

async fn number(connection: &mut SqliteConnection, text: &'static str) -> i64 {
    sqlx::query_scalar(text).fetch_one(connection).await.unwrap()
}

/// Counts every row anew and compares with what the triggers kept; then the same for heads.
async fn assert_kept(connection: &mut SqliteConnection) {
    let wrong = "SELECT count(*) FROM (
        SELECT account, kind, state, n FROM counts WHERE n > 0
        EXCEPT SELECT account, kind, state, count(*) FROM entries GROUP BY account, kind, state)";
    assert_eq!(number(connection, wrong).await, 0, "counts hold what is not there");
    let missing = "SELECT count(*) FROM (
        SELECT account, kind, state, count(*) FROM entries GROUP BY account, kind, state
        EXCEPT SELECT account, kind, state, n FROM counts)";
    assert_eq!(number(connection, missing).await, 0, "counts lack what is there");
    let heads =
        "SELECT count(*) FROM (SELECT lane FROM entries WHERE lane IS NOT NULL AND state NOT IN ('acked', 'superseded')
        GROUP BY lane HAVING sum(head) <> 1)";
    assert_eq!(number(connection, heads).await, 0, "a lane has no head, or more than one");
    let inflight = "SELECT count(*) FROM entries WHERE state = 'inflight' AND head = 0";
    assert_eq!(number(connection, inflight).await, 0, "one is in flight that is not the head");
    let unmet = "SELECT count(*) FROM entries e WHERE e.unmet <> e.paused +
        (SELECT count(*) FROM dependencies d WHERE d.seq = e.seq AND d.state <> 'met')";
    assert_eq!(number(connection, unmet).await, 0, "unmet dependencies are miscounted");
    let paused = "SELECT count(*) FROM entries WHERE paused = 1 AND state NOT IN ('pending', 'inflight')";
    assert_eq!(number(connection, paused).await, 0, "what is settled is paused");
    let bodies = "SELECT count(*) FROM entries e JOIN payloads p USING (seq) WHERE (e.state IN ('acked', 'superseded') AND e.lost = 0) <> (p.body IS NULL)";
    assert_eq!(number(connection, bodies).await, 0, "bodies are kept or gone against the state");
    assert_eq!(number(connection, "SELECT count(*) FROM entries WHERE seq NOT IN (SELECT seq FROM payloads)").await, 0);
    assert_eq!(number(connection, "SELECT count(*) FROM payloads WHERE seq NOT IN (SELECT seq FROM entries)").await, 0);
}

/// Keeps so many for so long; everything else for ever.
fn keep(newest: u64, settled_ms: i64) -> Keep {
    let long = i64::MAX / 2;
    Keep { newest, settled_ms, lost_ms: long, lanes_ms: long, mappings_ms: long, tombstones_ms: long }
}
