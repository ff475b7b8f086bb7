//! Plain data: what an entry is, what a caller learns about it, and why it waits.

mod status;
mod waiting;
mod watch;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use self::{
    status::{Counts, Hold, KeyStatus, Status},
    waiting::{KeyState, WaitingFor},
    watch::{Mark, WatchState, WatchStatus},
};

/// Where an entry stands. See the state diagram in the crate documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum State {
    /// On disk, encrypted, not being sent at this moment. [`Entry::waiting_for`] says why.
    Pending,
    /// An attempt is under way.
    Inflight,
    /// The server has proved that it has it.
    Acked,
    /// Not delivered, and not retried without a decision of the user. [`Entry::reason`] says why.
    Failed,
    /// A newer entry of its lane took its place, before this one was ever sent or after it was definitively refused; or, with
    /// [`Entry::lost`], the server holds a newer write than this one.
    Superseded,
}

impl State {
    /// The name used in SQL, JSON and TypeScript.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Inflight => "inflight",
            Self::Acked => "acked",
            Self::Failed => "failed",
            Self::Superseded => "superseded",
        }
    }

    /// The state of that name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Pending, Self::Inflight, Self::Acked, Self::Failed, Self::Superseded]
            .into_iter()
            .find(|state| state.as_str() == name)
    }
}

/// Why an entry is [`State::Failed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Reason {
    /// The server refused it definitively; [`Entry::status`] has the HTTP status.
    Refused,
    /// The server holds a revision that this write does not beat.
    Conflict,
    /// It may have been applied, and the endpoint does not allow sending it twice.
    OutcomeUnknown,
    /// The server answers others of this endpoint properly, but this one never with the proof that the endpoint asks for.
    Unproven,
    /// The record on disk does not open with its key: it was changed or damaged.
    Undecryptable,
    /// An entry that it depends on was discarded, or pruned without having been delivered.
    ParentGone,
}

impl Reason {
    const ALL: [Self; 6] =
        [Self::Refused, Self::Conflict, Self::OutcomeUnknown, Self::Unproven, Self::Undecryptable, Self::ParentGone];

    /// The name used in SQL, JSON and TypeScript.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Conflict => "conflict",
            Self::OutcomeUnknown => "outcome-unknown",
            Self::Unproven => "unproven",
            Self::Undecryptable => "undecryptable",
            Self::ParentGone => "parent-gone",
        }
    }

    /// The reason of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name)
    }
}

/// How entries of one lane relate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Queue {
    /// Only the newest matters: it replaces older ones that were never sent or were definitively refused.
    Latest,
    /// Every one is delivered, in order of enqueue.
    Every,
}

impl Queue {
    /// The name used in SQL, JSON and TypeScript.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Latest => "latest",
            Self::Every => "every",
        }
    }

    /// The policy of that name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Latest, Self::Every].into_iter().find(|queue| queue.as_str() == name)
    }
}

/// What an entry does to the thing that it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Action {
    /// The thing comes to be on the server.
    Create,
    /// The thing is there already and changes.
    Update,
    /// The thing goes.
    Delete,
}

impl Action {
    /// The name used in SQL, JSON and TypeScript.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }

    /// The action of that name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Create, Self::Update, Self::Delete].into_iter().find(|action| action.as_str() == name)
    }
}

/// Whether the server has applied an entry, as far as that can be known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Applied {
    /// It has proved that.
    Yes,
    /// Not in any attempt so far: none reached it, or it said so.
    No,
    /// An attempt has begun and no definitive answer came.
    Unknown,
}

impl Applied {
    /// What follows from an entry's state and from whether it was possibly sent.
    pub(crate) fn of(state: State, possibly_sent: bool) -> Self {
        match (state, possibly_sent) {
            (State::Acked, _) => Self::Yes,
            (_, true) => Self::Unknown,
            (_, false) => Self::No,
        }
    }
}

/// What an app has read of a thing on the server, for `observe`. What is absent stays as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Known {
    /// The revision that the server holds; below 2^53.
    #[serde(default)]
    pub revision: Option<u64>,
    /// The id that the server gave the thing.
    #[serde(default)]
    pub canonical_id: Option<String>,
    /// Whether the thing is on the server. `false` forgets canonical id and tag.
    #[serde(default)]
    pub exists: Option<bool>,
    /// Its strong `ETag`, quotes included.
    #[serde(default)]
    pub etag: Option<String>,
}

