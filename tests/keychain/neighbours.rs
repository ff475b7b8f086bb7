//! One keychain, and queues that are not each other's: other apps, and other installations of the same app.

use std::path::PathBuf;

use serde_json::json;
use storage_sync_backend::Backend;
use tauri_plugin_storage_sync::{
    KeyState, WaitingFor,
    keychain::system_keychain,
    testing::{
        outbox::{CONFIRM, Leftover},
        triggers::keychain,
    },
};
use uuid::Uuid;

use super::{
    child::APP,
    delivery::{folder, text_of},
    session::{Session, in_session},
    support::{Device, Setup, backend, impatient, times_applied},
};

/// Another app.
const OTHER: &str = "org.example.other";

/// An app in a data folder.
struct Installed<'b> {
    identifier: &'static str,
    folder: PathBuf,
    backend: &'b Backend,
}

impl Installed<'_> {
    async fn start(&self) -> Device {
        let mut setup = Setup::new(&self.folder, impatient(self.backend));
        setup.source = Some(system_keychain(self.identifier, &self.folder));
        let device = setup.start().await;
        keychain::spawn(device.wake.clone());
        device
    }

    fn service(&self) -> String {
        format!("{}.storage-sync", self.identifier)
    }

    /// What the keychain holds for this one.
    fn key(&self, session: &Session, account: &str) -> Option<String> {
        let installation = std::fs::read_to_string(self.folder.join("installation")).ok()?;
        let named = if account.is_empty() { "default".to_owned() } else { format!("account/{account}") };
        session.look_up(&self.service(), &format!("{named}@{}", installation.trim()))
    }
}

/// What one has queued, while it was paused.
async fn queued(device: &Device, of: &str, account: &str) -> Vec<(Uuid, String)> {
    device.outbox.set_account(account).await.unwrap();
    device.outbox.pause().await.unwrap();
    let mut ids = Vec::new();
    for n in 0..5 {
        let value = json!({ "of": of, "by": account, "n": n });
        ids.push((device.enqueue("note", None, value.clone()).await, value.to_string()));
    }
    ids
}

async fn reads_all(device: &Device, account: &str, queued: &[(Uuid, String)]) {
    device.outbox.set_account(account).await.unwrap();
    for (id, text) in queued {
        assert_eq!(text_of(device, *id).await, *text);
    }
}

/// One does everything that there is to do with a key: the other one reads and delivers all the same, also after a restart.
async fn do_not_disturb_each_other(session: &Session, one: Installed<'_>, other: Installed<'_>, backend: &Backend) {
    let _service = session.unlocked_service().await;
    let (device, neighbour) = (one.start().await, other.start().await);
    let destroyed = queued(&device, "one", "ada").await;
    let lost = queued(&device, "one", "").await;
    let (adas, own) = (queued(&neighbour, "other", "ada").await, queued(&neighbour, "other", "").await);
    let keys = || ["", "ada"].map(|account| other.key(session, account).expect("it has a key"));
    let before = keys();
    for (account, key) in ["", "ada"].into_iter().zip(&before) {
        assert_ne!(one.key(session, account).as_ref(), Some(key), "each has a key of its own");
    }
    let stays = async |neighbour: &Device, what: &str| {
        assert_eq!(keys(), before, "{what}: the other's keys are not touched");
        reads_all(neighbour, "ada", &adas).await;
        reads_all(neighbour, "", &own).await;
    };
    let anew = async |neighbour: Device, what: &str| {
        stays(&neighbour, what).await;
        neighbour.stop().await;
        let neighbour = other.start().await;
        stays(&neighbour, what).await;
        neighbour
    };

    let key = one.key(session, "");
    assert!(device.rotated().await.finished);
    assert_ne!(one.key(session, ""), key, "it was rotated");
    let neighbour = anew(neighbour, "a rotation").await;
    reads_all(&device, "", &lost).await;

    device.outbox.set_account("ada").await.unwrap();
    let done = device.outbox.sign_out(Leftover::Discard, None, |_| {}).await.unwrap();
    assert!(done.finished && done.discarded == 5, "{done:?}");
    assert_eq!(one.key(session, "ada"), None, "it was destroyed");
    assert_eq!(device.outbox.payload(destroyed[0].0).await.unwrap_err().code(), "not_found");
    let neighbour = anew(neighbour, "a sign-out").await;

    // Its own key is lost, and nobody else's.
    device.stop().await;
    let user = format!("default@{}", std::fs::read_to_string(one.folder.join("installation")).unwrap().trim());
    session.clear_one(&one.service(), &user);
    let device = one.start().await;
    let missing = WaitingFor::Keychain { key: KeyState::Missing };
    device.outbox.resume().await.unwrap();
    device.until(lost[0].0, |entry| entry.waiting_for.as_ref() == Some(&missing)).await;
    assert_eq!(device.outbox.reset_encrypted_data(CONFIRM).await.unwrap().given_up, 5);
    let neighbour = anew(neighbour, "a reset").await;

    // Each delivers its own, once.
    let new = device.enqueue("note", None, json!({ "of": "one", "anew": true })).await;
    device.acked(new).await;
    neighbour.outbox.resume().await.unwrap();
    for (account, queued) in [("", &own), ("ada", &adas)] {
        neighbour.outbox.set_account(account).await.unwrap();
        for (id, _) in queued {
            neighbour.acked(*id).await;
            assert_eq!(times_applied(backend, *id), 1);
        }
    }
    assert_eq!(keys(), before);
    let bodies: Vec<_> = backend.mutations().iter().map(|mutation| mutation.idempotency_key.clone()).collect();
    assert_eq!(bodies.len(), 11, "ten of the one, and one of the other, which gave up the rest: {bodies:?}");
    device.stop().await;
    neighbour.stop().await;
}

#[test]
fn what_one_app_does_with_its_keys_changes_nothing_for_another_app_beside_the_same_keychain() {
    in_session(
        "neighbours::what_one_app_does_with_its_keys_changes_nothing_for_another_app_beside_the_same_keychain",
        async |session| {
            let backend = backend().await;
            let one = Installed { identifier: APP, folder: folder(&session, "one"), backend: &backend };
            let other = Installed { identifier: OTHER, folder: folder(&session, "other"), backend: &backend };
            do_not_disturb_each_other(&session, one, other, &backend).await;
        },
    );
}

#[test]
fn what_one_installation_does_with_its_keys_changes_nothing_for_another_installation_of_the_same_app() {
    in_session(
        "neighbours::what_one_installation_does_with_its_keys_changes_nothing_for_another_installation_of_the_same_app",
        async |session| {
            let backend = backend().await;
            let one = Installed { identifier: APP, folder: folder(&session, "here"), backend: &backend };
            let other = Installed { identifier: APP, folder: folder(&session, "there"), backend: &backend };
            do_not_disturb_each_other(&session, one, other, &backend).await;
        },
    );
}
