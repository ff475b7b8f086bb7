//! The item in the system's keychain: how it is named, written and read with `keyring`.
//!
//! Store objects are our own: a process-wide default store would be the app's, or another library's.

use keyring::{Entry, Error};
use zeroize::Zeroizing;

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{SourceError, installation::Installation};

/// The name of an account's item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) service: String,
    pub(super) user: String,
}

impl Item {
    /// The item that there may be. As long as no key was kept for this installation, one of a name that none has.
    pub(super) fn known(identifier: &str, installation: &Installation, account: &str) -> Result<Self, SourceError> {
        Ok(Self::new(identifier, installation.id()?.as_deref().unwrap_or("none"), account))
    }

    /// The item to write.
    pub(super) fn made(identifier: &str, installation: &Installation, account: &str) -> Result<Self, SourceError> {
        Ok(Self::new(identifier, &installation.made()?, account))
    }

    fn new(identifier: &str, installation: &str, account: &str) -> Self {
        // No account has the name of none.
        let user = if account.is_empty() { "default".to_owned() } else { format!("account/{account}") };
        Self { service: format!("{identifier}.storage-sync"), user: format!("{user}@{installation}") }
    }

    /// What a person reads in the keychain's own window.
    #[cfg(target_os = "linux")]
    pub(super) fn label(&self) -> String {
        format!("{} ({})", self.service, self.user)
    }
}

/// Reads the item. Text that is no base64 answers no bytes, which no key matches: it is not ours to overwrite.
pub(super) fn read(entry: &Entry) -> Result<Option<Zeroizing<Vec<u8>>>, SourceError> {
    let text = match entry.get_password() {
        Ok(text) => Zeroizing::new(text),
        Err(Error::NoEntry) => return Ok(None),
        Err(Error::BadEncoding(bytes) | Error::BadDataFormat(bytes, _)) => {
            drop(Zeroizing::new(bytes));
            return Ok(Some(Zeroizing::default()));
        }
        Err(error) => return Err(source_error(error)),
    };
    Ok(Some(Zeroizing::new(STANDARD.decode(text.trim()).unwrap_or_default())))
}

/// Writes the item: one line of base64, so that a person can back it up.
pub(super) fn write(entry: &Entry, key: &[u8]) -> Result<(), SourceError> {
    entry.set_password(&Zeroizing::new(STANDARD.encode(key))).map_err(source_error)
}

/// Deletes the item. That there is none is what was wanted.
pub(super) fn delete(entry: &Entry) -> Result<(), SourceError> {
    match entry.delete_credential() {
        Ok(()) | Err(Error::NoEntry) => Ok(()),
        Err(error) => Err(source_error(error)),
    }
}

pub(super) fn source_error(error: Error) -> SourceError {
    match error {
        Error::NoStorageAccess(error) => refused(&*error).unwrap_or_else(|| SourceError::Locked(error.to_string())),
        Error::PlatformFailure(error) => {
            refused(&*error).unwrap_or_else(|| SourceError::Unavailable(error.to_string()))
        }
        Error::Ambiguous(entries) => SourceError::Unavailable(format!(
            "it holds {} items of the same name where one is expected: remove those that are not this app's",
            entries.len()
        )),
        // Only variants that carry bytes of the item are handled elsewhere; the others name an attribute or a limit.
        Error::BadEncoding(_) | Error::BadDataFormat(..) => SourceError::Unavailable("its item cannot be read".into()),
        error => SourceError::Unavailable(error.to_string()),
    }
}

/// What macOS calls locked and absent, which the store does not tell apart.
#[cfg(target_os = "macos")]
fn refused(error: &(dyn std::error::Error + Send + Sync + 'static)) -> Option<SourceError> {
    // <https://opensource.apple.com/source/Security/Security-59306.140.5/base/SecBase.h>
    const USER_CANCELED: i32 = -128;
    const AUTH_FAILED: i32 = -25293;
    const INTERACTION_NOT_ALLOWED: i32 = -25308;
    const NOT_AVAILABLE: i32 = -25291;
    const NO_SUCH_KEYCHAIN: i32 = -25294;
    const INVALID_KEYCHAIN: i32 = -25295;
    const NO_DEFAULT_KEYCHAIN: i32 = -25307;
    let code = error.downcast_ref::<security_framework::base::Error>()?.code();
    match code {
        USER_CANCELED | AUTH_FAILED | INTERACTION_NOT_ALLOWED => Some(SourceError::Locked(error.to_string())),
        NOT_AVAILABLE | NO_SUCH_KEYCHAIN | INVALID_KEYCHAIN | NO_DEFAULT_KEYCHAIN => {
            Some(SourceError::Unavailable(error.to_string()))
        }
        _ => None,
    }
}

#[cfg(not(target_os = "macos"))]
fn refused(_: &(dyn std::error::Error + Send + Sync + 'static)) -> Option<SourceError> {
    None
}

/// macOS Keychain and Windows Credential Manager: no more than their stores.
#[cfg(any(target_os = "macos", windows))]
pub(super) struct Native {
    identifier: String,
    installation: Installation,
}

#[cfg(any(target_os = "macos", windows))]
impl Native {
    pub(super) fn new(identifier: &str, folder: &std::path::Path) -> Self {
        Self { identifier: identifier.to_owned(), installation: Installation::of(folder) }
    }

    fn known(&self, account: &str) -> Result<Entry, SourceError> {
        Self::entry(&Item::known(&self.identifier, &self.installation, account)?)
    }

    fn entry(item: &Item) -> Result<Entry, SourceError> {
        use keyring::api::CredentialStoreApi;

        #[cfg(target_os = "macos")]
        let built = apple_native_keyring_store::keychain::Store::new()
            .and_then(|store| store.build(&item.service, &item.user, None));
        // Local: a key that roams to another machine without the database is of no use there, and one more place to
        // lose it from.
        #[cfg(windows)]
        let built = windows_native_keyring_store::Store::new().and_then(|store| {
            store.build(&item.service, &item.user, Some(&std::collections::HashMap::from([("persistence", "Local")])))
        });
        built.map_err(source_error)
    }
}

#[cfg(any(target_os = "macos", windows))]
impl super::KeySource for Native {
    fn name(&self) -> &'static str {
        "keychain"
    }

    fn load(&self, account: &str) -> Result<Option<Zeroizing<Vec<u8>>>, SourceError> {
        read(&self.known(account)?)
    }

    fn store(&self, account: &str, key: &[u8]) -> Result<(), SourceError> {
        write(&Self::entry(&Item::made(&self.identifier, &self.installation, account)?)?, key)
    }

    fn forget(&self, account: &str) -> Result<(), SourceError> {
        delete(&self.known(account)?)
    }
}
