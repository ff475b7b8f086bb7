//! A file is removed, or moved into a folder beside it, only if it is the one that is meant: it is first put where nobody else looks for it,
//! looked at there, and put back if it is another one.

use std::io;

use cap_fs_ext::DirExt as _;
use cap_std::fs::{Dir, OpenOptions};
use uuid::Uuid;

use super::{Folder, Opened, walk::Own};
use crate::{
    entry::Mark,
    error::{Error, Result},
};

/// How the folders are called in which a file is looked at. A kill in the middle leaves one behind.
const ASIDE: &str = ".storage-sync-";
/// So many names are tried for a file whose own is taken.
const NAMES: u32 = 10_000;

/// What becomes of a file.
#[derive(Debug, Clone, Copy)]
pub enum Take<'t> {
    /// It goes.
    Delete,
    /// It goes into the folder of that name in the watched one, by the path that it had, and under another name where that is taken.
    Move(&'t str),
}

impl Folder {
    /// Removes or moves the regular file of that path below the folder, if it is the one of that mark and `is_it` says so too. Answers whether
    /// it was. Whatever was put in its place meanwhile stays, and no link is followed.
    ///
    /// # Errors
    /// As [`Folder::open_file`], and `io`. The file is then where it was, or beside it under a name of its own.
    pub fn take(&self, path: &str, take: Take<'_>, mark: Mark, is_it: &dyn Fn(Opened) -> Result<bool>) -> Result<bool> {
        let (own, exact) = self.rules()?;
        let (dir, name) = self.parent(path)?;
        // Before anything is touched: most often it is told here.
        if own.file(&dir, name, exact)?.mark != mark {
            return Ok(false);
        }
        let aside = Aside::make(&dir)?;
        dir.rename(name, &aside.inside, name).map_err(failed)?;
        let same =
            || Ok(own.file(&aside.inside, name, exact)?).map(|opened| (opened.mark.is_same_content(&mark), opened));
        // Looked at once more after it was read: a program that has it open may have written to it meanwhile.
        let right = same().and_then(|(same, opened)| Ok(same && is_it(opened)?));
        let right = right.and_then(|right| Ok(right && same()?.0));
        if !matches!(right, Ok(true)) {
            aside.put_back()?;
            return right;
        }
        let done = match take {
            Take::Delete => aside.inside.remove_file(name),
            Take::Move(folder) => self.target(&own, folder, path, exact).and_then(|to| place(&aside.inside, name, &to)),
        };
        aside.put_back()?;
        done.map(|()| true).map_err(failed)
    }

    /// Puts back what a kill has left behind, in the folder that is `path` below this one (`""`: this one).
    ///
    /// # Errors
    /// `io`.
    pub fn put_back(&self, path: &str) -> Result<()> {
        let (own, exact) = self.rules()?;
        let mut dir = self.dir.try_clone().map_err(failed)?;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            dir = own.step(&dir, name, exact)?;
        }
        for entry in dir.read_dir(".").map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            if let Some(name) = name.to_str().filter(|name| is_aside(name)) {
                let inside = own.step(&dir, name, exact)?;
                let outside = dir.try_clone().map_err(failed)?;
                Aside { outside, inside, name: name.to_owned() }.put_back()?;
            }
        }
        Ok(())
    }

    /// The folder that a file of that path goes into, made if it is not there.
    fn target(&self, own: &Own, folder: &str, path: &str, exact: bool) -> io::Result<Dir> {
        let folders = path.rsplit_once('/').map_or("", |(folders, _)| folders);
        let mut dir = self.dir.try_clone()?;
        for name in std::iter::once(folder).chain(folders.split('/')).filter(|name| !name.is_empty()) {
            match dir.create_dir(name) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => dir = own.step(&dir, name, exact).map_err(io::Error::other)?,
            }
        }
        Ok(dir)
    }
}

/// Whether a folder of that name is one of those in which files are looked at.
pub fn is_aside(name: &str) -> bool {
    name.strip_prefix(ASIDE).is_some_and(|id| id.parse::<Uuid>().is_ok())
}

/// A folder for one file.
struct Aside {
    outside: Dir,
    inside: Dir,
    name: String,
}

