//! `kill -9` at random moments: whatever a receipt was given for is applied exactly once or still in the outbox.

use std::{
    collections::{BTreeMap, HashMap, HashSet, hash_map::Entry as Place},
    path::Path,
    sync::Arc,
    time::Duration,
};

use serde_json::Value;
use storage_sync_backend::{Backend, Rule};
use tauri_plugin_storage_sync::{Entry, State};
use uuid::Uuid;

use crate::{
    dice::{Dice, number, seed},
    support::{Device, Setup, backend, impatient},
    worker::{SameKey, Worker},
};

/// So many receipts at most before the outbox is read: a settled entry is pruned once there are a thousand newer ones.
const UNREAD: usize = 300;

/// What ever was in an outbox, oldest first. Only the entry says which lane a receipt is of, and it is pruned in the end.
#[derive(Default)]
pub struct History {
    entries: Vec<Entry>,
    places: HashMap<Uuid, usize>,
}

impl History {
    pub async fn read(&mut self, device: &Device) {
        for entry in device.all().await.into_iter().rev() {
            if let Place::Vacant(place) = self.places.entry(entry.id) {
                place.insert(self.entries.len());
                self.entries.push(entry);
            }
        }
    }

    /// Once nothing is left to deliver: each promise was kept, and of each form the server holds the last draft.
    pub async fn was_delivered(&self, device: &Device, backend: &Backend, promised: &[String]) {
        let (times, mut replaced) = (times_applied(backend), 0);
        let applied = |entry: &Entry| times.get(&entry.id).copied().unwrap_or_default();
        let (mut drafts, mut arrived) = (BTreeMap::new(), HashMap::new());
        for (place, entry) in self.entries.iter().enumerate().filter(|(_, entry)| entry.kind == "form") {
            drafts.insert(entry.key.as_deref().unwrap(), entry.id);
            if applied(entry) > 0 {
                arrived.insert(entry.key.as_deref().unwrap(), place);
            }
        }
        for line in promised {
            let (kind, id) = line.split_once(' ').unwrap();
            let place = self.places.get(&id.parse().unwrap());
            let place = *place.unwrap_or_else(|| panic!("{line} was promised and never was in the outbox"));
            let seen = &self.entries[place];
            let entry = match device.outbox.get(seen.id).await {
                Ok(entry) => Some(entry),
                Err(error) => {
                    assert_eq!(error.code(), "not_found", "{error}");
                    None
                }
            };
            let newer = kind == "form" && arrived.get(seen.key.as_deref().unwrap()).is_some_and(|last| *last > place);
            let successor = entry.as_ref().is_some_and(|entry| entry.superseded_by.is_some());
            match (entry.as_ref().map(|entry| entry.state), applied(seen)) {
                (Some(State::Acked) | None, 1) => {}
                (Some(State::Superseded), 0) if newer && successor => replaced += 1,
                // Pruned: nothing but a newer draft that arrived excuses it.
                (None, 0) if newer => replaced += 1,
                (_, times) => panic!("{line} was applied {times} times, a newer one arrived: {newer}: {entry:#?}"),
            }
        }
        for (key, draft) in &drafts {
            let held = backend.world(|world| world.resource("forms", key).map(|form| form.last.clone()));
            let held = held.and_then(|last| last.idempotency_key.as_deref().map(id_of));
            assert_eq!(held, Some(*draft), "the server holds another draft of {key:?} than the last one");
        }
        println!("{} receipts, {replaced} of drafts that a newer one replaced; {} forms", promised.len(), drafts.len());
    }
}

/// The entry that an idempotency key is of.
fn id_of(key: &str) -> Uuid {
    key.split('.').next().unwrap().parse().unwrap()
}

fn times_applied(backend: &Backend) -> HashMap<Uuid, u64> {
    let mut times = HashMap::new();
    backend.world(|world| {
        for (key, more) in world.applied_keys() {
            *times.entry(id_of(key)).or_default() += more;
        }
    });
    times
}

fn setup(folder: &Path, config: &Value) -> Setup {
    let mut setup = Setup::new(folder, config.clone());
    setup.source = Some(Arc::new(SameKey));
    setup
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_kills_at_random_moments_lose_nothing_and_deliver_nothing_twice() {
    let kills = number("STORAGE_SYNC_KILLS", 200);
    let seed = seed();
    println!("{kills} kills, STORAGE_SYNC_SEED={seed}");
    let mut dice = Dice::new(seed);
    let folder = tempfile::tempdir().unwrap();
    let backend = backend().await;
    let config = impatient(&backend);
    let (mut promised, mut history, mut read) = (Vec::new(), History::default(), 0);

    for _ in 0..kills {
        if dice.roll(3) == 0 {
            backend.misbehave(if dice.roll(2) == 0 { Rule::drop_after() } else { Rule::drop_before() }.times(2));
        }
        let mut worker = Worker::start(folder.path(), &config, "a", true);
        let receipts = dice.roll(60);
        let micros = dice.roll(3000);
        let (mut worker, lines) = tokio::task::spawn_blocking(move || {
            assert_eq!(worker.line().as_deref(), Some("open"));
            let lines: Vec<String> = (0..receipts).map_while(|_| worker.line()).collect();
            // Not to wait for anything: to die at another moment each time.
            std::thread::sleep(Duration::from_micros(micros));
            worker.kill();
            (worker, lines)
        })
        .await
        .unwrap();
        promised.extend(lines);
        promised.extend(std::iter::from_fn(|| worker.line()));
        if promised.len() - read >= UNREAD {
            // Not after each kill: the next worker is to find what the last one left.
            let device = setup(folder.path(), &config).open().await;
            history.read(&device).await;
            device.stop().await;
            read = promised.len();
        }
    }

    backend.behave();
    let mut device = setup(folder.path(), &config).open().await;
    history.read(&device).await;
    device.start();
    device.until_counted(|counts| counts.pending + counts.inflight == 0).await;
    assert!(promised.len() as u64 > kills, "the workers did something before they died");
    history.was_delivered(&device, &backend, &promised).await;
    let all: HashSet<_> = backend.mutations().into_iter().map(|mutation| mutation.idempotency_key).collect();
    assert_eq!(all.len(), backend.mutations().len(), "nothing was applied twice, receipt or not");
    device.stop().await;
}
