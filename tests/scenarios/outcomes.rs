//! Every row of the outcome table: what the server applied, what the entry became, whether an attempt was counted.

use std::{collections::HashSet, time::Duration};

use serde_json::json;
use storage_sync_backend::{Backend, Rule};
use tauri_plugin_storage_sync::{Entry, Reason, State, WaitingFor, testing::wake::Wake};
use uuid::Uuid;

use crate::support::{Device, ManualClock, Setup, backend, config, times_applied};

const LONG: Duration = Duration::from_secs(24 * 60 * 60);

struct World {
    backend: Backend,
    clock: ManualClock,
    device: Device,
    _folder: tempfile::TempDir,
}

async fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    let backend = backend().await;
    let clock = ManualClock::new();
    let device = Setup::new(folder.path(), config(&backend)).stopped(&clock).start().await;
    World { backend, clock, device, _folder: folder }
}

impl World {
    async fn note(&self) -> Uuid {
        self.device.enqueue("note", Some("one"), json!({ "text": "hello" })).await
    }

    /// One attempt with that misbehaviour, and no second one: the clock stands still.
    async fn once(&self, rule: impl Into<Rule>) -> Entry {
        self.backend.misbehave(rule);
        let id = self.note().await;
        self.tried(id).await
    }

    async fn tried(&self, id: Uuid) -> Entry {
        self.device.until(id, |entry| entry.state != State::Inflight && entry.last_error.is_some()).await
    }

    /// The server behaves again and time passes: the entry must arrive, once.
    async fn arrives(&self, id: Uuid) {
        self.backend.behave();
        self.clock.advance(LONG);
        self.device.acked(id).await;
        assert_eq!(times_applied(&self.backend, id), 1, "applied exactly once");
    }
}

/// What a row of the table says of an entry that goes on.
struct Goes {
    counted: u32,
    possibly_sent: bool,
    applied: usize,
}

async fn goes_on(rule: impl Into<Rule>, expected: Goes, why: impl Fn(&WaitingFor) -> bool) {
    let world = world().await;
    let entry = world.once(rule).await;
    assert_eq!(entry.state, State::Pending, "{entry:#?}");
    assert_eq!(entry.attempts, expected.counted, "{entry:#?}");
    assert_eq!(entry.possibly_sent, expected.possibly_sent, "{entry:#?}");
    assert!(why(entry.waiting_for.as_ref().unwrap()), "{entry:#?}");
    assert_eq!(times_applied(&world.backend, entry.id), expected.applied);
    world.arrives(entry.id).await;
    world.device.stop().await;
}

async fn fails(rule: impl Into<Rule>, reason: Reason, status: u16) {
    let world = world().await;
    let entry = world.once(rule).await;
    assert_eq!((entry.state, entry.reason, entry.status), (State::Failed, Some(reason), Some(status)), "{entry:#?}");
    assert_eq!(entry.attempts, 1);
    world.backend.behave();
    world.clock.advance(LONG);
    world.device.quiet().await;
    assert_eq!(times_applied(&world.backend, entry.id), 0, "a failed entry is not sent again by itself");
    assert!(!world.device.outbox.payload(entry.id).await.unwrap().as_bytes().is_empty(), "its payload is kept");
    world.device.outbox.retry(entry.id, false).await.unwrap();
    world.arrives(entry.id).await;
    world.device.stop().await;
}

fn backoff(waiting: &WaitingFor) -> bool {
    matches!(waiting, WaitingFor::Backoff { .. })
}

fn busy(waiting: &WaitingFor) -> bool {
    matches!(waiting, WaitingFor::Busy { .. })
}

#[tokio::test]
async fn a_2xx_with_the_proof_asked_for_is_an_ack() {
    let world = world().await;
    let entry = world.device.acked(world.note().await).await;
    assert_eq!((entry.attempts, entry.status, entry.possibly_sent), (1, Some(201), false));
    assert!(entry.canonical_id.is_some() && entry.waiting_for.is_none());
    assert_eq!(times_applied(&world.backend, entry.id), 1);
}

