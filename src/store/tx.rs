//! One transaction of the writer: statements are gathered and run in as few hops as their answers allow.

use sqlx::SqliteConnection;

use super::{
    Promoted,
    fault::Fault,
    feed::{self, Changed},
    sql::{Answers, Batch},
};
use crate::entry::State;

/// `BEGIN IMMEDIATE` to `COMMIT`. Dropping it does not roll back: the writer does, after every fault.
pub(super) struct Tx<'c> {
    connection: &'c mut SqliteConnection,
    /// Statements that were not run yet.
    pub(super) batch: Batch,
    /// What changed so far; told to subscribers after the commit.
    pub(super) changes: Vec<Changed>,
    /// A statement since the feed was last emptied may have filled it.
    unread: bool,
    /// Nothing comes after the command that is applied now: it may commit in its own hop.
    pub(super) last: bool,
    committed: bool,
    /// An attempt to commit the same commands may already have succeeded.
    pub(super) redo: bool,
}

/// What a flush found in the feed.
pub(super) struct Fed {
    /// The rows of the statements, by the numbers that `push` gave.
    pub(super) answers: Answers,
    /// The lanes' new heads.
    pub(super) promoted: Vec<Promoted>,
    /// What is in flight now.
    pub(super) claimed: Vec<i64>,
}

impl<'c> Tx<'c> {
    pub(super) fn begin(connection: &'c mut SqliteConnection, redo: bool) -> Self {
        let mut batch = Batch::default();
        batch.push("BEGIN IMMEDIATE");
        Self { connection, batch, changes: Vec::new(), unread: false, last: false, committed: false, redo }
    }

    /// Runs what was gathered and answers its rows, by the numbers that `push` gave.
    pub(super) async fn flush(&mut self) -> Result<Answers, Fault> {
        self.unread = true;
        std::mem::take(&mut self.batch).run(self.connection).await
    }

    /// Runs what was gathered and reads the feed: state changes are kept, the rest is answered.
    pub(super) async fn flush_feed(&mut self) -> Result<Fed, Fault> {
        let first = feed::push(&mut self.batch);
        if self.last {
            self.batch.push("COMMIT");
        }
        let answers = std::mem::take(&mut self.batch).run(self.connection).await?;
        (self.unread, self.committed) = (false, self.last);
        let mut claimed = Vec::new();
        for (seq, change) in feed::all_changed(&answers[first])? {
            if change.state == Some(State::Inflight) {
                claimed.push(seq);
            }
            self.changes.push(change);
        }
        let promoted = answers.get(first + 1).into_iter().flatten().map(feed::promoted).collect::<Result<_, _>>()?;
        Ok(Fed { answers, promoted, claimed })
    }

    /// Keeps what earlier commands of the group promoted from being taken for this one's.
    pub(super) async fn separate(&mut self) -> Result<(), Fault> {
        if self.unread || !self.batch.is_fresh() {
            let last = std::mem::replace(&mut self.last, false);
            self.flush_feed().await?;
            self.last = last;
        }
        Ok(())
    }

    /// Commits and answers what changed.
    pub(super) async fn commit(mut self) -> Result<Vec<Changed>, Fault> {
        if self.committed {
            return Ok(self.changes);
        }
        if !self.unread && self.batch.is_empty() {
            self.batch.push("COMMIT");
            std::mem::take(&mut self.batch).run(self.connection).await?;
            return Ok(self.changes);
        }
        let first = feed::push(&mut self.batch);
        self.batch.push("COMMIT");
        let answers = std::mem::take(&mut self.batch).run(self.connection).await?;
        self.changes.extend(feed::all_changed(&answers[first])?.into_iter().map(|(_, change)| change));
        Ok(self.changes)
    }
}
