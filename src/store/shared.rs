//! What handles and the writer share.

use std::{
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock},
};

use sqlx::sqlite::SqlitePool;
use tokio::sync::{broadcast, watch};
use uuid::Uuid;

use super::{fault::Fault, feed::Changed, files, open, trial::Trial};
use crate::{entry::Change, error::Error};

/// Changes that a slow receiver may be behind before it must read the state anew.
const CHANGES: usize = 4096;

/// What handles and the writer share.
pub(super) struct Shared {
    pub(super) folder: PathBuf,
    pub(super) trial: Trial,
    device: RwLock<Uuid>,
    /// None once the database is closed: whoever waits for news then hears that there will be none.
    changes: RwLock<Option<broadcast::Sender<Change>>>,
    pub(super) version: watch::Sender<u64>,
    /// Replaced after the disk failed.
    readers: RwLock<SqlitePool>,
}

impl Shared {
    pub(super) fn new(folder: &Path, trial: Trial, device: Uuid, readers: SqlitePool) -> Self {
        let (changes, _) = broadcast::channel(CHANGES);
        Self {
            folder: folder.to_owned(),
            trial,
            device: RwLock::new(device),
            changes: RwLock::new(Some(changes)),
            version: watch::Sender::new(0),
            readers: RwLock::new(readers),
        }
    }

    pub(super) fn device(&self) -> Uuid {
        *self.device.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn renew_device(&self, device: Uuid) {
        *self.device.write().unwrap_or_else(PoisonError::into_inner) = device;
    }

    pub(super) fn changes(&self) -> broadcast::Receiver<Change> {
        let changes = self.changes.read().unwrap_or_else(PoisonError::into_inner);
        // A receiver without a sender says at once that it is over.
        changes.as_ref().map_or_else(|| broadcast::channel(1).1, broadcast::Sender::subscribe)
    }

    pub(super) fn end_changes(&self) {
        *self.changes.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(super) fn pool(&self) -> SqlitePool {
        self.readers.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn replace_pool(&self) {
        *self.readers.write().unwrap_or_else(PoisonError::into_inner) = open::pool(&self.folder);
    }

    /// Tells subscribers what was committed. No changes still mean that they should look.
    pub(super) fn publish(&self, changed: Vec<Changed>) {
        let changes = self.changes.read().unwrap_or_else(PoisonError::into_inner);
        self.version.send_modify(|version| {
            if changed.is_empty() {
                *version += 1;
            }
            for Changed { id, kind, state, account, conflict } in changed {
                *version += 1;
                let change = Change { id, kind, state, seq: *version, account, conflict };
                // Nobody listens: nothing to tell.
                let _ = changes.as_ref().map(|changes| changes.send(change));
            }
        });
    }

    /// What the next start must know.
    pub(super) fn note(&self, fault: &Fault) {
        if let Fault::Corrupt(_) = fault {
            tracing::error!("the database is damaged: the next start salvages what is readable");
            files::suspect(&self.folder);
        }
    }

    /// A failed read, as callers see it.
    pub(super) fn failed(&self, fault: Fault) -> Error {
        self.note(&fault);
        fault.into()
    }
}
