//! What one device has promised, what has left it and what its commits have made of that: the rules of a request are checked against
//! this, and not against what the device believes. An answer counts as heard once its settlement is committed; what was claimed when a
//! process ended may have been sent, whether it was or not.

use std::collections::{HashMap, HashSet};

use tauri_plugin_storage_sync::{
    Entry, State,
    testing::{
        store::Committed,
        transport::{Learned, Outcome},
    },
};
use uuid::Uuid;

use super::{
    promise::{Claim, Draft, Fate, Promise},
    states,
    wire::Wire,
};

/// An endpoint with `overwrite` gives up after as many newer writes.
const OVERWRITES: u32 = 10;

/// What a device knows of a thing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Lane {
    /// The highest revision that was used.
    pub own: u64,
    /// The highest revision of the server's that it knows.
    seen: u64,
}

/// What a conflict must have come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// The server holds this very write.
    Acked,
    /// The first thing that was heard of the server: the write goes above it.
    SentAgain,
    /// A newer write stands.
    Lost,
    /// Somebody decides.
    Failed,
    /// The database is an older copy, and the device another one from now on.
    Renewed,
}

#[derive(Debug, Clone, Default)]
pub struct Ledger {
    pub promises: HashMap<Uuid, Promise>,
    pub order: Vec<Uuid>,
    lanes: HashMap<String, Lane>,
    /// Which entry went under which revision, by device and lane.
    used: HashMap<(String, String, u64), Uuid>,
    /// The entries by their numbers in the database.
    seqs: HashMap<i64, Uuid>,
    /// Which entry took the place of which: that outlives the one that was replaced.
    replaced: HashMap<Uuid, Uuid>,
    /// The highest revision that was known of a lane that is forgotten: one that begins anew goes above it.
    forgotten: u64,
    /// Devices that the database is no more, since another copy of it was one.
    given_up: HashSet<String>,
    pub paused: bool,
    /// The database was an older copy at some time: what it sent since the copy was made, it knows nothing of.
    pub restored: bool,
}

impl Ledger {
    pub fn promise(&mut self, id: Uuid, draft: Draft) {
        let base = draft.key.map_or(0, |key| self.lane(&format!("{}/{key}", draft.kind)).seen);
        let promise = Promise {
            n: self.order.len(),
            content: draft.content.clone(),
            draft,
            fate: Fate::Kept,
            again: 0,
            revived: false,
            forced: false,
            suffix: None,
            frozen: None,
            open: false,
            spent: false,
            acked: false,
            beaten: false,
            canonical_id: None,
            met: HashSet::new(),
            sent: Vec::new(),
            rebased: 0,
            base,
            revision: None,
            frozen_unsent: None,
            paused: false,
            held: false,
            claim: None,
        };
        self.promises.insert(id, promise);
        self.order.push(id);
    }

    fn lane(&mut self, lane: &str) -> &mut Lane {
        self.lanes.entry(lane.to_owned()).or_default()
    }

    /// The entries whose number in the database is not known yet.
    pub fn unnumbered(&self) -> Vec<Uuid> {
        let known: HashSet<&Uuid> = self.seqs.values().collect();
        self.order.iter().filter(|id| !known.contains(id)).copied().collect()
    }

    pub fn number(&mut self, id: Uuid, seq: i64) {
        self.seqs.insert(seq, id);
    }

    /// The app has told the device of a revision.
    pub fn observed(&mut self, lane: &str, revision: u64) {
        let lane = self.lane(lane);
        lane.seen = lane.seen.max(revision);
    }

    /// The memory of lanes is gone where nothing is left that belongs to them, but for the highest revision of all.
    pub fn lanes_forgotten(&mut self, kept: &HashSet<String>) {
        for (name, lane) in &mut self.lanes {
            if !kept.contains(name) {
                self.forgotten = self.forgotten.max(lane.own).max(lane.seen);
                lane.seen = 0;
            }
        }
    }

