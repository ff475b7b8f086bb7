//! Credentials are asked for when they are needed, and what waited for them goes on by itself.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures_util::FutureExt as _;
use serde_json::json;
use storage_sync_backend::{Backend, Rule};
use tauri_plugin_storage_sync::{
    Entry, State, WaitingFor,
    testing::{
        keychain::testing::Mood,
        outbox::Leftover,
        transport::credentials::{AuthProvider, AuthRequest},
        wake::Wake,
    },
};

use crate::support::{ManualClock, Setup, backend, config, impatient};

fn bearer(token: &str) -> Vec<(String, String)> {
    vec![("Authorization".into(), format!("Bearer {token}"))]
}

fn accepts(token: &str) -> Option<BTreeMap<String, String>> {
    Some(BTreeMap::from([(token.to_owned(), "ada".to_owned())]))
}

#[tokio::test]
async fn expired_credentials_hold_the_queue_and_new_ones_release_it() {
    let folder = tempfile::tempdir().unwrap();
    let backend = backend().await;
    backend.accept_tokens(accepts("new"));
    let device = Setup::new(folder.path(), impatient(&backend)).start().await;
    device.credentials.set("", &backend.url(), bearer("old")).unwrap();
    let mut ids = Vec::new();
    for number in 0..50 {
        ids.push(device.enqueue("form", Some(&number.to_string()), json!({})).await);
    }
    let auth = WaitingFor::Auth { origin: backend.url() };
    for id in &ids {
        // A second lane asks once more, after a backoff of its own: an entry may be under way when it is looked at first.
        let waits = |entry: &Entry| entry.state == State::Pending && entry.waiting_for.as_ref() == Some(&auth);
        let entry = device.until(*id, waits).await;
        assert_eq!(entry.attempts, 0, "{entry:#?}");
    }
    let received = backend.world(|world| world.received());
    assert!(received <= 10, "{received} requests with refused credentials");
    device.credentials.set("", &backend.url(), bearer("new")).unwrap();
    device.wake.wake(Wake::Credentials);
    for id in ids {
        device.acked(id).await;
    }
    assert!(backend.mutations().iter().all(|mutation| mutation.user.as_deref() == Some("ada")));
    device.stop().await;
}

struct Rotating {
    asked: AtomicUsize,
    rejected: AtomicUsize,
}

impl AuthProvider for Rotating {
    fn headers(
        &self,
        ask: AuthRequest,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<(String, String)>, String>> + Send + '_>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.rejected.fetch_add(usize::from(ask.rejected), Ordering::SeqCst);
        let token = if self.rejected.load(Ordering::SeqCst) > 0 { "new" } else { "old" };
        Box::pin(async move { Ok(bearer(token)) })
    }
}

#[tokio::test]
async fn a_provider_is_asked_once_for_new_credentials_however_many_entries_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let backend = backend().await;
    backend.accept_tokens(accepts("old"));
    let provider = Arc::new(Rotating { asked: AtomicUsize::new(0), rejected: AtomicUsize::new(0) });
    let mut setup = Setup::new(folder.path(), impatient(&backend));
    setup.auth = Some(Arc::clone(&provider) as _);
    let device = setup.start().await;
    for number in 0..20 {
        let id = device.enqueue("form", Some(&number.to_string()), json!({})).await;
        device.acked(id).await;
    }
    backend.accept_tokens(accepts("new"));
    let mut ids = Vec::new();
    for number in 0..50 {
        ids.push(device.enqueue("form", Some(&number.to_string()), json!({ "second": true })).await);
    }
    for id in ids {
        device.acked(id).await;
    }
    assert_eq!(provider.rejected.load(Ordering::SeqCst), 1, "single flight");
    device.stop().await;
}

#[tokio::test]
async fn delivery_waits_for_a_locked_keychain_and_goes_on_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let backend = backend().await;
    let (clock, keys) = (ManualClock::new(), tauri_plugin_storage_sync::testing::keychain::testing::MemoryKeys::new());
    let setup = || Setup::new(folder.path(), config(&backend)).stopped(&clock).keys(&keys);
    let device = setup().open().await;
    let id = device.enqueue("form", Some("a"), json!({})).await;
    device.stop().await;

    for mood in [Mood::Locked, Mood::Unavailable] {
        keys.set(mood);
        let device = setup().start().await;
        device.until(id, |entry| matches!(entry.waiting_for, Some(WaitingFor::Keychain { .. }))).await;
        assert_eq!(backend.world(|world| world.received()), 0);
        device.stop().await;
    }
    let device = setup().start().await;
    device.until(id, |entry| matches!(entry.waiting_for, Some(WaitingFor::Keychain { .. }))).await;
    keys.set(Mood::Open);
    device.wake.wake(Wake::Keychain);
    device.acked(id).await;
    device.stop().await;
}

