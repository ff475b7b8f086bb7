//! The lock that keeps two processes, and two accounts' first runs, from generating a key at once.

use std::{
    fs::{File, OpenOptions, TryLockError},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crate::error::{Error, Result};

/// First and longest pause between two tries. Tried rather than waited for: a blocking lock could not be given up in
/// time.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(200));

/// How long a call that nobody waits for any more, as when another account became the current one, may take to end before it counts as an
/// open prompt.
const ENDING: Duration = Duration::from_millis(500);

/// `key.lock` in the data folder. The system releases it when the process ends, however it ends.
pub(super) struct KeyLock {
    path: PathBuf,
    held: Mutex<Weak<Held>>,
}

/// The lock, for as long as anything holds a part of it. A call that stores a key does: were it given up while a prompt
/// is open, and answered after another process had stored a key, that key would be overwritten.
pub(super) struct Held {
    _file: File,
    /// The flight that took it is over, but a call that was given up has not ended.
    left_behind: AtomicBool,
}

/// The flight's part.
pub(super) struct Flight(Arc<Held>);

impl Flight {
    /// The part for a call that must not outlive the lock.
    pub(super) fn share(&self) -> Arc<Held> {
        self.0.clone()
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.0.left_behind.store(true, Ordering::Release);
    }
}

impl KeyLock {
    pub(super) fn new(folder: &Path) -> Self {
        Self { path: folder.join("key.lock"), held: Mutex::default() }
    }

    /// The lock, or none if others held it until the deadline, or if one of our own calls does that was given up.
    pub(super) async fn take(&self, deadline: Instant) -> Result<Option<Flight>> {
        let file = self.open().map_err(|error| Error::io(format!("opening {}", self.path.display()), error))?;
        let (mut pause, longest) = PAUSES;
        let asked = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if self.left_behind() && asked.elapsed() > ENDING => return Ok(None),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => {
                    return Err(Error::io(format!("locking {}", self.path.display()), error));
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            tokio::time::sleep(pause.min(left)).await;
            pause = (pause * 2).min(longest);
        }
        let held = Arc::new(Held { _file: file, left_behind: AtomicBool::new(false) });
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(&held);
        Ok(Some(Flight(held)))
    }

    fn open(&self) -> std::io::Result<File> {
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        open(&self.path)
    }

    fn left_behind(&self) -> bool {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
        held.is_some_and(|held| held.left_behind.load(Ordering::Acquire))
    }
}

/// For the user only: whoever could open it could hold it.
fn open(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// `key-users.lock` in the data folder: held, shared, by every process that may seal with a cached key. A rotation drops an old key
/// only when no other process could still write under it.
pub(super) struct Users {
    path: PathBuf,
    held: Mutex<Option<File>>,
}

impl Users {
    pub(super) fn new(folder: &Path) -> Self {
        Self { path: folder.join("key-users.lock"), held: Mutex::default() }
    }

    /// This process has a key. Under [`KeyLock`], like [`Users::alone`], so that nobody waits for more than an instant. Where files cannot
    /// be locked, no rotation is finished, and nothing is lost.
    pub(super) fn join(&self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.is_none() {
            *held = open(&self.path).ok().filter(|file| file.lock_shared().is_ok());
        }
    }

    /// Whether this is the only process that has a key. Under [`KeyLock`]: between the two locks of such a look another process's look
    /// would see nobody.
    pub(super) fn alone(&self) -> bool {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(file) = held.as_ref() else { return false };
        // Let go of first: a lock that is held is not turned into another one on every system.
        let alone = file.unlock().is_ok() && file.try_lock().is_ok_and(|()| file.unlock().is_ok());
        // Nobody holds it alone but for such a look, so it is there again at once.
        alone & file.lock_shared().is_ok()
    }
}
