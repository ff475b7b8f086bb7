//! Which installation an item in the keychain belongs to.
//!
//! The keychain is the user's, and an app may have several queues in it: another profile, a portable copy, a second data folder. With one
//! name for all of them, a key that one of them rotates or destroys would be the others' too.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use super::SourceError;

/// The name of the file in the data folder. It is no secret, and goes with the folder wherever that is copied or moved to.
const FILE: &str = "installation";
/// Characters of an id.
const LENGTH: usize = 32;

/// The id of one data folder.
#[derive(Debug)]
pub(super) struct Installation {
    folder: PathBuf,
}

impl Installation {
    pub(super) fn of(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// None as long as no key was kept for it. A damaged file is none of that: there are keys, and under which names is not known, so nobody
    /// may take one for missing or for deleted.
    pub(super) fn id(&self) -> Result<Option<String>, SourceError> {
        self.read()?.map(|id| if is_id(&id) { Ok(id) } else { Err(damaged()) }).transpose()
    }

    /// Made when the first key is kept, before that: what the key is found by again is on the disk first. A damaged file is left as it is:
    /// under another id the keys that there are would never be found again.
    pub(super) fn made(&self) -> Result<String, SourceError> {
        if let Some(id) = self.id()? {
            return Ok(id);
        }
        let mut bytes = [0; LENGTH / 2];
        getrandom::fill(&mut bytes).map_err(|error| SourceError::Unavailable(format!("no random bytes: {error}")))?;
        let id: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        self.write(&id).map_err(|error| unavailable("written", &error))?;
        Ok(id)
    }

    /// What the file holds, if it is there.
    fn read(&self) -> Result<Option<String>, SourceError> {
        match fs::read(self.folder.join(FILE)) {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).trim().to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unavailable("read", &error)),
        }
    }

    fn write(&self, id: &str) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let (path, beside) = (self.folder.join(FILE), self.folder.join(format!("{FILE}.new")));
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&beside)?;
        file.write_all(id.as_bytes())?;
        file.sync_all()?;
        fs::rename(beside, path)?;
        // The name as well; Windows cannot and need not.
        #[cfg(unix)]
        File::open(&self.folder)?.sync_all()?;
        Ok(())
    }
}

fn is_id(text: &str) -> bool {
    text.len() == LENGTH && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn unavailable(what: &str, error: &io::Error) -> SourceError {
    SourceError::Unavailable(format!("the file `{FILE}` in the app's data folder cannot be {what}: {error}"))
}

fn damaged() -> SourceError {
    SourceError::Unavailable(format!(
        "the file `{FILE}` in the app's data folder is damaged, and it says which keys belong to the queue: put it back from a backup; \
         if there is none, remove it: what is queued stays unreadable then, and new keys are made"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_installation_has_one_id_for_ever_and_no_other_has_it() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let installation = Installation::of(&here.path().join("data"));
        assert_eq!(installation.id(), Ok(None));
        let id = installation.made().unwrap();
        assert!(is_id(&id));
        assert_eq!((installation.made(), installation.id()), (Ok(id.clone()), Ok(Some(id.clone()))));
        assert_ne!(Installation::of(there.path()).made().unwrap(), id);
    }

    #[test]
    fn a_file_that_holds_no_id_is_left_as_it_is_and_no_other_id_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let (installation, path) = (Installation::of(folder.path()), folder.path().join(FILE));
        for damaged in [&b""[..], b"0123456789abcdef", &[0; LENGTH], &[0xff; LENGTH], &[b'0'; LENGTH + 1]] {
            fs::write(&path, damaged).unwrap();
            for refused in [installation.id().unwrap_err(), installation.made().unwrap_err()] {
                assert!(refused.to_string().contains("backup"), "{refused}");
            }
            assert_eq!(fs::read(&path).unwrap(), damaged);
        }
        fs::remove_file(&path).unwrap();
        assert!(is_id(&installation.made().unwrap()));
    }
}
