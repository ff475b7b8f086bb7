//! Pause and resume, and one account at a time, with the engine running.

use std::{collections::BTreeMap, time::Duration};

use serde_json::json;
use storage_sync_backend::Rule;
use tauri_plugin_storage_sync::{
    Entry, State, WaitingFor,
    testing::{keychain::testing::MemoryKeys, outbox::Query},
};
use uuid::Uuid;

use crate::support::{Device, ManualClock, Setup, backend, config, impatient, times_applied};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn paused(entry: &Entry) -> bool {
    entry.state == State::Pending && entry.waiting_for == Some(WaitingFor::Paused)
}

#[tokio::test]
async fn a_pause_lets_what_is_under_way_finish_holds_the_rest_over_a_restart_and_resume_delivers_it() {
    let folder = tempfile::tempdir().unwrap();
    let backend = backend().await;
    let (clock, keys) = (ManualClock::new(), MemoryKeys::new());
    let setup = || Setup::new(folder.path(), config(&backend)).stopped(&clock).keys(&keys);
    let gate = backend.hold(Rule::hold());
    let device = setup().start().await;
    let under_way = device.enqueue("note", Some("a"), json!({ "n": 1 })).await;
    gate.holds(1).await;
    let in_its_lane = device.enqueue("note", Some("a"), json!({ "n": 2 })).await;
    device.outbox.pause().await.unwrap();
    let elsewhere = device.enqueue("note", Some("b"), json!({ "n": 3 })).await;
    gate.open();
    device.acked(under_way).await;
    device.quiet().await;
    assert!(paused(&device.entry(in_its_lane).await) && paused(&device.entry(elsewhere).await));
    assert_eq!(backend.world(|world| world.received()), 1, "what a pause lets finish, and nothing more");
    device.stop().await;

    let device = setup().start().await;
    clock.advance(DAY);
    device.quiet().await;
    assert!(device.outbox.status().await.unwrap().paused);
    assert!(paused(&device.entry(in_its_lane).await) && paused(&device.entry(elsewhere).await));
    assert_eq!(backend.world(|world| world.received()), 1, "a restart does not end a pause");
    device.outbox.resume().await.unwrap();
    for id in [in_its_lane, elsewhere] {
        device.acked(id).await;
        assert_eq!(times_applied(&backend, id), 1);
    }
    device.stop().await;
}

#[tokio::test]
async fn an_entry_that_is_paused_keeps_back_what_comes_after_it_and_nothing_else_also_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let backend = backend().await;
    let (clock, keys) = (ManualClock::new(), MemoryKeys::new());
    let setup = || Setup::new(folder.path(), config(&backend)).stopped(&clock).keys(&keys);
    // One is paused while it waits for its next attempt, the other while its attempt is under way.
    backend.misbehave(Rule::status(500).times(1));
    let device = setup().start().await;
    let waits = device.enqueue("note", Some("a"), json!({ "n": 1 })).await;
    device.until(waits, |entry| entry.attempts == 1 && entry.state == State::Pending).await;
    device.outbox.pause_entry(waits).await.unwrap();
    let gate = backend.hold(Rule::hold());
    backend.misbehave(Rule::status(500).times(1));
    let flies = device.enqueue("note", Some("b"), json!({ "n": 2 })).await;
    gate.holds(1).await;
    device.outbox.pause_entry(flies).await.unwrap();
    gate.open();
    device.until(flies, paused).await;
    let behind = device.enqueue("note", Some("a"), json!({ "n": 3 })).await;
    let elsewhere = device.enqueue("note", Some("c"), json!({ "n": 4 })).await;
    device.acked(elsewhere).await;
    clock.advance(DAY);
    device.quiet().await;
    device.stop().await;

    let device = setup().start().await;
    clock.advance(DAY);
    device.quiet().await;
    let lane = WaitingFor::Lane { behind: waits };
    assert_eq!(device.entry(behind).await.waiting_for, Some(lane));
    for id in [waits, flies] {
        let entry = device.entry(id).await;
        assert!(paused(&entry) && entry.paused && entry.attempts == 1, "{entry:#?}");
    }
    assert!(!device.outbox.status().await.unwrap().paused);
    assert_eq!(backend.world(|world| world.received()), 3, "one attempt of each, and what is elsewhere");
    device.outbox.resume_entry(waits).await.unwrap();
    for id in [waits, behind] {
        device.acked(id).await;
        assert_eq!(times_applied(&backend, id), 1);
    }
    assert!(paused(&device.entry(flies).await), "each is resumed by itself");
    device.outbox.resume_entry(flies).await.unwrap();
    device.acked(flies).await;
    assert_eq!(times_applied(&backend, flies), 1);
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pausing_and_resuming_while_entries_are_written_loses_none_and_sends_none_twice() {
    let folder = tempfile::tempdir().unwrap();
    let backend = backend().await;
    let device = Setup::new(folder.path(), impatient(&backend)).start().await;
    // Until the engine has taken over, `pause` belongs to nobody.
    device.quiet().await;
    let (ids, rounds) = write_while_pausing(&device).await;
    assert!(rounds > 0, "they did overlap");
    device.outbox.resume().await.unwrap();
    for id in ids {
        device.acked(id).await;
        assert_eq!(times_applied(&backend, id), 1);
    }
    device.stop().await;
}

