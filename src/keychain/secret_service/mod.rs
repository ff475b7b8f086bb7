//! The Secret Service of a Linux desktop: gnome-keyring, KWallet, KeePassXC.
//!
//! Secrets are read and written by the keyring project's store. Whether that is possible is found out before, over a
//! connection of our own, because the store cannot tell "there is no such item" from "the collection that would hold it
//! is locked", asks the user each time, and waits for the answer for ever. Measured with gnome-keyring: a deleted
//! keyring file is an empty search and no default collection; a prompt without a display is dismissed within 0.2 s.

mod bus;
mod prompts;

use std::{
    path::Path,
    sync::{Mutex, PoisonError},
};

use keyring::{Entry, api::CredentialStoreApi};
use zbus_secret_service_keyring_store::Store;
use zeroize::Zeroizing;

use super::{
    KeySource, SourceError,
    installation::Installation,
    system::{Item, delete, read, source_error, write},
};
use bus::{Bus, Found};
use prompts::Prompts;

pub(super) struct SecretService {
    identifier: String,
    installation: Installation,
    prompts: Prompts,
}

impl SecretService {
    pub(super) fn new(identifier: &str, folder: &Path) -> Self {
        let installation = Installation::of(folder);
        Self { identifier: identifier.to_owned(), installation, prompts: Prompts::default() }
    }

    /// Whether the item is there and can be read now; asks the user to unlock what is locked.
    async fn find(&self, item: &Item) -> Result<bool, SourceError> {
        let bus = Bus::connect().await?;
        match bus.find(item).await? {
            Found::Unlocked => return Ok(true),
            Found::Locked(path) => {
                self.prompts.unlock(&bus, path).await?;
                return Ok(true);
            }
            Found::Nothing => {}
        }
        // Only an open collection can say that it has no such item: some services hide the items of a locked one.
        match bus.default_collection().await? {
            Some(collection) if bus.locked(&collection).await? => {
                self.prompts.unlock(&bus, collection).await?;
                Ok(!matches!(bus.find(item).await?, Found::Nothing))
            }
            _ => Ok(false),
        }
    }

    /// Makes sure that there is an open default collection; asks the user to unlock or create it.
    async fn open_default(&self) -> Result<(), SourceError> {
        let bus = Bus::connect().await?;
        match bus.default_collection().await? {
            Some(collection) if bus.locked(&collection).await? => self.prompts.unlock(&bus, collection).await,
            Some(_) => Ok(()),
            None => self.prompts.create_default(&bus).await,
        }
    }
}

impl KeySource for SecretService {
    fn name(&self) -> &'static str {
        "keychain"
    }

    fn load(&self, account: &str) -> Result<Option<Zeroizing<Vec<u8>>>, SourceError> {
        let item = Item::known(&self.identifier, &self.installation, account)?;
        if !block_on(self.find(&item))? {
            return Ok(None);
        }
        with_entry(&item, read)
    }

    fn store(&self, account: &str, key: &[u8]) -> Result<(), SourceError> {
        block_on(self.open_default())?;
        let item = Item::made(&self.identifier, &self.installation, account)?;
        with_entry(&item, |entry| write(entry, key))
    }

    fn forget(&self, account: &str) -> Result<(), SourceError> {
        let item = Item::known(&self.identifier, &self.installation, account)?;
        if !block_on(self.find(&item))? {
            return Ok(());
        }
        with_entry(&item, delete)
    }
}

/// One session at a time, in the whole process: gnome-keyring 50 aborts when several are negotiated at once.
static SESSION: Mutex<()> = Mutex::new(());

/// A store for one call: a session that was kept would be stale after the service was restarted.
fn with_entry<T>(item: &Item, work: impl FnOnce(&Entry) -> Result<T, SourceError>) -> Result<T, SourceError> {
    let _session = SESSION.lock().unwrap_or_else(PoisonError::into_inner);
    let label = item.label();
    let entry = Store::new()
        .and_then(|store| store.build(&item.service, &item.user, Some(&[("label", label.as_str())].into())))
        .map_err(source_error)?;
    work(&entry)
}

/// Runs on the calling thread, which is a plain one. The store's own calls are made outside of it: they block on a
/// runtime of theirs.
fn block_on<T>(work: impl Future<Output = Result<T, SourceError>>) -> Result<T, SourceError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| SourceError::Unavailable(format!("no runtime to ask it from: {error}")))?
        .block_on(work)
}
