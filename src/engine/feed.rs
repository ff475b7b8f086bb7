//! Which entries may be next: lane heads of one endpoint, read in windows, so that memory does not grow with the backlog.

use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::{cmp::Reverse, time::Duration};

use crate::store::Head;

/// How many heads are read at once.
pub(super) const WINDOW: u32 = 256;

/// The heads of one endpoint.
#[derive(Debug, Default)]
pub(super) struct Feed {
    /// Everything up to here was read since the last rewind.
    cursor: i64,
    window: VecDeque<Head>,
    /// Heads that came up behind the cursor: promoted, due again, or sent back.
    again: VecDeque<Head>,
    /// The last read found less than it asked for.
    exhausted: bool,
    take_again: bool,
}

impl Feed {
    /// Whether there may be something to take.
    pub(super) fn may_have(&self) -> bool {
        !self.window.is_empty() || !self.again.is_empty() || !self.exhausted
    }

    /// Whether nothing waits in it.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.window.is_empty() && self.again.is_empty()
    }

    /// Where to read on, if nothing is left to take but there may be more on disk.
    pub(super) fn wants(&self) -> Option<i64> {
        (self.window.is_empty() && !self.exhausted).then_some(self.cursor)
    }

    pub(super) fn fill(&mut self, heads: Vec<Head>) {
        self.exhausted = heads.len() < WINDOW as usize;
        if let Some(last) = heads.last() {
            self.cursor = last.seq;
        }
        self.window.extend(heads);
    }

    /// New entries were enqueued behind everything that was read.
    pub(super) fn more(&mut self) {
        self.exhausted = false;
    }

    /// A head that the cursor has passed.
    pub(super) fn push(&mut self, head: Head) {
        self.again.push_back(head);
    }

    /// The next one. New lanes and lanes that go on take turns, so that neither starves the other.
    pub(super) fn take(&mut self) -> Option<Head> {
        self.take_again = !self.take_again;
        if self.take_again {
            self.again.pop_front().or_else(|| self.window.pop_front())
        } else {
            self.window.pop_front().or_else(|| self.again.pop_front())
        }
    }
}

/// An entry that waits on its own account.
#[derive(Debug, Clone)]
pub(super) struct Waiting {
    pub kind: String,
    pub head: Head,
    due: Duration,
    floor: Duration,
}

/// Entries that wait for a moment of their own. In memory only: after a restart everything is due.
#[derive(Debug, Default)]
pub(super) struct Waits {
    entries: HashMap<i64, Waiting>,
    order: BinaryHeap<Reverse<(Duration, i64)>>,
}

impl Waits {
    pub(super) fn insert(&mut self, kind: String, head: Head, due: Duration, floor: Duration) {
        self.order.push(Reverse((due, head.seq)));
        self.entries.insert(head.seq, Waiting { kind, head, due, floor });
    }

    pub(super) fn contains(&self, seq: i64) -> bool {
        self.entries.contains_key(&seq)
    }

    /// When the first one is due.
    pub(super) fn next_due(&mut self) -> Option<Duration> {
        while let Some(Reverse((due, seq))) = self.order.peek().copied() {
            if self.entries.get(&seq).is_some_and(|waiting| waiting.due == due) {
                return Some(due);
            }
            self.order.pop();
        }
        None
    }

    /// Takes one that is due.
    pub(super) fn take_due(&mut self, now: Duration) -> Option<Waiting> {
        if self.next_due()? > now {
            return None;
        }
        let Reverse((_, seq)) = self.order.pop()?;
        self.entries.remove(&seq)
    }

    /// A wake: none waits longer than its server asked for.
    pub(super) fn nudge(&mut self, now: Duration) {
        self.order.clear();
        for (seq, waiting) in &mut self.entries {
            waiting.due = waiting.floor.max(now);
            self.order.push(Reverse((waiting.due, *seq)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn head(seq: i64) -> Head {
        Head { seq, lane: None }
    }

    #[test]
    fn lanes_that_go_on_and_new_lanes_take_turns() {
        let mut feed = Feed::default();
        assert_eq!(feed.wants(), Some(0));
        feed.fill(vec![head(1), head(2), head(3)]);
        feed.push(head(10));
        feed.push(head(11));
        let order: Vec<i64> = std::iter::from_fn(|| feed.take()).map(|head| head.seq).collect();
        assert_eq!(order, [10, 1, 11, 2, 3]);
        assert!(!feed.may_have());
        feed.more();
        assert_eq!(feed.wants(), Some(3), "what was read is not read again");
    }

    #[test]
    fn a_wake_makes_entries_due_but_not_before_their_floor() {
        let s = Duration::from_secs;
        let mut waits = Waits::default();
        waits.insert("form".into(), head(1), s(100), s(0));
        waits.insert("form".into(), head(2), s(100), s(60));
        assert!(waits.take_due(s(10)).is_none());
        waits.nudge(s(10));
        assert_eq!(waits.take_due(s(10)).unwrap().head.seq, 1);
        assert!(waits.take_due(s(10)).is_none());
        assert_eq!(waits.next_due(), Some(s(60)));
    }
}
