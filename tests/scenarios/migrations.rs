//! Payloads of an older version of the app.

use serde_json::{Value, json};
use storage_sync_backend::{Backend, Rule};
use tauri_plugin_storage_sync::{
    State, WaitingFor,
    testing::{
        config::Migrations,
        keychain::testing::MemoryKeys,
        outbox::{EnqueueOptions, Payload},
    },
};
use uuid::Uuid;

use crate::support::{Setup, backend, content, impatient};

fn version(backend: &Backend, version: u32) -> Value {
    let mut config = impatient(backend);
    config["endpoints"]["form"]["payloadVersion"] = json!(version);
    config
}

/// From a name to two names, then to a list of them.
fn migrations() -> Migrations {
    let mut migrations = Migrations::default();
    migrations.add("form", 0, |old| {
        let name = old["name"].as_str().ok_or("no name")?;
        let (first, last) = name.split_once(' ').ok_or("one name")?;
        Ok(json!({ "first": first, "last": last }))
    });
    migrations.add("form", 1, |old| Ok(json!({ "names": [old["first"], old["last"]] })));
    migrations
}

#[tokio::test]
async fn what_an_older_version_of_the_app_enqueued_is_sent_in_the_form_of_the_newer_one() {
    let (folder, backend, keys) = (tempfile::tempdir().unwrap(), backend().await, MemoryKeys::new());
    let device = Setup::new(folder.path(), version(&backend, 0)).keys(&keys).open().await;
    let options =
        || EnqueueOptions { key: Some("a".into()), id: Some(Uuid::from_u128(7)), ..EnqueueOptions::default() };
    let old = json!({ "name": "Ada Lovelace" });
    let id = device.enqueue_with("form", old.clone(), options()).await;
    let mut others = Vec::new();
    for number in 0..20 {
        let key = format!("other {number}");
        others.push(device.enqueue("form", Some(&key), json!({ "name": "Grace Hopper" })).await);
    }
    device.stop().await;

    let mut setup = Setup::new(folder.path(), version(&backend, 2)).keys(&keys);
    setup.migrations = migrations();
    let device = setup.open().await;
    let mut device = device;
    device.start();
    device.acked(id).await;
    assert_eq!(content(&backend, "forms", "a"), json!({ "names": ["Ada", "Lovelace"] }));
    for other in others {
        device.acked(other).await;
    }
    let again = device.outbox.enqueue("form", Payload::json(&old).unwrap(), options()).await.unwrap();
    assert_eq!(again.id, id, "what was enqueued is known again by its original bytes");
    device.stop().await;
}

#[tokio::test]
async fn what_may_have_been_sent_is_sent_again_as_it_was() {
    let (folder, backend, keys) = (tempfile::tempdir().unwrap(), backend().await, MemoryKeys::new());
    backend.misbehave(Rule::drop_after());
    let device = Setup::new(folder.path(), version(&backend, 0)).keys(&keys).start().await;
    let id = device.enqueue("form", Some("a"), json!({ "name": "Ada Lovelace" })).await;
    device.until(id, |entry| entry.attempts > 0).await;
    device.stop().await;
    backend.behave();
    let mut setup = Setup::new(folder.path(), version(&backend, 2)).keys(&keys);
    setup.migrations = migrations();
    let device = setup.start().await;
    device.acked(id).await;
    assert_eq!(content(&backend, "forms", "a"), json!({ "name": "Ada Lovelace" }));
    device.stop().await;
}

#[tokio::test]
async fn what_no_migration_leads_to_waits_for_the_version_of_the_app_that_has_one() {
    let (folder, backend, keys) = (tempfile::tempdir().unwrap(), backend().await, MemoryKeys::new());
    let device = Setup::new(folder.path(), version(&backend, 0)).keys(&keys).open().await;
    let id = device.enqueue("form", Some("a"), json!({ "name": "Ada Lovelace" })).await;
    device.stop().await;
    let mut panics = Migrations::default();
    panics.add("form", 0, |_| panic!("a bug of the app"));
    let mut refuses = Migrations::default();
    refuses.add("form", 0, |_| Err("a bug of the app".into()));
    refuses.add("form", 1, Ok);
    for broken in [Migrations::default(), panics, refuses] {
        let mut setup = Setup::new(folder.path(), version(&backend, 2)).keys(&keys);
        setup.migrations = broken;
        let device = setup.start().await;
        let other = device.enqueue("note", None, json!({})).await;
        device.acked(other).await;
        device.until(id, |entry| entry.waiting_for == Some(WaitingFor::Endpoint)).await;
        assert_eq!(device.entry(id).await.state, State::Pending);
        device.stop().await;
    }
    let mut setup = Setup::new(folder.path(), version(&backend, 2)).keys(&keys);
    setup.migrations = migrations();
    let device = setup.start().await;
    device.acked(id).await;
    device.stop().await;
}

#[tokio::test]
async fn what_a_newer_version_of_the_app_enqueued_waits_for_it() {
    let (folder, backend, keys) = (tempfile::tempdir().unwrap(), backend().await, MemoryKeys::new());
    let device = Setup::new(folder.path(), version(&backend, 3)).keys(&keys).open().await;
    let id = device.enqueue("form", Some("a"), json!({ "form": 3 })).await;
    device.stop().await;
    let device = Setup::new(folder.path(), version(&backend, 2)).keys(&keys).start().await;
    device.until(id, |entry| entry.waiting_for == Some(WaitingFor::Endpoint)).await;
    device.quiet().await;
    assert!(backend.requests().is_empty());
    device.stop().await;
    let device = Setup::new(folder.path(), version(&backend, 3)).keys(&keys).start().await;
    device.acked(id).await;
    device.stop().await;
}
