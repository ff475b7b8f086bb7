//! What happens to one account says nothing of another.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::{Value, json};
use storage_sync_backend::{Backend, Rule};
use tauri_plugin_storage_sync::{
    Entry, Error, Reason, State, WaitingFor, reference,
    testing::{
        keychain::testing::{MemoryKeys, Mood},
        outbox::{EnqueueOptions, Leftover, Payload, Query, Resolution, Selection},
        wake::Wake,
    },
};
use uuid::Uuid;

use crate::{
    dice::{number, seed},
    support::{Device, ManualClock, Setup, backend, config, impatient, times_applied},
    worker::SameKey,
};

fn bearer(token: &str) -> Vec<(String, String)> {
    vec![("Authorization".into(), format!("Bearer {token}"))]
}

#[tokio::test]
async fn refused_credentials_of_one_account_do_not_hold_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    let (backend, clock) = (backend().await, ManualClock::new());
    backend.accept_tokens(Some(BTreeMap::from([("good".to_owned(), "eve".to_owned())])));
    let device = Setup::new(folder.path(), config(&backend)).stopped(&clock).start().await;
    device.outbox.set_account("ada").await.unwrap();
    device.credentials.set("ada", &backend.url(), bearer("old")).unwrap();
    let held = device.enqueue("form", Some("a"), json!({})).await;
    device.until(held, |entry| matches!(entry.waiting_for, Some(WaitingFor::Auth { .. }))).await;

    device.credentials.set("eve", &backend.url(), bearer("good")).unwrap();
    device.wake.wake(Wake::Credentials);
    device.outbox.set_account("eve").await.unwrap();
    let id = device.enqueue("form", Some("a"), json!({})).await;
    device.acked(id).await;
    device.stop().await;
}

#[tokio::test]
async fn a_key_that_one_account_waits_for_does_not_hold_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    let (backend, clock, keys) = (backend().await, ManualClock::new(), MemoryKeys::new());
    let setup = || Setup::new(folder.path(), config(&backend)).stopped(&clock).keys(&keys);
    let device = setup().open().await;
    let held = device.enqueue("form", Some("a"), json!({})).await;
    device.stop().await;
    keys.set(Mood::Locked);
    let device = setup().start().await;
    device.until(held, |entry| matches!(entry.waiting_for, Some(WaitingFor::Keychain { .. }))).await;
    keys.set(Mood::Open);
    device.outbox.set_account("eve").await.unwrap();
    let id = device.enqueue("form", Some("a"), json!({})).await;
    device.acked(id).await;
    device.stop().await;
}

#[tokio::test]
async fn what_backs_off_in_one_account_is_not_sent_in_another_and_goes_when_its_own_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let (backend, clock) = (backend().await, ManualClock::new());
    let mut setup = Setup::new(folder.path(), config(&backend)).stopped(&clock);
    setup.source = Some(Arc::new(SameKey));
    let device = setup.start().await;
    device.outbox.set_account("ada").await.unwrap();
    backend.misbehave(Rule::status(500));
    let id = device.enqueue("note", Some("a"), json!({})).await;
    device.until(id, |entry| entry.attempts == 1 && entry.state == State::Pending).await;
    backend.behave();

    device.outbox.set_account("eve").await.unwrap();
    clock.advance(Duration::from_secs(600));
    device.quiet().await;
    assert_eq!(backend.world(|world| world.received()), 1, "ada's entry was sent while eve was signed in");
    device.outbox.set_account("ada").await.unwrap();
    device.acked(id).await;
    device.stop().await;
}

/// The backend knows these users, by the tokens that [`sign_in`] gives.
fn accept(backend: &Backend, users: &[&str]) {
    let tokens = users.iter().map(|user| (format!("token of {user}"), (*user).to_owned()));
    backend.accept_tokens(Some(tokens.collect()));
}

async fn sign_in(device: &Device, backend: &Backend, account: &str) {
    device.credentials.set(account, &backend.url(), bearer(&format!("token of {account}"))).unwrap();
    device.outbox.set_account(account).await.unwrap();
    device.wake.wake(Wake::Credentials);
}

/// Until an origin has proved itself, it gets one request at a time.
async fn warm_up(device: &Device) {
    for n in 0..3 {
        let id = device.enqueue("note", None, json!({ "n": n })).await;
        device.acked(id).await;
    }
}

