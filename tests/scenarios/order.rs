//! Revisions and conditions on the wire.

use serde_json::json;
use storage_sync_backend::{Edit, Options, Revisions, Rule};
use tauri_plugin_storage_sync::{Known, State};

use crate::support::{ManualClock, Setup, backend, comparing, config, content, impatient, times_applied};

#[tokio::test]
async fn edits_that_replace_each_other_do_not_use_up_revisions() {
    let folder = tempfile::tempdir().unwrap();
    let backend = comparing().await;
    let device = Setup::new(folder.path(), impatient(&backend)).start().await;
    let first = device.enqueue("form", Some("a"), json!({ "edit": 0 })).await;
    device.acked(first).await;
    device.outbox.pause().await.unwrap();
    let mut last = first;
    for edit in 1..20 {
        last = device.enqueue("form", Some("a"), json!({ "edit": edit })).await;
    }
    device.outbox.resume().await.unwrap();
    assert_eq!(device.acked(last).await.revision, Some(2));
    device.stop().await;
}

#[tokio::test]
async fn what_an_app_has_observed_is_written_above_at_the_first_try() {
    let folder = tempfile::tempdir().unwrap();
    let backend = comparing().await;
    backend.edit(Edit::of("/forms/a").revision(57));
    let device = Setup::new(folder.path(), impatient(&backend)).start().await;
    let known = Known { revision: Some(57), ..Known::default() };
    device.outbox.observe("form", "a", known).await.unwrap();
    let id = device.enqueue("form", Some("a"), json!({})).await;
    assert_eq!(device.acked(id).await.revision, Some(58));
    assert_eq!(backend.requests().len(), 1);
    device.stop().await;
}

#[tokio::test]
async fn a_write_made_before_an_observation_does_not_pretend_to_have_known() {
    let folder = tempfile::tempdir().unwrap();
    let backend = comparing().await;
    let device = Setup::new(folder.path(), impatient(&backend)).start().await;
    let first = device.enqueue("form", Some("a"), json!({})).await;
    device.acked(first).await;
    device.outbox.pause().await.unwrap();
    let unaware = device.enqueue("form", Some("a"), json!({ "by": "us" })).await;
    backend.edit(Edit::of("/forms/a").content(json!({ "by": "them" })).revision(9));
    let known = Known { revision: Some(9), ..Known::default() };
    device.outbox.observe("form", "a", known).await.unwrap();
    device.outbox.resume().await.unwrap();
    device.until(unaware, |entry| entry.lost).await;
    assert_eq!(content(&backend, "forms", "a"), json!({ "by": "them" }));
    device.stop().await;
}

#[tokio::test]
async fn a_refused_revision_that_no_json_number_holds_is_a_fault_that_passes() {
    let folder = tempfile::tempdir().unwrap();
    let (backend, clock) = (backend().await, ManualClock::new());
    let answer = json!({ "revision": 1_u64 << 53, "device": "web" }).to_string();
    backend.misbehave(Rule::status(409).body(answer).times(1));
    let device = Setup::new(folder.path(), config(&backend)).stopped(&clock).start().await;
    let id = device.enqueue("form", Some("a"), json!({})).await;
    let entry = device.until(id, |entry| entry.attempts == 1 && entry.state != State::Inflight).await;
    assert!(entry.state == State::Pending && entry.possibly_sent, "{entry:#?}");
    clock.advance(std::time::Duration::from_secs(600));
    assert_eq!(device.acked(id).await.revision, Some(1), "nothing was learned from it");
    device.stop().await;
}

/// A server that knows nothing but entity tags.
#[tokio::test]
async fn a_server_with_entity_tags_only_is_asked_to_write_over_nothing_that_was_not_known() {
    let [folder, second, third] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let options = Options { revisions: Revisions::Unaware, ..Options::default() };
    let backend = storage_sync_backend::Backend::start(options).await.unwrap();
    let mut config = impatient(&backend);
    config["endpoints"]["form"]["preconditions"] = json!("etag");
    let device = Setup::new(folder.path(), config.clone()).start().await;
    let create = device.enqueue("form", Some("a"), json!({ "n": 1 })).await;
    device.acked(create).await;
    let change = device.enqueue("form", Some("a"), json!({ "n": 2 })).await;
    device.acked(change).await;
    let conditions: Vec<_> = backend
        .requests()
        .iter()
        .map(|seen| (seen.header("if-none-match").map(str::to_owned), seen.header("if-match").is_some()))
        .collect();
    assert_eq!(conditions, [(Some("*".to_owned()), false), (None, true)]);

    backend.edit(Edit::of("/forms/a").content(json!({ "by": "them" })));
    let beaten = device.enqueue("form", Some("a"), json!({ "n": 3 })).await;
    let entry = device.until(beaten, |entry| entry.lost).await;
    assert_eq!((entry.status, times_applied(&backend, beaten)), (Some(412), 0));
    device.outbox.retry(beaten, false).await.unwrap();
    device.acked(beaten).await;
    assert_eq!(content(&backend, "forms", "a"), json!({ "n": 3 }), "with the tag that the refusal named");

    let other = Setup::new(second.path(), config.clone()).start().await;
    let first = other.enqueue("form", Some("a"), json!({ "by": "a second device" })).await;
    other.acked(first).await;
    assert_eq!(content(&backend, "forms", "a"), json!({ "by": "a second device" }));

    // One that has read it, and is too late: not its first word of the thing, also if nothing of it was ever written from here.
    let reader = Setup::new(third.path(), config).start().await;
    let etag = backend.world(|world| world.resource("forms", "a").expect("it is there").etag.clone());
    let read = Known { exists: Some(true), etag: Some(etag), ..Known::default() };
    reader.outbox.observe("form", "a", read).await.unwrap();
    backend.edit(Edit::of("/forms/a").content(json!({ "by": "somebody faster" })));
    let late = reader.enqueue("form", Some("a"), json!({ "by": "a reader" })).await;
    reader.until(late, |entry| entry.lost).await;
    assert_eq!(content(&backend, "forms", "a"), json!({ "by": "somebody faster" }));
    for device in [device, other, reader] {
        device.stop().await;
    }
}
