//! The loop of the owner: takes wakes and answers, picks what may be next, commits claims and settlements together.

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::task::JoinSet;
use url::Url;

use super::{
    Parts,
    attempt::{Finished, Sent, send},
    feed::{Feed, Waits},
    keys::KeyHold,
    prepare::Prepared,
    rules::{Allowance, Attempt, Judgement, Next, Rules},
};
use crate::{
    board::Backoff,
    entry::WaitingFor,
    error::Error,
    store::{Claim, Done, Head, Settle, Verdict},
    wake::{Wake, Wakes},
};

/// Wakes from outside that come faster than this are one.
const DEBOUNCE: Duration = Duration::from_secs(1);
/// How long delivery rests after the database answered an error.
const DATABASE_REST: Duration = Duration::from_secs(1);

type Committing = Pin<Box<dyn Future<Output = crate::error::Result<Done>> + Send>>;

/// An entry between its claim and its settlement.
pub(super) struct Place {
    pub head: Head,
    pub attempt: Attempt,
    pub stage: Stage,
}

pub(super) enum Stage {
    /// Its claim waits for the next commit, or is in it.
    Claiming(Box<Prepared>),
    /// As above, but it is claimed only to be failed.
    Doomed(Box<Judgement>),
    /// On the wire.
    Sent,
    /// Its settlement waits for the next commit, or is in it.
    Settling(Box<Judgement>),
}

pub(super) struct Drain {
    pub(super) parts: Parts,
    pub(super) rules: Rules,
    pub(super) feeds: BTreeMap<String, Feed>,
    pub(super) waits: Waits,
    pub(super) places: HashMap<i64, Place>,
    pub(super) claims: Vec<Claim>,
    pub(super) settles: Vec<Settle>,
    pub(super) floors: Vec<(String, Duration)>,
    pub(super) key: KeyHold,
    pub(super) account: String,
    pub(super) base: Option<Url>,
    pub(super) paused: bool,
    pub(super) acked: u64,
    sent: JoinSet<Finished>,
    committing: Option<Committing>,
    /// What the commit under way carries, to be put back if it fails.
    carried: (Vec<Claim>, Vec<Settle>),
    rest_until: Option<Duration>,
    nudged: Option<Duration>,
    nudge_due: Option<Duration>,
    exiting: bool,
    flush: u64,
    turns: Arc<AtomicU64>,
}

impl Drain {
    pub(super) fn new(parts: Parts, turns: Arc<AtomicU64>) -> Self {
        Self {
            rules: Rules::new(&parts.settings.retry, Arc::clone(&parts.random)),
            feeds: BTreeMap::new(),
            waits: Waits::default(),
            places: HashMap::new(),
            claims: Vec::new(),
            settles: Vec::new(),
            floors: Vec::new(),
            key: KeyHold::default(),
            account: String::new(),
            base: None,
            paused: false,
            acked: 0,
            sent: JoinSet::new(),
            committing: None,
            carried: Default::default(),
            rest_until: None,
            nudged: None,
            nudge_due: None,
            exiting: false,
            flush: 0,
            turns,
            parts,
        }
    }

    /// Delivers until the app exits.
    pub(super) async fn run(mut self) {
        while let Err(error) = self.take_over().await {
            if matches!(error, Error::Closed) {
                return;
            }
            tracing::warn!(%error, "storage-sync can't take over delivery yet");
            let rest = self.now() + DATABASE_REST;
            tokio::select! {
                () = self.parts.clock.sleep_until(rest) => {}
                wakes = self.parts.wake.wait() => if wakes.has(Wake::Exit) { return },
            }
        }
        // Asked for while nobody delivered here; everything is due now anyway.
        self.flush = self.parts.board.requested_flush();
        while !(self.exiting && self.is_idle()) {
            self.turns.fetch_add(1, Ordering::Relaxed);
            self.turn().await;
        }
    }

    async fn turn(&mut self) {
        let wakes = self.parts.wake.take();
        self.absorb(wakes).await;
        self.release_due();
        self.prune_if_many();
        if self.may_pick()
            && let Err(error) = self.pick().await
        {
            self.rest(&error);
        }
        self.begin_commit();
        self.publish();
        if self.is_idle() && self.flush > 0 {
            self.parts.board.post_flushed(std::mem::take(&mut self.flush));
        }
        if self.exiting && self.is_idle() {
            return;
        }
        self.wait().await;
    }