/// Whose name every request about the entry came in.
fn senders(backend: &Backend, id: Uuid) -> Vec<Option<String>> {
    let id = id.to_string();
    let of = |key: &Option<String>| key.as_ref().is_some_and(|key| key.starts_with(&id));
    backend.requests().into_iter().filter(|seen| of(&seen.idempotency_key)).map(|seen| seen.user).collect()
}

#[tokio::test]
async fn an_attempt_that_is_under_way_when_somebody_else_signs_in_stays_its_own_accounts_until_it_is_proved() {
    let (backend, folder, clock) = (backend().await, tempfile::tempdir().unwrap(), ManualClock::new());
    accept(&backend, &["ada", "eve"]);
    let device = Setup::new(folder.path(), config(&backend)).stopped(&clock).start().await;
    sign_in(&device, &backend, "ada").await;
    warm_up(&device).await;
    let lost = backend.misbehave(Rule::drop_after().key("of ada"));
    let gate = backend.hold(Rule::hold().key("of ada").applied());
    let hers = device.enqueue("form", Some("of ada"), json!({ "by": "ada" })).await;
    gate.holds(1).await;

    sign_in(&device, &backend, "eve").await;
    let theirs = device.enqueue("form", Some("of eve"), json!({ "by": "eve" })).await;
    device.acked(theirs).await;
    // Her answer is lost while eve is signed in.
    gate.open();
    backend.wait_until(|world| world.resets() > 0).await;
    backend.clear(lost);
    clock.advance(Duration::from_secs(3600));
    device.quiet().await;
    assert_eq!(senders(&backend, hers), [Some("ada".to_owned())], "it was sent again while eve was signed in");

    sign_in(&device, &backend, "ada").await;
    clock.advance(Duration::from_secs(3600));
    device.acked(hers).await;
    assert_eq!(senders(&backend, hers), vec![Some("ada".to_owned()); 2]);
    assert_eq!(senders(&backend, theirs), [Some("eve".to_owned())]);
    assert_eq!(times_applied(&backend, hers), 1);
    device.stop().await;
}

#[tokio::test]
async fn what_the_server_takes_of_one_account_proves_nothing_of_anothers_credentials() {
    let (backend, folder, clock) = (backend().await, tempfile::tempdir().unwrap(), ManualClock::new());
    accept(&backend, &["ada"]);
    let device = Setup::new(folder.path(), config(&backend)).stopped(&clock).start().await;
    sign_in(&device, &backend, "ada").await;
    warm_up(&device).await;
    let applied = backend.world(|world| world.applied());
    let gate = backend.hold(Rule::hold().key("of ada"));
    let hers = device.enqueue("form", Some("of ada"), json!({})).await;
    gate.holds(1).await;
    // Eve's credentials are refused.
    sign_in(&device, &backend, "eve").await;
    let theirs = device.enqueue("form", Some("of eve"), json!({})).await;
    let waits = |entry: &Entry| matches!(entry.waiting_for, Some(WaitingFor::Auth { .. }));
    device.until(theirs, waits).await;
    // Ada's are accepted meanwhile, late.
    gate.open();
    backend.wait_until(|world| world.applied() > applied).await;
    for _ in 0..3 {
        clock.advance(Duration::from_secs(3600));
        device.quiet().await;
    }
    let entry = device.until(theirs, waits).await;
    assert_eq!((entry.state, entry.reason, entry.attempts), (State::Pending, None::<Reason>, 0), "{entry:#?}");
    accept(&backend, &["ada", "eve"]);
    sign_in(&device, &backend, "eve").await;
    device.acked(theirs).await;
    sign_in(&device, &backend, "ada").await;
    device.acked(hers).await;
    assert_eq!(senders(&backend, hers), [Some("ada".to_owned())]);
    device.stop().await;
}

