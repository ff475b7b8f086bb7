//! What one device has promised and what has left it, kept by what is seen on the wire and heard from its verbs alone: the rules
//! of a request are checked against this, and not against what the device believes.

use std::collections::HashMap;

use tauri_plugin_storage_sync::{Action, Entry, Queue, State, testing::transport::Outcome};
use uuid::Uuid;

use super::wire::Wire;

/// What somebody asked to be sent.
#[derive(Debug, Clone)]
pub struct Draft {
    pub kind: &'static str,
    pub key: Option<&'static str>,
    pub queue: Option<Queue>,
    pub action: Option<Action>,
    pub after: Vec<Uuid>,
    pub content: Content,
}

/// A payload.
#[derive(Debug, Clone, Default)]
pub struct Content {
    /// No other payload has it.
    pub mark: u64,
    /// The server never takes it.
    pub bad: bool,
    /// What it refers to.
    pub of: Vec<Uuid>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Kept,
    /// Somebody discarded it; whether it may have been applied.
    Discarded {
        possibly: bool,
    },
    /// It was settled and its time was over.
    Pruned,
}

/// What is known of a receipt.
#[derive(Debug, Clone)]
pub struct Promise {
    pub n: usize,
    pub draft: Draft,
    pub content: Content,
    pub fate: Fate,
    /// How often somebody meant it to be sent although the server may have it.
    pub again: usize,
    /// Somebody decided since the last answer: it may have a new key.
    pub revived: bool,
    /// Somebody said `force` since the last request.
    pub forced: bool,
    /// The key that was last used, and what went under it.
    pub suffix: Option<u32>,
    pub frozen: Option<String>,
    /// Something went under that key, and no answer has settled what came of it.
    pub open: bool,
    /// The server has said that what went under that key was not applied.
    pub spent: bool,
    /// Whether it was spent is not known to its device, which died in between.
    pub unsure: bool,
    pub acked: bool,
    pub canonical_id: Option<String>,
    /// The highest revision that the device had certainly seen of the thing when this was enqueued.
    base: u64,
    revision: Option<u64>,
    /// As it was before the attempt that is under way.
    before: Before,
}

#[derive(Debug, Clone, Default)]
struct Before {
    open: bool,
    own: u64,
    revision: Option<u64>,
    /// The device had heard of a revision of the server's.
    learned: bool,
    fresh: bool,
}

