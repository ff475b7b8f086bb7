//! Against gnome-keyring, each test in a session of its own.

use std::time::Duration;

use tauri_plugin_storage_sync::{
    entry::KeyState,
    error::Error,
    keychain::system_keychain,
    testing::{
        cipher::KeyId,
        triggers::keychain,
        wake::{Wake, WakeSignal},
    },
};

use super::session::{in_session, moved, wait_for};

/// The service of all items of the app.
const SERVICE: &str = "org.example.app.storage-sync";

async fn woken(wake: &WakeSignal) {
    let woken = async { while !wake.wait().await.has(Wake::Keychain) {} };
    tokio::time::timeout(Duration::from_secs(60), woken).await.expect("nothing woke the engine");
}

/// Listens, and has forgotten what came while it began to.
async fn listening() -> WakeSignal {
    let wake = WakeSignal::default();
    keychain::spawn(wake.clone());
    woken(&wake).await;
    wake
}

#[test]
fn the_first_run_generates_a_key_and_another_process_loads_the_same() {
    in_session("secret_service::the_first_run_generates_a_key_and_another_process_loads_the_same", async |session| {
        let _service = session.unlocked_service().await;
        let key = session.folder.get(&session.folder.app()).await.unwrap();
        assert_eq!(session.folder.id(""), Some(key.id()));
        wait_for(session.folder.child("load").spawn().unwrap());
        assert_eq!(session.folder.answer("load"), format!("{:?}", key.id()));
        // As a person who makes a backup finds it: 32 bytes in base64.
        let text = session.look_up(SERVICE, &session.item()).unwrap();
        assert!(text.len() == 44 && text.ends_with('='), "{} characters", text.len());
    });
}

#[test]
fn the_key_outlives_the_service() {
    in_session("secret_service::the_key_outlives_the_service", async |session| {
        let service = session.unlocked_service().await;
        let key = session.folder.get(&session.folder.app()).await.unwrap();
        session.end(service).await;
        let keys = session.folder.app();
        assert!(matches!(session.folder.get(&keys).await, Err(Error::KeychainUnavailable(_))));
        let _service = session.unlocked_service().await;
        // The same object as before the restart: no connection or session of the old service is kept.
        assert_eq!(session.folder.get(&keys).await.unwrap().id(), key.id());
    });
}

#[test]
fn locked_at_the_start_waits_and_the_unlocking_wakes() {
    in_session("secret_service::locked_at_the_start_waits_and_the_unlocking_wakes", async |session| {
        let service = session.unlocked_service().await;
        let key = session.folder.get(&session.folder.app()).await.unwrap();
        session.end(service).await;
        let _service = session.locked_service().await;
        let keys = session.folder.app();
        for _ in 0..2 {
            assert!(matches!(session.folder.get(&keys).await, Err(Error::KeychainLocked)));
            assert_eq!(keys.state("").state, KeyState::Locked);
        }
        let wake = listening().await;
        session.unlock().await;
        woken(&wake).await;
        assert_eq!(session.folder.get(&keys).await.unwrap().id(), key.id());
        assert_eq!(keys.state("").state, KeyState::Ready);
    });
}

#[test]
fn a_refused_prompt_does_not_wake_the_engine_for_ever() {
    in_session("secret_service::a_refused_prompt_does_not_wake_the_engine_for_ever", async |session| {
        let service = session.unlocked_service().await;
        session.folder.get(&session.folder.app()).await.unwrap();
        session.end(service).await;
        let _service = session.locked_service().await;
        let (keys, wake) = (session.folder.app(), listening().await);
        // As the engine does: asks at every wake. Were each refusal to wake it again, this would never be quiet.
        let mut looks = 0;
        loop {
            assert!(matches!(session.folder.get(&keys).await, Err(Error::KeychainLocked)));
            looks += 1;
            assert!(looks < 10, "asking wakes the one who asks");
            if tokio::time::timeout(Duration::from_secs(1), woken(&wake)).await.is_err() {
                break;
            }
        }
    });
}

#[test]
fn locked_in_mid_run_keeps_the_cached_key_working() {
    in_session("secret_service::locked_in_mid_run_keeps_the_cached_key_working", async |session| {
        let _service = session.unlocked_service().await;
        let keys = session.folder.app();
        let key = session.folder.get(&keys).await.unwrap();
        session.lock().await;
        assert_eq!(session.folder.get(&keys).await.unwrap().id(), key.id());
        assert_eq!(keys.state("").state, KeyState::Ready);
        let newcomer = session.folder.app();
        assert!(matches!(session.folder.get(&newcomer).await, Err(Error::KeychainLocked)));
        session.unlock().await;
        assert_eq!(session.folder.get(&newcomer).await.unwrap().id(), key.id());
    });
}

