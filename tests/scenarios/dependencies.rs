//! Entries that wait for others, and carry the ids that those got.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use storage_sync_backend::{Backend, Rule};
use tauri_plugin_storage_sync::{
    Reason, State, WaitingFor,
    testing::outbox::{EnqueueOptions, NewItem, Payload},
};
use uuid::Uuid;

use crate::support::{Device, ManualClock, Setup, backend, times_applied};

fn config(backend: &Backend) -> Value {
    json!({
        "baseUrl": backend.url(),
        "endpoints": {
            "listing": { "method": "POST", "url": "/listings", "ack": { "id": "/data/id" } },
            "photo": { "method": "POST", "url": "/listings/{listing}/photos" },
            "note": { "method": "POST", "url": "/notes" },
        },
    })
}

fn reference(id: Uuid) -> String {
    format!("{{storage-sync:{id}}}")
}

fn of(listing: Uuid) -> EnqueueOptions {
    let params = BTreeMap::from([("listing".to_owned(), reference(listing))]);
    EnqueueOptions { params, ..EnqueueOptions::default() }
}

fn after(id: Uuid) -> EnqueueOptions {
    EnqueueOptions { after: vec![id], ..EnqueueOptions::default() }
}

/// With a clock that stands still: whatever is sent, no timer has found.
async fn device(folder: &tempfile::TempDir, backend: &Backend, clock: &ManualClock) -> Device {
    Setup::new(folder.path(), config(backend)).stopped(clock).start().await
}

#[tokio::test]
async fn a_photo_waits_for_its_listing_and_carries_the_id_that_the_server_gave() {
    let (folder, backend, clock) = (tempfile::tempdir().unwrap(), backend().await, ManualClock::new());
    backend.set_strict(true);
    let gate = backend.hold(Rule::hold().kind("listings"));
    let device = device(&folder, &backend, &clock).await;
    let listing = device.enqueue("listing", None, json!({ "title": "Lamp" })).await;
    gate.holds(1).await;
    let text = json!({ "of": reference(listing), "link": format!("see \"{}\"!", reference(listing)), "n": 1.50 });
    let photo = device.enqueue_with("photo", text, of(listing)).await;
    let waits =
        |entry: &tauri_plugin_storage_sync::Entry| entry.waiting_for == Some(WaitingFor::Dependency { on: listing });
    device.until(photo, waits).await;
    gate.open();
    device.acked(photo).await;
    let id = device.entry(listing).await.canonical_id.unwrap();
    let path = backend.requests().pop().unwrap().path;
    assert_eq!(path, format!("/listings/{id}/photos"));
    let body = backend.world(|world| {
        let body = world.resources(&format!("listings/{id}/photos")).next().unwrap().body.clone();
        serde_json::from_slice::<Value>(&body).unwrap()
    });
    assert_eq!(body, json!({ "of": id, "link": format!("see \"{id}\"!"), "n": 1.5 }));
    assert_eq!(device.entry(photo).await.after, [listing]);
    device.stop().await;
}

#[tokio::test]
async fn a_listing_and_its_photos_are_one_commit_and_the_photos_bytes_never_change() {
    let (folder, backend, clock) = (tempfile::tempdir().unwrap(), backend().await, ManualClock::new());
    backend.misbehave(Rule::drop_after().kind("photos").times(1));
    let device = device(&folder, &backend, &clock).await;
    let listing = Uuid::now_v7();
    let first = EnqueueOptions { id: Some(listing), ..EnqueueOptions::default() };
    let json = |value: Value| Payload::json(&value).unwrap();
    let items = vec![
        NewItem::new("listing", json(json!({})), first),
        NewItem::new("photo", json(json!({ "of": reference(listing) })), of(listing)),
    ];
    let receipts = device.outbox.enqueue_all(items).await.unwrap();
    let photo = receipts[1].id;
    device.until(photo, |entry| entry.attempts == 1 && entry.state == State::Pending).await;
    clock.advance(std::time::Duration::from_secs(600));
    device.acked(photo).await;
    let sent: Vec<_> = backend.requests().into_iter().filter(|seen| seen.kind == "photos").collect();
    assert_eq!(sent.len(), 2);
    assert!(sent[0].sha256 == sent[1].sha256 && sent[0].path == sent[1].path);
    assert_eq!(times_applied(&backend, photo), 1);
    device.stop().await;
}

#[tokio::test]
async fn what_waits_for_a_failed_entry_goes_once_that_is_delivered_after_all() {
    let (folder, backend, clock) = (tempfile::tempdir().unwrap(), backend().await, ManualClock::new());
    backend.misbehave(Rule::status(422).times(1));
    let device = device(&folder, &backend, &clock).await;
    let listing = device.enqueue("listing", None, json!({})).await;
    let photo = device.enqueue_with("photo", json!({}), of(listing)).await;
    let note = device.enqueue_with("note", json!({}), after(photo)).await;
    device.until(listing, |entry| entry.state == State::Failed).await;
    device.quiet().await;
    assert_eq!(device.entry(photo).await.waiting_for, Some(WaitingFor::Dependency { on: listing }));
    assert_eq!(device.entry(note).await.waiting_for, Some(WaitingFor::Dependency { on: photo }));
    device.outbox.retry(listing, false).await.unwrap();
    device.acked(note).await;
    let kinds: Vec<_> = backend.requests().into_iter().map(|seen| seen.kind).collect();
    assert_eq!(kinds, ["listings", "listings", "photos", "notes"]);
    device.stop().await;
}

#[tokio::test]
async fn what_waits_for_a_discarded_entry_says_so_or_goes_with_it() {
    let (folder, backend, clock) = (tempfile::tempdir().unwrap(), backend().await, ManualClock::new());
    backend.misbehave(Rule::status(422).kind("listings"));
    let device = device(&folder, &backend, &clock).await;
    let listing = device.enqueue("listing", None, json!({})).await;
    let photo = device.enqueue_with("photo", json!({}), of(listing)).await;
    let note = device.enqueue_with("note", json!({}), after(listing)).await;
    device.until(listing, |entry| entry.state == State::Failed).await;
    device.outbox.discard(listing, false).await.unwrap();
    for id in [photo, note] {
        let entry = device.entry(id).await;
        assert_eq!((entry.state, entry.reason), (State::Failed, Some(Reason::ParentGone)), "{entry:#?}");
    }
    assert_eq!(device.outbox.retry(photo, false).await.unwrap_err().code(), "wrong_state");
    device.outbox.retry(note, false).await.unwrap();
    device.acked(note).await;

    let listing = device.enqueue("listing", None, json!({})).await;
    let photo = device.enqueue_with("photo", json!({}), of(listing)).await;
    device.until(listing, |entry| entry.state == State::Failed).await;
    let gone = device.outbox.discard(listing, true).await.unwrap();
    assert!(gone.ids.contains(&listing) && gone.ids.contains(&photo));
    assert_eq!(backend.world(|world| world.resources("notes").count()), 1);
    device.stop().await;
}

#[tokio::test]
async fn what_waits_goes_on_in_the_next_start_too() {
    let (folder, backend, clock) = (tempfile::tempdir().unwrap(), backend().await, ManualClock::new());
    let keys = tauri_plugin_storage_sync::testing::keychain::testing::MemoryKeys::new();
    let setup = || Setup::new(folder.path(), config(&backend)).stopped(&clock).keys(&keys);
    let device = setup().open().await;
    let listing = device.enqueue("listing", None, json!({})).await;
    let photo = device.enqueue_with("photo", json!({}), of(listing)).await;
    device.stop().await;
    let device = setup().start().await;
    device.acked(photo).await;
    device.stop().await;
}
