//! One device: real parts, and what it was promised.

use std::{collections::HashMap, path::PathBuf, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tauri_plugin_storage_sync::{
    Action, Entry, Known, Queue, Reason, State, WaitingFor, reference,
    testing::{
        keychain::testing::MemoryKeys,
        outbox::{EnqueueOptions, Payload, Resolution, Selection},
    },
};
use uuid::Uuid;

use super::{
    dice::Dice,
    server::{Mode, Server, Way},
};
use crate::support::{Device, ManualClock, Setup};

const YEAR_MS: i64 = 365 * 24 * 60 * 60 * 1000;

/// What is known of a receipt.
#[derive(Debug, Clone, Default)]
struct Promise {
    parents: Vec<Uuid>,
    /// How often somebody said: send it again although it was settled, or changed it.
    again: usize,
    discarded: bool,
}

pub struct Client {
    n: u64,
    server: Arc<Server>,
    clock: ManualClock,
    keys: MemoryKeys,
    folder: tempfile::TempDir,
    backup: Option<(PathBuf, HashMap<Uuid, Promise>)>,
    device: Option<Device>,
    promises: HashMap<Uuid, Promise>,
    order: Vec<Uuid>,
    restored: bool,
}

fn config() -> Value {
    json!({
        "baseUrl": "https://model.invalid",
        "endpoints": {
            "form": { "method": "PUT", "url": "/form/{key}", "delete": { "method": "DELETE", "url": "/form/{key}" } },
            "draft": { "method": "PUT", "url": "/draft/{key}", "onConflict": "ask" },
            "listing": {
                "create": { "method": "POST", "url": "/listing" },
                "update": { "method": "PUT", "url": "/listing/{canonicalId}" },
                "delete": { "method": "DELETE", "url": "/listing/{canonicalId}" },
                "ack": { "id": "/id" },
            },
            "note": { "method": "POST", "url": "/note", "ack": { "id": "/id" } },
        },
        "retention": { "settled": 100_000, "settledDays": 30_000, "lostDays": 30_000, "lanesDays": 36_000 },
    })
}

/// In memory where the system has such a folder: these histories are about order, not about power cuts.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder")
}

impl Client {
    pub async fn new(n: u64, server: &Arc<Server>) -> Self {
        let mut client = Self {
            n,
            server: Arc::clone(server),
            clock: ManualClock::new(),
            keys: MemoryKeys::new(),
            folder: folder(),
            backup: None,
            device: None,
            promises: HashMap::new(),
            order: Vec::new(),
            restored: false,
        };
        client.start().await;
        client
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("queue")
    }

    async fn start(&mut self) {
        let mut setup = Setup::new(&self.path(), config()).stopped(&self.clock).keys(&self.keys);
        setup.transport = Some(Arc::new(Way { device: self.n, server: Arc::clone(&self.server) }));
        self.device = Some(setup.start().await);
    }

    fn device(&self) -> &Device {
        self.device.as_ref().expect("it runs between steps")
    }

    /// One thing that a user, a system or fate does.
    pub async fn step(&mut self, dice: &mut Dice) {
        match dice.roll(30) {
            0..=11 => self.enqueue(dice).await,
            12 => self.batch(dice).await,
            13..=15 => self.let_time_pass(dice.roll(3_600)).await,
            16 => self.clock.jump((dice.roll(7) as i64 - 3) * YEAR_MS),
            17..=18 => self.crash().await,
            19 => self.restart().await,
            20 => drop(self.device().outbox.pause().await),
            21..=22 => drop(self.device().outbox.resume().await),
            23 => self.retry(dice).await,
            24 => self.discard(dice).await,
            25 => self.edit(dice).await,
            26 => self.resolve(dice).await,
            27 => self.observe(dice).await,
            28 => self.back_up().await,
            _ => self.restore().await,
        }
    }

    fn options(&self, dice: &mut Dice) -> (&'static str, EnqueueOptions, Vec<Uuid>) {
        let mut options = EnqueueOptions::default();
        let kind = ["form", "form", "draft", "listing", "listing", "note"][dice.roll(6) as usize];
        if kind != "note" {
            options.key = Some(["a", "b"][dice.roll(2) as usize].to_owned());
        }
        options.queue = [None, Some(Queue::Latest), Some(Queue::Every)][dice.roll(3) as usize];
        if matches!(kind, "form" | "listing") && dice.roll(6) == 0 {
            options.action = Some(Action::Delete);
        }
        let mut parents = Vec::new();
        if dice.roll(4) == 0
            && let Some(parent) = dice.choose(&self.order)
        {
            parents.push(*parent);
            options.after.push(*parent);
        }
        (kind, options, parents)
    }

