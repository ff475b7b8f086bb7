//! The outcome table, row by row.

use std::time::Duration;

use super::{
    gate::Why,
    rules::{Attempt, Judgement, Next, REFUSING_LANES, Rules},
};
use crate::{
    config::IfUnknown,
    entry::Reason,
    store::Verdict,
    transport::{Learned, Outcome},
};

/// Statuses with which an application judges the content itself: with the idempotency key of an applied request it would have
/// repeated the first answer, so nothing was applied. Any other refusal may come from a router, a proxy or a bad deploy.
const JUDGED: [u16; 4] = [400, 409, 412, 422];

/// An earlier attempt may have been applied, and this refusal does not say otherwise.
fn still_possibly_sent(attempt: &Attempt, status: u16) -> bool {
    attempt.was_possibly_sent && !JUDGED.contains(&status)
}

/// What an answer to one attempt says of earlier ones: nothing, unless it settles the entry.
pub(super) fn not_applied(attempt: &Attempt) -> Verdict {
    match (attempt.was_possibly_sent, attempt.unfinished) {
        (true, _) => Verdict::Unknown,
        (false, true) => Verdict::Unfinished,
        (false, false) => Verdict::NotApplied,
    }
}

/// What an attempt without a definitive answer leaves behind.
fn doubtful(attempt: &Attempt) -> Verdict {
    if attempt.unfinished { Verdict::Unfinished } else { Verdict::Unknown }
}

impl Rules {
    pub(super) fn verdict(&mut self, attempt: &Attempt, outcome: &Outcome, now: Duration) -> Judgement {
        if !matches!(outcome, Outcome::Unreachable { .. } | Outcome::Unknown { .. }) {
            self.reached(attempt, now);
        }
        match outcome {
            Outcome::Acked { status, learned } => self.acked(attempt, *status, learned, now),
            Outcome::Unreachable { why } => self.unreachable(attempt, why, now),
            Outcome::Unknown { why, .. } => self.silent(attempt, why, now),
            Outcome::Retry { status, floor } => self.faulty(attempt, *status, *floor, now),
            Outcome::Busy { status, possibly_applied, floor } => {
                self.busy(attempt, *status, *possibly_applied, *floor, now)
            }
            Outcome::Unauthorized { status } => self.unauthorized(attempt, *status, now),
            Outcome::Conflict { status, learned } => self.conflict(attempt, *status, learned, now),
            Outcome::Collision { status, floor } => self.collision(attempt, *status, *floor, now),
            Outcome::Refused { status } => self.refused(attempt, *status, now),
            Outcome::Unproven { status, why } => self.unproven(attempt, *status, why, now),
        }
    }

    pub(super) fn acked(&mut self, attempt: &Attempt, status: u16, learned: &Learned, now: Duration) -> Judgement {
        self.success(attempt, now);
        Judgement {
            verdict: Verdict::Acked {
                canonical_id: learned.canonical_id.clone(),
                revision: learned.revision,
                etag: learned.etag.clone(),
            },
            attempted: true,
            status: Some(status),
            error: None,
            next: Next::Gone,
            floor: None,
            restored: false,
        }
    }

    fn unreachable(&mut self, attempt: &Attempt, why: &str, now: Duration) -> Judgement {
        self.shut_circuit(attempt, now);
        Judgement {
            verdict: Verdict::Unsent { was_possibly_sent: attempt.was_possibly_sent },
            attempted: false,
            status: None,
            error: Some(why.to_owned()),
            next: Next::Queue,
            floor: None,
            restored: false,
        }
    }

    fn silent(&mut self, attempt: &Attempt, why: &str, now: Duration) -> Judgement {
        if self.silent_enough(attempt) || attempt.probe {
            self.shut_circuit(attempt, now);
        }
        self.unknown(attempt, None, why.to_owned(), None, now)
    }

    fn faulty(&mut self, attempt: &Attempt, status: u16, floor: Option<Duration>, now: Duration) -> Judgement {
        let probed = attempt.probe && self.endpoint(&attempt.kind).gate.why().is_some();
        if status >= 500 && (self.faulty_enough(attempt) || probed) {
            let level = self.endpoint(&attempt.kind).gate.next_level();
            let due = self.own(level, now);
            self.endpoint(&attempt.kind).gate.shut(Why::Busy, Some(due), None, attempt.probe);
        }
        self.unknown(attempt, Some(status), format!("the server answered {status}"), floor, now)
    }

    /// 429, 503, 403 with `Retry-After`: the endpoint waits, unless this entry alone is answered so.
    fn busy(
        &mut self,
        attempt: &Attempt,
        status: u16,
        possibly: bool,
        floor: Option<Duration>,
        now: Duration,
    ) -> Judgement {
        let error = format!("the server answered {status} and asked for patience");
        let own_fault = self.own_fault(attempt).is_some();
        let mut judgement = if possibly {
            self.unknown(attempt, Some(status), error, floor, now)
        } else {
            let wait = self.wait(attempt, floor, now);
            pending(not_applied(attempt), true, Some(status), error, wait)
        };
        if own_fault {
            return judgement;
        }
        self.slow_down(&attempt.origin);
        let level = self.endpoint(&attempt.kind).gate.next_level();
        let due = self.own(level, now);
        let until = floor.map(|floor| now + floor);
        self.endpoint(&attempt.kind).gate.shut(Why::Busy, Some(due), until, attempt.probe);
        let name = if self.busy_endpoints(&attempt.origin) > 1 {
            self.origin(&attempt.origin).circuit.shut(Why::Busy, Some(due), until, attempt.probe);
            format!("origin:{}", attempt.origin)
        } else {
            format!("kind:{}", attempt.kind)
        };
        judgement.floor = floor.map(|floor| (name, floor));
        if judgement.next != Next::Gone {
            judgement.next = Next::Queue;
        }
        judgement
    }

