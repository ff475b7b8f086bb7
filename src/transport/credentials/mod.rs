//! Credential headers, in memory only: given by the app (`setCredentials`), or asked of an [`AuthProvider`] when something is about to be sent.
//!
//! They belong to one account and one origin. Every set of headers has a version; a 401 names the version that it rejected, so that late ones cost nothing.

mod check;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet},
    fmt,
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::FutureExt;
use url::Url;
use zeroize::Zeroizing;

use self::check::checked;
use crate::error::{Error, Result};

/// How long an [`AuthProvider`] may take. Sources: a token refresh is one HTTP exchange, and those have 30 s in most clients.
const PROVIDER_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest reason of a provider that is passed on.
const LONGEST_WHY: usize = 300;

/// A future that an [`AuthProvider`] returns: names and values of headers, or why there are none.
pub type Asking<'a> = Pin<Box<dyn Future<Output = Result<Vec<(String, String)>, String>> + Send + 'a>>;

/// Gives credentials at the moment that something is sent, so that delivery needs no window.
///
/// It is asked for every attempt (attempts that come at the same time share an answer), so it should keep its token and renew it only when it is about to expire or
/// [`AuthRequest::rejected`] says so. It has 30 s; when these run out, or what was to be sent is withdrawn, its future is dropped. Never called twice at once for one account and origin.
pub trait AuthProvider: Send + Sync + 'static {
    /// The headers to send, such as `("Authorization", "Bearer …")`; none if none are needed.
    ///
    /// # Errors
    /// Why there are none now, in words that a user may read: no secrets in them. What was to be sent waits for `auth`.
    fn headers(&self, ask: AuthRequest) -> Asking<'_>;
}

/// What an [`AuthProvider`] is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuthRequest {
    /// Where the headers are sent to: scheme, host and port, as in `https://api.example.com`. Never to anywhere else.
    pub origin: String,
    /// For whom; `""` when the app uses no accounts.
    pub account: String,
    /// The last ones were rejected with 401 or 407.
    pub rejected: bool,
}

/// Headers to send now.
#[derive(Clone, PartialEq, Eq)]
pub struct Current {
    /// Names these headers, for [`Credentials::renew`]. 0: there are none.
    pub version: u64,
    /// Names and values.
    pub headers: Vec<(String, String)>,
}

/// Shows the names of the headers only.
impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Current").field("version", &self.version).field("headers", &names).finish()
    }
}

/// The credentials of all accounts. Clones share them. They are wiped from memory when they are replaced or dropped, and never written anywhere.
#[derive(Clone)]
pub struct Credentials {
    provider: Option<Arc<dyn AuthProvider>>,
    slots: Arc<Mutex<Slots>>,
    /// [`PROVIDER_TIMEOUT`], but for tests.
    patience: Duration,
}

#[derive(Default)]
struct Slots {
    /// The last version given out. One count for all, so that a version never returns, not even after `clear`.
    last: u64,
    slots: HashMap<Place, Slot>,
    /// Where the app has given credentials before, in this run or an earlier one: nothing is sent without.
    expected: HashSet<Place>,
}

/// Whose credentials, and where to.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Place {
    account: String,
    origin: String,
}

impl Place {
    fn new(account: &str, origin: &str) -> Self {
        Self { account: account.into(), origin: origin.into() }
    }
}

type Headers = Vec<(String, Zeroizing<String>)>;

/// What is known of one place.
#[derive(Default)]
struct Slot {
    /// 0: nothing yet.
    version: u64,
    headers: Headers,
    /// The app gave them; the provider is not asked while they are good.
    set: bool,
    /// The newest version that was rejected; 0 when a request without headers was.
    rejected: Option<u64>,
    /// The newest version for whose rejection the provider has answered.
    renewed: Option<u64>,
    /// How often the provider has answered here.
    answers: u64,
    /// Why it had nothing, the last time.
    refusal: Option<String>,
    /// Held while the provider is asked.
    gate: Arc<tokio::sync::Mutex<()>>,
}

impl Slot {
    fn current(&self) -> Current {
        let headers = self.headers.iter().map(|(name, value)| (name.clone(), String::clone(value)));
        Current { version: self.version, headers: headers.collect() }
    }

    fn is_rejected(&self) -> bool {
        self.rejected >= Some(self.version)
    }
}

