//! What meets a newer write on the server: who is told, and what an app may know beforehand.

use uuid::Uuid;

use super::{Outbox, Parts, validate};
use crate::{
    entry::{Entry, Known},
    error::{Error, Result},
    wake::Wake,
};

/// How many conflicts one call answers or takes.
const CONFLICTS: u32 = 1000;

impl Outbox {
    /// Notes what the app has read of a thing on the server, so that the next write of it builds on that. What `known`
    /// does not say stays as it is known; entries that are queued stay as they are.
    ///
    /// # Errors
    ///
    /// `unknown_kind`; `invalid_argument` for a key that `enqueue` would not take either, a revision from 2^53 on, a canonical
    /// id or a tag of more than 1024 bytes or with control characters, the id `.` or `..`, a weak tag, and an id or tag of what does not exist.
    pub async fn observe(&self, kind: &str, key: &str, known: Known) -> Result<()> {
        let Parts { store, settings, .. } = self.parts();
        validate::observation(settings, kind, key, &known)?;
        if known == Known::default() {
            return Ok(());
        }
        let account = self.account().await?;
        store.observe(&account, kind, key, &known, self.now()).await
    }

    /// The entries that met a newer write on the server and that nobody has read of yet, oldest first, at most 1000.
    /// They stay on this list until [`Outbox::conflicts_read`], over restarts, unless somebody decides otherwise for them
    /// (`retry`, `edit`, `resolve`, `discard`).
    ///
    /// # Errors
    ///
    /// None of its own.
    pub async fn conflicts(&self) -> Result<Vec<Entry>> {
        let account = self.account().await?;
        let rows = self.parts().store.conflicts(&account, CONFLICTS).await?;
        Ok(rows.into_iter().map(|row| self.explained(row)).collect())
    }

    /// Takes these off the list of [`Outbox::conflicts`]. Ids that are not on it are ignored. Works in every process on
    /// the database.
    ///
    /// # Errors
    ///
    /// `invalid_argument` for more than 1000 ids.
    pub async fn conflicts_read(&self, ids: &[Uuid]) -> Result<()> {
        if ids.len() > CONFLICTS as usize {
            return Err(Error::argument(format!(
                "`ids` names {} entries and may name {CONFLICTS}: call more than once",
                ids.len()
            )));
        }
        let account = self.account().await?;
        let read = self.parts().store.conflicts_read(&account, ids, self.now()).await?;
        if !read.is_empty() {
            // Lists of entries show it.
            self.status_changed();
            self.wake(Wake::Changed).await;
        }
        Ok(())
    }
}