    /// 409 without a revision: the first request is still in progress, if there was one.
    fn collision(&mut self, attempt: &Attempt, status: u16, floor: Option<Duration>, now: Duration) -> Judgement {
        let error = format!("the server answered {status}: an earlier attempt is still in progress");
        let in_progress = attempt.was_possibly_sent || floor.is_some();
        if in_progress && !self.collided_out(attempt.seq) {
            let wait = self.wait(attempt, floor, now);
            return pending(doubtful(attempt), true, Some(status), error, wait);
        }
        if in_progress {
            // Nothing was said of that attempt, so it keeps its key.
            return failed(Reason::Refused, !attempt.unfinished, Some(status), error);
        }
        self.refused(attempt, status, now)
    }

    /// Fails the entry, unless the endpoint refuses everybody in the same words.
    fn refused(&mut self, attempt: &Attempt, status: u16, now: Duration) -> Judgement {
        let error = format!("the server refused it with {status}");
        let endpoint = self.endpoint(&attempt.kind);
        if endpoint.gate.why() != Some(Why::Refusing) {
            endpoint.gate.success(now);
        }
        if endpoint.refusals.as_ref().is_none_or(|(other, _)| *other != status) {
            endpoint.refusals = Some((status, Vec::new()));
        }
        let refusing = endpoint.gate.why() == Some(Why::Refusing)
            || !attempt.foreign
                && endpoint.refusals.as_mut().is_some_and(|(_, row)| Self::in_a_row(row, attempt.lane, REFUSING_LANES));
        let doubt = still_possibly_sent(attempt, status);
        if !refusing {
            return failed(Reason::Refused, doubt, Some(status), error);
        }
        let level = endpoint.gate.next_level();
        let due = self.own(level, now);
        self.endpoint(&attempt.kind).gate.shut(Why::Refusing, Some(due), None, attempt.probe);
        let verdict = if doubt { Verdict::Unknown } else { Verdict::NotApplied };
        pending(verdict, true, Some(status), error, Next::Queue)
    }

    fn unproven(&mut self, attempt: &Attempt, status: u16, why: &str, now: Duration) -> Judgement {
        let error = format!("the server answered {status}, which proves nothing: {why}");
        let strikes = self.own_fault(attempt);
        if strikes.is_none() {
            let level = self.endpoint(&attempt.kind).gate.next_level();
            let due = self.own(level, now);
            self.endpoint(&attempt.kind).gate.shut(Why::Unproven, Some(due), None, attempt.probe);
        }
        if attempt.if_unknown == IfUnknown::Hold && !attempt.unfinished && !attempt.askable {
            return failed(Reason::OutcomeUnknown, true, Some(status), error);
        }
        match strikes {
            Some(strikes) if Self::unproven_for_good(strikes) => {
                failed(Reason::Unproven, !attempt.unfinished, Some(status), error)
            }
            Some(_) => {
                let wait = self.wait(attempt, None, now);
                pending(doubtful(attempt), false, Some(status), error, wait)
            }
            None => pending(doubtful(attempt), false, Some(status), error, Next::Queue),
        }
    }

    /// It may have been applied: the same bytes again, or never again, as the endpoint says.
    pub(super) fn unknown(
        &mut self,
        attempt: &Attempt,
        status: Option<u16>,
        error: String,
        floor: Option<Duration>,
        now: Duration,
    ) -> Judgement {
        if attempt.if_unknown == IfUnknown::Hold && !attempt.unfinished && !attempt.askable {
            return failed(Reason::OutcomeUnknown, true, status, error);
        }
        let wait = self.wait(attempt, floor, now);
        pending(doubtful(attempt), true, status, error, wait)
    }

    pub(super) fn wait(&self, attempt: &Attempt, floor: Option<Duration>, now: Duration) -> Next {
        let floor = floor.map_or(now, |floor| now + floor);
        Next::Wait { due: self.own(attempt.attempts, now).max(floor), floor }
    }

    fn shut_circuit(&mut self, attempt: &Attempt, now: Duration) {
        self.slow_down(&attempt.origin);
        let level = self.origin(&attempt.origin).circuit.next_level();
        let due = self.own(level, now);
        self.origin(&attempt.origin).circuit.shut(Why::Offline, Some(due), None, attempt.probe);
    }

    /// A conflict is a proper answer: the endpoint neither refuses everybody nor fails.
    pub(super) fn understood(&mut self, attempt: &Attempt, now: Duration) {
        let endpoint = self.endpoint(&attempt.kind);
        endpoint.refusals = None;
        endpoint.faulty.clear();
        endpoint.gate.success(now);
    }
}

pub(super) fn pending(verdict: Verdict, attempted: bool, status: Option<u16>, error: String, next: Next) -> Judgement {
    Judgement { verdict, attempted, status, error: Some(error), next, floor: None, restored: false }
}

pub(super) fn failed(reason: Reason, possibly_sent: bool, status: Option<u16>, error: String) -> Judgement {
    Judgement {
        verdict: Verdict::Failed { reason, possibly_sent },
        attempted: true,
        status,
        error: Some(error),
        next: Next::Gone,
        floor: None,
        restored: false,
    }
}
