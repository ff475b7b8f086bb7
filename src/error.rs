//! The one error of this crate.

use std::sync::Arc;

use serde::{Serialize, Serializer, ser::SerializeStruct};
use uuid::Uuid;

/// Shorthand for this crate's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong. It crosses IPC as `{ code, message }`; [`Error::code`] is stable, the message is for people.
///
/// When a verb answers one of these, nothing was written.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `unknown_kind`: no endpoint of that name is configured.
    #[error("{0}")]
    UnknownKind(String),
    /// `invalid_argument`: an argument is missing, of the wrong type, too long, or holds characters that are refused.
    #[error("{0}")]
    InvalidArgument(String),
    /// `invalid_config`: the configuration cannot work; the message names the field.
    #[error("storage-sync configuration: {field}: {message}")]
    InvalidConfig {
        /// Where, as a path into `plugins.storage-sync`.
        field: String,
        /// What is wrong, and what to write.
        message: String,
    },
    /// `payload_too_large`: the payload is over `limits.payloadBytes`.
    #[error("the payload has {bytes} bytes and the limit is {limit}: raise `limits.payloadBytes` or send less")]
    PayloadTooLarge {
        /// Its size.
        bytes: u64,
        /// What is allowed.
        limit: u64,
    },
    /// `path_not_allowed`: the path is not one that a window may name, or it leads to something that is not to be read.
    #[error("{0}")]
    PathNotAllowed(String),
    /// `quota_reached`: as many entries wait as `limits.entries` allows.
    #[error("{count} entries are waiting and the limit is {limit}: deliver or discard some, or raise `limits.entries`")]
    QuotaReached {
        /// How many there are.
        count: u64,
        /// How many are allowed.
        limit: u64,
    },
    /// `id_conflict`: the id is taken by an entry with other content, or by one that was discarded although it may have been applied.
    #[error("entry {0} exists with other content: an id names one mutation for ever, so use a new one")]
    IdConflict(Uuid),
    /// `not_found`: no such entry in the current account.
    #[error("there is no entry {0}: it was discarded or pruned, or never existed in this account")]
    NotFound(Uuid),
    /// `wrong_state`: the verb does not fit the entry's state.
    #[error("{0}")]
    WrongState(String),
    /// `not_delivered`: the entry failed; the message says why and what to do. Its payload is kept.
    #[error("{0}")]
    NotDelivered(String),
    /// `lost`: the entry was beaten on the server by a newer write. Its payload is kept for a while.
    #[error(
        "the server holds a newer write than entry {0}, which stands: what was lost is kept for a while, and `resolve`, `edit` or `retry` revive it"
    )]
    Lost(Uuid),
    /// `quota_reached`: with this file the waiting ones would take more room than `limits.spoolBytes` allows.
    #[error(
        "the file does not fit: {missing} bytes more would be needed, and waiting files may take {limit}: deliver or discard some, or raise `limits.spoolBytes`"
    )]
    SpoolFull {
        /// How many bytes are missing; a lower bound when the file's size is not known beforehand.
        missing: u64,
        /// What is allowed.
        limit: u64,
    },
    /// `disk_full`: the disk has no room for the file. Nothing of it was kept; delivery goes on.
    #[error(
        "the disk has no room for the file: {missing} bytes are missing. Free some space and try again; what is already queued is safe and is still delivered"
    )]
    NoRoom {
        /// How many bytes are missing; a lower bound when the file's size is not known beforehand.
        missing: u64,
    },
    /// `aborted`: whoever asked for it gave it up before it was saved.
    #[error(
        "it was given up before it was saved, and nothing of it is kept: enqueue it again if it is wanted after all"
    )]
    Aborted,
    /// `source_changed`: the file was written to again and again while it was copied.
    #[error("the file changes while it is copied: try again when nobody writes to it")]
    SourceChanged,
    /// `disk_full`: the disk has no room. Nothing was written; delivery goes on.
    #[error("the disk is full: free some space and try again; what is already queued is safe and is still delivered")]
    DiskFull,
    /// `keychain_locked`: the keychain is locked, or its prompt was refused or not answered in time.
    #[error("the keychain is locked: unlock it and try again; what is already queued waits and is delivered then")]
    KeychainLocked,
    /// `keychain_unavailable`: there is no keychain on this system.
    #[error(
        "no keychain is available ({0}): start a Secret Service such as gnome-keyring or KWallet, or configure another key source"
    )]
    KeychainUnavailable(String),
    /// `key_missing`: the keychain holds no key although the database was written with one. Nothing was regenerated.
    #[error(
        "the keychain no longer holds the key that the queue was written with: restore the keychain; nothing was deleted"
    )]
    KeyMissing,
    /// `key_mismatch`: the keychain holds another key than the one the database was written with.
    #[error(
        "the keychain holds another key than the one the queue was written with: restore the right one; nothing was deleted"
    )]
    KeyMismatch,
    /// `signed_out`: the account was signed out, or its queue was given up, while it was in use, here or in another process.
    #[error("this account was signed out meanwhile, or its queue was given up: sign in again; nothing was written")]
    SignedOut,
    /// `rate_limited`: a window enqueues, changes or observes more than `limits.windowEntries` or `limits.windowBytes` allow.
    #[error(
        "this window asks for too much at once: try again in {seconds} s, or raise `limits.windowEntries` or `limits.windowBytes`"
    )]
    RateLimited {
        /// When there is room again.
        seconds: u64,
    },
    /// `undecryptable`: a record does not open with its key.
    #[error("the record of entry {0} was changed or damaged on disk and cannot be decrypted")]
    Undecryptable(Uuid),
    /// `database_newer`: the database was written by a newer version. It was left untouched.
    #[error(
        "the queue was written by a newer version of this app (schema {found}, this version knows {known}): update the app; nothing was changed"
    )]
    DatabaseNewer {
        /// The schema found.
        found: i64,
        /// The newest schema this version knows.
        known: i64,
    },
    /// `database_corrupt`: the database is damaged. Found at the start, it cannot be salvaged as long as another process has it open;
    /// found later, the next start salvages it.
    #[error("the queue's database is damaged: {0}")]
    DatabaseCorrupt(String),
    /// `database`: SQLite answered an error.
    #[error("the queue's database answered an error: {0}")]
    Database(String),
    /// `io`: the operating system answered an error.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said. Shared, because one failure to open the queue answers every verb.
        source: Arc<std::io::Error>,
    },
    /// `not_owner`: another process on the same database delivers; call this there.
    #[error("another process of this app delivers from this queue: call this there, or close it")]
    NotOwner,
    /// `timeout`: the time given ran out. Nothing is lost by it.
    #[error("{0}")]
    Timeout(String),
    /// `closed`: the app is shutting down.
    #[error("the app is shutting down; what is queued is safe and is delivered at the next start")]
    Closed,
    /// `unsupported_platform`: this is a desktop plugin.
    #[error("storage-sync runs on Linux, macOS and Windows")]
    UnsupportedPlatform,
}

