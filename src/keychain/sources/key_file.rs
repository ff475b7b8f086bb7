//! A key in a file: for systems without a keychain, by the author's explicit choice.

use std::path::PathBuf;

use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use super::{
    super::{KeySource, SourceError},
    file,
};

/// Keeps master keys in files of a folder, readable by whoever can read the user's files: by every program of the user, and in every
/// backup. It protects what leaves the machine without that folder, and nothing else. For kiosks, containers and other systems
/// that have no keychain; `status().key.source` says `insecure-file`.
///
/// Files are for the user only (0600 on Unix); one that others can read is refused.
#[derive(Debug, Clone)]
pub struct InsecureKeyFile {
    folder: PathBuf,
}

impl InsecureKeyFile {
    /// One file per account in this folder, which is made when it is first needed. Keep it apart from the queue's data folder, so that a
    /// copy of one is not a copy of both. It must belong to one data folder alone: files are named by account and by nothing else, so another
    /// queue with the same folder, of this app or of another one, would use, rotate and destroy the same keys.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }
}

impl KeySource for InsecureKeyFile {
    fn name(&self) -> &'static str {
        "insecure-file"
    }

    fn load(&self, account: &str) -> Result<Option<Zeroizing<Vec<u8>>>, SourceError> {
        let path = file::of_account(&self.folder, account, "key");
        let Some(text) = file::read(&path)? else { return Ok(None) };
        if file::is_open_to_others(&path) {
            let why = "its file can be read by other users: take the rights from them (chmod 600)";
            return Err(SourceError::Unavailable(why.into()));
        }
        // What is no key is not overwritten: it answers bytes that match none.
        Ok(Some(Zeroizing::new(STANDARD.decode(text.trim_ascii()).unwrap_or_default())))
    }

    fn store(&self, account: &str, key: &[u8]) -> Result<(), SourceError> {
        let text = Zeroizing::new(STANDARD.encode(key));
        file::write(&file::of_account(&self.folder, account, "key"), text.as_bytes())
    }

    fn forget(&self, account: &str) -> Result<(), SourceError> {
        file::remove(&file::of_account(&self.folder, account, "key"))
    }
}
