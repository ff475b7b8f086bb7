//! Offline costs nothing, and no entry blocks another lane.

use std::time::Duration;

use serde_json::json;
use storage_sync_backend::Rule;
use tauri_plugin_storage_sync::{
    State, WaitingFor,
    testing::outbox::{EnqueueOptions, Payload},
};

use crate::support::{ManualClock, Setup, backend, config, impatient};

/// Ten thousand entries: 2 000 lanes of five.
async fn fill(device: &crate::support::Device) {
    let tasks = (0..50).map(|task| {
        let outbox = device.outbox.clone();
        tokio::spawn(async move {
            for number in 0..200 {
                let lane = format!("lane {}", task * 40 + number % 40);
                let payload = Payload::json(&json!({ "lane": lane, "number": number / 40 })).unwrap();
                let options = EnqueueOptions { key: Some(lane), ..EnqueueOptions::default() };
                outbox.enqueue("note", payload, options).await.unwrap();
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_entries_for_a_dead_origin_cost_probes_only_and_all_arrive_once_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let backend = backend().await;
    backend.stop().await;
    let clock = ManualClock::new();
    let device = Setup::new(folder.path(), config(&backend)).stopped(&clock).start().await;
    fill(&device).await;
    device.quiet().await;

    let commits = *device.store.version().borrow();
    let mut probes = 0;
    for _ in 0..20 {
        clock.advance(Duration::from_secs(600));
        device.quiet().await;
        probes += 1;
    }
    let commits = *device.store.version().borrow() - commits;
    // A probe is a claim and its settlement; `quiet` is a wake that allows one more.
    assert!(commits <= 4 * probes + 4, "{commits} commits for {probes} rounds: not one per entry");
    for entry in device.all().await {
        assert_eq!((entry.state, entry.attempts, entry.possibly_sent), (State::Pending, 0, false), "{entry:#?}");
    }

    backend.restart().await.unwrap();
    clock.advance(Duration::from_secs(600));
    device
        .until_counted(|counts| counts.acked + counts.failed >= 10_000 || counts.pending + counts.inflight == 0)
        .await;
    let mutations = backend.mutations();
    assert_eq!(mutations.len(), 10_000, "each once");
    let mut next = std::collections::HashMap::new();
    backend.world(|world| {
        for seen in world.requests().filter(|seen| seen.applied) {
            let lane = seen.header("sync-key").unwrap().to_owned();
            let revision = next.entry(lane.clone()).or_insert(0);
            let sent: u64 = seen.header("sync-revision").unwrap().parse().unwrap();
            assert_eq!(sent, *revision + 1, "{lane} out of order");
            *revision = sent;
        }
    });
    assert_eq!(next.len(), 2_000);
    device.stop().await;
}

#[tokio::test]
async fn a_poison_entry_that_makes_the_server_answer_503_keeps_nobody_else_back() {
    poison(Rule::status(503)).await;
}

#[tokio::test]
async fn a_poison_entry_that_breaks_the_connection_keeps_nobody_else_back() {
    poison(Rule::drop_before()).await;
}

#[tokio::test]
async fn a_poison_entry_that_is_never_proved_keeps_nobody_else_back() {
    poison(Rule::portal()).await;
}

#[tokio::test]
async fn a_poison_entry_that_is_refused_401_keeps_nobody_else_back() {
    poison(Rule::status(401)).await;
}

async fn poison(rule: Rule) {
    let folder = tempfile::tempdir().unwrap();
    let backend = backend().await;
    backend.misbehave(rule.key("poison"));
    let device = Setup::new(folder.path(), impatient(&backend)).start().await;
    let poison = device.enqueue("form", Some("poison"), json!({})).await;
    let mut others = Vec::new();
    for number in 0..200 {
        others.push(device.enqueue("form", Some(&format!("good {number}")), json!({})).await);
    }
    for other in others {
        device.acked(other).await;
    }
    let entry = device.entry(poison).await;
    assert!(!matches!(entry.state, State::Acked | State::Superseded), "{entry:#?}");
    device.stop().await;
}

#[tokio::test]
async fn a_bad_deploy_fails_at_most_a_handful_and_the_rest_arrive_when_it_is_mended() {
    let folder = tempfile::tempdir().unwrap();
    let backend = backend().await;
    backend.misbehave(Rule::status(404));
    let device = Setup::new(folder.path(), impatient(&backend)).start().await;
    for number in 0..300 {
        device.enqueue("form", Some(&format!("{number}")), json!({})).await;
    }
    backend.wait_until(|world| world.received() >= 40).await;
    let failed = device.outbox.status().await.unwrap().counts.failed;
    assert!((1..=5).contains(&failed), "{failed} failed");
    let waiting = device.all().await.into_iter().find(|entry| entry.state == State::Pending).unwrap();
    assert_eq!(waiting.waiting_for, Some(WaitingFor::Refusing));
    backend.behave();
    device.until_counted(|counts| counts.pending + counts.inflight == 0).await;
    let counts = device.outbox.status().await.unwrap().counts;
    assert_eq!((counts.acked, counts.failed), (300 - failed, failed));
    device.stop().await;
}

#[tokio::test]
async fn a_dead_origin_does_not_keep_entries_for_a_living_one_back() {
    let folder = tempfile::tempdir().unwrap();
    let (dead, alive) = (backend().await, backend().await);
    dead.stop().await;
    let mut config = impatient(&alive);
    config["endpoints"]["dead"] = json!({ "method": "PUT", "url": format!("{}/x/{{key}}", dead.url()) });
    let device = Setup::new(folder.path(), config).start().await;
    for number in 0..100 {
        device.enqueue("dead", Some(&number.to_string()), json!({})).await;
    }
    let id = device.enqueue("form", Some("a"), json!({})).await;
    device.acked(id).await;
    let mut changes = device.outbox.status_changes();
    while !device.board.holds().iter().any(|hold| hold.origin == dead.url()) {
        changes.changed().await;
    }
    device.stop().await;
}

#[tokio::test]
async fn the_backlog_goes_without_another_local_write_when_the_network_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let backend = backend().await;
    backend.stop().await;
    let clock = ManualClock::new();
    let device = Setup::new(folder.path(), config(&backend)).stopped(&clock).start().await;
    let id = device.enqueue("form", Some("a"), json!({})).await;
    device.quiet().await;
    backend.restart().await.unwrap();
    clock.advance(Duration::from_secs(5));
    device.wake.wake(tauri_plugin_storage_sync::testing::wake::Wake::Network);
    device.acked(id).await;
    device.stop().await;
}