/// What `enqueue` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Names this entry for ever (UUID version 7).
    pub id: Uuid,
    /// Its kind.
    pub kind: String,
    /// The thing that it is about, if it was given.
    pub key: Option<String>,
}

/// One entry as the app sees it. Never the payload: `payload(id)` answers that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Entry {
    /// Names this entry for ever.
    pub id: Uuid,
    /// Names the endpoint.
    pub kind: String,
    /// The thing that it is about.
    pub key: Option<String>,
    /// Where it stands.
    pub state: State,
    /// Why it failed.
    pub reason: Option<Reason>,
    /// What a pending entry waits for.
    pub waiting_for: Option<WaitingFor>,
    /// Somebody wants this one to wait (`pause` with its id), until `resume` or until it is settled.
    pub paused: bool,
    /// How its lane treats it.
    pub queue: Queue,
    /// What it does to the thing, where that was said. Otherwise what is known of the thing decides when it is first sent.
    pub action: Option<Action>,
    /// The entries that were named as coming before it, by `after` or by a reference, in the order of their ids.
    pub after: Vec<Uuid>,
    /// Counted attempts, those before a `retry()` included. Not counted are attempts that got no connection, that lacked credentials or
    /// were refused for them (401, 407), and that were answered without proof; the one with which the entry failed is, whatever the answer.
    pub attempts: u32,
    /// An attempt has begun and no definitive answer came.
    pub possibly_sent: bool,
    /// Whether the server has applied it.
    pub applied: Applied,
    /// HTTP status of the last answer.
    pub status: Option<u16>,
    /// What the last attempt said, in words. Never a payload, a credential or a query string.
    pub last_error: Option<String>,
    /// The revision on the wire, once an attempt has begun.
    pub revision: Option<u64>,
    /// The id that the server gave the thing.
    pub canonical_id: Option<String>,
    /// The newer entry that replaced it.
    pub superseded_by: Option<Uuid>,
    /// Beaten on the server by a newer write: the payload is kept for a while (30 days by default), and `retry`, `edit` or `resolve`
    /// revive it. [`Entry::applied`] says whether it may have been applied before it was beaten.
    pub lost: bool,
    /// It met a newer write on the server, and nobody has read of it yet.
    pub conflict: bool,
    /// Media type of the payload.
    pub content_type: String,
    /// Size of the payload in bytes.
    pub bytes: u64,
    /// The payload is a file: `file(id)` says what it is called.
    pub file: bool,
    /// Of a file: how many bytes the server said that it has. What has been sent of it since tells the progress of uploads.
    pub uploaded: u64,
    /// When it was enqueued: milliseconds since the Unix epoch, for display only. Nothing is ordered by it.
    pub created_at: i64,
    /// When its state last changed: milliseconds since the Unix epoch, for display only.
    pub updated_at: i64,
}

/// How far an upload is that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct UploadProgress {
    /// The entry.
    pub id: Uuid,
    /// Bytes that have been sent. May fall: when the server has less than it was sent, or a form is sent anew.
    pub sent: u64,
    /// Bytes of the file.
    pub total: u64,
    /// Bytes per second, over the last few seconds; 0 as long as it is not known.
    pub rate: u64,
    /// How long the rest will take at that rate, in milliseconds, if it is known.
    pub left: Option<u64>,
}

/// One state change, as the event `storage-sync://entry` carries it: no key, name or payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The entry.
    pub id: Uuid,
    /// Its kind.
    pub kind: String,
    /// The state it is in now; absent once it was discarded or pruned.
    pub state: Option<State>,
    /// Rises with every change of this process.
    pub seq: u64,
    /// It met a newer write on the server just now.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub conflict: bool,
    /// Whose it is. Windows are told of the current account's only, so they are not told this.
    #[serde(skip)]
    pub account: Arc<str>,
}

/// A server wants other credentials: told once for each set of credentials that it refuses, and once when there are none.
/// [`Status::holds`] shows it for as long as it is so. The event `storage-sync://auth` says only that there is one more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AuthRequired {
    /// Scheme, host and port.
    pub origin: String,
}
