//! Whatever goes wrong inside, no entry is left without an exit, and nothing spins.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use sqlx::{Connection as _, SqliteConnection};
use storage_sync_backend::Rule;
use tauri_plugin_storage_sync::{
    Reason, State, WaitingFor,
    testing::{
        clock::Random,
        keychain::testing::{MemoryKeys, Mood},
        transport::{Delivery, Request, Transport, http::Http},
    },
};

use crate::support::{ManualClock, Setup, backend, config, impatient, times_applied};

const LONG: Duration = Duration::from_secs(600);

/// Does to the database what no verb does.
async fn tamper(folder: &Path, statement: &'static str) {
    let url = format!("sqlite://{}", folder.join("outbox.db").display());
    let mut database = SqliteConnection::connect(&url).await.unwrap();
    sqlx::raw_sql(statement).execute(&mut database).await.unwrap();
    database.close().await.unwrap();
}

#[tokio::test]
async fn a_record_that_was_damaged_before_it_was_ever_sent_fails_and_can_be_discarded() {
    let folder = tempfile::tempdir().unwrap();
    let (backend, keys) = (backend().await, MemoryKeys::new());
    let setup = || Setup::new(folder.path(), impatient(&backend)).keys(&keys);
    let device = setup().open().await;
    let id = device.enqueue("note", Some("a"), json!({})).await;
    device.stop().await;
    tamper(folder.path(), "UPDATE payloads SET body = zeroblob(64)").await;

    let device = setup().start().await;
    let next = device.enqueue("note", Some("a"), json!({})).await;
    let entry = device.until(id, |entry| entry.state == State::Failed).await;
    assert_eq!(entry.reason, Some(Reason::Undecryptable));
    device.outbox.discard(id, false).await.unwrap();
    device.acked(next).await;
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_nobody_needs_any_more_is_not_waited_for_in_a_loop() {
    let folder = tempfile::tempdir().unwrap();
    let (backend, clock, keys) = (backend().await, ManualClock::new(), MemoryKeys::new());
    let setup = || Setup::new(folder.path(), config(&backend)).stopped(&clock).keys(&keys);
    let device = setup().open().await;
    let id = device.enqueue("form", Some("a"), json!({})).await;
    device.stop().await;
    keys.set(Mood::Locked);
    let device = setup().start().await;
    device.until(id, |entry| matches!(entry.waiting_for, Some(WaitingFor::Keychain { .. }))).await;
    device.outbox.discard(id, false).await.unwrap();
    clock.advance(LONG);
    device.quiet().await;

    let (turns, asked) = (device.running.as_ref().unwrap().turns(), keys.loads());
    for _ in 0..50 {
        device.outbox.status().await.unwrap();
    }
    let turned = device.running.as_ref().unwrap().turns() - turns;
    assert!(turned <= 5, "the loop turned {turned} times with nothing to do");
    assert_eq!(keys.loads(), asked);
    device.stop().await;
}

/// Panics before it even returns a future, once.
struct Clumsy {
    http: Http,
    panicked: AtomicBool,
}

impl Transport for Clumsy {
    fn deliver(&self, request: Request) -> Delivery<'_> {
        assert!(self.panicked.swap(true, Ordering::SeqCst), "a bug of the app");
        self.http.deliver(request)
    }
}

#[tokio::test]
async fn a_transport_that_panics_at_once_is_an_unknown_outcome_of_that_attempt() {
    let folder = tempfile::tempdir().unwrap();
    let (backend, clock) = (backend().await, ManualClock::new());
    let mut setup = Setup::new(folder.path(), config(&backend)).stopped(&clock);
    setup.transport = Some(Arc::new(Clumsy { http: Http::new().unwrap(), panicked: AtomicBool::new(false) }));
    let device = setup.start().await;
    let id = device.enqueue("form", Some("a"), json!({})).await;
    let entry = device.until(id, |entry| entry.attempts == 1).await;
    assert!(entry.state == State::Pending && entry.possibly_sent, "{entry:#?}");
    clock.advance(LONG);
    device.acked(id).await;
    device.stop().await;
}