    async fn wait(&mut self) {
        let due = self.next_due();
        let sleep = due.map(|due| self.parts.clock.sleep_until(due));
        tokio::select! {
            biased;
            Some(finished) = self.sent.join_next(), if !self.sent.is_empty() => {
                self.finished(finished);
                while let Some(finished) = self.sent.try_join_next() {
                    self.finished(finished);
                }
            }
            done = async { self.committing.as_mut().expect("guarded by the branch's condition").await }, if self.committing.is_some() => {
                self.committing = None;
                self.committed(done);
            }
            answer = self.key.answer(), if self.key.is_asking() => {
                self.key_answered(answer);
            }
            wakes = self.parts.wake.wait() => self.absorb(wakes).await,
            () = async { sleep.expect("guarded by the branch's condition").await }, if due.is_some() => {}
        }
    }

    pub(super) fn now(&self) -> Duration {
        self.parts.clock.now()
    }

    fn may_pick(&mut self) -> bool {
        let now = self.now();
        if self.rest_until.is_some_and(|until| until <= now) {
            self.rest_until = None;
        }
        !self.exiting && !self.paused && self.rest_until.is_none() && !self.key.holds(now)
    }

    /// Nothing is under way and nothing was found that may begin.
    fn is_idle(&self) -> bool {
        self.places.is_empty() && self.committing.is_none() && self.settles.is_empty() && !self.key.is_asking()
    }

    async fn absorb(&mut self, wakes: Wakes) {
        if wakes == Wakes::default() {
            return;
        }
        let now = self.now();
        self.exiting |= wakes.has(Wake::Exit);
        if wakes.has(Wake::Flush) {
            self.flush = self.parts.board.requested_flush();
        }
        if wakes.has(Wake::Flush) || wakes.has(Wake::Retry) {
            self.nudge(now);
        } else if wakes.clears_backoff() {
            match self.nudged {
                Some(last) if now < last + DEBOUNCE => self.nudge_due = Some(last + DEBOUNCE),
                _ => self.nudge(now),
            }
        }
        if wakes.has(Wake::Keychain) || wakes.clears_backoff() {
            self.key.nudge();
        }
        if wakes.has(Wake::Credentials) || wakes.clears_backoff() {
            let origins: Vec<String> = self.rules.origins.keys().cloned().collect();
            for origin in origins {
                self.rules.credentials(&origin, self.parts.credentials.version(&self.account, &origin));
            }
        }
        if self.paused && wakes == Wakes::of(Wake::Enqueued) {
            // Whatever came is found when delivery resumes.
            return;
        }
        let rewind = [Wake::Changed, Wake::Retry, Wake::Others, Wake::Paused].into_iter().any(|wake| wakes.has(wake));
        if let Err(error) = self.look(rewind).await {
            self.rest(&error);
        }
    }

    pub(super) fn nudge(&mut self, now: Duration) {
        self.nudged = Some(now);
        self.nudge_due = None;
        self.rules.nudge(now);
        self.waits.nudge(now);
    }

    /// Entries whose own backoff is over line up again.
    fn release_due(&mut self) {
        let now = self.now();
        if self.nudge_due.is_some_and(|due| due <= now) {
            self.nudge(now);
        }
        while let Some(waiting) = self.waits.take_due(now) {
            self.parts.board.post_backoff(waiting.head.seq, None);
            self.feeds.entry(waiting.kind).or_default().push(waiting.head);
        }
    }

    fn begin_commit(&mut self) {
        let nothing = self.claims.is_empty() && self.settles.is_empty() && self.floors.is_empty();
        if nothing || self.committing.is_some() || self.rest_until.is_some() {
            return;
        }
        self.carried = (std::mem::take(&mut self.claims), std::mem::take(&mut self.settles));
        let (claims, settles) = self.carried.clone();
        let floors = std::mem::take(&mut self.floors);
        let (store, wall) = (self.parts.store.clone(), self.parts.clock.wall());
        self.committing = Some(Box::pin(async move {
            for (name, left) in floors {
                let left = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
                store.set_floor(&name, left, wall).await?;
            }
            store.advance(settles, claims, wall).await
        }));
    }

    fn committed(&mut self, done: crate::error::Result<Done>) {
        let (claims, settles) = std::mem::take(&mut self.carried);
        let done = match done {
            Ok(done) => done,
            Err(error) => return self.not_committed(claims, settles, &error),
        };
        for settle in settles {
            self.settled(settle.seq);
        }
        for claim in claims {
            if done.claimed.contains(&claim.seq) {
                self.claimed(claim.seq);
            } else {
                self.give_back(claim.seq, false);
            }
        }
        for promoted in done.promoted {
            if promoted.account == self.account {
                self.feeds.entry(promoted.kind).or_default().push(promoted.head);
            }
        }
    }

    /// What could not be claimed is not sent; what could not be settled is settled at the next commit.
    fn not_committed(&mut self, claims: Vec<Claim>, settles: Vec<Settle>, error: &Error) {
        for claim in claims {
            self.give_back(claim.seq, true);
        }
        self.settles.splice(0..0, settles);
        self.rest(error);
    }

