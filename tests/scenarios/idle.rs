//! With nothing due, nothing happens.

use std::time::Duration;

use serde_json::json;
use storage_sync_backend::Rule;
use tauri_plugin_storage_sync::State;

use crate::support::{Device, ManualClock, Setup, backend, config};

/// Whatever is ready to run has run: on this one-threaded runtime each yield lets every woken task go on once, and the engine
/// counts a turn as soon as it goes on.
async fn settle() {
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
}

fn turns(device: &Device) -> u64 {
    device.running.as_ref().expect("it runs").turns()
}

/// How often the engine turned while a day passed, hour by hour.
async fn turns_of_a_day(device: &Device, clock: &ManualClock) -> u64 {
    settle().await;
    let before = turns(device);
    for _ in 0..24 {
        clock.advance(Duration::from_secs(60 * 60));
        settle().await;
    }
    turns(device) - before
}

#[tokio::test]
async fn a_day_with_nothing_to_do_costs_no_turn_of_the_engine_and_what_becomes_due_does() {
    let folder = tempfile::tempdir().unwrap();
    let backend = backend().await;
    let clock = ManualClock::new();
    let device = Setup::new(folder.path(), config(&backend)).stopped(&clock).start().await;
    device.quiet().await;
    assert_eq!(turns_of_a_day(&device, &clock).await, 0, "with an empty queue");

    for number in 0..50 {
        let id = device.enqueue("note", Some(&format!("{}", number % 5)), json!({ "n": number })).await;
        device.acked(id).await;
    }
    device.quiet().await;
    assert_eq!(turns_of_a_day(&device, &clock).await, 0, "with a history of what was delivered");

    backend.misbehave(Rule::status(422).times(1));
    let failed = device.enqueue("note", Some("failed"), json!({})).await;
    device.until(failed, |entry| entry.state == State::Failed).await;
    device.quiet().await;
    assert_eq!(turns_of_a_day(&device, &clock).await, 0, "with one that waits for a decision");

    backend.misbehave(Rule::status(500));
    let waiting = device.enqueue("note", Some("waiting"), json!({})).await;
    device.until(waiting, |entry| entry.attempts >= 1 && entry.state == State::Pending).await;
    assert!(turns_of_a_day(&device, &clock).await > 0, "a backoff that is over is noticed");
    device.stop().await;
}
