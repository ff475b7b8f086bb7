//! The way down, name by name, each opened below the one before it: whatever is swapped meanwhile, nothing leads elsewhere.

use std::{io, path::Path};

use cap_fs_ext::{DirExt as _, FollowSymlinks, MetadataExt as _, OpenOptionsFollowExt as _, OpenOptionsSyncExt as _};
use cap_std::{
    ambient_authority,
    fs::{Dir, Metadata, OpenOptions},
};

use super::{
    Opened,
    listing::mark,
    pattern::{Place, canonical},
};
use crate::error::{Error, Result};

/// The plugin's own folder, if it is there yet.
pub(super) struct Own {
    folder: Option<(Dir, Metadata)>,
}

impl Own {
    pub(super) fn of(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else { return Ok(Self { folder: None }) };
        let opened = Dir::open_ambient_dir(path, ambient_authority()).and_then(|dir| {
            let what = dir.dir_metadata()?;
            Ok((dir, what))
        });
        match opened {
            Ok(folder) => Ok(Self { folder: Some(folder) }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self { folder: None }),
            Err(error) => Err(Error::io("looking up the queue's own folder", error)),
        }
    }

    /// Opens the folder of those names. `exact`: names have to be spelled as the system spells them.
    pub(super) fn walk(&self, place: &Place, names: &[String], exact: bool) -> Result<Dir> {
        // The base may be reached through links, so it is asked by its path whether it is ours or in ours.
        let base = canonical(&place.base).ok_or_else(|| unavailable(io::ErrorKind::NotFound.into()))?;
        let mut dir = Dir::open_ambient_dir(&place.base, ambient_authority()).map_err(unavailable)?;
        for above in base.ancestors() {
            let above = Dir::open_ambient_dir(above, ambient_authority());
            if let Ok(above) = above {
                self.is_not(&above)?;
            }
        }
        for name in names {
            dir = self.step(&dir, name, exact)?;
        }
        Ok(dir)
    }

    /// Opens a folder that is right below `dir`.
    pub(super) fn step(&self, dir: &Dir, name: &str, exact: bool) -> Result<Dir> {
        is_listed(dir, name, exact)?;
        let next = dir.open_dir_nofollow(name).map_err(|error| match dir.symlink_metadata(name) {
            Ok(found) if found.is_symlink() => link(),
            Ok(found) if !found.is_dir() => unavailable(io::ErrorKind::NotADirectory.into()),
            _ => unavailable(error),
        })?;
        self.is_not(&next)?;
        Ok(next)
    }

    /// Opens a regular file that is right below `dir`.
    pub(super) fn file(&self, dir: &Dir, name: &str, exact: bool) -> Result<Opened> {
        is_listed(dir, name, exact)?;
        // Opening some things is an act in itself, so it is asked first what it is.
        let found = dir.symlink_metadata(name).map_err(unavailable)?;
        is_regular(&found)?;
        let mut options = OpenOptions::new();
        // Were it swapped for a pipe just now, opening that would wait for its other end.
        options.read(true).follow(FollowSymlinks::No).nonblock(true);
        let file = dir.open_with(name, &options).map_err(|error| match dir.symlink_metadata(name) {
            Ok(found) if found.is_symlink() => link(),
            _ => unavailable(error),
        })?;
        let opened = file.metadata().map_err(unavailable)?;
        is_regular(&opened)?;
        if opened.nlink() > 1 && self.holds(&opened)? {
            return Err(ours());
        }
        let mark = mark(&opened);
        Ok(Opened { file: file.into_std(), name: name.to_owned(), mark })
    }

    fn is_not(&self, dir: &Dir) -> Result<()> {
        let Some((_, own)) = &self.folder else { return Ok(()) };
        let other = dir.dir_metadata().map_err(unavailable)?;
        if is_same(own, &other) { Err(ours()) } else { Ok(()) }
    }

    /// Whether it is one of the queue's own files under a second name.
    fn holds(&self, file: &Metadata) -> Result<bool> {
        let Some((own, _)) = &self.folder else { return Ok(false) };
        for entry in own.entries().map_err(unavailable)? {
            let entry = entry.map_err(unavailable)?;
            // What vanishes meanwhile is not it.
            let Ok(ours) = entry.open() else { continue };
            if ours.metadata().is_ok_and(|ours| is_same(&ours, file)) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

fn is_regular(found: &Metadata) -> Result<()> {
    if found.is_symlink() {
        return Err(link());
    }
    if found.is_dir() {
        return Err(Error::path("the path is of a folder: name the files in it"));
    }
    if !found.is_file() {
        return Err(Error::path("the path is of a pipe, a device or a socket, not of a file"));
    }
    Ok(())
}

/// File systems that do not tell case apart, compose letters or give names a short form open one thing by many names. Where that matters,
/// the name has to be the one that the folder lists.
fn is_listed(dir: &Dir, name: &str, exact: bool) -> Result<()> {
    if !exact && !name.contains('~') {
        return Ok(());
    }
    // A handle that only leads somewhere cannot be read.
    let listing = dir.read_dir(".").map_err(unavailable)?;
    for entry in listing {
        if entry.map_err(unavailable)?.file_name() == name {
            return Ok(());
        }
    }
    Err(unavailable(io::ErrorKind::NotFound.into()))
}

fn link() -> Error {
    Error::path("the path leads through a link: give the path of the file itself")
}

fn ours() -> Error {
    Error::path("the path is of the queue itself")
}

fn unavailable(error: io::Error) -> Error {
    Error::io("opening the file", error)
}
