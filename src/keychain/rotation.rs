//! From one master key to the next, without a moment in which a row cannot be read.
//!
//! The source keeps old and new key together, in one item, before any row is wrapped under the new one, and the old one goes only
//! when no row refers to it and nobody could still write one that does. So a process that is killed at any moment leaves every row
//! readable, and the next one takes the rotation up where it is.

use std::{sync::Arc, time::Instant};

use super::{
    KeyRecord, Keys,
    keys::{Failure, Refusal, Ring},
};
use crate::{
    cipher::{KeyId, MasterKey},
    entry::KeyState,
    error::{Error, Result},
};

/// A rotation under way.
#[derive(Debug)]
pub struct Rotation {
    /// What rows are to be wrapped under.
    pub new: Arc<MasterKey>,
    /// What they may be wrapped under now.
    pub old: Vec<KeyId>,
}

impl Keys {
    /// Begins a rotation of the account's key, or takes up the one that was begun. The account's key must have been loaded before.
    /// `keep` makes the new key the current one in the database; everything is sealed under it from then on.
    ///
    /// # Errors
    /// As [`Keys::get`]; [`Error::KeychainUnavailable`] when the source cannot keep another key, such as one that the app gives.
    pub async fn rotate<R, RF, K, KF>(&self, account: &str, record: R, keep: K) -> Result<Rotation>
    where
        R: Fn() -> RF + Send,
        RF: Future<Output = Result<KeyRecord>> + Send,
        K: Fn(KeyId) -> KF + Send,
        KF: Future<Output = Result<()>> + Send,
    {
        let turn = self.turn(account);
        let _turn = turn.last.lock().await;
        self.begin(account, record, keep).await.map_err(error)
    }

    async fn begin<R, RF, K, KF>(&self, account: &str, record: R, keep: K) -> Result<Rotation, Failure>
    where
        R: Fn() -> RF + Send,
        RF: Future<Output = Result<KeyRecord>> + Send,
        K: Fn(KeyId) -> KF + Send,
        KF: Future<Output = Result<()>> + Send,
    {
        let deadline = Instant::now() + self.shared.timeout;
        let locked = || Failure::Key(Refusal::Locked);
        let flight = self.shared.lock.take(deadline).await.map_err(Failure::Other)?.ok_or_else(locked)?;
        let recorded = record();
        let recorded = recorded.await.map_err(Failure::Other)?.id;
        let mut keys = self.shared.load(account, deadline).await?.ok_or(Failure::Key(Refusal::Missing))?;
        let current = keys.iter().position(|key| Some(key.id()) == recorded);
        let current = current.ok_or(Failure::Key(Refusal::Mismatch))?;
        if current == 0 && keys.len() == 1 {
            keys.insert(0, Arc::new(MasterKey::generate()));
            self.shared.store(account, &keys, &flight, deadline).await?;
        }
        // The first is the newest, whether it was made now or by a run that ended before the database knew.
        let new = keys.remove(0);
        if Some(new.id()) != recorded {
            let kept = keep(new.id());
            kept.await.map_err(Failure::Other)?;
        }
        let old = keys.iter().map(|key| key.id()).collect();
        self.note(account, KeyState::Ready, Some(Ring { current: Arc::clone(&new), others: keys }));
        Ok(Rotation { new, old })
    }

    /// Whether nobody can write under an old key any more: no other process has a key, and no call of this one still holds one.
    pub fn old_keys_are_unused(&self, account: &str) -> bool {
        let accounts = self.shared.accounts.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let unused = |key: &Arc<MasterKey>| Arc::strong_count(key) == 1;
        accounts.get(account).is_some_and(|known| known.others.iter().all(unused)) && self.shared.users.alone()
    }

    /// Drops the old keys for good. Only once no row refers to them and [`Keys::old_keys_are_unused`] was true before that was
    /// looked at.
    ///
    /// # Errors
    /// As [`Keys::get`]; the old keys stay then.
    pub async fn finish_rotation(&self, account: &str) -> Result<()> {
        let turn = self.turn(account);
        let _turn = turn.last.lock().await;
        let Some(current) = self.cached(account) else { return Err(Error::KeychainLocked) };
        let deadline = Instant::now() + self.shared.timeout;
        let flight = self.shared.lock.take(deadline).await?.ok_or(Error::KeychainLocked)?;
        let keys = std::slice::from_ref(&current);
        self.shared.store(account, keys, &flight, deadline).await.map_err(error)?;
        self.note(account, KeyState::Ready, Some(Ring { current, others: Vec::new() }));
        Ok(())
    }
}

pub(super) fn error(failure: Failure) -> Error {
    match failure {
        Failure::Key(refusal) => refusal.error(),
        Failure::Other(error) => error,
    }
}
