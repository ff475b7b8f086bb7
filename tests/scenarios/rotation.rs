//! From one master key to the next: while entries are delivered, and killed at any moment.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use serde_json::json;
use tauri_plugin_storage_sync::{
    AppKey, InsecureKeyFile, KeySource,
    testing::keychain::testing::MemoryKeys,
    testing::outbox::{EnqueueOptions, Outbox, Payload},
};
use uuid::Uuid;

use crate::{
    dice::{Dice, goes_on, number, seed},
    support::{Device, Setup, backend, impatient, times_applied},
    victim::said_until_killed,
};

const FOLDER: &str = "STORAGE_SYNC_ROTATOR_FOLDER";
/// Where it delivers; if absent it does not.
const BACKEND: &str = "STORAGE_SYNC_ROTATOR_BACKEND";
const NOWHERE: &str = "https://nowhere.invalid";

async fn payload_of(outbox: &Outbox, id: Uuid) -> String {
    match outbox.payload(id).await.unwrap_or_else(|error| panic!("{id} is unreadable: {error}")) {
        Payload::Json(text) => text.get().to_owned(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_rotation_goes_on_beside_delivery_and_leaves_one_key_and_every_entry_readable() {
    let (backend, folder, keys) = (backend().await, tempfile::tempdir().unwrap(), MemoryKeys::new());
    let device = Setup::new(folder.path(), impatient(&backend)).keys(&keys).start().await;
    let mut ids = Vec::new();
    for n in 0..300 {
        ids.push(device.enqueue("note", None, json!({ "n": n })).await);
    }
    let before = keys.key("").unwrap();
    let rotated = device.rotated().await;
    assert!(rotated.finished && rotated.unreadable == 0 && rotated.rewrapped >= 300, "{rotated:?}");
    let after = keys.key("").unwrap();
    assert_eq!(after.len(), 32, "the old key is gone");
    assert_ne!(before, after);
    for id in &ids {
        device.acked(*id).await;
        assert_eq!(times_applied(&backend, *id), 1);
    }
    device.stop().await;
}

#[tokio::test]
async fn what_waits_is_readable_under_the_new_key_and_after_a_restart() {
    let (backend, folder, keys) = (backend().await, tempfile::tempdir().unwrap(), MemoryKeys::new());
    let device = Setup::new(folder.path(), impatient(&backend)).keys(&keys).open().await;
    let id = device.enqueue("form", Some("a"), json!({ "title": "a house" })).await;
    for _ in 0..3 {
        assert!(device.outbox.rotate_key().await.unwrap().finished);
    }
    assert_eq!(payload_of(&device.outbox, id).await, r#"{"title":"a house"}"#);
    device.stop().await;
    let device = Setup::new(folder.path(), impatient(&backend)).keys(&keys).start().await;
    device.acked(id).await;
    assert_eq!(backend.world(|world| world.received()), 1);
    device.stop().await;
}

#[tokio::test]
async fn the_old_key_stays_while_another_process_could_still_write_under_it() {
    let (backend, folder, keys) = (backend().await, tempfile::tempdir().unwrap(), MemoryKeys::new());
    let open = async || Setup::new(folder.path(), impatient(&backend)).keys(&keys).open().await;
    let (first, second) = (open().await, open().await);
    first.enqueue("note", None, json!(1)).await;
    second.enqueue("note", None, json!(2)).await;
    let rotated = first.outbox.rotate_key().await.unwrap();
    assert!(!rotated.finished, "{rotated:?}");
    assert_eq!(keys.key("").unwrap().len(), 64);
    // It still writes under the old key, and everybody can read that.
    let late = second.enqueue("note", None, json!({ "late": true })).await;
    assert_eq!(payload_of(&first.outbox, late).await, r#"{"late":true}"#);
    second.stop().await;
    first.stop().await;
    let alone = open().await;
    alone.enqueue("note", None, json!(3)).await;
    let mut changes = alone.outbox.status_changes();
    // The next start takes it up by itself.
    let done = async {
        while keys.key("").unwrap().len() != 32 {
            tokio::select! { _ = changes.changed() => {}, () = tokio::task::yield_now() => {} }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), done).await.expect("the rotation is finished");
    assert_eq!(payload_of(&alone.outbox, late).await, r#"{"late":true}"#);
    alone.stop().await;
}

#[tokio::test]
async fn a_rotation_that_was_cut_off_is_taken_up_also_when_delivery_had_the_key_first() {
    let (backend, folder, keys) = (backend().await, tempfile::tempdir().unwrap(), MemoryKeys::new());
    let device = Setup::new(folder.path(), impatient(&backend)).keys(&keys).open().await;
    let waits = device.enqueue("note", None, json!({ "n": 1 })).await;
    device.stop().await;
    // As it is left by a kill right after the new key was kept.
    let both = [[9; 32].as_slice(), &keys.key("").unwrap()].concat();
    keys.put("", Some(both));
    let device = Setup::new(folder.path(), impatient(&backend)).keys(&keys).start().await;
    device.acked(waits).await;
    let next = device.enqueue("note", None, json!({ "n": 2 })).await;
    let one = async {
        while keys.key("").unwrap().len() > 32 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), one).await.expect("it is finished");
    assert_eq!(keys.key("").unwrap(), [9; 32]);
    device.acked(next).await;
    device.stop().await;
}

#[tokio::test]
async fn what_another_process_has_wrapped_under_a_new_key_is_read_and_delivered() {
    let (backend, folder, keys) = (backend().await, tempfile::tempdir().unwrap(), MemoryKeys::new());
    let owner = Setup::new(folder.path(), impatient(&backend)).keys(&keys).start().await;
    owner.outbox.pause().await.unwrap();
    let own = owner.enqueue("note", None, json!({ "n": 1 })).await;
    let other = Setup::new(folder.path(), impatient(&backend)).keys(&keys).open().await;
    let theirs = other.enqueue("note", None, json!({ "n": 2 })).await;
    other.outbox.rotate_key().await.unwrap();
    let late = other.enqueue("note", None, json!({ "n": 3 })).await;
    owner.outbox.resume().await.unwrap();
    for id in [own, theirs, late] {
        owner.acked(id).await;
        assert_eq!(times_applied(&backend, id), 1);
    }
    other.stop().await;
    owner.stop().await;
}

#[tokio::test]
async fn what_another_process_has_wrapped_under_a_new_key_is_shown_changed_and_known_again() {
    let (backend, folder, keys) = (backend().await, tempfile::tempdir().unwrap(), MemoryKeys::new());
    let open = async || Setup::new(folder.path(), impatient(&backend)).keys(&keys).open().await;
    let (first, second) = (open().await, open().await);
    let id = first.enqueue("form", Some("a"), json!({ "title": "a house" })).await;
    second.enqueue("note", None, json!(1)).await;
    second.outbox.rotate_key().await.unwrap();
    assert_eq!(payload_of(&first.outbox, id).await, r#"{"title":"a house"}"#);
    second.stop().await;
    let again = open().await;
    again.outbox.rotate_key().await.unwrap();
    let options = EnqueueOptions { id: Some(id), key: Some("a".into()), ..EnqueueOptions::default() };
    let same = Payload::json(&json!({ "title": "a house" })).unwrap();
    assert_eq!(first.outbox.enqueue("form", same, options).await.unwrap().id, id);
    first.stop().await;
    again.stop().await;
}

#[tokio::test]
async fn a_key_that_the_app_gives_is_not_rotated_and_nothing_changes() {
    let (backend, folder) = (backend().await, tempfile::tempdir().unwrap());
    let key = AppKey::new();
    key.give("", &[7; 32]);
    let mut setup = Setup::new(folder.path(), impatient(&backend));
    setup.source = Some(Arc::new(key));
    let device = setup.open().await;
    let id = device.enqueue("note", None, json!({ "n": 1 })).await;
    assert_eq!(device.outbox.rotate_key().await.unwrap_err().code(), "keychain_unavailable");
    assert_eq!(payload_of(&device.outbox, id).await, r#"{"n":1}"#);
    device.stop().await;
}

async fn open(folder: &Path, base: &str) -> Device {
    let config = json!({
        "baseUrl": base,
        "endpoints": { "note": { "method": "POST", "url": "/notes" } },
        "retry": { "baseMs": 5, "capMs": 20 },
    });
    let mut setup = Setup::new(&folder.join("queue"), config);
    setup.source = Some(Arc::new(InsecureKeyFile::new(folder.join("keys"))));
    setup.open().await
}

/// Does nothing in an ordinary run of the tests; the one below starts it with an environment, and kills it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotator_does_as_its_environment_says() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let backend = std::env::var(BACKEND);
    let mut device = open(Path::new(&folder), backend.as_deref().unwrap_or(NOWHERE)).await;
    if backend.is_ok() {
        device.start();
    }
    println!("rotator: open");
    for n in 0.. {
        let id = device.enqueue("note", None, json!({ "n": n })).await;
        println!("rotator: {id} {n}");
        if n % 3 == 0 {
            device.outbox.rotate_key().await.expect("the key is rotated");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_moment_of_a_rotation_leaves_every_entry_readable() {
    let kills = number("STORAGE_SYNC_KILLS", 60);
    let seed = seed();
    println!("{kills} kills, STORAGE_SYNC_SEED={seed}");
    let folder = tempfile::tempdir().unwrap();
    let mut promised: BTreeMap<Uuid, String> = BTreeMap::new();
    let (mut dice, mut inside) = (Dice::new(seed), 0);
    let mut done = 0;
    while goes_on(done, kills, kills < 60 || inside > 0) {
        done += 1;
        let (lines, micros) = (dice.roll(16), dice.roll(9_000));
        let path = folder.path().to_str().unwrap().to_owned();
        let environment = vec![(FOLDER, path)];
        let said = tokio::task::spawn_blocking(move || run_and_kill(&environment, lines, micros)).await.unwrap();
        promised.extend(said);
        inside += u64::from(is_rotating(folder.path()));
    }
    let device = open(folder.path(), NOWHERE).await;
    println!("{} receipts, {inside} kills inside of a rotation", promised.len());
    assert!(kills < 60 || inside > 0, "no kill hit a rotation");
    assert!(promised.len() as u64 > kills, "the rotators did something before they died");
    device.enqueue("note", None, json!(0)).await;
    for (id, n) in &promised {
        assert_eq!(payload_of(&device.outbox, *id).await, format!(r#"{{"n":{n}}}"#));
    }
    let rotated = device.outbox.rotate_key().await.unwrap();
    assert!(rotated.finished && rotated.unreadable == 0, "{rotated:?}");
    let key = InsecureKeyFile::new(folder.path().join("keys")).load("").unwrap().unwrap();
    assert_eq!(key.len(), 32, "one key is left");
    for (id, n) in &promised {
        assert_eq!(payload_of(&device.outbox, *id).await, format!(r#"{{"n":{n}}}"#));
    }
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_of_a_rotation_beside_delivery_keep_no_entry_from_arriving_once() {
    let kills = number("STORAGE_SYNC_KILLS", 60) / 2;
    let seed = seed();
    println!("{kills} kills, STORAGE_SYNC_SEED={seed}");
    let (backend, folder) = (backend().await, tempfile::tempdir().unwrap());
    let (mut promised, mut dice, mut inside) = (Vec::new(), Dice::new(seed), 0);
    let mut done = 0;
    while goes_on(done, kills, kills < 60 || inside > 0) {
        done += 1;
        let (lines, micros) = (dice.roll(16), dice.roll(9_000));
        let path = folder.path().to_str().unwrap().to_owned();
        let environment = vec![(FOLDER, path), (BACKEND, backend.url())];
        let said = tokio::task::spawn_blocking(move || run_and_kill(&environment, lines, micros)).await.unwrap();
        promised.extend(said);
        inside += u64::from(is_rotating(folder.path()));
    }
    let mut device = open(folder.path(), &backend.url()).await;
    device.start();
    device.until_counted(|counts| counts.pending + counts.inflight == 0).await;
    let before = backend.world(|world| world.applied());
    println!("{} receipts, {before} applied, {inside} kills inside of a rotation", promised.len());
    // Fewer hit one than above, since it has more to do beside.
    assert!(kills < 60 || inside > 0, "no kill hit a rotation");
    assert!(promised.len() as u64 > kills, "the rotators did something before they died");
    for (id, _) in promised {
        assert_eq!(times_applied(&backend, id), 1, "{id}");
    }
    assert_eq!(device.outbox.status().await.unwrap().counts.failed, 0);
    device.stop().await;
}

/// Whether a rotation was begun there and not finished: both keys are kept.
fn is_rotating(folder: &Path) -> bool {
    // Where there is none yet, it was killed before its first receipt.
    InsecureKeyFile::new(folder.join("keys")).load("").unwrap().is_some_and(|keys| keys.len() > 32)
}

/// What a process promised before it was killed, some microseconds after so many receipts.
fn run_and_kill(environment: &[(&str, String)], receipts: u64, micros: u64) -> Vec<(Uuid, String)> {
    let mut left = None;
    let test = "rotation::a_rotator_does_as_its_environment_says";
    let said = said_until_killed(test, "rotator", environment, micros, |line| {
        left = if line == "open" { Some(receipts) } else { left.map(|left: u64| left.saturating_sub(1)) };
        left == Some(0)
    });
    assert!(left.is_some(), "it never came so far");
    let receipts = said.iter().filter_map(|line| line.split_once(' '));
    receipts.map(|(id, n)| (id.parse().unwrap(), n.to_owned())).collect()
}
