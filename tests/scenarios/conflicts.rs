//! A server that holds what somebody else wrote: who wins, who is told, and that nothing is applied twice.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::{Value, json};
use storage_sync_backend::{Backend, Edit, Ending, Mutation, Rule, Seen};
use tauri_plugin_storage_sync::{
    Entry, Reason, State,
    testing::{
        keychain::testing::MemoryKeys,
        outbox::Resolution,
        transport::{Delivery, Request, Transport, http::Http},
    },
};
use uuid::Uuid;

use crate::{
    dice::{Dice, seed},
    support::{Device, Setup, comparing, content, impatient, times_applied},
};

fn config(backend: &Backend, on_conflict: &str) -> Value {
    let mut config = impatient(backend);
    config["endpoints"]["form"]["onConflict"] = json!(on_conflict);
    config["endpoints"]["form"]["idempotent"] = json!(on_conflict == "overwrite");
    config
}

fn theirs(revision: u64) -> Edit {
    Edit::of("/forms/a").content(json!({ "by": "them" })).revision(revision)
}

fn lost(entry: &Entry) -> bool {
    entry.state == State::Superseded && entry.lost
}

/// A device that has written the thing once, so that its lane has learned.
async fn acquainted(setup: Setup) -> Device {
    let device = setup.start().await;
    let first = device.enqueue("form", Some("a"), json!({ "by": "us" })).await;
    device.acked(first).await;
    device
}

#[tokio::test]
async fn a_second_device_whose_first_edit_meets_revision_57_does_not_lose_it() {
    let folder = tempfile::tempdir().unwrap();
    let backend = comparing().await;
    backend.edit(theirs(57));
    let device = Setup::new(folder.path(), config(&backend, "newest")).start().await;
    let id = device.enqueue("form", Some("a"), json!({ "by": "us" })).await;
    let entry = device.acked(id).await;
    assert_eq!((entry.revision, entry.conflict), (Some(58), false), "{entry:#?}");
    assert_eq!(content(&backend, "forms", "a"), json!({ "by": "us" }));
    assert_eq!((backend.requests().len(), times_applied(&backend, id)), (2, 1));
    let next = device.enqueue("form", Some("a"), json!({ "by": "us again" })).await;
    assert_eq!(device.acked(next).await.revision, Some(59), "the lane has learned");
    device.stop().await;
}

#[tokio::test]
async fn a_beaten_write_is_told_keeps_its_payload_and_can_be_meant_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let backend = comparing().await;
    let device = acquainted(Setup::new(folder.path(), config(&backend, "newest"))).await;
    backend.edit(theirs(10));
    let mut changes = device.outbox.changes();
    let id = device.enqueue("form", Some("a"), json!({ "by": "us again" })).await;
    let entry = device.until(id, lost).await;
    assert!(entry.conflict && !entry.possibly_sent && entry.superseded_by.is_none(), "{entry:#?}");
    let told = async {
        loop {
            let change = changes.recv().await.unwrap();
            if change.id == id && change.conflict {
                return change.state;
            }
        }
    };
    assert_eq!(told.await, Some(State::Superseded));
    assert_eq!(device.outbox.conflicts().await.unwrap(), [entry]);
    assert_eq!(device.outbox.delivered(id, None).await.unwrap_err().code(), "lost");
    assert_eq!(device.outbox.payload(id).await.unwrap().as_bytes(), br#"{"by":"us again"}"#);
    assert_eq!(content(&backend, "forms", "a"), json!({ "by": "them" }));

    device.outbox.retry(id, false).await.unwrap();
    assert_eq!(device.acked(id).await.revision, Some(11));
    assert_eq!(content(&backend, "forms", "a"), json!({ "by": "us again" }));
    assert_eq!(times_applied(&backend, id), 1);
    device.stop().await;
}

