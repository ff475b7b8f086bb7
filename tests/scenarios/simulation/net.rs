//! The way to the server and back. Every request waits here until the history says what becomes of it, and so does every answer.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tauri_plugin_storage_sync::testing::{
    store::Committed,
    transport::{Answer, Delivery, Outcome, Request, Transport},
};
use tokio::sync::{oneshot, watch};
use uuid::Uuid;

use super::{
    server::{Mode, Server},
    wire::Wire,
};
use crate::dice::Dice;

/// One run of one device: which device, and how often it was started.
pub type Life = (usize, u64);

/// Between a request that left and the answer that its device hears.
struct Exchange {
    life: Life,
    wire: Wire,
    answer: Option<Answer>,
    reply: oneshot::Sender<Answer>,
}

/// What a device sent, what it was answered, and what it made of that for good.
#[derive(Debug, Clone)]
pub enum Event {
    Left(Wire),
    Answered(Uuid, Answer),
    Committed(Committed),
    /// Its process ended.
    Died,
}

pub struct World {
    pub server: Server,
    exchanges: Vec<Exchange>,
    /// Requests that nobody waits for any more, and that may arrive all the same.
    late: Vec<Wire>,
    events: HashMap<usize, Vec<Event>>,
    /// Answers come while a commit is under way, by this chance.
    pub hurry: Option<Dice>,
    pub faults: u64,
    pub broken: Vec<String>,
    /// What happened, in words that are the same whenever the seed is.
    pub trace: Vec<String>,
    names: HashMap<Uuid, String>,
}

pub struct Net {
    world: Mutex<World>,
    news: watch::Sender<u64>,
}

impl Net {
    pub fn new(mode: Mode, names_keys: bool) -> Self {
        let world = World {
            server: Server::new(mode, names_keys),
            exchanges: Vec::new(),
            late: Vec::new(),
            events: HashMap::new(),
            hurry: None,
            faults: 0,
            broken: Vec::new(),
            trace: Vec::new(),
            names: HashMap::new(),
        };
        Self { world: Mutex::new(world), news: watch::Sender::new(0) }
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }
}

fn lost() -> Answer {
    Outcome::Unknown { why: "lost".into(), timed_out: false }.into()
}

impl World {
    pub fn name(&mut self, id: Uuid, name: String) {
        self.names.insert(id, name);
    }

    pub fn named(&self, id: Uuid) -> String {
        self.names.get(&id).cloned().unwrap_or_else(|| "?".into())
    }

    pub fn note(&mut self, what: String) {
        self.trace.push(what);
    }

    /// How many requests of that life have no answer yet.
    pub fn under_way(&self, life: Life) -> usize {
        self.exchanges.iter().filter(|exchange| exchange.life == life).count()
    }

    pub fn events(&mut self, device: usize) -> Vec<Event> {
        self.events.remove(&device).unwrap_or_default()
    }

    pub fn tell(&mut self, device: usize, event: Event) {
        self.events.entry(device).or_default().push(event);
    }

    fn words(&self, wire: &Wire) -> String {
        format!(
            "{}.{} of {} at {}",
            self.named(wire.id),
            wire.suffix,
            wire.thing().unwrap_or_else(|| wire.kind.clone()),
            wire.revision
        )
    }

    /// A request leaves.
    fn leave(&mut self, life: Life, wire: Wire, reply: oneshot::Sender<Answer>) {
        let lane = wire.lane();
        if self.exchanges.iter().any(|other| other.life == life && other.wire.lane() == lane) {
            self.broken.push(format!("two requests of {lane} are in flight"));
        }
        self.tell(life.0, Event::Left(wire.clone()));
        self.exchanges.push(Exchange { life, wire, answer: None, reply });
    }

    fn answer(&mut self, exchange: Exchange, answer: Answer) {
        let said = format!("{} hears {:?}", self.words(&exchange.wire), self.plain(&answer));
        self.note(said);
        self.tell(exchange.life.0, Event::Answered(exchange.wire.id, answer.clone()));
        // Nobody may be there to hear it.
        drop(exchange.reply.send(answer));
    }

    /// Ids are other ones in every run.
    fn plain(&self, answer: &Answer) -> String {
        match &answer.outcome {
            Outcome::Acked { status, learned } => format!("{status} {:?}", learned.canonical_id),
            Outcome::Conflict { learned, .. } => format!("conflict with {:?}", learned.revision),
            other => format!("{other:?}"),
        }
    }