    async fn enqueue(&mut self, dice: &mut Dice) {
        let (kind, options, parents) = self.options(dice);
        let value = match options.action {
            Some(Action::Delete) => Value::Null,
            // What it refers to is waited for as well.
            _ if kind == "note" && !parents.is_empty() => json!({ "of": reference(parents[0]) }),
            _ => json!({ "by": self.n, "n": self.order.len() }),
        };
        let payload = Payload::json(&value).expect("a value is JSON");
        // Refused for what is gone, and then nothing was written.
        if let Ok(receipt) = self.device().outbox.enqueue(kind, payload, options).await {
            self.promised(receipt.id, parents);
        }
    }

    async fn batch(&mut self, dice: &mut Dice) {
        let key = ["a", "b"][dice.roll(2) as usize].to_owned();
        let first = Uuid::now_v7();
        let listing = EnqueueOptions { key: Some(key), id: Some(first), ..EnqueueOptions::default() };
        let items = vec![
            tauri_plugin_storage_sync::NewItem::new("listing", Payload::json(&json!({ "n": 1 })).unwrap(), listing),
            tauri_plugin_storage_sync::NewItem::new(
                "note",
                Payload::json(&json!({ "of": reference(first) })).unwrap(),
                EnqueueOptions::default(),
            ),
        ];
        if let Ok(receipts) = self.device().outbox.enqueue_all(items).await {
            self.promised(receipts[0].id, Vec::new());
            self.promised(receipts[1].id, vec![first]);
        }
    }

    fn promised(&mut self, id: Uuid, parents: Vec<Uuid>) {
        self.promises.insert(id, Promise { parents, ..Promise::default() });
        self.order.push(id);
    }

    async fn let_time_pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
        self.device().quiet().await;
    }

    /// Everything is dropped at once, wherever it is.
    async fn crash(&mut self) {
        drop(self.device.take());
        self.start().await;
    }

    async fn restart(&mut self) {
        if let Some(device) = self.device.take() {
            device.stop().await;
        }
        self.start().await;
    }

    async fn retry(&mut self, dice: &mut Dice) {
        let outbox = &self.device().outbox;
        if dice.roll(2) == 0 {
            let retried = outbox.retry(Selection::Filter(Default::default()), false).await.unwrap_or_default();
            self.again(&retried);
        } else if let Some(id) = dice.choose(&self.order).copied()
            && outbox.retry(id, false).await.is_ok()
        {
            self.again(&[id]);
        }
    }

    fn again(&mut self, ids: &[Uuid]) {
        for id in ids {
            if let Some(promise) = self.promises.get_mut(id) {
                promise.again += 1;
            }
        }
    }

    async fn discard(&mut self, dice: &mut Dice) {
        let Some(id) = dice.choose(&self.order).copied() else { return };
        let Ok(discarded) = self.device().outbox.discard(id, dice.roll(2) == 0).await else { return };
        for id in &discarded.ids {
            if let Some(promise) = self.promises.get_mut(id) {
                promise.discarded = true;
            }
        }
    }

    async fn edit(&mut self, dice: &mut Dice) {
        let Some(id) = dice.choose(&self.order).copied() else { return };
        let payload = Payload::json(&json!({ "edited": dice.roll(1000) })).expect("a value is JSON");
        if self.device().outbox.edit(id, payload).await.is_ok() {
            self.again(&[id]);
        }
    }

    async fn resolve(&mut self, dice: &mut Dice) {
        for entry in self.device().outbox.conflicts().await.unwrap_or_default() {
            let mine = dice.roll(2) == 0;
            let resolution = if mine { Resolution::Mine } else { Resolution::Theirs };
            if self.device().outbox.resolve(entry.id, resolution).await.is_ok() && mine {
                self.again(&[entry.id]);
            }
        }
    }

    async fn observe(&mut self, dice: &mut Dice) {
        let known = Known { revision: Some(dice.roll(5)), ..Known::default() };
        let key = ["a", "b"][dice.roll(2) as usize];
        self.device().outbox.observe("form", key, known).await.expect("it is noted");
    }

    async fn back_up(&mut self) {
        if let Some(device) = self.device.take() {
            device.stop().await;
        }
        let copy = self.folder.path().join("copy");
        drop(std::fs::remove_dir_all(&copy));
        copy_all(&self.path(), &copy);
        self.backup = Some((copy, self.promises.clone()));
        self.start().await;
    }

    /// An older state of the whole folder comes back.
    async fn restore(&mut self) {
        let Some((copy, promises)) = self.backup.clone() else { return };
        drop(self.device.take());
        // The database is closed once the last of what was dropped has gone.
        drop(std::fs::remove_dir_all(self.path()));
        copy_all(&copy, &self.path());
        self.promises = promises;
        self.order.retain(|id| self.promises.contains_key(id));
        self.restored = true;
        self.server.forget(self.n);
        self.start().await;
    }

    pub async fn heal(&mut self) {
        drop(self.device().outbox.resume().await);
        self.come_to_rest().await;
    }

    /// Time passes until nothing is tried any more.
    pub async fn come_to_rest(&mut self) {
        for _ in 0..60 {
            let waiting = self.device().all().await.into_iter().filter(|entry| !at_rest(entry)).count();
            if waiting == 0 {
                return;
            }
            self.let_time_pass(3_600).await;
        }
        let all = self.device().all().await;
        let stuck: Vec<&Entry> = all.iter().filter(|entry| !at_rest(entry)).collect();
        panic!("device {} never comes to rest: {stuck:#?}", self.n);
    }

    pub async fn check(mut self, mode: Mode) {
        let all = self.device().all().await;
        let entries: HashMap<Uuid, &Entry> = all.iter().map(|entry| (entry.id, entry)).collect();
        for (id, promise) in &self.promises {
            if promise.discarded {
                continue;
            }
            let entry = entries.get(id).unwrap_or_else(|| panic!("{id} has vanished"));
            self.check_entry(entry, promise, mode, &entries);
        }
        if let Some(device) = self.device.take() {
            device.stop().await;
        }
    }

    fn check_entry(&self, entry: &Entry, promise: &Promise, mode: Mode, entries: &HashMap<Uuid, &Entry>) {
        let writes = self.server.writes_of(entry.id);
        let vacuous = entry.status.is_none();
        if entry.state == State::Acked && !vacuous {
            assert!(!writes.is_empty(), "acked and never applied: {entry:#?}");
        }
        if entry.state == State::Pending {
            self.check_blocker(entry, entries);
        }
        let protected = match mode {
            Mode::Full => true,
            // Without a key a thing has no revision that could be compared.
            Mode::Compares => entry.key.is_some(),
            Mode::Neither => false,
        };
        if protected && !self.restored {
            let most = 1 + promise.again;
            assert!(writes.len() <= most, "applied {} times: {entry:#?}\n{writes:#?}", writes.len());
        }
        if promise.again > 0 {
            // Another payload may refer to nothing any more.
            return;
        }
        // One that was beaten lets go what depends on it, and may be sent after all if somebody says so.
        let again = |parent: &&Uuid| self.promises.get(parent).is_some_and(|parent| parent.again > 0);
        for parent in promise.parents.iter().filter(|parent| !again(parent)).filter_map(|parent| entries.get(parent)) {
            let first = self.server.writes_of(parent.id).first().map(|(at, _)| *at);
            if let (State::Acked, Some(parent), Some((own, _)), false) =
                (parent.state, first, writes.first(), self.restored)
            {
                assert!(*own > parent, "{} came before what it depends on", entry.id);
            }
        }
    }
}

