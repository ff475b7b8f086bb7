//! What SQLite's errors mean to us.

use crate::error::Error;

/// Result codes of SQLite, without the extended part.
mod code {
    pub(super) const BUSY: i64 = 5;
    pub(super) const IOERR: i64 = 10;
    pub(super) const CORRUPT: i64 = 11;
    pub(super) const FULL: i64 = 13;
    pub(super) const CANTOPEN: i64 = 14;
    pub(super) const NOTADB: i64 = 26;
    /// A trigger's RAISE: the quota, or a key that is gone.
    pub(super) const CONSTRAINT_TRIGGER: i64 = 1811;
}

/// A failed statement or commit, by what to do about it.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    /// The disk is full: give up the ballast.
    Full,
    /// The operating system failed us: trust nothing in memory, reopen.
    Disk(String),
    /// The file is damaged: salvage at the next start.
    Corrupt(String),
    /// Another process held the lock for longer than we wait.
    Busy,
    /// The connections are closed: for good, or while the database is reopened.
    Closed,
    /// An account has as many entries as it may: look closer.
    Quota,
    /// It was sealed under the key of an account that left.
    SignedOut,
    /// Anything else: this statement's own.
    Other(String),
}

impl Fault {
    /// A column that holds what we never write.
    pub(super) fn damaged(column: &str) -> Self {
        Self::Corrupt(format!("a row holds no proper `{column}`"))
    }
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(database) => {
                // SQLite's messages name tables and columns, never values.
                let text = database.message().to_owned();
                let extended = database.code().and_then(|code| code.parse::<i64>().ok()).unwrap_or(0);
                if extended == code::CONSTRAINT_TRIGGER {
                    return if text == "signed out" { Self::SignedOut } else { Self::Quota };
                }
                match extended & 0xff {
                    code::FULL => Self::Full,
                    code::IOERR | code::CANTOPEN => Self::Disk(format!("{text} (code {extended})")),
                    code::CORRUPT | code::NOTADB => Self::Corrupt(text),
                    code::BUSY => Self::Busy,
                    _ => Self::Other(text),
                }
            }
            sqlx::Error::Io(source) if source.kind() == std::io::ErrorKind::StorageFull => Self::Full,
            sqlx::Error::Io(source) => Self::Disk(source.to_string()),
            sqlx::Error::WorkerCrashed => Self::Disk("the thread of the connection ended".into()),
            sqlx::Error::PoolTimedOut => Self::Busy,
            sqlx::Error::PoolClosed => Self::Closed,
            // Its text may quote a value.
            sqlx::Error::ColumnDecode { index, .. } => {
                Self::Corrupt(format!("column {index} holds a value of another type"))
            }
            other => Self::Other(other.to_string()),
        }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Full => Self::DiskFull,
            Fault::Disk(text) => Self::Database(format!("{text}: check the disk")),
            Fault::Corrupt(text) => Self::DatabaseCorrupt(format!("{text}; restart the app to salvage it")),
            Fault::Busy => Self::Database("another process holds the write lock: try again".into()),
            Fault::Quota => Self::Database("a quota was reached and could not be looked at".into()),
            Fault::SignedOut => Self::SignedOut,
            Fault::Closed => Self::Closed,
            Fault::Other(text) => Self::Database(text),
        }
    }
}
