//! Order inside a lane, and what replaces what.

use std::time::Duration;

use serde_json::{Value, json};
use storage_sync_backend::Rule;
use tauri_plugin_storage_sync::{
    Queue, State,
    testing::outbox::{EnqueueOptions, Payload},
};

use crate::support::{ManualClock, Setup, backend, config, impatient, times_applied};

#[tokio::test]
async fn a_thousand_rapid_edits_of_one_draft_send_at_most_three_requests_and_the_last_one_wins() {
    let folder = tempfile::tempdir().unwrap();
    let backend = backend().await;
    let gate = backend.hold(Rule::hold());
    let device = Setup::new(folder.path(), config(&backend)).start().await;
    let first = device.enqueue("form", Some("draft"), json!({ "edit": 0 })).await;
    gate.holds(1).await;
    let mut last = first;
    for edit in 1..1_000 {
        last = device.enqueue("form", Some("draft"), json!({ "edit": edit })).await;
    }
    gate.open();
    device.acked(last).await;
    assert!(backend.world(|world| world.received()) <= 3);
    let body: Value =
        backend.world(|world| serde_json::from_slice(&world.resource("forms", "draft").unwrap().body).unwrap());
    assert_eq!(body, json!({ "edit": 999 }));
    let delivered = device.outbox.delivered(device.all().await[1].id, None).await.unwrap();
    assert_eq!(delivered.id, last, "a replaced edit is delivered when its successor is");
    device.stop().await;
}

#[tokio::test]
async fn where_places_come_free_one_at_a_time_every_endpoint_has_its_turn() {
    let folder = tempfile::tempdir().unwrap();
    let backend = backend().await;
    let gate = backend.hold(Rule::hold());
    let mut config = config(&backend);
    config["retry"]["concurrency"] = json!(1);
    let device = Setup::new(folder.path(), config).start().await;
    for form in 0..40 {
        device.enqueue("form", Some(&form.to_string()), json!({ "form": form })).await;
    }
    gate.holds(1).await;
    for note in 0..5 {
        device.enqueue("note", Some(&note.to_string()), json!({ "note": note })).await;
    }
    for number in 1..=20 {
        backend.wait_until(|world| world.requests().len() >= number).await;
        gate.let_through(1);
    }
    let first: Vec<String> = backend.requests().into_iter().take(20).map(|request| request.path).collect();
    assert_eq!(first.iter().filter(|path| path.starts_with("/notes")).count(), 5, "{first:?}");
    gate.open();
    device.stop().await;
}

#[tokio::test]
async fn an_edit_whose_answer_was_lost_is_settled_before_the_newer_one_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let backend = backend().await;
    let gate = backend.hold(Rule::hold());
    backend.misbehave(Rule::drop_after().times(1));
    let device = Setup::new(folder.path(), impatient(&backend)).start().await;
    let first = device.enqueue("form", Some("draft"), json!({ "edit": 1 })).await;
    gate.holds(1).await;
    let second = device.enqueue("form", Some("draft"), json!({ "edit": 2 })).await;
    gate.open();
    device.acked(second).await;
    assert_eq!(device.entry(first).await.state, State::Acked);
    assert_eq!((times_applied(&backend, first), times_applied(&backend, second)), (1, 1));
    device.stop().await;
}

#[tokio::test]
async fn a_refused_draft_gives_way_to_its_correction() {
    let folder = tempfile::tempdir().unwrap();
    let backend = backend().await;
    backend.misbehave(Rule::status(422).times(1));
    let device = Setup::new(folder.path(), impatient(&backend)).start().await;
    let wrong = device.enqueue("form", Some("draft"), json!({ "price": "x" })).await;
    device.until(wrong, |entry| entry.state == State::Failed).await;
    let right = device.enqueue("form", Some("draft"), json!({ "price": 7 })).await;
    device.acked(right).await;
    let wrong = device.entry(wrong).await;
    assert_eq!((wrong.state, wrong.superseded_by), (State::Superseded, Some(right)));
    device.stop().await;
}

