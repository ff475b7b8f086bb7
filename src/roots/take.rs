//! A file is removed, or moved into a folder beside it, only if it is the one that is meant: it is first put where nobody else looks for it,
//! looked at there, and put back if it is another one.

use std::{
    collections::BTreeSet,
    io,
    sync::{Mutex, MutexGuard, PoisonError},
};

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
        if let Err(error) = dir.rename(name, &aside.inside, name) {
            // Somebody has it open, or it may not be moved.
            aside.put_back()?;
            return Err(failed(error));
        }
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
            Take::Move(folder) => {
                self.target(&own, folder, path, exact).and_then(|to| place(&aside.inside, name, &to, None))
            }
        };
        aside.put_back()?;
        done.map(|()| true).map_err(failed)
    }

    /// Puts back what a kill has left behind, in the folder that is `path` below this one (`""`: this one). Answers whether there was anything:
    /// what this process looks at just now is not left behind.
    ///
    /// # Errors
    /// `io`.
    pub fn put_back(&self, path: &str) -> Result<bool> {
        let (own, exact) = self.rules()?;
        let mut dir = self.dir.try_clone().map_err(failed)?;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            dir = own.step(&dir, name, exact)?;
        }
        let mut any = false;
        for entry in dir.read_dir(".").map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            if let Some(name) = name.to_str().filter(|name| is_aside(name) && !in_use().contains(*name)) {
                let inside = own.step(&dir, name, exact)?;
                let outside = dir.try_clone().map_err(failed)?;
                Aside { outside, inside, name: name.to_owned() }.put_back()?;
                any = true;
            }
        }
        Ok(any)
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

/// The folders in which this process looks at a file just now: one folder may be watched twice, or lie in another one that is watched.
static IN_USE: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// The set is in order after every step, so a poisoned lock is taken all the same.
fn in_use() -> MutexGuard<'static, BTreeSet<String>> {
    IN_USE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A folder for one file. What is still in it when it is dropped is put back at the next look.
struct Aside {
    outside: Dir,
    inside: Dir,
    name: String,
}

impl Aside {
    fn make(outside: &Dir) -> Result<Self> {
        let again = outside.try_clone().map_err(failed)?;
        let name = format!("{ASIDE}{}", Uuid::new_v4());
        in_use().insert(name.clone());
        let made = outside.create_dir(&name).and_then(|()| outside.open_dir_nofollow(&name));
        match made {
            Ok(inside) => Ok(Self { outside: again, inside, name }),
            Err(error) => {
                in_use().remove(&name);
                Err(failed(error))
            }
        }
    }

    /// Puts whatever is in it where it came from, and goes.
    fn put_back(self) -> Result<()> {
        self.give_back().map_err(failed)?;
        self.outside.remove_dir(&self.name).map_err(failed)
    }

    fn give_back(&self) -> io::Result<()> {
        let mut names = Vec::new();
        for entry in self.inside.read_dir(".")? {
            let name = entry?.file_name().into_string().map_err(|_| io::ErrorKind::InvalidData)?;
            if name != self.name {
                names.push(name);
            }
        }
        self.let_go(!names.is_empty())?;
        for name in names {
            place(&self.inside, &name, &self.outside, Some(&self.name))?;
        }
        Ok(())
    }