/// Entries that were written meanwhile, and how often it was paused and resumed. The last pause may be left as it is.
async fn write_while_pausing(device: &Device) -> (Vec<Uuid>, usize) {
    let mut write = std::pin::pin!(async {
        let mut ids = Vec::new();
        for number in 0..200 {
            ids.push(device.enqueue("note", Some(&format!("{}", number % 7)), json!({ "n": number })).await);
        }
        ids
    });
    let mut rounds = 0;
    loop {
        let toggle = async {
            device.outbox.pause().await.unwrap();
            device.outbox.resume().await.unwrap();
        };
        tokio::select! {
            ids = &mut write => return (ids, rounds),
            () = toggle => rounds += 1,
        }
    }
}

async fn seen(device: &Device) -> Vec<Uuid> {
    device.outbox.list(Query::default()).await.unwrap().into_iter().map(|entry| entry.id).collect()
}

#[tokio::test]
async fn entries_of_another_account_are_neither_sent_nor_seen_until_it_is_the_current_one_again() {
    let folder = tempfile::tempdir().unwrap();
    let backend = backend().await;
    let clock = ManualClock::new();
    let device = Setup::new(folder.path(), config(&backend)).stopped(&clock).start().await;
    device.outbox.set_account("ada").await.unwrap();
    backend.misbehave(Rule::status(500).times(1));
    let in_backoff = device.enqueue("note", Some("a"), json!({ "n": 1 })).await;
    device.until(in_backoff, |entry| entry.attempts == 1 && entry.state == State::Pending).await;
    let behind = device.enqueue("note", Some("a"), json!({ "n": 2 })).await;

    device.outbox.set_account("bob").await.unwrap();
    let of_bob = device.enqueue("note", Some("a"), json!({ "n": 3 })).await;
    device.acked(of_bob).await;
    clock.advance(DAY);
    device.quiet().await;
    assert_eq!(
        backend.world(|world| (world.received(), world.applied())),
        (2, 1),
        "nothing of ada's while bob is here"
    );
    assert_eq!(seen(&device).await, [of_bob]);
    assert_eq!(device.outbox.get(in_backoff).await.unwrap_err().code(), "not_found");
    assert_eq!(device.outbox.discard(behind, false).await.unwrap_err().code(), "not_found");
    assert_eq!(device.outbox.status().await.unwrap().counts.pending, 0);

    device.outbox.set_account("ada").await.unwrap();
    assert_eq!(seen(&device).await, [behind, in_backoff]);
    for id in [in_backoff, behind] {
        device.acked(id).await;
        assert_eq!(times_applied(&backend, id), 1);
    }
    device.stop().await;
}

#[tokio::test]
async fn what_is_under_way_when_the_account_changes_is_settled_and_nothing_follows_it() {
    let folder = tempfile::tempdir().unwrap();
    let backend = backend().await;
    let clock = ManualClock::new();
    let device = Setup::new(folder.path(), config(&backend)).stopped(&clock).start().await;
    device.outbox.set_account("ada").await.unwrap();
    let gate = backend.hold(Rule::hold());
    let under_way = device.enqueue("note", Some("a"), json!({ "n": 1 })).await;
    gate.holds(1).await;
    let behind = device.enqueue("note", Some("a"), json!({ "n": 2 })).await;
    device.outbox.set_account("bob").await.unwrap();
    gate.open();
    backend.wait_until(|world| world.applied() == 1).await;
    device.quiet().await;
    assert_eq!(backend.world(|world| world.received()), 1);
    device.outbox.set_account("ada").await.unwrap();
    assert_eq!(device.entry(under_way).await.state, State::Acked);
    device.acked(behind).await;
    device.stop().await;
}

#[tokio::test]
async fn credentials_that_were_refused_for_one_account_do_not_hold_another_one() {
    let folder = tempfile::tempdir().unwrap();
    let backend = backend().await;
    backend.accept_tokens(Some(BTreeMap::from([("good".to_owned(), "bob".to_owned())])));
    let clock = ManualClock::new();
    let device = Setup::new(folder.path(), config(&backend)).stopped(&clock).start().await;
    for (account, token) in [("ada", "bad"), ("bob", "good")] {
        let headers = vec![("Authorization".into(), format!("Bearer {token}"))];
        device.credentials.set(account, &backend.url(), headers).unwrap();
    }
    device.outbox.set_account("ada").await.unwrap();
    let of_ada = device.enqueue("note", Some("a"), json!({})).await;
    device.until(of_ada, |entry| matches!(entry.waiting_for, Some(WaitingFor::Auth { .. }))).await;
    device.outbox.set_account("bob").await.unwrap();
    let of_bob = device.enqueue("note", Some("b"), json!({})).await;
    device.acked(of_bob).await;
    assert!(backend.mutations().iter().all(|mutation| mutation.user.as_deref() == Some("bob")));
    device.stop().await;
}

#[tokio::test]
async fn what_was_settled_long_ago_is_pruned_at_the_next_start_and_what_waits_stays() {
    let folder = tempfile::tempdir().unwrap();
    let (backend, keys) = (backend().await, MemoryKeys::new());
    let setup = || {
        let mut config = config(&backend);
        config["retention"] = json!({ "settled": 2 });
        Setup::new(folder.path(), config).keys(&keys)
    };
    let device = setup().start().await;
    let mut all = Vec::new();
    for number in 0..6 {
        all.push(device.enqueue("note", None, json!({ "n": number })).await);
        device.acked(all[number]).await;
    }
    device.outbox.pause().await.unwrap();
    all.push(device.enqueue("note", None, json!({ "n": 6 })).await);
    device.stop().await;

    let device = setup().start().await;
    let mut version = device.store.version();
    while seen(&device).await.len() > 3 {
        version.changed().await.unwrap();
    }
    let mut left = seen(&device).await;
    left.sort();
    assert_eq!(left, all[4..], "the newest two, and what waits");
    device.stop().await;
}
