//! One process delivers: the one that holds an OS file lock, which a kill releases. The others tell it through a file.

use std::{
    fs::File,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::oneshot;

use crate::{
    error::{Error, Result},
    wake::{Wake, WakeSignal, file::Inbox},
};

/// The name of the lock file in the data folder.
const LOCK: &str = "owner.lock";

/// While it lives, this process is the owner.
#[derive(Debug)]
pub(super) struct Ownership {
    _lock: File,
    _watcher: Option<RecommendedWatcher>,
}

/// The lock, tried once.
#[derive(Debug)]
pub(super) enum Lock {
    /// This process delivers.
    Ours(File),
    /// Another one does.
    Theirs(File),
}

impl Lock {
    /// Never waits.
    pub(super) fn try_take(folder: &Path) -> Result<Self> {
        let path: PathBuf = folder.join(LOCK);
        let mut options = File::options();
        options.create(true).truncate(false).write(true);
        // For the user only: whoever could open it could hold it, and nothing would be delivered.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let opened = options.open(path);
        let file = opened.map_err(|error| Error::io("the owner lock could not be opened", error))?;
        Ok(if file.try_lock().is_ok() { Self::Ours(file) } else { Self::Theirs(file) })
    }

    pub(super) fn is_ours(&self) -> bool {
        matches!(self, Self::Ours(_))
    }

    /// Waits for the lock, for as long as it takes: the wait ends when the owner goes, however it goes. Nothing polls.
    pub(super) async fn acquire(self, folder: &Path, wake: &WakeSignal) -> Result<Ownership> {
        let lock = match self {
            Self::Ours(file) => file,
            Self::Theirs(file) => wait(file).await?,
        };
        let watcher = match watch(folder, wake.clone()) {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                tracing::warn!(%error, "storage-sync can't watch for other processes; it finds their entries at its next look");
                None
            }
        };
        Ok(Ownership { _lock: lock, _watcher: watcher })
    }
}

/// The thread that waits is detached: a process that exits meanwhile is not held up.
async fn wait(file: File) -> Result<File> {
    tracing::info!("another process delivers; this one takes over when that one goes");
    let (sender, receiver) = oneshot::channel();
    std::thread::Builder::new()
        .name("storage-sync-owner".into())
        .spawn(move || {
            let answer = loop {
                match file.lock() {
                    // A signal is no answer.
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    answer => break answer.map(|()| file),
                }
            };
            // Nobody waits any more: dropping the file gives the lock back.
            drop(sender.send(answer));
        })
        .map_err(|error| Error::io("the thread that waits for the owner lock could not be started", error))?;
    receiver.await.map_err(|_| Error::Closed)?.map_err(|error| Error::io("the owner lock could not be taken", error))
}

fn watch(folder: &Path, wake: WakeSignal) -> notify::Result<RecommendedWatcher> {
    let mut inbox = Inbox::open(folder).map_err(notify::Error::io)?;
    let path = inbox.path().to_owned();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // An access is our own.
        if event.as_ref().is_ok_and(|event| matches!(event.kind, EventKind::Access(_))) {
            return;
        }
        // An error may hide an event, so it counts as one.
        let hidden = event.is_err().then_some(Wake::Others);
        let told = inbox.take().unwrap_or_else(|_| vec![Wake::Others]);
        told.into_iter().chain(hidden).for_each(|told| wake.wake(told));
    })?;
    watcher.watch(&path, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}