impl Client {
    /// What keeps it waiting leads, over however many others, to something that somebody can decide.
    fn check_blocker(&self, entry: &Entry, entries: &HashMap<Uuid, &Entry>) {
        let mut at = entry;
        for _ in 0..=entries.len() {
            let next = match &at.waiting_for {
                Some(WaitingFor::Lane { behind }) => *behind,
                Some(WaitingFor::Dependency { on }) => *on,
                other => panic!("{} waits for {other:?}: {entry:#?}", at.id),
            };
            at = entries.get(&next).unwrap_or_else(|| panic!("{} waits for {next}, which is not there", at.id));
            match at.state {
                State::Failed => return,
                State::Superseded if at.lost => return,
                State::Pending => {}
                _ => panic!("{entry:#?} waits for what is settled: {at:#?}"),
            }
        }
        panic!("it waits for itself: {entry:#?}");
    }
}

/// Nothing more happens to it unless somebody decides.
fn at_rest(entry: &Entry) -> bool {
    match (entry.state, &entry.waiting_for) {
        (State::Acked | State::Superseded, _) => true,
        (State::Failed, _) => matches!(
            entry.reason,
            Some(Reason::Refused | Reason::Conflict | Reason::ParentGone | Reason::OutcomeUnknown | Reason::Unproven)
        ),
        // Behind something that failed, or that lost.
        (State::Pending, Some(WaitingFor::Lane { .. } | WaitingFor::Dependency { .. })) => true,
        _ => false,
    }
}

fn copy_all(from: &PathBuf, to: &PathBuf) {
    std::fs::create_dir_all(to).expect("a folder");
    for file in std::fs::read_dir(from).expect("the folder is there") {
        let file = file.expect("it can be read");
        match std::fs::copy(file.path(), to.join(file.file_name())) {
            // Of a connection that was dropped and has just closed.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            copied => drop(copied.expect("it is copied")),
        }
    }
}
