//! The loop of the owner: takes wakes and answers, picks what may be next, commits claims and settlements together.

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use tokio::task::JoinSet;
use url::Url;

use super::{
    Parts,
    attempt::{Finished, Sent},
    feed::{Feed, Waits},
    keys::KeyHold,
    line::Lines,
    prepare::Prepared,
    pulse::{Pulse, Rest},
    rules::{Allowance, Attempt, Judgement, Rules},
    tidy::Janitor,
    uploads::UploadDesk,
};
use crate::{
    board::{Backoff, Because},
    entry::{AuthRequired, WaitingFor},
    error::Error,
    spool::Spool,
    store::{Claim, Done, Head, Loaded, Settle, Verdict},
    transport::Outcome,
    wake::{Wake, Wakes},
};

/// Wakes from outside that come faster than this are one.
const DEBOUNCE: Duration = Duration::from_secs(1);
/// How long delivery rests after the database answered an error; twice as long after each further one.
pub(super) const DATABASE_REST: Duration = Duration::from_secs(1);
/// So often it becomes twice as long: up to about a minute.
const LONGEST_REST: u32 = 6;

pub(super) type Committing = Pin<Box<dyn Future<Output = crate::error::Result<Done>> + Send>>;

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
    /// It is claimed and waits for its turn on the wire.
    Lined(Box<Prepared>),
    /// On the wire.
    Sent,
    /// Its settlement waits for the next commit, or is in it.
    Settling(Box<Judgement>),
}

/// A refusal of credentials that was told.
pub(super) struct Announced {
    version: u64,
    /// Which one it was.
    number: u64,
}

pub(super) struct Drain {
    pub(super) parts: Parts,
    pub(super) rules: Rules,
    pub(super) spool: Spool,
    pub(super) desk: UploadDesk,
    pub(super) janitor: Janitor,
    pub(super) feeds: BTreeMap<String, Feed>,
    /// The endpoint that had the last turn.
    pub(super) last_kind: String,
    pub(super) waits: Waits,
    pub(super) places: HashMap<i64, Place>,
    pub(super) claims: Vec<Claim>,
    pub(super) lines: Lines,
    /// Entries whose payload has an older form than their endpoint takes.
    pub(super) outdated: Vec<(String, Head, Loaded)>,
    pub(super) settles: Vec<Settle>,
    pub(super) floors: Vec<(String, Duration)>,
    pub(super) key: KeyHold,
    /// Ids of keys that were not known, and when the source was asked again for each.
    pub(super) asked_for: HashMap<[u8; 16], Duration>,
    pub(super) account: String,
    pub(super) base: Option<Url>,
    pub(super) paused: bool,
    /// Acknowledged since the last pruning.
    pub(super) acked: u64,
    pub(super) sent: JoinSet<Finished>,
    pub(super) committing: Option<Committing>,
    /// What the commit under way carries, to be put back if it fails.
    pub(super) carried: (Vec<Claim>, Vec<Settle>),
    /// Until when the next commit may wait for more to carry.
    pub(super) gather_until: Option<Duration>,
    pub(super) rest_until: Option<Duration>,
    /// Errors of the database in a row.
    pub(super) rests: u32,
    /// A look at the database failed, and whether it was to read everything anew: it is made up for after the rest.
    pub(super) missed_look: Option<bool>,
    /// The credentials whose refusal was told, by origin.
    pub(super) announced: HashMap<String, Announced>,
    closed: bool,
    nudged: Option<Duration>,
    nudge_due: Option<Duration>,
    exiting: bool,
    flush: u64,
    pulse: Arc<Pulse>,
}

