//! Small files that hold or wrap a key: whole or not at all, for the user only.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::super::SourceError;

/// No key file is longer.
const LONGEST: u64 = 4096;

/// The file of one account. Its name tells nothing of the account, which may hold what a file name cannot.
pub(super) fn of_account(folder: &Path, account: &str, extension: &str) -> PathBuf {
    let name = match account {
        "" => "default".to_owned(),
        _ => Sha256::digest(account.as_bytes())[..16].iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    folder.join(format!("{name}.{extension}"))
}

/// What the file holds; none if it is not there.
pub(super) fn read(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, SourceError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unavailable("read", &error)),
    };
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST as usize));
    file.take(LONGEST).read_to_end(&mut bytes).map_err(|error| unavailable("read", &error))?;
    Ok(Some(bytes))
}

/// Whether others than the user can read it.
#[cfg(unix)]
pub(super) fn is_open_to_others(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o077 != 0)
}

#[cfg(not(unix))]
pub(super) fn is_open_to_others(_: &Path) -> bool {
    false
}

/// Replaces the file: after a cut there is the old one or the new one.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), SourceError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let beside = path.with_extension("new");
    let write = || {
        make_folder(folder)?;
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        // The name as well; Windows cannot and need not.
        #[cfg(unix)]
        File::open(folder)?.sync_all()?;
        Ok(())
    };
    write().map_err(|error| unavailable("written", &error))
}

/// While the answer lives, nobody else who asks for it reads and replaces a file of the folder. The system ends it with the process.
pub(super) fn alone(folder: &Path) -> Result<File, SourceError> {
    let lock = || {
        make_folder(folder)?;
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(folder.join("lock"))?;
        file.lock()?;
        Ok(file)
    };
    lock().map_err(|error| unavailable("locked", &error))
}

/// Overwrites and removes the file, and what a write that was cut off has left beside it.
pub(super) fn remove(path: &Path) -> Result<(), SourceError> {
    let remove = |path: &Path| {
        match OpenOptions::new().write(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
            Ok(mut file) => {
                let length = usize::try_from(file.metadata()?.len().min(LONGEST)).unwrap_or_default();
                file.write_all(&vec![0; length])?;
                file.sync_all()?;
            }
        }
        fs::remove_file(path)?;
        #[cfg(unix)]
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()?;
        Ok(())
    };
    remove(&path.with_extension("new")).and_then(|()| remove(path)).map_err(|error| unavailable("removed", &error))
}

fn make_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

fn unavailable(what: &str, error: &io::Error) -> SourceError {
    SourceError::Unavailable(format!("its file cannot be {what}: {error}"))
}
