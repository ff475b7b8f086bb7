//! Claims, opens, sends, settles. Needs no window and no outbox: it learns of work through a [`WakeSignal`] and says why
//! entries wait on a [`Board`].

mod attempt;
mod drain;
mod feed;
mod gate;
mod keys;
mod owner;
mod pick;
mod prepare;
mod rules;
mod verdict;
#[cfg(test)]
mod verdict_tests;

use std::{
    fmt,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::task::JoinHandle;

use crate::{
    board::Board,
    clock::{Clock, Random},
    config::Settings,
    keychain::Keys,
    store::Store,
    transport::{Transport, credentials::Credentials},
    wake::{Wake, WakeSignal},
};

/// Everything the engine works with. Whatever is outside comes from here, so that a test replaces it through the same door.
#[derive(Clone)]
pub struct Parts {
    /// The database.
    pub store: Store,
    /// Endpoints and retry.
    pub settings: Arc<Settings>,
    /// Master keys.
    pub keys: Keys,
    /// Delivers requests.
    pub transport: Arc<dyn Transport>,
    /// What is added to each attempt.
    pub credentials: Credentials,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Jitter.
    pub random: Arc<dyn Random>,
    /// Why to look.
    pub wake: WakeSignal,
    /// Where to say why entries wait.
    pub board: Board,
    /// The data folder, for the owner lock and the wake file.
    pub folder: PathBuf,
}

/// A running engine. Dropping it ends it at once, as a kill would; [`Engine::stop`] lets it finish what is under way.
pub struct Engine {
    wake: WakeSignal,
    turns: Arc<AtomicU64>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("turns", &self.turns()).finish_non_exhaustive()
    }
}

impl Engine {
    /// Spawns it on the current tokio runtime. It first waits to be the owner, then delivers.
    pub fn start(parts: Parts) -> Self {
        let turns = Arc::new(AtomicU64::new(0));
        let wake = parts.wake.clone();
        let task = tokio::spawn(run(parts, Arc::clone(&turns)));
        Self { wake, turns, task: Mutex::new(Some(task)) }
    }

    /// How often its loop has turned. It stands still while nothing is due.
    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    /// Begins nothing more, lets what is under way finish, and gives up the ownership. After `within` it is ended as it is: what was
    /// under way is found by the next start and sent again with the same key.
    pub async fn stop(&self, within: Duration) {
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut task) = task else { return };
        self.wake.wake(Wake::Exit);
        if tokio::time::timeout(within, &mut task).await.is_err() {
            task.abort();
            // The lock file is closed with the task, so wait until it is really gone.
            drop(task.await);
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(task) = self.task.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }
}

async fn run(parts: Parts, turns: Arc<AtomicU64>) {
    let ownership = tokio::select! {
        ownership = owner::acquire(&parts.folder, &parts.wake) => ownership,
        () = exit(&parts.wake) => return,
    };
    let ownership = match ownership {
        Ok(ownership) => ownership,
        Err(error) => {
            tracing::error!(%error, "storage-sync can't deliver in this process");
            return;
        }
    };
    drain::Drain::new(parts.clone(), turns).run().await;
    if let Err(error) = parts.store.set_owner(false).await {
        tracing::debug!(%error, "the database was closed before the ownership was given up");
    }
    parts.board.post_owner(false);
    drop(ownership);
}

/// Wakes mean nothing to a process that is not the owner, but for the last one.
async fn exit(wake: &WakeSignal) {
    while !wake.wait().await.has(Wake::Exit) {}
}
