//! What is in a folder, by the same way that leads to a file: name by name, through no link.

use std::io;

use cap_fs_ext::MetadataExt as _;
use cap_std::fs::{Dir, Metadata};

use super::{Folder, walk::Own};
use crate::{
    entry::Mark,
    error::{Error, Result},
};

/// Folders in folders in folders: what is deeper is not looked at.
const DEEPEST: usize = 64;

/// What was found.
#[derive(Debug, Default)]
pub struct Listing {
    /// Regular files: their paths below the folder, with `/` between the names.
    pub files: Vec<(String, Mark)>,
    /// Those that are not wanted, or may not be opened.
    pub others: Vec<String>,
    /// Something could not be read, so what is not among the files may be there all the same.
    pub incomplete: bool,
    /// So many things have names that cannot be told: they are not Unicode, or hold control characters.
    pub unnamed: u64,
}

/// What the system says of a file.
pub(super) fn mark(found: &Metadata) -> Mark {
    Mark { file: found.ino(), bytes: found.len(), modified: modified(found), changed: changed(found) }
}

fn modified(found: &Metadata) -> i64 {
    let Ok(modified) = found.modified() else { return 0 };
    let modified = modified.into_std();
    let nanos = |time: std::time::Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
    match modified.duration_since(std::time::UNIX_EPOCH) {
        Ok(since) => nanos(since),
        Err(before) => -nanos(before.duration()),
    }
}

#[cfg(unix)]
fn changed(found: &Metadata) -> i64 {
    use cap_std::fs::MetadataExt as _;
    found.ctime().saturating_mul(1_000_000_000).saturating_add(found.ctime_nsec())
}

#[cfg(not(unix))]
fn changed(_found: &Metadata) -> i64 {
    0
}

/// What is asked of every name before it is looked at.
struct Search<'a> {
    own: &'a Own,
    exact: bool,
    recursive: bool,
    /// Of a path below the folder, and whether it is a folder's.
    wanted: &'a dyn Fn(&str, bool) -> bool,
}

impl Folder {
    /// The regular files in it that may be opened and that are wanted, and the paths of others, and with `recursive` those in its folders. Links, pipes, devices and the
    /// queue's own folder are passed over. `wanted` is asked for each path below the folder, and told whether it is a folder's.
    ///
    /// # Errors
    /// `io` when the folder itself cannot be read.
    pub fn list(&self, recursive: bool, wanted: &dyn Fn(&str, bool) -> bool) -> Result<Listing> {
        let (own, exact) = self.rules()?;
        let allowed = |path: &str, folder: bool| wanted(path, folder) && (folder || self.allows(path).is_ok());
        let search = Search { own: &own, exact, recursive, wanted: &allowed };
        let mut listing = Listing::default();
        search.list(&self.dir, "", 0, &mut listing)?;
        Ok(listing)
    }

    /// What the system calls the folder: another one that takes its place is called otherwise.
    ///
    /// # Errors
    /// `io`.
    pub fn identity(&self) -> Result<Vec<u8>> {
        let found = self.dir.dir_metadata().map_err(|error| Error::io("looking at the folder", error))?;
        Ok([found.dev().to_be_bytes(), found.ino().to_be_bytes()].concat())
    }

    /// Whether it is where a disk begins. The system calls what is in the same slot, and made in the same way, by the same name.
    pub fn is_a_disk(&self) -> bool {
        let Some(above) = self.path().parent() else { return true };
        #[cfg(unix)]
        return match (self.dir.dir_metadata(), std::fs::metadata(above)) {
            (Ok(own), Ok(above)) => own.dev() != std::os::unix::fs::MetadataExt::dev(&above),
            _ => true,
        };
        #[cfg(not(unix))]
        return above.as_os_str().is_empty();
    }
}

impl Search<'_> {
    fn list(&self, dir: &Dir, prefix: &str, depth: usize, into: &mut Listing) -> Result<()> {
        let failed = |error| Error::io("reading the folder", error);
        for entry in dir.read_dir(".").map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let Some(name) = name.to_str().filter(|name| !name.chars().any(char::is_control)) else {
                into.unnamed += 1;
                continue;
            };
            match dir.symlink_metadata(name) {
                Ok(found) => self.take(dir, &format!("{prefix}{name}"), name, &found, depth, into),
                // It went just now, which the next look sees.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(_) => into.incomplete = true,
            }
        }
        Ok(())
    }

    fn take(&self, dir: &Dir, path: &str, name: &str, found: &Metadata, depth: usize, into: &mut Listing) {
        if found.is_dir() {
            if !(self.wanted)(path, true) || !self.recursive {
                return;
            }
            let opened = self.own.step(dir, name, self.exact);
            let listed = match opened {
                Ok(_) if depth == DEEPEST => Err(Error::path("the folders are too deep in each other")),
                Ok(dir) => self.list(&dir, &format!("{path}/"), depth + 1, into),
                // A link that took its place, or our own folder: nothing that could be ours to read.
                Err(Error::PathNotAllowed(_)) => Ok(()),
                Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
                Err(error) => Err(error),
            };
            into.incomplete |= listed.is_err();
        } else if found.is_file() {
            if (self.wanted)(path, false) {
                into.files.push((path.to_owned(), mark(found)));
            } else {
                into.others.push(path.to_owned());
            }
        }
    }
}
