//! One commit for what finished and what begins, and what follows from it.

use std::time::Duration;

use super::{
    drain::{DATABASE_REST, Drain, Place, Stage},
    rules::{Judgement, Next},
};
use crate::{
    board::Backoff,
    entry::WaitingFor,
    error::{Error, Result},
    store::{Claim, Done, Settle, Verdict},
};

/// How long a settlement waits for others while the wire is busy.
const GATHER: Duration = Duration::from_millis(10);
/// So many settlements are worth a commit.
const ENOUGH: usize = 64;

impl Drain {
    pub(super) fn begin_commit(&mut self) {
        let nothing = self.claims.is_empty() && self.settles.is_empty() && self.floors.is_empty();
        if nothing || self.committing.is_some() || self.rest_until.is_some() || self.gathers() {
            return;
        }
        self.gather_until = None;
        self.carried = (std::mem::take(&mut self.claims), std::mem::take(&mut self.settles));
        let (claims, settles) = self.carried.clone();
        let floors = std::mem::take(&mut self.floors);
        let (store, wall) = (self.parts.store.clone(), self.parts.clock.wall());
        self.rules.commit_begins();
        self.committing = Some(Box::pin(async move {
            for (name, left) in floors {
                let left = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
                store.set_floor(&name, left, wall).await?;
            }
            store.advance(settles, claims, wall).await
        }));
    }

    /// While the claims of the last commit keep the wire busy there is no hurry: the next one then carries more.
    pub(super) fn gathers(&self) -> bool {
        let only_settles = self.claims.is_empty() && self.floors.is_empty() && self.settles.len() < ENOUGH;
        let waits = self.gather_until.is_some_and(|until| until > self.now());
        only_settles && waits && !self.paused && !self.is_exiting() && self.rules.lasts(self.lines.lengths())
    }

    pub(super) fn committed(&mut self, done: Result<Done>) {
        let (claims, settles) = std::mem::take(&mut self.carried);
        let done = match done {
            Ok(done) => done,
            Err(error) => return self.not_committed(claims, settles, &error),
        };
        self.rests = 0;
        self.rules.commit_ends();
        for settle in settles {
            self.settled(settle.seq);
        }
        for claim in claims {
            if done.claimed.contains(&claim.seq) {
                self.claimed(claim.seq);
            } else {
                self.give_back(claim.seq);
            }
        }
        for promoted in done.promoted {
            if promoted.account == self.account {
                self.feeds.entry(promoted.kind).or_default().push(promoted.head);
            }
        }
    }

    /// What could not be claimed is not sent; what could not be settled is settled at the next commit. Whether the commit is on disk
    /// after all is not known, so what it claimed is given up there too: that does nothing to a row that is not in flight.
    pub(super) fn not_committed(&mut self, claims: Vec<Claim>, settles: Vec<Settle>, error: &Error) {
        for claim in claims {
            self.unclaim(claim.seq);
        }
        self.settles.splice(0..0, settles);
        // Which lanes go on is told by a commit once, and that may have been this one.
        self.missed_look = Some(true);
        self.rest(error);
    }

    /// Nothing is sent although it is claimed, or may be.
    pub(super) fn unclaim(&mut self, seq: i64) {
        let Some(Place { attempt, .. }) = self.places.get(&seq) else { return };
        self.rules.over(attempt);
        let judgement = Judgement::unsent(attempt.was_possibly_sent);
        self.settle(seq, judgement);
    }

    fn claimed(&mut self, seq: i64) {
        let now = self.now();
        let Some(place) = self.places.get_mut(&seq) else { return };
        match std::mem::replace(&mut place.stage, Stage::Sent) {
            Stage::Claiming(prepared) => {
                place.stage = Stage::Lined(prepared);
                if place.attempt.upload {
                    self.send_upload(seq);
                } else {
                    self.lines.push(&place.attempt, now);
                }
            }
            Stage::Doomed(judgement) => {
                let attempt = place.attempt.clone();
                self.rules.over(&attempt);
                self.settle(seq, *judgement);
            }
            stage => place.stage = stage,
        }
    }

    /// The row was replaced, edited or discarded: nothing was sent. Should it be there after all, the next load finds it.
    fn give_back(&mut self, seq: i64) {
        let Some(Place { head, attempt, .. }) = self.places.remove(&seq) else { return };
        self.rules.over(&attempt);
        let due = self.now() + DATABASE_REST;
        self.park(attempt.kind, head, due, due, Backoff::For(WaitingFor::Turn));
    }

    pub(super) fn settle(&mut self, seq: i64, mut judgement: Judgement) {
        let now = self.now();
        let Some(place) = self.places.get_mut(&seq) else { return };
        self.floors.extend(judgement.floor.take());
        if let Next::Wait { due, .. } = judgement.next {
            // Before the commit: whoever hears of it and looks must find why the entry waits.
            self.parts.board.post_backoff(seq, Some(Backoff::Until(due)));
        }
        self.gather_until.get_or_insert(now + GATHER);
        self.settles.push(Settle {
            seq,
            status: judgement.status,
            error: judgement.error.clone(),
            attempted: judgement.attempted,
            verdict: judgement.verdict.clone(),
            restored: judgement.restored,
        });
        place.stage = Stage::Settling(Box::new(judgement));
    }

    /// What came back before something outside changed waits no longer for it than what is settled already.
    pub(super) fn nudge_settling(&mut self, now: Duration) {
        for (seq, place) in &mut self.places {
            if let Stage::Settling(judgement) = &mut place.stage
                && let Next::Wait { due, floor } = &mut judgement.next
            {
                *due = now.max(*floor);
                self.parts.board.post_backoff(*seq, Some(Backoff::Until(*due)));
            }
        }
    }

    fn settled(&mut self, seq: i64) {
        let Some(Place { head, attempt, stage: Stage::Settling(judgement) }) = self.places.remove(&seq) else { return };
        if attempt.upload {
            // Its file may not be needed any more, and nothing else may come to tell.
            self.janitor.tidy();
        }
        match judgement.next {
            Next::Gone => {
                self.rules.forget(seq);
                self.parts.board.post_backoff(seq, None);
                self.acked += u64::from(matches!(judgement.verdict, Verdict::Acked { .. }));
            }
            Next::Queue => self.feeds.entry(attempt.kind).or_default().push(head),
            Next::Wait { due, floor } => self.park(attempt.kind, head, due, floor, Backoff::Until(due)),
        }
    }
}
