//! The only SQL, and the only place that knows the database: a group-committing writer, read connections, and the
//! files beside them.
//!
//! Ciphertext only, and time is an argument. Nothing is ordered by a clock: `seq` is the order of enqueue.

mod advance;
mod ballast;
mod enqueue;
mod fault;
mod feed;
mod files;
mod filter;
mod lock;
mod open;
mod pragmas;
mod prune;
mod read;
mod salvage;
mod shared;
mod sql;
mod tx;
mod verbs;
mod writer;

#[cfg(test)]
mod tests;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    sync::{broadcast, mpsc, oneshot, watch},
    task::JoinHandle,
};
use uuid::Uuid;

use self::{
    advance::Advance,
    enqueue::Enqueue,
    prune::Prune,
    shared::Shared,
    verbs::{Discard, Retry, Setting},
    writer::{Command, Job},
};
use crate::{
    entry::{Change, Counts, Entry, Queue, Reason, State},
    error::{Error, Result},
};

/// Every state there is.
const STATES: [State; 5] = [State::Pending, State::Inflight, State::Acked, State::Failed, State::Superseded];

/// Repeats the literal predicate of `entries_due`, or SQLite would not use it.
const HEADS: &str = "SELECT seq, lane FROM entries WHERE account = ? AND kind = ? AND state = 'pending' AND head = 1 AND seq > ? ORDER BY seq LIMIT ?";

/// A handle to the database; clones share it. The database closes with the last clone, or with [`Store::close`].
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    writer: Arc<WriterHandle>,
}

struct WriterHandle {
    queue: Mutex<Option<mpsc::Sender<Command>>>,
    task: tokio::sync::Mutex<Option<JoinHandle<()>>>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("folder", &self.shared.folder).finish_non_exhaustive()
    }
}

/// How a database was opened.
#[derive(Debug)]
pub struct Opened {
    /// The database, working.
    pub store: Store,
    /// Set when a corrupt database was moved aside and salvaged.
    pub salvaged: Option<Salvage>,
}

/// What became of a corrupt database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Salvage {
    /// Where it is now, unchanged.
    pub aside: PathBuf,
    /// Entries that are in the new database.
    pub entries: u64,
    /// Entries that are not, if that can still be known.
    pub lost: Option<u64>,
}

/// A new entry, sealed.
#[derive(Debug, Clone)]
pub struct NewEntry {
    /// Names it for ever.
    pub id: Uuid,
    /// Whose it is; `""` when accounts are not used.
    pub account: String,
    /// The endpoint's name.
    pub kind: String,
    /// The thing that it is about.
    pub key: Option<String>,
    /// How its lane treats it.
    pub queue: Queue,
    /// Media type of the payload.
    pub content_type: String,
    /// Size of the payload before sealing.
    pub bytes: u64,
    /// What to deliver.
    pub payload: SealedPayload,
    /// The caller chose the id: look for an earlier entry of that id first (otherwise it is random and needs no look).
    pub chosen_id: bool,
}

/// Ciphertext of one payload generation.
#[derive(Clone)]
pub struct SealedPayload {
    /// Rises with every edit.
    pub generation: u32,
    /// The master key that wraps the data key.
    pub key_id: [u8; 16],
    /// The wrapped data key.
    pub wrapped_key: Vec<u8>,
    /// The payload. Empty when it is gone because the entry is settled: a sealed payload is never empty.
    pub body: Vec<u8>,
    /// Values of the URL template.
    pub params: Option<Vec<u8>>,
    /// Of payload and params, to know the same bytes again; outlives them.
    pub digest: Vec<u8>,
}

impl fmt::Debug for SealedPayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedPayload")
            .field("generation", &self.generation)
            .field("bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// What became of one new entry.
#[derive(Debug, Clone)]
pub enum Inserted {
    /// It is on disk.
    New,
    /// An entry of that chosen id exists, maybe of another account; the caller compares digests.
    Exists(Existing),
}

/// What is needed to tell whether an entry holds the same bytes.
#[derive(Debug, Clone)]
pub struct Existing {
    /// The chosen id.
    pub id: Uuid,
    /// Whose it is.
    pub account: String,
    /// Its kind.
    pub kind: String,
    /// The thing that it is about.
    pub key: Option<String>,
    /// Media type of its payload.
    pub content_type: String,
    /// Payload generation that the digest belongs to.
    pub generation: u32,
    /// The master key that wraps the data key.
    pub key_id: [u8; 16],
    /// The wrapped data key.
    pub wrapped_key: Vec<u8>,
    /// The sealed digest.
    pub digest: Vec<u8>,
}

/// A lane's head that may be sent: light.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The entry.
    pub seq: i64,
    /// Its lane; none for an entry without a key, which is a lane of its own.
    pub lane: Option<i64>,
}

