//! Hands out master keys.

use std::{
    collections::HashMap,
    fmt,
    path::PathBuf,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::watch;
use zeroize::Zeroizing;

use super::{
    KeySource, SourceError,
    caller::Caller,
    lock::{Flight, KeyLock, Users},
};
use crate::{
    cipher::{KeyId, MasterKey},
    entry::{KeyState, KeyStatus},
    error::{Error, Result},
};

/// Bytes of a key.
pub(super) const KEY: usize = 32;

/// Hands out master keys; caches those that are ready; shared by outbox and engine (clones share).
#[derive(Clone)]
pub struct Keys {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) source: Arc<dyn KeySource>,
    pub(super) caller: Caller,
    pub(super) lock: KeyLock,
    pub(super) users: Users,
    pub(super) timeout: Duration,
    pub(super) accounts: RwLock<HashMap<String, Account>>,
    granted: watch::Sender<u64>,
}

/// What is known of one account's key.
#[derive(Clone)]
pub(super) struct Account {
    state: KeyState,
    key: Option<Arc<MasterKey>>,
    /// While a rotation is under way: keys that rows are still wrapped under, or that will be the next.
    pub(super) others: Vec<Arc<MasterKey>>,
    /// Those others were read from the source, and nobody has taken the rotation up yet.
    to_be_taken_up: bool,
    /// How often it was forgotten: what was asked for before that is not kept.
    forgotten: u64,
    turn: Arc<Turn>,
}

/// One at a time asks the source for an account's key; whoever waited meanwhile gets the same answer, so that a hundred
/// callers at a locked keychain are one prompt and one timeout.
#[derive(Default)]
pub(super) struct Turn {
    pub(super) last: tokio::sync::Mutex<Option<Refusal>>,
    finished: AtomicU64,
}

/// What the database says of an account's key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeyRecord {
    /// The key that the database was written with.
    pub id: Option<KeyId>,
    /// There are encrypted rows of this account.
    pub encrypted_rows: bool,
}

/// The keys of one account.
pub(super) struct Ring {
    pub(super) current: Arc<MasterKey>,
    pub(super) others: Vec<Arc<MasterKey>>,
}

impl Ring {
    /// The database says which one is current.
    pub(super) fn of(mut keys: Vec<Arc<MasterKey>>, current: KeyId) -> Option<Self> {
        let at = keys.iter().position(|key| key.id() == current)?;
        let current = keys.remove(at);
        Some(Self { current, others: keys })
    }
}

/// Why there is no key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    Locked,
    Unavailable(String),
    Missing,
    Mismatch,
}

pub(super) enum Failure {
    Key(Refusal),
    Other(Error),
}

impl Keys {
    /// `folder` is the data folder; `key.lock` in it keeps two processes from generating at once. `timeout` is how long
    /// one [`Keys::get`] may wait for the source and for that lock, prompts included: long enough for a person to
    /// type a password. The plugin gives it 60 s.
    pub fn new(source: Arc<dyn KeySource>, folder: PathBuf, timeout: Duration) -> Self {
        let (lock, users) = (KeyLock::new(&folder), Users::new(&folder));
        let accounts = RwLock::default();
        let (caller, granted) = (Caller::new(), watch::Sender::new(0));
        Self { shared: Arc::new(Shared { source, caller, lock, users, timeout, accounts, granted }) }
    }

    /// The cached key of that id: the current one, or one that a rotation has not done with.
    pub fn of_id(&self, account: &str, id: &[u8; 16]) -> Option<Arc<MasterKey>> {
        let accounts = self.shared.accounts.read().unwrap_or_else(PoisonError::into_inner);
        let known = accounts.get(account)?;
        known.key.iter().chain(&known.others).find(|key| key.id().0 == *id).cloned()
    }

    /// Whether a rotation that another run has begun is to be taken up: true once for whoever asks first.
    pub fn is_to_be_taken_up(&self, account: &str) -> bool {
        let begun = |known: &Account| known.to_be_taken_up;
        let accounts = self.shared.accounts.read().unwrap_or_else(PoisonError::into_inner);
        if !accounts.get(account).is_some_and(begun) {
            return false;
        }
        drop(accounts);
        let mut accounts = self.shared.accounts.write().unwrap_or_else(PoisonError::into_inner);
        accounts.get_mut(account).is_some_and(|known| std::mem::take(&mut known.to_be_taken_up))
    }

    /// The cached key, without touching the source. This is the hot path.
    pub fn cached(&self, account: &str) -> Option<Arc<MasterKey>> {
        self.shared.accounts.read().unwrap_or_else(PoisonError::into_inner).get(account)?.key.clone()
    }

