//! Things that one request creates and others change and delete, under ids of the server's own.

use serde_json::{Value, json};
use storage_sync_backend::{Backend, Rule};
use tauri_plugin_storage_sync::{Known, Reason, State};

use crate::support::{Setup, comparing, impatient, times_applied};

/// A device that every other one beats: of two equal revisions the greater device's wins, and here ours must.
const LOWEST: &str = "00000000-0000-7000-8000-000000000000";

fn config(backend: &Backend, queue: &str) -> Value {
    let mut config = impatient(backend);
    config["endpoints"]["listing"] = json!({
        "create": { "method": "POST", "url": "/listings" },
        "update": { "method": "PUT", "url": "/listings/{canonicalId}" },
        "delete": { "method": "DELETE", "url": "/listings/{canonicalId}" },
        "ack": { "id": "/data/id" },
        "queue": queue,
    });
    config
}

fn methods(backend: &Backend) -> Vec<String> {
    backend.requests().into_iter().map(|seen| seen.method).collect()
}

#[tokio::test]
async fn create_update_and_delete_go_in_order_under_the_id_that_the_server_gave() {
    let folder = tempfile::tempdir().unwrap();
    let backend = comparing().await;
    let gate = backend.hold(Rule::hold());
    let device = Setup::new(folder.path(), config(&backend, "every")).start().await;
    let create = device.enqueue("listing", Some("local-1"), json!({ "title": "Lamp" })).await;
    gate.holds(1).await;
    let update = device.enqueue("listing", Some("local-1"), json!({ "title": "Old lamp" })).await;
    let delete = device.delete("listing", "local-1").await;
    gate.open();
    device.acked(delete).await;
    let id = device.entry(create).await.canonical_id.expect("the server gave it one");
    assert_eq!(device.entry(update).await.state, State::Acked);
    let requests: Vec<_> =
        backend.requests().into_iter().map(|seen| (seen.method.clone(), seen.path.clone())).collect();
    let thing = format!("/listings/{id}");
    assert_eq!(
        requests,
        [("POST".into(), "/listings".into()), ("PUT".into(), thing.clone()), ("DELETE".to_owned(), thing)]
    );
    let last = backend.requests().pop().unwrap();
    assert!(last.bytes == 0 && last.header("content-type").is_none(), "{last:?}");

    let again = device.enqueue("listing", Some("local-1"), json!({ "title": "New lamp" })).await;
    let entry = device.acked(again).await;
    assert_eq!(methods(&backend).last().unwrap(), "POST", "what was deleted is created anew");
    assert_ne!(entry.canonical_id, Some(id));
    device.stop().await;
}

#[tokio::test]
async fn a_create_whose_answer_was_lost_is_not_created_twice_and_its_update_finds_it() {
    let folder = tempfile::tempdir().unwrap();
    let backend = comparing().await;
    for keeps_answers in [true, false] {
        backend.set_idempotency(keeps_answers);
        backend.misbehave(Rule::drop_after().times(1));
        let key = if keeps_answers { "with answers" } else { "without" };
        let folder = folder.path().join(key);
        let device = Setup::new(&folder, config(&backend, "every")).start().await;
        let create = device.enqueue("listing", Some(key), json!({ "title": "Lamp" })).await;
        let update = device.enqueue("listing", Some(key), json!({ "title": "Old lamp" })).await;
        device.acked(update).await;
        let id = device.entry(create).await.canonical_id.expect("it is known after all");
        assert_eq!(times_applied(&backend, create), 1, "{key}");
        let title = backend.world(|world| world.resource("listings", &id).unwrap().body.clone());
        assert_eq!(title, r#"{"title":"Old lamp"}"#, "{key}");
        device.stop().await;
    }
    assert_eq!(backend.world(|world| world.resources("listings").count()), 2);
}

#[tokio::test]
async fn a_delete_goes_with_the_create_that_was_refused_and_nothing_is_asked_of_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let backend = comparing().await;
    let gate = backend.hold(Rule::hold());
    backend.misbehave(Rule::status(422).times(1));
    let device = Setup::new(folder.path(), config(&backend, "every")).start().await;
    let create = device.enqueue("listing", Some("a"), json!({ "price": "x" })).await;
    gate.holds(1).await;
    let delete = device.delete("listing", "a").await;
    gate.open();
    device.acked(delete).await;
    let entry = device.entry(create).await;
    assert_eq!((entry.state, entry.superseded_by), (State::Superseded, Some(delete)), "{entry:#?}");
    assert_eq!(methods(&backend), ["POST"]);
    device.stop().await;
}

