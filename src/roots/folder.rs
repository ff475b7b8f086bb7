//! A folder that stays open.

use std::{path::PathBuf, sync::Arc};

use cap_std::fs::Dir;

use super::{Opened, Shared, denied, outside, walk::Own, written};
use crate::error::{Error, Result};

/// A folder that stays open, wherever its path leads later. Files in it are opened by their path below it.
pub struct Folder {
    dir: Dir,
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

    /// Opens the regular file of that path below the folder: names with `/` between them.
    ///
    /// # Errors
    /// As [`Roots::open_file`](super::Roots::open_file).
    #[cfg_attr(not(test), expect(dead_code, reason = "where watched folders come in"))]
    pub fn open_file(&self, path: &str) -> Result<Opened> {
        let names = written::relative(path)?;
        let paths = self.paths.clone().map(|path| names.iter().fold(path, |path, name| path.join(name)));
        let patterns = &self.shared.patterns;
        if !self.whole && patterns.file(&paths[0]).is_none() {
            return Err(outside());
        }
        if paths.iter().any(|path| patterns.denies(path)) {
            return Err(denied());
        }
        let own = Own::of(self.shared.own.as_deref())?;
        let (name, folders) = names.split_last().ok_or_else(outside)?;
        let mut dir = self.dir.try_clone().map_err(|error| Error::io("opening the folder", error))?;
        for folder in folders {
            dir = own.step(&dir, folder, patterns.deny())?;
        }
        own.file(&dir, name, patterns.deny())
    }
}
