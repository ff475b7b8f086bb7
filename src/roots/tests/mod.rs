//! What may be opened, and everything that may not.

mod attacks;
mod folders;
mod race;
mod rules;

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use super::{Bases, Opened, Roots};
use crate::error::Result;

/// A home with pictures, and the queue's own folder in it.
struct Home {
    folder: TempDir,
}

impl Home {
    fn new() -> Self {
        let home = Self { folder: tempfile::tempdir().unwrap() };
        for folder in ["Pictures/2026", "Documents", "outside", "app/storage-sync"] {
            fs::create_dir_all(home.path(folder)).unwrap();
        }
        home
    }

    fn path(&self, below: &str) -> PathBuf {
        below.split('/').fold(self.folder.path().canonicalize().unwrap(), |path, name| path.join(name))
    }

    fn text(&self, below: &str) -> String {
        self.path(below).to_str().unwrap().to_owned()
    }

    fn write(&self, below: &str) -> String {
        fs::write(self.path(below), below).unwrap();
        self.text(below)
    }

    fn bases(&self) -> Bases {
        [("$PICTURE", "Pictures"), ("$HOME", "."), ("$APPDATA", "app")]
            .map(|(name, below)| (name, if below == "." { self.path("") } else { self.path(below) }))
            .into()
    }

    fn try_roots(&self, patterns: &[&str]) -> Result<Roots> {
        let patterns: Vec<_> = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
        Roots::new(&patterns, &self.bases(), Some(self.path("app/storage-sync")))
    }

    fn roots(&self, patterns: &[&str]) -> Roots {
        self.try_roots(patterns).unwrap()
    }
}

fn content(opened: Result<Opened>) -> String {
    let mut text = String::new();
    let mut opened = opened.unwrap();
    opened.file.read_to_string(&mut text).unwrap();
    text
}

/// The code of the error, whose message must not tell more than who asked knows.
fn code<T>(home: &Home, result: Result<T>) -> &'static str {
    let error = result.err().expect("it is refused");
    let message = error.to_string();
    let told = home.folder.path().to_str().unwrap();
    assert!(!message.contains(told) && !message.contains("Pictures"), "{message}");
    error.code()
}

#[cfg(unix)]
fn link(target: &Path, name: &Path) {
    std::os::unix::fs::symlink(target, name).unwrap();
}
