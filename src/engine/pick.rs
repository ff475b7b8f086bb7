//! What may be next: reads lane heads, opens them, and lines up their claims.

use std::{sync::Arc, time::Duration};

use super::{
    drain::{Drain, Place, Stage},
    feed::WINDOW,
    keys::KeyHold,
    line::MOST_LINED_UP,
    prepare::{Means, Prepared, Unready, prepare, wire_revision},
    rules::{Allowance, Attempt, Judgement, Next, SLOW_RETRY},
};
use crate::{
    board::{Backoff, Because},
    config::{IfUnknown, Retention},
    entry::{KeyState, WaitingFor},
    error::Result,
    store::{Claim, Head, Keep, Loaded, Verdict},
};

/// After so many acknowledged entries old ones are pruned once nothing is under way: delivery goes before housekeeping, and both write
/// through one connection.
const PRUNE_EVERY: u64 = 1_000;
/// After so many they are pruned beside delivery: what takes so long may take for ever.
const PRUNE_AT_LATEST: u64 = 16_000;
const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

/// A head that may be sent if its row agrees.
struct Candidate {
    kind: String,
    origin: String,
    head: Head,
    probe: bool,
}

impl Drain {
    /// Recovers what a dead process left, and reads what outlives processes.
    pub(super) async fn take_over(&mut self) -> Result<()> {
        let (store, wall) = (self.parts.store.clone(), self.parts.clock.wall());
        store.set_owner(true).await?;
        let recovered = store.recover(wall).await?;
        if recovered > 0 {
            tracing::info!(recovered, "entries were under way when a process of this app ended; they are sent again");
        }
        let now = self.now();
        for (name, left, set_at) in store.floors().await? {
            let passed = u64::try_from(wall.saturating_sub(set_at)).unwrap_or(0);
            let left = Duration::from_millis(left.saturating_sub(passed));
            if !left.is_zero() {
                self.rules.restore(&name, left, now);
            }
            // What is left counts from here: a clock that is set back must not bring it back at every start.
            store.set_floor(&name, u64::try_from(left.as_millis()).unwrap_or(u64::MAX), wall).await?;
        }
        for (account, origin) in store.signed_in().await? {
            self.parts.credentials.expect(&account, &origin);
        }
        self.sweep();
        self.look(true).await?;
        self.parts.board.post_owner(true);
        // What the last run left is pruned as soon as nothing is under way.
        self.acked = PRUNE_EVERY;
        Ok(())
    }

    /// Finds out which endpoints have something pending, and where they go now.
    pub(super) async fn look(&mut self, rewind: bool) -> Result<()> {
        if rewind {
            let pausing = self.parts.board.pausing().await;
            let account = self.parts.store.account().await?;
            self.parts.board.post_account(&account);
            self.paused = self.parts.store.paused().await?;
            self.parts.board.post_paused(self.paused);
            drop(pausing);
            self.belong_to(account);
            self.feeds.clear();
            self.desk.rewound();
            self.stop_unwanted();
            self.stop_paused().await?;
            if self.paused {
                self.stop_all_uploads();
            }
        }
        self.stop_overtaken().await?;
        self.base = self.parts.settings.base_url();
        for endpoint in self.parts.settings.endpoints() {
            if let Some(origin) = endpoint.url.origin(self.base.as_ref()) {
                self.rules.place(&endpoint.kind, &origin);
                self.rules.endpoint(&endpoint.kind).repeats = endpoint.if_unknown == IfUnknown::Retry;
            }
        }
        let mut none = true;
        let (kinds, leftovers) = self.parts.store.pending_kinds().await?;
        if leftovers {
            self.janitor.tidy();
        }
        for (account, kind) in kinds {
            if account == self.account && self.parts.settings.endpoint(&kind).is_some() {
                self.feeds.entry(kind).or_default().more();
                none = false;
            }
        }
        if none && self.places.is_empty() {
            self.rules.forget_all();
        }
        Ok(())
    }

    /// What was learned of one account's key and credentials says nothing of another's.
    fn belong_to(&mut self, account: String) {
        if self.account != account {
            // What is under way of the other one stops: it may go on for hours.
            self.stop_all_uploads();
            self.account = account;
            self.key = KeyHold::default();
            self.asked_for.clear();
            self.announced.clear();
            self.rules.other_account();
        }
    }

    /// Lines up the claims of everything that may begin now. Heads that were replaced meanwhile are no reason to stop looking:
    /// no wake would tell of those behind them.
    pub(super) async fn pick(&mut self) -> Result<()> {
        self.rules.may_line_up = self.bytes_lined_up() < MOST_LINED_UP;
        loop {
            self.release_held();
            let mut candidates = Vec::new();
            if let Err(error) = self.gather(&mut candidates).await {
                self.put_back(candidates);
                return Err(error);
            }
            if candidates.is_empty() || self.line_up_all(candidates).await? {
                return Ok(());
            }
        }
    }