/// Everything an attempt needs.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// Order of enqueue; names the row for ever.
    pub seq: i64,
    /// Names the entry for ever.
    pub id: Uuid,
    /// Whose it is.
    pub account: String,
    /// The endpoint's name.
    pub kind: String,
    /// The thing that it is about.
    pub key: Option<String>,
    /// Its lane.
    pub lane: Option<i64>,
    /// How its lane treats it.
    pub queue: Queue,
    /// Media type of the payload.
    pub content_type: String,
    /// Counted so far.
    pub attempts: u32,
    /// An attempt has begun and no definitive answer came.
    pub possibly_sent: bool,
    /// Wall clock of the first byte that may have left under the current idempotency key, ms; None if never.
    pub first_sent_at: Option<i64>,
    /// The highest server revision that the lane had seen at enqueue.
    pub base: u64,
    /// The wire revision, once claimed.
    pub revision: Option<u64>,
    /// The installation that enqueued it.
    pub device: Uuid,
    /// n of `"<id>.<n>"`
    pub key_suffix: u32,
    /// `ifUnknown: "hold"` is overridden for the next attempt (`retry(id, { force })`).
    pub forced: bool,
    /// Highest own revision of the lane.
    pub lane_revision: u64,
    /// The id that the server gave the thing.
    pub canonical_id: Option<String>,
    /// What to deliver.
    pub payload: SealedPayload,
    /// The sealed frozen request, once claimed.
    pub request: Option<Vec<u8>>,
}

/// Marks one entry as in flight and possibly sent, before any byte leaves.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The entry.
    pub seq: i64,
    /// The claim fails if the row has another generation.
    pub generation: u32,
    /// On the wire.
    pub revision: u64,
    /// Sealed. None when it is frozen already; the claim fails if it is not, or if another one is frozen and possibly
    /// sent.
    pub request: Option<Vec<u8>>,
}

/// What came of one attempt. Does nothing when the row is not in flight.
#[derive(Debug, Clone)]
pub struct Settle {
    /// The entry.
    pub seq: i64,
    /// HTTP status of the answer; the one before stays if there was none.
    pub status: Option<u16>,
    /// In words.
    pub error: Option<String>,
    /// Counts as an attempt.
    pub attempted: bool,
    /// What it means.
    pub verdict: Verdict,
}

/// What an attempt's outcome means for the entry.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// Payload, params and request are removed at once (digest and wrapped key stay); the lane learns.
    Acked {
        /// The id that the server gave the thing.
        canonical_id: Option<String>,
        /// What the server says it holds now; ignored from 2^53 on.
        revision: Option<u64>,
        /// Strong tag of what the server holds now.
        etag: Option<String>,
    },
    /// When a `latest` entry is not possibly sent and a newer pending `latest` one comes right after it in its lane,
    /// it becomes superseded by that one.
    Failed {
        /// Why.
        reason: Reason,
        /// Whether the server may have applied it.
        possibly_sent: bool,
    },
    /// Back to pending: nothing left the machine in this attempt. If the entry was not possibly sent before this
    /// claim, it is not now, and the frozen request
    /// and revision are dropped (and a newer `latest` entry right after it replaces it); otherwise they stay and it
    /// stays possibly sent.
    Unsent {
        /// What [`Loaded::possibly_sent`] said before the claim.
        was_possibly_sent: bool,
    },
    /// Back to pending, outcome unknown: it stays possibly sent and frozen.
    Unknown,
    /// Back to pending after a definitive "not applied": not possibly sent, thawed, `key_suffix` + 1 (and a newer
    /// `latest` entry right after it replaces it).
    NotApplied,
}

/// What a batch did.
#[derive(Debug, Clone, Default)]
pub struct Done {
    /// Seqs that were really claimed.
    pub claimed: Vec<i64>,
    /// Entries that became heads of their lanes by this batch.
    pub promoted: Vec<Promoted>,
}

/// A pending entry that became the head of its lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promoted {
    /// Whose it is.
    pub account: String,
    /// Its kind.
    pub kind: String,
    /// It.
    pub head: Head,
}

/// Filter of `list`, `retry`, `discard`. All fields are ANDed; empty matches all of the account.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// One of these, at most 30 000.
    pub ids: Option<Vec<Uuid>>,
    /// In one of these states.
    pub states: Option<Vec<State>>,
    /// Of this kind.
    pub kind: Option<String>,
    /// About this thing.
    pub key: Option<String>,
}