    /// Loads the key, or generates one if the record is empty and the source says that it has none.
    ///
    /// Callers that come while one is asking share what it learns. `record` is asked under the lock, so it sees what
    /// another process has just kept. `keep` puts the id of a key that the database does not know yet into the
    /// database; the key is used only after that. Dropping the future is safe at any point: what was stored and not
    /// kept is found and adopted by the next call.
    ///
    /// # Errors
    /// [`Error::KeychainLocked`] (also when it did not answer in time), [`Error::KeychainUnavailable`],
    /// [`Error::KeyMissing`], [`Error::KeyMismatch`]; whatever `record` and `keep` answer. After each of them it can be
    /// called again.
    pub async fn get<R, RF, K, KF>(&self, account: &str, record: R, keep: K) -> Result<Arc<MasterKey>>
    where
        R: Fn() -> RF + Send,
        RF: Future<Output = Result<KeyRecord>> + Send,
        K: Fn(KeyId) -> KF + Send,
        KF: Future<Output = Result<()>> + Send,
    {
        if let Some(key) = self.cached(account) {
            return Ok(key);
        }
        let turn = self.turn(account);
        let seen = turn.finished.load(Ordering::Acquire);
        let mut last = turn.last.lock().await;
        if let Some(key) = self.cached(account) {
            return Ok(key);
        }
        if let Some(refusal) = last.as_ref().filter(|_| turn.finished.load(Ordering::Acquire) != seen) {
            return Err(refusal.error());
        }
        let forgotten = self.forgotten(account);
        let outcome = self.shared.settle(account, record, keep).await;
        *last = match &outcome {
            Err(Failure::Key(refusal)) => Some(refusal.clone()),
            _ => None,
        };
        turn.finished.fetch_add(1, Ordering::AcqRel);
        match outcome {
            Ok(ring) => {
                let (key, begun) = (ring.current.clone(), !ring.others.is_empty());
                if self.note(account, forgotten, KeyState::Ready, Some(ring)) {
                    let mut accounts = self.shared.accounts.write().unwrap_or_else(PoisonError::into_inner);
                    accounts.entry(account.to_owned()).or_default().to_be_taken_up = begun;
                }
                Ok(key)
            }
            Err(Failure::Key(refusal)) => {
                self.note(account, forgotten, refusal.state(), None);
                Err(refusal.error())
            }
            Err(Failure::Other(error)) => Err(error),
        }
    }

    /// What was last learned of the account's key. Does not ask.
    pub fn state(&self, account: &str) -> KeyStatus {
        let accounts = self.shared.accounts.read().unwrap_or_else(PoisonError::into_inner);
        let state = accounts.get(account).map_or(KeyState::Unused, |known| known.state);
        KeyStatus { state, source: self.shared.source.name().to_owned() }
    }

    /// Forgets everything cached: the next [`Keys::get`] asks the source. Keys are overwritten in memory once nobody
    /// uses them.
    pub fn forget(&self) {
        let mut accounts = self.shared.accounts.write().unwrap_or_else(PoisonError::into_inner);
        accounts.values_mut().for_each(Account::forget);
    }

    /// Forgets what is cached of one account: its key is overwritten in memory once nobody uses it.
    pub fn forget_account(&self, account: &str) {
        let mut accounts = self.shared.accounts.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = accounts.get_mut(account) {
            known.forget();
        }
    }

    /// Rises whenever some account's key was had from its source: others may be had now too.
    pub fn granted(&self) -> watch::Receiver<u64> {
        self.shared.granted.subscribe()
    }

    pub(super) fn turn(&self, account: &str) -> Arc<Turn> {
        let mut accounts = self.shared.accounts.write().unwrap_or_else(PoisonError::into_inner);
        accounts.entry(account.to_owned()).or_default().turn.clone()
    }

    /// How often the account's key was forgotten: to be asked for before the source is.
    pub(super) fn forgotten(&self, account: &str) -> u64 {
        let accounts = self.shared.accounts.read().unwrap_or_else(PoisonError::into_inner);
        accounts.get(account).map_or(0, |known| known.forgotten)
    }

    /// Keeps what the source answered, unless all of it was `forgotten` meanwhile: whoever asked has his answer, and a key that was to go
    /// from memory does not come back into it. Answers whether it was kept.
    pub(super) fn note(&self, account: &str, forgotten: u64, state: KeyState, ring: Option<Ring>) -> bool {
        let mut accounts = self.shared.accounts.write().unwrap_or_else(PoisonError::into_inner);
        let known = accounts.entry(account.to_owned()).or_default();
        if known.forgotten != forgotten {
            return false;
        }
        if known.state != state {
            let (source, from, to) = (self.shared.source.name(), known.state, state);
            tracing::info!(target: "storage_sync", source, ?from, ?to, "state of the master key");
        }
        known.state = state;
        if state == KeyState::Ready {
            self.shared.granted.send_modify(|times| *times += 1);
        }
        (known.key, known.others) = match ring {
            Some(Ring { current, others }) => (Some(current), others),
            None => (None, Vec::new()),
        };
        true
    }
}

impl Account {
    /// Keys are overwritten in memory once nobody uses them.
    fn forget(&mut self) {
        (self.key, self.state) = (None, KeyState::Unused);
        self.others.clear();
        self.forgotten += 1;
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("source", &self.shared.source.name()).finish_non_exhaustive()
    }
}