impl Credentials {
    /// None yet, beside what `provider` gives.
    pub fn new(provider: Option<Arc<dyn AuthProvider>>) -> Self {
        Self { provider, slots: Arc::default(), patience: PROVIDER_TIMEOUT }
    }

    /// Replaces the headers that are sent for `account` to `origin`, and answers their version. They come before the provider's until they are rejected.
    /// An empty list forgets them.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for an origin that is none, more than 32 headers, a name that is no HTTP token, is given twice or is one that this plugin or HTTP
    /// itself writes (`Host`, `Content-*`, `Idempotency-Key`, `Sync-*`, …), and a value that is empty, over 16 KiB, not ASCII or has control characters. Messages never hold
    /// a value.
    pub fn set(&self, account: &str, origin: &str, headers: Vec<(String, String)>) -> Result<u64> {
        let url = Url::parse(origin).ok().filter(|url| url.origin().is_tuple());
        let url = url.ok_or_else(|| {
            Error::argument("`origin` has to be a scheme and a host, as in `https://api.example.com`")
        })?;
        let headers = checked(headers).map_err(Error::InvalidArgument)?;
        let mut slots = self.slots();
        slots.last += 1;
        let version = slots.last;
        let place = Place::new(account, &url.origin().ascii_serialization());
        if headers.is_empty() {
            slots.expected.remove(&place);
        } else {
            slots.expected.insert(place.clone());
        }
        let slot = slots.slots.entry(place).or_default();
        slot.set = !headers.is_empty();
        slot.headers = headers;
        slot.version = version;
        Ok(version)
    }

    /// What to send now: what the app set, else what the provider gives, else nothing (version 0).
    ///
    /// # Errors
    /// Why the provider has none: the entry waits for `auth`.
    pub async fn get(&self, account: &str, origin: &str) -> Result<Current, String> {
        let place = Place::new(account, origin);
        let (gate, answers) = {
            let mut slots = self.slots();
            let expected = slots.expected.contains(&place);
            let Some(slot) = self.slot(&mut slots, &place) else {
                return if expected { Err(not_given_yet()) } else { Ok(Current { version: 0, headers: Vec::new() }) };
            };
            if self.provider.is_none() || (slot.set && !slot.is_rejected()) {
                return Ok(slot.current());
            }
            (slot.gate.clone(), slot.answers)
        };
        let _turn = gate.lock().await;
        {
            let slots = self.slots();
            let slot = slots.slots.get(&place).ok_or_else(signed_out)?;
            // Somebody else asked while we waited.
            if slot.answers != answers {
                return slot.refusal.clone().map_or_else(|| Ok(slot.current()), Err);
            }
            if slot.set && !slot.is_rejected() {
                return Ok(slot.current());
            }
        }
        self.ask(&place).await
    }

    /// After a 401 or 407 for the version `rejected`: newer headers if there are, else what the provider gives when told of it. It is asked once for each version,
    /// however many report it. `None`: there are no others, so the entry waits for `auth`.
    pub async fn renew(&self, account: &str, origin: &str, rejected: u64) -> Option<Current> {
        let place = Place::new(account, origin);
        let (gate, rejected) = {
            let mut slots = self.slots();
            let slot = self.slot(&mut slots, &place)?;
            slot.rejected = slot.rejected.max(Some(rejected));
            if !slot.is_rejected() {
                return Some(slot.current());
            }
            self.provider.as_ref()?;
            // What came after the reported version may have been rejected too.
            (slot.gate.clone(), rejected.max(slot.version))
        };
        let _turn = gate.lock().await;
        {
            let slots = self.slots();
            let slot = slots.slots.get(&place)?;
            if slot.version > rejected {
                return Some(slot.current());
            }
            if slot.renewed >= Some(rejected) {
                return None;
            }
        }
        let renewed = self.ask(&place).await;
        // Only now: an attempt that is aborted while the provider thinks must not use up the one question.
        if let Some(slot) = self.slots().slots.get_mut(&place) {
            slot.renewed = slot.renewed.max(Some(rejected));
        }
        renewed.ok().filter(|current| current.version > rejected)
    }

    /// Whether there is a provider to ask.
    pub(crate) fn has_provider(&self) -> bool {
        self.provider.is_some()
    }

