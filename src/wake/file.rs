//! How a process that does not deliver wakes the one that does: it appends a byte to a file that the other one watches.

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Result, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use super::Wake;

/// The file's name in the data folder.
pub(crate) const NAME: &str = "wake";
/// It is emptied once it is this long.
const LONGEST: u64 = 4096;

/// Tells the process that delivers. What it is to find must be committed before.
pub(crate) fn tell(folder: &Path, wake: Wake) -> Result<()> {
    let byte = match wake {
        Wake::Flush => b'f',
        Wake::Retry => b'r',
        _ => b'c',
    };
    let mut file = open(folder, OpenOptions::new().append(true))?;
    if file.metadata()?.len() >= 2 * LONGEST {
        // Nobody reads it: there is no owner, and the next one looks at everything.
        file.set_len(0)?;
    }
    file.write_all(&[byte])
}

fn open(folder: &Path, options: &mut OpenOptions) -> Result<File> {
    options.create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options.open(folder.join(NAME))
}

/// The reading end, in the process that delivers.
#[derive(Debug)]
pub(crate) struct Inbox {
    path: PathBuf,
    file: File,
    /// So much of it was read.
    read: u64,
}

impl Inbox {
    /// Empty at first: whoever becomes the owner looks at everything anyway.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let file = open(folder, OpenOptions::new().read(true).write(true).truncate(false))?;
        file.set_len(0)?;
        Ok(Self { path: folder.join(NAME), file, read: 0 })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What other processes said since the last call.
    pub(crate) fn take(&mut self) -> Result<Vec<Wake>> {
        if self.file.metadata()?.len() < self.read {
            self.read = 0;
        }
        let mut bytes = Vec::new();
        self.file.seek(SeekFrom::Start(self.read))?;
        self.read += self.file.read_to_end(&mut bytes)? as u64;
        let mut wakes = Vec::new();
        for byte in bytes {
            wakes.push(Wake::Others);
            wakes.extend(match byte {
                b'f' => Some(Wake::Flush),
                b'r' => Some(Wake::Retry),
                _ => None,
            });
        }
        if self.read >= LONGEST {
            self.file.set_len(0)?;
            self.read = 0;
            // What was appended between the two is gone, and may have been one.
            wakes.push(Wake::Flush);
        }
        Ok(wakes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_read_once_and_by_its_kind() {
        let folder = tempfile::tempdir().unwrap();
        tell(folder.path(), Wake::Flush).unwrap();
        let mut inbox = Inbox::open(folder.path()).unwrap();
        assert_eq!(inbox.take().unwrap(), [], "what came before is over");
        tell(folder.path(), Wake::Enqueued).unwrap();
        tell(folder.path(), Wake::Retry).unwrap();
        assert_eq!(inbox.take().unwrap(), [Wake::Others, Wake::Others, Wake::Retry]);
        assert_eq!(inbox.take().unwrap(), []);
        tell(folder.path(), Wake::Flush).unwrap();
        assert_eq!(inbox.take().unwrap(), [Wake::Others, Wake::Flush]);
    }

    #[test]
    fn the_file_does_not_grow_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let mut inbox = Inbox::open(folder.path()).unwrap();
        for _ in 0..10_000 {
            tell(folder.path(), Wake::Changed).unwrap();
            assert!(inbox.take().unwrap().contains(&Wake::Others));
            assert!(std::fs::metadata(inbox.path()).unwrap().len() < LONGEST);
        }
        let path = inbox.path().to_owned();
        drop(inbox);
        for _ in 0..10_000 {
            tell(folder.path(), Wake::Changed).unwrap();
            assert!(std::fs::metadata(&path).unwrap().len() <= 2 * LONGEST, "also when nobody reads it");
        }
    }
}