    /// Somebody decided about an entry that was beaten, knowing what the server holds.
    pub fn revive(&mut self, id: Uuid) {
        let Some(promise) = self.promises.get(&id) else { return };
        let seen = self.lanes.get(&promise.lane(id)).map_or(0, |lane| lane.seen);
        let Some(promise) = self.promises.get_mut(&id) else { return };
        (promise.revived, promise.open, promise.spent, promise.beaten, promise.rebased) = (true, false, true, false, 0);
        promise.base = promise.base.max(seen);
    }

    /// What was settled by now lets go what depends on it.
    pub fn meet(&mut self, entries: &HashMap<Uuid, Entry>) {
        for entry in entries.values() {
            match entry.superseded_by {
                Some(newer) => self.replaced.insert(entry.id, newer),
                None => self.replaced.remove(&entry.id),
            };
        }
        for id in &self.order {
            let promise = &self.promises[id];
            let told = promise.draft.after.iter().map(|parent| (*parent, false));
            let named = promise.content.of.iter().map(|parent| (*parent, true));
            let met: Vec<Uuid> = told
                .chain(named)
                .filter(|(parent, needs_id)| self.is_settled(*parent, *needs_id, *id, entries))
                .map(|(parent, _)| parent)
                .collect();
            self.promises.entry(*id).and_modify(|promise| promise.met.extend(met));
        }
    }

    fn is_settled(&self, parent: Uuid, needs_id: bool, child: Uuid, entries: &HashMap<Uuid, Entry>) -> bool {
        let stands = self.stands_for(parent, entries);
        match entries.get(&stands) {
            _ if stands == child => true,
            Some(entry) => {
                let given_up = entry.state == State::Superseded && entry.superseded_by.is_none();
                entry.state == State::Acked || given_up && (!needs_id || entry.canonical_id.is_some())
            }
            None => {
                let promise = self.promises.get(&stands);
                promise.is_none_or(|promise| promise.acked || promise.fate == Fate::Pruned)
            }
        }
    }

    /// A commit of claims and settlements. Answers what is wrong with it, and the conflict that it settled with what that must have
    /// come to.
    pub fn committed(
        &mut self,
        committed: &Committed,
        before: &HashMap<Uuid, Entry>,
    ) -> Result<Option<(Uuid, String, Expected)>, String> {
        match committed {
            Committed::Renewed => self.renewed(before).map(|()| None),
            Committed::Settled { seq } => self.settled(*seq),
            Committed::Claimed { seq, revision, doomed } => self.claimed(*seq, *revision, *doomed).map(|()| None),
            other => Err(format!("{other:?} is not known here")),
        }
    }

    /// Whatever waits may have been sent by a copy of this database.
    fn renewed(&mut self, before: &HashMap<Uuid, Entry>) -> Result<(), String> {
        if !self.restored {
            return Err("the device is another one, although its database is no copy".into());
        }
        for (id, promise) in &mut self.promises {
            let live = before
                .get(id)
                .is_none_or(|entry| matches!(entry.state, State::Pending | State::Inflight | State::Failed));
            let lost = promise.beaten && before.get(id).is_some_and(|entry| entry.lost);
            if live && !lost && !promise.acked && promise.fate == Fate::Kept {
                promise.open = true;
                if let Some(claim) = &mut promise.claim {
                    claim.open = true;
                }
            }
        }
        Ok(())
    }

