//! One process delivers: the one that holds an OS file lock, which a kill releases. The others tell it by touching a file.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::oneshot;

use crate::{
    error::{Error, Result},
    wake::{Wake, WakeSignal},
};

/// The name of the lock file in the data folder.
const LOCK: &str = "owner.lock";
/// The file in the data folder that other processes touch.
const WAKE: &str = "wake";

/// While it lives, this process is the owner.
#[derive(Debug)]
pub(super) struct Ownership {
    _lock: File,
    _watcher: Option<RecommendedWatcher>,
}

/// Waits for the lock, for as long as it takes: the wait ends when the owner goes, however it goes. Nothing polls.
///
/// The thread that waits is detached: a process that exits meanwhile is not held up.
pub(super) async fn acquire(folder: &Path, wake: &WakeSignal) -> Result<Ownership> {
    let lock = lock(folder.join(LOCK)).await?;
    let watcher = match watch(folder.join(WAKE), wake.clone()) {
        Ok(watcher) => Some(watcher),
        Err(error) => {
            tracing::warn!(%error, "storage-sync can't watch for other processes; it finds their entries at its next look");
            None
        }
    };
    Ok(Ownership { _lock: lock, _watcher: watcher })
}

async fn lock(path: PathBuf) -> Result<File> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|error| Error::io("the owner lock could not be opened", error))?;
    if file.try_lock().is_ok() {
        return Ok(file);
    }
    tracing::info!("another process delivers; this one takes over when that one goes");
    let (sender, receiver) = oneshot::channel();
    std::thread::Builder::new()
        .name("storage-sync-owner".into())
        .spawn(move || {
            let answer = file.lock().map(|()| file);
            // Nobody waits any more: dropping the file gives the lock back.
            drop(sender.send(answer));
        })
        .map_err(|error| Error::io("the thread that waits for the owner lock could not be started", error))?;
    receiver.await.map_err(|_| Error::Closed)?.map_err(|error| Error::io("the owner lock could not be taken", error))
}

fn watch(path: PathBuf, wake: WakeSignal) -> notify::Result<RecommendedWatcher> {
    File::options().create(true).append(true).open(&path).map_err(notify::Error::io)?;
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // An error may hide an event, so it counts as one; an access is our own.
        if event.map_or(true, |event| !matches!(event.kind, EventKind::Access(_))) {
            wake.wake(Wake::Others);
        }
    })?;
    watcher.watch(&path, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}
