//! What the engine publishes and the outbox reads: why entries wait, and how far uploads are. Neither knows the other.

mod uploads;

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::{broadcast, watch};
use uuid::Uuid;

pub use self::uploads::ProgressReceiver;
use crate::{
    clock::Clock,
    entry::{AuthRequired, Hold, WaitingFor},
};

/// So many origins may ask for credentials before a listener that is slow misses one: there are never that many.
const AUTH: usize = 64;

/// Clones share it.
#[derive(Clone)]
pub struct Board {
    shared: Arc<Shared>,
}

struct Shared {
    clock: Arc<dyn Clock>,
    posted: RwLock<Posted>,
    pausing: tokio::sync::Mutex<()>,
    version: watch::Sender<u64>,
    requested: watch::Sender<u64>,
    flushed: watch::Sender<u64>,
    others: watch::Sender<u64>,
    /// Accounts whose attempts end now, answered or not.
    cut: watch::Sender<HashSet<Arc<str>>>,
    /// Origins whose server asks for credentials, as they come.
    auth: broadcast::Sender<AuthRequired>,
    /// How often one did.
    asked: AtomicU64,
    uploads: uploads::Uploads,
}

#[derive(Default)]
struct Posted {
    owner: bool,
    paused: bool,
    /// The current account, once it is known.
    account: Option<Arc<str>>,
    /// Accounts that are being signed out.
    barred: HashSet<Arc<str>>,
    holds: Vec<Held>,
    everything: Option<WaitingFor>,
    backoffs: HashMap<i64, Backoff>,
}

/// As long as it lives, nothing of the account begins to be sent.
#[derive(Debug)]
pub struct Barred {
    board: Board,
    account: Arc<str>,
}

impl Barred {
    /// Ends what is being sent: it counts as possibly sent.
    pub fn cut(&self) {
        self.board.shared.cut.send_if_modified(|cut| cut.insert(Arc::clone(&self.account)));
    }
}

impl Drop for Barred {
    fn drop(&mut self) {
        self.board.shared.cut.send_if_modified(|cut| cut.remove(&self.account));
        self.board.post(|posted| posted.barred.remove(&self.account));
    }
}

/// A hold as the engine posts it. Times are monotonic; they become wall clock only for display.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    pub kind: Option<String>,
    pub origin: String,
    pub because: Because,
    /// The endpoints that it holds.
    pub kinds: Vec<String>,
    /// Which time it is that a server asks for other credentials, if it does.
    pub asked: Option<u64>,
}

/// Why an endpoint or an origin is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Because {
    Offline,
    Busy { until: Duration },
    Auth,
    Unproven,
    Refusing,
}

/// Why a single entry waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Backoff {
    Until(Duration),
    For(WaitingFor),
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Board").field("owner", &self.owner()).finish_non_exhaustive()
    }
}

