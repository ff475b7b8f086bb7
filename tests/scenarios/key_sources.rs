//! Keys that come from elsewhere than the keychain, end to end.

use std::sync::Arc;

use serde_json::json;
use tauri_plugin_storage_sync::{
    AppKey, InsecureKeyFile, KeyState, Moved, Passphrase, State, WaitingFor,
    testing::{
        keychain::{KeySource, testing::MemoryKeys},
        outbox::{EnqueueOptions, Leftover, Payload},
        triggers::Triggers,
    },
};
use uuid::Uuid;

use crate::support::{Device, Setup, backend, impatient};

/// With that source in place of the keychain.
fn with(mut setup: Setup, source: impl KeySource) -> Setup {
    setup.source = Some(Arc::new(source));
    setup
}

#[tokio::test]
async fn what_waits_for_the_apps_own_key_goes_on_as_soon_as_it_is_given() {
    let (backend, folder) = (backend().await, tempfile::tempdir().unwrap());
    let key = AppKey::new();
    key.give("", &[7; 32]);
    let device = with(Setup::new(folder.path(), impatient(&backend)), key).open().await;
    let id = device.enqueue("note", None, json!({ "n": 1 })).await;
    device.stop().await;

    let key = AppKey::new();
    let device = with(Setup::new(folder.path(), impatient(&backend)), key.clone()).start().await;
    let _triggers = Triggers::start(device.wake.clone(), key.changed());
    let keychain =
        |waiting: &Option<WaitingFor>| matches!(waiting, Some(WaitingFor::Keychain { key: KeyState::Locked }));
    device.until(id, |entry| keychain(&entry.waiting_for)).await;
    let refused = device.outbox.enqueue("note", Payload::json(&1).unwrap(), EnqueueOptions::default()).await;
    assert_eq!(refused.unwrap_err().code(), "keychain_locked");
    key.give("", &[7; 32]);
    device.acked(id).await;
    assert_eq!(device.outbox.status().await.unwrap().key.source, "app");
    device.stop().await;
}

#[tokio::test]
async fn another_key_than_the_queue_was_written_with_loses_nothing() {
    let (backend, folder) = (backend().await, tempfile::tempdir().unwrap());
    let key = AppKey::new();
    key.give("", &[7; 32]);
    let device = with(Setup::new(folder.path(), impatient(&backend)), key).open().await;
    let id = device.enqueue("note", None, json!({ "n": 1 })).await;
    device.stop().await;

    let wrong = AppKey::new();
    wrong.give("", &[8; 32]);
    let device = with(Setup::new(folder.path(), impatient(&backend)), wrong.clone()).start().await;
    let _triggers = Triggers::start(device.wake.clone(), wrong.changed());
    let mismatch = WaitingFor::Keychain { key: KeyState::Mismatch };
    device.until(id, |entry| entry.waiting_for.as_ref() == Some(&mismatch)).await;
    wrong.give("", &[7; 32]);
    device.acked(id).await;
    device.stop().await;
}

#[tokio::test]
async fn a_change_of_source_keeps_what_was_queued_under_the_old_one() {
    let (backend, folder, keys) = (backend().await, tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let old = || InsecureKeyFile::new(keys.path().join("old"));
    let device = with(Setup::new(folder.path(), impatient(&backend)), old()).open().await;
    let id = device.enqueue("note", None, json!({ "n": 1 })).await;
    device.stop().await;

    let new = Passphrase::new(keys.path().join("new"));
    new.give("correct horse");
    let device = with(Setup::new(folder.path(), impatient(&backend)), Moved::new(old(), new.clone())).start().await;
    assert_eq!(device.acked(id).await.state, State::Acked);
    assert_eq!(device.outbox.status().await.unwrap().key.source, "passphrase");
    let second = device.enqueue("note", None, json!({ "n": 2 })).await;
    device.acked(second).await;
    device.stop().await;
    // The old source is not needed any more.
    let device = with(Setup::new(folder.path(), impatient(&backend)), new).start().await;
    let third = device.enqueue("note", None, json!({ "n": 3 })).await;
    device.acked(third).await;
    device.stop().await;
}

/// As where an app gives the same key for everybody, or takes over one that was everybody's.
fn shared_by_ann_and_bob() -> MemoryKeys {
    let keys = MemoryKeys::new();
    for account in ["ann", "bob"] {
        keys.put(account, Some(vec![7; 32]));
    }
    keys
}

async fn enqueued_as(device: &Device, account: &str) -> Uuid {
    device.outbox.set_account(account).await.unwrap();
    device.enqueue("note", None, json!({ "by": account })).await
}

#[tokio::test]
async fn a_key_that_two_accounts_share_is_the_others_still_when_one_of_them_is_signed_out() {
    let (backend, folder, keys) = (backend().await, tempfile::tempdir().unwrap(), shared_by_ann_and_bob());
    let setup = || Setup::new(folder.path(), impatient(&backend)).keys(&keys);
    for knows_bob in [false, true] {
        keys.put("ann", Some(vec![7; 32]));
        let device = setup().start().await;
        device.outbox.pause().await.unwrap();
        if knows_bob {
            enqueued_as(&device, "bob").await;
        }
        enqueued_as(&device, "ann").await;
        assert!(device.outbox.sign_out(Leftover::Discard, None, |_| {}).await.unwrap().finished);
        let first = enqueued_as(&device, "bob").await;
        device.stop().await;

        let device = setup().start().await;
        let second = enqueued_as(&device, "bob").await;
        device.outbox.resume().await.unwrap();
        for id in [first, second] {
            device.acked(id).await;
        }
        device.stop().await;
    }
}

#[tokio::test]
async fn a_key_that_two_accounts_share_is_the_others_still_when_one_of_them_rotates_its_own() {
    let (backend, folder, keys) = (backend().await, tempfile::tempdir().unwrap(), shared_by_ann_and_bob());
    let setup = || Setup::new(folder.path(), impatient(&backend)).keys(&keys);
    let device = setup().start().await;
    device.outbox.pause().await.unwrap();
    let mut ids = vec![enqueued_as(&device, "bob").await];
    enqueued_as(&device, "ann").await;
    assert!(device.outbox.rotate_key().await.unwrap().finished);
    ids.push(enqueued_as(&device, "bob").await);
    device.stop().await;

    let device = setup().start().await;
    ids.push(enqueued_as(&device, "bob").await);
    device.outbox.resume().await.unwrap();
    for id in ids {
        device.acked(id).await;
    }
    device.stop().await;
}
