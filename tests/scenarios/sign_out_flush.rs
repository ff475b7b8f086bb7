//! A sign-out that delivers first: it goes on until nothing is left that can go in the time that it has.

use serde_json::json;
use storage_sync_backend::Rule;
use tauri_plugin_storage_sync::{State, WaitingFor, testing::outbox::Leftover};

use crate::{
    sign_out::{guarded, sender, sign_in, sign_out},
    support::{ManualClock, Setup, config},
};

#[tokio::test]
async fn what_waits_for_another_or_did_not_get_through_at_once_is_delivered_before_the_account_goes() {
    let (backend, folder) = (guarded().await, tempfile::tempdir().unwrap());
    let mut config = config(&backend);
    // Longer than a round takes: nothing is tried again within the first one.
    config["retry"] = json!({ "baseMs": 400, "capMs": 800 });
    let device = Setup::new(folder.path(), config).start().await;
    sign_in(&device, &backend, "ada").await;
    backend.stop().await;
    let mut notes = Vec::new();
    for n in 0..12 {
        // One lane of nine, and three of their own.
        notes.push(device.enqueue("note", (n < 9).then_some("lane"), json!({ "n": n })).await);
    }
    backend.misbehave(Rule::status(500).kind("notes").times(2));
    backend.misbehave(Rule::drop_after().kind("notes").marker("\"n\":8").times(1));
    backend.restart().await.unwrap();
    let done = sign_out(&device, Leftover::Flush).await;
    assert_eq!((done.delivered, done.kept, done.finished), (12, 0, true), "{done:?}");
    for id in notes {
        assert_eq!(sender(&backend, id).as_deref(), Some("ada"));
    }
    device.stop().await;
}

#[tokio::test]
async fn a_server_that_is_back_in_time_still_gets_everything() {
    let (backend, folder) = (guarded().await, tempfile::tempdir().unwrap());
    let mut config = config(&backend);
    config["retry"] = json!({ "baseMs": 50, "capMs": 200 });
    let device = Setup::new(folder.path(), config).start().await;
    sign_in(&device, &backend, "ada").await;
    backend.stop().await;
    let id = device.enqueue("form", Some("a"), json!({})).await;
    let offline =
        |entry: &tauri_plugin_storage_sync::Entry| matches!(entry.waiting_for, Some(WaitingFor::Offline { .. }));
    device.until(id, offline).await;
    let back = async {
        // A round of its own ends with the server still away.
        device.quiet().await;
        backend.restart().await.unwrap();
    };
    let (done, ()) = tokio::join!(sign_out(&device, Leftover::Flush), back);
    assert_eq!((done.delivered, done.kept), (1, 0), "{done:?}");
    device.stop().await;
}

#[tokio::test]
async fn nobody_waits_for_what_only_somebody_else_can_let_go() {
    let (backend, folder, clock) = (guarded().await, tempfile::tempdir().unwrap(), ManualClock::new());
    let device = Setup::new(folder.path(), config(&backend)).stopped(&clock).start().await;
    // No credentials of eve's: her entries wait for a sign-in. The time stands still, so whoever waited for its end would never answer.
    device.outbox.set_account("eve").await.unwrap();
    let first = device.enqueue("note", Some("lane"), json!({})).await;
    device.enqueue("note", Some("lane"), json!({})).await;
    device.until(first, |entry| matches!(entry.waiting_for, Some(WaitingFor::Auth { .. }))).await;
    let done = sign_out(&device, Leftover::Flush).await;
    assert_eq!((done.account.as_str(), done.delivered, done.kept), ("eve", 0, 2));

    sign_in(&device, &backend, "ada").await;
    device.outbox.pause().await.unwrap();
    let paused = device.enqueue("note", None, json!({})).await;
    assert_eq!(sign_out(&device, Leftover::Flush).await.kept, 1);
    device.outbox.set_account("ada").await.unwrap();
    assert_eq!(device.entry(paused).await.state, State::Pending);
    device.stop().await;
}
