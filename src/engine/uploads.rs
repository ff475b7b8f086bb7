//! Large files under way: their places, when they stop, and what that means for their entries.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use tokio::sync::{mpsc, watch};

use super::{
    content::Trouble,
    drain::{Drain, Place, Stage},
    held::Held,
    rules::{Allowance, Attempt, Judgement, Next, Passage, Rules},
    upload::Stop,
    verdict::{failed, pending},
};
use crate::{
    entry::Reason,
    error::Result,
    store::{Head, Verdict},
};

/// So many files of one endpoint wait for a place in memory, which is a number for each. Should there be more, the rest of the endpoint's
/// entries, small ones too, wait in the database behind them.
const HELD: usize = 4096;
/// What was stopped because somebody wants to discard it is not begun again before so long: by then it is gone.
const STOPPED_REST: Duration = Duration::from_secs(30);
/// A file that the server may have is asked for so often under its key, if what the server names then is gone every time.
const VANISHED: u32 = 20;

/// What the loop knows of uploads beside their places.
pub(super) struct UploadDesk {
    held: Held,
    /// How to stop those that are under way.
    stops: HashMap<i64, watch::Sender<Stop>>,
    /// Stopped because somebody asked for it.
    unwanted: HashSet<i64>,
    /// Paused between their claim and their turn.
    paused: HashSet<i64>,
    reached: (mpsc::UnboundedSender<i64>, mpsc::UnboundedReceiver<i64>),
}

impl Default for UploadDesk {
    fn default() -> Self {
        Self {
            held: Held::default(),
            stops: HashMap::new(),
            unwanted: HashSet::new(),
            paused: HashSet::new(),
            reached: mpsc::unbounded_channel(),
        }
    }
}

impl UploadDesk {
    /// Whether that one waits for a place.
    pub(super) fn holds(&self, seq: i64) -> bool {
        self.held.contains(seq)
    }

    /// Whether so many files of the endpoint wait that none of its entries is looked at.
    pub(super) fn is_full(&self, kind: &str) -> bool {
        self.held.len(kind) >= HELD
    }

    pub(super) fn hold(&mut self, kind: String, origin: String, head: Head) {
        self.held.push(kind, origin, head);
    }

    /// That one is looked at: it lined up again, and finds a place or not.
    pub(super) fn looked_at(&mut self, seq: i64) {
        self.held.taken(seq);
    }

    /// Everything is read anew: nothing is in its line any more.
    pub(super) fn rewound(&mut self) {
        self.held.rewound();
    }

    /// What an attempt listens to, if it is one that can be stopped.
    pub(super) fn listen(&mut self, seq: i64, stops: bool) -> (watch::Receiver<Stop>, mpsc::UnboundedSender<i64>) {
        let (sender, receiver) = watch::channel(Stop::No);
        if stops {
            self.stops.insert(seq, sender);
        }
        (receiver, self.reached.0.clone())
    }

    /// The next upload that shows that its origin can be reached. Cancel-safe.
    pub(super) async fn next_reached(&mut self) -> i64 {
        match self.reached.1.recv().await {
            Some(seq) => seq,
            None => std::future::pending().await,
        }
    }

    fn stop(&self, seq: i64, how: Stop) {
        if let Some(sender) = self.stops.get(&seq) {
            sender.send_if_modified(|asked| {
                let more = how > *asked;
                *asked = how.max(*asked);
                more
            });
        }
    }
}

impl Drain {
    /// As many of the files that waited for a place line up again as there are places.
    pub(super) fn release_held(&mut self) {
        let (rules, now) = (&self.rules, self.parts.clock.now());
        let may = |kind: &str, origin: &str| matches!(rules.allowance(kind, origin, now), Allowance::Some(1..));
        for (kind, head) in self.desk.held.release(|origin| rules.free_uploads(origin), may) {
            self.feeds.entry(kind).or_default().push(head);
        }
    }

    /// Large files do not wait for others on the wire.
    pub(super) fn send_upload(&mut self, seq: i64) {
        match self.passage(seq, self.now()) {
            _ if self.desk.paused.contains(&seq) => self.unclaim(seq),
            Passage::Back => self.unclaim(seq),
            Passage::Go | Passage::Wait => self.send(seq),
        }
    }

