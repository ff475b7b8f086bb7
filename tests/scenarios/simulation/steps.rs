//! What users do to a device, what its system does, and what befalls it.

use std::time::Duration;

use serde_json::{Value, json};
use tauri_plugin_storage_sync::{
    Action, Entry, Error, Known, NewItem, Queue, State, reference,
    testing::{
        outbox::{EnqueueOptions, Payload, Resolution, Selection, SelectionFilter},
        store::Keep,
        wake::Wake,
    },
};
use uuid::Uuid;

use super::{
    client::Client,
    promise::{Content, Draft, Fate},
    states,
};
use crate::dice::Dice;

const YEAR_MS: i64 = 365 * 24 * 60 * 60 * 1000;
const KEYS: [&str; 2] = ["a", "b"];

/// Of the others each one is a thing of its own.
fn has_key(kind: &str) -> bool {
    !matches!(kind, "note" | "order")
}

/// What may happen in a history, so that not every one has everything in it.
#[derive(Debug, Clone, Copy)]
pub struct Temper {
    pub restores: bool,
    pub prunes: bool,
    /// How many requests a device has on the wire at once: the fewer, the more is claimed that waits for it.
    pub width: u64,
    /// Answers come while something is committed.
    pub hurries: bool,
    /// How many things of a kind there are: the fewer, the more often devices meet.
    pub keys: u64,
    pub kinds: &'static [&'static str],
}

impl Temper {
    pub fn new(dice: &mut Dice) -> Self {
        let few: [&[&str]; 6] = [
            &["form"],
            &["draft", "memo"],
            &["listing", "note"],
            &["memo", "order"],
            &["form", "listing"],
            &["page", "form"],
        ];
        let all: &[&str] = &["form", "form", "draft", "memo", "page", "listing", "listing", "note", "order"];
        let kinds = if dice.one_in(2) { all } else { *dice.choose(&few).expect("there are some") };
        let width = [1, 2, 8][dice.roll(3) as usize];
        let keys = 1 + dice.roll(KEYS.len() as u64);
        Self { restores: dice.one_in(3), prunes: dice.one_in(3), width, hurries: dice.one_in(2), keys, kinds }
    }
}

impl Client {
    /// One thing that a user, a system or fate does.
    pub async fn step(&mut self, temper: Temper, dice: &mut Dice) {
        if temper.restores && dice.one_in(10) {
            let keeps = !self.has_backup() || dice.one_in(4);
            return if keeps { self.back_up().await } else { self.restore().await };
        }
        match dice.roll(45) {
            0..=13 => self.enqueue(temper, dice).await,
            14..=15 => self.enqueue_some(temper, dice).await,
            16 => self.enqueue_again(dice).await,
            17..=20 => self.let_time_pass(dice.roll(3_600)),
            21 => self.clock.jump((dice.roll(7) as i64 - 3) * YEAR_MS),
            22 => self.crash().await,
            23..=24 => self.plan_to_die(dice),
            25 => self.restart().await,
            26 | 40 => self.pause().await,
            27..=28 => self.resume().await,
            29..=30 => self.retry(dice).await,
            42..=43 => self.pause_one(dice).await,
            44 => self.resume_one(dice).await,
            31 => self.discard(dice).await,
            32..=33 => self.edit(dice).await,
            34..=35 => self.resolve(dice).await,
            36 | 41 => self.observe(temper, dice).await,
            37 => self.device().wake.wake([Wake::Network, Wake::Focus, Wake::Flush][dice.roll(3) as usize]),
            _ if temper.prunes => self.prune(dice).await,
            _ => self.enqueue(temper, dice).await,
        }
    }

    fn content(&self, dice: &mut Dice) -> Content {
        Content { mark: dice.next() >> 12, bad: dice.one_in(12), of: Vec::new() }
    }

    /// An entry of this device that may be named, if there is any.
    fn any(&self, dice: &mut Dice) -> Option<Uuid> {
        // The newest half of the time: what is long settled is no longer interesting.
        let newest = self.ledger.order.len().saturating_sub(6);
        let from = if dice.one_in(2) { &self.ledger.order[newest..] } else { &self.ledger.order[..] };
        dice.choose(from).copied()
    }

