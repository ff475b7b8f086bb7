//! The model: what a server holds, and what the way to it does to requests and answers.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard},
};

use tauri_plugin_storage_sync::testing::transport::{Answer, Delivery, Learned, Outcome, Request, Transport};
use uuid::Uuid;

use super::dice::Dice;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Keeps idempotency keys and compares revisions.
    Full,
    /// Compares revisions only.
    Compares,
    /// Takes everything as it comes.
    Neither,
}

/// What is held of one thing.
#[derive(Debug, Clone)]
struct Held {
    revision: u64,
    device: String,
    key: String,
}

/// One write that was applied.
#[derive(Debug, Clone)]
pub struct Write {
    pub id: Uuid,
    pub key: String,
}

struct World {
    mode: Mode,
    dice: Dice,
    healed: bool,
    things: BTreeMap<String, Held>,
    answers: HashMap<String, (Vec<u8>, Answer)>,
    writes: Vec<Write>,
    /// What every idempotency key was first seen with, by device.
    seen: HashMap<(u64, String), (String, Vec<u8>, String)>,
    inflight: HashSet<(u64, String)>,
    late: Vec<Request>,
    faults: u64,
    /// Broken promises. Told at the end: the engine takes a transport that panics for one that gives no answer.
    broken: Vec<String>,
}

pub struct Server {
    world: Mutex<World>,
}

fn header<'r>(request: &'r Request, name: &str) -> Option<&'r str> {
    request.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

impl Server {
    pub fn new(mode: Mode, seed: u64) -> Self {
        let world = World {
            mode,
            dice: Dice::new(seed ^ 0x5EED),
            healed: false,
            things: BTreeMap::new(),
            answers: HashMap::new(),
            writes: Vec::new(),
            seen: HashMap::new(),
            inflight: HashSet::new(),
            late: Vec::new(),
            faults: 0,
            broken: Vec::new(),
        };
        Self { world: Mutex::new(world) }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// From now on every request arrives and every answer too.
    pub fn heal(&self) {
        self.world().healed = true;
    }

    pub fn applied(&self) -> u64 {
        self.world().writes.len() as u64
    }

    pub fn faults(&self) -> u64 {
        self.world().faults
    }

    /// The writes of that entry, under whichever of its keys, with their places in the order of all.
    pub fn writes_of(&self, id: Uuid) -> Vec<(usize, Write)> {
        self.world().writes.iter().cloned().enumerate().filter(|(_, write)| write.id == id).collect()
    }

    /// A restored device has forgotten what it sent.
    pub fn forget(&self, device: u64) {
        self.world().seen.retain(|(of, _), _| *of != device);
    }

    /// What the newest write of every thing is: at rest that is what is held.
    pub fn check(&self) {
        let world = self.world();
        assert!(world.broken.is_empty(), "{:#?}", world.broken);
        for (thing, held) in &world.things {
            let newest = world.writes.iter().rev().find(|write| write.key == held.key);
            assert!(newest.is_some(), "{thing} holds {held:?}, which nobody wrote");
        }
    }
}

impl World {
    /// What a server does with a request that reached it.
    fn apply(&mut self, request: &Request) -> Answer {
        let key = header(request, "idempotency-key").expect("every request has one").trim_matches('"').to_owned();
        let mut bytes = format!("{} {}\n", request.method, request.url).into_bytes();
        bytes.extend(&request.body);
        if self.mode == Mode::Full
            && let Some((known, answer)) = self.answers.get(&key)
        {
            return if *known == bytes { answer.clone() } else { Outcome::Refused { status: 422 }.into() };
        }
        let thing = header(request, "sync-key").map(|name| format!("{} {name}", kind(request)));
        let revision: u64 = header(request, "sync-revision").expect("every request has one").parse().expect("a number");
        let device = header(request, "sync-device").expect("every request has one").to_owned();
        let canonical_id = thing.as_ref().map_or_else(|| format!("n-{key}"), |thing| format!("c-{thing}"));
        let mut learned = Learned { canonical_id: Some(canonical_id), ..Learned::default() };
        if let Some(thing) = thing {
            let held = self.things.get(&thing).cloned();
            if self.mode != Mode::Neither
                && let Some(held) = &held
                && (revision, &device) <= (held.revision, &held.device)
            {
                learned.revision = Some(held.revision);
                learned.device = Some(held.device.clone());
                learned.idempotency_key = Some(held.key.clone());
                return Outcome::Conflict { status: 409, learned }.into();
            }
            learned.revision = Some(revision);
            self.things.insert(thing, Held { revision, device, key: key.clone() });
        }
        let id = key.split('.').next().and_then(|id| id.parse().ok()).expect("a key begins with the entry's id");
        self.writes.push(Write { id, key: key.clone() });
        let answer: Answer = Outcome::Acked { status: 200, learned }.into();
        if self.mode == Mode::Full {
            self.answers.insert(key, (bytes, answer.clone()));
        }
        answer
    }

