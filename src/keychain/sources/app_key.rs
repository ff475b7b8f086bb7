//! A key that the app brings.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;
use zeroize::Zeroizing;

use super::super::{KeySource, SourceError};

/// The app brings the key: from its own server after a sign-in, from a hardware token, from wherever it keeps secrets. Until it has
/// given one, `enqueue` answers `keychain_locked` and delivery waits, as with a keychain that is locked.
///
/// The key of an account must always be the same 32 bytes: with others the queue says `key_mismatch`, and waits.
///
/// ```
/// use tauri_plugin_storage_sync::{AppKey, Builder};
///
/// let key = AppKey::new();
/// let plugin = Builder::new().key_source(key.clone());
/// // Later, as soon as the app has it:
/// key.give("", &[7; 32]);
/// # drop(plugin);
/// ```
#[derive(Clone)]
pub struct AppKey {
    shared: Arc<Shared>,
}

struct Shared {
    keys: Mutex<HashMap<String, Zeroizing<Vec<u8>>>>,
    changed: watch::Sender<u64>,
}

/// Shows nothing.
impl fmt::Debug for AppKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppKey").finish_non_exhaustive()
    }
}

impl Default for AppKey {
    fn default() -> Self {
        Self::new()
    }
}

impl AppKey {
    /// Without a key yet. Clones share it.
    pub fn new() -> Self {
        Self { shared: Arc::new(Shared { keys: Mutex::default(), changed: watch::Sender::new(0) }) }
    }

    /// Gives the key of an account (`""` when the app uses none). What waited for it goes on by itself.
    pub fn give(&self, account: &str, key: &[u8; 32]) {
        self.keys().insert(account.to_owned(), Zeroizing::new(key.to_vec()));
        self.shared.changed.send_modify(|times| *times += 1);
    }

    fn keys(&self) -> MutexGuard<'_, HashMap<String, Zeroizing<Vec<u8>>>> {
        self.shared.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeySource for AppKey {
    fn name(&self) -> &'static str {
        "app"
    }

    fn load(&self, account: &str) -> Result<Option<Zeroizing<Vec<u8>>>, SourceError> {
        // Never "none": that would be answered with a new key, which the app knows nothing of.
        let key = self.keys().get(account).cloned();
        key.map(Some).ok_or_else(|| SourceError::Locked("the app has not given its key yet".into()))
    }

    fn store(&self, _: &str, _: &[u8]) -> Result<(), SourceError> {
        Err(SourceError::Unavailable("the key is the app's, and no other can be kept".into()))
    }

    /// Until the app gives it again.
    fn forget(&self, account: &str) -> Result<(), SourceError> {
        self.keys().remove(account);
        Ok(())
    }

    fn changed(&self) -> Option<watch::Receiver<u64>> {
        Some(self.shared.changed.subscribe())
    }
}
