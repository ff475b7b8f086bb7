//! The only SQL, and the only place that knows the database: a group-committing writer, read connections, and the
//! files beside them.
//!
//! Ciphertext only, and time is an argument. Nothing is ordered by a clock: `seq` is the order of enqueue.

mod advance;
mod ballast;
mod decide;
mod enqueue;
mod fault;
mod feed;
mod files;
mod filter;
mod leave;
mod list;
mod lock;
mod open;
mod pragmas;
mod prune;
mod read;
mod relations;
mod rotate;
mod salvage;
mod shared;
mod single;
mod spooled;
mod sql;
mod trial;
mod tx;
mod types;
mod verbs;
mod watched;
mod writer;

#[cfg(test)]
mod tests;

use std::{
    fmt,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    sync::{broadcast, mpsc, oneshot, watch},
    task::JoinHandle,
};
use uuid::Uuid;

use self::{
    advance::Advance,
    decide::{Noticed, Observe, Resolve, Rewrite},
    enqueue::Enqueue,
    prune::Prune,
    shared::Shared,
    verbs::{Discard, Pause, Retry, Setting},
    writer::{Command, Job},
};
pub use self::{
    decide::Choice,
    leave::Leaving,
    rotate::Wrapped,
    trial::{Committed, Death, Trial},
    types::{
        Claim, Discarded, Done, Edit, Existing, FileProgress, Filter, FormerKey, Head, Inserted, Keep, Leftover,
        Loaded, LoadedFile, NewEntry, NewFile, Opened, Parent, Promoted, Row, Salvage, SealedPayload, Settle, Taught,
        Thing, Verdict,
    },
    watched::{NewWatched, WatchKey, WatchRow, Watched, WatchedCount},
};
use crate::{
    entry::{Change, Counts, Known, State},
    error::{Error, Result},
};

/// Every state there is.
const STATES: [State; 5] = [State::Pending, State::Inflight, State::Acked, State::Failed, State::Superseded];

/// Repeats the literal predicate of `entries_due`, or SQLite would not use it.
const HEADS: &str = "SELECT seq, lane FROM entries WHERE account = ? AND kind = ? AND state = 'pending' AND head = 1 AND unmet = 0 AND seq > ? ORDER BY seq LIMIT ?";

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

impl Store {
    /// Opens or creates `<folder>/outbox.db`. Folder 0700, files 0600 on Unix. Must be called on a tokio runtime,
    /// where the writer then lives.
    ///
    /// # Errors
    /// [`Error::DatabaseNewer`], nothing changed; [`Error::DatabaseCorrupt`] when it is damaged and another process
    /// has it open;
    /// [`Error::Io`], [`Error::Database`], [`Error::DiskFull`] when it cannot be used.
    pub async fn open(folder: &Path, now: i64) -> Result<Opened> {
        open::open(folder, now, Trial::default()).await
    }

    /// The same on trial.
    #[cfg(feature = "testing")]
    pub async fn open_on_trial(folder: &Path, now: i64, trial: Trial) -> Result<Opened> {
        open::open(folder, now, trial).await
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
    /// the same commit. Where one of the chosen ids exists, none is inserted: compare, then ask for the others.
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
        let restored = settles.iter().any(|settle| settle.restored).then(|| self.shared.trial.device());
        self.write(Advance { settles, claims, restored, now }, Command::Advance).await
    }

    /// Owner only, at take-over: in-flight rows of a dead process become pending, still possibly sent. Answers how
    /// many.
    pub async fn recover(&self, now: i64) -> Result<u64> {
        self.write(now, Command::Recover).await
    }

    /// Failed entries become pending: definitively refused ones under a new idempotency key, possibly sent ones as
    /// they are; `outcome-unknown` only with `force`, which is noted in
    /// the row; what met a newer write above that, and so do lost ones that the filter names. What depends on something that
    /// is gone goes on without it, unless it needs its id. Pending ones are untouched. Answers the ids of both.
    pub async fn retry(&self, account: &str, filter: &Filter, force: bool, now: i64) -> Result<Vec<Uuid>> {
        filter.check()?;
        self.write(Retry { account: account.to_owned(), filter: filter.clone(), force, now }, Command::Retry).await
    }

    /// Deletes rows that are not in flight; a possibly-sent one leaves a tombstone. What waits for one of them goes too with
    /// `cascade`, and fails with [`crate::entry::Reason::ParentGone`] without.
    pub async fn discard(&self, account: &str, filter: &Filter, cascade: bool, now: i64) -> Result<Discarded> {
        filter.check()?;
        let discard = Discard { account: account.to_owned(), filter: filter.clone(), cascade, now };
        self.write(discard, Command::Discard).await
    }

    /// Notes what an app has read of a thing on the server; its lane need not exist. Entries stay as they are.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a revision from 2^53 on.
    pub async fn observe(&self, account: &str, kind: &str, key: &str, known: &Known, now: i64) -> Result<()> {
        if known.revision.is_some_and(|revision| revision >= advance::BOUND) {
            return Err(Error::argument("`revision` must be below 2^53, which is what every JSON number can hold"));
        }
        let (account, kind, key) = (account.to_owned(), kind.to_owned(), key.to_owned());
        self.write(Observe { account, kind, key, known: known.clone(), now }, Command::Observe).await
    }

