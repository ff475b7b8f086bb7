//! What badges show.

use serde::{Deserialize, Serialize};

use super::{KeyState, WaitingFor, WatchStatus};

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
    /// Where it waits for `auth`, which time it is that a server asks for other credentials: no two have the same number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<u64>,
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
