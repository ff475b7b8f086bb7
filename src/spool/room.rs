//! Whether a file fits: into what waiting files may take, and onto the disk.

use std::{io, path::Path, sync::atomic::Ordering};

use super::Shared;
use crate::error::{Error, Result};

/// So much of the disk is left to the database, in bytes: what is queued must be delivered also when the disk is full of files.
const RESERVE: u64 = 16 << 20;
/// While a file is copied the disk is looked at after so many bytes.
const LOOK_EVERY: u64 = 16 << 20;

/// How much room there is when a copy begins.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// Bytes that waiting files may take.
    pub limit: u64,
    /// Bytes that they take, by what the database says.
    pub used: u64,
    /// Bytes of the sealed file, as far as that is known.
    pub expected: Option<u64>,
}

/// Watches the room while a file grows. Gives back what it has reserved.
#[derive(Debug)]
pub(super) struct Growth<'s> {
    shared: &'s Shared,
    room: Room,
    /// What other copies of this process had committed when this one began.
    committed: u64,
    reserved: u64,
    written: u64,
    looked: u64,
}

impl<'s> Growth<'s> {
    /// # Errors
    /// [`Error::SpoolFull`], [`Error::NoRoom`] if it is known already that the file does not fit.
    pub(super) fn begin(shared: &'s Shared, room: Room) -> Result<Self> {
        let committed = shared.committed.load(Ordering::Acquire);
        let mut growth = Self { shared, room, committed, reserved: 0, written: 0, looked: 0 };
        growth.reserve(room.expected.unwrap_or(0))?;
        growth.look()?;
        Ok(growth)
    }

    /// So many bytes are about to be written.
    ///
    /// # Errors
    /// [`Error::SpoolFull`], [`Error::NoRoom`].
    pub(super) fn grow(&mut self, bytes: u64) -> Result<()> {
        self.written += bytes;
        self.reserve(self.written)?;
        if self.written - self.looked >= LOOK_EVERY {
            self.look()?;
        }
        Ok(())
    }

    /// Begins anew with an empty file.
    pub(super) fn restart(&mut self) {
        (self.written, self.looked) = (0, 0);
    }

    /// What a failed write means: how much is missing is said where that is the reason.
    pub(super) fn failed(&self, what: &str, source: io::Error) -> Error {
        if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            return Error::NoRoom { missing: self.left().max(1) };
        }
        Error::io(what, source)
    }

    fn left(&self) -> u64 {
        self.room.expected.unwrap_or(0).saturating_sub(self.written)
    }

    fn reserve(&mut self, bytes: u64) -> Result<()> {
        let more = bytes.saturating_sub(self.reserved);
        if more == 0 {
            return Ok(());
        }
        self.reserved += more;
        let staged = self.shared.staged.fetch_add(more, Ordering::AcqRel) + more;
        let since = self.shared.committed.load(Ordering::Acquire).saturating_sub(self.committed);
        let wanted = self.room.used.saturating_add(since).saturating_add(staged);
        let limit = self.room.limit;
        if wanted > limit { Err(Error::SpoolFull { missing: wanted - limit, limit }) } else { Ok(()) }
    }

    fn look(&mut self) -> Result<()> {
        self.looked = self.written;
        // A system that does not tell will say so when it is full.
        let Some(free) = free(&self.shared.parent) else { return Ok(()) };
        let wanted = self.left().saturating_add(RESERVE);
        if free < wanted { Err(Error::NoRoom { missing: wanted - free }) } else { Ok(()) }
    }
}

impl Drop for Growth<'_> {
    fn drop(&mut self) {
        self.shared.staged.fetch_sub(self.reserved, Ordering::AcqRel);
    }
}

fn free(folder: &Path) -> Option<u64> {
    fs4::available_space(folder).ok()
}