impl Error {
    /// The stable name of this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownKind(_) => "unknown_kind",
            Self::InvalidArgument(_) => "invalid_argument",
            Self::InvalidConfig { .. } => "invalid_config",
            Self::PayloadTooLarge { .. } => "payload_too_large",
            Self::PathNotAllowed(_) => "path_not_allowed",
            Self::QuotaReached { .. } => "quota_reached",
            Self::IdConflict(_) => "id_conflict",
            Self::NotFound(_) => "not_found",
            Self::WrongState(_) => "wrong_state",
            Self::NotDelivered(_) => "not_delivered",
            Self::Lost(_) => "lost",
            Self::SpoolFull { .. } => "quota_reached",
            Self::NoRoom { .. } | Self::DiskFull => "disk_full",
            Self::Aborted => "aborted",
            Self::SourceChanged => "source_changed",
            Self::KeychainLocked => "keychain_locked",
            Self::KeychainUnavailable(_) => "keychain_unavailable",
            Self::KeyMissing => "key_missing",
            Self::KeyMismatch => "key_mismatch",
            Self::SignedOut => "signed_out",
            Self::RateLimited { .. } => "rate_limited",
            Self::Undecryptable(_) => "undecryptable",
            Self::DatabaseNewer { .. } => "database_newer",
            Self::DatabaseCorrupt(_) => "database_corrupt",
            Self::Database(_) => "database",
            Self::Io { .. } => "io",
            Self::NotOwner => "not_owner",
            Self::Timeout(_) => "timeout",
            Self::Closed => "closed",
            Self::UnsupportedPlatform => "unsupported_platform",
        }
    }

    /// An argument that is refused, with what to do about it.
    pub(crate) fn argument(message: impl Into<String>) -> Self {
        Self::InvalidArgument(message.into())
    }

    /// A path that is refused, with what to do about it.
    pub(crate) fn path(message: impl Into<String>) -> Self {
        Self::PathNotAllowed(message.into())
    }

    /// A configuration field that is refused.
    pub(crate) fn config(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::InvalidConfig { field: field.into(), message: message.into() }
    }

    /// What was tried, and what the system said.
    pub(crate) fn io(what: impl Into<String>, source: std::io::Error) -> Self {
        if source.kind() == std::io::ErrorKind::StorageFull {
            return Self::DiskFull;
        }
        Self::Io { what: what.into(), source: Arc::new(source) }
    }
}

impl Serialize for Error {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut error = serializer.serialize_struct("Error", 2)?;
        error.serialize_field("code", self.code())?;
        error.serialize_field("message", &self.to_string())?;
        error.end()
    }
}