#[tokio::test]
async fn a_late_refusal_of_old_credentials_does_not_hold_the_new_ones() {
    let (backend, folder) = (backend().await, tempfile::tempdir().unwrap());
    backend.accept_tokens(accepts("old"));
    let device = Setup::new(folder.path(), impatient(&backend)).start().await;
    device.credentials.set("", &backend.url(), bearer("old")).unwrap();
    for n in 0..3 {
        let id = device.enqueue("form", Some("warm-up"), json!({ "n": n })).await;
        device.acked(id).await;
    }
    backend.accept_tokens(accepts("new"));
    let gate = backend.hold(Rule::hold().key("late"));
    let late = device.enqueue("form", Some("late"), json!({})).await;
    gate.holds(1).await;
    device.credentials.set("", &backend.url(), bearer("new")).unwrap();
    device.wake.wake(Wake::Credentials);
    let id = device.enqueue("form", Some("a"), json!({})).await;
    device.acked(id).await;
    // The old ones are refused now.
    gate.open();
    device.acked(late).await;
    let id = device.enqueue("form", Some("b"), json!({})).await;
    device.acked(id).await;
    assert_eq!(backend.world(|world| world.answered(401)), 1, "new credentials were held back, or refused");
    device.stop().await;
}

#[tokio::test]
async fn late_refusals_of_several_old_credentials_do_not_hold_the_newest() {
    let (backend, folder) = (backend().await, tempfile::tempdir().unwrap());
    backend.accept_tokens(accepts("oldest"));
    let device = Setup::new(folder.path(), impatient(&backend)).start().await;
    let give = |token: &str| {
        device.credentials.set("", &backend.url(), bearer(token)).unwrap();
        device.wake.wake(Wake::Credentials);
    };
    give("oldest");
    for n in 0..3 {
        let id = device.enqueue("form", Some("warm-up"), json!({ "n": n })).await;
        device.acked(id).await;
    }
    let mut asked = device.board.auth_required();
    backend.accept_tokens(accepts("newest"));
    let gates = ["a", "b"].map(|key| (key, backend.hold(Rule::hold().key(key))));
    let mut late = Vec::new();
    for ((key, gate), next) in gates.iter().zip(["older", "newest"]) {
        late.push(device.enqueue("form", Some(key), json!({})).await);
        gate.holds(1).await;
        give(next);
    }
    // Both are refused now, each with credentials of its own.
    gates.iter().for_each(|(_, gate)| gate.open());
    late.push(device.enqueue("form", Some("c"), json!({})).await);
    for id in late {
        device.acked(id).await;
    }
    assert!(asked.try_recv().is_err(), "somebody was asked to sign in although the newest were never refused");
    assert_eq!(backend.world(|world| world.answered(401)), 2);
    device.stop().await;
}

#[tokio::test]
async fn credentials_replace_no_header_that_the_author_wrote() {
    let (backend, folder) = (backend().await, tempfile::tempdir().unwrap());
    let mut config = impatient(&backend);
    config["endpoints"]["form"]["headers"] = json!({ "X-Tenant": "a" });
    let device = Setup::new(folder.path(), config).start().await;
    let mut headers = bearer("token");
    headers.push(("x-tenant".into(), "b".into()));
    device.credentials.set("", &backend.url(), headers).unwrap();
    let id = device.enqueue("form", Some("a"), json!({})).await;
    device.acked(id).await;
    let request = backend.requests().remove(0);
    assert_eq!((request.header("x-tenant"), request.header("authorization")), (Some("a"), Some("Bearer token")));
    device.stop().await;
}

struct Ready;

impl AuthProvider for Ready {
    fn headers(
        &self,
        _: AuthRequest,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<(String, String)>, String>> + Send + '_>> {
        Box::pin(async { Ok(bearer("token")) })
    }
}

#[tokio::test]
async fn credentials_that_were_asked_for_while_their_account_left_are_forgotten_too() {
    let (backend, folder) = (backend().await, tempfile::tempdir().unwrap());
    let mut setup = Setup::new(folder.path(), impatient(&backend));
    setup.auth = Some(Arc::new(Ready));
    let device = setup.start().await;
    device.outbox.set_account("ada").await.unwrap();
    let first = AtomicUsize::new(0);
    let forget = |account: &str| {
        device.credentials.forget(account);
        if first.fetch_add(1, Ordering::SeqCst) == 0 {
            // As an attempt does that had just begun.
            let asking = std::pin::pin!(device.credentials.get(account, &backend.url())).now_or_never();
            assert!(asking.expect("it is ready").is_ok());
        }
    };
    device.outbox.sign_out(Leftover::Keep, None, forget).await.unwrap();
    assert_eq!(device.credentials.version("ada", &backend.url()), 0, "they outlive the sign-out");
    device.stop().await;
}

#[tokio::test]
async fn credentials_of_one_origin_go_to_no_other() {
    let (here, there, folder) = (backend().await, backend().await, tempfile::tempdir().unwrap());
    let mut config = impatient(&here);
    config["endpoints"]["there"] = json!({ "method": "PUT", "url": format!("{}/forms/{{key}}", there.url()) });
    let device = Setup::new(folder.path(), config).start().await;
    device.credentials.set("", &here.url(), bearer("secret of here")).unwrap();
    for kind in ["form", "there"] {
        let id = device.enqueue(kind, Some("a"), json!({})).await;
        device.acked(id).await;
    }
    let sent = |backend: &Backend| backend.requests()[0].header("authorization").map(str::to_owned);
    assert_eq!(sent(&here).as_deref(), Some("Bearer secret of here"));
    assert_eq!(sent(&there), None);
    device.stop().await;
}