impl Board {
    /// An empty board: nobody delivers yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            shared: Arc::new(Shared {
                clock,
                posted: RwLock::default(),
                pausing: tokio::sync::Mutex::default(),
                version: watch::Sender::default(),
                requested: watch::Sender::default(),
                flushed: watch::Sender::default(),
                others: watch::Sender::default(),
                cut: watch::Sender::default(),
                auth: broadcast::Sender::new(AUTH),
                asked: AtomicU64::new(0),
                uploads: uploads::Uploads::default(),
            }),
        }
    }

    /// Why a pending entry waits. `behind` is the older entry of its lane, `on` an entry that it depends on, if there is one.
    pub fn waiting_for(&self, seq: i64, kind: &str, behind: Option<Uuid>, on: Option<Uuid>) -> WaitingFor {
        let posted = self.read();
        if posted.paused {
            return WaitingFor::Paused;
        }
        if let Some(behind) = behind {
            return WaitingFor::Lane { behind };
        }
        if let Some(on) = on {
            return WaitingFor::Dependency { on };
        }
        if let Some(everything) = &posted.everything {
            return everything.clone();
        }
        if let Some(held) = posted.holds.iter().find(|held| held.kinds.iter().any(|other| other == kind)) {
            return self.words(held);
        }
        match posted.backoffs.get(&seq) {
            Some(Backoff::Until(until)) => WaitingFor::Backoff { until: self.on_the_wall(*until) },
            Some(Backoff::For(waiting)) => waiting.clone(),
            None => WaitingFor::Turn,
        }
    }

    /// The endpoints and origins that are held.
    pub fn holds(&self) -> Vec<Hold> {
        let held = |held: &Held| Hold {
            kind: held.kind.clone(),
            origin: held.origin.clone(),
            waiting_for: self.words(held),
            asked: held.asked,
        };
        self.read().holds.iter().map(held).collect()
    }

    /// Whether this process delivers.
    pub fn owner(&self) -> bool {
        self.read().owner
    }

    /// Whether delivery is paused. From then on nothing more is sent.
    pub fn paused(&self) -> bool {
        self.read().paused
    }

    /// Whether something of that account may be sent now: it is the current one, and not being signed out.
    pub fn may_send(&self, account: &str) -> bool {
        let posted = self.read();
        posted.account.as_deref().is_none_or(|current| current == account) && !posted.barred.contains(account)
    }

    /// From now on nothing of that account begins to be sent, until the answer is dropped.
    pub fn bar(&self, account: &str) -> Barred {
        let account: Arc<str> = account.into();
        self.post(|posted| posted.barred.insert(Arc::clone(&account)));
        Barred { board: self.clone(), account }
    }

    /// Resolves once what is being sent for that account is to end.
    pub async fn cut(&self, account: &str) {
        let mut cut = self.shared.cut.subscribe();
        // The sender lives as long as we do.
        let _ = cut.wait_for(|cut| cut.contains(account)).await;
    }

    /// Origins whose server asks for credentials: each once for every set of credentials that it refused.
    pub fn auth_required(&self) -> broadcast::Receiver<AuthRequired> {
        self.shared.auth.subscribe()
    }

    /// To be held from reading or writing the pause or the current account on disk until it is posted, so that an older one is never
    /// posted last.
    pub async fn pausing(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.shared.pausing.lock().await
    }

    /// Rises whenever a hold, the ownership, the pause or what an entry waits for changed, or another process wrote.
    pub fn version(&self) -> watch::Receiver<u64> {
        self.shared.version.subscribe()
    }

    /// Asks for a flush round and answers its number; wake the engine with `Wake::Flush` then.
    pub fn request_flush(&self) -> u64 {
        let mut number = 0;
        self.shared.requested.send_modify(|requested| {
            *requested += 1;
            number = *requested;
        });
        number
    }

    /// The newest round that is over: nothing was left that could be sent at once.
    pub fn flushed(&self) -> watch::Receiver<u64> {
        self.shared.flushed.subscribe()
    }

    /// Rises whenever another process on the database has written: its changes are announced nowhere here.
    pub fn others(&self) -> watch::Receiver<u64> {
        self.shared.others.subscribe()
    }

    pub(crate) fn post_others(&self) {
        self.shared.others.send_modify(|others| *others += 1);
        self.post(|_| true);
    }

    pub(crate) fn requested_flush(&self) -> u64 {
        *self.shared.requested.borrow()
    }

    /// The number of one more time that a server asks for credentials. Here, so that a delivery that begins anew gives none twice.
    pub(crate) fn number_of_asking(&self) -> u64 {
        self.shared.asked.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn post_flushed(&self, number: u64) {
        self.shared.flushed.send_if_modified(|flushed| {
            let newer = number > *flushed;
            *flushed = number.max(*flushed);
            newer
        });
    }

    pub(crate) fn post_owner(&self, owner: bool) {
        self.post(|posted| std::mem::replace(&mut posted.owner, owner) != owner);
    }

    pub(crate) fn post_paused(&self, paused: bool) {
        self.post(|posted| std::mem::replace(&mut posted.paused, paused) != paused);
    }

    pub(crate) fn post_account(&self, account: &str) {
        self.post(|posted| {
            let changed = posted.account.as_deref() != Some(account);
            posted.account = Some(account.into());
            changed
        });
    }

    pub(crate) fn post_auth(&self, required: AuthRequired) {
        // Nobody listens: the status shows it too.
        let _ = self.shared.auth.send(required);
    }

    /// Nothing is known any more of why entries wait: delivery begins anew.
    pub(crate) fn forget(&self) {
        self.post(|posted| {
            posted.holds.clear();
            posted.everything = None;
            posted.backoffs.clear();
            true
        });
    }

    pub(crate) fn post_holds(&self, holds: Vec<Held>, everything: Option<WaitingFor>) {
        self.post(|posted| {
            let changed = posted.holds != holds || posted.everything != everything;
            posted.holds = holds;
            posted.everything = everything;
            changed
        });
    }

    pub(crate) fn post_backoff(&self, seq: i64, backoff: Option<Backoff>) {
        self.post(|posted| match backoff {
            // Comes with a change of the entry's state, which tells by itself.
            Some(until @ Backoff::Until(_)) => {
                posted.backoffs.insert(seq, until);
                false
            }
            Some(other) => posted.backoffs.insert(seq, other.clone()) != Some(other),
            None => {
                posted.backoffs.remove(&seq);
                false
            }
        });
    }

    fn post(&self, change: impl FnOnce(&mut Posted) -> bool) {
        if change(&mut self.write()) {
            self.shared.version.send_modify(|version| *version += 1);
        }
    }

    fn words(&self, held: &Held) -> WaitingFor {
        match held.because {
            Because::Offline => WaitingFor::Offline { origin: held.origin.clone() },
            Because::Busy { until } => WaitingFor::Busy { until: self.on_the_wall(until) },
            Because::Auth => WaitingFor::Auth { origin: held.origin.clone() },
            Because::Unproven => WaitingFor::Unproven,
            Because::Refusing => WaitingFor::Refusing,
        }
    }

    fn on_the_wall(&self, at: Duration) -> i64 {
        let left = at.saturating_sub(self.shared.clock.now()).as_millis();
        self.shared.clock.wall().saturating_add(i64::try_from(left).unwrap_or(i64::MAX))
    }

    fn read(&self) -> RwLockReadGuard<'_, Posted> {
        self.shared.posted.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Posted> {
        self.shared.posted.write().unwrap_or_else(PoisonError::into_inner)
    }
}