    /// Answers whether there is something to wait for now: a claim, or the key.
    async fn line_up_all(&mut self, candidates: Vec<Candidate>) -> Result<bool> {
        let Some(master) = self.parts.keys.cached(&self.account) else {
            self.ask_for_key();
            self.put_back(candidates);
            return Ok(true);
        };
        self.key.granted();
        let seqs: Vec<i64> = candidates.iter().map(|candidate| candidate.head.seq).collect();
        let rows = match self.parts.store.load(&seqs).await {
            Ok(rows) => rows,
            Err(error) => {
                self.put_back(candidates);
                return Err(error);
            }
        };
        if self.asks_for_a_key_of(&rows) {
            self.put_back(candidates);
            return Ok(true);
        }
        let before = self.claims.len();
        for candidate in candidates {
            // One that backed off belongs to whoever it was enqueued by; it is found again when that account is the current one.
            match rows.iter().find(|row| row.seq == candidate.head.seq && row.account == self.account) {
                Some(row) => self.line_up(candidate, row),
                None => {
                    self.rules.end(&candidate.kind, &candidate.origin, candidate.probe);
                    self.rules.forget(candidate.head.seq);
                }
            }
        }
        let migrated = self.migrate_outdated(&master).await?;
        // Those that were put into a newer form are found again at once.
        Ok(self.claims.len() > before && !migrated)
    }

    /// Takes heads from the feeds in turn, as many as endpoints and origins let through.
    async fn gather(&mut self, candidates: &mut Vec<Candidate>) -> Result<()> {
        let kinds = self.kinds_in_turn();
        loop {
            let before = candidates.len();
            for kind in &kinds {
                let Some(origin) = self.rules.endpoints.get(kind).map(|endpoint| endpoint.origin.clone()) else {
                    continue;
                };
                let now = self.now();
                if self.desk.is_full(kind) || !matches!(self.rules.allowance(kind, &origin, now), Allowance::Some(1..))
                {
                    continue;
                }
                if let Some(head) = self.next_head(kind, candidates).await? {
                    let probe = self.rules.begin(kind, &origin, now);
                    self.last_kind.clone_from(kind);
                    candidates.push(Candidate { kind: kind.clone(), origin, head, probe });
                }
            }
            if candidates.len() == before {
                return Ok(());
            }
        }
    }

    /// All endpoints, from the one behind that which had the last turn: where places come free one by one, none of them takes them all.
    pub(super) fn kinds_in_turn(&self) -> Vec<String> {
        let mut kinds: Vec<String> = self.feeds.keys().cloned().collect();
        let next = kinds.partition_point(|kind| *kind <= self.last_kind);
        kinds.rotate_left(next);
        kinds
    }

    async fn next_head(&mut self, kind: &str, candidates: &[Candidate]) -> Result<Option<Head>> {
        loop {
            let Some(feed) = self.feeds.get_mut(kind) else { return Ok(None) };
            if let Some(after) = feed.wants() {
                let heads = self.parts.store.heads(&self.account, kind, after, WINDOW).await?;
                feed.fill(heads);
            }
            let Some(head) = feed.take() else { return Ok(None) };
            self.desk.looked_at(head.seq);
            let taken = self.places.contains_key(&head.seq)
                || self.waits.contains(head.seq)
                || self.desk.holds(head.seq)
                || candidates.iter().any(|candidate| candidate.head.seq == head.seq);
            if !taken {
                return Ok(Some(head));
            }
        }
    }

    fn put_back(&mut self, candidates: Vec<Candidate>) {
        for candidate in candidates {
            self.rules.end(&candidate.kind, &candidate.origin, candidate.probe);
            self.feeds.entry(candidate.kind).or_default().push(candidate.head);
        }
    }

    fn line_up(&mut self, candidate: Candidate, row: &Loaded) {
        let Candidate { kind, origin, head, probe } = candidate;
        let endpoint = self.parts.settings.endpoint(&kind);
        // The current one, or one that a rotation has not done with.
        let master = self.parts.keys.of_id(&self.account, &row.payload.key_id);
        if master.is_none() && self.parts.keys.cached(&self.account).is_none() {
            // Somebody has just signed out. Should the account be back by the next look, the key is asked for again.
            self.rules.end(&kind, &origin, probe);
            self.feeds.entry(kind).or_default().push(head);
            return;
        }
        let prepared = match (endpoint, master) {
            (Some(endpoint), Some(master)) => {
                let (device, wall) = (self.parts.store.device(), self.parts.clock.wall());
                prepare(row, &Means { endpoint, base: self.base.as_ref(), master: &master, device, wall })
            }
            (None, _) => Err(Unready::Wait(WaitingFor::Endpoint)),
            (_, None) => Err(Unready::Wait(WaitingFor::Keychain { key: KeyState::Mismatch })),
        };
        match prepared {
            Ok(prepared) if prepared.attempt.origin == origin => self.claim(head, prepared, probe),
            Ok(prepared) => {
                self.rules.end(&kind, &origin, probe);
                self.claim_elsewhere(kind, head, prepared);
            }
            Err(Unready::Wait(waiting)) => {
                self.rules.end(&kind, &origin, probe);
                let now = self.now();
                self.park(kind, head, now + SLOW_RETRY, now, Backoff::For(waiting));
            }
            Err(Unready::Fail { reason, possibly_sent, error }) => {
                let judgement = Judgement {
                    verdict: Verdict::Failed { reason, possibly_sent },
                    attempted: false,
                    status: None,
                    error: Some(error),
                    next: Next::Gone,
                    floor: None,
                    restored: false,
                };
                self.doom(head, row, kind, origin, probe, judgement);
            }
            // What never came to be on the server need not be taken from it.
            Err(Unready::Done) => {
                let verdict = Verdict::Acked { canonical_id: None, revision: None, etag: None };
                let judgement = Judgement {
                    verdict,
                    attempted: false,
                    status: None,
                    error: None,
                    next: Next::Gone,
                    floor: None,
                    restored: false,
                };
                self.doom(head, row, kind, origin, probe, judgement);
            }
            Err(Unready::Outdated) => {
                self.rules.end(&kind, &origin, probe);
                self.outdated.push((kind, head, row.clone()));
            }
        }
    }