/// One row of `list`: the entry as stored, and what is needed to say why it waits.
#[derive(Debug, Clone)]
pub struct Row {
    /// Order of enqueue.
    pub seq: i64,
    /// As stored; `waiting_for` is not.
    pub entry: Entry,
    /// Whose it is.
    pub account: String,
    /// The first entry of its lane, which comes before it.
    pub behind: Option<Uuid>,
}

/// What `discard` did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discarded {
    /// Gone.
    pub ids: Vec<Uuid>,
    /// Of these, the ones whose outcome is unknown.
    pub possibly_applied: Vec<Uuid>,
    /// In flight now: not touched.
    pub inflight: Vec<Uuid>,
}

impl Store {
    /// Opens or creates `<folder>/outbox.db`. Folder 0700, files 0600 on Unix. Must be called on a tokio runtime,
    /// where the writer then lives.
    ///
    /// # Errors
    /// [`Error::DatabaseNewer`], nothing changed; [`Error::DatabaseCorrupt`] when it is damaged and another process
    /// has it open;
    /// [`Error::Io`], [`Error::Database`], [`Error::DiskFull`] when it cannot be used.
    pub async fn open(folder: &Path, now: i64) -> Result<Opened> {
        open::open(folder, now).await
    }

    fn new(shared: Arc<Shared>, queue: mpsc::Sender<Command>, task: JoinHandle<()>) -> Self {
        let writer = WriterHandle { queue: Mutex::new(Some(queue)), task: tokio::sync::Mutex::new(Some(task)) };
        Self { shared, writer: Arc::new(writer) }
    }

    /// `close` was called, or the writer has ended.
    fn closed(&self) -> bool {
        self.writer.queue.lock().unwrap_or_else(PoisonError::into_inner).as_ref().is_none_or(mpsc::Sender::is_closed)
    }

    /// Hands a job to the writer and waits for the commit. Going away meanwhile does not undo it.
    async fn write<I, O>(&self, input: I, command: impl FnOnce(Job<I, O>) -> Command) -> Result<O> {
        let (job, answer): (_, oneshot::Receiver<Result<O>>) = Job::new(input);
        let queue = self.writer.queue.lock().unwrap_or_else(PoisonError::into_inner).clone().ok_or(Error::Closed)?;
        queue.send(command(job)).await.map_err(|_| Error::Closed)?;
        drop(queue);
        answer.await.map_err(|_| Error::Closed)?
    }

    // ---- writes; all go through the one writer task, grouped; each resolves after COMMIT ----

    /// Inserts all or none, in order. Older `latest` entries of their lanes that no server can hold are replaced in
    /// the same commit.
    ///
    /// # Errors
    /// [`Error::QuotaReached`] when more than `limit` entries of the account would be pending, in flight or failed:
    /// what is replaced does not count, and a batch that does not
    /// raise the number is always taken. [`Error::DiskFull`].
    pub async fn enqueue(&self, entries: Vec<NewEntry>, limit: u64, now: i64) -> Result<Vec<Inserted>> {
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        self.write(Enqueue { entries, limit, now }, Command::Enqueue).await
    }

    /// One commit for what finished and what begins.
    pub async fn advance(&self, settles: Vec<Settle>, claims: Vec<Claim>, now: i64) -> Result<Done> {
        if settles.is_empty() && claims.is_empty() {
            return Ok(Done::default());
        }
        self.write(Advance { settles, claims, now }, Command::Advance).await
    }

    /// Owner only, at take-over: in-flight rows of a dead process become pending, still possibly sent. Answers how
    /// many.
    pub async fn recover(&self, now: i64) -> Result<u64> {
        self.write(now, Command::Recover).await
    }

    /// Failed entries become pending: definitively refused ones under a new idempotency key, possibly sent ones as
    /// they are; `outcome-unknown` only with `force`, which is noted in
    /// the row. Pending ones are untouched. Answers the ids of both.
    pub async fn retry(&self, account: &str, filter: &Filter, force: bool, now: i64) -> Result<Vec<Uuid>> {
        filter.check()?;
        self.write(Retry { account: account.to_owned(), filter: filter.clone(), force, now }, Command::Retry).await
    }

    /// Deletes rows that are not in flight; a possibly-sent one leaves a tombstone.
    pub async fn discard(&self, account: &str, filter: &Filter, now: i64) -> Result<Discarded> {
        filter.check()?;
        self.write(Discard { account: account.to_owned(), filter: filter.clone(), now }, Command::Discard).await
    }

    /// Survives a restart.
    pub async fn set_paused(&self, paused: bool) -> Result<()> {
        self.write(Setting::Paused(paused), Command::Set).await
    }

    /// The current account survives a restart.
    pub async fn set_account(&self, account: &str) -> Result<()> {
        self.write(Setting::Account(account.to_owned()), Command::Set).await
    }

