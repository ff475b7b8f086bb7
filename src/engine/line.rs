//! What is claimed and waits for its turn on the wire. Every claim goes through here, and is looked at once more before it is sent:
//! it may have been held, paused or given up since it was picked.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use super::{
    attempt::send,
    drain::{Drain, Place, Stage},
    rules::{Attempt, Passage},
    upload::Means,
};

/// A claim that has waited so long for others on the wire is given back: it says that its entry is in flight, and keeps a newer one
/// from taking its place.
const LONGEST: Duration = Duration::from_secs(1);

/// Payloads of so many bytes in lines are enough: they are held in memory.
pub(super) const MOST_LINED_UP: usize = 1 << 20;

/// One line per origin.
#[derive(Debug, Default)]
pub(super) struct Lines(BTreeMap<String, Line>);

#[derive(Debug, Default)]
struct Line {
    seqs: VecDeque<i64>,
    /// When it last grew or moved on.
    moved: Duration,
}

impl Lines {
    pub(super) fn push(&mut self, attempt: &Attempt, now: Duration) {
        if !self.0.contains_key(&attempt.origin) {
            self.0.insert(attempt.origin.clone(), Line::default());
        }
        let Some(line) = self.0.get_mut(&attempt.origin) else { return };
        if line.seqs.is_empty() {
            line.moved = now;
        }
        line.seqs.push_back(attempt.seq);
    }

    /// When the first line has stood still for too long.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.0.values().filter(|line| !line.seqs.is_empty()).map(|line| line.moved + LONGEST).min()
    }

    /// How many wait for each origin.
    pub(super) fn lengths(&self) -> impl Iterator<Item = (&str, usize)> {
        self.0.iter().map(|(origin, line)| (origin.as_str(), line.seqs.len()))
    }

    fn take_all(&mut self) -> Vec<i64> {
        self.0.values_mut().flat_map(|line| line.seqs.drain(..)).collect()
    }
}

impl Drain {
    /// Sends what is claimed, as far as there is room on the wire; what may not go any more is given back.
    pub(super) fn send_lined_up(&mut self) {
        let now = self.now();
        let mut lines = std::mem::take(&mut self.lines);
        for line in lines.0.values_mut() {
            while let Some(seq) = line.seqs.front().copied() {
                match self.passage(seq, now) {
                    Passage::Wait if line.moved + LONGEST <= now => {
                        line.seqs.drain(..).for_each(|seq| self.unclaim(seq))
                    }
                    Passage::Wait => break,
                    Passage::Go => self.send(seq),
                    Passage::Back => self.unclaim(seq),
                }
                line.moved = now;
                line.seqs.pop_front();
            }
        }
        lines.0.retain(|_, line| !line.seqs.is_empty());
        self.lines = lines;
    }

    pub(super) fn passage(&self, seq: i64, now: Duration) -> Passage {
        // `pause` has returned by now, or is about to.
        let over = self.is_exiting() || self.paused || self.parts.board.paused();
        match self.places.get(&seq) {
            // Somebody else may have signed in, or this account be on its way out.
            Some(Place { attempt, stage: Stage::Lined(prepared), .. })
                if !over && prepared.account == self.account && self.parts.board.may_send(&prepared.account) =>
            {
                self.rules.passage(attempt, now)
            }
            _ => Passage::Back,
        }
    }

    pub(super) fn send(&mut self, seq: i64) {
        let Some(place) = self.places.get_mut(&seq) else { return };
        let Stage::Lined(prepared) = std::mem::replace(&mut place.stage, Stage::Sent) else { return };
        if !place.attempt.upload {
            self.rules.origin(&place.attempt.origin).pace.sent();
        }
        let (stop, reached) = self.desk.listen(seq, prepared.file.is_some());
        let means = Means {
            spool: self.spool.clone(),
            store: self.parts.store.clone(),
            board: self.parts.board.clone(),
            clock: Arc::clone(&self.parts.clock),
            transport: Arc::clone(&self.parts.transport),
            stop,
            reached,
        };
        self.sent.spawn(send(*prepared, means, self.parts.credentials.clone()));
    }

    /// How many bytes of payloads wait for the wire.
    pub(super) fn bytes_lined_up(&self) -> usize {
        let bodies = self.places.values().map(|place| match &place.stage {
            Stage::Claiming(prepared) | Stage::Lined(prepared) => prepared.bytes(),
            _ => 0,
        });
        bodies.sum()
    }

    /// Nothing of it is sent; it is looked at anew.
    pub(super) fn give_back_lined_up(&mut self) {
        for seq in self.lines.take_all() {
            self.unclaim(seq);
        }
    }
}
