//! Two processes on one database: both enqueue, one delivers, and the other takes over when it is killed.

use std::{collections::HashSet, iter::from_fn, sync::Arc};

use serde_json::{Value, json};
use storage_sync_backend::Backend;
use tauri_plugin_storage_sync::State;

use crate::{
    kills::History,
    support::{Setup, backend, impatient},
    worker::{SameKey, Worker},
};

fn assert_each_once(backend: &Backend) {
    let mutations = backend.mutations();
    let keys: HashSet<_> = mutations.iter().map(|mutation| mutation.idempotency_key.clone()).collect();
    assert_eq!(keys.len(), mutations.len(), "something was applied twice");
}

fn setup(folder: &std::path::Path, config: Value) -> Setup {
    let mut setup = Setup::new(folder, config);
    setup.source = Some(Arc::new(SameKey));
    setup
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_of_a_process_that_does_not_deliver_are_delivered_by_the_one_that_does() {
    let folder = tempfile::tempdir().unwrap();
    let backend = backend().await;
    let mut owner = Worker::start(folder.path(), &impatient(&backend), "owner", false);
    assert_eq!(owner.line().as_deref(), Some("open"));
    let first = setup(folder.path(), impatient(&backend)).open().await;
    let id = first.enqueue("form", Some("a"), json!({})).await;
    backend.wait_until(|world| world.applied() == 1).await;
    first.until_read(id, |entry| entry.state == State::Acked).await;
    assert!(!first.board.owner());
    assert_eq!(first.outbox.pause().await.unwrap_err().code(), "not_owner");
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_owner_is_killed_the_other_takes_over_and_nothing_is_delivered_twice() {
    let folder = tempfile::tempdir().unwrap();
    let backend = backend().await;
    let mut config = impatient(&backend);
    // Nothing is pruned: every receipt is asked for in the end.
    config["retention"] = json!({ "settled": 1_000_000 });
    let mut promised = Vec::new();
    for round in 0..5 {
        let mut owner = Worker::start(folder.path(), &config, "owner", true);
        assert_eq!(owner.line().as_deref(), Some("open"));
        let mut second = Worker::start(folder.path(), &config, "second", true);
        assert_eq!(second.line().as_deref(), Some("open"));
        for _ in 0..40 {
            promised.extend([owner.line().unwrap(), second.line().unwrap()]);
        }
        let applied = backend.world(|world| world.applied());
        owner.kill();
        backend.wait_until(|world| world.applied() > applied + 20).await;
        assert_each_once(&backend);
        println!("round {round}: taken over");
        second.kill();
        promised.extend(from_fn(|| owner.line()).chain(from_fn(|| second.line())));
    }
    let device = setup(folder.path(), config).start().await;
    device.until_counted(|counts| counts.pending + counts.inflight == 0).await;
    assert_each_once(&backend);
    let mut history = History::default();
    history.read(&device).await;
    history.was_delivered(&device, &backend, &promised).await;
    let failed = device.outbox.status().await.unwrap().counts.failed;
    assert_eq!(failed, 0);
    device.stop().await;
}
