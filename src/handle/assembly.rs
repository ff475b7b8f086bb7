//! Puts the parts together, in the order in which they need each other, and takes them apart again.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::{Instant, timeout, timeout_at},
};

use crate::{
    board::Board,
    clock::{Clock, Random},
    config::Settings,
    engine::{self, Engine},
    entry::{AuthRequired, Change, Status},
    error::{Error, Result},
    events::{News, Source},
    keychain::{KeySource, Keys},
    outbox::{self, Outbox, StatusChanges},
    roots::Roots,
    store::Store,
    transport::{Transport, credentials::Credentials, http::Http},
    triggers::folders::{self, Folders, SystemWatcher},
    wake::WakeSignal,
};

/// How long the keychain may take. Somebody may have to type a password first.
const KEYCHAIN_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a start waits to learn whether this process delivers. It does at once, unless another one does.
const OWNER_PATIENCE: Duration = Duration::from_millis(500);

/// What is needed to open the queue, again and again if need be.
pub(crate) struct Blueprint {
    /// Where the data is; none when the system names no folder for it.
    pub(crate) folder: Option<PathBuf>,
    /// Where master keys come from.
    pub(crate) key_source: Arc<dyn KeySource>,
    /// What delivers; HTTP when none is given.
    pub(crate) transport: Option<Arc<dyn Transport>>,
    /// Time.
    pub(crate) clock: Arc<dyn Clock>,
    /// For jitter.
    pub(crate) random: Arc<dyn Random>,
}

/// A queue that is open and delivers.
pub(super) struct Running {
    pub(super) outbox: Outbox,
    folders: Mutex<Option<Folders>>,
    engine: Engine,
    store: Store,
}

impl Blueprint {
    pub(super) async fn open(
        &self,
        settings: &Arc<Settings>,
        credentials: &Credentials,
        wake: &WakeSignal,
        roots: &Roots,
    ) -> Result<Running> {
        let folder = self.folder.clone().ok_or_else(|| {
            let why = "the system names none: is HOME set?";
            Error::io("finding the app's data folder", std::io::Error::new(std::io::ErrorKind::NotFound, why))
        })?;
        let transport = match &self.transport {
            Some(transport) => Arc::clone(transport),
            None => Arc::new(Http::new()?),
        };
        let opened = Store::open(&folder, self.clock.wall()).await?;
        if let Some(salvage) = &opened.salvaged {
            tracing::warn!(entries = salvage.entries, lost = ?salvage.lost, "the queue's database was damaged: it was moved aside, and what could be read is queued again");
        }
        let store = opened.store;
        let keys = Keys::new(Arc::clone(&self.key_source), folder.clone(), KEYCHAIN_TIMEOUT);
        let board = Board::new(Arc::clone(&self.clock));
        let outbox = Outbox::new(outbox::Parts {
            store: store.clone(),
            settings: Arc::clone(settings),
            keys: keys.clone(),
            clock: Arc::clone(&self.clock),
            wake: wake.clone(),
            board: board.clone(),
            folder: folder.clone(),
        });
        let engine = Engine::start(engine::Parts {
            store: store.clone(),
            settings: Arc::clone(settings),
            keys,
            transport,
            credentials: credentials.clone(),
            clock: Arc::clone(&self.clock),
            random: Arc::clone(&self.random),
            wake: wake.clone(),
            board: board.clone(),
            folder,
        });
        outbox.resume_leaving();
        let folders = Folders::start(folders::Parts {
            outbox: outbox.clone(),
            roots: roots.clone(),
            timing: settings.folders.clone(),
            clock: Arc::clone(&self.clock),
            watcher: Arc::new(SystemWatcher),
        });
        // Else the first verbs of an app would be told that another process delivers.
        let _ = timeout(OWNER_PATIENCE, owned(&board)).await;
        Ok(Running { outbox, folders: Mutex::new(Some(folders)), engine, store })
    }
}

async fn owned(board: &Board) {
    let mut version = board.version();
    while !board.owner() && version.changed().await.is_ok() {}
}

impl Running {
    /// Three quarters of the time are for attempts that are under way, the rest for the database.
    pub(super) async fn stop(&self, within: Duration) {
        drop(self.folders.lock().unwrap_or_else(PoisonError::into_inner).take());
        let deadline = Instant::now() + within;
        let attempts = within * 3 / 4;
        let stopped = timeout_at(deadline, async {
            self.engine.stop(attempts).await;
            self.store.close().await;
        });
        if stopped.await.is_err() {
            tracing::debug!("the app exits before everything came to rest; the next start finds it as after a crash");
        }
    }
}

/// What an outbox has to tell.
pub(super) struct Live {
    outbox: Outbox,
    changes: broadcast::Receiver<Change>,
    status: StatusChanges,
    auth: broadcast::Receiver<AuthRequired>,
}

impl Live {
    pub(super) fn new(outbox: &Outbox) -> Self {
        let (changes, status, auth) = (outbox.changes(), outbox.status_changes(), outbox.auth_required());
        Self { outbox: outbox.clone(), changes, status, auth }
    }
}

impl Source for Live {
    async fn status(&self) -> Result<Status> {
        self.outbox.status().await
    }

    async fn next(&mut self) -> News {
        loop {
            return tokio::select! {
                change = self.changes.recv() => match change {
                    Ok(change) if !self.outbox.is_current(&change) => continue,
                    Ok(change) => News::Entry(change),
                    Err(RecvError::Lagged(_)) => News::Missed,
                    Err(RecvError::Closed) => News::Over,
                },
                required = self.auth.recv() => match required {
                    Ok(required) => News::Auth(required),
                    // The status shows it too; and it does not end before the outbox does.
                    Err(_) => News::Status,
                },
                alive = self.status.changed() => if alive { News::Status } else { News::Over },
            };
        }
    }
}