/// Never answers, whatever the endpoint's timeout says.
struct Mute;

impl Transport for Mute {
    fn deliver(&self, _request: Request) -> Delivery<'_> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test]
async fn a_transport_that_never_answers_does_not_keep_an_entry_in_flight_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let (backend, clock) = (backend().await, ManualClock::new());
    let mut config = config(&backend);
    config["endpoints"]["form"]["timeoutMs"] = json!(100);
    let mut setup = Setup::new(folder.path(), config).stopped(&clock);
    setup.transport = Some(Arc::new(Mute));
    let device = setup.start().await;
    let id = device.enqueue("form", Some("a"), json!({})).await;
    device.until(id, |entry| entry.state == State::Pending && entry.attempts == 1).await;
    device.stop().await;
}

#[tokio::test]
async fn what_could_not_be_read_is_read_after_the_databases_rest() {
    let folder = tempfile::tempdir().unwrap();
    let (backend, clock) = (backend().await, ManualClock::new());
    let device = Setup::new(folder.path(), config(&backend)).stopped(&clock).start().await;
    device.quiet().await;
    device.outbox.pause().await.unwrap();
    let id = device.enqueue("note", Some("a"), json!({})).await;
    device.quiet().await;
    tamper(folder.path(), "ALTER TABLE counts RENAME TO hidden").await;
    device.outbox.resume().await.unwrap();
    device.quiet().await;
    tamper(folder.path(), "ALTER TABLE hidden RENAME TO counts").await;
    clock.advance(Duration::from_secs(64));
    device.acked(id).await;
    device.stop().await;
}

#[tokio::test]
async fn a_clock_that_was_set_back_does_not_bring_a_servers_floor_back_at_every_start() {
    let folder = tempfile::tempdir().unwrap();
    let (backend, clock, keys) = (backend().await, ManualClock::new(), MemoryKeys::new());
    let setup = || Setup::new(folder.path(), config(&backend)).stopped(&clock).keys(&keys);
    backend.misbehave(Rule::status(429).retry_after(600));
    let device = setup().start().await;
    let id = device.enqueue("form", Some("a"), json!({})).await;
    device.until(id, |entry| entry.attempts == 1 && entry.state == State::Pending).await;
    device.stop().await;
    backend.behave();
    clock.jump(-365 * 24 * 60 * 60 * 1000);
    for _ in 0..2 {
        let device = setup().start().await;
        device.quiet().await;
        clock.advance(Duration::from_secs(300));
        device.stop().await;
    }
    let device = setup().start().await;
    device.acked(id).await;
    device.stop().await;
}

/// Panics the first time that it is asked.
struct Rigged {
    panicked: AtomicBool,
}

impl Random for Rigged {
    fn next(&self) -> u64 {
        assert!(self.panicked.swap(true, Ordering::SeqCst), "a bug of ours");
        u64::MAX
    }
}

#[tokio::test]
async fn a_panic_of_the_engine_itself_is_survived_and_what_was_under_way_is_sent_again_and_applied_once() {
    let folder = tempfile::tempdir().unwrap();
    let (backend, clock) = (backend().await, ManualClock::new());
    backend.misbehave(Rule::drop_after().times(1));
    let mut setup = Setup::new(folder.path(), config(&backend)).stopped(&clock);
    setup.random = Arc::new(Rigged { panicked: AtomicBool::new(false) });
    let device = setup.start().await;
    let poison = device.enqueue("note", Some("a"), json!({})).await;
    let delivered = async {
        while device.entry(poison).await.state != State::Acked {
            // How long it rests is not what this is about.
            clock.advance(LONG);
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), delivered).await.expect("delivery goes on");
    assert_eq!(times_applied(&backend, poison), 1);
    let next = device.enqueue("form", Some("b"), json!({})).await;
    device.acked(next).await;
    assert!(device.outbox.status().await.unwrap().owner);
    device.stop().await;
}
