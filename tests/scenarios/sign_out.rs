//! An account goes: its entries wait for it, are delivered first, or are destroyed with their key.

use std::{collections::BTreeMap, io::Cursor, path::Path, time::Duration};

use serde_json::json;
use storage_sync_backend::{Backend, Rule};
use tauri_plugin_storage_sync::{
    State, WaitingFor,
    testing::{
        keychain::testing::{MemoryKeys, Mood},
        outbox::{CONFIRM, EnqueueOptions, FileOptions, FileSource, Leftover, Payload, SignedOut},
        wake::Wake,
    },
};
use uuid::Uuid;

use crate::support::{Device, ManualClock, Setup, backend, config, impatient, times_applied};

fn bearer(token: &str) -> Vec<(String, String)> {
    vec![("Authorization".into(), format!("Bearer {token}"))]
}

/// Knows ada and eve.
pub async fn guarded() -> Backend {
    let backend = backend().await;
    let tokens = [("token of ada", "ada"), ("token of eve", "eve")];
    backend.accept_tokens(Some(tokens.map(|(token, user)| (token.into(), user.into())).into()));
    backend
}

pub async fn sign_in(device: &Device, backend: &Backend, account: &str) {
    device.credentials.set(account, &backend.url(), bearer(&format!("token of {account}"))).unwrap();
    device.outbox.set_account(account).await.unwrap();
    device.wake.wake(Wake::Credentials);
}

pub async fn sign_out(device: &Device, leftover: Leftover) -> SignedOut {
    let forget = |account: &str| device.credentials.forget(account);
    device.outbox.sign_out(leftover, Some(Duration::from_secs(60)), forget).await.expect("it is signed out")
}

/// Who sent the entry.
pub fn sender(backend: &Backend, id: Uuid) -> Option<String> {
    let mutations = backend.mutations();
    let of = mutations.iter().find(|mutation| mutation.idempotency_key.as_deref() == Some(&id.to_string()));
    of.expect("it was applied").user.clone()
}

/// The files of the folder in which the text is.
fn files_with(folder: &Path, text: &str) -> Vec<std::path::PathBuf> {
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).filter(|path| path.is_file());
    let has = |path: &std::path::PathBuf| {
        std::fs::read(path).unwrap().windows(text.len()).any(|window| window == text.as_bytes())
    };
    files.filter(has).collect()
}

const NONE: [&str; 0] = [];

#[tokio::test]
async fn what_is_kept_waits_for_its_own_account_and_is_sent_in_no_other_name() {
    let (backend, folder) = (guarded().await, tempfile::tempdir().unwrap());
    let device = Setup::new(folder.path(), impatient(&backend)).start().await;
    sign_in(&device, &backend, "ada").await;
    backend.stop().await;
    let hers = device.enqueue("form", Some("a"), json!({ "by": "ada" })).await;
    let done = sign_out(&device, Leftover::Keep).await;
    assert_eq!((done.account.as_str(), done.kept, done.discarded, done.finished), ("ada", 1, 0, true));
    assert_eq!(device.credentials.version("ada", &backend.url()), 0, "her credentials are gone from memory");
    assert_eq!(device.outbox.status().await.unwrap().account, "");
    assert_eq!(device.outbox.get(hers).await.unwrap_err().code(), "not_found");

    backend.restart().await.unwrap();
    sign_in(&device, &backend, "eve").await;
    let theirs = device.enqueue("form", Some("a"), json!({ "by": "eve" })).await;
    device.acked(theirs).await;
    device.quiet().await;
    assert_eq!(times_applied(&backend, hers), 0);
    sign_in(&device, &backend, "ada").await;
    device.acked(hers).await;
    assert_eq!(sender(&backend, hers).as_deref(), Some("ada"));
    assert_eq!(sender(&backend, theirs).as_deref(), Some("eve"));
    device.stop().await;
}

#[tokio::test]
async fn what_can_be_delivered_is_before_the_account_goes_and_the_rest_is_told() {
    let (backend, folder) = (guarded().await, tempfile::tempdir().unwrap());
    let device = Setup::new(folder.path(), config(&backend)).start().await;
    sign_in(&device, &backend, "ada").await;
    backend.misbehave(Rule::status(503).retry_after(3600).kind("forms"));
    backend.stop().await;
    let mut notes = Vec::new();
    for n in 0..20 {
        notes.push(device.enqueue("note", None, json!({ "n": n })).await);
    }
    let stuck = device.enqueue("form", Some("a"), json!({})).await;
    backend.restart().await.unwrap();
    let done = sign_out(&device, Leftover::Flush).await;
    assert_eq!((done.delivered, done.kept, done.finished), (20, 1, true), "{done:?}");
    for id in notes {
        assert_eq!(sender(&backend, id).as_deref(), Some("ada"));
    }
    device.outbox.set_account("ada").await.unwrap();
    assert_eq!(device.entry(stuck).await.state, State::Pending);
    device.stop().await;
}