    /// Gives an entry another payload and makes it pending, under a new idempotency key if it was ever sent. Answers false
    /// when it is in flight, settled, may have been applied, or has another generation than the one before that of the
    /// payload.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the new payload refers to an entry that is not there, or that came later.
    pub async fn edit(&self, edit: Edit, now: i64) -> Result<bool> {
        self.write((edit, now), Command::Edit).await
    }

    /// Decides for an entry that was beaten on the server. Answers false when it was not.
    pub async fn resolve(&self, account: &str, id: Uuid, choice: Choice, now: i64) -> Result<bool> {
        self.write(Resolve { account: account.to_owned(), id, choice, now }, Command::Resolve).await
    }

    /// Puts the payload of a never-sent entry into a newer form. Answers false when it is not one any more, or was edited.
    pub async fn rewrite(&self, seq: i64, payload: SealedPayload, bytes: u64, payload_version: u32) -> Result<bool> {
        self.write(Rewrite { seq, payload, bytes, payload_version }, Command::Rewrite).await
    }

    /// Somebody has read of these conflicts. Answers the ones that nobody had read of.
    pub async fn conflicts_read(&self, account: &str, ids: &[Uuid], now: i64) -> Result<Vec<Uuid>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let filter = Filter { ids: Some(ids.to_vec()), ..Filter::default() };
        filter.check()?;
        self.write(Noticed { account: account.to_owned(), ids: ids.to_vec(), now }, Command::Noticed).await
    }

    /// Survives a restart.
    pub async fn set_paused(&self, paused: bool) -> Result<()> {
        self.write(Setting::Paused(paused), Command::Set).await
    }

    /// Lets one pending or in-flight entry wait, or go on; survives a restart. Answers whether that changed anything.
    pub async fn pause_entry(&self, account: &str, id: Uuid, paused: bool) -> Result<bool> {
        self.write(Pause { account: account.to_owned(), id, paused }, Command::Pause).await
    }

    /// The current account survives a restart.
    pub async fn set_account(&self, account: &str) -> Result<()> {
        self.write(Setting::Account(account.to_owned()), Command::Set).await
    }

    /// None is the current account any more, if this one is. Survives a restart.
    pub async fn leave_account(&self, account: &str) -> Result<()> {
        self.write(Setting::NoAccount(account.to_owned()), Command::Set).await
    }

    /// Remembers that the account has, or no longer has, credentials of the app's for that origin. Never the credentials.
    pub async fn note_credentials(&self, account: &str, origin: &str, given: bool) -> Result<()> {
        let (account, origin) = (account.to_owned(), origin.to_owned());
        self.write(Setting::Credentials { account, origin, given }, Command::Set).await
    }

    /// Remembers which master key the account's rows are written with from now on.
    pub async fn keep_key(&self, account: &str, key_id: [u8; 16], now: i64) -> Result<()> {
        self.write(Setting::Key { account: account.to_owned(), key_id, now }, Command::Set).await
    }

    /// A server's floor, kept as the time that remains; 0 removes it. `name` is the engine's.
    pub async fn set_floor(&self, name: &str, remaining_ms: u64, now: i64) -> Result<()> {
        self.write(Setting::Floor { name: name.to_owned(), remaining_ms, now }, Command::Set).await
    }

    /// Deletes what is older or more than `keep` says, a bounded number of rows a call, and gives their room back to the
    /// disk. Answers whether more is left. Owner only.
    pub async fn prune(&self, keep: Keep, now: i64) -> Result<bool> {
        self.write(Prune { keep, now }, Command::Prune).await
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

    /// (account, kind) pairs that have pending entries, and whether there are [`Store::leftovers`].
    pub async fn pending_kinds(&self) -> Result<(Vec<(String, String)>, bool)> {
        self.read_pending_kinds().await
    }

    /// Pending lane heads of that kind after that seq, in order of seq. Costs the same at any length of history,
    /// backlog or lane.
    pub async fn heads(&self, account: &str, kind: &str, after: i64, limit: u32) -> Result<Vec<Head>> {
        self.read_heads(account, kind, after, limit).await
    }

    /// In order of seq. Those that are not due are left out: missing, no longer pending, behind another one of their lane, or waiting
    /// for one that they depend on.
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

    /// As [`Store::payload`], with what there is beside it when it is a file.
    pub async fn file(&self, account: &str, id: Uuid) -> Result<Option<(Row, SealedPayload, Option<LoadedFile>)>> {
        self.read_file(account, id).await
    }

    /// The key id that the account's rows were last written with, and whether there are encrypted rows of it.
    ///
    /// # Errors
    /// [`Error::SignedOut`] while the account's rows are going.
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

    /// Conflicts that nobody has read of, oldest first.
    pub async fn conflicts(&self, account: &str, limit: u32) -> Result<Vec<Row>> {
        self.read_conflicts(account, limit).await
    }

    /// The id of this installation. Another one after it was found out that the database is an older copy.
    pub fn device(&self) -> Uuid {
        self.shared.device()
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
