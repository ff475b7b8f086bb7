//! A file of the spool that is read.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    sync::{Arc, Mutex, PoisonError},
};

use super::{Shared, Spool, is_name};

/// An open file. It is not removed as long as this lives.
#[derive(Debug)]
pub struct SpoolFile {
    // Closed before the reader is signed off: some systems remove no file that is open.
    file: Option<Mutex<File>>,
    bytes: u64,
    name: String,
    shared: Arc<Shared>,
}

impl Spool {
    /// Opens a file to read it.
    ///
    /// # Errors
    /// What the system says, such as that it is not there.
    pub fn open(&self, name: &str) -> io::Result<SpoolFile> {
        if !is_name(name) {
            return Err(io::Error::new(io::ErrorKind::NotFound, "it is no name of a file in the spool"));
        }
        // Under the lock, so that nobody removes it in between.
        let mut open = self.shared.open();
        let file = File::open(self.shared.path(name))?;
        let bytes = file.metadata()?.len();
        open.entry(name.to_owned()).or_default().readers += 1;
        drop(open);
        Ok(SpoolFile { file: Some(Mutex::new(file)), bytes, name: name.to_owned(), shared: Arc::clone(&self.shared) })
    }
}

impl SpoolFile {
    /// Its size.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Fills `into` from `offset`.
    ///
    /// # Errors
    /// What the system says; [`io::ErrorKind::UnexpectedEof`] when there is less.
    pub fn read_exact_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let file = self.file.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(into)
    }
}

impl Drop for SpoolFile {
    fn drop(&mut self) {
        self.file = None;
        let mut open = self.shared.open();
        let Some(mine) = open.get_mut(&self.name) else { return };
        mine.readers -= 1;
        if mine.readers > 0 {
            return;
        }
        let unwanted = open.remove(&self.name).is_some_and(|mine| mine.unwanted);
        drop(open);
        if unwanted && let Err(error) = self.shared.unlink(&self.name) {
            tracing::warn!(%error, "a file that is not needed any more could not be removed; the next start removes it");
        }
    }
}
