//! Locks between processes: OS file locks, so that a kill releases them.

use std::{
    fs::{File, OpenOptions, TryLockError},
    path::Path,
    time::Duration,
};

use crate::error::{Error, Result};

/// Held while somebody opens, migrates or salvages the database.
const OPENING: &str = "opening.lock";
/// Held, shared, by every process that has the database open.
const IN_USE: &str = "in-use.lock";
/// How often an opening process looks whether the other one is done, and how often at most.
const LOOK_EVERY: Duration = Duration::from_millis(25);
const LOOKS: u32 = 1200;

/// This process has the database open, as long as this lives.
#[derive(Debug)]
pub(super) struct InUse(#[allow(dead_code, reason = "the lock goes when the file is closed")] File);

/// This process alone opens the database, as long as this lives.
#[derive(Debug)]
pub(super) struct Opening(#[allow(dead_code, reason = "the lock goes when the file is closed")] File);

/// Waits for other processes that are opening the same database, up to 30 s: a salvage may take its time.
pub(super) async fn opening(folder: &Path) -> Result<Opening> {
    let file = file(folder, OPENING)?;
    for _ in 0..LOOKS {
        match file.try_lock() {
            Ok(()) => return Ok(Opening(file)),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(LOOK_EVERY).await,
            Err(TryLockError::Error(source)) => {
                return Err(Error::io(format!("locking {OPENING} in the data folder"), source));
            }
        }
    }
    Err(Error::Timeout(
        "another process of this app has been opening the queue for 30 s: end it and start again".into(),
    ))
}

/// Says to others that the database is open here.
pub(super) fn in_use(folder: &Path) -> Result<InUse> {
    let file = file(folder, IN_USE)?;
    match file.try_lock_shared() {
        Ok(()) => Ok(InUse(file)),
        Err(TryLockError::WouldBlock) => {
            Err(Error::DatabaseCorrupt("another process is salvaging it: start again when it is done".into()))
        }
        Err(TryLockError::Error(source)) => Err(Error::io(format!("locking {IN_USE} in the data folder"), source)),
    }
}

/// Nobody else has the database open, as long as this lives; an error when somebody has.
pub(super) fn alone(folder: &Path) -> Result<InUse> {
    let file = file(folder, IN_USE)?;
    match file.try_lock() {
        Ok(()) => Ok(InUse(file)),
        Err(TryLockError::WouldBlock) => Err(Error::DatabaseCorrupt(
            "another process of this app has it open: end that one and start again, then it is salvaged".into(),
        )),
        Err(TryLockError::Error(source)) => Err(Error::io(format!("locking {IN_USE} in the data folder"), source)),
    }
}

fn file(folder: &Path, name: &str) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    super::files::private(&mut options);
    options.open(folder.join(name)).map_err(|source| Error::io(format!("opening {name} in the data folder"), source))
}
