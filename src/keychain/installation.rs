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

    /// None as long as no key was kept for it.
    pub(super) fn id(&self) -> Result<Option<String>, SourceError> {
        match fs::read_to_string(self.folder.join(FILE)) {
            Ok(text) => Ok(Some(text.trim().to_owned()).filter(|id| is_id(id))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unavailable("read", &error)),
        }
    }

    /// Made when the first key is kept, before that: what the key is found by again is on the disk first.
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
}