    fn draft(&self, temper: Temper, dice: &mut Dice) -> Draft {
        let kind = *dice.choose(temper.kinds).expect("a history has kinds");
        let key = has_key(kind).then(|| KEYS[dice.roll(temper.keys) as usize]);
        let deletes = matches!(kind, "form" | "listing") && dice.one_in(6);
        let mut draft = Draft {
            kind,
            key,
            queue: [None, Some(Queue::Latest), Some(Queue::Every)][dice.roll(3) as usize],
            action: deletes.then_some(Action::Delete),
            after: Vec::new(),
            content: self.content(dice),
        };
        if dice.one_in(4)
            && let Some(parent) = self.any(dice)
        {
            // What it refers to is waited for as well.
            let of = if deletes || dice.one_in(2) { &mut draft.after } else { &mut draft.content.of };
            of.push(parent);
        }
        draft
    }

    async fn enqueue(&mut self, temper: Temper, dice: &mut Dice) {
        let draft = self.draft(temper, dice);
        let id = dice.one_in(3).then(|| dice.uuid());
        let (kind, payload, options) = item(&draft, id);
        // Refused for what is gone, and then nothing was written.
        if let Ok(receipt) = self.device().outbox.enqueue(kind, payload, options).await {
            self.promised(receipt.id, draft);
        }
    }

    /// In one commit, and each may refer to the one before.
    async fn enqueue_some(&mut self, temper: Temper, dice: &mut Dice) {
        let ids: Vec<Uuid> = (0..2 + dice.roll(2)).map(|_| dice.uuid()).collect();
        let mut drafts: Vec<Draft> = Vec::new();
        for n in 0..ids.len() {
            let mut content = self.content(dice);
            let before = if n == 0 { None } else { dice.choose(&ids[..n]).copied() };
            content.of.extend(before);
            let (kind, key) =
                if n == 0 { ("listing", Some(KEYS[dice.roll(temper.keys) as usize])) } else { ("note", None) };
            drafts.push(Draft { kind, key, queue: None, action: None, after: Vec::new(), content });
        }
        let items = ids.iter().zip(&drafts).map(|(id, draft)| {
            let (kind, payload, options) = item(draft, Some(*id));
            NewItem::new(kind, payload, options)
        });
        if let Ok(receipts) = self.device().outbox.enqueue_all(items.collect()).await {
            for (receipt, draft) in receipts.iter().zip(drafts) {
                self.promised(receipt.id, draft);
            }
        }
    }

    fn promised(&mut self, id: Uuid, draft: Draft) {
        let n = self.ledger.order.len();
        let words =
            format!("{} enqueues {n}: {} {:?} {:?} {:?}", self.n, draft.kind, draft.key, draft.queue, draft.action);
        let after = [&draft.after[..], &draft.content.of[..]].concat();
        self.ledger.promise(id, draft);
        let mut world = self.net.world();
        let after: Vec<String> = after.into_iter().map(|id| world.named(id)).collect();
        world.name(id, format!("{}#{n}", self.n));
        world.note(format!("{words} after {after:?}"));
    }

    /// What a caller does that does not know whether the first call got through; or one that takes an id twice.
    async fn enqueue_again(&mut self, dice: &mut Dice) {
        let Some(id) = self.any(dice) else { return };
        let promise = self.ledger.promises[&id].clone();
        if matches!(promise.fate, Fate::Discarded { possibly: false } | Fate::Pruned) {
            // Its id is as good as any, and what came under it would be another entry.
            return;
        }
        let other = dice.one_in(2);
        let mut draft = promise.draft.clone();
        if other {
            draft.content.mark += 1;
        }
        let (kind, payload, options) = item(&draft, Some(id));
        let answer = self.device().outbox.enqueue(kind, payload, options).await;
        let conflict = matches!(answer, Err(Error::IdConflict(_)));
        match promise.fate {
            Fate::Kept if draft.action == Some(Action::Delete) || !other => {
                // What it depended on may be gone, and then it is refused before anybody looks for it.
                assert!(!conflict, "device {}: the same under its id is another one: {promise:?}", self.n);
            }
            Fate::Kept => assert!(answer.is_err(), "device {}: two entries under one id: {promise:?}", self.n),
            _ => assert!(answer.is_err(), "device {}: it may have been applied: {promise:?}", self.n),
        }
    }