impl Default for Account {
    fn default() -> Self {
        Self {
            state: KeyState::Unused,
            key: None,
            others: Vec::new(),
            to_be_taken_up: false,
            forgotten: 0,
            turn: Arc::default(),
        }
    }
}

impl Shared {
    /// One look at lock, record and source, and what follows from it.
    async fn settle<R, RF, K, KF>(&self, account: &str, record: R, keep: K) -> Result<Ring, Failure>
    where
        R: Fn() -> RF + Send,
        RF: Future<Output = Result<KeyRecord>> + Send,
        K: Fn(KeyId) -> KF + Send,
        KF: Future<Output = Result<()>> + Send,
    {
        let deadline = Instant::now() + self.timeout;
        let Some(flight) = self.lock.take(deadline).await.map_err(Failure::Other)? else {
            tracing::debug!(target: "storage_sync", "another process, or an open prompt of our own, holds the key's lock");
            return Err(Failure::Key(Refusal::Locked));
        };
        let recorded = record();
        let recorded = recorded.await.map_err(Failure::Other)?;
        let key = match (self.load(account, deadline).await?, recorded.id) {
            (Some(keys), Some(id)) => {
                let ring = Ring::of(keys, id).ok_or(Failure::Key(Refusal::Mismatch))?;
                self.users.join();
                return Ok(ring);
            }
            // Stored by a run that ended before the id was kept, or the database is a new one: it is our key all the
            // same.
            (Some(mut keys), None) => keys.swap_remove(0),
            (None, None) if !recorded.encrypted_rows => self.generate(account, &flight, deadline).await?,
            (None, _) => return Err(Failure::Key(Refusal::Missing)),
        };
        let kept = keep(key.id());
        kept.await.map_err(Failure::Other)?;
        // Under the lock that a rotation is finished under: from the moment that this process has a key, no other one drops it.
        self.users.join();
        Ok(Ring { current: key, others: Vec::new() })
    }

    /// What the source keeps: one key, or several while a rotation is under way, the newest first.
    pub(super) async fn load(&self, account: &str, deadline: Instant) -> Result<Option<Vec<Arc<MasterKey>>>, Failure> {
        let (source, owned) = (self.source.clone(), account.to_owned());
        let loaded = self.caller.call(deadline, move || source.load(&owned)).await?;
        let Some(bytes) = loaded else { return Ok(None) };
        let keys = bytes.chunks(KEY).map(|key| MasterKey::from_bytes(Zeroizing::new(key.to_vec())).map(Arc::new));
        // What is there under our name and is no key is never overwritten either.
        let keys: Option<Vec<_>> = keys.collect();
        keys.filter(|keys| !keys.is_empty()).map(Some).ok_or(Failure::Key(Refusal::Mismatch))
    }

    async fn generate(&self, account: &str, flight: &Flight, deadline: Instant) -> Result<Arc<MasterKey>, Failure> {
        let key = Arc::new(MasterKey::generate());
        self.store(account, std::slice::from_ref(&key), flight, deadline).await?;
        Ok(key)
    }

    /// Keeps these keys in place of what the source had, and makes sure that it does.
    pub(super) async fn store(
        &self,
        account: &str,
        keys: &[Arc<MasterKey>],
        flight: &Flight,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let (source, owned, held) = (self.source.clone(), account.to_owned(), flight.share());
        // Sized once: a reallocation would leave a copy of a key behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(keys.len() * KEY));
        keys.iter().for_each(|key| bytes.extend_from_slice(key.expose()));
        let store = move || {
            let stored = source.store(&owned, &bytes);
            drop(held);
            stored
        };
        self.caller.call(deadline, store).await?;
        let kept = self.load(account, deadline).await?.unwrap_or_default();
        if kept.iter().map(|key| key.id()).eq(keys.iter().map(|key| key.id())) {
            return Ok(());
        }
        Err(Failure::Key(Refusal::Unavailable("it did not keep a new key".into())))
    }
}

impl Refusal {
    fn state(&self) -> KeyState {
        match self {
            Self::Locked => KeyState::Locked,
            Self::Unavailable(_) => KeyState::Unavailable,
            Self::Missing => KeyState::Missing,
            Self::Mismatch => KeyState::Mismatch,
        }
    }

    pub(super) fn error(&self) -> Error {
        match self {
            Self::Locked => Error::KeychainLocked,
            Self::Unavailable(why) => Error::KeychainUnavailable(why.clone()),
            Self::Missing => Error::KeyMissing,
            Self::Mismatch => Error::KeyMismatch,
        }
    }
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        tracing::debug!(target: "storage_sync", %error, "the key source did not answer");
        Self::Key(match error {
            SourceError::Locked(_) => Refusal::Locked,
            SourceError::Unavailable(why) => Refusal::Unavailable(why),
        })
    }
}