impl Aside {
    fn make(outside: &Dir) -> Result<Self> {
        let name = format!("{ASIDE}{}", Uuid::new_v4());
        outside.create_dir(&name).map_err(failed)?;
        let inside = outside.open_dir_nofollow(&name).map_err(failed)?;
        Ok(Self { outside: outside.try_clone().map_err(failed)?, inside, name })
    }

    /// Puts whatever is in it where it came from, and goes.
    fn put_back(self) -> Result<()> {
        for entry in self.inside.read_dir(".").map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let name = name.to_str().ok_or_else(|| failed(io::ErrorKind::InvalidData.into()))?;
            place(&self.inside, name, &self.outside).map_err(failed)?;
        }
        self.outside.remove_dir(&self.name).map_err(failed)
    }
}

/// Moves a file into another folder, over nothing that is there.
fn place(from: &Dir, name: &str, to: &Dir) -> io::Result<()> {
    place_by(from, name, to, |other| from.hard_link(name, to, other))
}

/// `link` gives the file a second name.
fn place_by(from: &Dir, name: &str, to: &Dir, link: impl Fn(&str) -> io::Result<()>) -> io::Result<()> {
    let (stem, end) = name
        .rsplit_once('.')
        .filter(|(stem, _)| !stem.is_empty())
        .map_or((name, String::new()), |(stem, end)| (stem, format!(".{end}")));
    for number in 0..NAMES {
        let other = if number == 0 { name.to_owned() } else { format!("{stem} ({number}){end}") };
        // A second name is given only if it is free, which renaming would not ask.
        let placed = match link(&other) {
            Ok(()) => from.remove_file(name),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            // A disk without second names, or what may have none.
            Err(_) => rename_to_free(from, name, to, &other),
        };
        match placed {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            placed => return placed,
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Takes the name first, so that what somebody else creates under it at this moment is not renamed over.
fn rename_to_free(from: &Dir, name: &str, to: &Dir, other: &str) -> io::Result<()> {
    if from.symlink_metadata(name)?.is_dir() {
        // Goes over nothing but an empty folder anyway.
        let free = to.symlink_metadata(other).is_err();
        return if free { from.rename(name, to, other) } else { Err(io::ErrorKind::AlreadyExists.into()) };
    }
    to.open_with(other, OpenOptions::new().write(true).create_new(true))?;
    from.rename(name, to, other).inspect_err(|_| {
        // Ours, unless somebody has written into it meanwhile. It is in nobody's way if it stays.
        if to.symlink_metadata(other).is_ok_and(|found| found.len() == 0) {
            let _ = to.remove_file(other);
        }
    })
}

fn failed(error: io::Error) -> Error {
    Error::io("moving a file", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_a_disk_without_second_names_nothing_is_moved_over_what_is_there() {
        let home = tempfile::tempdir().unwrap();
        let open = |name: &str| {
            std::fs::create_dir(home.path().join(name)).unwrap();
            Dir::open_ambient_dir(home.path().join(name), cap_std::ambient_authority()).unwrap()
        };
        let (from, to) = (open("from"), open("to"));
        let place = |content: &str| {
            from.write("a.txt", content).unwrap();
            place_by(&from, "a.txt", &to, |_| Err(io::ErrorKind::Unsupported.into())).unwrap();
            assert!(!from.exists("a.txt"));
        };
        place("first");
        place("second");
        to.write("a (2).txt", "somebody's").unwrap();
        place("third");
        let read = |name| to.read_to_string(name).unwrap();
        let all = ["a.txt", "a (1).txt", "a (2).txt", "a (3).txt"].map(read);
        assert_eq!(all, ["first", "second", "somebody's", "third"]);

        from.create_dir("folder").unwrap();
        place_by(&from, "folder", &to, |_| Err(io::ErrorKind::PermissionDenied.into())).unwrap();
        assert!(to.is_dir("folder") && !from.exists("folder"));
        from.create_dir("folder").unwrap();
        place_by(&from, "folder", &to, |_| Err(io::ErrorKind::PermissionDenied.into())).unwrap();
        assert!(to.is_dir("folder (1)"));
    }
}
