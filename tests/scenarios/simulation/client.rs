//! One device over all its lives: real outbox, engine and database, and the ledger of what they promised.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use tauri_plugin_storage_sync::{
    Entry, State,
    testing::{
        keychain::testing::MemoryKeys,
        outbox::Query,
        store::{Death, Trial},
    },
};
use uuid::Uuid;

use super::{
    ledger::{Expected, Ledger},
    net::{Event, Life, Net, Way},
    states::{self, Entries},
    wire::Wire,
};
use crate::{
    dice::{Dice, Jitter},
    support::{Device, ManualClock, Setup},
};

/// What is thought to be stuck if it takes this long.
const PATIENCE: Duration = Duration::from_secs(60);

/// As long as answers may be kept for a commit that carries more of them.
const GATHERS: Duration = Duration::from_millis(5);

pub struct Client {
    pub n: usize,
    pub net: Arc<Net>,
    pub clock: ManualClock,
    keys: MemoryKeys,
    folder: tempfile::TempDir,
    backup: Option<(Ledger, Entries)>,
    /// How many requests may be on the wire at once.
    width: u64,
    device: Option<Device>,
    trial: Trial,
    lives: u64,
    /// What chance gives the device itself, not the history.
    chance: Dice,
    pub ledger: Ledger,
    /// As it was at the last look.
    pub entries: Entries,
}

fn config(width: u64) -> Value {
    json!({
        "baseUrl": "https://model.invalid",
        "endpoints": {
            "form": { "method": "PUT", "url": "/form/{key}", "delete": { "method": "DELETE", "url": "/form/{key}" } },
            "draft": { "method": "PUT", "url": "/draft/{key}", "onConflict": "ask" },
            "page": { "method": "PUT", "url": "/page/{key}", "preconditions": "etag" },
            "memo": { "method": "PUT", "url": "/memo/{key}", "onConflict": "overwrite", "idempotent": true },
            "listing": {
                "create": { "method": "POST", "url": "/listing" },
                "update": { "method": "PUT", "url": "/listing/{canonicalId}" },
                "delete": { "method": "DELETE", "url": "/listing/{canonicalId}" },
                "ack": { "id": "/id" },
            },
            "note": { "method": "POST", "url": "/note", "ack": { "id": "/id" } },
            "order": { "method": "POST", "url": "/order", "ack": { "id": "/id" }, "ifUnknown": "hold" },
        },
        "retry": { "concurrency": width },
        "retention": { "settled": 100_000, "settledDays": 30_000, "lostDays": 30_000, "lanesDays": 36_000 },
    })
}

/// Makes a database to copy, of a device of that id: it takes longer than most of what happens in a history.
pub async fn make_template(folder: &Path, id: Uuid) {
    make_ballast(folder);
    let mut setup = Setup::new(folder, config(1));
    setup.trial = Some(Trial::new(move || id));
    setup.open().await.stop().await;
}

/// In memory where the system has such a folder: these histories are about order, not about power cuts.
pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder")
}

impl Client {
    /// A device whose database was made before.
    pub async fn new(n: usize, net: &Arc<Net>, chance: Dice, template: &Path, width: u64) -> Self {
        let mut client = Self {
            n,
            net: Arc::clone(net),
            clock: ManualClock::new(),
            keys: MemoryKeys::new(),
            folder: folder(),
            backup: None,
            width,
            device: None,
            trial: Trial::default(),
            lives: 0,
            chance,
            ledger: Ledger::default(),
            entries: Entries::default(),
        };
        copy_all(template, &client.path());
        client.start().await;
        client
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("queue")
    }

    fn life(&self) -> Life {
        (self.n, self.lives)
    }

    pub fn device(&self) -> &Device {
        self.device.as_ref().expect("it runs between steps")
    }

    async fn start(&mut self) {
        self.lives += 1;
        let ids = Mutex::new(Dice::new(self.chance.next()));
        let (net, life) = (Arc::clone(&self.net), self.life());
        self.trial = Trial::new(move || ids.lock().expect("no roll panics").uuid())
            .witnessed(move |committed| net.world().committed(life, committed));
        make_ballast(&self.path());
        let mut setup = Setup::new(&self.path(), config(self.width)).stopped(&self.clock).keys(&self.keys);
        setup.random = Arc::new(Jitter(Mutex::new(Dice::new(self.chance.next()))));
        setup.transport = Some(Arc::new(Way { life: self.life(), net: Arc::clone(&self.net) }));
        setup.trial = Some(self.trial.clone());
        self.device = Some(setup.start().await);
    }

