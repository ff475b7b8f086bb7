//! A new master key for everything that is queued.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Outbox, Parts};
use crate::{
    cipher::{Binding, KeyId, MasterKey},
    error::Result,
    keychain::{Finish, Rotation},
    store::Wrapped,
};

/// Rows of one commit.
const BATCH: u32 = 256;
/// Below the seq of every row.
const BEFORE_ALL: i64 = 0;
/// Milliseconds before each further look whether calls of this process still have an old key: those that read are done in a moment, the copying of a
/// large file may take longer than anybody waits.
const PAUSES: [u64; 5] = [10, 20, 40, 80, 160];

/// What [`Outbox::rotate_key`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Rotated {
    /// So many entries were wrapped under the new key by this call.
    pub rewrapped: u64,
    /// So many could not be, because their records do not open: they keep the old key.
    pub unreadable: u64,
    /// The old key is gone. Otherwise it is kept beside the new one until nothing needs it: another process of the app has it, or a record
    /// is unreadable. The next start, or another call, tries again.
    pub finished: bool,
}

impl Outbox {
    /// Makes a new master key for the current account and wraps the data keys of all its entries under it, a few at a time, while
    /// delivery goes on. Payloads are not encrypted anew. Nothing is unreadable at any moment, also if the process is killed: a
    /// rotation that was begun is taken up by the next start.
    ///
    /// # Errors
    /// `keychain_locked`, `keychain_unavailable` (also when the app gives the key itself), `key_missing`, `key_mismatch`; `database`.
    pub async fn rotate_key(&self) -> Result<Rotated> {
        let account = self.account().await?;
        drop(self.master_key(&account).await?);
        let _one = self.shared.rotating.lock().await;
        let Parts { store, keys, .. } = self.parts();
        let keep = |id: KeyId| store.keep_key(&account, id.0, self.now());
        let rotation = keys.rotate(&account, || self.key_record(&account), keep).await?;
        self.carry_out(&account, &rotation).await
    }

    /// Takes up what a run before this one has begun.
    pub(super) fn take_up_rotation(&self, account: &str) {
        let (outbox, account) = (self.clone(), account.to_owned());
        tokio::spawn(async move {
            match outbox.take_up(&account).await {
                Ok(Some(rotated)) => tracing::info!(?rotated, "a rotation of the master key was taken up"),
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "a rotation of the master key could not be taken up yet"),
            }
        });
    }

    async fn take_up(&self, account: &str) -> Result<Option<Rotated>> {
        let _one = self.shared.rotating.lock().await;
        let Parts { store, keys, .. } = self.parts();
        let keep = |id: KeyId| store.keep_key(account, id.0, self.now());
        match keys.take_up_rotation(account, || self.key_record(account), keep).await? {
            Some(rotation) => Ok(Some(self.carry_out(account, &rotation).await?)),
            None => Ok(None),
        }
    }

    async fn carry_out(&self, account: &str, rotation: &Rotation) -> Result<Rotated> {
        let Parts { store, keys, .. } = self.parts();
        let used = || async {
            // What was on its way to the database when nobody held an old key any more is in it now; the keys that nothing refers to are
            // not written under again.
            store.forget_old_keys(account).await?;
            for old in &rotation.old {
                let watches = store.watch_key(account).await?.is_some_and(|key| key.key_id == old.0);
                if watches || !store.wrapped(account, old.0, BEFORE_ALL, 1).await?.is_empty() {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        let mut rotated = Rotated { rewrapped: 0, unreadable: 0, finished: false };
        let mut pauses = PAUSES.into_iter();
        loop {
            let mut found = 0;
            rotated.unreadable = 0;
            for old in &rotation.old {
                let (rewrapped, unreadable) = self.rewrap_all(account, *old, &rotation.new).await?;
                let watches = self.rewrap_watch_key(account, *old, &rotation.new).await?;
                found += rewrapped + watches.0;
                rotated.unreadable += unreadable + watches.1;
            }
            rotated.rewrapped += found;
            match keys.finish_rotation(account, || self.key_record(account), used).await? {
                Finish::Done => {
                    rotated.finished = true;
                    return Ok(rotated);
                }
                Finish::InUse => match pauses.next() {
                    Some(pause) => tokio::time::sleep(Duration::from_millis(pause)).await,
                    None => return Ok(rotated),
                },
                Finish::Elsewhere => return Ok(rotated),
                Finish::Needed if found == 0 => return Ok(rotated),
                Finish::Needed => {}
            }
        }
    }

    /// How many rows went from the old key to the new one, and how many do not open.
    async fn rewrap_all(&self, account: &str, old: KeyId, new: &Arc<MasterKey>) -> Result<(u64, u64)> {
        let Parts { store, keys, .. } = self.parts();
        let (mut rewrapped, mut unreadable, mut after) = (0, 0, 0);
        loop {
            let rows = store.wrapped(account, old.0, after, BATCH).await?;
            let Some(last) = rows.last() else { return Ok((rewrapped, unreadable)) };
            after = last.seq;
            // Not held any longer than it takes: the rotation ends when nobody has it.
            let again: Vec<Wrapped> = match keys.of_id(account, &old.0) {
                Some(old) => rows.iter().filter_map(|row| wrap_again(account, row, &old, new)).collect(),
                None => Vec::new(),
            };
            rewrapped += again.len() as u64;
            unreadable += (rows.len() - again.len()) as u64;
            store.rewrap(old.0, new.id().0, again).await?;
        }
    }
}

fn wrap_again(account: &str, row: &Wrapped, old: &MasterKey, new: &MasterKey) -> Option<Wrapped> {
    let Wrapped { id, kind, key, content_type, generation, wrapped_key, .. } = row;
    let binding = Binding { account, id: *id, kind, key: key.as_deref(), content_type, generation: *generation };
    let data = old.unwrap(wrapped_key, &binding).ok()?;
    Some(Wrapped { wrapped_key: new.wrap_again(&data, &binding), ..row.clone() })
}