#[test]
fn a_first_run_at_a_locked_collection_generates_after_the_unlocking_only() {
    in_session(
        "secret_service::a_first_run_at_a_locked_collection_generates_after_the_unlocking_only",
        async |session| {
            let _service = session.unlocked_service().await;
            session.lock().await;
            let keys = session.folder.app();
            assert!(matches!(session.folder.get(&keys).await, Err(Error::KeychainLocked)));
            assert_eq!(session.folder.id(""), None);
            session.unlock().await;
            assert_eq!(session.look_up(SERVICE, &session.item()), None);
            let key = session.folder.get(&keys).await.unwrap();
            assert_eq!(session.folder.id(""), Some(key.id()));
        },
    );
}

#[test]
fn a_locked_collection_without_the_item_is_locked_and_not_missing() {
    in_session("secret_service::a_locked_collection_without_the_item_is_locked_and_not_missing", async |session| {
        let _service = session.unlocked_service().await;
        session.lock().await;
        session.folder.written_with(KeyId([7; 16]));
        let keys = session.folder.app();
        assert!(matches!(session.folder.get(&keys).await, Err(Error::KeychainLocked)));
        session.unlock().await;
        assert!(matches!(session.folder.get(&keys).await, Err(Error::KeyMissing)));
    });
}

#[test]
fn a_first_run_without_any_collection_asks_and_keeps_nothing_when_refused() {
    in_session(
        "secret_service::a_first_run_without_any_collection_asks_and_keeps_nothing_when_refused",
        async |session| {
            let _service = session.locked_service().await;
            assert_eq!(session.locked().await, None);
            let keys = session.folder.app();
            assert!(matches!(session.folder.get(&keys).await, Err(Error::KeychainLocked)));
            assert_eq!(session.folder.id(""), None);
        },
    );
}

#[test]
fn no_service_is_unavailable_and_its_coming_wakes() {
    in_session("secret_service::no_service_is_unavailable_and_its_coming_wakes", async |session| {
        let keys = session.folder.app();
        assert!(matches!(session.folder.get(&keys).await, Err(Error::KeychainUnavailable(_))));
        assert_eq!(keys.state("").state, KeyState::Unavailable);
        let wake = listening().await;
        let _service = session.unlocked_service().await;
        woken(&wake).await;
        session.folder.get(&keys).await.unwrap();
    });
}

#[test]
fn no_bus_is_unavailable_and_listening_ends_quietly() {
    in_session("secret_service::no_bus_is_unavailable_and_listening_ends_quietly", async |session| {
        let nowhere = [("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent/bus")];
        wait_for(session.folder.child("listen").envs(nowhere).spawn().unwrap());
        assert_eq!(session.folder.answer("listen"), "keychain_unavailable");
    });
}

#[test]
fn a_keyring_file_that_was_deleted_is_missing_and_never_a_new_key() {
    in_session("secret_service::a_keyring_file_that_was_deleted_is_missing_and_never_a_new_key", async |session| {
        let service = session.unlocked_service().await;
        let key = session.folder.get(&session.folder.app()).await.unwrap();
        session.end(service).await;
        let aside = moved(&session.keyring_file());
        let service = session.unlocked_service().await;
        let keys = session.folder.app();
        for _ in 0..2 {
            assert!(matches!(session.folder.get(&keys).await, Err(Error::KeyMissing)));
        }
        assert_eq!(keys.state("").state, KeyState::Missing);
        assert_eq!(session.look_up(SERVICE, &session.item()), None);
        assert_eq!(session.folder.id(""), Some(key.id()));
        // The backup comes back, and with it the key.
        session.end(service).await;
        std::fs::rename(aside, session.keyring_file()).unwrap();
        let _service = session.unlocked_service().await;
        assert_eq!(session.folder.get(&keys).await.unwrap().id(), key.id());
    });
}

#[test]
fn another_key_under_our_name_is_a_mismatch_and_stays() {
    in_session("secret_service::another_key_under_our_name_is_a_mismatch_and_stays", async |session| {
        let _service = session.unlocked_service().await;
        session.folder.get(&session.folder.app()).await.unwrap();
        let keychain = session.folder.keychain();
        std::thread::spawn(move || keychain.store("", &[7; 32]).unwrap()).join().unwrap();
        let theirs = session.look_up(SERVICE, &session.item());
        let keys = session.folder.app();
        assert!(matches!(session.folder.get(&keys).await, Err(Error::KeyMismatch)));
        assert_eq!(keys.state("").state, KeyState::Mismatch);
        assert_eq!(session.look_up(SERVICE, &session.item()), theirs);
    });
}