    fn let_time_pass(&self, seconds: u64) {
        self.note(&format!("{seconds} s pass"));
        self.clock.advance(Duration::from_secs(seconds));
    }

    async fn pause(&mut self) {
        if self.device().outbox.pause().await.is_ok() {
            self.note("paused");
            self.ledger.paused = true;
        }
    }

    pub async fn resume(&mut self) {
        self.ledger.paused = false;
        drop(self.device().outbox.resume().await);
    }

    async fn pause_one(&mut self, dice: &mut Dice) {
        let Some(id) = self.any(dice) else { return };
        if self.device().outbox.pause_entry(id).await.is_ok() {
            let words = format!("{} is paused", self.net.world().named(id));
            self.note(&words);
            self.ledger.promises.entry(id).and_modify(|promise| promise.paused = true);
        }
    }

    async fn resume_one(&mut self, dice: &mut Dice) {
        if let Some(id) = self.any(dice) {
            self.resume_entry(id).await;
        }
    }

    /// What is settled meanwhile needs no resuming.
    pub async fn resume_entry(&mut self, id: Uuid) {
        if self.device().outbox.resume_entry(id).await.is_ok() {
            let words = format!("{} is resumed", self.net.world().named(id));
            self.note(&words);
            let go = |promise: &mut super::promise::Promise| (promise.paused, promise.held) = (false, false);
            self.ledger.promises.entry(id).and_modify(go);
        }
    }

    pub async fn resume_all(&mut self) {
        let ledger = &self.ledger;
        let paused: Vec<Uuid> = ledger.order.iter().filter(|id| ledger.promises[*id].paused).copied().collect();
        for id in paused {
            self.resume_entry(id).await;
        }
    }

    async fn retry(&mut self, dice: &mut Dice) {
        let force = dice.one_in(3);
        let which = match self.any(dice) {
            Some(id) if dice.one_in(2) => Selection::Id(id),
            _ => Selection::Filter(SelectionFilter::default()),
        };
        let Ok(ids) = self.device().outbox.retry(which, force).await else { return };
        for id in ids {
            let pending = self.entries.get(&id).is_some_and(|entry| entry.state == State::Pending);
            self.meant_again(id, !pending && force);
        }
    }

    /// Somebody decided, knowing that the server may have it.
    fn meant_again(&mut self, id: Uuid, forced: bool) {
        let words = format!("{} is meant again", self.net.world().named(id));
        self.note(&words);
        let (entry, promise) = (self.entries.get(&id), self.ledger.promises.get_mut(&id));
        let (Some(entry), Some(promise)) = (entry, promise) else { return };
        promise.forced |= forced;
        promise.again += usize::from(forced);
        if states::is_contested(entry) {
            promise.again += 1;
            self.ledger.revive(id);
        }
    }

    async fn discard(&mut self, dice: &mut Dice) {
        let Some(id) = self.any(dice) else { return };
        let cascade = dice.one_in(2);
        let Ok(discarded) = self.device().outbox.discard(id, cascade).await else { return };
        for id in &discarded.ids {
            let words = format!("{} is discarded", self.net.world().named(*id));
            self.note(&words);
            let possibly = discarded.possibly_applied.contains(id);
            let live = self.entries.get(id).is_some_and(|entry| matches!(entry.state, State::Pending | State::Failed));
            let Some(promise) = self.ledger.promises.get_mut(id) else { continue };
            promise.fate = Fate::Discarded { possibly };
            assert!(!live || possibly == promise.open, "whether it may have been applied is told wrongly: {promise:?}");
        }
        assert!(!cascade || discarded.orphaned.is_empty(), "what depends on it goes with it: {discarded:#?}");
    }

    async fn edit(&mut self, dice: &mut Dice) {
        let Some(id) = self.any(dice) else { return };
        let mut content = self.content(dice);
        if dice.one_in(4) {
            content.of.extend(self.any(dice));
        }
        let payload = payload(&content);
        if self.device().outbox.edit(id, payload).await.is_ok() {
            self.edited(id, content);
        }
    }

    fn edited(&mut self, id: Uuid, content: Content) {
        let words = format!("{} is edited", self.net.world().named(id));
        self.note(&words);
        let contested = self.entries.get(&id).is_some_and(states::is_contested);
        let Some(promise) = self.ledger.promises.get_mut(&id) else { return };
        assert!(contested || !promise.open, "what may have been applied was edited: {promise:?}");
        promise.content = content;
        if contested {
            self.ledger.revive(id);
        }
    }

