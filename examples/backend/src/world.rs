//! What a backend knows: what it received, what it applied, what it holds.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use axum::http::{HeaderMap, HeaderValue, header};
use serde::Serialize;

use crate::{
    content::Bodies,
    idempotency::Store,
    journal::Journal,
    options::{Log, Options, Revisions},
    rules::Rules,
    snapshot::Snapshot,
    things::{Collection, Mutation, Resource, Tombstone},
    uploads::{Upload, Uploads},
};

/// How many requests [`Log::Full`] remembers.
const REMEMBERED: usize = 200_000;

/// One request that came in.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Seen {
    /// Counts requests from 1, in the order in which their heads came in.
    pub number: u64,
    /// Counts connections from 1.
    pub connection: u64,
    /// The method, in capitals.
    pub method: String,
    /// The path as sent, percent-encoded, without a query.
    pub path: String,
    /// The query as sent.
    pub query: Option<String>,
    /// The last collection in the path.
    pub kind: String,
    /// The key in the path, decoded.
    pub key: Option<String>,
    /// Who sent it: the user of the token, else `X-User`, else the bearer token itself.
    pub user: Option<String>,
    /// `Idempotency-Key` without its quotes.
    pub idempotency_key: Option<String>,
    /// SHA-256 of the body in hexadecimal; None until the body was read in full.
    pub sha256: Option<String>,
    /// Size of the body in bytes, as far as it was read.
    pub bytes: u64,
    /// This very request was applied (not an earlier one with the same idempotency key).
    pub applied: bool,
    /// It was answered with the stored answer to an earlier one.
    pub replayed: bool,
    /// The names of the faults that it met.
    pub faults: Vec<&'static str>,
    /// What came of it.
    pub ending: Ending,
    pub(crate) headers: HeaderMap,
}

impl Seen {
    /// A header of it, if it is there and text. `name` in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// All of its headers in lower case; what is not text is left out.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
    }
}

/// What came of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ending {
    /// Under way: being read, or held.
    Open,
    /// Answered with that status.
    Answered(u16),
    /// Its connection was reset, by a fault.
    Reset,
    /// Its connection ended before its body was in.
    Incomplete,
}

/// What a backend knows. See `Backend::world` and `Backend::wait_until`.
pub struct World {
    pub(crate) log: Log,
    pub(crate) idempotent: bool,
    pub(crate) revisions: Revisions,
    pub(crate) named: BTreeSet<String>,
    pub(crate) strict: bool,
    pub(crate) tokens: Option<BTreeMap<String, String>>,
    pub(crate) rules: Rules,
    pub(crate) keys: Store,
    pub(crate) journal: Option<Journal>,
    pub(crate) bodies: Arc<Bodies>,
    pub(crate) uploads: Uploads,
    pub(crate) collections: HashMap<String, Collection>,
    pub(crate) snapshots: Vec<Snapshot>,
    requests: VecDeque<Seen>,
    received: u64,
    mutations: Vec<Mutation>,
    applied: u64,
    applied_keys: HashMap<String, u64>,
    statuses: BTreeMap<u16, u64>,
    replays: u64,
    resets: u64,
    pub(crate) connections: u64,
    pub(crate) open_connections: u64,
}

impl World {
    pub(crate) fn new(options: &Options, bodies: Bodies) -> Self {
        Self {
            log: options.log,
            idempotent: options.idempotency,
            revisions: options.revisions,
            named: options.named.clone(),
            strict: options.strict,
            tokens: options.tokens.clone(),
            rules: Rules::default(),
            keys: Store::default(),
            journal: None,
            bodies: Arc::new(bodies),
            uploads: Uploads::new(options.upload_lifetime),
            collections: HashMap::new(),
            snapshots: Vec::new(),
            requests: VecDeque::new(),
            received: 0,
            mutations: Vec::new(),
            applied: 0,
            applied_keys: HashMap::new(),
            statuses: BTreeMap::new(),
            replays: 0,
            resets: 0,
            connections: 0,
            open_connections: 0,
        }
    }

    /// The requests that came in, oldest first: the last 200 000. None with [`Log::Counts`].
    pub fn requests(&self) -> impl DoubleEndedIterator<Item = &Seen> + ExactSizeIterator {
        self.requests.iter()
    }

    /// How many requests came in, those to `/__control` not counted.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// The writes that were applied, oldest first, those of earlier runs on the same folder included. Empty with [`Log::Counts`].
    pub fn mutations(&self) -> &[Mutation] {
        &self.mutations
    }

    /// How many writes were applied.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// How many writes with that idempotency key were applied. Without quotes.
    pub fn times_applied(&self, idempotency_key: &str) -> u64 {
        self.applied_keys.get(idempotency_key).copied().unwrap_or(0)
    }

