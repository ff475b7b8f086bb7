//! What a lack of credentials, or a refusal of them, means.

use std::time::Duration;

use super::{
    gate::Why,
    rules::{Attempt, Judgement, Next, Rules, SLOW_RETRY},
    verdict::{failed, not_applied, pending},
};
use crate::{entry::Reason, store::Verdict};

/// Lanes that must be told 401 with one version of the credentials before nothing more is sent with it.
const UNAUTHORIZED_LANES: usize = 2;
/// 401 in a row, each with newer credentials and with others accepted meanwhile, after which the entry fails.
const UNAUTHORIZED_STRIKES: u32 = 3;

/// An entry that was told 401.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unauthorized {
    /// The credentials that it was refused with.
    version: u64,
    /// Successes of its origin by then.
    successes: u64,
    /// How often in a row others were accepted meanwhile.
    strikes: u32,
}

impl Rules {
    /// Newer credentials than those that were refused are there.
    pub(super) fn credentials(&mut self, origin: &str, version: u64) {
        let origin = self.origin(origin);
        if matches!(origin.auth.why(), Some(Why::Auth { version: refused }) if refused != version) {
            origin.auth.open();
            origin.unauthorized.clear();
        }
    }

    /// The app has no credentials to give yet.
    pub(super) fn no_credentials(&mut self, attempt: &Attempt, why: String, now: Duration) -> Judgement {
        if attempt.foreign {
            return self.withdrawn(attempt);
        }
        self.returned(attempt);
        let level = self.origin(&attempt.origin).auth.next_level();
        let due = self.own(level, now);
        let auth = &mut self.origin(&attempt.origin).auth;
        auth.shut(Why::Auth { version: attempt.version }, Some(due), None, attempt.probe);
        Judgement {
            verdict: Verdict::Unsent { was_possibly_sent: attempt.was_possibly_sent },
            attempted: false,
            status: None,
            error: Some(why),
            next: Next::Queue,
            floor: None,
            restored: false,
        }
    }

    /// Nothing of it was sent, because its account is not the current one any more.
    pub(super) fn withdrawn(&mut self, attempt: &Attempt) -> Judgement {
        self.returned(attempt);
        Judgement::unsent(attempt.was_possibly_sent)
    }

    /// Origins that refuse the credentials they are sent, and the version of those.
    pub(super) fn refused_credentials(&self) -> impl Iterator<Item = (&str, u64)> {
        self.origins.iter().filter_map(|(name, origin)| match origin.auth.why() {
            Some(Why::Auth { version }) => Some((name.as_str(), version)),
            _ => None,
        })
    }

    /// Another account's credentials have not been refused, and what one may not do another one may. What a server asked for stands.
    pub(super) fn other_account(&mut self) {
        self.unauthorized.clear();
        for endpoint in self.endpoints.values_mut() {
            endpoint.refusals = None;
            if endpoint.gate.why() == Some(Why::Refusing) {
                endpoint.gate.open();
            }
        }
        for origin in self.origins.values_mut() {
            origin.auth.open();
            origin.unauthorized.clear();
            (origin.renewals, origin.renewed) = (0, None);
        }
    }

    /// The app has given newer credentials, `newest`, after these were refused. Answers whether those were newer ones themselves, given
    /// after others were seen to be refused: however many older ones were on their way by then, they are one time.
    pub(super) fn renewed_in_vain(&mut self, attempt: &Attempt, newest: u64) -> bool {
        let origin = self.origin(&attempt.origin);
        if origin.renewed.is_some_and(|renewed| attempt.version < renewed) {
            return false;
        }
        origin.renewed = Some(newest);
        origin.renewals += 1;
        origin.renewals > 1
    }

    pub(super) fn renewals(&self, origin: &str) -> u32 {
        self.origins.get(origin).map_or(0, |origin| origin.renewals)
    }

    /// Whether another entry was accepted with these very credentials since they were refused for this one, or again and again with
    /// newer ones.
    pub(super) fn refused_alone(&mut self, attempt: &Attempt) -> bool {
        let successes = self.origin(&attempt.origin).successes;
        let first = Unauthorized { version: attempt.version, successes, strikes: 0 };
        let refused = self.unauthorized.entry(attempt.seq).or_insert(first);
        let alone = successes > refused.successes;
        let same = refused.version == attempt.version;
        *refused = Unauthorized { strikes: if alone { refused.strikes + 1 } else { refused.strikes }, ..first };
        alone && (same || refused.strikes >= UNAUTHORIZED_STRIKES)
    }

    pub(super) fn unauthorized_enough(&mut self, attempt: &Attempt) -> bool {
        Self::in_a_row(&mut self.origin(&attempt.origin).unauthorized, attempt.lane, UNAUTHORIZED_LANES)
    }

    pub(super) fn unauthorized(&mut self, attempt: &Attempt, status: u16, now: Duration) -> Judgement {
        let error = format!("the server answered {status}: it wants other credentials");
        if attempt.foreign {
            return pending(not_applied(attempt), false, Some(status), error, Next::Queue);
        }
        if self.refused_alone(attempt) {
            return failed(Reason::Refused, attempt.was_possibly_sent, Some(status), error);
        }
        if let Some(newest) = attempt.renewed {
            if self.renewed_in_vain(attempt, newest) {
                // The app gives new ones again and again, and none is accepted: no faster than a backoff.
                let due = self.own(self.renewals(&attempt.origin), now);
                let auth = &mut self.origin(&attempt.origin).auth;
                auth.shut(Why::Auth { version: attempt.version }, Some(due), None, attempt.probe);
            }
            return pending(not_applied(attempt), false, Some(status), error, Next::Queue);
        }
        let enough = self.unauthorized_enough(attempt);
        let level = self.origin(&attempt.origin).auth.next_level();
        let due = match (enough, self.provided) {
            (false, _) => Some(self.own(level, now)),
            // A provider does not tell when it has newer ones.
            (true, true) => Some(now + SLOW_RETRY),
            (true, false) => None,
        };
        self.origin(&attempt.origin).auth.shut(Why::Auth { version: attempt.version }, due, None, attempt.probe);
        pending(not_applied(attempt), false, Some(status), error, Next::Queue)
    }
}
