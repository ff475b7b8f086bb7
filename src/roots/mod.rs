//! Which files a window may name by their path, and how they are opened: once, by walking down from a trusted folder, through no link.
//!
//! The app's author allows paths with patterns ([`Roots::new`]), the app's Rust code and the user who drops something on a window allow
//! single ones ([`Roots::allow`], [`Roots::dropped`]). The answer is an open handle, and what is read is read from that: whatever becomes
//! of the path afterwards changes nothing.
//!
//! Everything here waits for the disk, so none of it may be called where that hurts. Errors never name a path: who gave it knows it, and
//! nobody else needs to.

mod folder;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod fuzz;
mod grants;
mod listing;
mod pattern;
mod take;
#[cfg(test)]
mod tests;
mod walk;
mod written;

use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

use self::{
    grants::Grants,
    pattern::{Patterns, Place},
    walk::Own,
};
use crate::{
    entry::Mark,
    error::{Error, Result},
};

pub use self::{
    folder::Folder,
    pattern::VARIABLES,
    take::{Take, is_aside},
};

/// What the variables of patterns stand for on this system, by name with the `$`; those that it has no folder for are left out.
pub type Bases = BTreeMap<&'static str, PathBuf>;

/// A regular file, open for reading.
#[derive(Debug)]
pub struct Opened {
    /// Its handle.
    pub file: File,
    /// What it is called, without the folders.
    pub name: String,
    /// How the system knew it when it was opened.
    pub mark: Mark,
}

/// The paths that windows may name. Clones share it.
#[derive(Clone)]
pub struct Roots {
    shared: Arc<Shared>,
}

struct Shared {
    patterns: Patterns,
    grants: Grants,
    /// The plugin's own folder, which nobody may read from.
    own: Option<PathBuf>,
}

impl Roots {
    /// `patterns` as configured; none of them allows nothing.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] for the field `roots[n]`.
    pub fn new(patterns: &[String], bases: &Bases, own: Option<PathBuf>) -> Result<Self> {
        let patterns = Patterns::new(patterns, bases)?;
        Ok(Self { shared: Arc::new(Shared { patterns, grants: Grants::default(), own }) })
    }

    /// Allows that very path, of a file or a folder, for as long as the app runs. What is in a folder is not allowed by it.
    ///
    /// # Errors
    /// `invalid_argument` for a path that is not absolute, or that [`Roots::open_file`] would refuse whatever is allowed.
    pub fn allow(&self, path: &Path) -> Result<()> {
        self.shared.grants.add(&[path.to_owned()], true).map(drop)
    }

    /// Allows what a user dropped on a window, as long as not very many more were dropped since. Never waits; a path that no window could
    /// name is passed over.
    pub fn dropped(&self, paths: &[PathBuf]) {
        let usable: Vec<_> = paths.iter().filter(|path| written::path(path).is_ok()).cloned().collect();
        let Ok(grants) = self.shared.grants.add(&usable, false) else { return };
        // What its folder is now, and not what somebody may make of it later.
        std::thread::spawn(move || grants.iter().for_each(|grant| drop(grant.place())));
    }

    /// Opens the regular file of that absolute path.
    ///
    /// # Errors
    /// `invalid_argument` for a path that cannot name a file plainly; `path_not_allowed` if it is not allowed, leads through a link, or is of
    /// something else than a regular file or of the queue itself; `io`, also where there is no such file. Nothing was read then.
    pub fn open_file(&self, path: &str) -> Result<Opened> {
        let path = written::checked(path)?;
        let place = self.shared.file_at(&path)?;
        let own = Own::of(self.shared.own.as_deref())?;
        let (folders, name) = place.split();
        let folder = own.walk(&place, folders, self.shared.patterns.deny())?;
        own.file(&folder, name, self.shared.patterns.deny())
    }

    /// Opens the folder of that absolute path: one that was allowed itself, or in which patterns may allow files. What is in it is asked
    /// for by [`Folder::open_file`], by the same rules.
    ///
    /// # Errors
    /// As [`Roots::open_file`].
    pub fn open_folder(&self, path: &str) -> Result<Folder> {
        let path = written::checked(path)?;
        let (place, whole) = self.shared.folder_at(&path)?;
        let own = Own::of(self.shared.own.as_deref())?;
        let dir = own.walk(&place, place.names(), self.shared.patterns.deny())?;
        Ok(Folder::new(dir, [path, place.path()], whole, Arc::clone(&self.shared)))
    }
}

impl Shared {
    /// Where to begin, and which names to take, to come to a file that may be opened.
    fn file_at(&self, path: &Path) -> Result<Place> {
        let place = match self.grants.get(path) {
            Some(grant) => grant.place()?,
            None => self.patterns.file(path).ok_or_else(outside)?,
        };
        self.not_denied(path, &place)?;
        Ok(place)
    }

    /// The same for a folder, and whether everything in it is allowed with it. One that was dropped is not: nobody meant all that is in it, nor
    /// for how long.
    fn folder_at(&self, path: &Path) -> Result<(Place, bool)> {
        let (place, whole) = match self.grants.get(path).filter(|grant| grant.is_by_app()) {
            Some(grant) => (grant.place()?, true),
            None => (self.patterns.folder(path).ok_or_else(outside)?, false),
        };
        self.not_denied(path, &place)?;
        Ok((place, whole))
    }

    /// Both as it was written and as it turned out to be.
    fn not_denied(&self, path: &Path, place: &Place) -> Result<()> {
        if self.patterns.denies(path) || self.patterns.denies(&place.path()) {
            return Err(denied());
        }
        Ok(())
    }
}

fn denied() -> Error {
    Error::path("`plugins.storage-sync.roots` denies this path")
}

fn outside() -> Error {
    Error::path(
        "no pattern of `plugins.storage-sync.roots` allows this path: add one, such as \"$PICTURE/**\", or call `allow_path` in Rust, or let the user choose the file (a `File`) or drop it on the window",
    )
}