#[test]
fn an_item_that_is_no_key_is_not_overwritten() {
    in_session("secret_service::an_item_that_is_no_key_is_not_overwritten", async |session| {
        let _service = session.unlocked_service().await;
        session.put(SERVICE, &session.item(), "somebody's password");
        assert!(matches!(session.folder.get(&session.folder.app()).await, Err(Error::KeyMismatch)));
        assert_eq!(session.look_up(SERVICE, &session.item()).as_deref(), Some("somebody's password"));
    });
}

#[test]
fn two_processes_that_race_at_the_first_run_end_with_the_same_key() {
    in_session("secret_service::two_processes_that_race_at_the_first_run_end_with_the_same_key", async |session| {
        let _service = session.unlocked_service().await;
        let roles = ["load:1", "load:2", "load:3"];
        let children: Vec<_> = roles.iter().map(|role| session.folder.child(role).spawn().unwrap()).collect();
        children.into_iter().for_each(wait_for);
        for role in roles {
            assert_eq!(session.folder.answer(role), format!("{:?}", session.folder.id("").unwrap()));
        }
    });
}

#[test]
fn apps_and_accounts_have_keys_of_their_own() {
    in_session("secret_service::apps_and_accounts_have_keys_of_their_own", async |session| {
        let _service = session.unlocked_service().await;
        let keys = session.folder.app();
        let mut ids = Vec::new();
        for account in ["", "default", "ann"] {
            ids.push(session.folder.get_of(&keys, account).await.unwrap().id());
        }
        // Another app has a database of its own; what it finds in the keychain is not ours.
        let other = system_keychain("org.example.other", session.folder.path());
        let found = std::thread::spawn(move || other.load("").unwrap().is_some());
        assert!(!found.join().unwrap());
        ids.sort_by_key(|id| id.0);
        ids.dedup();
        assert_eq!(ids.len(), 3);
    });
}

#[test]
fn a_prompt_that_nobody_answers_is_given_up_and_opened_only_once() {
    in_session("secret_service::a_prompt_that_nobody_answers_is_given_up_and_opened_only_once", async |session| {
        let _service = session.unlocked_service().await;
        let key = session.folder.get(&session.folder.app()).await.unwrap();
        session.lock().await;
        let prompts = session.silent_prompter().await;
        let keys = session.folder.keys(session.folder.keychain(), Duration::from_secs(2));
        for _ in 0..3 {
            assert!(matches!(session.folder.get(&keys).await, Err(Error::KeychainLocked)));
            assert_eq!(keys.state("").state, KeyState::Locked);
        }
        assert_eq!(prompts.begun(), 1);
        // Unlocked in another way while the prompt is still open: the key is there, in time unless the machine is slow, and the service outlives it.
        session.unlock().await;
        let had = loop {
            match session.folder.get(&keys).await {
                Ok(key) => break key,
                Err(error) => assert!(matches!(error, Error::KeychainLocked), "{error}"),
            }
        };
        assert_eq!(had.id(), key.id());
        session.lock().await;
        let newcomer = session.folder.keys(session.folder.keychain(), Duration::from_secs(2));
        assert!(matches!(session.folder.get(&newcomer).await, Err(Error::KeychainLocked)));
    });
}

#[test]
fn a_refused_prompt_is_not_opened_again_at_once() {
    in_session("secret_service::a_refused_prompt_is_not_opened_again_at_once", async |session| {
        let _service = session.unlocked_service().await;
        let key = session.folder.get(&session.folder.app()).await.unwrap();
        session.lock().await;
        let (prompts, keys) = (session.refusing_prompter().await, session.folder.app());
        for _ in 0..5 {
            assert!(matches!(session.folder.get(&keys).await, Err(Error::KeychainLocked)));
        }
        assert_eq!(prompts.begun(), 1);
        // The refusal does not hide an unlocking.
        session.unlock().await;
        assert_eq!(session.folder.get(&keys).await.unwrap().id(), key.id());
    });
}

#[test]
fn an_unlocking_while_the_prompt_is_open_answers_the_one_who_waits() {
    in_session("secret_service::an_unlocking_while_the_prompt_is_open_answers_the_one_who_waits", async |session| {
        let _service = session.unlocked_service().await;
        let key = session.folder.get(&session.folder.app()).await.unwrap();
        session.lock().await;
        let prompts = session.silent_prompter().await;
        let keys = session.folder.keys(session.folder.keychain(), Duration::from_secs(3600));
        let unlocked = async {
            session.until("a prompt is open", async || prompts.begun() == 1).await;
            session.unlock().await;
        };
        let (waited, ()) = tokio::join!(session.folder.get(&keys), unlocked);
        assert_eq!(waited.unwrap().id(), key.id());
    });
}
