//! Verbs beside the ordinary: at the start, at the end, and from a process that does not deliver.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use storage_sync_backend::{Backend, Rule};
use tauri_plugin_storage_sync::{State, testing::outbox::Outbox};
use uuid::Uuid;

use crate::{
    support::{Device, ManualClock, Setup, backend, config},
    worker::SameKey,
};

const PATIENCE: Duration = Duration::from_secs(60);

fn same_key(folder: &std::path::Path, backend: &Backend) -> Setup {
    let mut setup = Setup::new(folder, config(backend));
    setup.source = Some(Arc::new(SameKey));
    setup
}

/// A device that delivers by a clock that stands still, one beside it that does not deliver, and an entry that backs off.
async fn two(folder: &std::path::Path, backend: &Backend) -> (Device, Device, Uuid) {
    let owner = same_key(folder, backend).stopped(&ManualClock::new()).start().await;
    let beside = same_key(folder, backend).start().await;
    backend.misbehave(Rule::status(500).times(1));
    let id = owner.enqueue("form", Some("a"), json!({})).await;
    owner.until(id, |entry| entry.attempts == 1 && entry.state == State::Pending).await;
    (owner, beside, id)
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it ends")
}

fn waiting_for_delivery(
    outbox: &Outbox,
    id: Uuid,
) -> tokio::task::JoinHandle<tauri_plugin_storage_sync::Result<tauri_plugin_storage_sync::Entry>> {
    let outbox = outbox.clone();
    tokio::spawn(async move { outbox.delivered(id, None).await })
}

#[tokio::test]
async fn pause_and_resume_work_from_the_first_moment() {
    let folder = tempfile::tempdir().unwrap();
    let backend = backend().await;
    let device = Setup::new(folder.path(), config(&backend)).start().await;
    device.outbox.pause().await.unwrap();
    assert!(device.outbox.status().await.unwrap().owner);
    device.outbox.resume().await.unwrap();
    let id = device.enqueue("form", Some("a"), json!({})).await;
    device.acked(id).await;
    device.stop().await;
}

#[tokio::test]
async fn a_flush_from_a_process_that_does_not_deliver_reaches_the_one_that_does() {
    let folder = tempfile::tempdir().unwrap();
    let backend = backend().await;
    let (owner, beside, id) = two(folder.path(), &backend).await;
    let flushed = beside.outbox.flush(Some(PATIENCE)).await.unwrap();
    assert_eq!((flushed.acked, flushed.waiting), (1, 0));
    owner.acked(id).await;
    beside.stop().await;
    owner.stop().await;
}

#[tokio::test]
async fn a_retry_from_a_process_that_does_not_deliver_makes_a_pending_entry_due_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let backend = backend().await;
    let (owner, beside, id) = two(folder.path(), &backend).await;
    assert_eq!(beside.outbox.retry(id, false).await.unwrap(), [id]);
    owner.acked(id).await;
    beside.stop().await;
    owner.stop().await;
}

#[tokio::test]
async fn delivered_in_the_process_that_delivers_follows_an_entry_that_another_process_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let backend = backend().await;
    let owner = same_key(folder.path(), &backend).start().await;
    let beside = same_key(folder.path(), &backend).start().await;
    owner.outbox.pause().await.unwrap();
    let first = owner.enqueue("form", Some("a"), json!({ "edit": 1 })).await;
    let waiting = waiting_for_delivery(&owner.outbox, first);
    owner.quiet().await;
    let last = beside.enqueue("form", Some("a"), json!({ "edit": 2 })).await;
    owner.outbox.resume().await.unwrap();
    assert_eq!(soon(waiting).await.unwrap().unwrap().id, last);
    beside.stop().await;
    owner.stop().await;
}

#[tokio::test]
async fn whoever_waits_for_a_delivery_hears_that_the_app_shuts_down() {
    let folder = tempfile::tempdir().unwrap();
    let backend = backend().await;
    let device = Setup::new(folder.path(), config(&backend)).start().await;
    device.outbox.pause().await.unwrap();
    let id = device.enqueue("form", Some("a"), json!({})).await;
    let waiting = waiting_for_delivery(&device.outbox, id);
    device.quiet().await;
    device.stop().await;
    assert_eq!(soon(waiting).await.unwrap().unwrap_err().code(), "closed");
}

#[tokio::test]
async fn a_flush_ends_with_the_app() {
    let folder = tempfile::tempdir().unwrap();
    let backend = backend().await;
    let gate = backend.hold(Rule::hold());
    let mut device = Setup::new(folder.path(), config(&backend)).start().await;
    device.enqueue("form", Some("a"), json!({})).await;
    gate.holds(1).await;
    let outbox = device.outbox.clone();
    let waiting = tokio::spawn(async move { outbox.flush(None).await });
    tokio::task::yield_now().await;
    device.running.take().unwrap().stop(Duration::ZERO).await;
    device.store.close().await;
    assert_eq!(soon(waiting).await.unwrap().unwrap_err().code(), "closed");
}