#[tokio::test]
async fn what_is_discarded_is_gone_with_its_key_and_nothing_of_it_is_left_on_the_disk() {
    let (backend, folder, keys) = (guarded().await, tempfile::tempdir().unwrap(), MemoryKeys::new());
    let device = Setup::new(folder.path(), impatient(&backend)).keys(&keys).start().await;
    let kept = {
        device.outbox.set_account("eve").await.unwrap();
        device.enqueue("form", Some("of eve"), json!({ "by": "eve" })).await
    };
    device.outbox.set_account("ada account").await.unwrap();
    backend.stop().await;
    for n in 0..1300 {
        device.enqueue("form", Some(&format!("of ada {n}")), json!({ "by": "ada" })).await;
    }
    let one = device.enqueue("note", None, json!({})).await;
    let (old, other) = (keys.key("ada account").unwrap(), keys.key("eve").unwrap());
    let done = sign_out(&device, Leftover::Discard).await;
    assert_eq!((done.discarded, done.kept, done.finished), (1301, 0, true), "{done:?}");
    assert!(done.possibly_applied.is_empty(), "nothing was ever sent");
    assert_eq!((keys.key("ada account"), keys.key("eve")), (None, Some(other)));
    assert_eq!(files_with(folder.path(), "of ada "), NONE.map(std::path::PathBuf::from), "keys of her things");
    assert_eq!(files_with(folder.path(), "ada account"), NONE.map(std::path::PathBuf::from), "her account");
    assert!(!files_with(folder.path(), "of eve").is_empty(), "looking finds what is there");

    // Back again, she begins anew.
    device.outbox.set_account("ada account").await.unwrap();
    assert_eq!(device.outbox.get(one).await.unwrap_err().code(), "not_found");
    assert_eq!(device.all().await.len(), 0);
    let id = device.enqueue("note", None, json!({ "new": true })).await;
    assert_ne!(keys.key("ada account").unwrap(), old);
    assert!(device.outbox.payload(id).await.is_ok());
    device.outbox.set_account("eve").await.unwrap();
    assert!(device.outbox.payload(kept).await.is_ok());
    device.stop().await;
}

#[tokio::test]
async fn what_is_on_its_way_is_cut_off_counts_as_possibly_sent_and_is_not_sent_again() {
    for leftover in [Leftover::Keep, Leftover::Discard] {
        let (backend, folder, clock) = (guarded().await, tempfile::tempdir().unwrap(), ManualClock::new());
        let device = Setup::new(folder.path(), config(&backend)).stopped(&clock).start().await;
        sign_in(&device, &backend, "ada").await;
        let gate = backend.hold(Rule::hold().applied());
        let id = device.enqueue("form", Some("a"), json!({})).await;
        gate.holds(1).await;
        let forget = |account: &str| device.credentials.forget(account);
        let signing_out = device.outbox.sign_out(leftover, None, forget);
        // Whoever signs out has 3 s of patience; the clock stands still otherwise.
        let time = async {
            loop {
                clock.advance(Duration::from_millis(100));
                tokio::task::yield_now().await;
            }
        };
        let done = tokio::select! { done = signing_out => done.unwrap(), () = time => unreachable!() };
        if leftover == Leftover::Discard {
            assert_eq!(done.possibly_applied, [id]);
        } else {
            assert_eq!(done.kept, 1);
        }
        gate.open();
        sign_in(&device, &backend, "eve").await;
        clock.advance(Duration::from_secs(3600));
        device.quiet().await;
        assert_eq!(backend.world(|world| world.received()), 1, "something was sent after the sign-out");
        if leftover == Leftover::Keep {
            sign_in(&device, &backend, "ada").await;
            clock.advance(Duration::from_secs(3600));
            device.acked(id).await;
            assert_eq!(times_applied(&backend, id), 1);
            assert_eq!(backend.world(|world| world.replayed()), 1, "the same bytes under the same key");
        }
        device.stop().await;
    }
}