    /// A request has left a device: whatever comes of it, that key is this request from now on.
    fn left(&mut self, device: u64, key: String, request: &Request) {
        let revision = header(request, "sync-revision").unwrap_or_default().to_owned();
        let now = (request.url.to_string(), request.body.clone(), revision);
        let first = self.seen.entry((device, key.clone())).or_insert_with(|| now.clone()).clone();
        if first != now {
            self.broken.push(format!("two requests under the same key {key}: {first:?} and {now:?}"));
        }
    }

    /// The way there and back.
    fn carry(&mut self, request: &Request) -> Answer {
        if self.healed {
            return self.apply(request);
        }
        // A request that was thought lost arrives after all.
        if self.dice.roll(12) == 0 && !self.late.is_empty() {
            let at = self.dice.roll(self.late.len() as u64) as usize;
            let late = self.late.swap_remove(at);
            self.apply(&late);
        }
        let unknown = || Outcome::Unknown { why: "lost".into(), timed_out: false }.into();
        let roll = self.dice.roll(20);
        self.faults += u64::from(roll < 9);
        match roll {
            0 => Outcome::Unreachable { why: "no way".into() }.into(),
            1 => {
                self.late.push(request.clone());
                unknown()
            }
            2..=4 => {
                self.apply(request);
                unknown()
            }
            5 => Outcome::Retry { status: 500, floor: None }.into(),
            6 => Outcome::Busy { status: 503, possibly_applied: true, floor: None }.into(),
            7 => Outcome::Busy { status: 429, possibly_applied: false, floor: None }.into(),
            8 => Outcome::Unproven { status: 200, why: "a page".into() }.into(),
            _ => self.apply(request),
        }
    }
}

fn kind(request: &Request) -> &str {
    request.url.path_segments().and_then(|mut parts| parts.next()).unwrap_or_default()
}

/// The way from one device.
pub struct Way {
    pub device: u64,
    pub server: Arc<Server>,
}

/// Leaves the lane when the attempt is over, also when it is cut off.
struct Passing<'s>(&'s Server, (u64, String));

impl Drop for Passing<'_> {
    fn drop(&mut self) {
        self.0.world().inflight.remove(&self.1);
    }
}

impl Transport for Way {
    fn deliver(&self, request: Request) -> Delivery<'_> {
        Box::pin(async move {
            let lane = header(&request, "sync-key").map(|key| format!("{} {key}", kind(&request)));
            let key = header(&request, "idempotency-key").expect("every request has one").to_owned();
            let lane = (self.device, lane.unwrap_or_else(|| key.clone()));
            {
                let mut world = self.server.world();
                if !world.inflight.insert(lane.clone()) {
                    world.broken.push(format!("two of one lane are in flight: {lane:?}"));
                }
            }
            let _passing = Passing(&self.server, lane);
            // Others get in between.
            tokio::task::yield_now().await;
            let answer = self.server.world().carry(&request);
            if !matches!(answer.outcome, Outcome::Unreachable { .. }) {
                self.server.world().left(self.device, key, &request);
            }
            tokio::task::yield_now().await;
            answer
        })
    }
}