    /// Every idempotency key that was applied, and how often.
    pub fn applied_keys(&self) -> &HashMap<String, u64> {
        &self.applied_keys
    }

    /// How many requests were answered with that status, faults included.
    pub fn answered(&self, status: u16) -> u64 {
        self.statuses.get(&status).copied().unwrap_or(0)
    }

    /// How many requests were answered with the stored answer to an earlier one.
    pub fn replayed(&self) -> u64 {
        self.replays
    }

    /// How many requests ended in a reset of their connection, by a fault.
    pub fn resets(&self) -> u64 {
        self.resets
    }

    /// What a collection holds, in the order of the canonical ids, which are UUIDs of version 7.
    pub fn resources(&self, collection: &str) -> impl Iterator<Item = &Resource> {
        self.collections.get(collection).into_iter().flat_map(Collection::things)
    }

    /// One thing, by the key that a client chose or by its canonical id.
    pub fn resource(&self, collection: &str, key: &str) -> Option<&Resource> {
        self.collections.get(collection)?.thing(key)
    }

    /// What is remembered of a deleted thing, by the key that a client had chosen or by its canonical id. None while there is such a thing.
    pub fn tombstone(&self, collection: &str, key: &str) -> Option<&Tombstone> {
        self.collections.get(collection)?.tombstone(key)
    }

    /// The uploads that were begun by tus and are not finished, oldest first.
    pub fn uploads(&self) -> impl Iterator<Item = &Upload> {
        self.uploads.unfinished()
    }

    /// How many requests are held by that rule now.
    pub fn held(&self, rule: u64) -> usize {
        self.rules.list().iter().find(|active| active.id == rule).map_or(0, |active| active.held)
    }

    /// How many requests that rule has met. 0 once it is cleared or used up.
    pub fn hits(&self, rule: u64) -> u64 {
        self.rules.list().iter().find(|active| active.id == rule).map_or(0, |active| active.hits)
    }

    /// How many connections were accepted so far.
    pub fn connections(&self) -> u64 {
        self.connections
    }

    /// How many connections are open now.
    pub fn open_connections(&self) -> u64 {
        self.open_connections
    }

    /// Whether a request is well enough authorised, and who sent it.
    pub(crate) fn user(&self, headers: &HeaderMap) -> (bool, Option<String>) {
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let token = text("authorization").and_then(|value| value.strip_prefix("Bearer "));
        match &self.tokens {
            Some(tokens) => {
                let user = token.and_then(|token| tokens.get(token));
                (user.is_some(), user.cloned())
            }
            None => (true, text("x-user").or(token).map(str::to_owned)),
        }
    }

    /// Takes a request into the log.
    pub(crate) fn arrived(&mut self, mut seen: Seen) -> u64 {
        self.received += 1;
        seen.number = self.received;
        if self.log == Log::Full {
            if let Some(secret) = seen.headers.get_mut(header::AUTHORIZATION) {
                secret.set_sensitive(true);
            }
            if self.requests.len() == REMEMBERED {
                self.requests.pop_front();
            }
            self.requests.push_back(seen);
        }
        self.received
    }

    /// Changes what the log says of a request, if it still does.
    pub(crate) fn note(&mut self, number: u64, change: impl FnOnce(&mut Seen)) {
        let first = self.received - self.requests.len() as u64 + 1;
        if let Some(seen) = number.checked_sub(first).and_then(|index| self.requests.get_mut(index as usize)) {
            change(seen);
        }
    }

    /// Says what came of a request.
    pub(crate) fn ended(&mut self, number: u64, ending: Ending) {
        match ending {
            Ending::Answered(status) => *self.statuses.entry(status).or_default() += 1,
            Ending::Reset => self.resets += 1,
            Ending::Open | Ending::Incomplete => {}
        }
        self.note(number, |seen| seen.ending = ending);
    }

    /// A request got the answer to an earlier one.
    pub(crate) fn answered_again(&mut self, number: u64) {
        self.replays += 1;
        self.note(number, |seen| seen.replayed = true);
    }

    /// The number of the next mutation.
    pub(crate) fn next_mutation(&self) -> u64 {
        self.applied + 1
    }

    /// Takes a mutation into the books.
    pub(crate) fn applied_one(&mut self, mutation: &Mutation) {
        self.applied = mutation.number;
        if let Some(key) = &mutation.idempotency_key {
            *self.applied_keys.entry(key.clone()).or_default() += 1;
        }
        if self.log == Log::Full {
            self.mutations.push(mutation.clone());
        }
    }

    /// Forgets the requests that were received. Mutations stay.
    pub(crate) fn forget_requests(&mut self) {
        self.requests.clear();
    }
}
