//! A key goes for good.

use std::time::Instant;

use super::{
    Keys,
    keys::{Failure, Refusal},
    lock::Flight,
    rotation::error,
};
use crate::error::{Error, Result};

impl Keys {
    /// Makes the source forget the account's key, for good, if `meant` still says so; `done` notes that it has. All three happen under the
    /// lock under which keys are made, so that a new key is never taken for the old one.
    ///
    /// # Errors
    /// [`Error::KeychainLocked`], [`Error::KeychainUnavailable`]; whatever `meant` and `done` answer. It can be called again.
    pub async fn destroy<M, MF, D, DF>(&self, account: &str, meant: M, done: D) -> Result<()>
    where
        M: FnOnce() -> MF + Send,
        MF: Future<Output = Result<bool>> + Send,
        D: FnOnce() -> DF + Send,
        DF: Future<Output = Result<()>> + Send,
    {
        let turn = self.turn(account);
        let _turn = turn.last.lock().await;
        let deadline = Instant::now() + self.shared.timeout;
        let flight = self.shared.lock.take(deadline).await?.ok_or(Error::KeychainLocked)?;
        let still = meant();
        if !still.await? {
            return Ok(());
        }
        self.forget_account(account);
        self.forget_in_source(account, &flight, deadline).await.map_err(error)?;
        let noted = done();
        noted.await
    }

    /// Before a queue begins anew: what the source has under the account's name is taken for its key from then on, unless it is none.
    /// That is removed, or no key could ever be kept there.
    ///
    /// # Errors
    /// As [`Keys::destroy`].
    pub async fn clear_what_is_no_key(&self, account: &str) -> Result<()> {
        let turn = self.turn(account);
        let _turn = turn.last.lock().await;
        let deadline = Instant::now() + self.shared.timeout;
        let flight = self.shared.lock.take(deadline).await?.ok_or(Error::KeychainLocked)?;
        self.forget_account(account);
        match self.shared.load(account, deadline).await {
            Ok(_) => Ok(()),
            Err(Failure::Key(Refusal::Mismatch)) => {
                self.forget_in_source(account, &flight, deadline).await.map_err(error)
            }
            Err(other) => Err(error(other)),
        }
    }

    /// The lock is held until the call has ended, also if it is given up before.
    async fn forget_in_source(&self, account: &str, flight: &Flight, deadline: Instant) -> Result<(), Failure> {
        let (source, owned, held) = (self.shared.source.clone(), account.to_owned(), flight.share());
        let forget = move || {
            let forgotten = source.forget(&owned);
            drop(held);
            forgotten
        };
        Ok(self.shared.caller.call(deadline, forget).await?)
    }
}
