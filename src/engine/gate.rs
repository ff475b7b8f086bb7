//! A hold on an origin or an endpoint: one probe at a time, each further away than the last.

use std::time::Duration;

/// Why a gate is shut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// The origin cannot be reached, or nothing but silence comes back.
    Offline,
    /// The server asked for patience, or fails whatever it is sent.
    Busy,
    /// The server wants other credentials than those of this version.
    Auth { version: u64 },
    /// Answers prove nothing.
    Unproven,
    /// The same refusal whatever is sent.
    Refusing,
}

/// What may pass now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    Free,
    /// One attempt, to find out.
    Probe,
    /// Nothing before then; with none, nothing until something outside changes.
    Shut {
        until: Option<Duration>,
    },
}

#[derive(Debug, Clone)]
struct Shut {
    why: Why,
    /// Failed probes in a row.
    level: u32,
    /// When the next probe is due; with none, only a change from outside makes it due.
    due: Option<Duration>,
    /// What the server asked for: no wake makes a probe due before it.
    floor: Duration,
    probing: bool,
}

/// Open until something shuts it.
#[derive(Debug, Clone, Default)]
pub(super) struct Gate {
    shut: Option<Shut>,
}

impl Gate {
    pub(super) fn pass(&self, now: Duration) -> Pass {
        match &self.shut {
            None => Pass::Free,
            Some(shut) if shut.probing => Pass::Shut { until: None },
            Some(shut) => match shut.due {
                Some(due) if due.max(shut.floor) <= now => Pass::Probe,
                Some(due) => Pass::Shut { until: Some(due.max(shut.floor)) },
                None => Pass::Shut { until: None },
            },
        }
    }

    pub(super) fn why(&self) -> Option<Why> {
        self.shut.as_ref().map(|shut| shut.why)
    }

    /// The level of the backoff after one more failure.
    pub(super) fn next_level(&self) -> u32 {
        self.shut.as_ref().map_or(0, |shut| shut.level.saturating_add(1))
    }

    /// Until when it lets nothing pass, if that is known.
    pub(super) fn until(&self) -> Option<Duration> {
        self.shut.as_ref().and_then(|shut| shut.due.map(|due| due.max(shut.floor)))
    }

    /// Shuts it, or keeps it shut when a probe failed. Attempts that had begun before it shut teach it nothing but a longer floor.
    pub(super) fn shut(&mut self, why: Why, due: Option<Duration>, floor: Option<Duration>, probe: bool) {
        let floor = floor.unwrap_or_default();
        match &mut self.shut {
            Some(shut) if !probe => shut.floor = shut.floor.max(floor),
            Some(shut) => {
                let (level, floor) = (shut.level.saturating_add(1), shut.floor.max(floor));
                *shut = Shut { why, level, due, floor, probing: false };
            }
            None => self.shut = Some(Shut { why, level: 0, due, floor, probing: false }),
        }
    }

    /// An answer got through. What the server asked for still stands.
    pub(super) fn success(&mut self, now: Duration) {
        if self.shut.as_ref().is_some_and(|shut| shut.floor <= now) {
            self.shut = None;
        }
    }

    /// Something outside changed: our own waiting is worth nothing now.
    pub(super) fn nudge(&mut self, now: Duration) {
        if let Some(shut) = &mut self.shut {
            shut.due = Some(now);
        }
    }

    pub(super) fn open(&mut self) {
        self.shut = None;
    }

    pub(super) fn set_probing(&mut self, probing: bool) {
        if let Some(shut) = &mut self.shut {
            shut.probing = probing;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn one_probe_passes_when_due_and_no_second_beside_it() {
        let mut gate = Gate::default();
        assert_eq!(gate.pass(s(0)), Pass::Free);
        gate.shut(Why::Offline, Some(s(5)), None, false);
        assert_eq!(gate.pass(s(4)), Pass::Shut { until: Some(s(5)) });
        assert_eq!(gate.pass(s(5)), Pass::Probe);
        gate.set_probing(true);
        assert_eq!(gate.pass(s(6)), Pass::Shut { until: None });
        gate.shut(Why::Offline, Some(s(9)), None, false);
        assert_eq!(gate.next_level(), 1, "an attempt from before is no failed probe");
        gate.shut(Why::Offline, Some(s(20)), None, true);
        assert_eq!(gate.next_level(), 2);
        gate.success(s(20));
        assert_eq!(gate.pass(s(20)), Pass::Free);
    }

    #[test]
    fn a_wake_clears_our_own_waiting_but_never_what_the_server_asked_for() {
        let mut gate = Gate::default();
        gate.shut(Why::Busy, Some(s(500)), Some(s(60)), false);
        gate.nudge(s(10));
        assert_eq!(gate.pass(s(10)), Pass::Shut { until: Some(s(60)) });
        gate.success(s(10));
        assert_eq!(
            gate.pass(s(59)),
            Pass::Shut { until: Some(s(60)) },
            "an answer to an older attempt does not lift it"
        );
        assert_eq!(gate.pass(s(60)), Pass::Probe);
    }

    #[test]
    fn a_second_hold_never_shortens_the_first_ones_floor() {
        let mut gate = Gate::default();
        gate.shut(Why::Busy, Some(s(0)), Some(s(60)), false);
        gate.shut(Why::Unproven, Some(s(1)), None, true);
        assert_eq!(gate.until(), Some(s(60)));
    }
}
