//! One round of delivery, now.

use std::{collections::HashMap, pin::pin, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use uuid::Uuid;

use super::Outbox;
use crate::{
    entry::{Change, Counts, Entry, State, WaitingFor},
    error::{Error, Result},
    store::Filter,
    wake::Wake,
};

/// How long a process that does not deliver waits when no timeout is given.
const ELSEWHERE: Duration = Duration::from_secs(30);
/// Entries that are looked at together.
const PAGE: u32 = 1000;

/// What came of a [`Outbox::flush`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Flushed {
    /// Delivered meanwhile.
    pub acked: u64,
    /// Failed meanwhile: they wait for a decision.
    pub failed: u64,
    /// Still pending or in flight when it ended.
    pub waiting: u64,
}

impl Outbox {
    /// Asks for everything to be tried now, whatever its backoff, and answers once every entry that could go was tried,
    /// or the time is up: that is no error, `waiting` then says how many are left, as it does when the server is down.
    /// A server's own `Retry-After` is kept. Without a timeout it waits for the round to end.
    ///
    /// In a process that does not deliver it tells the other one, and waits until nothing is left or the time is up
    /// (without a timeout: 30 s).
    ///
    /// Counts what happened during the call in the current account, by whatever it was caused.
    ///
    /// # Errors
    ///
    /// `database` when the counts cannot be read, `closed` while the app shuts down.
    pub async fn flush(&self, timeout: Option<Duration>) -> Result<Flushed> {
        let account = self.account().await?;
        if self.parts().board.owner() {
            self.flush_here(&account, timeout).await
        } else {
            self.flush_elsewhere(&account, timeout.unwrap_or(ELSEWHERE)).await
        }
    }

    async fn flush_here(&self, account: &Arc<str>, timeout: Option<Duration>) -> Result<Flushed> {
        self.tallied(account, timeout, self.round()).await
    }

    /// As [`Outbox::flush`] in the process that delivers, but it goes on for as long as something of the account is on its way or will be
    /// tried again in time: what had to wait for another entry, or did not get through at once, has its turn as well. It ends early when what
    /// is left waits for somebody, or for longer than that.
    pub(super) async fn flush_until(&self, account: &Arc<str>, timeout: Duration) -> Result<Flushed> {
        let until = self.parts().clock.wall().saturating_add(i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX));
        // Before the first look, so that nothing is missed in between.
        let mut changes = self.status_changes();
        let rounds = async {
            self.round().await?;
            while self.may_still_go(account, until).await? {
                changes.changed().await;
            }
            Ok(())
        };
        self.tallied(account, Some(timeout), rounds).await
    }

    /// Everything that can be sent now has been.
    async fn round(&self) -> Result<()> {
        let board = &self.parts().board;
        let mut flushed = board.flushed();
        let round = board.request_flush();
        self.wake(Wake::Flush).await;
        // An engine that is gone ends the round as well.
        drop(flushed.wait_for(|done| *done >= round).await);
        Ok(())
    }

    /// What is settled in the account until `work` is done, or the time is up.
    async fn tallied(
        &self,
        account: &Arc<str>,
        timeout: Option<Duration>,
        work: impl Future<Output = Result<()>>,
    ) -> Result<Flushed> {
        let store = &self.parts().store;
        let before = store.counts(account).await?;
        let mut changes = store.changes();
        let mut tally = Tally::of(account);
        {
            let (mut work, mut patience) = (pin!(work), pin!(self.patience(timeout)));
            loop {
                tokio::select! {
                    change = changes.recv() => match change {
                        Ok(change) => tally.note(&change),
                        Err(RecvError::Lagged(_)) => tally.missed = true,
                        Err(RecvError::Closed) => return Err(Error::Closed),
                    },
                    done = &mut work => break done?,
                    () = &mut patience => break,
                }
            }
        }
        // What the round did was announced before the round was over: it is all here by now.
        loop {
            match changes.try_recv() {
                Ok(change) => tally.note(&change),
                Err(TryRecvError::Lagged(_)) => tally.missed = true,
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        let (acked, failed) = tally.settled();
        let after = store.counts(account).await?;
        let risen = difference(&before, &after);
        let most = |counted: u64, risen: u64| if tally.missed { counted.max(risen) } else { counted };
        Ok(Flushed { acked: most(acked, risen.0), failed: most(failed, risen.1), waiting: waiting(&after) })
    }

    /// Whether something of the account is on its way, or will be tried again by then without anybody's doing. What waits for another entry
    /// goes when that one does.
    async fn may_still_go(&self, account: &str, until: i64) -> Result<bool> {
        let filter = Filter { states: Some(vec![State::Inflight, State::Pending]), ..Filter::default() };
        let mut after = None;
        loop {
            let rows = self.parts().store.list(account, &filter, after, PAGE).await?;
            let Some(last) = rows.last() else { return Ok(false) };
            after = Some(last.entry.id);
            let goes = |entry: Entry| match entry.waiting_for {
                // On its way.
                None | Some(WaitingFor::Turn | WaitingFor::Offline { .. } | WaitingFor::Unproven) => true,
                Some(WaitingFor::Backoff { until: due } | WaitingFor::Busy { until: due }) => due <= until,
                Some(_) => false,
            };
            if rows.into_iter().any(|row| goes(self.explained(row))) {
                return Ok(true);
            }
        }
    }

    async fn flush_elsewhere(&self, account: &str, timeout: Duration) -> Result<Flushed> {
        let store = &self.parts().store;
        let before = store.counts(account).await?;
        self.wake(Wake::Flush).await;
        let mut patience = pin!(self.patience(Some(timeout)));
        let mut late = false;
        loop {
            let now = store.counts(account).await?;
            if late || waiting(&now) == 0 {
                let (acked, failed) = difference(&before, &now);
                return Ok(Flushed { acked, failed, waiting: waiting(&now) });
            }
            tokio::select! {
                () = self.patience(Some(super::LOOK_AGAIN)) => {}
                () = &mut patience => late = true,
            }
        }
    }
}

/// What was settled, and how, the last time that it was.
#[derive(Debug)]
struct Tally {
    account: Arc<str>,
    settled: HashMap<Uuid, State>,
    /// Some changes were announced faster than they were read.
    missed: bool,
}

impl Tally {
    fn of(account: &Arc<str>) -> Self {
        Self { account: Arc::clone(account), settled: HashMap::new(), missed: false }
    }

    /// How many were acked, and how many failed.
    fn settled(&self) -> (u64, u64) {
        let acked = self.settled.values().filter(|state| **state == State::Acked).count();
        (acked as u64, (self.settled.len() - acked) as u64)
    }

    fn note(&mut self, change: &Change) {
        if change.account != self.account {
            return;
        }
        match change.state {
            Some(state @ (State::Acked | State::Failed)) => {
                self.settled.insert(change.id, state);
            }
            // A failed one that is retried is on its way again.
            Some(_) => {
                self.settled.remove(&change.id);
            }
            None => {}
        }
    }
}

fn waiting(counts: &Counts) -> u64 {
    counts.pending + counts.inflight
}

fn difference(before: &Counts, after: &Counts) -> (u64, u64) {
    (after.acked.saturating_sub(before.acked), after.failed.saturating_sub(before.failed))
}
