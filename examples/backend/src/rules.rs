//! The rules in force, and what they make of one request.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::sync::Semaphore;

use crate::fault::{Fault, Rule, Subject};

/// A rule in force.
pub(crate) struct Active {
    pub(crate) id: u64,
    pub(crate) rule: Rule,
    /// How often it has shown.
    pub(crate) hits: u64,
    /// Requests that are held by it now.
    pub(crate) held: usize,
    /// Opened by permits for one request each, or by closing for all.
    gate: Arc<Semaphore>,
}

impl Active {
    /// How many requests it will still be for.
    pub(crate) fn left(&self) -> Option<u64> {
        self.rule.times.map(|times| times.saturating_sub(self.hits))
    }
}

/// Time that a request has to spend.
pub(crate) enum Delay {
    /// So long.
    For(Duration),
    /// Until the rule of that id lets it through.
    Gate(u64, Arc<Semaphore>),
}

/// What the rules make of one request.
#[derive(Default)]
pub(crate) struct Plan {
    /// Shown instead of the proper answer.
    pub(crate) instead: Option<Fault>,
    /// The request is applied although another answer is shown.
    pub(crate) applied: bool,
    pub(crate) before: Vec<Delay>,
    pub(crate) after: Vec<Delay>,
    pub(crate) without_id: bool,
    /// The upload that it is for is lost.
    pub(crate) lose: bool,
    /// An older offset is told.
    pub(crate) stale: bool,
    /// The request comes once more, at once.
    pub(crate) twice: bool,
    /// Copies of the request that come once these rules let them through.
    pub(crate) late: Vec<Delay>,
    pub(crate) headers: BTreeMap<String, String>,
    /// The names of the faults, for the log.
    pub(crate) names: Vec<&'static str>,
}

/// The rules in force, in the order in which they were added.
#[derive(Default)]
pub(crate) struct Rules {
    list: Vec<Active>,
    last_id: u64,
}

impl Rules {
    pub(crate) fn add(&mut self, rule: Rule) -> u64 {
        self.last_id += 1;
        let gate = Arc::new(Semaphore::new(0));
        self.list.push(Active { id: self.last_id, rule, hits: 0, held: 0, gate });
        self.last_id
    }

    pub(crate) fn list(&self) -> &[Active] {
        &self.list
    }

    /// Ends a rule and lets through what it holds.
    pub(crate) fn clear(&mut self, id: u64) -> bool {
        let before = self.list.len();
        self.list.retain(|active| {
            if active.id == id {
                active.gate.close();
            }
            active.id != id
        });
        self.list.len() < before
    }

    /// Ends all rules and lets through what they hold.
    pub(crate) fn clear_all(&mut self) {
        self.list.drain(..).for_each(|active| active.gate.close());
    }

    /// Lets so many requests through that the rule holds, or will hold. Answers whether there is such a rule.
    pub(crate) fn release(&mut self, id: u64, requests: usize) -> bool {
        let known = self.list.iter().find(|active| active.id == id);
        known.inspect(|active| active.gate.add_permits(requests)).is_some()
    }

    /// One more or one less request is held by that rule.
    pub(crate) fn hold(&mut self, id: u64, change: isize) {
        if let Some(active) = self.list.iter_mut().find(|active| active.id == id) {
            active.held = active.held.saturating_add_signed(change);
        }
    }

    /// What shows as soon as the head of a request is in.
    pub(crate) fn early(&mut self, subject: &Subject<'_>) -> Option<Fault> {
        let meant = |fault: &Fault| match fault {
            Fault::TooLarge { bytes } => subject.length > *bytes,
            Fault::Cut { bytes } => subject.length >= *bytes,
            _ => true,
        };
        let active = self.list.iter_mut().rev().find(|active| {
            let Active { rule, .. } = &active;
            rule.fault.is_early() && active.left() != Some(0) && rule.scope.matches(subject) && meant(&rule.fault)
        })?;
        active.hits += 1;
        let fault = active.rule.fault.clone();
        self.retire();
        Some(fault)
    }

    /// What is to be done with a request, and counts it.
    pub(crate) fn plan(&mut self, subject: &Subject<'_>) -> Plan {
        let mut plan = Plan::default();
        if self.list.is_empty() {
            return plan;
        }
        for active in self.list.iter_mut().rev() {
            let shadowed = active.rule.fault.replaces_the_answer() && plan.instead.is_some();
            let over = active.left() == Some(0) || active.rule.fault.is_early();
            if over || shadowed || !active.rule.scope.matches(subject) {
                continue;
            }
            active.hits += 1;
            plan.names.push(active.rule.fault.name());
            plan.add(active);
        }
        self.retire();
        plan
    }

    /// Forgets what is used up. A gate stays: it holds what it holds until it is cleared.
    fn retire(&mut self) {
        self.list.retain(|active| active.left() != Some(0) || active.rule.fault.is_gate());
    }
}

impl Plan {
    /// Nothing in it takes time.
    pub(crate) fn is_prompt(&self) -> bool {
        self.before.is_empty() && self.after.is_empty()
    }

    fn add(&mut self, active: &Active) {
        let delays = if active.rule.applied { &mut self.after } else { &mut self.before };
        match &active.rule.fault {
            Fault::Slow { ms } => delays.push(Delay::For(Duration::from_millis(*ms))),
            Fault::Hold => delays.push(Delay::Gate(active.id, active.gate.clone())),
            Fault::Duplicate { late: false } => self.twice = true,
            Fault::Duplicate { late: true } => self.late.push(Delay::Gate(active.id, active.gate.clone())),
            Fault::WithoutId => self.without_id = true,
            Fault::LoseUpload => self.lose = true,
            Fault::StaleOffset => self.stale = true,
            Fault::Headers { headers } => self.headers.extend(headers.clone()),
            instead => {
                self.instead = Some(instead.clone());
                self.applied = active.rule.applied;
            }
        }
    }
}