/// What a device knows of a thing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Lane {
    /// The highest revision that was used.
    own: u64,
    /// The highest revision of the server's that it certainly knows, and that it may know.
    seen: u64,
    heard: u64,
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
    pub paused: bool,
    /// The database was an older copy at some time: what it sent since the copy was made, it knows nothing of.
    pub restored: bool,
    /// A process ended between a claim and its request: a revision may have been skipped.
    pub killed: bool,
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
            unsure: false,
            acked: false,
            canonical_id: None,
            base,
            revision: None,
            before: Before::default(),
        };
        self.promises.insert(id, promise);
        self.order.push(id);
    }

    fn lane(&mut self, lane: &str) -> &mut Lane {
        self.lanes.entry(lane.to_owned()).or_default()
    }

    /// The app has told the device of a revision.
    pub fn observed(&mut self, lane: &str, revision: u64) {
        let lane = self.lane(lane);
        lane.seen = lane.seen.max(revision);
        lane.heard = lane.heard.max(revision);
    }

    /// The memory of lanes may be gone, but for what was used.
    pub fn lanes_forgotten(&mut self) {
        self.lanes.values_mut().for_each(|lane| lane.seen = 0);
        self.killed = true;
    }

    /// What may be on the server from now on although this database never sent it.
    pub fn doubt(&mut self, entries: &HashMap<Uuid, Entry>) {
        for (id, promise) in &mut self.promises {
            let live = entries
                .get(id)
                .is_some_and(|entry| matches!(entry.state, State::Pending | State::Failed) && entry.possibly_sent);
            promise.open |= live && !promise.spent;
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
        let exact = !self.killed && !self.restored;
        let Some(promise) = self.promises.get_mut(&wire.id) else { return Some("nobody enqueued it".into()) };
        let same_key = promise.suffix == Some(wire.suffix);
        let frozen = promise.frozen.clone().filter(|_| same_key);
        let wrong = paused.or(order).or_else(|| promise.wrong(wire, same_key)).or_else(|| match &frozen {
            Some(frozen) => (*frozen != wire.bytes).then(|| format!("another request under the same key: {frozen}")),
            None => promise.wrong_revision(wire, lane, other, exact).or_else(|| promise.wrong_content(wire)),
        });
        promise.before = Before {
            open: promise.open && (same_key || promise.suffix.is_none()),
            own: lane.own,
            revision: promise.revision,
            learned: lane.heard > 0,
            fresh: frozen.is_none(),
        };
        promise.suffix = Some(wire.suffix);
        promise.frozen = Some(wire.bytes.clone());
        promise.revision = Some(wire.revision);
        (promise.open, promise.spent, promise.forced, promise.revived) = (true, false, false, false);
        self.used.insert(slot, wire.id);
        let own = &mut self.lane(&lane_name).own;
        *own = wire.revision.max(*own);
        wrong
    }

    /// What it depends on was settled before.
    fn order_of(&self, wire: &Wire, entries: &HashMap<Uuid, Entry>) -> Option<String> {
        let promise = self.promises.get(&wire.id)?;
        for parent in promise.draft.after.iter().chain(&promise.content.of) {
            let parent = self.stands_for(*parent, entries);
            if let Some(entry) = entries.get(&parent).filter(|_| parent != wire.id) {
                let given_up = entry.state == State::Superseded && entry.superseded_by.is_none();
                // One that was beaten let this one go, and may have been meant all the same since.
                let revived = self.promises.get(&parent).is_some_and(|parent| parent.again > 0);
                if entry.state != State::Acked && !given_up && !revived {
                    return Some(format!("it left before what it depends on: {entry:#?}"));
                }
            }
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
        while let Some(next) = entries.get(&at).and_then(|entry| entry.superseded_by) {
            at = next;
        }
        at
    }

    /// An answer was heard. Answers what it must have come to, if it was a conflict.
    pub fn heard(&mut self, wire: &Wire, outcome: &Outcome, ask: bool) -> Option<Expected> {
        let lane_name = wire.lane();
        let lane = *self.lane(&lane_name);
        let promise = self.promises.get_mut(&wire.id)?;
        let before = promise.before.clone();
        match outcome {
            Outcome::Unreachable { .. } => {
                promise.open = before.open;
                if before.fresh && !before.open {
                    (promise.frozen, promise.revision) = (None, before.revision);
                    self.used.remove(&(wire.device.clone(), lane_name.clone(), wire.revision));
                    self.lane(&lane_name).own = before.own;
                }
                return None;
            }
            Outcome::Acked { learned, .. } => {
                (promise.open, promise.acked) = (false, true);
                promise.canonical_id = learned.canonical_id.clone();
                let seen = learned.revision.unwrap_or(0).max(wire.revision);
                self.observed(&lane_name, seen);
            }
            Outcome::Busy { possibly_applied: false, .. } | Outcome::Collision { .. } => {
                promise.settled(before.open, self.killed)
            }
            Outcome::Refused { status } => {
                // An application judges the content itself; anybody on the way refuses a request as such.
                promise.settled(before.open && ![400, 409, 412, 422].contains(status), self.killed);
            }
            Outcome::Conflict { learned, .. } => {
                let held = (learned.revision.unwrap_or(0), learned.device.clone().unwrap_or_default());
                let ours = (wire.revision, wire.device.clone());
                let lane_state = self.lane(&lane_name);
                lane_state.heard = lane_state.heard.max(held.0);
                let promise = self.promises.get_mut(&wire.id)?;
                if learned.idempotency_key.as_ref() == Some(&wire.idempotency_key) && held == ours {
                    return Some(Expected::Acked);
                }
                if held <= ours {
                    // Nothing that explains the refusal.
                    return None;
                }
                (promise.open, promise.spent) = (false, true);
                self.observed(&lane_name, held.0);
                if held.1 == wire.device {
                    return (held.0 > lane.own).then_some(Expected::Renewed);
                }
                // A process that ended between a claim and its request leaves an entry that nobody has seen, and that may have been sent all
                // the same; and one that ended before a commit forgot what it had heard.
                if self.restored || self.killed {
                    return None;
                }
                let overwrites = wire.kind == "memo" && !before.open;
                return if !before.open && (!before.learned || overwrites) {
                    // In the end it gives up.
                    (!before.learned).then_some(Expected::SentAgain)
                } else {
                    Some(if ask { Expected::Failed } else { Expected::Lost })
                };
            }
            _ => {}
        }
        None
    }
}

impl Promise {
    /// A process that ended between a claim and its request leaves an entry that may have been sent, for all that it knows: its key stays.
    fn settled(&mut self, open: bool, killed: bool) {
        (self.open, self.spent, self.unsure) = (open, !open, killed);
    }

    fn wrong(&self, wire: &Wire, same_key: bool) -> Option<String> {
        if self.fate != Fate::Kept {
            return Some(format!("it was {:?}", self.fate));
        }
        if self.acked {
            return Some("the server had acknowledged it".into());
        }
        if same_key && self.spent && !self.unsure {
            return Some("the server has refused what went under this key".into());
        }
        if same_key && self.draft.kind == "order" && self.open && !self.forced {
            return Some("it may have been applied, and its endpoint allows no second time".into());
        }
        if !same_key && self.suffix.is_some_and(|suffix| suffix > wire.suffix) {
            return Some("its key is one that was given up".into());
        }
        if !same_key && self.suffix.is_some() && !self.spent && !self.revived {
            return Some("a new key, although nothing is known of what went under the old one".into());
        }
        None
    }

    /// Above all that was known of the thing when it was enqueued, and above all that this device has ever sent of it; and no
    /// further than that.
    fn wrong_revision(&self, wire: &Wire, lane: Lane, other: Option<Uuid>, exact: bool) -> Option<String> {
        if let Some(other) = other {
            return Some(format!("revision {} was that of {other}", wire.revision));
        }
        if wire.revision <= self.base {
            return Some(format!("revision {} is not above {}, which was known", wire.revision, self.base));
        }
        if self.revision != Some(wire.revision) && wire.revision <= lane.own {
            return Some(format!("revision {} is not above {}, which was sent", wire.revision, lane.own));
        }
        let most = lane.own.max(lane.heard) + 1;
        (exact && wire.key.is_some() && wire.revision > most)
            .then(|| format!("revision {} leaves some out", wire.revision))
    }

    fn wrong_content(&self, wire: &Wire) -> Option<String> {
        let meant = (!wire.deletes).then_some(self.content.mark);
        let deletes = self.draft.action == Some(Action::Delete);
        (wire.mark != meant || wire.deletes != deletes).then(|| format!("it carries {:?} and not {meant:?}", wire.mark))
    }
}