#[tokio::test]
async fn entries_of_no_account_are_not_left_to_whoever_signs_in_next() {
    let (backend, folder, keys) = (guarded().await, tempfile::tempdir().unwrap(), MemoryKeys::new());
    let device = Setup::new(folder.path(), impatient(&backend)).keys(&keys).start().await;
    backend.stop().await;
    device.credentials.set("", &backend.url(), bearer("token of ada")).unwrap();
    let id = device.enqueue("form", Some("a"), json!({})).await;
    for leftover in [Leftover::Keep, Leftover::Flush] {
        let refused = device.outbox.sign_out(leftover, Some(Duration::ZERO), |_| panic!("it was signed out")).await;
        assert_eq!(refused.unwrap_err().code(), "wrong_state");
    }
    assert_ne!(device.entry(id).await.state, State::Acked);
    assert_eq!(sign_out(&device, Leftover::Discard).await.discarded, 1);
    assert_eq!(keys.key(""), None);
    // Delivery goes on for what comes then.
    backend.restart().await.unwrap();
    device.credentials.set("", &backend.url(), bearer("token of eve")).unwrap();
    let id = device.enqueue("form", Some("a"), json!({})).await;
    device.acked(id).await;
    assert_eq!(sign_out(&device, Leftover::Keep).await.kept, 0);
    device.credentials.set("", &backend.url(), bearer("token of eve")).unwrap();
    let id = device.enqueue("form", Some("b"), json!({})).await;
    device.acked(id).await;
    device.stop().await;
}

#[tokio::test]
async fn a_keychain_that_is_locked_cannot_keep_entries_alive_and_its_key_goes_once_it_is_open() {
    let (backend, folder, keys) = (guarded().await, tempfile::tempdir().unwrap(), MemoryKeys::new());
    let setup = || Setup::new(folder.path(), impatient(&backend)).keys(&keys);
    let device = setup().start().await;
    backend.stop().await;
    device.outbox.set_account("ada").await.unwrap();
    device.enqueue("form", Some("of ada"), json!({})).await;
    keys.set(Mood::Locked);
    let done = sign_out(&device, Leftover::Discard).await;
    assert!(!done.finished && done.discarded == 1, "{done:?}");
    assert!(keys.key("ada").is_some());
    assert_eq!(files_with(folder.path(), "of ada"), NONE.map(std::path::PathBuf::from));

    // She may come back meanwhile, and nothing is sealed under the key that is to go.
    device.outbox.set_account("ada").await.unwrap();
    let enqueue = async || {
        let payload = Payload::json(&1).unwrap();
        device.outbox.enqueue("note", payload, EnqueueOptions::default()).await
    };
    assert_eq!(enqueue().await.unwrap_err().code(), "keychain_locked");
    let old = keys.key("ada");
    device.outbox.set_account("eve").await.unwrap();
    keys.set(Mood::Open);
    device.wake.wake(Wake::Keychain);
    let gone = async {
        while keys.key("ada").is_some() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), gone).await.expect("the key goes by itself");
    assert_eq!(keys.key("eve"), None, "nobody had to ask for another one");
    device.outbox.set_account("ada").await.unwrap();
    enqueue().await.unwrap();
    assert_ne!(keys.key("ada"), old);
    device.stop().await;
}

#[tokio::test]
async fn a_key_that_was_not_deleted_goes_also_where_nobody_says_that_the_keychain_is_open() {
    let (backend, folder, keys) = (guarded().await, tempfile::tempdir().unwrap(), MemoryKeys::new());
    let clock = ManualClock::new();
    let device = Setup::new(folder.path(), config(&backend)).stopped(&clock).keys(&keys).start().await;
    backend.stop().await;
    device.outbox.set_account("ada").await.unwrap();
    device.enqueue("note", None, json!({})).await;
    keys.set(Mood::Unavailable);
    assert!(!sign_out(&device, Leftover::Discard).await.finished);
    let gone = async {
        // The sign-out itself, and what it has left behind.
        while keys.forgets() < 2 {
            tokio::task::yield_now().await;
        }
        keys.set(Mood::Open);
        while keys.key("ada").is_some() {
            clock.advance(Duration::from_secs(60));
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), gone).await.expect("it is asked again");
    device.stop().await;
}

#[tokio::test]
async fn a_sign_out_that_was_cut_short_is_finished_by_the_next_start() {
    let (backend, folder, keys) = (guarded().await, tempfile::tempdir().unwrap(), MemoryKeys::new());
    let setup = || Setup::new(folder.path(), impatient(&backend)).keys(&keys);
    let device = setup().open().await;
    device.outbox.set_account("ada").await.unwrap();
    let id = device.enqueue("form", Some("of ada"), json!({})).await;
    // What a process has done that is killed right after the first commit.
    device.store.leave("ada", true, true, 0).await.unwrap();
    device.stop().await;

    let device = setup().start().await;
    assert_eq!(device.outbox.status().await.unwrap().account, "");
    assert_eq!(device.outbox.get(id).await.unwrap_err().code(), "not_found");
    device.outbox.resume_leaving();
    let gone = async {
        while !device.store.leaving().await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), gone).await.expect("it is finished");
    assert_eq!(keys.key("ada"), None);
    assert_eq!(files_with(folder.path(), "of ada"), NONE.map(std::path::PathBuf::from));
    assert_eq!(backend.world(|world| world.received()), 0);
    device.stop().await;
}