#[tokio::test]
async fn what_is_left_to_the_user_does_not_hold_its_lane_and_each_decision_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let backend = comparing().await;
    let device = acquainted(Setup::new(folder.path(), config(&backend, "ask"))).await;
    let conflict = async |revision| {
        backend.edit(theirs(revision));
        let id = device.enqueue("form", Some("a"), json!({ "written": revision })).await;
        let entry = device.until(id, |entry| entry.state == State::Failed).await;
        assert_eq!((entry.reason, entry.conflict), (Some(Reason::Conflict), true), "{entry:#?}");
        id
    };
    let mine = conflict(10).await;
    let next = device.enqueue("form", Some("a"), json!({ "written": "meanwhile" })).await;
    device.acked(next).await;
    assert_eq!(device.entry(mine).await.state, State::Failed, "it waits for a decision, and nobody for it");
    device.outbox.resolve(mine, Resolution::Mine).await.unwrap();
    device.acked(mine).await;
    assert_eq!(content(&backend, "forms", "a"), json!({ "written": 10 }));

    let given_up = conflict(20).await;
    device.outbox.resolve(given_up, Resolution::Theirs).await.unwrap();
    let entry = device.entry(given_up).await;
    assert!(entry.state == State::Superseded && !entry.lost && !entry.conflict, "{entry:#?}");
    assert_eq!(content(&backend, "forms", "a"), json!({ "by": "them" }));

    let merged = conflict(30).await;
    let both = tauri_plugin_storage_sync::testing::outbox::Payload::json(&json!({ "by": "both" })).unwrap();
    device.outbox.resolve(merged, Resolution::Payload(both)).await.unwrap();
    device.acked(merged).await;
    assert_eq!(content(&backend, "forms", "a"), json!({ "by": "both" }));
    assert_eq!((times_applied(&backend, given_up), times_applied(&backend, merged)), (0, 1));
    device.stop().await;
}

/// Somebody is always faster.
struct Overtaken {
    http: Http,
    backend: Backend,
    on: AtomicBool,
}

impl Transport for Overtaken {
    fn deliver(&self, request: Request) -> Delivery<'_> {
        let sent = request.headers.iter().find(|(name, _)| name == "Sync-Revision").map(|(_, value)| value.parse());
        if let (true, Some(Ok(revision))) = (self.on.load(Ordering::SeqCst), sent) {
            self.backend.edit(theirs(revision));
        }
        self.http.deliver(request)
    }
}

#[tokio::test]
async fn overwriting_ends_when_somebody_else_is_always_faster() {
    let folder = tempfile::tempdir().unwrap();
    let backend = comparing().await;
    let transport =
        Arc::new(Overtaken { http: Http::new().unwrap(), backend: backend.clone(), on: AtomicBool::new(false) });
    let mut setup = Setup::new(folder.path(), config(&backend, "overwrite"));
    setup.transport = Some(transport.clone());
    let device = acquainted(setup).await;
    transport.on.store(true, Ordering::SeqCst);
    let id = device.enqueue("form", Some("a"), json!({ "by": "us again" })).await;
    let entry = device.until(id, |entry| entry.state == State::Failed).await;
    assert_eq!((entry.reason, entry.attempts, entry.possibly_sent), (Some(Reason::Conflict), 11, false), "{entry:#?}");
    assert_eq!(times_applied(&backend, id), 0);

    transport.on.store(false, Ordering::SeqCst);
    backend.edit(theirs(1_000));
    device.outbox.retry(id, false).await.unwrap();
    device.acked(id).await;
    assert_eq!(content(&backend, "forms", "a"), json!({ "by": "us again" }), "one newer write is written over");
    device.stop().await;
}

#[tokio::test]
async fn a_write_that_may_have_been_applied_is_never_put_above_a_newer_one() {
    let folder = tempfile::tempdir().unwrap();
    let backend = comparing().await;
    backend.set_idempotency(false);
    let device = acquainted(Setup::new(folder.path(), config(&backend, "overwrite"))).await;
    backend.misbehave(Rule::drop_after().times(1));
    let gate = backend.hold(Rule::hold().applied());
    let id = device.enqueue("form", Some("a"), json!({ "by": "us again" })).await;
    gate.holds(1).await;
    backend.edit(theirs(10));
    gate.open();
    let entry = device.until(id, lost).await;
    assert!(entry.possibly_sent && entry.conflict, "it was applied, but nobody knows: {entry:#?}");
    assert_eq!(times_applied(&backend, id), 1);
    assert_eq!(content(&backend, "forms", "a"), json!({ "by": "them" }));
    device.stop().await;
}

