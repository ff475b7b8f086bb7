//! What callers hold: the verbs that the webview's commands and Rust apps use.
//!
//! An [`Outbox`] writes to the store, reads from it, and wakes the engine. It never sends anything itself, and it never
//! waits for the network: [`Outbox::enqueue`] is done once the entry is on disk, encrypted.

mod conflicts;
mod copy;
mod delivered;
mod edit;
mod enqueue;
mod enqueue_file;
mod flush;
mod payload;
mod query;
mod relations;
mod reset;
mod rotate;
mod seal;
mod sign_out;
mod source;
mod steer;
#[cfg(test)]
mod tests;
mod validate;
mod watch;
mod watched;

use std::{
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock, atomic::AtomicBool},
    time::Duration,
};

use tokio::sync::{
    broadcast,
    watch::{Receiver, Sender},
};

pub use self::{
    edit::Resolution,
    flush::Flushed,
    payload::{EnqueueOptions, NewItem, OCTET_STREAM, Payload},
    query::Query,
    reset::{CONFIRM, Reset},
    rotate::Rotated,
    sign_out::{Leftover, SignedOut},
    source::{FileInfo, FileOptions, FileSource},
    steer::{Discarded, Selection, SelectionFilter},
    watch::{AfterAck, Watch, WatchOptions},
};
pub(crate) use self::{validate::account as check_account, watch::Plan, watched::FoundFile};
pub use crate::board::ProgressReceiver;
use crate::{
    board::Board,
    clock::Clock,
    config::Settings,
    entry::{AuthRequired, Change, Status},
    error::{Error, Result},
    keychain::Keys,
    spool::Spool,
    store::Store,
    wake::{Wake, WakeSignal, file},
};

/// How often a process that does not deliver reads again what somebody waits for: the commits of another process reach
/// it no other way. The process that delivers never does this, and nothing is read while nobody waits.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// The longest that a timeout can be; a longer one is this one. A year: timers cannot do much more.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The verbs. Clones share everything, and any number of callers may use it at once.
#[derive(Clone)]
pub struct Outbox {
    shared: Arc<Shared>,
}

/// What an outbox works on.
pub struct Parts {
    /// The database.
    pub store: Store,
    /// The checked configuration.
    pub settings: Arc<Settings>,
    /// Where master keys come from.
    pub keys: Keys,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Tells the engine of this process to look.
    pub wake: WakeSignal,
    /// What the engine of this process publishes.
    pub board: Board,
    /// The data folder, where the wake file is.
    pub folder: PathBuf,
}

struct Shared {
    parts: Parts,
    spool: Spool,
    account: CurrentAccount,
    /// One rotation of the key at a time.
    rotating: tokio::sync::Mutex<()>,
    /// What sign-outs have left to do is being done.
    resuming: AtomicBool,
    watching: watch::Watching,
    turns: copy::Turns,
    /// Rises with every change of `status()` that is this module's own: account, pause, key.
    version: Sender<u64>,
}

/// The account that every verb is confined to: read from the store once, then kept in memory, so that `enqueue` has
/// nothing to wait for.
#[derive(Default)]
struct CurrentAccount {
    known: RwLock<Option<Arc<str>>>,
    /// Held while a new one is persisted, so that memory and disk end up with the same one. Readers never take it.
    changing: tokio::sync::Mutex<()>,
}

impl CurrentAccount {
    fn known(&self) -> Option<Arc<str>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What was read from the store, unless somebody set one meanwhile.
    fn learn(&self, account: String) -> Arc<str> {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.get_or_insert_with(|| account.into()).clone()
    }

    fn replace(&self, account: &str) {
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Some(account.into());
    }
}