    fn claimed(&mut self, seq: i64, revision: u64, doomed: bool) -> Result<(), String> {
        // One that was enqueued only to see whether its id is free.
        let Some(id) = self.seqs.get(&seq).copied() else { return Ok(()) };
        let lane_name = self.promises[&id].lane(id);
        let twice =
            self.promises.iter().find(|(other, promise)| promise.claim.is_some() && promise.lane(**other) == lane_name);
        if let Some((_, other)) = twice {
            return Err(format!("entries {} and {} of {lane_name} are in flight", other.n, self.promises[&id].n));
        }
        let lane = *self.lane(&lane_name);
        let promise = self.promises.entry(id).or_insert_with(|| unreachable!("it was found right before"));
        if promise.fate != Fate::Kept || promise.acked || promise.beaten {
            return Err(format!("it is claimed, and nothing is left to be sent of it: {promise:?}"));
        }
        if promise.frozen_unsent.is_some_and(|frozen| frozen != revision) {
            return Err(format!("revision {revision} is another one than what may have been sent: {promise:?}"));
        }
        promise.claim = Some(Claim {
            revision,
            doomed,
            left: None,
            answer: None,
            open: promise.open,
            spent: promise.spent,
            forced: promise.forced,
            suffix: promise.suffix,
            frozen: promise.frozen.clone(),
            own: lane.own,
            before: promise.revision,
            learned: lane.seen > 0,
        });
        Ok(())
    }

    fn settled(&mut self, seq: i64) -> Result<Option<(Uuid, String, Expected)>, String> {
        let Some(id) = self.seqs.get(&seq).copied() else { return Ok(None) };
        let Some(promise) = self.promises.get_mut(&id) else { return Ok(None) };
        let Some(claim) = promise.claim.take() else {
            return Err(format!("what was not claimed is settled: {promise:?}"));
        };
        match (&claim.left, &claim.answer) {
            (Some(wire), Some(outcome)) => {
                let expected = self.heard(id, &claim, wire, outcome);
                Ok(expected.map(|expected| (id, wire.device.clone(), expected)))
            }
            // It was given back.
            (None, None) => Ok(None),
            _ => Err(format!("it is settled without an answer: {promise:?}")),
        }
    }

    /// How often something was put above what the server holds is not remembered by another process.
    pub fn restarted(&mut self) {
        self.promises.values_mut().for_each(|promise| promise.rebased = 0);
    }

    /// The process has ended. Answers what had been claimed and had not left.
    pub fn died(&mut self) -> Vec<Uuid> {
        let mut unsent = Vec::new();
        for id in &self.order {
            let promise = self.promises.entry(*id).or_insert_with(|| unreachable!("what is in order is promised"));
            promise.rebased = 0;
            let Some(claim) = promise.claim.take().filter(|claim| !claim.doomed) else { continue };
            (promise.open, promise.forced, promise.revision) = (true, false, Some(claim.revision));
            if claim.left.is_none() {
                promise.frozen_unsent = Some(claim.revision);
                unsent.push(*id);
            }
            let lane = self.lanes.entry(promise.lane(*id)).or_default();
            lane.own = lane.own.max(claim.revision);
        }
        unsent
    }

    /// An answer has arrived; it is heard once it is committed.
    pub fn answered(&mut self, id: Uuid, outcome: &Outcome) {
        if let Some(claim) = self.promises.get_mut(&id).and_then(|promise| promise.claim.as_mut()) {
            claim.answer = Some(outcome.clone());
        }
    }