    pub(super) fn rest(&mut self, error: &Error) {
        tracing::warn!(%error, "storage-sync's database did not answer as it should; delivery rests for a moment");
        self.exiting |= matches!(error, Error::Closed);
        self.rest_until = Some(self.now() + DATABASE_REST);
    }

    fn claimed(&mut self, seq: i64) {
        let Some(place) = self.places.get_mut(&seq) else { return };
        match std::mem::replace(&mut place.stage, Stage::Sent) {
            Stage::Claiming(prepared) => {
                let (transport, credentials) = (Arc::clone(&self.parts.transport), self.parts.credentials.clone());
                self.sent.spawn(send(*prepared, transport, credentials));
            }
            Stage::Doomed(judgement) => {
                let attempt = place.attempt.clone();
                self.rules.end(&attempt.kind, &attempt.origin, attempt.probe);
                self.settle(seq, *judgement);
            }
            stage => place.stage = stage,
        }
    }

    /// The row was replaced, edited, discarded, or the commit failed: nothing was sent.
    pub(super) fn give_back(&mut self, seq: i64, again: bool) {
        let Some(place) = self.places.remove(&seq) else { return };
        self.rules.end(&place.attempt.kind, &place.attempt.origin, place.attempt.probe);
        if again {
            self.feeds.entry(place.attempt.kind).or_default().push(place.head);
        }
    }

    fn finished(&mut self, finished: Result<Finished, tokio::task::JoinError>) {
        // The task catches the transport's panics, so it can only be cancelled, and only with this loop.
        let Ok(finished) = finished else { return };
        let now = self.now();
        let Some(place) = self.places.get_mut(&finished.seq) else { return };
        place.attempt.version = finished.version;
        let judgement = match finished.result {
            Sent::Answered { answer, renewed } => {
                place.attempt.renewed = renewed;
                self.rules.judge(&place.attempt, &answer, now)
            }
            Sent::NoCredentials { why } => {
                let attempt = &place.attempt;
                self.rules.end(&attempt.kind, &attempt.origin, attempt.probe);
                self.rules.await_credentials(&attempt.origin, finished.version, now);
                Judgement {
                    verdict: Verdict::Unsent { was_possibly_sent: attempt.was_possibly_sent },
                    attempted: false,
                    status: None,
                    error: Some(why),
                    next: Next::Queue,
                    floor: None,
                }
            }
        };
        self.settle(finished.seq, judgement);
    }

    pub(super) fn settle(&mut self, seq: i64, mut judgement: Judgement) {
        let Some(place) = self.places.get_mut(&seq) else { return };
        self.floors.extend(judgement.floor.take());
        self.settles.push(Settle {
            seq,
            status: judgement.status,
            error: judgement.error.clone(),
            attempted: judgement.attempted,
            verdict: judgement.verdict.clone(),
        });
        place.stage = Stage::Settling(Box::new(judgement));
    }

    fn settled(&mut self, seq: i64) {
        let Some(Place { head, attempt, stage: Stage::Settling(judgement) }) = self.places.remove(&seq) else { return };
        match judgement.next {
            Next::Gone => {
                self.parts.board.post_backoff(seq, None);
                self.acked += u64::from(matches!(judgement.verdict, Verdict::Acked { .. }));
            }
            Next::Queue => self.feeds.entry(attempt.kind).or_default().push(head),
            Next::Wait { due, floor } => self.park(attempt.kind, head, due, floor, Backoff::Until(due)),
        }
    }

    /// An entry waits on its own account.
    pub(super) fn park(&mut self, kind: String, head: Head, due: Duration, floor: Duration, why: Backoff) {
        self.parts.board.post_backoff(head.seq, Some(why));
        self.waits.insert(kind, head, due, floor);
    }

    fn publish(&self) {
        let everything = self.key.state().map(|key| WaitingFor::Keychain { key });
        self.parts.board.post_holds(self.rules.holds(), everything);
    }

    /// The next moment at which something may be done without a wake. With nothing waiting there is none.
    fn next_due(&mut self) -> Option<Duration> {
        let now = self.now();
        let mut due = [self.waits.next_due(), self.nudge_due, self.rest_until].into_iter().flatten().min();
        if self.paused || self.exiting {
            return self.rest_until;
        }
        let mut earlier = |at: Duration| due = Some(due.map_or(at, |due: Duration| due.min(at)));
        if let Some(at) = self.key.due() {
            earlier(at);
        }
        for (kind, feed) in &self.feeds {
            let Some(origin) = self.rules.endpoints.get(kind).map(|endpoint| endpoint.origin.as_str()) else {
                continue;
            };
            if feed.may_have()
                && let Allowance::None { until: Some(at) } = self.rules.allowance(kind, origin, now)
            {
                earlier(at);
            }
        }
        due
    }
}