impl Drain {
    pub(super) fn new(parts: Parts, pulse: Arc<Pulse>) -> Self {
        let mut rules = Rules::new(&parts.settings.retry, Arc::clone(&parts.random));
        rules.provided = parts.credentials.has_provider();
        let spool = Spool::new(&parts.folder);
        Self {
            rules,
            janitor: Janitor::new(&spool, &parts),
            desk: UploadDesk::default(),
            spool,
            feeds: BTreeMap::new(),
            last_kind: String::new(),
            waits: Waits::default(),
            places: HashMap::new(),
            claims: Vec::new(),
            lines: Lines::default(),
            outdated: Vec::new(),
            settles: Vec::new(),
            floors: Vec::new(),
            key: KeyHold::default(),
            asked_for: HashMap::new(),
            account: String::new(),
            base: None,
            paused: false,
            acked: 0,
            sent: JoinSet::new(),
            committing: None,
            carried: Default::default(),
            gather_until: None,
            rest_until: None,
            rests: 0,
            missed_look: None,
            announced: HashMap::new(),
            closed: false,
            nudged: None,
            nudge_due: None,
            exiting: false,
            flush: 0,
            pulse,
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
        while !(self.closed || self.exiting && self.is_idle()) {
            self.pulse.turn();
            self.turn().await;
        }
    }

    pub(super) async fn turn(&mut self) {
        let wakes = self.parts.wake.take();
        self.absorb(wakes).await;
        self.send_lined_up();
        self.release_due();
        self.end_rest().await;
        if self.may_pick()
            && let Err(error) = self.pick().await
        {
            self.rest(&error);
        }
        self.begin_commit();
        self.prune_if_many();
        let required = self.newly_refused();
        self.publish();
        // After the status shows it: whoever hears of it looks there.
        required.into_iter().for_each(|required| self.parts.board.post_auth(required));
        if self.is_idle() && self.flush > 0 {
            self.parts.board.post_flushed(std::mem::take(&mut self.flush));
        }
        if self.closed || self.exiting && self.is_idle() {
            return;
        }
        self.wait().await;
    }

    async fn wait(&mut self) {
        let due = self.next_due();
        let sleep = due.map(|due| self.parts.clock.sleep_until(due));
        if self.committing.is_none() && !self.key.is_asking() {
            self.pulse.at_rest(Rest { under_way: self.sent.len(), gathers: !self.settles.is_empty() });
        }
        tokio::select! {
            biased;
            Some(finished) = self.sent.join_next(), if !self.sent.is_empty() => {
                self.finished(finished);
                while let Some(finished) = self.sent.try_join_next() {
                    self.finished(finished);
                }
            }
            seq = self.desk.next_reached() => self.upload_reached(seq),
            done = async { self.committing.as_mut().expect("guarded by the branch's condition").await }, if self.committing.is_some() => {
                self.committing = None;
                self.committed(done);
            }
            answer = self.key.answer(), if self.key.is_asking() => {
                self.key_answered(answer);
            }
            wakes = self.parts.wake.wait() => {
                self.pulse.at_work();
                self.absorb(wakes).await;
            }
            () = async { sleep.expect("guarded by the branch's condition").await }, if due.is_some() => {}
        }
    }

    pub(super) fn now(&self) -> Duration {
        self.parts.clock.now()
    }

    pub(super) fn is_exiting(&self) -> bool {
        self.exiting
    }

    fn may_pick(&mut self) -> bool {
        // Somebody else may have had the key from its source meanwhile.
        if self.parts.keys.cached(&self.account).is_some() {
            self.key.granted();
        }
        // What is read while a commit is under way waits for the next one anyway; after it, as much again is read at once.
        let free = self.committing.is_none() && self.rest_until.is_none() && !self.gathers();
        // Rows do not say yet that a copy of this database may have sent them.
        let free = free && !self.settles.iter().any(|settle| settle.restored);
        let may = !self.exiting && !self.paused && self.parts.board.may_send(&self.account);
        free && may && !self.key.holds(self.now())
    }

    /// After a rest, what could not be read is read.
    async fn end_rest(&mut self) {
        let now = self.now();
        if self.rest_until.is_none_or(|until| until > now) {
            return;
        }
        self.rest_until = None;
        if let Some(rewind) = self.missed_look {
            self.look_or_rest(rewind).await;
        }
    }

    async fn look_or_rest(&mut self, rewind: bool) {
        let rewind = rewind || self.missed_look == Some(true);
        self.missed_look = None;
        if let Err(error) = self.look(rewind).await {
            self.missed_look = Some(rewind);
            self.rest(&error);
        }
    }

    /// Nothing is under way and nothing was found that may begin. An exit does not wait for a prompt.
    pub(super) fn is_idle(&self) -> bool {
        let asking = self.key.is_asking() && !self.exiting;
        self.places.is_empty() && self.committing.is_none() && self.settles.is_empty() && !asking
    }

    async fn absorb(&mut self, wakes: Wakes) {
        if wakes == Wakes::default() {
            return;
        }
        let now = self.now();
        if wakes.has(Wake::Exit) {
            self.exiting = true;
            // Others finish soon; these may go on for hours, and are taken up where they are.
            self.stop_all_uploads();
        }
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
            self.asked_for.clear();
        }
        if wakes.has(Wake::Others) {
            self.parts.board.post_others();
        }
        if self.paused && wakes == Wakes::of(Wake::Enqueued) {
            // Whatever came is found when delivery resumes.
            return;
        }
        if wakes.has(Wake::Changed) {
            // What they were made of may be another by now.
            self.give_back_lined_up();
        }
        let rewind = [Wake::Changed, Wake::Retry, Wake::Others, Wake::Paused].into_iter().any(|wake| wakes.has(wake));
        self.look_or_rest(rewind).await;
        // After the look: the account may be another one by now.
        if wakes.has(Wake::Credentials) || wakes.clears_backoff() {
            let origins: Vec<String> = self.rules.origins.keys().cloned().collect();
            origins.iter().for_each(|origin| self.look_for_credentials(origin));
        }
    }

