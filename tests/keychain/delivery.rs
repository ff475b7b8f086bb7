//! The whole plugin but for the window, with gnome-keyring as its keychain and the reference backend over HTTP.

use std::path::Path;

use serde_json::json;
use storage_sync_backend::Backend;
use tauri_plugin_storage_sync::{
    KeyState, WaitingFor,
    keychain::system_keychain,
    testing::{
        outbox::{CONFIRM, EnqueueOptions, Leftover, Payload},
        triggers::keychain,
    },
};
use uuid::Uuid;

use super::{
    child::APP,
    session::{Session, in_session, moved},
    support::{Device, Setup, backend, impatient},
};

/// The service under which all items of [`APP`] are.
pub const SERVICE: &str = "org.example.app.storage-sync";

pub fn folder(session: &Session, name: &str) -> std::path::PathBuf {
    session.folder.path().join(name)
}

fn setup(folder: &Path, backend: &Backend) -> Setup {
    let mut setup = Setup::new(folder, impatient(backend));
    setup.source = Some(system_keychain(APP, folder));
    setup
}

/// Delivers, and hears of the keychain as the plugin does.
pub async fn start(folder: &Path, backend: &Backend) -> Device {
    let device = setup(folder, backend).start().await;
    keychain::spawn(device.wake.clone());
    device
}

async fn refused(device: &Device) -> &'static str {
    let enqueued = device.outbox.enqueue("note", Payload::json(&1).unwrap(), EnqueueOptions::default()).await;
    enqueued.expect_err("it was enqueued").code()
}

pub async fn text_of(device: &Device, id: Uuid) -> String {
    match device.outbox.payload(id).await.expect("it is readable") {
        Payload::Json(text) => text.get().to_owned(),
        other => panic!("{other:?}"),
    }
}

fn waits(state: KeyState) -> WaitingFor {
    WaitingFor::Keychain { key: state }
}

#[test]
fn a_queue_behind_a_locked_keychain_goes_by_itself_once_that_is_unlocked() {
    in_session("delivery::a_queue_behind_a_locked_keychain_goes_by_itself_once_that_is_unlocked", async |session| {
        let (backend, folder) = (backend().await, folder(&session, "queue"));
        let _service = session.unlocked_service().await;
        backend.stop().await;
        let device = start(&folder, &backend).await;
        let first = device.enqueue("form", Some("a"), json!({})).await;
        // Locked in mid-run: the key is in memory, and nothing is held up.
        session.lock().await;
        let second = device.enqueue("form", Some("b"), json!({})).await;
        device.stop().await;

        backend.restart().await.unwrap();
        let device = start(&folder, &backend).await;
        for id in [first, second] {
            let entry = device.until(id, |entry| entry.waiting_for == Some(waits(KeyState::Locked))).await;
            assert_eq!(entry.attempts, 0);
        }
        assert_eq!(device.outbox.status().await.unwrap().key.state, KeyState::Locked);
        assert_eq!(refused(&device).await, "keychain_locked");
        assert_eq!(backend.world(|world| world.received()), 0);
        session.unlock().await;
        for id in [first, second] {
            device.acked(id).await;
        }
        device.stop().await;
    });
}

#[test]
fn a_queue_without_a_service_goes_by_itself_once_that_is_there() {
    in_session("delivery::a_queue_without_a_service_goes_by_itself_once_that_is_there", async |session| {
        let (backend, folder) = (backend().await, folder(&session, "queue"));
        let service = session.unlocked_service().await;
        backend.stop().await;
        let device = setup(&folder, &backend).open().await;
        let id = device.enqueue("form", Some("a"), json!({})).await;
        device.stop().await;
        session.end(service).await;
        backend.restart().await.unwrap();
        let device = start(&folder, &backend).await;
        device.until(id, |entry| entry.waiting_for == Some(waits(KeyState::Unavailable))).await;
        assert_eq!(refused(&device).await, "keychain_unavailable");
        let _service = session.unlocked_service().await;
        device.acked(id).await;
        device.stop().await;
    });
}