#[tokio::test]
async fn a_refused_connection_is_no_attempt_and_leaves_nothing_possibly_sent() {
    let world = world().await;
    world.backend.stop().await;
    let id = world.note().await;
    let entry = world.tried(id).await;
    assert_eq!((entry.state, entry.attempts, entry.possibly_sent), (State::Pending, 0, false), "{entry:#?}");
    assert!(matches!(&entry.waiting_for, Some(WaitingFor::Offline { origin }) if *origin == world.backend.url()));
    world.backend.restart().await.unwrap();
    world.arrives(id).await;
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_no_attempt() {
    let world = world().await;
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&world.backend);
    config["baseUrl"] = json!("https://no-such-host.invalid");
    let device = Setup::new(folder.path(), config).stopped(&world.clock).start().await;
    let id = device.enqueue("form", Some("a"), json!({})).await;
    let entry = device.until(id, |entry| entry.last_error.is_some() && entry.state == State::Pending).await;
    assert_eq!((entry.attempts, entry.possibly_sent), (0, false), "{entry:#?}");
    assert!(matches!(entry.waiting_for, Some(WaitingFor::Offline { .. })));
}

#[tokio::test]
async fn a_connection_that_breaks_before_the_server_applied_it_is_sent_again() {
    goes_on(Rule::drop_before(), Goes { counted: 1, possibly_sent: true, applied: 0 }, backoff).await;
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_with_the_same_key_and_nothing_is_applied_twice() {
    goes_on(Rule::drop_after(), Goes { counted: 1, possibly_sent: true, applied: 1 }, backoff).await;
}

#[tokio::test]
async fn an_answer_cut_off_in_the_middle_is_an_unknown_outcome() {
    goes_on(Rule::truncated(), Goes { counted: 1, possibly_sent: true, applied: 0 }, |_| true).await;
}

#[tokio::test]
async fn server_faults_are_retried_with_backoff_and_possibly_sent() {
    for status in [500, 502, 504, 599, 408, 421, 423, 425] {
        goes_on(Rule::status(status), Goes { counted: 1, possibly_sent: true, applied: 0 }, backoff).await;
    }
}

#[tokio::test]
async fn an_answer_that_wants_other_credentials_holds_the_origin_and_counts_no_attempt() {
    for status in [401, 407] {
        let world = world().await;
        world.backend.misbehave(Rule::status(status));
        let id = world.note().await;
        let held = |entry: &Entry| matches!(entry.waiting_for, Some(WaitingFor::Auth { .. }));
        let entry = world.device.until(id, held).await;
        assert_eq!((entry.state, entry.attempts, entry.possibly_sent), (State::Pending, 0, false), "{entry:#?}");
        assert_eq!(times_applied(&world.backend, id), 0);
        world.backend.behave();
        let headers = vec![("Authorization".into(), "Bearer new".into())];
        world.device.credentials.set("", &world.backend.url(), headers).unwrap();
        world.device.wake.wake(Wake::Credentials);
        world.device.acked(id).await;
        assert_eq!(times_applied(&world.backend, id), 1, "applied exactly once");
        world.device.stop().await;
    }
}

#[tokio::test]
async fn an_entry_that_is_answered_500_a_hundred_times_is_not_given_up_and_arrives_once() {
    let world = world().await;
    world.backend.misbehave(Rule::status(500).times(100));
    let id = world.note().await;
    for attempt in 1..=100 {
        let goes_on = |entry: &Entry| matches!(entry.state, State::Pending | State::Inflight);
        let tried = |entry: &Entry| entry.state == State::Pending && entry.attempts == attempt;
        let entry = world.device.until(id, |entry| tried(entry) || !goes_on(entry)).await;
        assert!(goes_on(&entry) && entry.status == Some(500) && entry.possibly_sent, "{entry:#?}");
        assert!(backoff(entry.waiting_for.as_ref().unwrap()), "{entry:#?}");
        assert_eq!(times_applied(&world.backend, id), 0);
        world.clock.advance(LONG);
    }
    let entry = world.device.acked(id).await;
    assert_eq!((entry.attempts, entry.status, entry.possibly_sent), (101, Some(201), false), "{entry:#?}");
    assert_eq!(times_applied(&world.backend, id), 1, "applied exactly once");
    let requests = world.backend.requests();
    let what: HashSet<_> = requests.iter().map(|seen| (&seen.idempotency_key, &seen.sha256)).collect();
    assert_eq!((requests.len(), what.len()), (101, 1), "the same bytes under the same key each time");
    world.device.stop().await;
}

#[tokio::test]
async fn insufficient_storage_is_retried_after_a_long_floor_that_no_wake_shortens() {
    let world = world().await;
    let entry = world.once(Rule::status(507)).await;
    assert_eq!((entry.state, entry.attempts, entry.possibly_sent), (State::Pending, 1, true), "{entry:#?}");
    assert!(backoff(entry.waiting_for.as_ref().unwrap()));
    assert_eq!(times_applied(&world.backend, entry.id), 0);
    let before = world.backend.world(|world| world.received());
    world.clock.advance(Duration::from_secs(60));
    world.device.quiet().await;
    assert_eq!(world.backend.world(|world| world.received()), before);
    world.arrives(entry.id).await;
}

#[tokio::test]
async fn too_many_requests_is_not_applied_and_holds_the_endpoint_as_long_as_asked() {
    let world = world().await;
    let entry = world.once(Rule::status(429).retry_after(60)).await;
    assert_eq!((entry.state, entry.attempts, entry.possibly_sent), (State::Pending, 1, false), "{entry:#?}");
    assert!(busy(entry.waiting_for.as_ref().unwrap()), "{entry:#?}");
    world.backend.behave();
    world.clock.advance(Duration::from_secs(59));
    world.device.quiet().await;
    assert_eq!(world.backend.world(|world| world.received()), 1, "flush does not overrule the server");
    world.clock.advance(Duration::from_secs(1));
    world.device.acked(entry.id).await;
}

#[tokio::test]
async fn a_retry_after_date_is_read_against_the_servers_own_clock() {
    let world = world().await;
    let entry = world.once(Rule::status(503).retry_after_date(60, 86_400)).await;
    assert!(entry.possibly_sent && busy(entry.waiting_for.as_ref().unwrap()), "{entry:#?}");
    world.backend.behave();
    world.clock.advance(Duration::from_secs(58));
    world.device.quiet().await;
    assert_eq!(world.backend.world(|world| world.received()), 1);
    world.clock.advance(Duration::from_secs(3));
    world.device.acked(entry.id).await;
}

#[tokio::test]
async fn busy_without_a_time_is_our_own_backoff() {
    goes_on(Rule::status(503), Goes { counted: 1, possibly_sent: true, applied: 0 }, busy).await;
    goes_on(Rule::status(429), Goes { counted: 1, possibly_sent: false, applied: 0 }, busy).await;
    goes_on(Rule::status(403).retry_after(5), Goes { counted: 1, possibly_sent: false, applied: 0 }, busy).await;
}

#[tokio::test]
async fn a_rate_limit_with_nothing_left_pauses_the_endpoint_after_the_ack() {
    let world = world().await;
    world.backend.misbehave(Rule::answer_header("RateLimit", "\"default\";r=0;t=30").times(1));
    world.device.acked(world.note().await).await;
    let second = world.note().await;
    world.device.quiet().await;
    let entry = world.device.entry(second).await;
    assert!(busy(entry.waiting_for.as_ref().unwrap()), "{entry:#?}");
    world.clock.advance(Duration::from_secs(30));
    world.device.acked(second).await;
}

#[tokio::test]
async fn what_the_server_refuses_fails_keeps_its_payload_and_can_be_retried() {
    for status in [400, 403, 404, 405, 410, 413, 422, 451, 501, 505] {
        fails(Rule::status(status), Reason::Refused, status).await;
    }
}

#[tokio::test]
async fn a_409_without_a_revision_and_nothing_sent_before_fails() {
    fails(Rule::status(409), Reason::Refused, 409).await;
}

#[tokio::test]
async fn a_409_or_412_that_carries_a_higher_revision_beats_the_write_of_a_lane_that_knew_better() {
    for status in [409, 412] {
        let world = world().await;
        world.device.acked(world.note().await).await;
        let answer = json!({ "revision": 7, "device": "another", "id": "x" }).to_string();
        world.backend.misbehave(Rule::status(status).body(answer));
        let id = world.note().await;
        let entry = world.device.until(id, |entry| entry.lost).await;
        assert_eq!((entry.state, entry.status, entry.attempts), (State::Superseded, Some(status), 1), "{entry:#?}");
        assert!(entry.conflict && !entry.possibly_sent && times_applied(&world.backend, id) == 0);
        assert!(!world.device.outbox.payload(id).await.unwrap().as_bytes().is_empty(), "its payload is kept");
        world.device.outbox.retry(id, false).await.unwrap();
        world.arrives(id).await;
        world.device.stop().await;
    }
}

#[tokio::test]
async fn a_409_while_the_first_attempt_is_in_progress_is_waited_for() {
    let world = world().await;
    let entry = world.once(Rule::drop_before().times(1)).await;
    world.backend.misbehave(Rule::in_progress());
    world.clock.advance(LONG);
    let entry = world.device.until(entry.id, |entry| entry.attempts == 2).await;
    assert_eq!((entry.state, entry.status, entry.possibly_sent), (State::Pending, Some(409), true), "{entry:#?}");
    world.arrives(entry.id).await;
}

#[tokio::test]
async fn a_captive_portal_settles_nothing() {
    goes_on(Rule::portal(), Goes { counted: 0, possibly_sent: true, applied: 0 }, |why| *why == WaitingFor::Unproven)
        .await;
}

#[tokio::test]
async fn network_authentication_required_settles_nothing() {
    goes_on(Rule::status(511), Goes { counted: 0, possibly_sent: true, applied: 0 }, |why| {
        *why == WaitingFor::Unproven
    })
    .await;
}

#[tokio::test]
async fn a_redirect_to_another_origin_settles_nothing_and_is_not_followed() {
    let elsewhere = backend().await;
    let unproven = |why: &WaitingFor| *why == WaitingFor::Unproven;
    for status in [301, 302, 303, 307, 308] {
        let rule = Rule::redirect_with(status, format!("{}/notes", elsewhere.url()));
        goes_on(rule, Goes { counted: 0, possibly_sent: true, applied: 0 }, unproven).await;
    }
    assert_eq!(elsewhere.world(|world| world.received()), 0, "nothing goes to an origin that the app did not name");
}

#[tokio::test]
async fn a_redirect_that_keeps_method_and_origin_is_followed() {
    let world = world().await;
    world.backend.misbehave(Rule::redirect_with(307, "/moved").kind("notes"));
    let entry = world.device.acked(world.note().await).await;
    assert_eq!(entry.attempts, 1);
    assert_eq!(times_applied(&world.backend, entry.id), 1);
}

#[tokio::test]
async fn a_2xx_without_the_id_that_the_endpoint_asks_for_is_unproven_and_not_applied_twice() {
    goes_on(Rule::without_id(), Goes { counted: 0, possibly_sent: true, applied: 1 }, |why| {
        *why == WaitingFor::Unproven
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_never_ends_does_not_hold_the_entry_for_ever() {
    goes_on(Rule::endless(), Goes { counted: 0, possibly_sent: true, applied: 0 }, |why| *why == WaitingFor::Unproven)
        .await;
}

#[tokio::test]
async fn a_delete_of_what_is_gone_is_an_ack() {
    let backend = backend().await;
    let folder = tempfile::tempdir().unwrap();
    let config =
        json!({ "baseUrl": backend.url(), "endpoints": { "gone": { "method": "DELETE", "url": "/forms/{key}" } } });
    let device = Setup::new(folder.path(), config).start().await;
    for status in [404, 410] {
        backend.misbehave(Rule::status(status));
        let id = device.enqueue("gone", Some("a"), json!({})).await;
        let entry = device.acked(id).await;
        assert_eq!((entry.status, entry.attempts, entry.possibly_sent), (Some(status), 1, false), "{entry:#?}");
        assert_eq!(times_applied(&backend, id), 0, "it was gone already");
    }
    assert_eq!(backend.requests().len(), 2, "each was sent once");
}

#[tokio::test]
async fn an_endpoint_that_dedupes_nothing_is_never_sent_twice_without_force() {
    let backend = backend().await;
    backend.set_idempotency(false);
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&backend);
    config["endpoints"]["note"]["ifUnknown"] = json!("hold");
    let clock = ManualClock::new();
    let device = Setup::new(folder.path(), config).stopped(&clock).start().await;
    backend.misbehave(Rule::drop_after().times(1));
    let id = device.enqueue("note", None, json!({})).await;
    let entry = device.until(id, |entry| entry.state == State::Failed).await;
    assert_eq!((entry.reason, entry.possibly_sent), (Some(Reason::OutcomeUnknown), true));
    assert!(device.outbox.retry(id, false).await.is_err() || device.entry(id).await.state == State::Failed);
    clock.advance(LONG);
    device.quiet().await;
    assert_eq!(times_applied(&backend, id), 1);
    device.outbox.retry(id, true).await.unwrap();
    device.acked(id).await;
    assert_eq!(times_applied(&backend, id), 2, "the user decided to send it again");
}

#[tokio::test]
async fn a_key_that_the_server_may_have_forgotten_is_not_used_again() {
    let backend = backend().await;
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&backend);
    config["endpoints"]["note"]["keyLifetime"] = json!(3600);
    let clock = ManualClock::new();
    let device = Setup::new(folder.path(), config).stopped(&clock).start().await;
    backend.misbehave(Rule::drop_after().times(1));
    let id = device.enqueue("note", None, json!({})).await;
    device.until(id, |entry| entry.attempts == 1 && entry.state == State::Pending).await;
    backend.expire_keys();
    clock.advance(Duration::from_secs(3600));
    let entry = device.until(id, |entry| entry.state == State::Failed).await;
    assert_eq!(entry.reason, Some(Reason::OutcomeUnknown));
    assert_eq!(times_applied(&backend, id), 1);
}