    /// Remembers which master key the account's rows are written with from now on.
    pub async fn keep_key(&self, account: &str, key_id: [u8; 16], now: i64) -> Result<()> {
        self.write(Setting::Key { account: account.to_owned(), key_id, now }, Command::Set).await
    }

    /// A server's floor, kept as the time that remains; 0 removes it. `name` is the engine's.
    pub async fn set_floor(&self, name: &str, remaining_ms: u64, now: i64) -> Result<()> {
        self.write(Setting::Floor { name: name.to_owned(), remaining_ms, now }, Command::Set).await
    }

    /// Deletes settled rows over the number to keep and those older than `max_age_ms`, at most 1000 a call, and gives
    /// their room back to the disk. Answers whether more is left. Owner only.
    pub async fn prune(&self, keep_newest: u64, now: i64, max_age_ms: i64) -> Result<bool> {
        self.write(Prune { keep_newest, now, max_age_ms }, Command::Prune).await
    }

    /// Writes the WAL into the database and empties it. Owner only.
    pub async fn checkpoint(&self) -> Result<()> {
        self.write((), Command::Checkpoint).await
    }

    /// Becomes the owner, or stops being it: the owner's connection checkpoints by itself from now on.
    pub async fn set_owner(&self, owner: bool) -> Result<()> {
        self.write(owner, Command::Own).await
    }

    // ---- reads; on connections of their own ----

    /// Name, remaining milliseconds, and when that was noted.
    pub async fn floors(&self) -> Result<Vec<(String, u64, i64)>> {
        self.read_floors().await
    }

    /// (account, kind) pairs that have pending entries.
    pub async fn pending_kinds(&self) -> Result<Vec<(String, String)>> {
        self.read_pending_kinds().await
    }

    /// Pending lane heads of that kind after that seq, in order of seq. Costs the same at any length of history,
    /// backlog or lane.
    pub async fn heads(&self, account: &str, kind: &str, after: i64, limit: u32) -> Result<Vec<Head>> {
        self.read_heads(account, kind, after, limit).await
    }

    /// In order of seq. Missing or no longer pending ones are left out.
    pub async fn load(&self, seqs: &[i64]) -> Result<Vec<Loaded>> {
        self.read_entries(seqs).await
    }

    /// One entry.
    pub async fn row(&self, account: &str, id: Uuid) -> Result<Option<Row>> {
        self.read_row(account, id).await
    }

    /// Newest first; `after` is the last id of the page before.
    ///
    /// # Errors
    /// [`Error::NotFound`] when that entry is gone: start anew.
    pub async fn list(&self, account: &str, filter: &Filter, after: Option<Uuid>, limit: u32) -> Result<Vec<Row>> {
        self.read_list(account, filter, after, limit).await
    }

    /// One entry with what it delivers; the body is empty once it is gone.
    pub async fn payload(&self, account: &str, id: Uuid) -> Result<Option<(Row, SealedPayload)>> {
        self.read_payload(account, id).await
    }

    /// The key id that the account's rows were last written with, and whether there are encrypted rows of it.
    pub async fn key_record(&self, account: &str) -> Result<(Option<[u8; 16]>, bool)> {
        self.read_key_record(account).await
    }

    /// `set_paused` was called with true last.
    pub async fn paused(&self) -> Result<bool> {
        self.read_paused().await
    }

    /// The current account; `""` if none was set.
    pub async fn account(&self) -> Result<String> {
        self.read_account().await
    }

    /// Kept, not counted.
    pub async fn counts(&self, account: &str) -> Result<Counts> {
        self.read_counts(account).await
    }

    /// The id of this installation.
    pub fn device(&self) -> Uuid {
        self.shared.device
    }

    // ---- what callers subscribe to ----

    /// Every change of this process, after its commit. A receiver that lags reads the state anew. It ends when the
    /// database is closed.
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.shared.changes()
    }

    /// Rises at every commit of this process that changed a state or a count; the `seq` of the last [`Change`].
    pub fn version(&self) -> watch::Receiver<u64> {
        self.shared.version.subscribe()
    }

    /// Another process changed the database: the version rises, so that subscribers look.
    pub fn touched_by_others(&self) {
        self.shared.publish(Vec::new());
    }

    /// Finishes what is queued and closes. Later calls answer [`Error::Closed`].
    pub async fn close(&self) {
        drop(self.writer.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
        // Whoever comes second waits for the first.
        if let Some(task) = self.writer.task.lock().await.take()
            && let Err(error) = task.await
        {
            tracing::error!(%error, "the writer ended badly");
        }
    }
}
