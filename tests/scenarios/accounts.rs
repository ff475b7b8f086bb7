//! What happens to one account says nothing of another.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::json;
use storage_sync_backend::Rule;
use tauri_plugin_storage_sync::{
    State, WaitingFor,
    testing::{
        keychain::testing::{MemoryKeys, Mood},
        wake::Wake,
    },
};

use crate::{
    support::{ManualClock, Setup, backend, config},
    worker::SameKey,
};

fn bearer(token: &str) -> Vec<(String, String)> {
    vec![("Authorization".into(), format!("Bearer {token}"))]
}

#[tokio::test]
async fn refused_credentials_of_one_account_do_not_hold_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    let (backend, clock) = (backend().await, ManualClock::new());
    backend.accept_tokens(Some(BTreeMap::from([("good".to_owned(), "eve".to_owned())])));
    let device = Setup::new(folder.path(), config(&backend)).stopped(&clock).start().await;
    device.outbox.set_account("ada").await.unwrap();
    device.credentials.set("ada", &backend.url(), bearer("old")).unwrap();
    let held = device.enqueue("form", Some("a"), json!({})).await;
    device.until(held, |entry| matches!(entry.waiting_for, Some(WaitingFor::Auth { .. }))).await;

    device.credentials.set("eve", &backend.url(), bearer("good")).unwrap();
    device.wake.wake(Wake::Credentials);
    device.outbox.set_account("eve").await.unwrap();
    let id = device.enqueue("form", Some("a"), json!({})).await;
    device.acked(id).await;
    device.stop().await;
}

#[tokio::test]
async fn a_key_that_one_account_waits_for_does_not_hold_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    let (backend, clock, keys) = (backend().await, ManualClock::new(), MemoryKeys::new());
    let setup = || Setup::new(folder.path(), config(&backend)).stopped(&clock).keys(&keys);
    let device = setup().open().await;
    let held = device.enqueue("form", Some("a"), json!({})).await;
    device.stop().await;
    keys.set(Mood::Locked);
    let device = setup().start().await;
    device.until(held, |entry| matches!(entry.waiting_for, Some(WaitingFor::Keychain { .. }))).await;
    keys.set(Mood::Open);
    device.outbox.set_account("eve").await.unwrap();
    let id = device.enqueue("form", Some("a"), json!({})).await;
    device.acked(id).await;
    device.stop().await;
}

#[tokio::test]
async fn what_backs_off_in_one_account_is_not_sent_in_another_and_goes_when_its_own_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let (backend, clock) = (backend().await, ManualClock::new());
    let mut setup = Setup::new(folder.path(), config(&backend)).stopped(&clock);
    setup.source = Some(Arc::new(SameKey));
    let device = setup.start().await;
    device.outbox.set_account("ada").await.unwrap();
    backend.misbehave(Rule::status(500));
    let id = device.enqueue("note", Some("a"), json!({})).await;
    device.until(id, |entry| entry.attempts == 1 && entry.state == State::Pending).await;
    backend.behave();

    device.outbox.set_account("eve").await.unwrap();
    clock.advance(Duration::from_secs(600));
    device.quiet().await;
    assert_eq!(backend.world(|world| world.received()), 1, "ada's entry was sent while eve was signed in");
    device.outbox.set_account("ada").await.unwrap();
    device.acked(id).await;
    device.stop().await;
}