    /// The version that is sent now; 0 when there is none.
    pub fn version(&self, account: &str, origin: &str) -> u64 {
        self.slots().slots.get(&Place::new(account, origin)).map_or(0, |slot| slot.version)
    }

    /// How many accounts have credentials, in memory, beside these.
    pub(crate) fn accounts_beside(&self, known: &[&str]) -> usize {
        let slots = self.slots();
        let others = slots.slots.iter().filter(|(_, slot)| slot.set).map(|(place, _)| place.account.as_str());
        others.filter(|account| !known.contains(account)).collect::<HashSet<_>>().len()
    }

    /// The app has given credentials for this place in an earlier run. They were not kept, and without them nothing is sent there: a server
    /// may take what is anonymous for somebody else's. Says nothing where the app has spoken in this run.
    pub fn expect(&self, account: &str, origin: &str) {
        let (mut slots, place) = (self.slots(), Place::new(account, origin));
        if !slots.slots.contains_key(&place) {
            slots.expected.insert(place);
        }
    }

    /// Whether nothing is sent there without credentials from the app.
    pub fn is_expected(&self, account: &str, origin: &str) -> bool {
        self.slots().expected.contains(&Place::new(account, origin))
    }

    /// Forgets what `account` has, and that it ever had any.
    pub fn forget(&self, account: &str) {
        self.clear(account);
        self.slots().expected.retain(|place| place.account != account);
    }

    /// Forgets what `account` has, everywhere. What a provider answers to a question of before is not used.
    pub fn clear(&self, account: &str) {
        self.slots().slots.retain(|place, _| place.account != account);
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        // Nothing that can panic runs under the lock, and a half-made change is still a valid state.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The slot of `place`, made if a provider may fill it.
    fn slot<'s>(&self, slots: &'s mut Slots, place: &Place) -> Option<&'s mut Slot> {
        if self.provider.is_some() {
            return Some(slots.slots.entry(place.clone()).or_default());
        }
        slots.slots.get_mut(place)
    }

    /// Asks the provider and keeps what it gives. The caller holds the gate.
    async fn ask(&self, place: &Place) -> Result<Current, String> {
        let (before, rejected, gate) = {
            let slots = self.slots();
            let slot = slots.slots.get(place).ok_or_else(signed_out)?;
            (slot.version, slot.is_rejected(), slot.gate.clone())
        };
        let ask = AuthRequest { origin: place.origin.clone(), account: place.account.clone(), rejected };
        let given = self.provided(ask).await;
        let mut slots = self.slots();
        let next = slots.last + 1;
        // Cleared in the meantime, and perhaps made anew by somebody else.
        let slot = slots.slots.get_mut(place).filter(|slot| Arc::ptr_eq(&slot.gate, &gate));
        let slot = slot.ok_or_else(signed_out)?;
        if slot.version != before {
            // The app set others in the meantime, and those are newer than what was asked for.
            return Ok(slot.current());
        }
        slot.answers += 1;
        slot.refusal = given.as_ref().err().cloned();
        let given = given?;
        if given == slot.headers {
            return Ok(slot.current());
        }
        (slot.version, slot.headers, slot.set) = (next, given, false);
        let current = slot.current();
        slots.last = next;
        Ok(current)
    }

    /// The provider's answer, checked. Whatever it does, the engine lives.
    async fn provided(&self, ask: AuthRequest) -> Result<Headers, String> {
        let Some(provider) = &self.provider else {
            return Ok(Headers::new());
        };
        let answer = AssertUnwindSafe(async { provider.headers(ask).await }).catch_unwind();
        match tokio::time::timeout(self.patience, answer).await {
            Ok(Ok(Ok(headers))) => {
                checked(headers).map_err(|why| format!("the auth provider's headers are refused: {why}"))
            }
            Ok(Ok(Err(why))) => Err(why.chars().filter(|c| !c.is_control()).take(LONGEST_WHY).collect()),
            Ok(Err(_)) => Err("the auth provider panicked".into()),
            Err(_) => Err("the auth provider did not answer in time".into()),
        }
    }
}

/// Shows how many there are, and nothing of them.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("provider", &self.provider.is_some())
            .field("places", &self.slots().slots.len())
            .finish_non_exhaustive()
    }
}

fn not_given_yet() -> String {
    "the app has not given its credentials since it started".into()
}

fn signed_out() -> String {
    "the account was signed out".into()
}