    /// A request has left. Answers what is wrong with it.
    pub fn left(&mut self, wire: &Wire, entries: &HashMap<Uuid, Entry>) -> Option<String> {
        let paused = self.paused.then(|| "it left although delivery is paused".to_owned());
        let order = self.order_of(wire, entries);
        let lane_name = wire.lane();
        let lane = *self.lane(&lane_name);
        let slot = (wire.device.clone(), lane_name.clone(), wire.revision);
        let other = self.used.get(&slot).copied().filter(|id| *id != wire.id);
        let most = (!self.restored).then(|| lane.own.max(lane.seen).max(self.forgotten));
        let Some(promise) = self.promises.get_mut(&wire.id) else { return Some("nobody enqueued it".into()) };
        let same_key = promise.suffix == Some(wire.suffix);
        let frozen = promise.frozen.clone().filter(|_| same_key);
        let held = promise.held.then(|| "it left although it is paused".to_owned());
        let wrong =
            paused.or(held).or(order).or_else(|| promise.unclaimed(wire)).or_else(|| promise.wrong(wire, same_key));
        let wrong = wrong.or_else(|| match &frozen {
            Some(frozen) => (*frozen != wire.bytes).then(|| format!("another request under the same key: {frozen}")),
            None => promise.wrong_revision(wire, lane, other, most).or_else(|| promise.wrong_content(wire)),
        });
        promise.suffix = Some(wire.suffix);
        promise.frozen = Some(wire.bytes.clone());
        (promise.revision, promise.frozen_unsent) = (Some(wire.revision), None);
        (promise.open, promise.spent, promise.forced, promise.revived) = (true, false, false, false);
        promise.sent.push((wire.suffix, wire.revision, promise.content.mark));
        if let Some(claim) = &mut promise.claim {
            claim.left = Some(wire.clone());
        }
        self.used.insert(slot, wire.id);
        let own = &mut self.lane(&lane_name).own;
        *own = wire.revision.max(*own);
        wrong
    }

    /// What it depends on was settled before.
    fn order_of(&self, wire: &Wire, entries: &HashMap<Uuid, Entry>) -> Option<String> {
        let promise = self.promises.get(&wire.id)?;
        let waits = |parent: &&Uuid| !promise.met.contains(*parent);
        let named = promise.content.of.iter().find(waits);
        // What is gone need not be followed any more, if somebody says so.
        let is_there = |parent: &&Uuid| entries.contains_key(&self.stands_for(**parent, entries));
        if let Some(parent) = named.or_else(|| promise.draft.after.iter().filter(waits).find(is_there)) {
            return Some(format!("it left before what it depends on: {:#?}", entries.get(parent)));
        }
        let meant: Vec<Option<String>> = promise
            .content
            .of
            .iter()
            .map(|parent| {
                let parent = self.stands_for(*parent, entries);
                let heard = self.promises.get(&parent).and_then(|parent| parent.canonical_id.clone());
                heard.or_else(|| entries.get(&parent).and_then(|entry| entry.canonical_id.clone()))
            })
            .collect();
        let right = wire.deletes
            || meant.len() == wire.of.len()
                && meant.iter().zip(&wire.of).all(|(meant, sent)| meant.as_ref().is_none_or(|meant| meant == sent));
        (!right).then(|| format!("it refers to {:?} and not to {meant:?}", wire.of))
    }

    /// The last of those that replaced it.
    fn stands_for(&self, id: Uuid, entries: &HashMap<Uuid, Entry>) -> Uuid {
        let mut at = id;
        let next = |at: Uuid| match entries.get(&at) {
            Some(entry) => entry.superseded_by,
            None => self.replaced.get(&at).copied(),
        };
        while let Some(newer) = next(at) {
            at = newer;
        }
        at
    }

    /// An answer was heard. Answers what it must have come to, if it was a conflict.
    fn heard(&mut self, id: Uuid, claim: &Claim, wire: &Wire, outcome: &Outcome) -> Option<Expected> {
        let lane_name = wire.lane();
        let promise = self.promises.get_mut(&id)?;
        match outcome {
            Outcome::Unreachable { .. } => {
                (promise.open, promise.forced) = (claim.open, claim.forced);
                if !claim.open {
                    // Nothing of it was ever seen by anybody.
                    (promise.frozen, promise.revision) = (claim.frozen.clone(), claim.before);
                    (promise.suffix, promise.spent) = (claim.suffix, claim.spent);
                    promise.sent.pop();
                    self.used.remove(&(wire.device.clone(), lane_name.clone(), wire.revision));
                    self.lane(&lane_name).own = claim.own;
                }
            }
            Outcome::Acked { learned, .. } => {
                (promise.open, promise.acked) = (false, true);
                promise.canonical_id = learned.canonical_id.clone();
                let seen = learned.revision.unwrap_or(0).max(wire.revision);
                self.observed(&lane_name, seen);
            }
            Outcome::Busy { possibly_applied: false, .. } | Outcome::Collision { .. } => promise.settled(claim.open),
            Outcome::Refused { status } => {
                // An application judges the content itself; anybody on the way refuses a request as such.
                promise.settled(claim.open && ![400, 409, 412, 422].contains(status));
            }
            Outcome::Conflict { learned, .. } => return self.beaten(id, claim, wire, learned),
            _ => {}
        }
        None
    }

