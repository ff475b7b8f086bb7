//! A folder that stays open.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use cap_std::fs::Dir;

use super::{Opened, Shared, denied, outside, walk::Own, written};
use crate::error::{Error, Result};

/// A folder that stays open, wherever its path leads later. Files in it are opened by their path below it.
pub struct Folder {
    pub(super) dir: Dir,
    /// As it was given, and as it turned out to be.
    paths: [PathBuf; 2],
    /// It was allowed itself, and everything in it.
    whole: bool,
    shared: Arc<Shared>,
}

impl Folder {
    pub(super) fn new(dir: Dir, paths: [PathBuf; 2], whole: bool, shared: Arc<Shared>) -> Self {
        Self { dir, paths, whole, shared }
    }

    /// Where it really is, as far as the system can tell.
    pub fn path(&self) -> &Path {
        &self.paths[1]
    }

    /// Opens the regular file of that path below the folder: names with `/` between them.
    ///
    /// # Errors
    /// As [`Roots::open_file`](super::Roots::open_file).
    pub fn open_file(&self, path: &str) -> Result<Opened> {
        let (own, exact) = self.rules()?;
        let (dir, name) = self.parent(path)?;
        own.file(&dir, name, exact)
    }

    /// The folder that a file is in which may be opened, and its name there.
    pub(super) fn parent<'p>(&self, path: &'p str) -> Result<(Dir, &'p str)> {
        self.allows(path)?;
        let names = written::relative(path)?;
        let (own, exact) = self.rules()?;
        let (name, folders) = names.split_last().ok_or_else(outside)?;
        let mut dir = self.dir.try_clone().map_err(|error| Error::io("opening the folder", error))?;
        for folder in folders {
            dir = own.step(&dir, folder, exact)?;
        }
        Ok((dir, name))
    }

    /// Whether a file of that path may be opened.
    pub(super) fn allows(&self, path: &str) -> Result<()> {
        let names = written::relative(path)?;
        let paths = self.paths.clone().map(|path| names.iter().fold(path, |path, name| path.join(name)));
        let patterns = &self.shared.patterns;
        if !self.whole && patterns.file(&paths[0]).is_none() {
            return Err(outside());
        }
        if paths.iter().any(|path| patterns.denies(path)) {
            return Err(denied());
        }
        Ok(())
    }

    /// What is ours, and whether names have to be spelled as the system spells them.
    pub(super) fn rules(&self) -> Result<(Own, bool)> {
        Ok((Own::of(self.shared.own.as_deref())?, self.shared.patterns.deny()))
    }
}
