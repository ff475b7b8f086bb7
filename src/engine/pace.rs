//! How many attempts of one origin may be under way, and how many may be claimed before there is room for them on the wire.

/// Claims ahead of the wire are at most this many times the requests that it takes at once.
const MOST_AHEAD: usize = 16;
/// And at most this many times what was answered during the last commit. Half of it is what one commit claims, so that it carries many;
/// the other half is what is sent until it is done, with as much again should it take longer.
const COMMITS_AHEAD: usize = 4;

/// The pace of one origin.
///
/// A commit takes about as long as a request to a quick server. If every place on the wire waited for its own, the wire would stand still
/// most of the time; so a commit claims as many as will be sent until the next one is done. With a slow server that is none.
#[derive(Debug)]
pub(super) struct Pace {
    /// Requests at once: grows with every success, so that a recovered server is not run over.
    limit: usize,
    /// Attempts that have a place: claimed, about to be, or on the wire.
    taken: usize,
    /// Those on the wire.
    wire: usize,
    /// How many more than the limit may have a place.
    ahead: usize,
    /// Answers since the last commit began.
    answers: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self { limit: 1, taken: 0, wire: 0, ahead: 0, answers: 0 }
    }
}

impl Pace {
    /// How many attempts may begin; `ahead`: their claims may wait for the wire. Only once the wire is as wide as it gets.
    pub(super) fn room(&self, concurrency: usize, ahead: bool) -> usize {
        let ahead = if ahead && self.limit >= concurrency { self.ahead } else { 0 };
        (self.limit + ahead).saturating_sub(self.taken)
    }

    /// An attempt takes its place.
    pub(super) fn begin(&mut self) {
        self.taken += 1;
    }

    /// Its place is free again.
    pub(super) fn end(&mut self) {
        self.taken = self.taken.saturating_sub(1);
    }

    /// Whether one more request may go out.
    pub(super) fn has_wire(&self) -> bool {
        self.wire < self.limit
    }

    /// A request goes out.
    pub(super) fn sent(&mut self) {
        self.wire += 1;
    }

    /// A request is over, whatever came of it.
    pub(super) fn answered(&mut self) {
        self.wire = self.wire.saturating_sub(1);
        self.answers += 1;
    }

    /// A request was answered as it should.
    pub(super) fn quicken(&mut self, concurrency: usize) {
        self.limit = (self.limit * 2).min(concurrency);
    }

    /// One at a time again.
    pub(super) fn slow_down(&mut self) {
        self.limit = 1;
    }

    pub(super) fn commit_begins(&mut self) {
        self.answers = 0;
    }

    /// What was answered meanwhile says how many will be during the next one.
    pub(super) fn commit_ends(&mut self, concurrency: usize) {
        self.ahead = (COMMITS_AHEAD * self.answers).min(MOST_AHEAD * concurrency);
    }

    /// Whether `lined_up` claims last until a commit is done that has not begun.
    pub(super) fn lasts(&self, lined_up: usize) -> bool {
        lined_up > self.ahead / 2
    }
}

#[cfg(test)]
impl Pace {
    /// At its full width of eight, with so many answers during the last commit.
    pub(super) fn wide(answers: usize) -> Self {
        let mut pace = Self::default();
        (0..3).for_each(|_| pace.quicken(8));
        pace.commit_begins();
        (0..answers).for_each(|_| pace.answered());
        pace.commit_ends(8);
        pace
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_server_gets_no_claim_before_there_is_room_on_the_wire() {
        let mut pace = Pace::wide(0);
        assert_eq!(pace.room(8, true), 8);
        (0..8).for_each(|_| pace.begin());
        assert_eq!(pace.room(8, true), 0);
    }

    #[test]
    fn claims_run_ahead_by_what_a_few_commits_take_and_by_a_few_times_the_wire_at_most() {
        assert_eq!(Pace::wide(3).room(8, true), 8 + 12);
        assert_eq!(Pace::wide(1_000).room(8, true), 8 + 128);
        assert_eq!(Pace::wide(1_000).room(8, false), 8, "where a claim alone has a price");
    }

    #[test]
    fn never_more_are_on_the_wire_than_the_limit() {
        let mut pace = Pace::wide(1_000);
        (0..136).for_each(|_| pace.begin());
        let sent = std::iter::from_fn(|| pace.has_wire().then(|| pace.sent())).count();
        assert_eq!(sent, 8);
        pace.answered();
        assert!(pace.has_wire());
    }

    #[test]
    fn a_server_that_just_came_back_gets_no_claims_ahead() {
        let mut pace = Pace::wide(1_000);
        pace.slow_down();
        assert_eq!(pace.room(8, true), 1);
        pace.quicken(8);
        assert_eq!(pace.room(8, true), 2);
    }
}
