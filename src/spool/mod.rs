//! The folder of sealed files beside the database: the only place that writes, reads and removes them. It sees ciphertext only.
//!
//! - A file is written under a random name that ends in `.part`, synced, renamed, and the folder is synced. Only then may a row name it.
//! - From its creation until that row has committed it holds an OS file lock, which a kill releases. So what is not locked and not named by a
//!   row is left over: the owner removes it when it takes over.
//! - Whatever stops a copy, nothing of it stays.
//!
//! All of it blocks: it is for threads that may.

mod file;
mod room;
mod stage;
mod sweep;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::error::{Error, Result};

pub use self::{
    file::SpoolFile,
    room::{Ask, Room, Taken},
    stage::{Spooled, Staged},
    sweep::Unlocked,
};

/// The folder's name in the data folder.
const FOLDER: &str = "spool";
/// What the name of a file ends in that is not complete.
const PART: &str = ".part";

/// A handle to the folder; clones share it. Touches nothing until it is used.
#[derive(Debug, Clone)]
pub struct Spool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// The data folder.
    parent: PathBuf,
    folder: PathBuf,
    /// Bytes that copies of this process have written or will, and that no row names yet.
    staged: AtomicU64,
    /// Bytes of copies of this process that rows name.
    committed: AtomicU64,
    /// Files that are read at this moment.
    open: Mutex<HashMap<String, Open>>,
}

/// A file that is read at this moment.
#[derive(Debug, Default)]
struct Open {
    readers: usize,
    /// Nothing names it any more: the last reader removes it.
    unwanted: bool,
}

impl Spool {
    /// The one in that data folder.
    pub fn new(data: &Path) -> Self {
        Self {
            shared: Arc::new(Shared {
                parent: data.to_owned(),
                folder: data.join(FOLDER),
                staged: AtomicU64::new(0),
                committed: AtomicU64::new(0),
                open: Mutex::default(),
            }),
        }
    }

    /// Bytes that rows of this process have begun to name, since it runs.
    pub fn committed(&self) -> u64 {
        self.shared.committed.load(Ordering::Acquire)
    }

    /// Removes a file that no row names any more: now, or when nobody reads it any more. One that is not there is no error.
    ///
    /// # Errors
    /// What the system says; it is then still there.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        if let Some(open) = self.shared.open().get_mut(name) {
            open.unwanted = true;
            return Ok(());
        }
        self.shared.unlink(name)
    }

    /// Puts these files, or copies of them, into that folder, which is made: there they stay, whatever becomes of the spool's own. One that is
    /// not there any more is left out.
    ///
    /// # Errors
    /// [`Error::DiskFull`], [`Error::Io`].
    pub fn keep(&self, names: &[String], folder: &Path) -> Result<()> {
        let kept = || {
            make_private(folder)?;
            for name in names.iter().filter(|name| is_name(name)) {
                let (from, to) = (self.shared.path(name), folder.join(name));
                match fs::hard_link(&from, &to) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    // Not every file system has links.
                    Err(_) => {
                        fs::copy(&from, &to)?;
                        fs::File::options().write(true).open(&to)?.sync_all()?;
                    }
                }
            }
            sync_folder(folder)?;
            sync_folder(&self.shared.parent)
        };
        kept().map_err(|source| Error::io("keeping the files of a queue that is given up", source))
    }

    /// Whether the name is one of a file that was never complete.
    pub fn is_part(name: &str) -> bool {
        name.ends_with(PART)
    }

    /// Creates the folder, for the user only.
    fn make_folder(&self) -> Result<()> {
        let Shared { parent, folder, .. } = &*self.shared;
        if folder.is_dir() {
            return Ok(());
        }
        make_private(folder)
            .and_then(|()| sync_folder(parent))
            .map_err(|source| Error::io("creating the folder for files", source))
    }
}

impl Shared {
    fn open(&self) -> std::sync::MutexGuard<'_, HashMap<String, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        if !is_name(name) {
            // A garbled row must not have us remove anything else.
            return Ok(());
        }
        match fs::remove_file(self.path(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Creates a folder, for the user only.
fn make_private(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Whether it is one of our names: 32 hexadecimal digits, and `.part` for what is not complete.
fn is_name(name: &str) -> bool {
    let digits = name.strip_suffix(PART).unwrap_or(name);
    digits.len() == 32 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Makes a rename or a new entry of a folder durable. Windows has no such thing, and journals names by itself.
fn sync_folder(folder: &Path) -> io::Result<()> {
    #[cfg(unix)]
    fs::File::open(folder)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}
