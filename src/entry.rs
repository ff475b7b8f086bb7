//! Plain data: what an entry is, what a caller learns about it, and why it waits.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

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

/// What holds a pending entry back. Computed when asked, never stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "lowercase", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum WaitingFor {
    /// Its last attempt did not get through; the next one is due then.
    Backoff {
        /// Milliseconds since the Unix epoch, for display.
        until: i64,
    },
    /// Its origin cannot be reached, or nothing but silence came back from it in three lanes in a row.
    Offline {
        /// Scheme, host and port.
        origin: String,
    },
    /// The server asked for patience, or answered with a fault (5xx) in five lanes in a row.
    Busy {
        /// Milliseconds since the Unix epoch, for display.
        until: i64,
    },
    /// An older entry of its lane comes first.
    Lane {
        /// That entry.
        behind: Uuid,
    },
    /// An entry that it depends on was not delivered yet.
    Dependency {
        /// That entry.
        on: Uuid,
    },
    /// The server wants credentials that the app has not given yet.
    Auth {
        /// Scheme, host and port.
        origin: String,
    },
    /// The endpoint's answers prove nothing, as a captive portal's do.
    Unproven,
    /// The endpoint refuses everything, as after a bad deploy.
    Refusing,
    /// The keychain is locked, absent, or lacks the key.
    Keychain {
        /// The key's state.
        key: KeyState,
    },
    /// `pause()` was called.
    Paused,
    /// No endpoint of this kind is in this version of the app, or it has no base URL yet, or its URL asks for other params.
    Endpoint,
    /// The engine has not come to it yet: it is next in line, or another process delivers.
    Turn,
}

/// In words for people, as the rest of a sentence that begins "it waits for".
impl fmt::Display for WaitingFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Backoff { until } => write!(f, "its next attempt, due {}", Moment(*until)),
            Self::Offline { origin } => write!(f, "{origin}, which cannot be reached"),
            Self::Busy { until } => write!(f, "the server, which asked for patience until {}", Moment(*until)),
            Self::Lane { behind } => write!(f, "entry {behind}, the older one of its lane"),
            Self::Dependency { on } => write!(f, "entry {on}, on which it depends"),
            Self::Auth { origin } => write!(f, "credentials for {origin}"),
            Self::Unproven => {
                f.write_str("the server: what answers in its place proves nothing, as a captive portal does")
            }
            Self::Refusing => f.write_str("its endpoint, which refuses everything at the moment"),
            Self::Keychain { key } => write!(f, "the master key, which {key}"),
            Self::Paused => f.write_str("`resume()`: delivery is paused"),
            Self::Endpoint => f.write_str("its endpoint: this version of the app does not say where it goes"),
            Self::Turn => f.write_str("its turn"),
        }
    }
}

/// Milliseconds since the Unix epoch, as HTTP writes a date.
struct Moment(i64);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What a date cannot hold (a negative clock, the year 10000) is shown as the number it is.
        const LAST: u64 = 253_402_300_799_999;
        match u64::try_from(self.0).ok().filter(|millis| *millis <= LAST) {
            Some(millis) => httpdate::HttpDate::from(UNIX_EPOCH + Duration::from_millis(millis)).fmt(f),
            None => write!(f, "{} ms after 1970", self.0),
        }
    }
}

/// What is known of the master key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum KeyState {
    /// Not asked for yet: the keychain is first touched when first needed.
    Unused,
    /// Loaded, and it is the key that the database was written with.
    Ready,
    /// The keychain is there but locked, or its prompt was refused or not answered in time.
    Locked,
    /// There is no keychain to talk to.
    Unavailable,
    /// The keychain answers, but holds no key although the database was written with one.
    Missing,
    /// The keychain holds another key than the one the database was written with.
    Mismatch,
}

/// In words for people, as the rest of a sentence that begins "the key".
impl fmt::Display for KeyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unused => "was not asked for yet",
            Self::Ready => "is ready",
            Self::Locked => "is in a locked keychain",
            Self::Unavailable => "has no keychain to come from",
            Self::Missing => "the keychain no longer holds",
            Self::Mismatch => "is another one than the queue was written with",
        })
    }
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

