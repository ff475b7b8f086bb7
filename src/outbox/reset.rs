//! A queue whose key is lost begins anew.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Outbox, Parts};
use crate::{
    error::{Error, Result},
    wake::Wake,
};

/// What [`Outbox::reset_encrypted_data`] wants to be told, word for word.
pub const CONFIRM: &str = "give up what is queued";

/// What [`Outbox::reset_encrypted_data`] did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Reset {
    /// A copy of the queue as it was, encrypted as it was: with the lost key, should it turn up again, everything in it can be read. Files
    /// that were enqueued are in a folder beside it, of the same name with `.spool` behind.
    pub file: PathBuf,
    /// So many entries were pending or failed, and are in that file only.
    pub given_up: u64,
}

impl Outbox {
    /// Gives up what the current account has queued under a key that is lost, and begins an empty queue with a new key. The only way to go
    /// on when the keychain was deleted or replaced and no backup of it is left. A copy of the whole database is kept in the data folder.
    /// Nothing is deleted from the keychain: a key that is there in place of the lost one is used from now on; what is there and is no key
    /// is replaced.
    ///
    /// `confirm` is [`CONFIRM`], so that nobody calls this by accident.
    ///
    /// # Errors
    ///
    /// `invalid_argument` without the confirmation. `not_owner` in a process that does not deliver. `wrong_state` when the key is there:
    /// nothing has to be given up. `keychain_locked`, `keychain_unavailable`: it may be there. `disk_full`: the copy has no room. Nothing was
    /// given up then.
    pub async fn reset_encrypted_data(&self, confirm: &str) -> Result<Reset> {
        if confirm != CONFIRM {
            return Err(Error::argument(format!(
                "this gives up everything that is queued and was not delivered; if that is meant, give `confirm`: \"{CONFIRM}\""
            )));
        }
        let Parts { store, board, keys, .. } = self.parts();
        if !board.owner() {
            return Err(Error::NotOwner);
        }
        let _changing = self.shared.account.changing.lock().await;
        let account = self.account().await?;
        match self.master_key(&account).await {
            Err(Error::KeyMissing | Error::KeyMismatch) => {}
            Err(error) => return Err(error),
            Ok(_) => {
                return Err(Error::WrongState(
                    "the key is there, so nothing has to be given up: `discard('all')` removes entries if that is meant".into(),
                ));
            }
        }
        keys.clear_what_is_no_key(&account).await?;
        let file = store.copy_aside().await?;
        self.keep_files_of(&account, &file).await?;
        let counts = store.counts(&account).await?;
        store.leave(&account, false, false, self.now()).await?;
        tracing::warn!(file = %file.display(), "a queue whose key is lost was given up; a copy is kept");
        self.remove_rows_of(&account).await?;
        self.new_key_of(&account).await;
        self.shared.watching.changed();
        self.status_changed();
        self.wake(Wake::Changed).await;
        self.parts().wake.wake(Wake::Keychain);
        Ok(Reset { file, given_up: counts.pending + counts.inflight + counts.failed })
    }

    /// The new key is there when the next one enqueues. Whoever asked for the old one meanwhile may still be answered that it is missing,
    /// and so may this, once: what is asked after that answer is asked anew. What else stands in the way is said by the next `enqueue`.
    async fn new_key_of(&self, account: &str) {
        for _ in 0..3 {
            match self.master_key(account).await {
                Err(Error::KeyMissing | Error::KeyMismatch) => {}
                _ => return,
            }
        }
    }

    /// What the copy of the database names in the spool stays in a folder beside it.
    async fn keep_files_of(&self, account: &str, aside: &Path) -> Result<()> {
        let names = self.parts().store.spool_files_of(account).await?;
        if names.is_empty() {
            return Ok(());
        }
        let (spool, folder) = (self.shared.spool.clone(), files_beside(aside));
        let kept = tokio::task::spawn_blocking(move || spool.keep(&names, &folder)).await;
        // It can only be cancelled, and only with the runtime.
        kept.map_err(|_| Error::Closed)?
    }
}

/// `outbox.reset-1` + `.spool`
fn files_beside(aside: &Path) -> PathBuf {
    let mut name = aside.as_os_str().to_owned();
    name.push(".spool");
    PathBuf::from(name)
}
