//! The model: what a server holds, and how it answers.

use std::collections::{BTreeMap, HashMap};

use tauri_plugin_storage_sync::testing::transport::{Answer, Learned, Outcome};
use uuid::Uuid;

use super::wire::Wire;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Keeps the answers by their idempotency keys, and compares revisions.
    Full,
    /// Compares revisions only. Whether it says in a conflict whose write it holds is left to the history.
    Compares,
    /// Takes everything as it comes.
    Neither,
}

/// What is held of one thing. It stays when the thing is deleted.
#[derive(Debug, Clone)]
pub struct Held {
    pub revision: u64,
    pub device: String,
    pub idempotency_key: String,
    pub exists: bool,
    pub canonical_id: Option<String>,
    pub etag: Option<String>,
    pub mark: Option<u64>,
}

/// One write that was applied.
#[derive(Debug, Clone)]
pub struct Write {
    pub mark: Option<u64>,
}

pub struct Server {
    pub mode: Mode,
    names_keys: bool,
    pub things: BTreeMap<String, Held>,
    /// The highest write that was accepted of each thing.
    highest: BTreeMap<String, (u64, String)>,
    answers: HashMap<String, (String, Answer)>,
    writes: HashMap<Uuid, Vec<Write>>,
    pub applied: u64,
    given: u64,
    pub broken: Vec<String>,
}

/// Where revisions mean nothing, and entity tags do.
pub const TAGGED: &str = "page";
const GIVES_IDS: [&str; 3] = ["listing", "note", "order"];

impl Server {
    pub fn new(mode: Mode, names_keys: bool) -> Self {
        Self {
            mode,
            names_keys,
            things: BTreeMap::new(),
            highest: BTreeMap::new(),
            answers: HashMap::new(),
            writes: HashMap::new(),
            applied: 0,
            given: 0,
            broken: Vec::new(),
        }
    }

    /// Whether a conflict tells whose write is held.
    pub fn names_keys(&self) -> bool {
        self.names_keys
    }

    /// The writes of that entry, under whichever of its keys.
    pub fn writes_of(&self, id: Uuid) -> &[Write] {
        self.writes.get(&id).map_or(&[], Vec::as_slice)
    }

    /// What the server does with a request that has reached it, in the order of docs/server-contract.md.
    pub fn take(&mut self, wire: &Wire) -> Answer {
        if self.mode == Mode::Full
            && let Some((known, answer)) = self.answers.get(&wire.idempotency_key)
        {
            return if *known == wire.fingerprint { answer.clone() } else { Outcome::Refused { status: 422 }.into() };
        }
        let answer: Answer = self.judge(wire).into();
        let stored = matches!(
            answer.outcome,
            Outcome::Acked { .. } | Outcome::Conflict { .. } | Outcome::Refused { status: 400 | 422 }
        );
        if self.mode == Mode::Full && stored {
            self.answers.insert(wire.idempotency_key.clone(), (wire.fingerprint.clone(), answer.clone()));
        }
        answer
    }

    fn judge(&mut self, wire: &Wire) -> Outcome {
        let thing = wire.thing();
        let held = thing.as_ref().and_then(|thing| self.things.get(thing)).cloned();
        let named = held.as_ref().filter(|held| held.exists && held.canonical_id == wire.canonical_id);
        if wire.canonical_id.is_some() && named.is_none() {
            let status = if held.is_some() { 410 } else { 404 };
            let done = Outcome::Acked { status, learned: Learned::default() };
            return if wire.deletes { done } else { Outcome::Refused { status } };
        }
        if self.mode != Mode::Neither
            && let Some(held) = held.as_ref().filter(|_| wire.kind == TAGGED)
            && (wire.if_none_match || wire.if_match.is_some() && wire.if_match != held.etag)
        {
            return Outcome::Conflict {
                status: 412,
                learned: Learned { etag: held.etag.clone(), ..Learned::default() },
            };
        }
        if self.mode != Mode::Neither
            && let Some(held) = held.as_ref().filter(|_| wire.kind != TAGGED)
            && (wire.revision, &wire.device) <= (held.revision, &held.device)
        {
            return Outcome::Conflict { status: 409, learned: self.told(held) };
        }
        if wire.bad {
            return Outcome::Refused { status: 400 };
        }
        self.apply(wire, thing, held)
    }

    fn told(&self, held: &Held) -> Learned {
        Learned {
            revision: Some(held.revision),
            device: Some(held.device.clone()),
            idempotency_key: self.names_keys.then(|| held.idempotency_key.clone()),
            canonical_id: held.canonical_id.clone().filter(|_| held.exists),
            ..Learned::default()
        }
    }

    fn apply(&mut self, wire: &Wire, thing: Option<String>, held: Option<Held>) -> Outcome {
        self.applied += 1;
        let write = Write { mark: wire.mark };
        self.writes.entry(wire.id).or_default().push(write);
        let kept = held.as_ref().filter(|held| held.exists).and_then(|held| held.canonical_id.clone());
        let canonical_id = GIVES_IDS.contains(&wire.kind.as_str()).then(|| {
            kept.unwrap_or_else(|| {
                self.given += 1;
                format!("srv-{}", self.given)
            })
        });
        let tagged = wire.kind == TAGGED && self.mode != Mode::Neither;
        let etag = tagged.then(|| format!("\"v{}\"", self.applied));
        let mut learned = Learned { canonical_id: canonical_id.clone(), etag: etag.clone(), ..Learned::default() };
        if let Some(thing) = thing {
            learned.revision = Some(wire.revision).filter(|_| !tagged);
            let written = (wire.revision, wire.device.clone());
            if !tagged && held.is_some_and(|held| self.mode != Mode::Neither && (held.revision, held.device) >= written)
            {
                self.broken.push(format!("the revision of {thing} fell to {written:?}"));
            }
            let highest = self.highest.entry(thing.clone()).or_insert_with(|| written.clone());
            *highest = written.max(highest.clone());
            let held = Held {
                revision: wire.revision,
                device: wire.device.clone(),
                idempotency_key: wire.idempotency_key.clone(),
                exists: !wire.deletes,
                canonical_id,
                etag,
                mark: wire.mark,
            };
            self.things.insert(thing, held);
        }
        Outcome::Acked { status: 200, learned }
    }

    /// At rest the highest write that was ever accepted is what is held.
    pub fn check(&self) {
        let compared = |thing: &str| self.mode != Mode::Neither && !thing.starts_with(TAGGED);
        for (thing, held) in self.things.iter().filter(|(thing, _)| compared(thing)) {
            let highest = &self.highest[thing];
            assert_eq!((held.revision, &held.device), (highest.0, &highest.1), "{thing} does not hold the newest");
        }
    }
}