#[tokio::test]
async fn an_answer_that_was_lost_is_recognised_in_the_refusal_of_a_server_that_only_compares_revisions() {
    let folder = tempfile::tempdir().unwrap();
    let backend = comparing().await;
    backend.set_idempotency(false);
    let device = Setup::new(folder.path(), config(&backend, "newest")).start().await;
    for (kind, key) in [("form", "a"), ("note", "b")] {
        backend.misbehave(Rule::drop_after().times(1));
        let id = device.enqueue(kind, Some(key), json!({})).await;
        let entry = device.acked(id).await;
        assert_eq!((entry.attempts, entry.status), (2, Some(409)), "{entry:#?}");
        assert!(entry.canonical_id.is_some(), "the refusal names it: {entry:#?}");
        assert_eq!(times_applied(&backend, id), 1);
    }
    device.stop().await;
}

#[tokio::test]
async fn a_refusal_that_no_revision_explains_ends_and_lets_the_lane_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let backend = comparing().await;
    let device = acquainted(Setup::new(folder.path(), config(&backend, "newest"))).await;
    backend.misbehave(Rule::status(409).body(json!({ "revision": 1, "device": "web" }).to_string()).times(6));
    let id = device.enqueue("form", Some("a"), json!({})).await;
    let entry = device.until(id, |entry| entry.state == State::Failed).await;
    assert_eq!((entry.reason, entry.attempts), (Some(Reason::Conflict), 6), "{entry:#?}");
    let next = device.enqueue("form", Some("a"), json!({ "n": 2 })).await;
    device.acked(next).await;
    device.stop().await;
}

