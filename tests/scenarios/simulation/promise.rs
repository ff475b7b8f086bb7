//! What one receipt promises, as far as its device can know what became of it, and what may be sent for it.

use std::collections::HashSet;

use tauri_plugin_storage_sync::{Action, Queue, testing::transport::Outcome};
use uuid::Uuid;

use super::{ledger::Lane, wire::Wire};

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
    /// For all that its device knows it may have been applied: something of it was claimed, and no answer has settled what came of it.
    pub open: bool,
    /// The server has said that what went under that key was not applied.
    pub spent: bool,
    pub acked: bool,
    /// A newer write stands, until somebody decides.
    pub beaten: bool,
    pub canonical_id: Option<String>,
    /// What it depends on that was settled while it did.
    pub met: HashSet<Uuid>,
    /// Every request of it: the key's number, the revision, and the payload.
    pub sent: Vec<(u32, u64, u64)>,
    /// How often it was put above what the server holds, in this life of its device.
    pub rebased: u32,
    /// The highest revision that the device had seen of the thing when this was enqueued, or was last meant.
    pub base: u64,
    pub revision: Option<u64>,
    /// A claim froze this revision, and the process ended before it could be sent.
    pub frozen_unsent: Option<u64>,
    /// Somebody paused it.
    pub paused: bool,
    /// It was seen to wait since: nothing of it leaves.
    pub held: bool,
    /// The attempt that is under way.
    pub claim: Option<Claim>,
}

/// An attempt, from the commit that claims it to the one that settles it.
#[derive(Debug, Clone)]
pub struct Claim {
    pub revision: u64,
    /// Nothing of it is sent.
    pub doomed: bool,
    pub left: Option<Wire>,
    pub answer: Option<Outcome>,
    /// As it was before.
    pub open: bool,
    pub spent: bool,
    pub forced: bool,
    pub suffix: Option<u32>,
    pub frozen: Option<String>,
    pub own: u64,
    pub before: Option<u64>,
    /// The device had heard of a revision of the server's.
    pub learned: bool,
}

impl Promise {
    /// The device's own lane.
    pub fn lane(&self, id: Uuid) -> String {
        self.draft.key.map_or_else(|| id.to_string(), |key| format!("{}/{key}", self.draft.kind))
    }

    pub fn is_claimed(&self) -> bool {
        self.claim.is_some()
    }

    pub fn settled(&mut self, open: bool) {
        (self.open, self.spent) = (open, !open);
    }

    /// No byte leaves before the commit that claims it.
    pub fn unclaimed(&self, wire: &Wire) -> Option<String> {
        match &self.claim {
            None => Some("it left before it was claimed".into()),
            Some(Claim { doomed: true, .. }) => Some("it was claimed only to be settled".into()),
            Some(Claim { left: Some(_), .. }) => Some("it left twice for one claim".into()),
            Some(claim) if claim.revision != wire.revision => {
                Some(format!("revision {} is not the one that was claimed, {}", wire.revision, claim.revision))
            }
            Some(_) => None,
        }
    }

    pub fn wrong(&self, wire: &Wire, same_key: bool) -> Option<String> {
        if self.fate != Fate::Kept {
            return Some(format!("it was {:?}", self.fate));
        }
        if self.acked {
            return Some("the server had acknowledged it".into());
        }
        // Unless a copy of the database may have sent it since: what is in doubt keeps the key that it has.
        if same_key && self.spent && !self.open {
            return Some("the server has refused what went under this key".into());
        }
        if self.draft.kind == "order" && self.open && !self.forced {
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
    pub fn wrong_revision(&self, wire: &Wire, lane: Lane, other: Option<Uuid>, most: Option<u64>) -> Option<String> {
        if let Some(other) = other {
            return Some(format!("revision {} was that of {other}", wire.revision));
        }
        if wire.revision <= self.base {
            return Some(format!("revision {} is not above {}, which was known", wire.revision, self.base));
        }
        let kept = self.revision == Some(wire.revision);
        if wire.revision < lane.own || wire.revision == lane.own && !kept {
            return Some(format!("revision {} is not above {}, which was sent", wire.revision, lane.own));
        }
        let most = most.map(|most| most.max(self.base) + 1);
        most.filter(|most| wire.key.is_some() && wire.revision > *most)
            .map(|most| format!("revision {} leaves some out from {most}", wire.revision))
    }

    pub fn wrong_content(&self, wire: &Wire) -> Option<String> {
        let meant = (!wire.deletes).then_some(self.content.mark);
        let deletes = self.draft.action == Some(Action::Delete);
        (wire.mark != meant || wire.deletes != deletes).then(|| format!("it carries {:?} and not {meant:?}", wire.mark))
    }
}