    /// Waits until the device has nothing left to do by itself; starts it anew if it died meanwhile. Then looks at it: what it
    /// sent, what it has, and whether that may be.
    pub async fn settle(&mut self) {
        if !self.rests().await {
            self.note("its process ended");
            self.end().await;
            self.start().await;
            assert!(self.rests().await, "nothing was planned for this life");
        }
        self.look().await;
    }

    /// Answers false when its process has ended.
    async fn rests(&self) -> bool {
        let device = self.device();
        let (mut dead, mut news) = (self.trial.dead(), self.net.news());
        let mut rest = device.running.as_ref().expect("it delivers").rest();
        let wait = async {
            loop {
                // Whoever was woken goes first.
                for _ in 0..3 {
                    tokio::task::yield_now().await;
                }
                news.borrow_and_update();
                if *dead.borrow_and_update() {
                    return false;
                }
                let resting = *rest.borrow_and_update();
                let under_way = self.net.world().under_way(self.life());
                match resting.filter(|rest| device.wake.is_quiet() && rest.under_way == under_way) {
                    Some(rest) if rest.gathers => {
                        self.clock.advance(GATHERS);
                        continue;
                    }
                    Some(_) => return true,
                    None => {}
                }
                tokio::select! {
                    _ = rest.changed() => {}
                    _ = news.changed() => {}
                    _ = dead.changed() => {}
                }
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("the device comes to rest")
    }

    /// Reads everything, and checks it.
    async fn look(&mut self) {
        let mut now = Entries::default();
        let mut after = None;
        loop {
            let query = Query { after, limit: Some(1000), ..Query::default() };
            let page = self.device().outbox.list(query).await.expect("list answers");
            after = page.last().map(|entry| entry.id);
            let last = page.len() < 1000;
            now.extend(page.into_iter().map(|entry| (entry.id, entry)));
            if last {
                break;
            }
        }
        for id in self.ledger.unnumbered() {
            if let Some(row) = self.device().store.row("", id).await.expect("a row is read") {
                self.ledger.number(id, row.seq);
            }
        }
        self.ledger.meet(&now);
        self.events(&now);
        self.ledger.hold(&now);
        self.ledger.believe(&now);
        let broken = states::broken(&self.entries, &now, &self.ledger, &self.net.world().server);
        if let Some(broken) = broken {
            panic!("device {}: {broken}", self.n);
        }
        self.check_counts(&now).await;
        self.entries = now;
    }

    async fn check_counts(&self, now: &Entries) {
        let counts = self.device().store.counts("").await.expect("counts are read");
        let tally = |state: State| now.values().filter(|entry| entry.state == state).count() as u64;
        assert_eq!(
            [counts.pending, counts.inflight, counts.acked, counts.failed],
            [State::Pending, State::Inflight, State::Acked, State::Failed].map(tally),
            "device {}: the badge counts something else than there is",
            self.n
        );
    }

    /// What went over the wire and was committed since the last look.
    fn events(&mut self, now: &Entries) {
        let events = self.net.world().events(self.n);
        let mut conflicts = Vec::new();
        for event in events {
            match event {
                Event::Left(wire) => self.left(&wire, now),
                Event::Answered(id, answer) => self.ledger.answered(id, &answer.outcome),
                Event::Committed(committed) => match self.ledger.committed(&committed, &self.entries) {
                    Ok(conflict) => conflicts.extend(conflict),
                    Err(wrong) => panic!("device {}: {committed:?}: {wrong}", self.n),
                },
                Event::Died => {
                    for id in self.ledger.died() {
                        let words = format!("{} was claimed and had not left", self.net.world().named(id));
                        self.note(&words);
                    }
                }
            }
        }
        for (at, (id, device, expected)) in conflicts.iter().enumerate() {
            if !conflicts[at + 1..].iter().any(|(later, ..)| later == id) {
                self.check_conflict(*expected, *id, device, now);
            }
        }
    }

    fn left(&mut self, wire: &Wire, now: &Entries) {
        let words = format!("{}.{} leaves at {}", self.net.world().named(wire.id), wire.suffix, wire.revision);
        self.net.world().note(words.clone());
        if let Some(wrong) = self.ledger.left(wire, now) {
            let promise = self.ledger.promises.get(&wire.id);
            panic!("device {}: {words}: {wrong}\n{wire:?}\n{promise:?}", self.n);
        }
    }

    /// What a refusal by what the server holds must have come to.
    fn check_conflict(&self, expected: Expected, id: Uuid, device: &str, now: &Entries) {
        let Some(entry) = now.get(&id) else { return };
        let contested = states::is_contested(entry);
        let right = match expected {
            Expected::Acked => entry.state == State::Acked,
            Expected::SentAgain => !contested,
            Expected::Lost => entry.lost,
            Expected::Failed => contested && !entry.lost,
            Expected::Renewed => {
                let live = |entry: &&Entry| matches!(entry.state, State::Pending | State::Inflight | State::Failed);
                let doubted = now.values().filter(live).all(|entry| entry.possibly_sent);
                doubted && self.device().store.device().to_string() != device
            }
        };
        assert!(right, "device {}: a conflict should have come to {expected:?}: {entry:?}", self.n);
    }

    pub fn note(&self, what: &str) {
        self.net.world().note(format!("{}: {what}", self.n));
    }

    /// Nothing more of this life reaches the disk.
    async fn end(&mut self) {
        self.trial.die();
        let life = self.life();
        self.net.world().abandon(life, &mut self.chance);
        let Some(device) = self.device.take() else { return };
        let store = device.store.clone();
        drop(device);
        store.close().await;
        self.net.world().tell(self.n, Event::Died);
    }

    /// Everything is dropped at once, wherever it is.
    pub async fn crash(&mut self) {
        self.end().await;
        self.start().await;
    }

    /// The process will end at one of the next commits of what is sent or was answered.
    pub fn plan_to_die(&mut self, dice: &mut Dice) {
        let death = if dice.one_in(2) { Death::BeforeTheCommit } else { Death::AfterTheCommit };
        let commit = 1 + dice.roll(3);
        self.note(&format!("will die {death:?}, the {commit}. from now"));
        self.trial.die_at(commit, death);
    }

    /// As an app that exits properly, if it may take its time.
    pub async fn restart(&mut self) {
        let under_way = self.net.world().under_way(self.life());
        if under_way > 0 {
            return self.crash().await;
        }
        if let Some(device) = self.device.take() {
            device.stop().await;
            self.ledger.restarted();
        }
        self.start().await;
    }

    pub async fn back_up(&mut self) {
        self.end().await;
        let copy = self.folder.path().join("copy");
        drop(std::fs::remove_dir_all(&copy));
        copy_all(&self.path(), &copy);
        let entries = self.entries.clone();
        self.events(&entries);
        self.backup = Some((self.ledger.clone(), entries));
        self.start().await;
    }

    pub fn has_backup(&self) -> bool {
        self.backup.is_some()
    }

    /// An older state of the whole folder comes back.
    pub async fn restore(&mut self) {
        let Some((mut ledger, entries)) = self.backup.clone() else { return };
        self.settle().await;
        self.end().await;
        drop(std::fs::remove_dir_all(self.path()));
        copy_all(&self.folder.path().join("copy"), &self.path());
        drop(self.net.world().events(self.n));
        ledger.restored = true;
        (self.ledger, self.entries) = (ledger, entries);
        self.start().await;
    }

    /// What would still be tried.
    pub fn restless(&self) -> Vec<&Entry> {
        self.ledger
            .order
            .iter()
            .filter_map(|id| self.entries.get(id))
            .filter(|entry| !states::is_at_rest(entry))
            .collect()
    }

    pub async fn finish(mut self) {
        if let Some(device) = self.device.take() {
            self.trial.die();
            let store = device.store.clone();
            drop(device);
            store.close().await;
        }
    }
}

/// Six megabytes that are held back for a full disk take as long as a whole history; here a hole is enough.
fn make_ballast(folder: &Path) {
    std::fs::create_dir_all(folder).expect("a folder");
    let file = std::fs::File::create(folder.join("outbox.ballast")).expect("a file");
    file.set_len(6 * 1024 * 1024).expect("a length");
}

fn copy_all(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for file in std::fs::read_dir(from).expect("the folder is there") {
        let file = file.expect("it can be read");
        if file.file_name() != "outbox.ballast" {
            std::fs::copy(file.path(), to.join(file.file_name())).expect("it is copied");
        }
    }
}
