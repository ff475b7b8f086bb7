//! What is known of watched folders and their files.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

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

/// How the system tells one state of a file from another. Times are compared and not ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Its number on its disk.
    pub file: u64,
    /// Its size.
    pub bytes: u64,
    /// When it was written, in nanoseconds since 1970.
    pub modified: i64,
    /// When anything of it was changed, in nanoseconds since 1970; 0 where the system does not say.
    pub changed: i64,
}

impl Mark {
    /// Whether it is the same file with the same content, although it may be called otherwise by now: that changes `changed`.
    pub fn is_same_content(&self, other: &Self) -> bool {
        (self.file, self.bytes, self.modified) == (other.file, other.bytes, other.modified)
    }
}
