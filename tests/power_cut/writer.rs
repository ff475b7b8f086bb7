//! The process that is cut off: prints a receipt for every row whose commit it was told of.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        mpsc::{Receiver, channel},
    },
    time::Duration,
};

use sqlx::{ConnectOptions, Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use storage_sync_backend::{Backend, Options};
use tauri_plugin_storage_sync::{
    FileOptions, State,
    testing::{
        board::Board,
        clock::{Clock, SystemClock, SystemRandom},
        config::{Config, Settings},
        engine::{self, Engine},
        keychain::{KeySource, Keys, SourceError},
        outbox::{EnqueueOptions, Outbox, Parts, Payload},
        store::Store,
        transport::{credentials::Credentials, http::Http},
        wake::WakeSignal,
    },
};
use tokio::sync::watch;
use zeroize::Zeroizing;

const FOLDER: &str = "STORAGE_SYNC_CUT_FOLDER";
const MODE: &str = "STORAGE_SYNC_CUT_MODE";
/// So many bytes go through the spool: smaller files are part of the database.
const FILE: usize = 200_000;
/// So many receipts of others come between two of files: each file is the last that was synced for a while.
const APART: u64 = 40;
/// Before the id of an entry that is a file.
pub const IS_FILE: &str = "file ";
/// Where nobody listens.
const NOWHERE: &str = "http://127.0.0.1:9";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The plugin as it is.
    Full,
    /// The control: bare SQLite with WAL and `synchronous=NORMAL`.
    Normal,
}

pub struct Writer {
    child: Child,
    lines: Receiver<String>,
}

impl Writer {
    pub fn start(folder: &Path, mode: Mode) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writer::a_writer_does_as_its_environment_says", "--nocapture", "--quiet"])
            .env(FOLDER, folder)
            .env(MODE, format!("{mode:?}"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            while out.read_line(&mut line).is_ok_and(|_| line.ends_with('\n')) {
                if let Some(id) = line.trim_end().strip_prefix("receipt ") {
                    drop(sender.send(id.to_owned()));
                }
                line.clear();
            }
        });
        Self { child, lines }
    }

    /// The next receipt; none once it is dead and everything was read.
    pub fn line(&mut self) -> Option<String> {
        self.lines.recv().ok()
    }

    /// SIGSTOP: from now on it writes nothing, and syncs nothing on its way out.
    pub fn stop(&self) {
        let status = Command::new("kill").args(["-STOP", &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub fn is_child() -> bool {
    std::env::var_os(FOLDER).is_some()
}

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

    fn forget(&self, _: &str) -> Result<(), SourceError> {
        unreachable!("nobody signs out")
    }
}

async fn outbox(folder: &Path, base: &str) -> (Store, Outbox, engine::Parts) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let store = Store::open(folder, clock.wall()).await.unwrap().store;
    // As the process that delivers: it checkpoints.
    store.set_owner(true).await.unwrap();
    let config = serde_json::json!({
        "baseUrl": base,
        // Every receipt is asked for in the end.
        "retention": { "settled": 1_000_000 },
        "endpoints": {
            "note": { "method": "POST", "url": "/notes" },
            "scan": { "method": "PUT", "url": "/scans/{key}", "body": "multipart" },
        },
    });
    let settings = Arc::new(Settings::new(Config::from_json(config).unwrap(), Vec::new()).unwrap());
    let keys = Keys::new(Arc::new(SameKey), folder.to_owned(), Duration::from_secs(30));
    let (wake, board) = (WakeSignal::default(), Board::new(Arc::clone(&clock)));
    let parts = engine::Parts {
        store: store.clone(),
        settings: Arc::clone(&settings),
        keys: keys.clone(),
        transport: Arc::new(Http::new().unwrap()),
        credentials: Credentials::new(None),
        clock: Arc::clone(&clock),
        random: Arc::new(SystemRandom),
        wake: wake.clone(),
        board: board.clone(),
        folder: folder.to_owned(),
    };
    let outbox =
        Outbox::new(Parts { store: store.clone(), settings, keys, clock, wake, board, folder: folder.to_owned() });
    (store, outbox, parts)
}

async fn control(folder: &Path) -> SqliteConnection {
    std::fs::create_dir_all(folder).unwrap();
    let options = SqliteConnectOptions::new()
        .filename(folder.join("control.db"))
        .create_if_missing(true)
        .journal_mode(sqlx::sqlite::SqliteJournalMode::Wal)
        .synchronous(sqlx::sqlite::SqliteSynchronous::Normal);
    let mut connection = options.connect().await.unwrap();
    let table = "CREATE TABLE IF NOT EXISTS entries (id TEXT PRIMARY KEY, body BLOB)";
    sqlx::query(table).execute(&mut connection).await.unwrap();
    connection
}

fn say(id: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "receipt {id}").unwrap();
    out.flush().unwrap();
}

