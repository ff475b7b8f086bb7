//! What the store takes and answers: plain data.

use std::{fmt, path::PathBuf};

use uuid::Uuid;

use super::{Store, watched::NewWatched};
use crate::entry::{Action, Entry, Queue, Reason, State};

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
    /// What it does to the thing, if that was said.
    pub action: Option<Action>,
    /// The app's own version of the payload's form.
    pub payload_version: u32,
    /// It deletes at an endpoint that creates under ids of the server: what was never sent to such a lane and this entry
    /// cancel each other out.
    pub annihilates: bool,
    /// What comes before it.
    pub parents: Vec<Parent>,
    /// Its payload is a file.
    pub file: Option<NewFile>,
    /// It says what became of a file of a watched folder.
    pub watched: Option<NewWatched>,
}

/// What a new entry has beside its payload when that is a file.
#[derive(Debug, Clone)]
pub struct NewFile {
    /// Its name in the spool and what it takes there. The payload's body is then its sealed description.
    pub spool: Option<(String, u64)>,
    /// The sealed description of a file that is the payload's body itself.
    pub sealed: Option<Vec<u8>>,
}

/// What an entry has beside its payload when that is a file.
#[derive(Debug, Clone)]
pub struct LoadedFile {
    /// Its name in the spool. The payload's body is then its sealed description.
    pub spool: Option<String>,
    /// The sealed description of a file that is the payload's body itself.
    pub sealed: Option<Vec<u8>>,
    /// How far its upload is, sealed; none when there is none to go on with.
    pub progress: Option<Vec<u8>>,
    /// How many bytes the server said that it has.
    pub uploaded: u64,
    /// Bytes may have left with which the server has all of it.
    pub begun: bool,
}

/// How far an upload is, for [`Store::keep_progress`].
#[derive(Debug, Clone)]
pub struct FileProgress {
    /// The entry, in flight.
    pub seq: i64,
    /// Sealed; none when there is nothing to go on with.
    pub sealed: Option<Vec<u8>>,
    /// How many bytes the server said that it has.
    pub uploaded: u64,
    /// Bytes may leave now with which the server has all of it.
    pub begun: bool,
}

/// A file or an upload that no entry needs any more.
#[derive(Debug, Clone)]
pub struct Leftover {
    /// Names the row.
    pub number: i64,
    /// The file's name in the spool.
    pub spool: Option<String>,
    /// Whose it was.
    pub account: String,
    /// The entry that it belonged to.
    pub id: Uuid,
    /// That one's kind.
    pub kind: String,
    /// The thing that it was about.
    pub key: Option<String>,
    /// Media type of the payload.
    pub content_type: String,
    /// Payload generation.
    pub generation: u32,
    /// The master key that wraps the data key.
    pub key_id: [u8; 16],
    /// The wrapped data key.
    pub wrapped_key: Vec<u8>,
    /// How far an upload is that is to be ended, sealed.
    pub progress: Option<Vec<u8>>,
    /// The sealed frozen request that created it.
    pub request: Option<Vec<u8>>,
}

/// An entry that another one depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    /// As it was named. Of the same account, and enqueued before; in the same batch too.
    pub id: Uuid,
    /// Its canonical id goes into the payload or the URL.
    pub needs_id: bool,
    /// It is to be followed, whatever the payload names.
    pub told: bool,
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
    /// Highest revision that the server is known to hold; 0 as long as the lane has learned none.
    pub lane_seen: u64,
    /// The id that the server gave the thing.
    pub canonical_id: Option<String>,
    /// Strong tag of what the server holds.
    pub etag: Option<String>,
    /// Whether the thing exists on the server.
    pub thing: Thing,
    /// What it does to the thing, if that was said.
    pub action: Option<Action>,
    /// The app's own version of the payload's form.
    pub payload_version: u32,
    /// Idempotency keys that were given up after a definitive answer.
    pub former_keys: Vec<FormerKey>,
    /// What its references name, and the canonical id that each got.
    pub references: Vec<(Uuid, Option<String>)>,
    /// What to deliver.
    pub payload: SealedPayload,
    /// The sealed frozen request, once claimed.
    pub request: Option<Vec<u8>>,
    /// The payload is a file.
    pub file: Option<LoadedFile>,
}

/// Whether a thing exists on the server, as far as its lane knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Thing {
    /// It was created, or written, or seen there.
    Yes,
    /// It was deleted, or its absence was seen.
    No,
    /// Nothing was learned yet.
    #[default]
    Unknown,
}

/// An idempotency key that an entry used before: `"<id>"` or `"<id>.<suffix>"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FormerKey {
    /// n of `"<id>.<n>"`
    pub suffix: u32,
    /// The payload that it carried.
    pub generation: u32,
    /// The wire revision that it carried.
    pub revision: u64,
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
    /// The answer showed that this database is an older copy of what the server has heard of: before anything else the
    /// device is renewed, and every entry that waits may have been sent by the other copy.
    pub restored: bool,
}

/// What a conflict taught of the thing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taught {
    /// The revision that the server holds.
    pub revision: Option<u64>,
    /// The id that it gave the thing.
    pub canonical_id: Option<String>,
    /// The strong tag of what it holds.
    pub etag: Option<String>,
    /// The thing is there.
    pub exists: bool,
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
    /// Failed with [`Reason::Conflict`]: it leaves its lane, which goes on without it, until somebody decides.
    Conflict {
        /// Whether the server may have applied it.
        possibly_sent: bool,
        /// What the lane learns.
        taught: Taught,
    },
    /// Beaten on the server: superseded and lost. Its payload stays.
    Lost {
        /// Whether the server may have applied it before.
        possibly_sent: bool,
        /// What the lane learns.
        taught: Taught,
    },
    /// Back to pending with `base` raised to what the conflict taught: as [`Verdict::NotApplied`] otherwise.
    Rebase {
        /// What the lane learns; the revision becomes the entry's base.
        taught: Taught,
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
    /// Back to pending with an upload of which the server cannot have everything, and of which none was possibly sent before: not
    /// possibly sent, but frozen, since the upload goes on (and a newer `latest` entry right after it replaces it).
    Unfinished,
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
    /// The first of the entries that it depends on and that were not delivered yet.
    pub waits_on: Option<Uuid>,
}

/// A changed payload, for [`Store::edit`].
#[derive(Debug, Clone)]
pub struct Edit {
    /// Whose it is.
    pub account: String,
    /// Which entry.
    pub id: Uuid,
    /// The new payload: its generation is one above that of the row, or nothing is done.
    pub payload: SealedPayload,
    /// Media type of the payload.
    pub content_type: String,
    /// Size of the payload before sealing.
    pub bytes: u64,
    /// The form that it has.
    pub payload_version: u32,
    /// What its references name now; those of the old payload are forgotten.
    pub references: Vec<Uuid>,
    /// It was beaten on the server, or ended as a conflict, and is meant all the same.
    pub resolve: bool,
}

/// How long what is settled is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// Acked and superseded entries, newest first.
    pub newest: u64,
    /// Acked and superseded entries, in ms.
    pub settled_ms: i64,
    /// Entries that lost, in ms.
    pub lost_ms: i64,
    /// The memory of lanes without entries, since it last changed, in ms.
    pub lanes_ms: i64,
    /// Canonical ids of pruned entries, in ms.
    pub mappings_ms: i64,
    /// What was discarded although it may have been applied, in ms.
    pub tombstones_ms: i64,
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
    /// Entries that depended on one of these, and failed for it.
    pub orphaned: Vec<Uuid>,
}