/// How many entries are in each state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Counts {
    /// Waiting.
    pub pending: u64,
    /// Under way.
    pub inflight: u64,
    /// Proved to be on the server.
    pub acked: u64,
    /// Waiting for a decision.
    pub failed: u64,
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

/// A server wants other credentials, as the event `storage-sync://auth` carries it: told once for each set of credentials that it
/// refuses, and once when there are none. [`Status::holds`] shows it for as long as it is so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AuthRequired {
    /// Scheme, host and port.
    pub origin: String,
}

/// A hold on an endpoint or origin, as `status()` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Hold {
    /// The endpoint's name, or none where a whole origin is meant.
    pub kind: Option<String>,
    /// Scheme, host and port.
    pub origin: String,
    /// Why.
    #[serde(rename = "waitingFor")]
    pub waiting_for: WaitingFor,
}

/// The master key, as `status()` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct KeyStatus {
    /// What is known of it.
    pub state: KeyState,
    /// Where it comes from: `"keychain"` unless the app's author chose otherwise.
    pub source: String,
}

/// How a watched folder is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum WatchState {
    /// The system tells when something changes in it; beside that it is looked through from time to time.
    Watching,
    /// It is looked through from time to time only: the system cannot tell of changes.
    Scanning,
    /// It is not there, or may not be read. It is looked for from time to time, and nothing that was in it counts as deleted.
    Missing,
    /// This process does not follow it: it has not begun, there is no key, or another process delivers.
    Waiting,
}

/// A watched folder, as `status()` shows it. Which folder it is, `watches()` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WatchStatus {
    /// The watch.
    pub id: Uuid,
    /// Where its files go.
    pub kind: String,
    /// How it is followed.
    pub state: WatchState,
}

/// What badges show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Status {
    /// Always true from the backend; the guest binding's value before the first answer has false.
    pub ready: bool,
    /// Rises with every change of this process: a listener drops what is lower than what it has.
    pub seq: u64,
    /// How many entries are in each state, of the current account.
    #[serde(flatten)]
    pub counts: Counts,
    /// `pause()` was called and `resume()` was not.
    pub paused: bool,
    /// This process delivers. Otherwise another process on the same database does.
    pub owner: bool,
    /// The current account; `""` when none is used.
    pub account: String,
    /// The master key.
    pub key: KeyStatus,
    /// Endpoints and origins that are held, and why.
    pub holds: Vec<Hold>,
    /// The watched folders of the current account that this process follows.
    pub watches: Vec<WatchStatus>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_entry_waits_for_reads_as_the_rest_of_a_sentence() {
        let behind = Uuid::nil();
        let origin = || "https://api.example.com".to_owned();
        for (waiting_for, words) in [
            (WaitingFor::Backoff { until: 784_111_777_000 }, "its next attempt, due Sun, 06 Nov 1994 08:49:37 GMT"),
            (WaitingFor::Busy { until: -1 }, "the server, which asked for patience until -1 ms after 1970"),
            (WaitingFor::Offline { origin: origin() }, "https://api.example.com, which cannot be reached"),
            (WaitingFor::Auth { origin: origin() }, "credentials for https://api.example.com"),
            (WaitingFor::Lane { behind }, "entry 00000000-0000-0000-0000-000000000000, the older one of its lane"),
            (WaitingFor::Keychain { key: KeyState::Locked }, "the master key, which is in a locked keychain"),
        ] {
            assert_eq!(waiting_for.to_string(), words);
        }
    }

    #[test]
    fn a_moment_that_no_date_can_hold_does_not_panic() {
        assert_eq!(Moment(i64::MAX).to_string(), format!("{} ms after 1970", i64::MAX));
        assert_eq!(Moment(253_402_300_799_999).to_string(), "Fri, 31 Dec 9999 23:59:59 GMT");
    }
}