fn copy(from: &Path, to: &Path) {
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

/// A backup of a device's folder is put back after the device went on.
async fn restored(keeps_answers: bool) {
    let [folder, backup] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (backend, keys) = (comparing().await, MemoryKeys::new());
    backend.set_idempotency(keeps_answers);
    let setup = |folder: &Path| Setup::new(folder, config(&backend, "newest")).keys(&keys);
    let device = acquainted(setup(folder.path())).await;
    device.outbox.pause().await.unwrap();
    let waiting = [
        device.enqueue("form", Some("b"), json!({ "waits": 1 })).await,
        device.enqueue("note", Some("n"), json!({ "waits": 2 })).await,
    ];
    device.stop().await;
    copy(folder.path(), backup.path());

    let device = setup(folder.path()).start().await;
    let old = device.store.device();
    device.outbox.resume().await.unwrap();
    for id in waiting {
        device.acked(id).await;
    }
    let after = device.enqueue("form", Some("a"), json!({ "by": "us, after the backup" })).await;
    device.acked(after).await;
    device.stop().await;

    let device = setup(backup.path()).start().await;
    let edit = device.enqueue("form", Some("a"), json!({ "by": "us, restored" })).await;
    device.outbox.resume().await.unwrap();
    let beaten = device.until(edit, lost).await;
    assert!(beaten.conflict, "the app is told: {beaten:#?}");
    for id in waiting {
        device.acked(id).await;
    }
    assert_ne!(device.store.device(), old, "it is a device of its own now");
    let later = device.enqueue("form", Some("a"), json!({ "by": "us, later" })).await;
    device.acked(later).await;
    let last = backend.mutations().pop().unwrap();
    assert_eq!(last.device, Some(device.store.device().to_string()));
    assert_eq!(content(&backend, "forms", "a"), json!({ "by": "us, later" }));
    let twice: Vec<Uuid> =
        [waiting[0], waiting[1], after, later].into_iter().filter(|id| times_applied(&backend, *id) != 1).collect();
    assert!(twice.is_empty() && times_applied(&backend, edit) == 0, "{twice:?}");
    // The device stays the new one, and what was beaten is not gone.
    device.outbox.retry(edit, false).await.unwrap();
    device.acked(edit).await;
    let new = device.store.device();
    device.stop().await;
    let device = setup(backup.path()).start().await;
    assert_eq!(device.store.device(), new);
    device.stop().await;
}

#[tokio::test]
async fn a_restored_database_becomes_a_device_of_its_own_and_applies_nothing_twice() {
    restored(true).await;
}

#[tokio::test]
async fn so_it_does_with_a_server_that_only_compares_revisions() {
    restored(false).await;
}

#[tokio::test]
async fn two_devices_that_edit_one_thing_over_a_lossy_network_converge_and_each_loser_is_told() {
    let seed = seed();
    println!("STORAGE_SYNC_SEED={seed}");
    let mut dice = Dice::new(seed);
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let backend = comparing().await;
    let mut devices = Vec::new();
    for folder in &folders {
        devices.push(Setup::new(folder.path(), config(&backend, "newest")).start().await);
    }
    let mut written = Vec::new();
    let unheard = |seen: &Seen| seen.applied && seen.ending == Ending::Reset;
    for round in 0..600 {
        // How many edits come to be sent is up to the machine. What the run is about has to have happened: an answer is lost after its write was applied.
        let shows = backend.world(|world| world.requests().any(unheard));
        if round >= 60 && shows {
            break;
        }
        let certain = round >= 60;
        backend.set_idempotency(!dice.one_in(3));
        let rules = [Rule::drop_after(), Rule::drop_before(), Rule::status(503)];
        if let Some(rule) = rules.into_iter().find(|_| dice.one_in(3)) {
            backend.misbehave(rule.times(1));
        }
        if certain {
            backend.misbehave(Rule::drop_after().times(1));
        }
        let by = usize::from(dice.one_in(2));
        let draft = json!({ "round": round, "by": by });
        let id = devices[by].enqueue("form", Some("a"), draft.clone()).await;
        written.push((by, id, draft));
        if dice.one_in(3) || certain {
            devices[by].quiet().await;
        }
    }
    backend.behave();
    let mut applied = HashMap::new();
    for (by, id, _) in &written {
        let settled = |entry: &Entry| matches!(entry.state, State::Acked | State::Superseded);
        let entry = devices[*by].until(*id, settled).await;
        let times = times_applied(&backend, *id);
        match (entry.state, entry.lost, entry.possibly_sent) {
            (State::Acked, ..) => assert_eq!(times, 1, "{entry:#?}"),
            (_, true, true) => assert!(times <= 1 && entry.conflict, "{entry:#?}"),
            (_, true, false) => assert!(times == 0 && entry.conflict, "{entry:#?}"),
            (_, false, _) => assert!(times == 0 && entry.superseded_by.is_some(), "{entry:#?}"),
        }
        if times == 1 {
            applied.insert(*id, entry);
        }
    }
    let mutations = backend.mutations();
    assert_eq!(mutations.len(), applied.len(), "every write is one of ours");
    for mutation in &mutations {
        let id = mutation.idempotency_key.as_ref().unwrap().split('.').next().unwrap();
        let entry = &applied[&id.parse().unwrap()];
        assert_eq!(entry.revision, Some(mutation.revision), "{mutation:#?} {entry:#?}");
    }
    let ascend = |pair: &[Mutation]| (pair[0].revision, &pair[0].device) < (pair[1].revision, &pair[1].device);
    assert!(mutations.windows(2).all(ascend), "a write went below another: {mutations:#?}");
    let last = mutations.last().unwrap();
    let wrote_it = devices.iter().position(|device| last.device == Some(device.store.device().to_string()));
    let latest = written.iter().rfind(|(by, ..)| Some(*by) == wrote_it);
    let (by, id, draft) = latest.expect("the last write is one of ours");
    assert_eq!(content(&backend, "forms", "a"), *draft, "it is the latest that device {by} wrote");
    let entry = &applied[id];
    let held = backend.world(|world| world.resource("forms", "a").map(|form| form.last.revision));
    assert_eq!((entry.state, entry.revision), (State::Acked, held), "{entry:#?}");
    let requests = backend.requests();
    let unheard: Vec<&Seen> = requests.iter().filter(|seen| unheard(seen)).collect();
    assert!(!unheard.is_empty(), "no answer was lost after its write had been applied: the run shows nothing");
    for seen in unheard {
        let again = requests.iter().filter(|other| other.idempotency_key == seen.idempotency_key).count();
        assert!(again > 1, "its device never asked what had become of it: {seen:?}");
    }
    for (n, device) in devices.into_iter().enumerate() {
        let told: HashSet<Uuid> = device.outbox.conflicts().await.unwrap().iter().map(|entry| entry.id).collect();
        let mut lost = HashSet::new();
        for (_, id, _) in written.iter().filter(|(by, ..)| *by == n) {
            lost.extend(device.entry(*id).await.lost.then_some(*id));
        }
        assert_eq!(told, lost, "device {n} hears of other losses than it had");
        device.stop().await;
    }
}
