//! An account goes: its entries wait for it, are delivered first, or are destroyed with their key.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use uuid::Uuid;

use super::{Outbox, Parts};
use crate::{
    board::Barred,
    error::{Error, Result},
    store::Leaving,
    wake::Wake,
};

/// How long what is being sent may go on before it is cut off.
const UNDER_WAY: Duration = Duration::from_secs(3);
/// How long the engine may take to note what was cut off. It needs one commit.
const CUT_OFF: Duration = Duration::from_secs(5);
/// How long `flush` may take when no timeout is given.
const FLUSH: Duration = Duration::from_secs(10);
/// How long after it was refused the keychain is asked again to delete a key, where nothing tells that it may be open: as long as delivery
/// waits before it looks again at what it cannot help.
const ASK_AGAIN: Duration = Duration::from_secs(600);
/// Files that are removed at once.
const FILES: u32 = 256;
/// Of what may have been applied, so many are named.
const NAMED: u32 = 1000;

/// What becomes of the entries of an account that is signed out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Leftover {
    /// They stay on the disk, encrypted, and are delivered when the same account is back.
    #[default]
    Keep,
    /// They are delivered first, as far as that is possible in the time: what does not get through is tried again. What is left is kept. It
    /// takes no longer than there is something on its way or soon to be tried again.
    Flush,
    /// They are destroyed, and the account's key with them.
    Discard,
}

/// What [`Outbox::sign_out`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct SignedOut {
    /// The account that was signed out.
    pub account: String,
    /// So many of its entries were delivered meanwhile.
    pub delivered: u64,
    /// So many are kept: pending or failed.
    pub kept: u64,
    /// So many were destroyed before they were delivered: pending or failed ones.
    pub discarded: u64,
    /// Of these, the ones that may have reached the server, because their outcome was unknown; of more than 1000, the oldest.
    pub possibly_applied: Vec<Uuid>,
    /// Nothing is left to do. Otherwise, after a discard, the keychain could not be asked to delete the account's key: that is made up for as
    /// soon as it can be, and nothing of the account can be read meanwhile.
    pub finished: bool,
}

impl Outbox {
    /// Signs the current account out: nothing more of it is sent, its key goes from memory, and the current account is `""`, also after a
    /// restart. What is being sent at this moment gets 3 s to be answered and is then cut off; such an entry stays possibly sent.
    ///
    /// With [`Leftover::Discard`] the account is marked on the disk first: from then on nothing of it can be read. Its key is deleted from
    /// where it is kept, and its entries are, side by side: where the keychain is locked or asks somebody, the entries go before the key. A
    /// process that is killed in between leaves the rest to the next start.
    ///
    /// `timeout` is for [`Leftover::Flush`]: 10 s if not given; [`SignedOut::kept`] says what was left then. `forget` is called with the account once nothing of it begins to be sent any
    /// more: its credentials go.
    ///
    /// # Errors
    ///
    /// `not_owner` in a process that does not deliver. `wrong_state` when entries would stay that belong to no account (`""`): whoever signs
    /// in next would send them; nothing was changed but for what `flush` has delivered. `database`, `closed`.
    pub async fn sign_out(
        &self,
        leftover: Leftover,
        timeout: Option<Duration>,
        forget: impl Fn(&str) + Send,
    ) -> Result<SignedOut> {
        let Parts { store, board, keys, .. } = self.parts();
        if !board.owner() {
            return Err(Error::NotOwner);
        }
        let _changing = self.shared.account.changing.lock().await;
        let account = self.account().await?;
        let before = store.counts(&account).await?;
        let delivered = match leftover {
            Leftover::Flush => self.flush_until(&account, timeout.unwrap_or(FLUSH)).await?.acked,
            _ => 0,
        };
        let discards = leftover == Leftover::Discard;
        if account.is_empty() && !discards {
            self.refuse_to_leave_entries_to_anybody(&account).await?;
        }
        let steering = board.pausing().await;
        let barred = board.bar(&account);
        if discards {
            store.leave(&account, true, true, self.now()).await?;
        } else {
            store.leave_account(&account).await?;
        }
        // Another process may have made another one the current one. Where that cannot be read, delivery reads it before it goes on.
        board.post_account(&store.account().await.unwrap_or_default());
        drop(steering);
        self.shared.account.replace("");
        self.shared.watching.changed();
        forget(&account);
        keys.forget_account(&account);
        self.status_changed();
        self.wake(Wake::Changed).await;

        self.settle_what_is_under_way(&account, &barred).await?;
        // What had just begun may have asked for credentials once more.
        forget(&account);
        let left = store.counts(&account).await?;
        let waiting = left.pending + left.inflight + left.failed;
        let meanwhile = left.acked.saturating_sub(before.acked).max(delivered);
        let mut done = SignedOut { delivered: meanwhile, finished: true, ..SignedOut::default() };
        if discards {
            done.possibly_applied = store.possibly_applied(&account, NAMED).await?;
            done.discarded = waiting;
            done.finished = self.finish_leaving(&account).await.is_ok();
            if !done.finished {
                self.resume_leaving();
            }
        } else {
            done.kept = waiting;
        }
        drop(barred);
        self.wake(Wake::Changed).await;
        done.account = account.to_string();
        Ok(done)
    }

    async fn refuse_to_leave_entries_to_anybody(&self, account: &str) -> Result<()> {
        let counts = self.parts().store.counts(account).await?;
        let left = counts.pending + counts.inflight + counts.failed;
        if left == 0 {
            return Ok(());
        }
        Err(Error::WrongState(format!(
            "{left} entries belong to no account, so they would be sent with the credentials of whoever signs in next: deliver them before, \
             or discard them; an app whose users change names the account (`setAccount`) before it enqueues"
        )))
    }