    fn claim(&mut self, head: Head, mut prepared: Prepared, probe: bool) {
        prepared.attempt.probe = probe;
        if prepared.file.as_ref().is_some_and(|file| file.is_large()) {
            let origin = prepared.attempt.origin.clone();
            if !self.rules.takes_upload(&origin) {
                self.rules.end(&prepared.attempt.kind, &origin, probe);
                return self.desk.hold(prepared.attempt.kind, origin, head);
            }
            self.rules.begin_upload(&origin);
            prepared.attempt.upload = true;
        }
        let (seq, attempt) = (head.seq, prepared.attempt.clone());
        self.claims.push(prepared.claim.clone());
        self.places.insert(seq, Place { head, attempt, stage: Stage::Claiming(Box::new(prepared)) });
    }

    /// Its frozen request goes to another origin than its endpoint does by now: that origin decides.
    fn claim_elsewhere(&mut self, kind: String, head: Head, prepared: Prepared) {
        let (now, origin) = (self.now(), prepared.attempt.origin.clone());
        self.rules.origin(&origin);
        match self.rules.allowance(&kind, &origin, now) {
            Allowance::Some(_) => {
                let probe = self.rules.begin(&kind, &origin, now);
                self.claim(head, prepared, probe);
            }
            Allowance::None { until } => {
                let due = until.unwrap_or(now + Duration::from_secs(1));
                // No hold of its endpoint says so: those are of the origin that it goes to by now.
                let why = match self.rules.shut_at(&origin) {
                    Some(Because::Auth) => Backoff::For(WaitingFor::Auth { origin }),
                    Some(Because::Offline) => Backoff::For(WaitingFor::Offline { origin }),
                    _ => Backoff::Until(due),
                };
                self.park(kind, head, due, now, why);
            }
        }
    }

    /// A row that must not be sent is claimed like any other, so that no one else touches it, and failed in the next commit.
    fn doom(&mut self, head: Head, row: &Loaded, kind: String, origin: String, probe: bool, judgement: Judgement) {
        let revision = wire_revision(row);
        // A claim freezes a request; there is none yet if nothing of it could ever be sent. Should the process end before it is
        // settled, recovery knows by this that nothing was sent.
        let request = row.request.is_none().then(|| vec![u8::from(row.possibly_sent)]);
        self.claims.push(Claim { seq: head.seq, generation: row.payload.generation, revision, request });
        let attempt = Attempt {
            seq: head.seq,
            lane: row.lane.unwrap_or(-row.seq),
            kind,
            origin,
            was_possibly_sent: row.possibly_sent,
            attempts: row.attempts,
            if_unknown: IfUnknown::Hold,
            version: 0,
            foreign: false,
            probe,
            renewed: None,
            upload: false,
            unfinished: false,
            askable: false,
            standing: Arc::default(),
        };
        self.places.insert(head.seq, Place { head, attempt, stage: Stage::Doomed(Box::new(judgement)) });
    }

    /// Old acknowledged entries go, a bounded number per commit, beside delivery.
    fn prune(&mut self) {
        self.acked = 0;
        let (store, clock) = (self.parts.store.clone(), Arc::clone(&self.parts.clock));
        let keep = keep(&self.parts.settings.retention);
        tokio::spawn(async move {
            loop {
                match store.prune(keep, clock.wall()).await {
                    Ok(true) => {}
                    Ok(false) => return,
                    Err(error) => return tracing::debug!(%error, "old entries were not pruned this time"),
                }
            }
        });
    }

    pub(super) fn prune_if_many(&mut self) {
        let due = if self.is_idle() { PRUNE_EVERY } else { PRUNE_AT_LATEST };
        if self.acked >= due && !self.is_exiting() {
            self.prune();
        }
    }
}

fn keep(retention: &Retention) -> Keep {
    let ms = |days: u32| i64::from(days) * DAY_MS;
    Keep {
        newest: retention.settled,
        settled_ms: ms(retention.settled_days),
        lost_ms: ms(retention.lost_days),
        lanes_ms: ms(retention.lanes_days),
        mappings_ms: ms(retention.mappings_days),
        tombstones_ms: ms(retention.tombstones_days),
    }
}
