//! `kill -9` at random moments: whatever a receipt was given for is applied exactly once or still in the outbox.

use std::{collections::HashSet, time::Duration};

use storage_sync_backend::Rule;
use tauri_plugin_storage_sync::State;
use uuid::Uuid;

use crate::{
    dice::{Dice, number, seed},
    support::{Setup, backend, impatient, times_applied},
    worker::{SameKey, Worker},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_kills_at_random_moments_lose_nothing_and_deliver_nothing_twice() {
    let kills = number("STORAGE_SYNC_KILLS", 200);
    let seed = seed();
    println!("{kills} kills, STORAGE_SYNC_SEED={seed}");
    let mut dice = Dice::new(seed);
    let folder = tempfile::tempdir().unwrap();
    let backend = backend().await;
    let config = impatient(&backend);
    let mut promised = Vec::new();

    for _ in 0..kills {
        if dice.roll(3) == 0 {
            backend.misbehave(if dice.roll(2) == 0 { Rule::drop_after() } else { Rule::drop_before() }.times(2));
        }
        let mut worker = Worker::start(folder.path(), &config, "a", true);
        let receipts = dice.roll(60);
        let micros = dice.roll(3000);
        let (mut worker, lines) = tokio::task::spawn_blocking(move || {
            assert_eq!(worker.line().as_deref(), Some("open"));
            let lines: Vec<String> = (0..receipts).map_while(|_| worker.line()).collect();
            // Not to wait for anything: to die at another moment each time.
            std::thread::sleep(Duration::from_micros(micros));
            worker.kill();
            (worker, lines)
        })
        .await
        .unwrap();
        promised.extend(lines);
        promised.extend(std::iter::from_fn(|| worker.line()));
    }

    backend.behave();
    let mut setup = Setup::new(folder.path(), config);
    setup.source = Some(std::sync::Arc::new(SameKey));
    let device = setup.start().await;
    device.until_counted(|counts| counts.pending + counts.inflight == 0).await;
    let promised: Vec<(String, Uuid)> = promised
        .iter()
        .map(|line| line.split_once(' ').unwrap())
        .map(|(kind, id)| (kind.to_owned(), id.parse().unwrap()))
        .collect();
    println!("{} receipts, {} requests", promised.len(), backend.world(|world| world.received()));
    assert!(promised.len() as u64 > kills, "the workers did something before they died");
    for (kind, id) in &promised {
        let entry = device.outbox.get(*id).await.ok();
        let applied = times_applied(&backend, *id);
        let superseded = entry.as_ref().is_some_and(|entry| entry.state == State::Superseded);
        // Acknowledged and superseded ones are pruned in the end; what was pruned must have been applied or replaced.
        let settled = entry.as_ref().is_none_or(|entry| matches!(entry.state, State::Acked | State::Superseded));
        assert!(settled, "{entry:#?}");
        match (kind.as_str(), applied) {
            ("note", 1) | ("form", 0 | 1) => {}
            _ => panic!("{kind} {id} was applied {applied} times (superseded: {superseded}): {entry:#?}"),
        }
    }
    let all: HashSet<_> = backend.mutations().into_iter().map(|mutation| mutation.idempotency_key).collect();
    assert_eq!(all.len(), backend.mutations().len(), "nothing was applied twice, receipt or not");
    device.stop().await;
}
