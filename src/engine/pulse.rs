//! What can be told of the loop from outside: how often it has turned, and whether it has anything left to do by itself.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

/// What the loop waits for when it has nothing to do by itself, beside wakes and the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rest {
    /// Requests that have no answer yet.
    pub under_way: usize,
    /// Answers are kept for a commit that is to carry more of them.
    pub gathers: bool,
}

#[derive(Debug)]
pub(super) struct Pulse {
    turns: AtomicU64,
    rest: watch::Sender<Option<Rest>>,
}

impl Default for Pulse {
    fn default() -> Self {
        Self { turns: AtomicU64::new(0), rest: watch::Sender::new(None) }
    }
}

impl Pulse {
    pub(super) fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    /// None while it works.
    pub(super) fn rest(&self) -> watch::Receiver<Option<Rest>> {
        self.rest.subscribe()
    }

    pub(super) fn turn(&self) {
        self.turns.fetch_add(1, Ordering::Relaxed);
        self.at_work();
    }

    pub(super) fn at_work(&self) {
        self.post(None);
    }

    pub(super) fn at_rest(&self, rest: Rest) {
        self.post(Some(rest));
    }

    fn post(&self, rest: Option<Rest>) {
        self.rest.send_if_modified(|known| std::mem::replace(known, rest) != rest);
    }
}