    /// A kill came after a name was kept for what is `still_inside`: the name is free again.
    fn let_go(&self, still_inside: bool) -> io::Result<()> {
        let kept = match self.inside.read_to_string(&self.name) {
            Ok(kept) => kept,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        if still_inside && !kept.is_empty() {
            remove_if_empty(&self.outside, &kept);
        }
        self.inside.remove_file(&self.name)
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        in_use().remove(&self.name);
    }
}

/// Moves a file into another folder, over nothing that is there. `mark`: see [`keep_name`].
fn place(from: &Dir, name: &str, to: &Dir, mark: Option<&str>) -> io::Result<()> {
    let rename = |other: &str| rename_over_nothing(from, name, to, other);
    place_by(from, name, to, mark, rename, |other| from.hard_link(name, to, other))
}

/// `rename` gives the file that name if it is free, and `link` a second one.
fn place_by(
    from: &Dir,
    name: &str,
    to: &Dir,
    mark: Option<&str>,
    rename: impl Fn(&str) -> io::Result<()>,
    link: impl Fn(&str) -> io::Result<()>,
) -> io::Result<()> {
    let (stem, end) = name
        .rsplit_once('.')
        .filter(|(stem, _)| !stem.is_empty())
        .map_or((name, String::new()), |(stem, end)| (stem, format!(".{end}")));
    for number in 0..NAMES {
        let other = if number == 0 { name.to_owned() } else { format!("{stem} ({number}){end}") };
        let placed = match rename(&other) {
            // A second name is given only if it is free, which a plain renaming would not ask.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => match link(&other) {
                Ok(()) => from.remove_file(name),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
                // A disk without second names, or what may have none.
                Err(_) => rename_to_free(from, name, to, &other, mark),
            },
            placed => placed,
        };
        match placed {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            placed => return placed,
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Renames if the name is free, in one step: a kill finds the file here or there. `Unsupported` where the system or the disk does not know
/// how to.
#[cfg(any(target_os = "linux", target_vendor = "apple"))]
fn rename_over_nothing(from: &Dir, name: &str, to: &Dir, other: &str) -> io::Result<()> {
    use rustix::{fs::RenameFlags, io::Errno};
    rustix::fs::renameat_with(from, name, to, other, RenameFlags::NOREPLACE).map_err(|error| {
        let unknown = [Errno::INVAL, Errno::NOSYS, Errno::NOTSUP, Errno::OPNOTSUPP];
        if unknown.contains(&error) { io::ErrorKind::Unsupported.into() } else { error.into() }
    })
}

#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
fn rename_over_nothing(_from: &Dir, _name: &str, _to: &Dir, _other: &str) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Takes the name first, so that what somebody else creates under it at this moment is not renamed over.
fn rename_to_free(from: &Dir, name: &str, to: &Dir, other: &str, mark: Option<&str>) -> io::Result<()> {
    if from.symlink_metadata(name)?.is_dir() {
        // Goes over nothing but an empty folder anyway.
        let free = to.symlink_metadata(other).is_err();
        return if free { from.rename(name, to, other) } else { Err(io::ErrorKind::AlreadyExists.into()) };
    }
    let placed = keep_name(from, to, other, mark)
        .and_then(|()| from.rename(name, to, other).inspect_err(|_| remove_if_empty(to, other)));
    if let Some(mark) = mark {
        // Where the disk did not take it there is none.
        let _ = from.remove_file(mark);
    }
    placed
}

/// Puts an empty file under a name that is free. A kill may leave it there, where it would be taken for the newest content of the file that
/// had the name: so it is written down before, in a file called `mark` in the folder that is gone through at the next start. Elsewhere than
/// where the file came from nobody takes it for anything.
fn keep_name(from: &Dir, to: &Dir, other: &str, mark: Option<&str>) -> io::Result<()> {
    if to.symlink_metadata(other).is_ok() {
        // Whoever reads the mark must not find somebody else's file by it.
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    if let Some(mark) = mark {
        // On a full disk the file is put back all the same.
        let _ = from.write(mark, other);
    }
    to.open_with(other, OpenOptions::new().write(true).create_new(true)).map(drop)
}

/// Ours, unless somebody has written into it meanwhile. It is in nobody's way if it stays.
fn remove_if_empty(dir: &Dir, name: &str) {
    if dir.symlink_metadata(name).is_ok_and(|found| found.is_file() && found.len() == 0) {
        let _ = dir.remove_file(name);
    }
}

fn failed(error: io::Error) -> Error {
    Error::io("moving a file", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_folders(home: &tempfile::TempDir) -> (Dir, Dir) {
        let open = |name: &str| {
            std::fs::create_dir(home.path().join(name)).unwrap();
            Dir::open_ambient_dir(home.path().join(name), cap_std::ambient_authority()).unwrap()
        };
        (open("from"), open("to"))
    }

    fn none(_: &str) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Places files and a folder twice, by `place`.
    fn places_over_nothing(place: impl Fn(&Dir, &str, &Dir) -> io::Result<()>) {
        let home = tempfile::tempdir().unwrap();
        let (from, to) = two_folders(&home);
        let file = |content: &str| {
            from.write("a.txt", content).unwrap();
            place(&from, "a.txt", &to).unwrap();
            assert!(!from.exists("a.txt"));
        };
        file("first");
        file("second");
        to.write("a (2).txt", "somebody's").unwrap();
        file("third");
        let read = |name| to.read_to_string(name).unwrap();
        let all = ["a.txt", "a (1).txt", "a (2).txt", "a (3).txt"].map(read);
        assert_eq!(all, ["first", "second", "somebody's", "third"]);
        for name in ["folder", "folder (1)"] {
            from.create_dir("folder").unwrap();
            place(&from, "folder", &to).unwrap();
            assert!(to.is_dir(name) && !from.exists("folder"));
        }
        assert_eq!(from.entries().unwrap().count(), 0, "no mark is left");
        assert_eq!(to.entries().unwrap().count(), 6, "nor a name that was kept");
    }

    #[test]
    fn nothing_is_moved_over_what_is_there() {
        places_over_nothing(|from, name, to| place(from, name, to, Some("mark")));
    }

    #[test]
    fn on_a_disk_that_renames_only_over_what_is_there_nothing_is_moved_over_it() {
        let link = |from: &Dir, name: &str, to: &Dir, other: &str| from.hard_link(name, to, other);
        places_over_nothing(|from, name, to| {
            place_by(from, name, to, Some("mark"), none, |other| link(from, name, to, other))
        });
    }

    #[test]
    fn on_a_disk_without_second_names_nothing_is_moved_over_what_is_there() {
        places_over_nothing(|from, name, to| place_by(from, name, to, Some("mark"), none, none));
        let denied = |_: &str| Err(io::ErrorKind::PermissionDenied.into());
        places_over_nothing(|from, name, to| place_by(from, name, to, None, none, denied));
    }

    /// Whose kill would leave two names behind, or an empty file.
    #[cfg(any(target_os = "linux", target_vendor = "apple"))]
    #[test]
    fn where_the_system_renames_over_nothing_in_one_step_no_other_way_is_taken() {
        places_over_nothing(|from, name, to| {
            let rename = |other: &str| rename_over_nothing(from, name, to, other);
            place_by(from, name, to, None, rename, |other| panic!("{other} is given as a second name"))
        });
        let home = tempfile::tempdir().unwrap();
        let (from, to) = two_folders(&home);
        let failed = place(&from, "nothing", &to, None).unwrap_err();
        assert_eq!(failed.kind(), io::ErrorKind::NotFound);
        assert_eq!(to.entries().unwrap().count(), 0, "no name is kept for what is not there");
    }

    fn aside(outside: &Dir, content: &str) -> Aside {
        let aside = Aside::make(outside).unwrap();
        aside.inside.write("a.txt", content).unwrap();
        aside
    }

    #[test]
    fn a_name_that_was_kept_when_a_kill_came_is_given_to_the_file() {
        let home = tempfile::tempdir().unwrap();
        let (outside, _) = two_folders(&home);
        let killed = aside(&outside, "content");
        keep_name(&killed.inside, &outside, "a.txt", Some(&killed.name)).unwrap();
        assert_eq!(outside.read_to_string("a.txt").unwrap(), "");
        killed.put_back().unwrap();
        assert_eq!(outside.read_to_string("a.txt").unwrap(), "content");
        assert_eq!(outside.entries().unwrap().count(), 1, "and nothing else is there");
    }

    #[test]
    fn what_somebody_put_under_a_name_that_was_kept_when_a_kill_came_stays() {
        let home = tempfile::tempdir().unwrap();
        let (outside, _) = two_folders(&home);
        // Written into, replaced by a folder, and there before.
        let killed = aside(&outside, "content");
        keep_name(&killed.inside, &outside, "a.txt", Some(&killed.name)).unwrap();
        outside.write("a.txt", "newer").unwrap();
        killed.put_back().unwrap();
        let killed = aside(&outside, "more");
        outside.remove_file("a.txt").unwrap();
        keep_name(&killed.inside, &outside, "a.txt", Some(&killed.name)).unwrap();
        outside.remove_file("a.txt").unwrap();
        outside.create_dir("a.txt").unwrap();
        killed.put_back().unwrap();
        let killed = aside(&outside, "most");
        outside.remove_dir("a.txt").unwrap();
        outside.write("a.txt", "").unwrap();
        let kept = keep_name(&killed.inside, &outside, "a.txt", Some(&killed.name)).unwrap_err();
        assert_eq!(kept.kind(), io::ErrorKind::AlreadyExists);
        killed.put_back().unwrap();
        let read = |name| outside.read_to_string(name).unwrap();
        let all = ["a.txt", "a (1).txt", "a (2).txt", "a (3).txt"].map(read);
        assert_eq!(all, ["", "content", "more", "most"]);

        // The renaming was done, and what was renamed is empty.
        let killed = Aside::make(&outside).unwrap();
        killed.inside.write(&killed.name, "a.txt").unwrap();
        killed.put_back().unwrap();
        assert!(outside.exists("a.txt"));
        assert_eq!(outside.entries().unwrap().count(), 4);
    }
}