/// Does nothing in an ordinary run of the tests; the cuts start it with an environment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_does_as_its_environment_says() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let folder = Path::new(&folder);
    if std::env::var(MODE).unwrap() == format!("{:?}", Mode::Full) {
        let (_store, outbox, _) = outbox(folder, NOWHERE).await;
        let source = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(source.path(), vec![5; FILE]).unwrap();
        let notes = watch::Sender::new(0_u64);
        let files = async {
            let mut told = notes.subscribe();
            for number in 0_u64.. {
                let options = FileOptions { key: Some(number.to_string()), ..FileOptions::default() };
                let file = std::fs::File::open(source.path()).unwrap();
                let receipt = outbox.enqueue_file("scan", file, options).await.unwrap();
                say(&format!("{IS_FILE}{}", receipt.id));
                let next = *told.borrow() + APART;
                told.wait_for(|notes| *notes >= next).await.unwrap();
            }
        };
        let writers = (0..8).map(|_| async {
            loop {
                let payload = Payload::json(&"x".repeat(500)).unwrap();
                let receipt = outbox.enqueue("note", payload, EnqueueOptions::default()).await.unwrap();
                say(&receipt.id.to_string());
                notes.send_modify(|notes| *notes += 1);
            }
        });
        futures_util::future::join(futures_util::future::join_all(writers), files).await;
    }
    let mut connection = control(folder).await;
    for number in 0_u64.. {
        let insert = sqlx::query("INSERT INTO entries VALUES (?, ?)").bind(number.to_string()).bind(vec![7_u8; 500]);
        insert.execute(&mut connection).await.unwrap();
        say(&number.to_string());
    }
}

/// How many of the promised rows are not in the database that the cut left.
pub async fn missing(folder: &Path, mode: Mode, promised: &[String]) -> usize {
    let mut missing = 0;
    match mode {
        Mode::Full => {
            let backend = Backend::start(Options::default()).await.unwrap();
            let (store, outbox, parts) = outbox(folder, &backend.url()).await;
            let (files, notes): (Vec<_>, Vec<_>) = promised.iter().partition(|id| id.starts_with(IS_FILE));
            for id in notes {
                let id = id.parse().unwrap();
                // It must not only be there: it must open.
                missing += usize::from(outbox.payload(id).await.is_err());
            }
            // Of a file all must be there, which the server hears of first.
            let (engine, mut version) = (Engine::start(parts), store.version());
            let left = async || store.counts("").await.map(|counts| counts.pending + counts.inflight).unwrap();
            while left().await > 0 {
                version.changed().await.unwrap();
            }
            for id in &files {
                let entry = outbox.get(id[IS_FILE.len()..].parse().unwrap()).await;
                missing += usize::from(!entry.is_ok_and(|entry| entry.state == State::Acked));
            }
            engine.stop(Duration::from_secs(10)).await;
            store.close().await;
        }
        Mode::Normal => {
            let mut connection = control(folder).await;
            for id in promised {
                let found = sqlx::query("SELECT 1 FROM entries WHERE id = ?").bind(id);
                missing += usize::from(found.fetch_optional(&mut connection).await.unwrap().is_none());
            }
            connection.close().await.unwrap();
        }
    }
    missing
}
