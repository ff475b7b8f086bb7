//! From one master key to the next, without a moment in which a row cannot be read.
//!
//! The source keeps old and new key together, in one item, before any row is wrapped under the new one, and the old one goes only
//! when no row refers to it and nobody could still write one that does. So a process that is killed at any moment leaves every row
//! readable, and the next one takes the rotation up where it is.

use std::{
    sync::{Arc, PoisonError},
    time::Instant,
};

use super::{
    KeyRecord, Keys,
    keys::{Failure, Refusal, Ring},
    lock::Flight,
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

/// Whether the old keys are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// They are.
    Done,
    /// A call of this process still has one in its hands: in a moment it may not.
    InUse,
    /// A row is wrapped under one, or another rotation was begun.
    Needed,
    /// Another process has a key, and may write under it.
    Elsewhere,
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
        let forgotten = self.forgotten(account);
        let begun = async {
            let (flight, deadline) = self.alone_at_the_source().await?;
            let (mut keys, _) = self.load_known(account, record, deadline).await?;
            if keys.len() == 1 {
                keys.insert(0, Arc::new(MasterKey::generate()));
                self.shared.store(account, &keys, &flight, deadline).await?;
            }
            self.make_current((account, forgotten), keys, keep).await
        };
        begun.await.map_err(error)
    }

    /// Takes up a rotation that was begun and not finished; none if there is none any more.
    ///
    /// # Errors
    /// As [`Keys::rotate`].
    pub async fn take_up_rotation<R, RF, K, KF>(&self, account: &str, record: R, keep: K) -> Result<Option<Rotation>>
    where
        R: Fn() -> RF + Send,
        RF: Future<Output = Result<KeyRecord>> + Send,
        K: Fn(KeyId) -> KF + Send,
        KF: Future<Output = Result<()>> + Send,
    {
        let turn = self.turn(account);
        let _turn = turn.last.lock().await;
        let forgotten = self.forgotten(account);
        let begun = async {
            let (_flight, deadline) = self.alone_at_the_source().await?;
            let (keys, _) = self.load_known(account, record, deadline).await?;
            let rotation = self.make_current((account, forgotten), keys, keep).await?;
            Ok(Some(rotation).filter(|rotation| !rotation.old.is_empty()))
        };
        begun.await.map_err(error)
    }

    /// Drops the old keys for good, unless somebody could still need one: another process that has a key, a call of this one, a row.
    /// `used` answers whether there is such a row, after what was written before it.
    ///
    /// Everything is looked at under the lock under which keys are had and made: another process that has begun the next rotation meanwhile
    /// is seen, and its key is not overwritten.
    ///
    /// # Errors
    /// As [`Keys::get`], and whatever `record` and `used` answer; the old keys stay then.
    pub async fn finish_rotation<R, RF, U, UF>(&self, account: &str, record: R, used: U) -> Result<Finish>
    where
        R: Fn() -> RF + Send,
        RF: Future<Output = Result<KeyRecord>> + Send,
        U: Fn() -> UF + Send,
        UF: Future<Output = Result<bool>> + Send,
    {
        let turn = self.turn(account);
        let _turn = turn.last.lock().await;
        let forgotten = self.forgotten(account);
        let finished = async {
            let (flight, deadline) = self.alone_at_the_source().await?;
            if self.old_keys_are_held(account) {
                return Ok(Finish::InUse);
            }
            if !self.shared.users.alone() {
                return Ok(Finish::Elsewhere);
            }
            let (mut keys, _) = self.load_known(account, record, deadline).await?;
            let current = keys.swap_remove(0);
            if self.cached(account).is_none_or(|cached| cached.id() != current.id()) {
                // Somebody has begun another one.
                return Ok(Finish::Needed);
            }
            let used = used();
            if used.await.map_err(Failure::Other)? {
                return Ok(Finish::Needed);
            }
            self.shared.store(account, std::slice::from_ref(&current), &flight, deadline).await?;
            self.note(account, forgotten, KeyState::Ready, Some(Ring { current, others: Vec::new() }));
            Ok(Finish::Done)
        };
        finished.await.map_err(error)
    }

    /// Reads again what the source has: another process may have made a key since this one had its own.
    ///
    /// # Errors
    /// As [`Keys::get`]; what is known stays then.
    pub async fn refresh<R, RF>(&self, account: &str, record: R) -> Result<()>
    where
        R: Fn() -> RF + Send,
        RF: Future<Output = Result<KeyRecord>> + Send,
    {
        let turn = self.turn(account);
        let _turn = turn.last.lock().await;
        let forgotten = self.forgotten(account);
        let read = async {
            let (_flight, deadline) = self.alone_at_the_source().await?;
            let (keys, current) = self.load_known(account, record, deadline).await?;
            let ring = Ring::of(keys, current).ok_or(Failure::Key(Refusal::Mismatch))?;
            // Nobody has had one here: then it is asked for as ever.
            if self.cached(account).is_some() {
                self.note(account, forgotten, KeyState::Ready, Some(ring));
            }
            Ok(())
        };
        read.await.map_err(error)
    }

    async fn alone_at_the_source(&self) -> Result<(Flight, Instant), Failure> {
        let deadline = Instant::now() + self.shared.timeout;
        let flight = self.shared.lock.take(deadline).await.map_err(Failure::Other)?;
        Ok((flight.ok_or(Failure::Key(Refusal::Locked))?, deadline))
    }

    /// What the source has, the newest first, and which of them is the current one.
    async fn load_known<R, RF>(
        &self,
        account: &str,
        record: R,
        deadline: Instant,
    ) -> Result<(Vec<Arc<MasterKey>>, KeyId), Failure>
    where
        R: Fn() -> RF + Send,
        RF: Future<Output = Result<KeyRecord>> + Send,
    {
        let recorded = record();
        let recorded = recorded.await.map_err(Failure::Other)?.id;
        let keys = self.shared.load(account, deadline).await?.ok_or(Failure::Key(Refusal::Missing))?;
        let current = recorded.filter(|recorded| keys.iter().any(|key| key.id() == *recorded));
        let current = current.ok_or(Failure::Key(Refusal::Mismatch))?;
        // Those that are in memory, so that whoever has one of them in its hands is counted.
        let keys = keys.into_iter().map(|key| self.of_id(account, &key.id().0).unwrap_or(key)).collect();
        Ok((keys, current))
    }

    /// The first is the newest, whether it was made now or by a run that ended before the database knew.
    async fn make_current<K, KF>(
        &self,
        (account, forgotten): (&str, u64),
        mut keys: Vec<Arc<MasterKey>>,
        keep: K,
    ) -> Result<Rotation, Failure>
    where
        K: Fn(KeyId) -> KF + Send,
        KF: Future<Output = Result<()>> + Send,
    {
        let new = keys.remove(0);
        let kept = keep(new.id());
        kept.await.map_err(Failure::Other)?;
        let old = keys.iter().map(|key| key.id()).collect();
        self.note(account, forgotten, KeyState::Ready, Some(Ring { current: Arc::clone(&new), others: keys }));
        Ok(Rotation { new, old })
    }

    /// Whether a call of this process has an old key in its hands, and could still write under it.
    fn old_keys_are_held(&self, account: &str) -> bool {
        let accounts = self.shared.accounts.read().unwrap_or_else(PoisonError::into_inner);
        accounts.get(account).is_none_or(|known| known.others.iter().any(|key| Arc::strong_count(key) > 1))
    }
}

pub(super) fn error(failure: Failure) -> Error {
    match failure {
        Failure::Key(refusal) => refusal.error(),
        Failure::Other(error) => error,
    }
}