#[tokio::test]
async fn no_verb_reaches_what_is_another_accounts() {
    let (backend, folder) = (backend().await, tempfile::tempdir().unwrap());
    let mut config = config(&backend);
    config["limits"] = json!({ "entries": 2 });
    let device = Setup::new(folder.path(), config).open().await;
    let outbox = &device.outbox;
    outbox.set_account("ada").await.unwrap();
    let id = device.enqueue("note", Some("a"), json!({ "by": "ada" })).await;
    let other = device.enqueue("note", Some("a"), json!({ "by": "ada" })).await;
    outbox.set_account("eve").await.unwrap();
    assert_eq!(outbox.status().await.unwrap().counts, Default::default());
    assert!(device.all().await.is_empty() && outbox.conflicts().await.unwrap().is_empty());

    let body = || Payload::json(&json!({})).unwrap();
    let code = |refused: Option<Error>| refused.map(|error| error.code());
    let enqueue = async |options: EnqueueOptions, payload: Value| {
        outbox.enqueue("note", Payload::json(&payload).unwrap(), options).await.err()
    };
    let after = EnqueueOptions { after: vec![id], ..EnqueueOptions::default() };
    let same = EnqueueOptions { id: Some(id), key: Some("a".into()), ..EnqueueOptions::default() };
    let page = Query { after: Some(id), ..Query::default() };
    for (verb, refused, expected) in [
        ("get", outbox.get(id).await.err(), "not_found"),
        ("payload", outbox.payload(id).await.err(), "not_found"),
        ("retry", outbox.retry(id, true).await.err(), "not_found"),
        ("discard", outbox.discard(id, true).await.err(), "not_found"),
        ("edit", outbox.edit(id, body()).await.err(), "not_found"),
        ("resolve", outbox.resolve(id, Resolution::Mine).await.err(), "not_found"),
        ("delivered", outbox.delivered(id, Some(Duration::from_secs(60))).await.err(), "not_found"),
        ("list after it", outbox.list(page).await.err(), "not_found"),
        ("enqueue after it", enqueue(after, json!({})).await, "invalid_argument"),
        (
            "a reference to it",
            enqueue(EnqueueOptions::default(), json!({ "of": reference(id) })).await,
            "invalid_argument",
        ),
        ("its id", enqueue(same, json!({ "by": "ada" })).await, "id_conflict"),
    ] {
        assert_eq!(code(refused), Some(expected), "{verb}");
    }
    // Filters and `all` find nothing, the quota counts nothing, and the lane of the same name is another one.
    assert!(outbox.retry(Selection::Filter(Default::default()), true).await.unwrap().is_empty());
    assert!(outbox.discard(Selection::All, true).await.unwrap().ids.is_empty());
    let theirs = device.enqueue("note", Some("a"), json!({ "by": "eve" })).await;
    assert_ne!(device.entry(theirs).await.waiting_for, Some(WaitingFor::Lane { behind: other }));

    outbox.set_account("ada").await.unwrap();
    assert_eq!(device.all().await.len(), 2);
    assert_eq!(outbox.get(theirs).await.unwrap_err().code(), "not_found");
    assert!(outbox.payload(id).await.is_ok());
    device.stop().await;
}

#[tokio::test]
async fn what_waits_for_an_entry_is_told_that_another_account_is_the_current_one() {
    let (backend, folder) = (backend().await, tempfile::tempdir().unwrap());
    let device = Setup::new(folder.path(), config(&backend)).open().await;
    device.outbox.set_account("ada").await.unwrap();
    let id = device.enqueue("note", None, json!({})).await;
    let (waited, switched) =
        tokio::join!(device.outbox.delivered(id, None), async { device.outbox.set_account("eve").await });
    switched.unwrap();
    assert_eq!(waited.unwrap_err().code(), "not_found");
    device.stop().await;
}

#[tokio::test]
async fn a_sign_out_leaves_the_account_that_another_process_has_made_the_current_one() {
    let (backend, folder, keys) = (backend().await, tempfile::tempdir().unwrap(), MemoryKeys::new());
    let setup = || Setup::new(folder.path(), impatient(&backend)).keys(&keys);
    let (owner, second) = (setup().start().await, setup().open().await);
    for leftover in [Leftover::Keep, Leftover::Discard] {
        owner.outbox.set_account("ada").await.unwrap();
        second.outbox.set_account("eve").await.unwrap();
        let done = owner.outbox.sign_out(leftover, None, |_| {}).await.unwrap();
        assert_eq!(done.account, "ada");
        assert_eq!(owner.outbox.status().await.unwrap().account, "", "here nobody is signed in");
        assert_eq!(owner.store.account().await.unwrap(), "eve", "{leftover:?}");
        let id = second.enqueue("note", None, json!({ "by": "eve" })).await;
        second.until_read(id, |entry| entry.state == State::Acked).await;
    }
    second.stop().await;
    owner.stop().await;
}