    /// All files that are under way stop: how far they are is kept.
    pub(super) fn stop_all_uploads(&self) {
        self.desk.stops.keys().for_each(|seq| self.desk.stop(*seq, Stop::Now));
    }

    /// Those that somebody wants to discard stop.
    pub(super) fn stop_unwanted(&mut self) {
        let asked = self.parts.board.asked_to_stop();
        for id in asked {
            let of = |(_, place): &(&i64, &Place)| place.attempt.standing.id == id;
            if let Some((seq, _)) = self.places.iter().find(of) {
                self.desk.unwanted.insert(*seq);
                self.desk.stop(*seq, Stop::Now);
            }
        }
    }

    /// Those that somebody has paused stop where they are, and those that are about to begin do not.
    pub(super) async fn stop_paused(&mut self) -> Result<()> {
        let uploads = self.places.iter().filter(|(_, place)| place.attempt.upload).map(|(seq, _)| *seq);
        let uploads: Vec<i64> = uploads.collect();
        let paused = if uploads.is_empty() { Vec::new() } else { self.parts.store.paused_of(&uploads).await? };
        self.desk.paused = paused.into_iter().collect();
        self.desk.paused.iter().for_each(|seq| self.desk.stop(*seq, Stop::Now));
        Ok(())
    }

    /// Those whose place a newer entry would take stop, unless the server may have all of them soon.
    pub(super) async fn stop_overtaken(&mut self) -> Result<()> {
        let seqs: Vec<i64> = self.desk.stops.keys().copied().collect();
        if seqs.is_empty() {
            return Ok(());
        }
        for seq in self.parts.store.overtaken(&seqs).await? {
            self.desk.stop(seq, Stop::Overtaken);
        }
        Ok(())
    }

    pub(super) fn upload_reached(&mut self, seq: i64) {
        let now = self.parts.clock.now();
        if let Some(Place { attempt, stage: Stage::Sent, .. }) = self.places.get_mut(&seq) {
            attempt.probe &= !self.rules.under_way(attempt, now);
        }
    }

    /// It is not under way any more. Answers whether that is because somebody wants to discard it.
    pub(super) fn upload_ended(&mut self, seq: i64) -> bool {
        self.desk.stops.remove(&seq);
        self.desk.unwanted.remove(&seq)
    }
}

impl Rules {
    /// An upload that was asked to stop says nothing of its server.
    pub(super) fn stopped(&mut self, attempt: &Attempt, unwanted: bool, now: Duration) -> Judgement {
        self.returned(attempt);
        let next = if unwanted { Next::Wait { due: now + STOPPED_REST, floor: now } } else { Next::Queue };
        let mut judgement = pending(unanswered(attempt), false, None, String::new(), next);
        judgement.error = None;
        judgement
    }

    /// The server names an upload that it does not have, and would do so again under the same key.
    pub(super) fn renew_key(&mut self, attempt: &Attempt, judgement: &mut Judgement) {
        match judgement.verdict {
            Verdict::Unfinished => judgement.verdict = Verdict::NotApplied,
            // An earlier attempt may have been applied, so the key has to stay: in the end somebody has to decide.
            Verdict::Unknown if self.unexplained_too_often(attempt.seq, VANISHED) => {
                let error = judgement.error.take().unwrap_or_default();
                *judgement = failed(Reason::OutcomeUnknown, true, judgement.status, error);
            }
            _ => {}
        }
    }

    /// An upload whose file cannot be sent says nothing of its server either.
    pub(super) fn troubled(&mut self, attempt: &Attempt, trouble: &Trouble, now: Duration) -> Judgement {
        self.returned(attempt);
        match trouble {
            Trouble::Damaged(why) => {
                self.forget(attempt.seq);
                let possibly_sent = attempt.was_possibly_sent || !attempt.unfinished;
                failed(Reason::Undecryptable, possibly_sent, None, (*why).to_owned())
            }
            Trouble::Unreadable(why) => {
                let wait = self.wait(attempt, None, now);
                pending(unanswered(attempt), true, None, format!("its file could not be read: {why}"), wait)
            }
        }
    }
}

/// No answer came, and it is not the server's fault. Where an endpoint does not allow sending twice, the next look at the entry says so.
fn unanswered(attempt: &Attempt) -> Verdict {
    if attempt.unfinished { Verdict::Unfinished } else { Verdict::Unknown }
}
