//! What a user decides: of entries that failed or wait, and of delivery as a whole.

use std::time::Duration;

use uuid::Uuid;

use super::StorageSync;
use crate::{
    entry::Entry,
    error::Result,
    outbox::{Discarded, Flushed, Payload, Resolution, Selection},
};

impl StorageSync {
    /// Tries entries again that failed, and sooner those that wait, if they are selected by id or state: any other filter, the empty
    /// one too, means failed ones only. `force` sends also those whose outcome is unknown; what is lost is sent again if it is named by
    /// its id. Works in every process on the queue.
    ///
    /// # Errors
    /// For an id `not_found` and `wrong_state`; `invalid_argument` for [`Selection::All`] and for more than 1000 ids.
    pub async fn retry(&self, which: impl Into<Selection>, force: bool) -> Result<Vec<Uuid>> {
        self.outbox().await?.retry(which, force).await
    }

    /// Removes entries that are not being sent at this moment, and names those that are; the upload of a file is stopped for it, and the
    /// server asked to forget what it has. What depends on them goes too with `cascade`, and
    /// fails with [`Reason::ParentGone`](crate::Reason::ParentGone) without. Works in every process on the queue.
    ///
    /// # Errors
    /// `not_found` for an id; `invalid_argument` for a filter that restricts nothing and for more than 1000 ids.
    pub async fn discard(&self, which: impl Into<Selection>, cascade: bool) -> Result<Discarded> {
        self.outbox().await?.discard(which, cascade).await
    }

    /// Gives an entry that the server has not applied another payload, and queues it where it stood: one that waits and was never sent,
    /// that failed with a definitive answer, or that is lost.
    ///
    /// # Errors
    /// `not_found`; `wrong_state` (the message says why); `unknown_kind`, `invalid_argument`, `payload_too_large`, `undecryptable`, or why
    /// there is no key.
    pub async fn edit(&self, id: Uuid, payload: Payload) -> Result<()> {
        self.outbox().await?.edit(id, payload).await
    }

    /// Decides for an entry that met a newer write on the server: one that failed with
    /// [`Reason::Conflict`](crate::Reason::Conflict), or that is lost.
    ///
    /// # Errors
    /// `not_found`; `wrong_state` for any other entry; as [`StorageSync::edit`] with a payload.
    pub async fn resolve(&self, id: Uuid, resolution: Resolution) -> Result<()> {
        self.outbox().await?.resolve(id, resolution).await
    }

    /// The entries that met a newer write on the server and that nobody has read of yet, oldest first, at most 1000. They stay on this
    /// list until [`StorageSync::conflicts_read`], over restarts, unless something is decided for them.
    ///
    /// # Errors
    /// None of its own.
    pub async fn conflicts(&self) -> Result<Vec<Entry>> {
        self.outbox().await?.conflicts().await
    }

    /// Takes these off the list of [`StorageSync::conflicts`]; others are ignored.
    ///
    /// # Errors
    /// `invalid_argument` for more than 1000 ids.
    pub async fn conflicts_read(&self, ids: &[Uuid]) -> Result<()> {
        self.outbox().await?.conflicts_read(ids).await
    }

    /// Tries everything now, and answers what came of it once nothing more can go or the time is up.
    ///
    /// # Errors
    /// None of its own.
    pub async fn flush(&self, timeout: Option<Duration>) -> Result<Flushed> {
        self.outbox().await?.flush(timeout).await
    }

    /// Delivers nothing at all until [`StorageSync::resume`], also after a restart. Uploads under way stop where they are.
    ///
    /// # Errors
    /// `not_owner`.
    pub async fn pause(&self) -> Result<()> {
        self.outbox().await?.pause().await
    }

    /// Delivers again.
    ///
    /// # Errors
    /// `not_owner`.
    pub async fn resume(&self) -> Result<()> {
        self.outbox().await?.resume().await
    }

    /// Lets one entry wait until [`StorageSync::resume_entry`], also after a restart, and what comes after it in its lane with it. An upload
    /// stops where it is. A newer entry that replaces it is not paused.
    ///
    /// # Errors
    /// `not_found`; `wrong_state` when it is neither pending nor in flight.
    pub async fn pause_entry(&self, id: Uuid) -> Result<()> {
        self.outbox().await?.pause_entry(id).await
    }

    /// Goes on with that entry, at once.
    ///
    /// # Errors
    /// `not_found`; `wrong_state` when it is neither pending nor in flight.
    pub async fn resume_entry(&self, id: Uuid) -> Result<()> {
        self.outbox().await?.resume_entry(id).await
    }
}
