//! Claims, opens, sends, settles. Needs no window and no outbox: it learns of work through a [`WakeSignal`] and says why
//! entries wait on a [`Board`].

mod attempt;
mod auth;
mod commit;
mod conflict;
mod content;
mod drain;
mod feed;
mod file;
mod freeze;
mod gate;
mod held;
mod keys;
mod line;
mod migrate;
mod owner;
mod pace;
mod pick;
mod prepare;
mod pulse;
mod rules;
mod speed;
#[cfg(test)]
mod tests;
mod tidy;
mod upload;
mod uploads;
mod verdict;

use std::{
    fmt,
    panic::AssertUnwindSafe,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::FutureExt;
use tokio::{sync::watch, task::JoinHandle};

pub use self::pulse::Rest;
use self::{
    owner::{Lock, Ownership},
    pulse::Pulse,
};
use crate::{
    board::Board,
    clock::{Clock, Random},
    config::Settings,
    error::Result,
    keychain::Keys,
    store::Store,
    transport::{Transport, credentials::Credentials},
    wake::{Wake, WakeSignal},
};

/// Between two attempts at an owner lock that could not even be asked for.
const LOCK_AGAIN: Duration = Duration::from_secs(10);
/// How long delivery rests after a panic; twice as long after each further one.
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(64);

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
    pulse: Arc<Pulse>,
    store: Store,
    board: Board,
    ownership: Held,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// Outlives the task that delivers: what that one has asked the database for is in it before another process may take over.
type Held = Arc<Mutex<Option<Ownership>>>;

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("turns", &self.turns()).finish_non_exhaustive()
    }
}

impl Engine {
    /// Spawns it on the current tokio runtime. It first waits to be the owner, then delivers. Whether this process is the owner by
    /// now is on the board when it returns.
    pub fn start(parts: Parts) -> Self {
        let pulse = Arc::new(Pulse::default());
        let ownership = Held::default();
        let (wake, store, board) = (parts.wake.clone(), parts.store.clone(), parts.board.clone());
        let lock = Lock::try_take(&parts.folder);
        board.post_owner(lock.as_ref().is_ok_and(Lock::is_ours));
        let task = tokio::spawn(run(parts, lock, Arc::clone(&ownership), Arc::clone(&pulse)));
        Self { wake, pulse, store, board, ownership, task: Mutex::new(Some(task)) }
    }

    /// How often its loop has turned. It stands still while nothing is due.
    pub fn turns(&self) -> u64 {
        self.pulse.turns()
    }

    /// None while its loop has something to do by itself; else it waits for answers, for a wake, or for time to pass.
    pub fn rest(&self) -> watch::Receiver<Option<Rest>> {
        self.pulse.rest()
    }

    /// Begins nothing more, lets what is under way finish, and gives up the ownership. After `within` it is ended as it is: what was
    /// under way is found by the next start and sent again with the same key.
    pub async fn stop(&self, within: Duration) {
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut task) = task else { return };
        self.wake.wake(Wake::Exit);
        if tokio::time::timeout(within, &mut task).await.is_err() {
            task.abort();
            drop(task.await);
            give_up(&self.store, &self.board, &self.ownership).await;
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(task) = self.task.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
            self.board.post_owner(false);
        }
    }
}

async fn run(parts: Parts, lock: Result<Lock>, held: Held, pulse: Arc<Pulse>) {
    let ownership = tokio::select! {
        ownership = acquire(&parts, lock) => ownership,
        () = exit(&parts.wake) => return parts.board.post_owner(false),
    };
    *held.lock().unwrap_or_else(PoisonError::into_inner) = Some(ownership);
    deliver(&parts, &pulse).await;
    give_up(&parts.store, &parts.board, &held).await;
}

/// Delivers until the app exits. A panic ends one round of it, not all delivery: what was under way is then found as it is after
/// a crash of the app, and sent again with the same key.
async fn deliver(parts: &Parts, pulse: &Arc<Pulse>) {
    let mut rest = FIRST_REST;
    loop {
        let begun = parts.clock.now();
        let round = drain::Drain::new(parts.clone(), Arc::clone(pulse)).run();
        if AssertUnwindSafe(round).catch_unwind().await.is_ok() {
            return;
        }
        let lasted = parts.clock.now().saturating_sub(begun);
        rest = if lasted > LONGEST_REST { FIRST_REST } else { rest };
        tracing::error!("delivery panicked, which is a bug; it begins anew in {} s", rest.as_secs());
        parts.board.forget();
        tokio::select! {
            () = parts.clock.sleep_until(parts.clock.now() + rest) => {}
            () = exit(&parts.wake) => return,
        }
        rest = (rest * 2).min(LONGEST_REST);
    }
}

/// Tries until it is the owner.
async fn acquire(parts: &Parts, mut lock: Result<Lock>) -> Ownership {
    loop {
        let acquired = match lock {
            Ok(lock) => lock.acquire(&parts.folder, &parts.wake).await,
            Err(error) => Err(error),
        };
        match acquired {
            Ok(ownership) => return ownership,
            Err(error) => tracing::error!(%error, "storage-sync can't deliver in this process yet"),
        }
        parts.clock.sleep_until(parts.clock.now() + LOCK_AGAIN).await;
        lock = Lock::try_take(&parts.folder);
    }
}

/// The lock goes last: a claim that is still on its way into the database would find another owner there.
async fn give_up(store: &Store, board: &Board, held: &Held) {
    if let Err(error) = store.set_owner(false).await {
        tracing::debug!(%error, "the database was closed before the ownership was given up");
    }
    board.post_owner(false);
    drop(held.lock().unwrap_or_else(PoisonError::into_inner).take());
}

/// Wakes mean nothing to a process that is not the owner, but for the last one.
async fn exit(wake: &WakeSignal) {
    while !wake.wait().await.has(Wake::Exit) {}
}