#[test]
fn a_queue_whose_keyring_was_deleted_keeps_everything_and_begins_anew_only_when_told_to() {
    in_session(
        "delivery::a_queue_whose_keyring_was_deleted_keeps_everything_and_begins_anew_only_when_told_to",
        async |session| {
            let (backend, queue) = (backend().await, folder(&session, "queue"));
            let service = session.unlocked_service().await;
            let device = setup(&queue, &backend).open().await;
            let id = device.enqueue("form", Some("a"), json!({ "title": "a house" })).await;
            device.stop().await;
            session.end(service).await;
            let aside = moved(&session.keyring_file());
            let service = session.unlocked_service().await;
            let device = start(&queue, &backend).await;
            device.until(id, |entry| entry.waiting_for == Some(waits(KeyState::Missing))).await;
            assert_eq!(refused(&device).await, "key_missing");
            assert_eq!(device.outbox.reset_encrypted_data("yes").await.unwrap_err().code(), "invalid_argument");
            assert_eq!(session.look_up_any(SERVICE), None, "no key was made");

            let done = device.outbox.reset_encrypted_data(CONFIRM).await.unwrap();
            assert_eq!(done.given_up, 1);
            assert_eq!(device.outbox.get(id).await.unwrap_err().code(), "not_found");
            let new = device.enqueue("form", Some("a"), json!({ "title": "anew" })).await;
            device.acked(new).await;
            assert!(session.look_up_any(SERVICE).is_some());
            assert_eq!(device.outbox.reset_encrypted_data(CONFIRM).await.unwrap_err().code(), "wrong_state");
            device.stop().await;

            // The backup turns up: what was given up is readable where it was kept.
            session.end(service).await;
            std::fs::rename(aside, session.keyring_file()).unwrap();
            let _service = session.unlocked_service().await;
            let found = folder(&session, "found");
            std::fs::create_dir(&found).unwrap();
            std::fs::copy(&done.file, found.join("outbox.db")).unwrap();
            if let Ok(installation) = std::fs::read(queue.join("installation")) {
                std::fs::write(found.join("installation"), installation).unwrap();
            }
            let device = setup(&found, &backend).open().await;
            assert_eq!(text_of(&device, id).await, r#"{"title":"a house"}"#);
            device.stop().await;
        },
    );
}

#[test]
fn a_queue_that_does_not_know_which_items_are_its_own_waits_and_makes_no_key_until_it_knows_again() {
    in_session(
        "delivery::a_queue_that_does_not_know_which_items_are_its_own_waits_and_makes_no_key_until_it_knows_again",
        async |session| {
            let (backend, queue) = (backend().await, folder(&session, "queue"));
            let _service = session.unlocked_service().await;
            backend.stop().await;
            let device = setup(&queue, &backend).open().await;
            let id = device.enqueue("form", Some("a"), json!({ "title": "a house" })).await;
            device.stop().await;
            backend.restart().await.unwrap();
            let file = queue.join("installation");
            let written = std::fs::read(&file).unwrap();
            let key = session.look_up_any(SERVICE);
            for (damaged, state, code) in [
                (None, KeyState::Missing, "key_missing"),
                (Some(vec![0; written.len()]), KeyState::Unavailable, "keychain_unavailable"),
            ] {
                match &damaged {
                    None => std::fs::remove_file(&file).unwrap(),
                    Some(bytes) => std::fs::write(&file, bytes).unwrap(),
                }
                let device = start(&queue, &backend).await;
                device.until(id, |entry| entry.waiting_for == Some(waits(state))).await;
                assert_eq!(refused(&device).await, code);
                if damaged.is_some() {
                    // Nothing is given up whose key is only not found.
                    let reset = device.outbox.reset_encrypted_data(CONFIRM).await.unwrap_err();
                    assert!(reset.code() == code && reset.to_string().contains("backup"), "{reset}");
                    // Nor is a key made for somebody who has none yet: under another id nothing of the others would be found any more.
                    device.outbox.set_account("eve").await.unwrap();
                    assert_eq!(refused(&device).await, code);
                    device.outbox.set_account("").await.unwrap();
                }
                device.stop().await;
                assert_eq!(std::fs::read(&file).ok(), damaged, "it is left as it was found");
                assert_eq!((session.items(SERVICE), session.look_up_any(SERVICE)), (1, key.clone()), "no key was made");
            }
            // Back from a backup.
            std::fs::write(&file, &written).unwrap();
            let device = start(&queue, &backend).await;
            device.acked(id).await;
            assert_eq!(device.outbox.status().await.unwrap().key.state, KeyState::Ready);
            device.stop().await;
        },
    );
}

#[test]
fn each_account_has_an_item_of_its_own_and_a_sign_out_that_discards_deletes_that_one() {
    in_session(
        "delivery::each_account_has_an_item_of_its_own_and_a_sign_out_that_discards_deletes_that_one",
        async |session| {
            let (backend, folder) = (backend().await, folder(&session, "queue"));
            let _service = session.unlocked_service().await;
            backend.stop().await;
            let device = start(&folder, &backend).await;
            let mut ids = Vec::new();
            for account in ["ada", "eve"] {
                device.outbox.set_account(account).await.unwrap();
                ids.push(device.enqueue("form", Some("a"), json!({ "by": account })).await);
            }
            assert_eq!(session.items(SERVICE), 2);
            device.outbox.set_account("ada").await.unwrap();
            let done = device.outbox.sign_out(Leftover::Discard, None, |_| {}).await.unwrap();
            assert!(done.finished && done.discarded == 1, "{done:?}");
            assert_eq!(session.items(SERVICE), 1);
            device.outbox.set_account("eve").await.unwrap();
            assert_eq!(text_of(&device, ids[1]).await, r#"{"by":"eve"}"#);
            device.stop().await;
        },
    );
}

#[test]
fn a_key_that_a_locked_keychain_would_not_delete_goes_once_it_is_unlocked() {
    in_session("delivery::a_key_that_a_locked_keychain_would_not_delete_goes_once_it_is_unlocked", async |session| {
        let (backend, folder) = (backend().await, folder(&session, "queue"));
        let service = session.unlocked_service().await;
        let device = setup(&folder, &backend).open().await;
        device.outbox.set_account("ada").await.unwrap();
        device.enqueue("form", Some("a"), json!({})).await;
        device.stop().await;
        session.end(service).await;
        let _service = session.locked_service().await;
        let device = start(&folder, &backend).await;
        let done = device.outbox.sign_out(Leftover::Discard, None, |_| {}).await.unwrap();
        assert!(!done.finished && done.discarded == 1, "{done:?}");
        device.outbox.set_account("eve").await.unwrap();
        assert_eq!(refused(&device).await, "keychain_locked");
        session.unlock().await;
        let left = async || device.store.leaving().await.unwrap().is_empty();
        session.until("the key is gone", left).await;
        assert_eq!(session.items(SERVICE), 0, "nor has anybody asked for another one");
        device.enqueue("note", None, json!({})).await;
        assert_eq!(session.items(SERVICE), 1);
        device.stop().await;
    });
}

#[test]
fn a_key_that_is_not_found_by_its_name_is_not_taken_for_deleted_and_goes_once_its_name_is_known_again() {
    in_session(
        "delivery::a_key_that_is_not_found_by_its_name_is_not_taken_for_deleted_and_goes_once_its_name_is_known_again",
        async |session| {
            let (backend, folder) = (backend().await, folder(&session, "queue"));
            let _service = session.unlocked_service().await;
            backend.stop().await;
            let device = start(&folder, &backend).await;
            device.outbox.set_account("ada").await.unwrap();
            device.enqueue("form", Some("a"), json!({})).await;
            let file = folder.join("installation");
            let written = std::fs::read(&file).unwrap();
            std::fs::write(&file, vec![0; written.len()]).unwrap();
            let done = device.outbox.sign_out(Leftover::Discard, None, |_| {}).await.unwrap();
            assert!(!done.finished && done.discarded == 1, "{done:?}");
            device.stop().await;
            std::fs::write(&file, written).unwrap();
            assert_eq!(session.items(SERVICE), 1);
            let device = start(&folder, &backend).await;
            device.outbox.resume_leaving();
            let left = async || device.store.leaving().await.unwrap().is_empty();
            session.until("the key is gone", left).await;
            assert_eq!(session.items(SERVICE), 0);
            device.stop().await;
        },
    );
}

#[test]
fn two_installations_of_one_app_do_not_take_each_others_keys() {
    in_session("delivery::two_installations_of_one_app_do_not_take_each_others_keys", async |session| {
        let backend = backend().await;
        let _service = session.unlocked_service().await;
        backend.stop().await;
        let (here, there) = (folder(&session, "here"), folder(&session, "there"));
        let device = setup(&here, &backend).start().await;
        let id = device.enqueue("form", Some("a"), json!({ "at": "here" })).await;
        let other = setup(&there, &backend).start().await;
        let same = other.enqueue("form", Some("a"), json!({ "at": "there" })).await;
        // Whatever one does with its key, the other one keeps its own.
        assert!(other.rotated().await.finished);
        other.stop().await;
        let other = setup(&there, &backend).start().await;
        assert_eq!(text_of(&other, same).await, r#"{"at":"there"}"#);
        assert!(other.outbox.sign_out(Leftover::Discard, None, |_| {}).await.unwrap().finished);
        device.stop().await;
        let device = setup(&here, &backend).open().await;
        assert_eq!(text_of(&device, id).await, r#"{"at":"here"}"#);
        device.stop().await;
        other.stop().await;
    });
}