    /// The server refused a request because of what it holds.
    fn beaten(&mut self, id: Uuid, claim: &Claim, wire: &Wire, learned: &Learned) -> Option<Expected> {
        let lane_name = wire.lane();
        let own = self.lane(&lane_name).own;
        let promise = self.promises.get_mut(&id)?;
        let device = learned.device.clone().unwrap_or_default();
        // A server with tags says only that the thing is another one by now.
        let told = learned.revision.is_some();
        let revision = learned.revision.unwrap_or(0);
        let ours = device == wire.device;
        let named = learned.idempotency_key.as_ref();
        let suffix = named
            .filter(|key| key.split('.').next() == Some(&id.to_string()))
            .map(|key| key.split_once('.').map_or(0, |(_, suffix)| suffix.parse().unwrap_or(u32::MAX)));
        let echo = (suffix.unwrap_or(u32::MAX), revision, promise.content.mark);
        if ours && promise.sent.contains(&echo) {
            (promise.open, promise.acked) = (false, true);
            promise.canonical_id = learned.canonical_id.clone();
            self.observed(&lane_name, revision);
            return Some(Expected::Acked);
        }
        let unheard = ours
            && (revision > own
                || revision == wire.revision && named.is_some() && suffix.is_none_or(|n| n > wire.suffix));
        if told && !unheard && (revision, &device) <= (wire.revision, &wire.device) {
            // Nothing that explains the refusal.
            return None;
        }
        (promise.open, promise.spent) = (false, true);
        self.observed(&lane_name, revision);
        let news = unheard && self.given_up.insert(wire.device.clone());
        let promise = self.promises.get_mut(&id)?;
        if news {
            (promise.open, promise.beaten) = (true, true);
            return Some(Expected::Renewed);
        }
        if self.restored {
            return None;
        }
        // Whoever named the version that he changed has asked.
        let first = !claim.open && !claim.learned && promise.rebased == 0 && wire.if_match.is_none();
        let overwrites = wire.kind == "memo" && !claim.open && promise.rebased < OVERWRITES;
        if first || overwrites {
            promise.rebased += 1;
            promise.base = promise.base.max(revision);
            return Some(Expected::SentAgain);
        }
        (promise.open, promise.beaten, promise.rebased) = (claim.open, true, 0);
        let decides = wire.kind == "draft" || wire.kind == "memo" && !claim.open;
        Some(if decides { Expected::Failed } else { Expected::Lost })
    }

    /// A pause holds what waits, and is over with what is settled.
    pub fn hold(&mut self, entries: &HashMap<Uuid, Entry>) {
        for (id, promise) in &mut self.promises {
            match entries.get(id).map(|entry| entry.state) {
                Some(State::Pending) => promise.held = promise.paused,
                Some(State::Inflight) => {}
                _ => (promise.paused, promise.held) = (false, false),
            }
        }
    }

    /// What a copy of the database made of it, nobody can tell beforehand.
    pub fn believe(&mut self, entries: &HashMap<Uuid, Entry>) {
        for (id, promise) in self.promises.iter_mut().filter(|_| self.restored) {
            if let Some(entry) = entries.get(id).filter(|entry| entry.state != State::Inflight) {
                (promise.open, promise.beaten) = (entry.possibly_sent, states::is_contested(entry));
            }
        }
    }
}