/// What happens next in [`whoever_signs_in_and_out_everything_is_sent_once_and_in_its_own_name`].
async fn step(device: &Device, backend: &Backend, dice: &mut u64, promised: &mut BTreeMap<Uuid, &'static str>) {
    const USERS: [&str; 3] = ["ada", "eve", "joe"];
    let mut roll = |sides: u64| {
        *dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*dice >> 33) % sides
    };
    let (what, which, number) = (roll(20), roll(3) as usize, roll(4));
    let current = device.outbox.account().await.unwrap();
    let current = USERS.into_iter().find(|user| **user == *current);
    match (what, current) {
        (0..=8, Some(user)) => {
            let kind = if number == 0 { "note" } else { "form" };
            let options =
                EnqueueOptions { queue: Some(tauri_plugin_storage_sync::Queue::Every), ..EnqueueOptions::default() };
            let options = EnqueueOptions { key: Some(format!("thing {number}")), ..options };
            let id = device.enqueue_with(kind, json!({ "by": user, "n": roll(1000) }), options).await;
            promised.insert(id, user);
        }
        (9..=12, _) => sign_in(device, backend, USERS[which]).await,
        (13, _) => device.outbox.set_account(USERS[which]).await.unwrap(),
        (14, Some(user)) => {
            let leftover = if number == 0 { Leftover::Flush } else { Leftover::Keep };
            let forget = |account: &str| device.credentials.clear(account);
            let done = device.outbox.sign_out(leftover, Some(Duration::from_millis(20)), forget).await.unwrap();
            assert_eq!(done.account, user);
        }
        (15, _) => accept(backend, if number == 0 { &USERS[..2] } else { &USERS }),
        (16, _) => drop(backend.misbehave(Rule::drop_after().times(2))),
        (17, _) => drop(backend.misbehave(Rule::drop_before().times(2))),
        (18, _) => drop(backend.misbehave(Rule::slow(Duration::from_millis(5)).times(3))),
        (19, _) => drop(backend.misbehave(Rule::status(503).times(1))),
        _ => {}
    }
}

/// `STORAGE_SYNC_HISTORIES` and `STORAGE_SYNC_SEED` run more of them, or one again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_signs_in_and_out_everything_is_sent_once_and_in_its_own_name() {
    let first = seed();
    for n in 0..number("STORAGE_SYNC_HISTORIES", 6) {
        let mut dice = first.wrapping_add(n);
        println!("STORAGE_SYNC_HISTORIES=1 STORAGE_SYNC_SEED={dice}");
        let (backend, folder) = (backend().await, tempfile::tempdir().unwrap());
        accept(&backend, &["ada", "eve", "joe"]);
        let device = Setup::new(folder.path(), impatient(&backend)).start().await;
        let mut promised = BTreeMap::new();
        sign_in(&device, &backend, "ada").await;
        for _ in 0..150 {
            step(&device, &backend, &mut dice, &mut promised).await;
        }
        backend.behave();
        accept(&backend, &["ada", "eve", "joe"]);
        for user in ["ada", "eve", "joe"] {
            sign_in(&device, &backend, user).await;
            // Tokens that are refused, accepted and refused again may fail an entry for good.
            device.outbox.retry(Selection::Filter(Default::default()), true).await.unwrap();
            device.until_counted(|counts| counts.pending + counts.inflight == 0).await;
            assert_eq!(device.outbox.status().await.unwrap().counts.failed, 0);
        }
        for (id, user) in &promised {
            assert_eq!(times_applied(&backend, *id), 1, "{id} of {user}");
            let others: Vec<_> = senders(&backend, *id).into_iter().flatten().filter(|sender| sender != user).collect();
            assert!(others.is_empty(), "{id} of {user} was sent by {others:?}");
        }
        println!("{} entries, {} requests", promised.len(), backend.world(|world| world.received()));
        device.stop().await;
    }
}