#[tokio::test]
async fn another_process_neither_reads_nor_writes_what_was_signed_out_with_all_its_entries() {
    let (backend, folder, keys) = (guarded().await, tempfile::tempdir().unwrap(), MemoryKeys::new());
    let setup = || Setup::new(folder.path(), impatient(&backend)).keys(&keys);
    let owner = setup().start().await;
    backend.stop().await;
    owner.outbox.set_account("ada").await.unwrap();
    let id = owner.enqueue("form", Some("a"), json!({})).await;
    let second = setup().open().await;
    assert!(second.outbox.payload(id).await.is_ok());
    let refused = second.outbox.sign_out(Leftover::Discard, None, |_| {}).await;
    assert_eq!(refused.unwrap_err().code(), "not_owner");

    // While it is going.
    owner.store.leave("ada", true, true, 0).await.unwrap();
    assert_eq!(second.outbox.payload(id).await.unwrap_err().code(), "signed_out");
    assert_eq!(second.outbox.get(id).await.unwrap_err().code(), "signed_out");
    // When it is gone: the other process still has the key in its memory.
    sign_out(&owner, Leftover::Discard).await;
    owner.outbox.resume_leaving();
    owner.outbox.set_account("ada").await.unwrap();
    owner.outbox.set_account("").await.unwrap();
    let gone = async {
        while !owner.store.leaving().await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), gone).await.expect("it is finished");
    let late = second.outbox.enqueue("note", Payload::json(&1).unwrap(), EnqueueOptions::default()).await;
    assert_eq!(late.unwrap_err().code(), "signed_out");
    assert_eq!(second.outbox.get(id).await.unwrap_err().code(), "not_found");
    // Signed in anew there, it goes on.
    owner.outbox.set_account("ada").await.unwrap();
    second.outbox.set_account("ada").await.unwrap();
    let id = second.enqueue("note", None, json!({ "again": true })).await;
    assert!(owner.outbox.payload(id).await.is_ok());
    second.stop().await;
    owner.stop().await;
}

#[tokio::test]
async fn after_a_restart_nothing_is_sent_without_the_credentials_that_only_the_app_can_give() {
    let (backend, folder, keys) = (guarded().await, tempfile::tempdir().unwrap(), MemoryKeys::new());
    backend.accept_tokens(None);
    let setup = || Setup::new(folder.path(), impatient(&backend)).keys(&keys);
    let device = setup().open().await;
    let id = device.enqueue("form", Some("a"), json!({})).await;
    device.store.note_credentials("", &backend.url(), true).await.unwrap();
    device.stop().await;
    let device = setup().start().await;
    let entry = device.until(id, |entry| entry.waiting_for == Some(WaitingFor::Auth { origin: backend.url() })).await;
    assert_eq!(entry.attempts, 0);
    device.quiet().await;
    assert_eq!(backend.world(|world| world.received()), 0, "this server would have taken it as anybody's");
    backend.accept_tokens(Some(BTreeMap::from([("token of ada".into(), "ada".into())])));
    device.credentials.set("", &backend.url(), bearer("token of ada")).unwrap();
    device.wake.wake(Wake::Credentials);
    device.acked(id).await;
    assert_eq!(sender(&backend, id).as_deref(), Some("ada"));
    device.stop().await;
}

/// Names in a folder; none when it is not there.
fn names(folder: &Path) -> Vec<String> {
    let Ok(found) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<_> = found.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn files_are_destroyed_with_their_account_and_kept_with_a_queue_that_is_given_up() {
    let (backend, folder, keys) = (guarded().await, tempfile::tempdir().unwrap(), MemoryKeys::new());
    let mut config = impatient(&backend);
    config["endpoints"]["file"] = json!({ "method": "POST", "url": "/files", "body": "raw" });
    backend.stop().await;
    let setup = || Setup::new(folder.path(), config.clone()).keys(&keys);
    let spool = folder.path().join("spool");
    let device = setup().start().await;
    let file = async |account: &str| {
        device.outbox.set_account(account).await.unwrap();
        let source = FileSource::reader(Cursor::new(vec![7; 300_000]), None);
        device.outbox.enqueue_file("file", source, FileOptions::default()).await.unwrap();
    };
    file("eve").await;
    let of_eve = names(&spool);
    file("ada").await;
    assert_eq!(names(&spool).len(), 2);
    assert!(sign_out(&device, Leftover::Discard).await.finished);
    assert_eq!(names(&spool), of_eve);

    device.outbox.set_account("eve").await.unwrap();
    device.stop().await;
    keys.put("eve", None);
    let device = setup().start().await;
    let done = device.outbox.reset_encrypted_data(CONFIRM).await.unwrap();
    assert_eq!(done.given_up, 1);
    let beside = std::path::PathBuf::from(format!("{}.spool", done.file.display()));
    assert_eq!(names(&beside), of_eve);
    assert!(names(&spool).is_empty());
    device.stop().await;
}