    /// Newer ones than those that were refused let the origin go on.
    fn look_for_credentials(&mut self, origin: &str) {
        self.rules.credentials(origin, self.parts.credentials.version(&self.account, origin));
    }

    fn nudge(&mut self, now: Duration) {
        self.nudged = Some(now);
        self.nudge_due = None;
        self.rules.nudge(now);
        self.waits.nudge(now);
        self.nudge_settling(now);
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

    pub(super) fn rest(&mut self, error: &Error) {
        tracing::warn!(%error, "storage-sync's database did not answer as it should; delivery rests for a moment");
        self.closed |= matches!(error, Error::Closed);
        if self.rest_until.is_none() {
            self.rest_until = Some(self.now() + DATABASE_REST * 2_u32.pow(self.rests.min(LONGEST_REST)));
            self.rests += 1;
        }
    }

    fn finished(&mut self, finished: Result<Finished, tokio::task::JoinError>) {
        // The task catches the transport's panics, so it can only be cancelled, and only with this loop.
        let Ok(finished) = finished else { return };
        let now = self.now();
        let unwanted = self.upload_ended(finished.seq);
        let Some(place) = self.places.get_mut(&finished.seq) else { return };
        place.attempt.version = finished.version;
        place.attempt.foreign = finished.account != self.account;
        if finished.ahead {
            // What gets ahead has nothing to wait for.
            place.attempt.attempts = 0;
        }
        place.attempt.askable = finished.askable;
        place.attempt.unfinished = finished.is_unfinished() && !place.attempt.was_possibly_sent;
        let origin = place.attempt.origin.clone();
        let (judgement, without_credentials) = match finished.result {
            Sent::Answered { answer, renewed } => {
                place.attempt.renewed = renewed;
                let refused = matches!(answer.outcome, Outcome::Unauthorized { .. });
                // Only a provider is held back that gives one after another. What the app has set itself is tried at once.
                let untried = renewed.is_some() && !self.rules.provided;
                (self.rules.judge(&place.attempt, &answer, now), refused && (renewed.is_none() || untried))
            }
            Sent::NoCredentials { why } => (self.rules.no_credentials(&place.attempt, why, now), true),
            Sent::Withdrawn => (self.rules.withdrawn(&place.attempt), false),
            Sent::Stopped { .. } => (self.rules.stopped(&place.attempt, unwanted, now), false),
            Sent::Trouble { trouble, .. } => (self.rules.troubled(&place.attempt, &trouble, now), false),
        };
        if judgement.restored {
            self.doubt_everything();
        }
        if without_credentials {
            // Newer ones may have come after they were asked for and before the origin was held.
            self.look_for_credentials(&origin);
        }
        self.settle(finished.seq, judgement);
    }

    /// Another copy of this database may have sent whatever is here: the commit that says so in every row says it in those under
    /// way too, and nothing may take it back. What is not sent yet is looked at anew.
    fn doubt_everything(&mut self) {
        for place in self.places.values_mut() {
            place.attempt.was_possibly_sent = true;
            if matches!(place.stage, Stage::Claiming(_)) {
                place.stage = Stage::Doomed(Box::new(Judgement::unsent(true)));
            }
        }
        self.give_back_lined_up();
        for settle in &mut self.settles {
            if let Verdict::Unsent { was_possibly_sent } = &mut settle.verdict {
                *was_possibly_sent = true;
            }
        }
    }

    /// An entry waits on its own account.
    pub(super) fn park(&mut self, kind: String, head: Head, due: Duration, floor: Duration, why: Backoff) {
        self.parts.board.post_backoff(head.seq, Some(why));
        self.waits.insert(kind, head, due, floor);
    }

    fn publish(&self) {
        let everything = self.key.state().map(|key| WaitingFor::Keychain { key });
        let mut holds = self.rules.holds();
        for held in holds.iter_mut().filter(|held| held.because == Because::Auth) {
            held.asked = self.announced.get(&held.origin).map(|announced| announced.number);
        }
        self.parts.board.post_holds(holds, everything);
    }

    /// Servers that want other credentials, once for each set of them.
    fn newly_refused(&mut self) -> Vec<AuthRequired> {
        let mut required = Vec::new();
        for (origin, version) in self.rules.refused_credentials() {
            if self.announced.get(origin).is_none_or(|told| told.version != version) {
                let number = self.parts.board.number_of_asking();
                self.announced.insert(origin.to_owned(), Announced { version, number });
                required.push(AuthRequired { origin: origin.to_owned() });
            }
        }
        required
    }

    /// The next moment at which something may be done without a wake. With nothing waiting there is none.
    fn next_due(&mut self) -> Option<Duration> {
        let now = self.now();
        let mut due = [self.waits.next_due(), self.nudge_due, self.lines.next_due()].into_iter().flatten().min();
        if self.paused || self.exiting || self.rest_until.is_some() {
            return self.rest_until;
        }
        if self.gathers() {
            return due.into_iter().chain(self.gather_until).min();
        }
        // Nobody asks for the key of an account that is leaving.
        let asked = self.key.due().filter(|_| self.parts.board.may_send(&self.account));
        let key = asked.unwrap_or_default();
        let mut earlier = |at: Duration| due = Some(due.map_or(at, |due: Duration| due.min(at)));
        for (kind, feed) in &self.feeds {
            let Some(origin) = self.rules.endpoints.get(kind).map(|endpoint| endpoint.origin.as_str()) else {
                continue;
            };
            if !feed.may_have() {
                continue;
            }
            match self.rules.allowance(kind, origin, now) {
                Allowance::None { until: Some(at) } => earlier(at.max(key)),
                // Only the key holds it: a key that nobody needs is not asked for.
                Allowance::Some(_) if asked.is_some() => earlier(key),
                _ => {}
            }
        }
        due
    }
}