    /// Waits until nothing of the account is on its way, for a while; then cuts it off.
    async fn settle_what_is_under_way(&self, account: &Arc<str>, barred: &Barred) -> Result<()> {
        if self.settled(account, UNDER_WAY).await? {
            return Ok(());
        }
        barred.cut();
        if !self.settled(account, CUT_OFF).await? {
            tracing::warn!(
                "what was being sent for an account that was signed out could not be noted in time; it counts as possibly sent"
            );
        }
        Ok(())
    }

    async fn settled(&self, account: &str, within: Duration) -> Result<bool> {
        let Parts { store, .. } = self.parts();
        let mut version = store.version();
        let settled = async {
            while store.counts(account).await?.inflight > 0 {
                version.changed().await.map_err(|_| Error::Closed)?;
            }
            Ok(true)
        };
        tokio::select! {
            settled = settled => settled,
            () = self.patience(Some(within)) => Ok(false),
        }
    }

    /// What a sign-out or a reset was cut off from doing, here or in a run before this one, is done now and, where the keychain does not
    /// let it, as soon as that can be asked again.
    pub fn resume_leaving(&self) {
        if self.shared.resuming.swap(true, std::sync::atomic::Ordering::AcqRel) {
            return;
        }
        let outbox = self.clone();
        tokio::spawn(async move {
            let Parts { keys, wake, .. } = outbox.parts();
            // Before the first try: what is told during one is worth another.
            let (mut granted, mut told) = (keys.granted(), wake.keychain());
            while !outbox.finish_all_leaving().await {
                outbox.until_the_keychain_may_be_open(&mut granted, &mut told).await;
            }
            outbox.shared.resuming.store(false, std::sync::atomic::Ordering::Release);
        });
    }

    /// Some key was had, somebody says so, or it is long ago. Neither sender goes before this outbox does.
    async fn until_the_keychain_may_be_open(
        &self,
        granted: &mut watch::Receiver<u64>,
        told: &mut watch::Receiver<u64>,
    ) {
        tokio::select! {
            _ = granted.changed() => {}
            _ = told.changed() => {}
            () = self.patience(Some(ASK_AGAIN)) => {}
        }
    }

    /// Answers whether nothing is left to do, or never can be.
    async fn finish_all_leaving(&self) -> bool {
        let accounts = match self.parts().store.leaving().await {
            Ok(leaving) => leaving,
            Err(error) => return matches!(error, Error::Closed),
        };
        let mut finished = true;
        for Leaving { account, .. } in accounts {
            match self.finish_leaving(&account).await {
                Ok(()) => tracing::info!("an account that was signed out is gone with all that was its own"),
                Err(Error::Closed) => return true,
                Err(error) => {
                    tracing::warn!(%error, "the key of an account that was signed out could not be deleted yet");
                    finished = false;
                }
            }
        }
        finished
    }

    /// Destroys the key of an account that is leaving, where that is to go, and removes its rows.
    pub(super) async fn finish_leaving(&self, account: &str) -> Result<()> {
        // Side by side, since the keychain may ask somebody first.
        let (forgotten, removed) = tokio::join!(self.forget_key_of(account), self.remove_rows_of(account));
        forgotten.and(removed)?;
        // The mark goes with the last of both.
        self.parts().store.left(account).await?;
        self.overwrite_log().await
    }

    /// The files of entries that were removed. Nothing is sent to end their uploads: the account is signed out.
    async fn remove_files_of(&self, account: &str) -> Result<()> {
        let Parts { store, .. } = self.parts();
        loop {
            let left = store.leftovers_of(account, FILES).await?;
            if left.is_empty() {
                return Ok(());
            }
            let (numbers, names): (Vec<i64>, Vec<Option<String>>) = left.into_iter().unzip();
            let spool = self.shared.spool.clone();
            let removed =
                tokio::task::spawn_blocking(move || names.iter().flatten().try_for_each(|name| spool.remove(name)));
            // It can only be cancelled, and only with the runtime.
            let removed = removed.await.map_err(|_| Error::Closed)?;
            removed.map_err(|source| Error::io("removing the files of an account that was signed out", source))?;
            store.forget_leftovers(numbers).await?;
        }
    }

    /// What was removed is overwritten in the database, and with this also in its log, which only the owner may touch.
    async fn overwrite_log(&self) -> Result<()> {
        let Parts { store, board, .. } = self.parts();
        if board.owner() { store.checkpoint().await } else { Ok(()) }
    }

    async fn forget_key_of(&self, account: &str) -> Result<()> {
        let Parts { store, keys, .. } = self.parts();
        let meant = || async {
            let leaving = store.leaving().await?;
            Ok(leaving.iter().any(|leaving| leaving.account == account && leaving.forget_key))
        };
        if !meant().await? {
            return Ok(());
        }
        keys.destroy(account, meant, || store.key_is_gone(account)).await
    }

    /// Some at a time. Nothing is removed of an account that is not leaving.
    pub(super) async fn remove_rows_of(&self, account: &str) -> Result<()> {
        let Parts { store, .. } = self.parts();
        if !store.is_leaving(account).await? {
            return Ok(());
        }
        let mut before = i64::MAX;
        while let Some(next) = store.remove_leaving(account, before).await? {
            before = if next > 0 { next } else { i64::MAX };
        }
        self.remove_files_of(account).await?;
        self.overwrite_log().await?;
        store.left(account).await
    }
}
