//! Where the master key comes from, and what is done when it does not.
//!
//! A key is generated in one case only: the database names no key, holds no encrypted row, and the source itself
//! answers that it has none. Whatever else happens (locked, no keychain, item gone, another item), nothing is
//! generated, overwritten or deleted: the caller waits and asks again.

mod caller;
mod forget;
#[cfg(any(target_os = "linux", target_os = "macos", windows))]
mod installation;
mod keys;
mod lock;
mod rotation;
#[cfg(target_os = "linux")]
mod secret_service;
mod sources;
#[cfg(any(target_os = "linux", target_os = "macos", windows))]
mod system;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;

use std::{path::Path, sync::Arc};

use tokio::sync::watch;
use zeroize::Zeroizing;

pub use keys::{KeyRecord, Keys};
pub use rotation::{Finish, Rotation};
#[cfg(any(test, feature = "testing"))]
pub(crate) use sources::fuzz_wrapped;
pub use sources::{AppKey, InsecureKeyFile, Moved, Passphrase};

/// Keeps master keys outside of the database.
///
/// Calls may block, for as long as a person looks at a prompt: each is made from a plain thread (no async runtime
/// around it), one at a time, and is given up after a timeout. A source whose earlier call was given up may be called
/// once more while that one still blocks.
pub trait KeySource: Send + Sync + 'static {
    /// For `status()`: `"keychain"`, …
    fn name(&self) -> &'static str;

    /// What is kept for that account (`""` when the app uses none), or none if the source answers that it has nothing.
    /// A source that cannot tell, because it is locked or cannot be reached, answers an error: none may lead to a new
    /// key being generated.
    fn load(&self, account: &str) -> Result<Option<Zeroizing<Vec<u8>>>, SourceError>;

    /// Keeps a new key of 32 bytes; two of them, one behind the other, while a rotation is under way. It is loaded again at once, and used only if that answers the same bytes.
    fn store(&self, account: &str, key: &[u8]) -> Result<(), SourceError>;

    /// Destroys what is kept for that account, for good; nothing kept is no error. Asked for when an account is signed out with all that is
    /// its own: its entries are readable by nobody then, wherever copies of them are.
    ///
    /// # Errors
    /// Why it may still be there: it is asked again.
    fn forget(&self, account: &str) -> Result<(), SourceError>;

    /// Changes whenever asking again may be answered better, so that what waits for a key goes on at once. Default: never tells;
    /// the keychain of the system is watched in another way.
    fn changed(&self) -> Option<watch::Receiver<u64>> {
        None
    }
}

/// So that [`system_keychain`] can stand wherever a source can, as the old one of [`Moved`].
impl<S: KeySource + ?Sized> KeySource for Arc<S> {
    fn name(&self) -> &'static str {
        (**self).name()
    }

    fn load(&self, account: &str) -> Result<Option<Zeroizing<Vec<u8>>>, SourceError> {
        (**self).load(account)
    }

    fn store(&self, account: &str, key: &[u8]) -> Result<(), SourceError> {
        (**self).store(account, key)
    }

    fn forget(&self, account: &str) -> Result<(), SourceError> {
        (**self).forget(account)
    }

    fn changed(&self) -> Option<watch::Receiver<u64>> {
        (**self).changed()
    }
}

/// Why a source did not answer. The texts go to logs and errors: no secrets in them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// It is there, but a person has to unlock it or to answer a prompt.
    #[error("locked: {0}")]
    Locked(String),
    /// It is not there, or is broken.
    #[error("unavailable: {0}")]
    Unavailable(String),
}

/// The keychain of the system: Secret Service over D-Bus on Linux, the login keychain on macOS, Credential Manager on
/// Windows (kept on this machine, not roamed). `identifier` is the app's: apps with different ones do not see each
/// other's keys. Nor do queues in different data folders: `folder` is the one of this queue, in which the file `installation` says under
/// which name its keys are kept.
///
/// Nothing is touched by this call; the first key that is asked for does.
pub fn system_keychain(identifier: &str, folder: &Path) -> Arc<dyn KeySource> {
    #[cfg(target_os = "linux")]
    return Arc::new(secret_service::SecretService::new(identifier, folder));
    #[cfg(any(target_os = "macos", windows))]
    return Arc::new(system::Native::new(identifier, folder));
    #[cfg(not(any(target_os = "linux", target_os = "macos", windows)))]
    {
        let _ = (identifier, folder);
        Arc::new(Unsupported)
    }
}

#[cfg(not(any(target_os = "linux", target_os = "macos", windows)))]
struct Unsupported;

#[cfg(not(any(target_os = "linux", target_os = "macos", windows)))]
impl KeySource for Unsupported {
    fn name(&self) -> &'static str {
        "none"
    }

    fn load(&self, _: &str) -> Result<Option<Zeroizing<Vec<u8>>>, SourceError> {
        Err(SourceError::Unavailable("this system has no keychain that is known".into()))
    }

    fn store(&self, _: &str, _: &[u8]) -> Result<(), SourceError> {
        Err(SourceError::Unavailable("this system has no keychain that is known".into()))
    }

    fn forget(&self, _: &str) -> Result<(), SourceError> {
        Err(SourceError::Unavailable("this system has no keychain that is known".into()))
    }
}