    async fn resolve(&mut self, dice: &mut Dice) {
        for entry in self.device().outbox.conflicts().await.unwrap_or_default() {
            let content = self.content(dice);
            let resolution = match dice.roll(4) {
                0 => Resolution::Theirs,
                1 => Resolution::Payload(payload(&content)),
                _ => Resolution::Mine,
            };
            if self.device().outbox.resolve(entry.id, resolution.clone()).await.is_ok() {
                match resolution {
                    Resolution::Payload(_) => self.edited(entry.id, content),
                    Resolution::Mine => self.meant_again(entry.id, false),
                    _ => {}
                }
                return;
            }
        }
    }

    /// The app reads a thing on the server, and tells what it has read.
    async fn observe(&mut self, temper: Temper, dice: &mut Dice) {
        let keyed: Vec<&str> = temper.kinds.iter().copied().filter(|kind| has_key(kind)).collect();
        let Some(kind) = dice.choose(&keyed).copied() else { return };
        let key = KEYS[dice.roll(temper.keys) as usize];
        let lane = format!("{kind}/{key}");
        let held = self.net.world().server.things.get(&lane).cloned();
        let known = match held {
            Some(held) => Known {
                revision: Some(held.revision),
                canonical_id: held.canonical_id.filter(|_| held.exists),
                exists: Some(held.exists),
                etag: held.etag,
            },
            None => Known { exists: Some(false), ..Known::default() },
        };
        let revision = known.revision.unwrap_or(0);
        if self.device().outbox.observe(kind, key, known).await.is_ok() {
            self.note(&format!("observes {lane} at {revision}"));
            self.ledger.observed(&lane, revision);
        }
    }

    /// The retention of what is settled, and of what is known of lanes without entries, is over.
    async fn prune(&mut self, dice: &mut Dice) {
        let day = 24 * 60 * 60 * 1_000;
        let forget_lanes = dice.one_in(3);
        let keep = Keep {
            newest: dice.roll(6),
            settled_ms: i64::MAX / 2,
            lost_ms: i64::MAX / 2,
            lanes_ms: if forget_lanes { -day } else { i64::MAX / 2 },
            mappings_ms: i64::MAX / 2,
            tombstones_ms: i64::MAX / 2,
        };
        // After all that was ever touched, however far the clock had jumped.
        let wall = i64::MAX / 4;
        while matches!(self.device().store.prune(keep, wall).await, Ok(true)) {}
        if forget_lanes {
            let holds = |entry: &&Entry| match entry.state {
                State::Pending | State::Inflight => true,
                State::Failed => !states::is_contested(entry),
                _ => entry.lost,
            };
            let lane = |entry: &Entry| Some(format!("{}/{}", entry.kind, entry.key.as_ref()?));
            let kept = self.entries.values().filter(holds).filter_map(lane).collect();
            self.ledger.lanes_forgotten(&kept);
        }
        let store = self.device().store.clone();
        for id in self.ledger.order.clone() {
            let settled = self
                .entries
                .get(&id)
                .is_some_and(|entry| entry.state == State::Acked || entry.state == State::Superseded && !entry.lost);
            if settled && matches!(store.row("", id).await, Ok(None)) {
                self.note("an entry is pruned");
                self.ledger.promises.entry(id).and_modify(|promise| promise.fate = Fate::Pruned);
            }
        }
    }
}

fn payload(content: &Content) -> Payload {
    let of: Vec<String> = content.of.iter().map(|id| reference(*id)).collect();
    Payload::json(&json!({ "mark": content.mark, "bad": content.bad, "of": of })).expect("a value is JSON")
}

fn item(draft: &Draft, id: Option<Uuid>) -> (&'static str, Payload, EnqueueOptions) {
    let payload = match draft.action {
        Some(Action::Delete) => Payload::json(&Value::Null).expect("a value is JSON"),
        _ => payload(&draft.content),
    };
    let options = EnqueueOptions {
        key: draft.key.map(str::to_owned),
        queue: draft.queue,
        action: draft.action,
        after: draft.after.clone(),
        id,
        ..EnqueueOptions::default()
    };
    (draft.kind, payload, options)
}