impl Outbox {
    /// An outbox on these parts. Touches neither the disk nor the keychain.
    pub fn new(parts: Parts) -> Self {
        let shared = Shared {
            spool: Spool::new(&parts.folder),
            parts,
            account: CurrentAccount::default(),
            rotating: tokio::sync::Mutex::default(),
            resuming: AtomicBool::default(),
            watching: watch::Watching::default(),
            turns: copy::Turns::default(),
            version: Sender::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    /// What badges show: the counts of the current account, and everything that holds delivery back.
    ///
    /// # Errors
    ///
    /// `database` when the counts cannot be read, `closed` while the app shuts down.
    pub async fn status(&self) -> Result<Status> {
        // Read first: counts may then be newer than their number says, which the next change puts right, but never older.
        let seq = self.seq();
        let account = self.account().await?;
        let Parts { store, keys, board, .. } = self.parts();
        let (counts, paused) = tokio::try_join!(store.counts(&account), store.paused())?;
        Ok(Status {
            ready: true,
            seq,
            counts,
            paused,
            owner: board.owner(),
            account: account.to_string(),
            key: keys.state(&account),
            holds: board.holds(),
            watches: self.shared.watching.states_of(&account),
        })
    }

    /// Every state change of this process, of whatever account, after its commit. A receiver that lags reads the state anew.
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.parts().store.changes()
    }

    /// How far the uploads of the current account are that this process delivers: those under way at once, then whatever gets ahead. Costs
    /// next to nothing while nobody listens. For files that wait, [`Entry::uploaded`](crate::entry::Entry::uploaded) says what the server has.
    ///
    /// # Errors
    ///
    /// `database` when the current account cannot be read, `closed` while the app shuts down.
    pub async fn progress(&self) -> Result<ProgressReceiver> {
        Ok(self.parts().board.progress(&self.account().await?))
    }

    /// Tells when [`Outbox::status`] may answer something new. Ask for it before the first `status()`: what happens
    /// between the two is then not missed.
    pub fn status_changes(&self) -> StatusChanges {
        let Parts { store, board, .. } = self.parts();
        StatusChanges { store: store.version(), board: board.version(), own: self.shared.version.subscribe() }
    }

    /// The current account; `""` when none is used.
    ///
    /// # Errors
    ///
    /// `database` when it was not read yet and cannot be, `closed` while the app shuts down. In a process that does not deliver also
    /// `signed_out`, while another one signs it out with all that is its own.
    pub async fn account(&self) -> Result<Arc<str>> {
        let Parts { store, board, .. } = self.parts();
        match self.shared.account.known() {
            // The process that delivers is the one that signs out. In any other one it must be noticed.
            Some(account) if board.owner() || !store.is_leaving(&account).await? => Ok(account),
            Some(_) => Err(Error::SignedOut),
            None => Ok(self.shared.account.learn(store.account().await?)),
        }
    }

    /// Makes `account` the current one, also after a restart. Every verb is confined to it from then on, and only its
    /// entries are delivered; those of other accounts stay until theirs is the current one again. What is being sent at this moment is
    /// finished, with the credentials of the account that it belongs to. `""` is the account of those who use none.
    ///
    /// Where several processes share the database, delivery follows the account that was set last, in whichever of
    /// them. The verbs of the others stay with theirs until they set another or start anew: what is written in one
    /// user's window must never be sent as another user's.
    ///
    /// # Errors
    ///
    /// `invalid_argument` for an account of more than 256 bytes or with control characters.
    pub async fn set_account(&self, account: &str) -> Result<()> {
        validate::account(account)?;
        let _changing = self.shared.account.changing.lock().await;
        // Of an account that was signed out with all its entries none are left when it is back.
        self.remove_rows_of(account).await?;
        let Parts { store, board, .. } = self.parts();
        let steering = board.pausing().await;
        store.set_account(account).await?;
        board.post_account(account);
        drop(steering);
        self.shared.account.replace(account);
        self.shared.watching.changed();
        self.parts().board.follow_uploads(&account.into());
        self.status_changed();
        self.wake(Wake::Changed).await;
        Ok(())
    }

    /// Remembers that the app has given the account credentials for an origin, or taken them away.
    pub(crate) async fn note_credentials(&self, account: &str, origin: &str, given: bool) -> Result<()> {
        self.parts().store.note_credentials(account, origin, given).await
    }

    /// Origins whose server asks for credentials, as that is found out.
    pub(crate) fn auth_required(&self) -> broadcast::Receiver<AuthRequired> {
        self.parts().board.auth_required()
    }

    /// Whether windows may be told of it: it is the current account's.
    pub(crate) fn is_current(&self, change: &Change) -> bool {
        self.shared.account.known().is_none_or(|account| account == change.account)
    }

    fn parts(&self) -> &Parts {
        &self.shared.parts
    }

    fn now(&self) -> i64 {
        self.parts().clock.wall()
    }

    fn status_changed(&self) {
        self.shared.version.send_modify(|version| *version += 1);
    }

    /// A sum of numbers that only rise rises whenever one of them does.
    fn seq(&self) -> u64 {
        let Parts { store, board, .. } = self.parts();
        *store.version().borrow() + *board.version().borrow() + *self.shared.version.borrow()
    }

    /// Tells the process that delivers: this one by its signal, another one by the wake file.
    async fn wake(&self, wake: Wake) {
        let Parts { wake: signal, board, folder, .. } = self.parts();
        signal.wake(wake);
        if board.owner() {
            return;
        }
        let folder = folder.clone();
        let told = tokio::task::spawn_blocking(move || file::tell(&folder, wake)).await;
        // The row is on disk, so the owner finds it at its next look; failing the caller would say otherwise.
        if let Ok(Err(error)) = told {
            tracing::warn!(%error, "the process that delivers could not be told of a change");
        }
    }

    /// Resolves when the caller's patience ends; never without a timeout.
    async fn patience(&self, timeout: Option<Duration>) {
        let Some(timeout) = timeout else { return std::future::pending().await };
        let clock = &self.parts().clock;
        clock.sleep_until(clock.now() + timeout.min(LONGEST_TIMEOUT)).await;
    }

    /// In a process that does not deliver: resolves when it is time to read again. Never in the one that does, which
    /// hears of every change.
    async fn look_again(&self) {
        if self.parts().board.owner() {
            return std::future::pending().await;
        }
        self.patience(Some(LOOK_AGAIN)).await;
    }
}

/// See [`Outbox::status_changes`].
#[derive(Debug, Clone)]
pub struct StatusChanges {
    store: Receiver<u64>,
    board: Receiver<u64>,
    own: Receiver<u64>,
}

impl StatusChanges {
    /// Resolves once something changed since the last call. Any number of changes between two calls are one. Answers
    /// false when there is nothing left that could change: the app shuts down. Cancel-safe.
    pub async fn changed(&mut self) -> bool {
        let Self { store, board, own } = self;
        let alive = tokio::select! {
            changed = store.changed() => changed.is_ok(),
            changed = board.changed() => changed.is_ok(),
            changed = own.changed() => changed.is_ok(),
        };
        // One status answers for all three.
        store.mark_unchanged();
        board.mark_unchanged();
        own.mark_unchanged();
        alive
    }
}
