//! A change of source without a loss.

use tokio::sync::watch;
use zeroize::Zeroizing;

use super::super::{KeySource, SourceError, keys::KEY};

/// Takes keys over from one source into another: a key that the new one does not have yet is asked of the old one, kept in the new
/// one, and used from there. The old one keeps its copy, so that an older version of the app still works, until a rotation is done with it.
///
/// ```no_run
/// use tauri_plugin_storage_sync::{Builder, InsecureKeyFile, Moved, Passphrase};
///
/// // Earlier versions of this app kept the key in a file.
/// let old = InsecureKeyFile::new("/var/lib/kiosk/keys");
/// let new = Passphrase::new("/var/lib/kiosk/wrapped");
/// let plugin = Builder::new().key_source(Moved::new(old, new.clone()));
/// # drop(plugin);
/// ```
#[derive(Debug, Clone)]
pub struct Moved<From, To> {
    from: From,
    to: To,
}

impl<From: KeySource, To: KeySource> Moved<From, To> {
    /// From the old source to the new one.
    pub fn new(from: From, to: To) -> Self {
        Self { from, to }
    }

    /// A key that the new source is about to drop goes from the old one before: it would be taken along again, should the new one lose its
    /// own. Until then the new one has it too, so a kill in between loses nothing. What was never taken along is not touched.
    fn drop_from_the_old_source(&self, account: &str, stays: &[u8]) {
        let Ok(Some(has)) = self.to.load(account) else { return };
        let dropped = |key: &[u8]| among(&has, key) && !among(stays, key);
        if !has.chunks(KEY).any(dropped) {
            return;
        }
        // An old source that is locked, or is there no more, keeps no rotation from its end.
        if let Ok(Some(old)) = self.from.load(account)
            && !old.is_empty()
            && old.chunks(KEY).all(dropped)
            && let Err(error) = self.from.forget(account)
        {
            tracing::warn!(target: "storage_sync", %error, "the source that keys were taken from keeps one that was rotated away");
        }
    }
}

fn among(keys: &[u8], key: &[u8]) -> bool {
    keys.chunks(KEY).any(|one| one == key)
}

impl<From: KeySource, To: KeySource> KeySource for Moved<From, To> {
    fn name(&self) -> &'static str {
        self.to.name()
    }

    fn load(&self, account: &str) -> Result<Option<Zeroizing<Vec<u8>>>, SourceError> {
        if let Some(key) = self.to.load(account)? {
            return Ok(Some(key));
        }
        // An old source that cannot answer now may have the key: the new one must not get another meanwhile.
        let Some(key) = self.from.load(account)? else { return Ok(None) };
        // It may have waited for an answer for long: what the new one has by now is newer.
        if let Some(newer) = self.to.load(account)? {
            return Ok(Some(newer));
        }
        self.to.store(account, &key)?;
        let kept = self.to.load(account)?;
        if kept.as_ref() != Some(&key) {
            return Err(SourceError::Unavailable("the new source did not keep the key of the old one".into()));
        }
        Ok(kept)
    }

    fn store(&self, account: &str, key: &[u8]) -> Result<(), SourceError> {
        self.drop_from_the_old_source(account, key);
        self.to.store(account, key)
    }

    /// The old source first: what it still had would be taken along again.
    fn forget(&self, account: &str) -> Result<(), SourceError> {
        self.from.forget(account)?;
        self.to.forget(account)
    }

    fn changed(&self) -> Option<watch::Receiver<u64>> {
        self.to.changed().or_else(|| self.from.changed())
    }
}