    /// Something happens to one of the requests or answers that are on their way. Answers whose device hears of it.
    pub fn travel(&mut self, dice: &mut Dice) -> Option<usize> {
        if !self.late.is_empty() && dice.one_in(5) {
            let at = dice.roll(self.late.len() as u64) as usize;
            let late = self.late.swap_remove(at);
            let said = format!("late: {}", self.words(&late));
            self.note(said);
            self.server.take(&late);
            return None;
        }
        if self.exchanges.is_empty() {
            return None;
        }
        let at = dice.roll(self.exchanges.len() as u64) as usize;
        if self.exchanges[at].answer.is_some() { self.return_to(at, dice) } else { self.go_there(at, dice) }
    }

    fn go_there(&mut self, at: usize, dice: &mut Dice) -> Option<usize> {
        let roll = dice.roll(32);
        self.faults += u64::from(roll < 16);
        let answer = match roll {
            0..=1 => Outcome::Unreachable { why: "no way".into() }.into(),
            2..=4 => {
                if roll == 2 {
                    self.late.push(self.exchanges[at].wire.clone());
                }
                lost()
            }
            5 => Outcome::Retry { status: 500, floor: None }.into(),
            7 => Outcome::Busy { status: 503, possibly_applied: true, floor: None }.into(),
            8..=9 => Outcome::Busy { status: 429, possibly_applied: false, floor: None }.into(),
            10 => Outcome::Unproven { status: 200, why: "a page".into() }.into(),
            11 => Outcome::Collision { status: 409, floor: None }.into(),
            6 | 12 => Outcome::Refused { status: 403 }.into(),
            _ => {
                let wire = self.exchanges[at].wire.clone();
                let mut answer = self.server.take(&wire);
                match roll {
                    // It arrives twice, and either answer is the one that is heard.
                    13 => answer = self.server.take(&wire),
                    14 => drop(self.server.take(&wire)),
                    15 => self.late.push(wire.clone()),
                    _ => {}
                }
                let said = format!("arrives: {} -> {}", self.words(&wire), self.plain(&answer));
                self.note(said);
                self.exchanges[at].answer = Some(answer);
                return None;
            }
        };
        let exchange = self.exchanges.remove(at);
        let device = exchange.life.0;
        self.answer(exchange, answer);
        Some(device)
    }

    fn return_to(&mut self, at: usize, dice: &mut Dice) -> Option<usize> {
        let mut exchange = self.exchanges.remove(at);
        let device = exchange.life.0;
        let answer = exchange.answer.take().unwrap_or_else(lost);
        let heard = !dice.one_in(4);
        self.faults += u64::from(!heard);
        self.answer(exchange, if heard { answer } else { lost() });
        Some(device)
    }

    /// Something is committed, and before its device hears of it some answers are there: that is when it claims ahead of the wire.
    pub fn committed(&mut self, life: Life, committed: Committed) {
        self.tell(life.0, Event::Committed(committed));
        let Some(mut dice) = self.hurry.take() else { return };
        if dice.one_in(2)
            && let Some(at) = self.exchanges.iter().position(|exchange| exchange.life == life)
        {
            let arrived = self.exchanges[at].answer.is_some() || self.go_there(at, &mut dice).is_none();
            if arrived {
                self.return_to(at, &mut dice);
            }
        }
        self.hurry = Some(dice);
    }

    /// The device is no more. What it sent may arrive all the same.
    pub fn abandon(&mut self, life: Life, dice: &mut Dice) {
        let (gone, kept) = std::mem::take(&mut self.exchanges).into_iter().partition(|other| other.life == life);
        self.exchanges = kept;
        let gone: Vec<Exchange> = gone;
        for exchange in gone {
            if exchange.answer.is_none() && dice.one_in(2) {
                self.late.push(exchange.wire);
            }
        }
    }

    /// What was thought lost arrives or never does.
    pub fn settle_late(&mut self, dice: &mut Dice) {
        for late in std::mem::take(&mut self.late) {
            if dice.one_in(2) {
                self.server.take(&late);
            }
        }
    }

    /// The oldest request arrives, and its answer too. Answers whose it is.
    pub fn deliver(&mut self) -> Option<usize> {
        if self.exchanges.is_empty() {
            return None;
        }
        let mut exchange = self.exchanges.remove(0);
        let device = exchange.life.0;
        let answer = exchange.answer.take().unwrap_or_else(|| self.server.take(&exchange.wire));
        self.answer(exchange, answer);
        Some(device)
    }
}

/// The way from one device, in one of its lives.
pub struct Way {
    pub life: Life,
    pub net: Arc<Net>,
}

impl Transport for Way {
    fn deliver(&self, request: Request) -> Delivery<'_> {
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            self.net.world().leave(self.life, Wire::read(&request), reply);
            self.net.news.send_modify(|news| *news += 1);
            answer.await.unwrap_or_else(|_| lost())
        })
    }
}
