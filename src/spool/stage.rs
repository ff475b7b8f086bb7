//! A file on its way into the spool.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Seek, SeekFrom, Write},
    sync::{Arc, atomic::Ordering},
};

use uuid::Uuid;

use super::{Ask, PART, Room, Shared, Spool, room::Growth, sync_folder};
use crate::error::{Error, Result};

/// Bytes after which what was written is pushed to the disk: one sync of a whole file at its end would keep the database's own waiting for
/// seconds, and so much for milliseconds.
const SYNC_EVERY: u64 = 2 << 20;
/// How often a name is looked for. A second time only if the owner swept between the creation of a file and its lock.
const NAMES: u32 = 8;

/// A file that is not complete. Dropping it removes it.
#[derive(Debug)]
pub struct Staged<'s> {
    leftover: Leftover,
    file: File,
    growth: Growth<'s>,
    unsynced: u64,
    bytes: u64,
}

/// A complete file that no row names yet. Dropping it removes it, unless the row has committed.
#[derive(Debug)]
pub struct Spooled {
    leftover: Leftover,
    bytes: u64,
    // Its lock goes after the row has committed, or with the file.
    _file: File,
}

/// Removes its file when it is dropped.
#[derive(Debug)]
struct Leftover {
    shared: Arc<Shared>,
    name: String,
    wanted: bool,
}

impl Drop for Leftover {
    fn drop(&mut self) {
        if !self.wanted
            && let Err(error) = self.shared.unlink(&self.name)
        {
            tracing::warn!(%error, "an unfinished copy of a file could not be removed; the next start removes it");
        }
    }
}

impl Spool {
    /// Begins a file.
    ///
    /// # Errors
    /// [`Error::SpoolFull`], [`Error::NoRoom`] if it is known already that it does not fit; [`Error::Io`].
    pub fn stage<'s>(&'s self, room: Room, ask: Ask<'s>) -> Result<Staged<'s>> {
        self.make_folder()?;
        let growth = Growth::begin(&self.shared, room, ask)?;
        let (leftover, file) = self.create().map_err(|source| growth.failed("creating a file in the spool", source))?;
        Ok(Staged { leftover, file, growth, unsynced: 0, bytes: 0 })
    }

    /// Whether a file of the expected size fits, as far as that is known before it is copied.
    ///
    /// # Errors
    /// [`Error::SpoolFull`], [`Error::NoRoom`].
    pub fn refuse_what_cannot_fit(&self, room: Room, ask: Ask<'_>) -> Result<()> {
        Growth::begin(&self.shared, room, ask).map(drop)
    }

    /// A new file, locked. Between its creation and its lock the owner may have taken it for a leftover.
    fn create(&self) -> io::Result<(Leftover, File)> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        for _ in 0..NAMES {
            let name = format!("{}{PART}", Uuid::new_v4().simple());
            let path = self.shared.path(&name);
            let file = options.open(&path)?;
            let leftover = Leftover { shared: Arc::clone(&self.shared), name, wanted: false };
            file.lock()?;
            if path.exists() {
                return Ok((leftover, file));
            }
        }
        Err(io::Error::other("new files vanish at once"))
    }
}

impl Staged<'_> {
    /// Appends.
    ///
    /// # Errors
    /// [`Error::SpoolFull`], [`Error::NoRoom`], [`Error::Io`].
    pub fn write(&mut self, sealed: &[u8]) -> Result<()> {
        let bytes = sealed.len() as u64;
        self.growth.grow(bytes)?;
        self.file.write_all(sealed).map_err(|source| self.growth.failed("writing a file into the spool", source))?;
        self.bytes += bytes;
        self.unsynced += bytes;
        if self.unsynced >= SYNC_EVERY {
            self.file.sync_data().map_err(|source| self.growth.failed("syncing a file in the spool", source))?;
            self.unsynced = 0;
        }
        Ok(())
    }

    /// Empties it again.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn restart(&mut self) -> Result<()> {
        let emptied = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        emptied.map_err(|source| Error::io("emptying a file in the spool", source))?;
        self.growth.restart();
        (self.bytes, self.unsynced) = (0, 0);
        Ok(())
    }

    /// Makes it durable under its final name.
    ///
    /// # Errors
    /// [`Error::NoRoom`], [`Error::Io`].
    pub fn finish(self) -> Result<Spooled> {
        let Self { mut leftover, file, growth, bytes, .. } = self;
        let finished = file.sync_all().and_then(|()| {
            let complete = leftover.name.trim_end_matches(PART).to_owned();
            fs::rename(leftover.shared.path(&leftover.name), leftover.shared.path(&complete))?;
            leftover.name = complete;
            sync_folder(&leftover.shared.folder)
        });
        finished.map_err(|source| growth.failed("finishing a file in the spool", source))?;
        // From here on it counts as what it takes, until a row names it.
        leftover.shared.staged.fetch_add(bytes, Ordering::AcqRel);
        drop(growth);
        Ok(Spooled { leftover, bytes, _file: file })
    }
}

impl Spooled {
    /// Its name in the spool.
    pub fn name(&self) -> &str {
        &self.leftover.name
    }

    /// Its size.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A row names it now: it stays, and its lock goes.
    pub fn keep(mut self) {
        self.leftover.wanted = true;
        self.leftover.shared.committed.fetch_add(self.bytes, Ordering::AcqRel);
    }
}

impl Drop for Spooled {
    fn drop(&mut self) {
        self.leftover.shared.staged.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}
