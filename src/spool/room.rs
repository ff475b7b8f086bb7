//! Whether a file fits: into what waiting files may take, and onto the disk.

use std::{fmt, io, path::Path, sync::atomic::Ordering};

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
    /// What they take.
    pub taken: Taken,
    /// Bytes of the sealed file, as far as that is known.
    pub expected: Option<u64>,
}

/// What waiting files take.
#[derive(Debug, Clone, Copy, Default)]
pub struct Taken {
    /// Bytes, by what the database says.
    pub used: u64,
    /// What [`Spool::committed`](super::Spool::committed) said before the database was asked: what came since is added.
    pub since: u64,
}

/// Asks the database anew, on a thread that may wait for it. None: it does not answer.
pub type Ask<'a> = &'a (dyn Fn() -> Option<Taken> + Sync);

/// Watches the room while a file grows. Gives back what it has reserved.
pub(super) struct Growth<'s> {
    shared: &'s Shared,
    room: Room,
    ask: Ask<'s>,
    reserved: u64,
    written: u64,
    looked: u64,
}

impl<'s> Growth<'s> {
    /// # Errors
    /// [`Error::SpoolFull`], [`Error::NoRoom`] if it is known already that the file does not fit.
    pub(super) fn begin(shared: &'s Shared, room: Room, ask: Ask<'s>) -> Result<Self> {
        let mut growth = Self { shared, room, ask, reserved: 0, written: 0, looked: 0 };
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
        let limit = self.room.limit;
        if self.add(more).is_err() {
            // Files may have left the spool since this copy began.
            self.room.taken = (self.ask)().unwrap_or(self.room.taken);
            self.add(more).map_err(|missing| Error::SpoolFull { missing, limit })?;
        }
        self.reserved += more;
        Ok(())
    }

    /// Adds to what copies take, if it fits. Answers how much is missing otherwise.
    fn add(&self, more: u64) -> Result<(), u64> {
        let Taken { used, since } = self.room.taken;
        let used = used.saturating_add(self.shared.committed.load(Ordering::Acquire).saturating_sub(since));
        let room = self.room.limit.saturating_sub(used);
        let fits = |staged: u64| staged.checked_add(more).filter(|staged| *staged <= room);
        match self.shared.staged.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits) {
            Ok(_) => Ok(()),
            Err(staged) => Err(used.saturating_add(staged).saturating_add(more) - self.room.limit),
        }
    }

    fn look(&mut self) -> Result<()> {
        self.looked = self.written;
        // A system that does not tell will say so when it is full.
        let Some(free) = free(&self.shared.parent) else { return Ok(()) };
        let wanted = self.left().saturating_add(RESERVE);
        if free < wanted { Err(Error::NoRoom { missing: wanted - free }) } else { Ok(()) }
    }
}

impl fmt::Debug for Growth<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Growth").field("room", &self.room).finish_non_exhaustive()
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
