//! Whether one write arrived.

use std::{pin::pin, time::Duration};

use tokio::sync::{
    broadcast::{self, error::RecvError},
    watch,
};
use uuid::Uuid;

use super::Outbox;
use crate::{
    entry::{Change, Entry, Reason, State},
    error::{Error, Result},
};

impl Outbox {
    /// Waits until the server has the entry, and answers it. Where a newer entry of its lane replaced it, that one is
    /// waited for and answered: the server has what came later. Nothing is polled in the process that delivers; other
    /// processes read the row again every half second while somebody waits. Without a timeout it waits for ever.
    ///
    /// # Errors
    ///
    /// `not_delivered` when it failed: the message says why and what to do, its payload is kept. `lost` when a newer write
    /// on the server stands. `not_found` when it was discarded, and when another account becomes the current one. `timeout` when it is still on its way: the message says what it waits for, and nothing is lost by it.
    /// `closed` when the app shuts down first.
    pub async fn delivered(&self, id: Uuid, timeout: Option<Duration>) -> Result<Entry> {
        let account = self.account().await?;
        // Subscribed before the first look, so that what happens between the two is heard.
        let own = self.shared.version.subscribe();
        let mut news = News { changes: self.changes(), others: self.parts().board.others(), own };
        let mut patience = pin!(self.patience(timeout));
        let mut id = id;
        let mut late = false;
        loop {
            if *self.account().await? != *account {
                return Err(Error::NotFound(id));
            }
            let entry = self.entry_of(&account, id).await?;
            match (entry.state, entry.superseded_by) {
                (State::Acked, _) => return Ok(entry),
                (State::Superseded, Some(newer)) => id = newer,
                (State::Pending | State::Inflight, _) if late => return Err(still_waiting(&entry, timeout)),
                (State::Pending | State::Inflight, _) => tokio::select! {
                    biased;
                    heard = self.news_of(&mut news, id) => heard?,
                    () = &mut patience => late = true,
                },
                (State::Superseded, None) if entry.lost => return Err(Error::Lost(id)),
                _ => return Err(not_delivered(&entry)),
            }
        }
    }

    /// Resolves when the entry's row is worth another look.
    async fn news_of(&self, news: &mut News, id: Uuid) -> Result<()> {
        let mut look_again = pin!(self.look_again());
        loop {
            tokio::select! {
                change = news.changes.recv() => match change {
                    Ok(change) if change.id != id => {}
                    Ok(_) | Err(RecvError::Lagged(_)) => return Ok(()),
                    Err(RecvError::Closed) => return Err(Error::Closed),
                },
                // The board lives as long as we do.
                _ = news.others.changed() => return Ok(()),
                _ = news.own.changed() => return Ok(()),
                () = &mut look_again => return Ok(()),
            }
        }
    }
}

/// What may have happened to an entry.
struct News {
    /// Here.
    changes: broadcast::Receiver<Change>,
    /// In another process.
    others: watch::Receiver<u64>,
    /// Another account may be the current one.
    own: watch::Receiver<u64>,
}

fn still_waiting(entry: &Entry, timeout: Option<Duration>) -> Error {
    let id = entry.id;
    let within = timeout.unwrap_or_default();
    let why = match &entry.waiting_for {
        Some(waiting_for) => format!("it waits for {waiting_for}"),
        None => "it is being sent".to_owned(),
    };
    Error::Timeout(format!("entry {id} was not delivered within {within:?}: {why}. It stays queued"))
}

fn not_delivered(entry: &Entry) -> Error {
    let id = entry.id;
    if entry.state == State::Superseded {
        return Error::NotDelivered(format!("entry {id} was not delivered: it was given up for what the server holds"));
    }
    let why = match entry.reason {
        Some(Reason::Refused) => "the server refused it",
        Some(Reason::Conflict) => "the server holds a newer revision",
        Some(Reason::OutcomeUnknown) => "it may have been applied, and its endpoint forbids sending it twice",
        Some(Reason::Unproven) => "the server never proved that it has it",
        Some(Reason::Undecryptable) => "its record on disk was changed or damaged",
        Some(Reason::ParentGone) => "an entry that it depends on was removed",
        None => "it was given up",
    };
    let status = entry.status.map(|status| format!(" (HTTP {status})")).unwrap_or_default();
    let way_out = match entry.reason {
        Some(Reason::Undecryptable) => "`discard` it",
        Some(Reason::Conflict) => "`resolve` it, or `discard` it",
        Some(Reason::ParentGone) => "`retry` it to go on without that one, `edit` it, or `discard` it",
        Some(Reason::OutcomeUnknown) => "look at the server, then `retry` it with `force`, or `discard` it",
        _ => "`retry` it once the cause is gone, or `discard` it",
    };
    Error::NotDelivered(format!("entry {id} was not delivered: {why}{status}. It is kept: {way_out}"))
}
