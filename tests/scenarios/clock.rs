//! Moving the system clock changes no order, loses nothing and delays nothing beyond one backoff.

use std::time::Duration;

use serde_json::json;
use storage_sync_backend::Rule;
use tauri_plugin_storage_sync::State;

use crate::support::{ManualClock, Setup, backend, config};

const YEARS: i64 = 20 * 365 * 24 * 60 * 60 * 1000;

#[tokio::test]
async fn years_forward_and_back_between_enqueue_backoff_and_restart_change_nothing() {
    for jumps in [[YEARS, -2 * YEARS, YEARS], [-YEARS, 2 * YEARS, -YEARS], [0, -YEARS, 0], [YEARS, YEARS, -YEARS]] {
        let folder = tempfile::tempdir().unwrap();
        let backend = backend().await;
        let (clock, keys) =
            (ManualClock::new(), tauri_plugin_storage_sync::testing::keychain::testing::MemoryKeys::new());
        let setup = || Setup::new(folder.path(), config(&backend)).stopped(&clock).keys(&keys);
        backend.misbehave(Rule::status(500));
        let device = setup().start().await;
        let mut ids = vec![device.enqueue("note", Some("a"), json!({ "n": 0 })).await];
        device.until(ids[0], |entry| entry.attempts == 1 && entry.state == State::Pending).await;
        clock.jump(jumps[0]);
        ids.push(device.enqueue("note", Some("a"), json!({ "n": 1 })).await);
        clock.jump(jumps[1]);
        ids.push(device.enqueue("note", Some("a"), json!({ "n": 2 })).await);
        device.stop().await;
        clock.jump(jumps[2]);
        backend.behave();

        let device = setup().start().await;
        clock.advance(Duration::from_secs(600));
        for id in &ids {
            device.acked(*id).await;
        }
        let order: Vec<_> =
            backend.mutations().iter().filter_map(|mutation| mutation.idempotency_key.clone()).collect();
        assert_eq!(order, ids.iter().map(ToString::to_string).collect::<Vec<_>>(), "jumps {jumps:?}");
        device.stop().await;
    }
}

#[tokio::test]
async fn a_servers_floor_survives_a_restart_and_a_clock_set_back_does_not_prolong_it() {
    for jump in [0, -YEARS] {
        let folder = tempfile::tempdir().unwrap();
        let backend = backend().await;
        let (clock, keys) =
            (ManualClock::new(), tauri_plugin_storage_sync::testing::keychain::testing::MemoryKeys::new());
        let setup = || Setup::new(folder.path(), config(&backend)).stopped(&clock).keys(&keys);
        backend.misbehave(Rule::status(429).retry_after(600));
        let device = setup().start().await;
        let id = device.enqueue("form", Some("a"), json!({})).await;
        device.until(id, |entry| entry.attempts == 1 && entry.state == State::Pending).await;
        device.stop().await;
        backend.behave();
        clock.jump(jump);

        let device = setup().start().await;
        device.quiet().await;
        assert_eq!(backend.world(|world| world.received()), 1, "a restart does not overrule the server");
        clock.advance(Duration::from_secs(600));
        device.acked(id).await;
        device.stop().await;
    }
}