#[tokio::test]
async fn a_failed_entry_of_an_every_lane_holds_the_lane_until_somebody_decides() {
    let folder = tempfile::tempdir().unwrap();
    let backend = backend().await;
    backend.misbehave(Rule::status(422).times(1));
    let device = Setup::new(folder.path(), impatient(&backend)).start().await;
    let first = device.enqueue("note", Some("a"), json!({ "n": 1 })).await;
    device.until(first, |entry| entry.state == State::Failed).await;
    let second = device.enqueue("note", Some("a"), json!({ "n": 2 })).await;
    let other = device.enqueue("note", Some("b"), json!({ "n": 3 })).await;
    device.acked(other).await;
    device.quiet().await;
    assert_eq!(device.entry(second).await.state, State::Pending);
    device.outbox.discard(first, false).await.unwrap();
    device.acked(second).await;
    assert_eq!(times_applied(&backend, first), 0);
    device.stop().await;
}

#[tokio::test]
async fn a_lane_is_sent_in_order_of_enqueue_one_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let backend = backend().await;
    // Every third request loses its answer, so that retries mix with new ones.
    for _ in 0..30 {
        backend.misbehave(Rule::drop_after().times(1));
    }
    let device = Setup::new(folder.path(), impatient(&backend)).start().await;
    let mut ids = Vec::new();
    for number in 0..60 {
        ids.push(device.enqueue("note", Some("lane"), json!({ "number": number })).await);
    }
    for id in &ids {
        device.acked(*id).await;
    }
    let applied: Vec<String> =
        backend.mutations().into_iter().map(|mutation| mutation.idempotency_key.unwrap()).collect();
    let enqueued: Vec<String> = ids.iter().map(ToString::to_string).collect();
    assert_eq!(applied, enqueued);
    device.stop().await;
}

#[tokio::test]
async fn an_entry_may_ask_for_the_other_queue_than_its_endpoints() {
    let folder = tempfile::tempdir().unwrap();
    let backend = backend().await;
    backend.stop().await;
    let device = Setup::new(folder.path(), impatient(&backend)).start().await;
    let mut ids = Vec::new();
    for number in 0..3 {
        let options = EnqueueOptions { key: Some("a".into()), queue: Some(Queue::Every), ..EnqueueOptions::default() };
        let payload = Payload::json(&json!({ "number": number })).unwrap();
        ids.push(device.outbox.enqueue("form", payload, options).await.unwrap().id);
    }
    backend.restart().await.unwrap();
    for id in ids {
        assert_eq!(device.acked(id).await.state, State::Acked);
    }
    device.stop().await;
}

#[tokio::test]
async fn an_edit_that_replaces_what_a_probe_was_about_to_send_is_found_without_another_wake() {
    let folder = tempfile::tempdir().unwrap();
    let backend = backend().await;
    backend.stop().await;
    let clock = ManualClock::new();
    let device = Setup::new(folder.path(), config(&backend)).stopped(&clock).start().await;
    let mut last = device.enqueue("form", Some("draft"), json!({ "edit": 0 })).await;
    device.until(last, |entry| entry.last_error.is_some()).await;
    for edit in 1..20 {
        last = device.enqueue("form", Some("draft"), json!({ "edit": edit })).await;
        clock.advance(Duration::from_millis(700));
    }
    backend.restart().await.unwrap();
    // A probe that was on its way when the server came back may fail all the same: then it is found by one of the next. Not by a round of our
    // own, since that is a wake.
    for _ in 0..5 {
        clock.advance(Duration::from_secs(600));
        if tokio::time::timeout(Duration::from_secs(10), device.acked(last)).await.is_ok() {
            break;
        }
    }
    device.acked(last).await;
    device.stop().await;
}

#[tokio::test]
async fn a_refusal_by_a_router_after_a_lost_answer_keeps_the_key_so_that_nothing_is_applied_twice() {
    let folder = tempfile::tempdir().unwrap();
    let backend = backend().await;
    backend.misbehave(Rule::drop_after().times(1));
    let clock = ManualClock::new();
    let device = Setup::new(folder.path(), config(&backend)).stopped(&clock).start().await;
    let id = device.enqueue("note", Some("a"), json!({})).await;
    device.until(id, |entry| entry.attempts == 1 && entry.state == State::Pending).await;
    backend.misbehave(Rule::status(404));
    clock.advance(Duration::from_secs(600));
    let entry = device.until(id, |entry| entry.state == State::Failed).await;
    assert!(entry.possibly_sent, "{entry:#?}");
    backend.behave();
    device.outbox.retry(id, false).await.unwrap();
    device.acked(id).await;
    assert_eq!(times_applied(&backend, id), 1);
    device.stop().await;
}
