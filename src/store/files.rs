//! The files beside the database: their names, and that only the user can read them.

use std::{
    fs::{self, OpenOptions},
    io,
    path::{Path, PathBuf},
};

use crate::error::{Error, Result};

/// The database.
pub(super) const DATABASE: &str = "outbox.db";
/// Present when a row could not be read: the next start checks the whole file.
const SUSPECT: &str = "outbox.suspect";

/// The database and the two files that SQLite keeps beside it.
pub(super) fn parts(database: &Path) -> [PathBuf; 3] {
    ["", "-wal", "-shm"].map(|suffix| with_suffix(database, suffix))
}

/// `outbox.db` + `-wal`
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Creates the folder, for the user only.
pub(super) fn make_folder(folder: &Path) -> Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .create(folder)
        .and_then(|()| restrict(folder, 0o700))
        .map_err(|source| Error::io("creating the data folder", source))
}

/// Creates the database file if it is not there, and takes it and its companions from everybody else: SQLite gives
/// new companions the same mode.
pub(super) fn make_database(database: &Path) -> Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    private(&mut options);
    options.open(database).map_err(|source| Error::io("creating the database", source))?;
    for part in parts(database) {
        match restrict(&part, 0o600) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io("restricting the database to this user", error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// A file that is created with these options is the user's only.
pub(super) fn private(options: &mut OpenOptions) {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    #[cfg(not(unix))]
    let _ = options;
}

#[cfg(unix)]
fn restrict(path: &Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

#[cfg(not(unix))]
fn restrict(_: &Path, _: u32) -> io::Result<()> {
    // The profile folder's access list already keeps other users out.
    Ok(())
}

/// Remembers across a restart that the file must be checked.
pub(super) fn suspect(folder: &Path) {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    private(&mut options);
    if let Err(error) = options.open(folder.join(SUSPECT)) {
        tracing::error!(%error, "could not note that the database is damaged");
    }
}

/// Whether the file must be checked.
pub(super) fn is_suspect(folder: &Path) -> bool {
    folder.join(SUSPECT).exists()
}

/// The file was checked, or replaced.
pub(super) fn trust(folder: &Path) {
    let _ = fs::remove_file(folder.join(SUSPECT));
}