#[tokio::test]
async fn an_update_behind_a_refused_create_becomes_the_create() {
    let folder = tempfile::tempdir().unwrap();
    let backend = comparing().await;
    let gate = backend.hold(Rule::hold());
    backend.misbehave(Rule::status(422).times(1));
    let device = Setup::new(folder.path(), config(&backend, "latest")).start().await;
    let wrong = device.enqueue("listing", Some("a"), json!({ "price": "x" })).await;
    gate.holds(1).await;
    let right = device.enqueue("listing", Some("a"), json!({ "price": 7 })).await;
    gate.open();
    device.acked(right).await;
    assert_eq!(device.entry(wrong).await.superseded_by, Some(right));
    assert_eq!(methods(&backend), ["POST", "POST"]);
    device.stop().await;
}

#[tokio::test]
async fn a_delete_of_what_was_never_created_is_done_and_one_whose_id_is_missing_says_how_to_tell_it() {
    let folder = tempfile::tempdir().unwrap();
    let backend = comparing().await;
    let device = Setup::new(folder.path(), config(&backend, "every")).start().await;
    let nothing = device.delete("listing", "never").await;
    device.acked(nothing).await;
    assert!(backend.requests().is_empty());

    let created = backend.edit(storage_sync_backend::Edit::of("/listings").device(LOWEST));
    let seen = Known { exists: Some(true), ..Known::default() };
    device.outbox.observe("listing", "seen", seen).await.unwrap();
    let delete = device.delete("listing", "seen").await;
    let entry = device.until(delete, |entry| entry.state == State::Failed).await;
    assert_eq!(entry.reason, Some(Reason::Refused));
    assert!(entry.last_error.unwrap().contains("observe") && backend.requests().is_empty());
    let known = Known { canonical_id: Some(created.id.clone()), ..Known::default() };
    device.outbox.observe("listing", "seen", known).await.unwrap();
    device.outbox.retry(delete, false).await.unwrap();
    device.acked(delete).await;
    assert_eq!(methods(&backend), ["DELETE"]);
    assert!(backend.world(|world| world.resource("listings", &created.id).is_none()));
    device.stop().await;
}

#[tokio::test]
async fn what_somebody_else_deleted_is_refused_and_not_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let backend = comparing().await;
    let device = Setup::new(folder.path(), config(&backend, "every")).start().await;
    let create = device.enqueue("listing", Some("a"), json!({})).await;
    let id = device.acked(create).await.canonical_id.unwrap();
    backend.edit(storage_sync_backend::Edit::of(format!("/listings/{id}")).device(LOWEST).delete());
    let update = device.enqueue("listing", Some("a"), json!({ "title": "Lamp" })).await;
    let entry = device.until(update, |entry| entry.state == State::Failed).await;
    assert_eq!((entry.reason, entry.status), (Some(Reason::Refused), Some(410)), "{entry:#?}");
    let gone = Known { exists: Some(false), ..Known::default() };
    device.outbox.observe("listing", "a", gone).await.unwrap();
    device.outbox.retry(update, false).await.unwrap();
    assert_ne!(device.acked(update).await.canonical_id, Some(id), "the app said that it is gone, so it is created");
    device.stop().await;
}
